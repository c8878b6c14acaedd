//! The best weights on their way to `best/`, while training goes on.

use std::path::Path;
use std::sync::Arc;
use std::thread::JoinHandle;

use anyhow::{Context, anyhow};
use hbat::model::Unit;

use super::checkpoint::Saved;
use crate::model::{Export, ModelFolder};

/// Writes model folders from checkpoints: their weights are read piece by piece, so that no second copy of them is in memory.
#[derive(Debug, Default)]
pub(super) struct Exporting {
    writing: Option<JoinHandle<anyhow::Result<()>>>,
}

impl Exporting {
    /// Begins to write the weights of a checkpoint into a folder, once the checkpoint is on the disk.
    ///
    /// # Errors
    /// If the folder before could not be written.
    pub(super) fn begin(
        &mut self,
        saved: Saved,
        units: Arc<[Unit]>,
        source: Arc<ModelFolder>,
        folder: &Path,
    ) -> anyhow::Result<()> {
        self.wait()?;
        let folder = folder.to_path_buf();
        self.writing = Some(std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().build()?;
            let export = Export::new(source.config(), Some(&source));
            runtime.block_on(export.write(&folder, async |unit| saved.weights(&units[unit])))
        }));
        Ok(())
    }

    /// Waits until the folder is written.
    ///
    /// # Errors
    /// If it could not be.
    pub(super) fn wait(&mut self) -> anyhow::Result<()> {
        let Some(writing) = self.writing.take() else { return Ok(()) };
        let written = writing.join().unwrap_or_else(|_| Err(anyhow!("it failed without a reason")));
        written.context("exporting the best weights")
    }

    /// Says so at once if it could not be written.
    ///
    /// # Errors
    /// If it could not be.
    pub(super) fn look_after(&mut self) -> anyhow::Result<()> {
        if self.writing.as_ref().is_some_and(JoinHandle::is_finished) { self.wait() } else { Ok(()) }
    }
}
