//! The directory of a run.

use std::fs;
use std::path::{Path, PathBuf};

use super::aside::{Aside, is_aside, link_files, names, recover, remove_dir, replace_file};
use super::checkpoint::{self, Checkpoint, CheckpointWriter, Latest, Refusal};
use super::error::StoreError;
use super::lock::{LOCK, Lock};
use super::metrics::MetricsLog;
use super::tensor_file::digest;

const CONFIG: &str = "config.toml";
const CHECKPOINTS: &str = "checkpoints";
const BEST: &str = "best";

/// A run's directory, locked against other processes as long as this value lives:
/// `config.toml`, `metrics.jsonl`, `checkpoints/`, `best/`, `last/`, `plot.png`.
#[derive(Debug)]
pub struct RunDir {
    path: PathBuf,
    discarded: Vec<Refusal>,
    _lock: Lock,
}

impl RunDir {
    /// Starts a run in a new or empty directory and writes its resolved configuration.
    ///
    /// # Errors
    /// If the directory holds anything, is in use, or cannot be written.
    pub fn create(path: &Path, config: &str) -> Result<Self, StoreError> {
        fs::create_dir_all(path).map_err(StoreError::making(path))?;
        let entries = names(path)?;
        let is_run = entries.iter().any(|name| name == CONFIG);
        if let Some(found) = entries.into_iter().find(|name| !is_run && !is_leftover(name)) {
            return Err(StoreError::NotEmpty { path: path.to_path_buf(), found });
        }
        // Taken before a run is refused for being there: while it still works, that is the better thing to say.
        let lock = Lock::take(path)?;
        if path.join(CONFIG).exists() {
            return Err(StoreError::RunExists { path: path.to_path_buf() });
        }
        recover(path)?;
        let run = Self { path: path.to_path_buf(), discarded: Vec::new(), _lock: lock };
        fs::create_dir_all(run.checkpoints()).map_err(StoreError::writing(&run.checkpoints()))?;
        // Last, because it makes the directory a run.
        replace_file(&path.join(CONFIG), config.as_bytes())?;
        Ok(run)
    }

    /// Opens the directory of a run that was stopped or killed, and clears away what it was writing then.
    ///
    /// # Errors
    /// If it is not a run's, is in use, or cannot be written.
    pub fn open(path: &Path) -> Result<Self, StoreError> {
        if !path.join(CONFIG).is_file() {
            return Err(StoreError::NotARun { path: path.to_path_buf() });
        }
        let lock = Lock::take(path)?;
        let mut run = Self { path: path.to_path_buf(), discarded: Vec::new(), _lock: lock };
        fs::create_dir_all(run.checkpoints()).map_err(StoreError::writing(&run.checkpoints()))?;
        recover(path)?;
        recover(&run.checkpoints())?;
        run.discarded = checkpoint::discard_incomplete(&run.checkpoints())?;
        Ok(run)
    }

    /// Takes back a run that came to nothing, so that another may begin in its place. What anybody else put there stays.
    pub fn withdraw(self) {
        for file in [CONFIG, LOCK] {
            let _ = fs::remove_file(self.path.join(file));
        }
        let _ = fs::remove_dir(self.checkpoints());
        let _ = fs::remove_dir(&self.path);
    }

    /// Removes a checkpoint that turned out to be good for nothing.
    ///
    /// # Errors
    /// If it cannot be removed.
    pub fn discard(&self, number: u64) -> Result<(), StoreError> {
        checkpoint::discard(&self.checkpoints(), number)
    }

    /// The directory itself.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Writes the configuration anew.
    ///
    /// # Errors
    /// If it cannot be written.
    pub fn write_config(&self, config: &str) -> Result<(), StoreError> {
        replace_file(&self.path.join(CONFIG), config.as_bytes())
    }

    /// The metrics, open for appending.
    ///
    /// # Errors
    /// If the file cannot be opened.
    pub fn metrics(&self) -> Result<MetricsLog, StoreError> {
        MetricsLog::open(&self.path.join("metrics.jsonl"))
    }

    /// Where the best weights go, as a model folder.
    pub fn best(&self) -> PathBuf {
        self.path.join(BEST)
    }

    /// Makes the best weights those that a checkpoint took along: what later ones had found is undone with them. Without a checkpoint, or if it
    /// had none, there are none.
    ///
    /// # Errors
    /// If they cannot be put in their place.
    pub fn restore_best(&self, checkpoint: Option<&Checkpoint>) -> Result<(), StoreError> {
        let best = self.best();
        match checkpoint.map(|checkpoint| checkpoint.path().join(BEST)).filter(|kept| kept.is_dir()) {
            Some(kept) => {
                let aside = Aside::begin(&best)?;
                link_files(&kept, aside.path())?;
                aside.commit()
            }
            None if best.is_dir() => remove_dir(&best),
            None => Ok(()),
        }
    }

    /// Where the last weights go, as a model folder.
    pub fn last(&self) -> PathBuf {
        self.path.join("last")
    }

    /// Where the plot goes.
    pub fn plot(&self) -> PathBuf {
        self.path.join("plot.png")
    }

    /// Starts the next checkpoint. `fingerprint` stands for everything that a resumed run must have in common with this one.
    ///
    /// # Errors
    /// If its directory cannot be created.
    pub fn begin_checkpoint(&self, phase: &str, step: u64, fingerprint: &str) -> Result<CheckpointWriter, StoreError> {
        checkpoint::begin(&self.checkpoints(), phase, step, fingerprint)
    }

    /// The newest checkpoint to go on from, and why newer ones are not used, those cleared away by [`RunDir::open`] included.
    ///
    /// # Errors
    /// If the checkpoints cannot be listed, or there are some and none can be gone on from.
    pub fn latest_complete(&self, fingerprint: &str) -> Result<Latest, StoreError> {
        let mut latest = checkpoint::latest_complete(&self.checkpoints(), fingerprint)?;
        latest.refused.splice(0..0, self.discarded.iter().cloned());
        Ok(latest)
    }

    /// Removes all but the `keep` (at least one) newest good checkpoints. Damaged ones are not counted, and go when they are older than those
    /// kept.
    ///
    /// # Errors
    /// If one cannot be removed.
    pub fn prune(&self, keep: usize, fingerprint: &str) -> Result<(), StoreError> {
        checkpoint::prune(&self.checkpoints(), fingerprint, keep)
    }

    fn checkpoints(&self) -> PathBuf {
        self.path.join(CHECKPOINTS)
    }
}

/// What a run that was killed before it wrote its configuration may have left.
fn is_leftover(name: &str) -> bool {
    name == LOCK || name == CHECKPOINTS || is_aside(name)
}

/// A short name for a text: SHA-256 in hexadecimal.
pub fn fingerprint(text: &str) -> String {
    digest(text.as_bytes())
}
