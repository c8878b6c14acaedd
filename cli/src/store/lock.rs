//! One process per run directory.

use std::fs::{File, OpenOptions, TryLockError};
use std::io::{self, Read, Write};
use std::path::Path;

use super::error::StoreError;

/// The file that is locked; it stays when the run ends, because removing it would let two processes lock two files.
pub(crate) const LOCK: &str = ".lock";

/// A lock on a directory, held until dropped or until the process ends, however it ends.
#[derive(Debug)]
pub(crate) struct Lock {
    _file: File,
}

impl Lock {
    /// Takes the lock and notes this process's id.
    ///
    /// # Errors
    /// [`StoreError::Locked`] if another process, or this one, holds it.
    pub(crate) fn take(folder: &Path) -> Result<Self, StoreError> {
        let path = folder.join(LOCK);
        let options = OpenOptions::new().read(true).write(true).create(true).truncate(false).open(&path);
        let mut file = options.map_err(StoreError::writing(&path))?;
        match file.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => {
                return Err(StoreError::Locked { path: folder.to_path_buf(), pid: holder(&mut file) });
            }
            Err(TryLockError::Error(error)) if error.kind() == io::ErrorKind::Unsupported => {
                tracing::warn!("the file system of {} knows no locks: see to it that no second run uses it", folder.display());
            }
            Err(TryLockError::Error(error)) => return Err(StoreError::doing("lock", &path)(error)),
        }
        let noted = file.set_len(0).and_then(|()| write!(file, "{}", std::process::id()));
        noted.map_err(StoreError::writing(&path))?;
        Ok(Self { _file: file })
    }
}

fn holder(file: &mut File) -> Option<u32> {
    let mut text = String::new();
    file.read_to_string(&mut text).ok()?;
    text.trim().parse().ok()
}
