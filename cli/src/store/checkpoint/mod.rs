//! Checkpoints: directories that are complete or do not count.
//!
//! Order of writing, each step on the disk before the next: the sets of tensors and `state.json` in `.tmp-<name>`; the
//! directory's rename to `<name>`; the marker `COMPLETE`, which holds the digest of `state.json`, which holds the length,
//! the header's digest and the checksum of every set. A kill before the rename leaves a `.tmp-` directory, one before the marker a directory
//! without it; [`super::RunDir::open`] removes both.

mod latest;
mod write;

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::fs::File;
use std::io::Read;
use std::path::{Path, PathBuf};

use hbat::model::{Storage, Unit};
use serde::{Deserialize, Serialize};

use super::error::StoreError;
use super::tensor_file::{TensorFile, digest};

pub use write::{CheckpointWriter, SetWriter};

pub(crate) use latest::{discard, discard_incomplete, latest_complete, prune};
pub(crate) use write::begin;

/// Written last.
const MARKER: &str = "COMPLETE";

/// The trainer's state and the table of files.
const STATE: &str = "state.json";

/// What `format` says in our `state.json`.
const FORMAT: &str = "hbat checkpoint";

/// Raised when older programs would misread a checkpoint.
const VERSION: u32 = 1;

/// A set of tensors as the table of files knows it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct FileEntry {
    bytes: u64,
    header_sha256: String,
    crc32: u32,
}

/// A set of tensors of a checkpoint, which another may take over.
#[derive(Debug, Clone)]
pub struct StoredSet {
    path: PathBuf,
    entry: FileEntry,
}

/// The contents of `state.json`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
struct Manifest {
    format: String,
    version: u32,
    fingerprint: String,
    number: u64,
    phase: String,
    step: u64,
    metrics_bytes: u64,
    files: BTreeMap<String, FileEntry>,
    state: serde_json::Value,
}

/// A complete checkpoint whose files are as they were written.
#[derive(Debug, Clone, PartialEq)]
pub struct Checkpoint {
    path: PathBuf,
    manifest: Manifest,
}

impl Checkpoint {
    /// Its directory.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Its number; later checkpoints of a run have higher ones.
    pub fn number(&self) -> u64 {
        self.manifest.number
    }

    /// The phase it was written in, such as "sft-1".
    pub fn phase(&self) -> &str {
        &self.manifest.phase
    }

    /// Steps done in that phase.
    pub fn step(&self) -> u64 {
        self.manifest.step
    }

    /// The length `metrics.jsonl` had.
    pub fn metrics_bytes(&self) -> u64 {
        self.manifest.metrics_bytes
    }

    /// What the trainer gave.
    pub fn state(&self) -> &serde_json::Value {
        &self.manifest.state
    }

    /// Whether it has a set of tensors.
    pub fn has(&self, set: &str) -> bool {
        self.manifest.files.contains_key(&file_name(set))
    }

    /// Where a set lies; the link of a later checkpoint keeps its content beyond this one's removal.
    pub fn set_path(&self, set: &str) -> PathBuf {
        self.path.join(file_name(set))
    }

    /// A set that a later checkpoint may take over, if it is there.
    pub fn set(&self, set: &str) -> Option<StoredSet> {
        let entry = self.manifest.files.get(&file_name(set))?.clone();
        Some(StoredSet { path: self.set_path(set), entry })
    }

    /// Opens all of its sets. Where files outlive their names, on Unix, they can be read even after the checkpoint is pruned.
    ///
    /// # Errors
    /// If one cannot be opened.
    pub fn tensors(&self) -> Result<SavedTensors, StoreError> {
        let open = |name: &String| Ok((name.clone(), TensorFile::open(&self.path.join(name))?));
        Ok(SavedTensors { files: self.manifest.files.keys().map(open).collect::<Result<_, StoreError>>()? })
    }

    /// Reads a directory and checks everything but the tensors' values.
    fn verify(path: &Path, fingerprint: &str) -> Result<Self, Flaw> {
        let damaged = |reason: String| Flaw::Damaged(reason);
        let marker = std::fs::read_to_string(path.join(MARKER)).map_err(|_| Flaw::Incomplete)?;
        let text = std::fs::read(path.join(STATE)).map_err(|error| damaged(format!("{STATE} cannot be read: {error}")))?;
        if marker.trim() != digest(&text) {
            return Err(damaged(format!("{STATE} is not the one that {MARKER} vouches for: one of them was changed")));
        }
        let manifest = manifest(&text)?;
        if manifest.fingerprint != fingerprint {
            return Err(Flaw::Foreign("it was written under another configuration or for another model".into()));
        }
        for (name, entry) in &manifest.files {
            check_file(&path.join(name), entry)?;
        }
        Ok(Self { path: path.to_path_buf(), manifest })
    }

