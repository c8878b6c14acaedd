//! The best weights on their way to `best/`, while training goes on.

use std::path::Path;
use std::sync::Arc;

use anyhow::Context;

use super::checkpoint::Saved;
use super::meanwhile::Meanwhile;
use crate::model::{Export, ModelFolder, SaveDtype};

/// Weights to be read later, unit by unit and each once.
pub(super) type Weights = Box<dyn FnMut(usize) -> anyhow::Result<Vec<f32>> + Send>;

/// Writes model folders, one after the other.
#[derive(Debug, Default)]
pub(super) struct Exporting {
    writing: Option<UnderWay>,
}

/// A folder on its way to the disk, or there.
pub(super) type UnderWay = Arc<Meanwhile<()>>;

impl Exporting {
    /// Begins to write weights into a folder, once the last checkpoint is on the disk: it may be about to take along what the folder was.
    ///
    /// # Errors
    /// If the folder before could not be written.
    pub(super) fn begin(
        &mut self,
        mut weights: Weights,
        pending: Option<Saved>,
        (source, dtype): (Arc<ModelFolder>, SaveDtype),
        folder: &Path,
    ) -> anyhow::Result<()> {
        self.wait()?;
        let folder = folder.to_path_buf();
        self.writing = Some(Meanwhile::begin(move || {
            pending.map_or(Ok(()), |pending| pending.wait())?;
            let runtime = tokio::runtime::Builder::new_current_thread().build()?;
            let export = Export { dtype, ..Export::new(source.config(), Some(&source)) };
            let written = runtime.block_on(export.write(&folder, async |unit| weights(unit)));
            written.context("exporting the best weights")
        }));
        Ok(())
    }

    /// What is on its way, for a checkpoint that is to take it along.
    pub(super) fn under_way(&self) -> Option<UnderWay> {
        self.writing.clone()
    }

    /// Waits until the folder is written.
    ///
    /// # Errors
    /// If it could not be.
    pub(super) fn wait(&mut self) -> anyhow::Result<()> {
        self.writing.take().map_or(Ok(()), |writing| writing.result().copied())
    }

    /// Says so at once if it could not be written.
    ///
    /// # Errors
    /// If it could not be.
    pub(super) fn look_after(&mut self) -> anyhow::Result<()> {
        if self.writing.as_ref().is_some_and(|writing| writing.is_settled()) { self.wait() } else { Ok(()) }
    }
}
