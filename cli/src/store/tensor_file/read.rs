//! Reading a safetensors file.

use std::fs::File;
use std::io::{self, Read};
use std::path::{Path, PathBuf};

use half::{bf16, f16};
use hbat::model::Unit;
use memmap2::{Mmap, MmapOptions};
use safetensors::Dtype;
use safetensors::tensor::{Metadata, TensorInfo};

use super::decode::{Decoded, decode, first_not_finite};
use super::digest;

/// The length of the field before the header.
const PREFIX: u64 = 8;

/// Longer headers are damage, not content; the limit is the format's own.
const LONGEST_HEADER: u64 = 100_000_000;

/// What is wrong with a file of tensors, or with one of its tensors.
#[derive(Debug, thiserror::Error)]
pub enum TensorFileError {
    /// The system would not give it.
    #[error("{} cannot be read: {reason}", path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// What the system said.
        reason: io::Error,
    },
    /// Less, or more, than the header promises.
    #[error(
        "{} has {found} bytes where its header promises {expected}: {}",
        path.display(),
        if found < expected { "it is truncated" } else { "something was appended" }
    )]
    Length {
        /// The file.
        path: PathBuf,
        /// Bytes by the header.
        expected: u64,
        /// Bytes there are.
        found: u64,
    },
    /// No safetensors file, or a damaged one.
    #[error("{} has no valid safetensors header: {reason}", path.display())]
    Header {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        reason: String,
    },
    /// A tensor that is not in the file.
    #[error("{} has no tensor `{tensor}`", path.display())]
    Missing {
        /// The file.
        path: PathBuf,
        /// The tensor.
        tensor: String,
    },
    /// A tensor of another shape.
    #[error("{}: tensor `{tensor}` has the shape {found:?} where {expected:?} is needed", path.display())]
    Shape {
        /// The file.
        path: PathBuf,
        /// The tensor.
        tensor: String,
        /// Its shape.
        found: Vec<usize>,
        /// The shape needed.
        expected: Vec<usize>,
    },
    /// A tensor of a type that weights do not have.
    #[error("{}: tensor `{tensor}` holds {found}; F32, F16 and BF16 are supported", path.display())]
    Dtype {
        /// The file.
        path: PathBuf,
        /// The tensor.
        tensor: String,
        /// Its type.
        found: String,
    },
    /// A weight that is no number.
    #[error("{}: element {index:?} of tensor `{tensor}` is {value}", path.display())]
    NotFinite {
        /// The file.
        path: PathBuf,
        /// The tensor.
        tensor: String,
        /// The first such element's place in the file's shape.
        index: Vec<usize>,
        /// NaN or an infinity.
        value: f32,
    },
}

/// A safetensors file whose header is read and checked. Tensors are mapped into memory one at a time, while they are
/// converted, so that the file's pages do not count as this process's memory for longer.
#[derive(Debug)]
pub struct TensorFile {
    path: PathBuf,
    file: File,
    start: u64,
    metadata: Metadata,
    header_digest: String,
}

impl TensorFile {
    /// Opens a file and checks its header against its length.
    ///
    /// # Errors
    /// If it cannot be read, is no safetensors file, or is truncated.
    pub fn open(path: &Path) -> Result<Self, TensorFileError> {
        let io = |reason| TensorFileError::Io { path: path.to_path_buf(), reason };
        let mut file = File::open(path).map_err(io)?;
        let found = file.metadata().map_err(io)?.len();
        let head = read_head(&mut file, found).map_err(io)?;
        let invalid = |reason: String| TensorFileError::Header { path: path.to_path_buf(), reason };
        let header = header(&head, found).map_err(invalid)?;
        let metadata: Metadata = serde_json::from_slice(header).map_err(|error| invalid(error.to_string()))?;
        let start = head.len() as u64;
        let expected = start + metadata.data_len() as u64;
        if expected != found {
            return Err(TensorFileError::Length { path: path.to_path_buf(), expected, found });
        }
        Ok(Self { path: path.to_path_buf(), file, start, metadata, header_digest: digest(&head) })
    }

    /// The file's path.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The names of its tensors, in the order they lie in the file.
    pub fn names(&self) -> Vec<String> {
        self.metadata.offset_keys()
    }

    /// Whether it holds a tensor.
    pub fn holds(&self, name: &str) -> bool {
        self.metadata.info(name).is_some()
    }

    /// Bytes a tensor takes; 0 if it is not there.
    pub fn bytes_of(&self, name: &str) -> u64 {
        self.metadata.info(name).map_or(0, |info| (info.data_offsets.1 - info.data_offsets.0) as u64)
    }

    /// SHA-256 of everything before the first tensor: names, types, shapes and places.
    pub(crate) fn header_digest(&self) -> &str {
        &self.header_digest
    }

    /// Checks that a tensor is there, has the unit's shape, and a type that can be read. Reads nothing.
    ///
    /// # Errors
    /// Which of the three is not so.
    pub fn check(&self, unit: &Unit) -> Result<(), TensorFileError> {
        let info = self.info(&unit.name)?;
        let (path, tensor) = (self.path.clone(), unit.name.clone());
        if info.shape != unit.shape {
            return Err(TensorFileError::Shape { path, tensor, found: info.shape.clone(), expected: unit.shape.clone() });
        }
        match info.dtype {
            Dtype::F32 | Dtype::F16 | Dtype::BF16 => Ok(()),
            other => Err(TensorFileError::Dtype { path, tensor, found: other.to_string() }),
        }
    }

