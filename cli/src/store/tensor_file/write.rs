//! Writing a safetensors file tensor by tensor, so that no second copy of a model is needed.

use std::collections::HashMap;
use std::fs::File;
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use half::{bf16, f16};
use safetensors::tensor::{Metadata, TensorInfo};

use super::{SaveDtype, digest};
use crate::store::error::StoreError;

/// Elements converted at a time: their bytes stay in the second-level cache on their way to the system.
const CHUNK: usize = 64 * 1024;

/// A tensor to come.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct TensorSpec {
    /// Its name.
    pub(crate) name: String,
    /// Its shape in the file.
    pub(crate) shape: Vec<usize>,
}

impl TensorSpec {
    pub(crate) fn new(name: &str, shape: &[usize]) -> Self {
        Self { name: name.into(), shape: shape.to_vec() }
    }

    fn elements(&self) -> usize {
        self.shape.iter().product()
    }
}

/// What a finished file is known by.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Written {
    /// Its length.
    pub(crate) bytes: u64,
    /// SHA-256 of its head, as [`super::TensorFile::header_digest`] gives it.
    pub(crate) header_digest: String,
    /// CRC-32 of all of it.
    pub(crate) crc32: u32,
}

/// A safetensors file in the making: the header is there, tensors follow in the order announced.
#[derive(Debug)]
pub(crate) struct TensorFileWriter {
    path: PathBuf,
    file: File,
    dtype: SaveDtype,
    to_come: std::vec::IntoIter<TensorSpec>,
    buffer: Vec<u8>,
    bytes: u64,
    header_digest: String,
    crc32: crc32fast::Hasher,
}

impl TensorFileWriter {
    /// Creates the file and writes its header. `format` is the header's metadata: "pt" is what transformers expects.
    ///
    /// # Errors
    /// If the file cannot be created or written.
    pub(crate) fn create(path: &Path, dtype: SaveDtype, format: &str, tensors: Vec<TensorSpec>) -> Result<Self, StoreError> {
        let head = head(dtype, format, &tensors).map_err(io::Error::other).map_err(StoreError::writing(path))?;
        let mut file = File::create(path).map_err(StoreError::writing(path))?;
        file.write_all(&head).map_err(StoreError::writing(path))?;
        let mut crc32 = crc32fast::Hasher::new();
        crc32.update(&head);
        let (bytes, header_digest) = (head.len() as u64, digest(&head));
        let (path, to_come, buffer) = (path.to_path_buf(), tensors.into_iter(), Vec::new());
        Ok(Self { path, file, dtype, to_come, buffer, bytes, header_digest, crc32 })
    }

    /// Writes the next tensor.
    ///
    /// # Errors
    /// If the disk is full or fails, or the precision cannot hold a number.
    ///
    /// # Panics
    /// If more tensors come than were announced, or one of another size: the caller is wrong, no input can cause it.
    pub(crate) fn write(&mut self, values: &[f32]) -> Result<(), StoreError> {
        let tensor = self.to_come.next().expect("every tensor was announced");
        assert_eq!(values.len(), tensor.elements(), "elements of `{}`", tensor.name);
        for (chunk, values) in values.chunks(CHUNK).enumerate() {
            self.buffer.clear();
            if let Err(at) = encode(values, self.dtype, &mut self.buffer) {
                let (index, value, dtype) = (chunk * CHUNK + at, values[at], self.dtype.torch_name());
                return Err(StoreError::NotRepresentable { tensor: tensor.name, index, value, dtype });
            }
            self.file.write_all(&self.buffer).map_err(StoreError::writing(&self.path))?;
            self.bytes += self.buffer.len() as u64;
            self.crc32.update(&self.buffer);
        }
        Ok(())
    }

    /// Waits for the disk.
    ///
    /// # Errors
    /// If the disk fails.
    ///
    /// # Panics
    /// If tensors announced have not come.
    pub(crate) fn finish(self) -> Result<Written, StoreError> {
        assert_eq!(self.to_come.len(), 0, "tensors of {} are missing", self.path.display());
        self.file.sync_all().map_err(StoreError::writing(&self.path))?;
        Ok(Written { bytes: self.bytes, header_digest: self.header_digest, crc32: self.crc32.finalize() })
    }
}