    /// Reads all sets to the end and compares their checksums: disks forget without a word.
    fn verify_values(&self) -> Result<(), Flaw> {
        let mut known: BTreeSet<(u64, u32)> = BTreeSet::new();
        for (name, entry) in &self.manifest.files {
            // The same set under a second name is the same file.
            if known.insert((entry.bytes, entry.crc32)) {
                let path = self.path.join(name);
                let found = checksum(&path).map_err(|error| Flaw::Damaged(format!("{}: {error}", path.display())))?;
                if found != entry.crc32 {
                    return Err(Flaw::Damaged(format!("{} is not what was written: its checksum differs", path.display())));
                }
            }
        }
        Ok(())
    }
}

/// CRC-32 of a file.
fn checksum(path: &Path) -> std::io::Result<u32> {
    const BLOCK: usize = 1 << 20;
    let (mut file, mut crc32) = (File::open(path)?, crc32fast::Hasher::new());
    let mut block = vec![0; BLOCK];
    loop {
        match file.read(&mut block)? {
            0 => return Ok(crc32.finalize()),
            bytes => crc32.update(&block[..bytes]),
        }
    }
}

/// The tensors of a checkpoint, read one by one.
#[derive(Debug)]
pub struct SavedTensors {
    files: BTreeMap<String, TensorFile>,
}

impl SavedTensors {
    /// The values of a unit in the layout of [`Unit::dims`], bit by bit as they were saved; `None` if the set or the unit was not.
    ///
    /// # Errors
    /// If the unit had another shape, or the file cannot be read.
    pub fn read(&self, set: &str, unit: &Unit) -> Result<Option<Vec<f32>>, StoreError> {
        let Some(file) = self.files.get(&file_name(set)).filter(|file| file.holds(&unit.name)) else { return Ok(None) };
        // Saved as it lies in memory: nothing is to be transposed.
        let as_saved = Unit::new(&unit.name, &unit.dims(), Storage::AsIs);
        Ok(Some(file.read(&as_saved)?))
    }
}

fn manifest(text: &[u8]) -> Result<Manifest, Flaw> {
    #[derive(Deserialize)]
    struct Head {
        format: String,
        version: u32,
    }
    let damaged = |error: serde_json::Error| Flaw::Damaged(format!("{STATE}: {error}"));
    let head: Head = serde_json::from_slice(text).map_err(damaged)?;
    match (head.format.as_str(), head.version) {
        (FORMAT, VERSION) => serde_json::from_slice(text).map_err(damaged),
        (FORMAT, version) => Err(Flaw::Foreign(format!("it has format version {version}; this program reads {VERSION}"))),
        (other, _) => Err(Flaw::Foreign(format!("it calls itself `{other}`, not `{FORMAT}`"))),
    }
}

fn check_file(path: &Path, entry: &FileEntry) -> Result<(), Flaw> {
    let found = std::fs::metadata(path).map_err(|error| Flaw::Damaged(format!("{}: {error}", path.display())))?.len();
    if found != entry.bytes {
        let expected = entry.bytes;
        return Err(Flaw::Damaged(format!("{} has {found} bytes, not {expected} as written", path.display())));
    }
    let file = TensorFile::open(path).map_err(|error| Flaw::Damaged(error.to_string()))?;
    if file.header_digest() == entry.header_sha256 {
        Ok(())
    } else {
        Err(Flaw::Damaged(format!("the header of {} is not the one written", path.display())))
    }
}

/// Why a directory is no checkpoint to go on from.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Flaw {
    /// The process that wrote it was killed.
    Incomplete,
    /// It was complete, and something happened to it since.
    Damaged(String),
    /// It belongs to another run or program.
    Foreign(String),
}

impl fmt::Display for Flaw {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Incomplete => write!(out, "it was not finished: the run was killed while writing it"),
            Self::Damaged(reason) | Self::Foreign(reason) => out.write_str(reason),
        }
    }
}

/// A checkpoint that was passed over.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Refusal {
    /// Its directory.
    pub path: PathBuf,
    /// Why.
    pub reason: String,
}

impl fmt::Display for Refusal {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "checkpoint {} is not used: {}", self.path.display(), self.reason)
    }
}

/// Where to go on.
#[derive(Debug, Clone, PartialEq)]
pub struct Latest {
    /// The newest checkpoint that is complete and undamaged; `None` starts the run afresh.
    pub checkpoint: Option<Checkpoint>,
    /// Newer ones that are not, newest first.
    pub refused: Vec<Refusal>,
}

fn file_name(set: &str) -> String {
    format!("{set}.safetensors")
}

/// The number in `<number>-<phase>-<step>`.
fn number_of(name: &str) -> Option<u64> {
    name.split('-').next()?.parse().ok()
}