    /// A tensor's values in the layout of [`Unit::dims`], whatever they are.
    ///
    /// # Errors
    /// Those of [`TensorFile::check`], and failures of the system.
    pub fn read(&self, unit: &Unit) -> Result<Vec<f32>, TensorFileError> {
        Ok(self.decoded(unit)?.1.values)
    }

    /// A tensor's values in the layout of [`Unit::dims`], all of them numbers.
    ///
    /// # Errors
    /// Those of [`TensorFile::read`], and an element that is NaN or infinite.
    pub fn read_finite(&self, unit: &Unit) -> Result<Vec<f32>, TensorFileError> {
        let (bytes, decoded) = self.decoded(unit)?;
        let first = match self.info(&unit.name)?.dtype {
            _ if decoded.finite => None,
            Dtype::F32 => first_not_finite::<f32>(&bytes),
            Dtype::F16 => first_not_finite::<f16>(&bytes),
            _ => first_not_finite::<bf16>(&bytes),
        };
        match first {
            None => Ok(decoded.values),
            Some((at, value)) => {
                let (path, tensor, index) = (self.path.clone(), unit.name.clone(), place(at, &unit.shape));
                Err(TensorFileError::NotFinite { path, tensor, index, value })
            }
        }
    }

    /// Whether two tensors of this file or of two files are the same to the bit.
    ///
    /// # Errors
    /// If either is missing or cannot be read.
    pub fn same(&self, name: &str, other: &Self, other_name: &str) -> Result<bool, TensorFileError> {
        let (a, b) = (self.info(name)?, other.info(other_name)?);
        Ok(a.dtype == b.dtype && a.shape == b.shape && self.map(a)?[..] == other.map(b)?[..])
    }

    fn info(&self, name: &str) -> Result<&TensorInfo, TensorFileError> {
        let missing = || TensorFileError::Missing { path: self.path.clone(), tensor: name.into() };
        self.metadata.info(name).ok_or_else(missing)
    }

    fn decoded(&self, unit: &Unit) -> Result<(Mapped, Decoded), TensorFileError> {
        self.check(unit)?;
        let info = self.info(&unit.name)?;
        let bytes = self.map(info)?;
        let matrix = match *unit.shape.as_slice() {
            [rows, columns] => [rows, columns],
            _ => [1, unit.elements()],
        };
        let decoded = match info.dtype {
            Dtype::F32 => decode::<f32>(&bytes, matrix, unit.storage),
            Dtype::F16 => decode::<f16>(&bytes, matrix, unit.storage),
            _ => decode::<bf16>(&bytes, matrix, unit.storage),
        };
        Ok((bytes, decoded))
    }

    /// One tensor's bytes.
    fn map(&self, info: &TensorInfo) -> Result<Mapped, TensorFileError> {
        let (from, to) = info.data_offsets;
        if from == to {
            return Ok(Mapped(None));
        }
        let mut options = MmapOptions::new();
        options.offset(self.start + from as u64).len(to - from);
        // SAFETY: the map is read-only and lives only while one tensor is converted. That nobody shortens the file
        // meanwhile cannot be enforced; whoever does so ends this process, as with every program that maps files.
        #[allow(unsafe_code)]
        let map = unsafe { options.map(&self.file) };
        let map = map.map_err(|reason| TensorFileError::Io { path: self.path.clone(), reason })?;
        // A hint: the disk may start before the pages are touched. Without it everything still works.
        #[cfg(unix)]
        let _ = map.advise(memmap2::Advice::WillNeed);
        Ok(Mapped(Some(map)))
    }
}

/// A tensor's bytes; the system maps no empty ranges.
struct Mapped(Option<Mmap>);

impl std::ops::Deref for Mapped {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        self.0.as_deref().unwrap_or(&[])
    }
}

/// The length field and the header, as far as the file has them.
fn read_head(file: &mut File, length: u64) -> io::Result<Vec<u8>> {
    let mut head = Vec::new();
    file.by_ref().take(PREFIX).read_to_end(&mut head)?;
    if let Some(promised) = promised(&head).filter(|&n| n <= LONGEST_HEADER && n <= length) {
        file.take(promised).read_to_end(&mut head)?;
    }
    Ok(head)
}

fn promised(head: &[u8]) -> Option<u64> {
    Some(u64::from_le_bytes(head.get(..PREFIX as usize)?.try_into().ok()?))
}

/// The JSON within the head, or what is wrong.
fn header(head: &[u8], length: u64) -> Result<&[u8], String> {
    if head.starts_with(b"version ") {
        return Err("this is a Git LFS pointer, not the file itself: run `git lfs pull` in its repository".into());
    }
    let promised = promised(head).ok_or_else(|| format!("it has {length} bytes"))?;
    let header = &head[PREFIX as usize..];
    match header.len() as u64 {
        found if found == promised => Ok(header),
        _ if promised > LONGEST_HEADER => Err(format!("its first bytes promise a header of {promised} bytes")),
        _ => Err(format!("it promises a header of {promised} bytes but the file has {length}: it is truncated")),
    }
}

/// The index of a flat position.
fn place(mut at: usize, shape: &[usize]) -> Vec<usize> {
    let mut index: Vec<usize> = shape
        .iter()
        .rev()
        .map(|&size| {
            let here = at % size;
            at /= size;
            here
        })
        .collect();
    index.reverse();
    index
}