/// Length field and header, padded with blanks to a multiple of 8, so that tensors are aligned.
fn head(dtype: SaveDtype, format: &str, tensors: &[TensorSpec]) -> Result<Vec<u8>, String> {
    let mut end = 0;
    let infos = tensors.iter().map(|tensor| {
        let start = end;
        end += tensor.elements() * dtype.bytes();
        let info = TensorInfo { dtype: dtype.in_file(), shape: tensor.shape.clone(), data_offsets: (start, end) };
        (tensor.name.clone(), info)
    });
    let format = HashMap::from([("format".to_string(), format.to_string())]);
    let metadata = Metadata::new(Some(format), infos.collect()).map_err(|error| error.to_string())?;
    let mut header = serde_json::to_vec(&metadata).map_err(|error| error.to_string())?;
    header.resize(header.len().next_multiple_of(8), b' ');
    let mut head = (header.len() as u64).to_le_bytes().to_vec();
    head.append(&mut header);
    Ok(head)
}

/// Appends little-endian bytes, or says which element does not fit.
fn encode(values: &[f32], dtype: SaveDtype, out: &mut Vec<u8>) -> Result<(), usize> {
    match dtype {
        SaveDtype::F32 => out.extend(values.iter().flat_map(|value| value.to_le_bytes())),
        SaveDtype::Bf16 => out.extend(values.iter().flat_map(|&value| bf16::from_f32(value).to_le_bytes())),
        SaveDtype::F16 => {
            if let Some(at) = values.iter().position(|&value| value.is_finite() && !f16::from_f32(value).is_finite()) {
                return Err(at);
            }
            out.extend(values.iter().flat_map(|&value| f16::from_f32(value).to_le_bytes()));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::super::TensorFile;
    use super::*;
    use hbat::model::{Storage, Unit};

    #[test]
    fn what_is_written_is_read_back_to_the_bit() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a.safetensors");
        let specs = vec![TensorSpec::new("b", &[2, 3]), TensorSpec::new("a", &[4])];
        let mut writer = TensorFileWriter::create(&path, SaveDtype::F32, "pt", specs).unwrap();
        let matrix = [1.0, -0.0, f32::MIN_POSITIVE / 4.0, 4.0, 5.0, 6.0];
        writer.write(&matrix).unwrap();
        writer.write(&[f32::NAN, 1.0, f32::INFINITY, 0.1]).unwrap();
        let written = writer.finish().unwrap();
        let file = TensorFile::open(&path).unwrap();
        assert_eq!(written.bytes, std::fs::metadata(&path).unwrap().len());
        assert_eq!((written.header_digest.as_str(), written.bytes % 8), (file.header_digest(), 0));
        assert_eq!(file.names(), ["b", "a"]);
        let read = file.read(&Unit::new("b", &[2, 3], Storage::Transposed)).unwrap();
        let expected = [matrix[0], matrix[3], matrix[1], matrix[4], matrix[2], matrix[5]];
        assert_eq!(read.map_bits(), expected.map_bits());
        assert!(file.read(&Unit::new("a", &[4], Storage::AsIs)).unwrap()[0].is_nan());
        let error = file.read_finite(&Unit::new("a", &[4], Storage::AsIs)).unwrap_err().to_string();
        assert!(error.ends_with("element [0] of tensor `a` is NaN"), "{error}");
    }

    trait Bits {
        fn map_bits(&self) -> Vec<u32>;
    }

    impl Bits for [f32] {
        fn map_bits(&self) -> Vec<u32> {
            self.iter().map(|value| value.to_bits()).collect()
        }
    }

    #[test]
    fn half_precision_refuses_what_it_cannot_hold() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a.safetensors");
        let specs = || vec![TensorSpec::new("a", &[2])];
        let mut writer = TensorFileWriter::create(&path, SaveDtype::F16, "pt", specs()).unwrap();
        let error = writer.write(&[1.0, 1e6]).unwrap_err().to_string();
        assert_eq!(error, "element 1 of `a` is 1000000, which float16 cannot hold: save as f32 or bf16");
        let mut writer = TensorFileWriter::create(&path, SaveDtype::Bf16, "pt", specs()).unwrap();
        writer.write(&[1.0, 1e6]).unwrap();
        writer.finish().unwrap();
        let read = TensorFile::open(&path).unwrap().read(&Unit::new("a", &[2], Storage::AsIs)).unwrap();
        assert_eq!(read, [1.0, 999_424.0]);
    }

    #[cfg(target_os = "linux")]
    #[test]
    fn a_full_disk_is_named() {
        let error = TensorFileWriter::create(Path::new("/dev/full"), SaveDtype::F32, "pt", Vec::new()).unwrap_err();
        assert!(matches!(error, StoreError::DiskFull { .. }), "{error}");
    }
}
