//! `metrics.jsonl`: one JSON object a line, one line a step.

use std::fs::{File, OpenOptions};
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};

use serde::Serialize;

use super::error::StoreError;

/// What [`MetricsLog::cut_back_to`] did.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct CutBack {
    /// Bytes of steps after the checkpoint that were removed; they are computed again.
    pub removed: u64,
    /// Bytes the checkpoint remembers and the file lacks: someone shortened it.
    pub missing: u64,
}

/// The log, open for appending.
#[derive(Debug)]
pub struct MetricsLog {
    path: PathBuf,
    file: File,
    length: u64,
}

impl MetricsLog {
    /// Opens the log, or starts it.
    ///
    /// # Errors
    /// If the file cannot be opened for writing.
    pub fn open(path: &Path) -> Result<Self, StoreError> {
        let file = OpenOptions::new().read(true).append(true).create(true).open(path);
        let file = file.map_err(StoreError::writing(path))?;
        let length = file.metadata().map_err(StoreError::reading(path))?.len();
        Ok(Self { path: path.to_path_buf(), file, length })
    }

    /// Appends a line. It reaches the system at once, the disk at the next [`MetricsLog::sync`].
    ///
    /// # Errors
    /// If it cannot be written; part of a line that was is removed again.
    pub fn append(&mut self, line: &impl Serialize) -> Result<(), StoreError> {
        let as_io = |error: serde_json::Error| io::Error::new(io::ErrorKind::InvalidData, error);
        let mut text = serde_json::to_vec(line).map_err(as_io).map_err(StoreError::writing(&self.path))?;
        text.push(b'\n');
        if let Err(error) = self.file.write_all(&text) {
            // A torn line would also be cut back on resume; this keeps the file readable meanwhile.
            let _ = self.file.set_len(self.length);
            return Err(StoreError::writing(&self.path)(error));
        }
        self.length += text.len() as u64;
        Ok(())
    }

    /// Waits until all lines are on the disk and returns the length in bytes, which a checkpoint remembers.
    ///
    /// # Errors
    /// If the disk fails.
    pub fn sync(&self) -> Result<u64, StoreError> {
        self.file.sync_data().map_err(StoreError::writing(&self.path))?;
        Ok(self.length)
    }

    /// Cuts the log to the length a checkpoint remembers; 0 starts afresh. A torn last line goes in any case.
    ///
    /// # Errors
    /// If the file cannot be read or cut.
    pub fn cut_back_to(&mut self, bytes: u64) -> Result<CutBack, StoreError> {
        let kept = self.end_of_line(bytes.min(self.length))?;
        let cut = CutBack { removed: self.length - kept, missing: bytes - kept };
        self.file.set_len(kept).and_then(|()| self.file.sync_all()).map_err(StoreError::writing(&self.path))?;
        self.length = kept;
        Ok(cut)
    }

    /// The length up to and including the last newline within the first `length` bytes.
    fn end_of_line(&mut self, length: u64) -> Result<u64, StoreError> {
        const BLOCK: u64 = 64 * 1024;
        let mut end = length;
        while end > 0 {
            let start = end.saturating_sub(BLOCK);
            let mut block = vec![0; (end - start) as usize];
            let read = self.file.seek(SeekFrom::Start(start)).and_then(|_| self.file.read_exact(&mut block));
            read.map_err(StoreError::reading(&self.path))?;
            if let Some(newline) = block.iter().rposition(|&byte| byte == b'\n') {
                return Ok(start + newline as u64 + 1);
            }
            end = start;
        }
        Ok(0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn log(steps: u64) -> (tempfile::TempDir, MetricsLog) {
        let folder = tempfile::tempdir().unwrap();
        let mut log = MetricsLog::open(&folder.path().join("metrics.jsonl")).unwrap();
        for step in 1..=steps {
            log.append(&json!({ "step": step })).unwrap();
        }
        (folder, log)
    }

    fn text(log: &MetricsLog) -> String {
        std::fs::read_to_string(&log.path).unwrap()
    }

    #[test]
    fn steps_after_the_checkpoint_are_cut_and_written_again() {
        let (_folder, mut log) = log(2);
        let at_checkpoint = log.sync().unwrap();
        log.append(&json!({"step": 3})).unwrap();
        let cut = log.cut_back_to(at_checkpoint).unwrap();
        assert_eq!(cut, CutBack { removed: 11, missing: 0 });
        log.append(&json!({"step": 3})).unwrap();
        assert_eq!(text(&log), "{\"step\":1}\n{\"step\":2}\n{\"step\":3}\n");
    }

    #[test]
    fn a_torn_last_line_is_cut() {
        let (_folder, log) = log(2);
        let whole = log.sync().unwrap();
        std::fs::OpenOptions::new().append(true).open(&log.path).unwrap().write_all(b"{\"st").unwrap();
        let mut log = MetricsLog::open(&log.path).unwrap();
        assert_eq!(log.cut_back_to(whole + 4).unwrap(), CutBack { removed: 4, missing: 4 });
        assert_eq!(log.sync().unwrap(), whole);
    }

    #[test]
    fn a_shortened_file_is_reported_and_kept_usable() {
        let (_folder, log) = log(3);
        let recorded = log.sync().unwrap();
        std::fs::OpenOptions::new().write(true).open(&log.path).unwrap().set_len(15).unwrap();
        let mut log = MetricsLog::open(&log.path).unwrap();
        assert_eq!(log.cut_back_to(recorded).unwrap(), CutBack { removed: 4, missing: 22 });
        assert_eq!(text(&log), "{\"step\":1}\n");
    }

    #[test]
    fn zero_starts_afresh() {
        let (_folder, mut log) = log(3);
        assert_eq!(log.cut_back_to(0).unwrap(), CutBack { removed: 33, missing: 0 });
        assert_eq!(text(&log), "");
    }

    #[cfg(target_os = "linux")]
    #[test]
    fn a_full_disk_is_named() {
        let mut log = MetricsLog::open(Path::new("/dev/full")).unwrap();
        let error = log.append(&json!({"step": 1})).unwrap_err();
        assert!(matches!(error, StoreError::DiskFull { .. }), "{error}");
    }
}
