//! Why something could not be kept or found again.

use std::io;
use std::path::{Path, PathBuf};

use super::tensor_file::TensorFileError;
use crate::report::quoted;

/// An error of the run directory. Each names the path and what to do; none of them leaves a half-written file behind.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// The device is full, a quota is, or the file would become larger than one may be.
    #[error(
        "no space left while writing {} ({reason}); what was complete before is untouched. Free some space there, then go on with `hbat resume`",
        path.display()
    )]
    DiskFull {
        /// The file being written.
        path: PathBuf,
        /// What the system said.
        reason: io::Error,
    },
    /// A read-only file system, or missing permission.
    #[error("{} cannot be written: {reason}. Change its permissions, or begin in another directory with --output", path.display())]
    NotWritable {
        /// The file or directory.
        path: PathBuf,
        /// What the system said.
        reason: io::Error,
    },
    /// Any other failure of the system.
    #[error("cannot {action} {}: {reason}", path.display())]
    Io {
        /// "read", "write" or another verb.
        action: &'static str,
        /// The file or directory.
        path: PathBuf,
        /// What the system said.
        reason: io::Error,
    },
    /// A new run was to start where no folder can be.
    #[error("{} cannot be a run's folder: {reason}. Choose another --output", path.display())]
    NoFolder {
        /// What was given.
        path: PathBuf,
        /// What the system said.
        reason: io::Error,
    },
    /// A new run was to start where there is one already.
    #[error("{} holds a run already: go on with it by `hbat resume {}`, or choose another --output", path.display(), quoted(path))]
    RunExists {
        /// The directory.
        path: PathBuf,
    },
    /// A new run was to start among files that are not its own.
    #[error("{} is not empty (it holds `{found}`): choose another --output, or an empty directory", path.display())]
    NotEmpty {
        /// The directory.
        path: PathBuf,
        /// One of its entries.
        found: String,
    },
    /// There is no run to go on with.
    #[error("{} is not the directory of a run: it has no config.toml. Give the directory that `hbat train --output` named", path.display())]
    NotARun {
        /// The directory.
        path: PathBuf,
    },
    /// Another process works there.
    #[error(
        "{} is in use by {}: wait for it, stop it, or choose another --output",
        path.display(),
        pid.map_or_else(|| "another process".into(), |pid| format!("process {pid}"))
    )]
    Locked {
        /// The directory.
        path: PathBuf,
        /// The process, if it could be read.
        pid: Option<u32>,
    },
    /// There are checkpoints, and none can be gone on from: to begin anew would write over what the run has achieved.
    #[error(
        "no checkpoint in {} can be gone on from: {}. Nothing was changed. Go on with the settings and the version that the run \
         was begun with, or begin anew with another --output",
        folder.display(),
        reasons.join("; ")
    )]
    NoneUsable {
        /// Where the checkpoints are.
        folder: PathBuf,
        /// What is wrong with each.
        reasons: Vec<String>,
    },
    /// Tensors that cannot be read back.
    #[error(transparent)]
    Tensors(#[from] TensorFileError),
    /// A number that the requested precision cannot hold.
    #[error("element {index} of `{tensor}` is {value}, which {dtype} cannot hold: save as f32 or bf16")]
    NotRepresentable {
        /// The tensor.
        tensor: String,
        /// Place of the element in the file's order.
        index: usize,
        /// Its value.
        value: f32,
        /// The precision asked for.
        dtype: &'static str,
    },
}

impl StoreError {
    /// Sorts out a failed write. For `map_err`.
    pub(crate) fn writing(path: &Path) -> impl FnOnce(io::Error) -> Self {
        Self::doing("write", path)
    }

    /// Sorts out a failed change of a file or directory.
    pub(crate) fn doing(action: &'static str, path: &Path) -> impl FnOnce(io::Error) -> Self {
        move |reason| {
            let path = path.to_path_buf();
            match reason.kind() {
                io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded | io::ErrorKind::FileTooLarge => {
                    Self::DiskFull { path, reason }
                }
                io::ErrorKind::PermissionDenied | io::ErrorKind::ReadOnlyFilesystem => Self::NotWritable { path, reason },
                _ => Self::Io { action, path, reason },
            }
        }
    }

    /// A run's folder that could not be made.
    pub(crate) fn making(path: &Path) -> impl FnOnce(io::Error) -> Self {
        move |reason| match reason.kind() {
            io::ErrorKind::AlreadyExists | io::ErrorKind::NotADirectory | io::ErrorKind::InvalidInput => {
                Self::NoFolder { path: path.to_path_buf(), reason }
            }
            _ => Self::writing(path)(reason),
        }
    }

    /// A failed read, which no free space or write permission would mend.
    pub(crate) fn reading(path: &Path) -> impl FnOnce(io::Error) -> Self {
        move |reason| Self::Io { action: "read", path: path.to_path_buf(), reason }
    }
}
