//! Writing a checkpoint.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use hbat::model::Unit;

use super::{Checkpoint, FORMAT, FileEntry, MARKER, Manifest, STATE, StoredSet, VERSION, file_name, number_of};
use crate::store::aside::{Aside, link, link_files, names, replace_file, write_file};
use crate::store::error::StoreError;
use crate::store::tensor_file::{SaveDtype, TensorFileWriter, TensorSpec, Written, digest};

/// A checkpoint in the making. Dropped before [`CheckpointWriter::complete`], it leaves nothing.
#[derive(Debug)]
pub struct CheckpointWriter {
    aside: Aside,
    target: PathBuf,
    manifest: Manifest,
}

/// Starts the next checkpoint in `folder`.
pub(crate) fn begin(folder: &Path, phase: &str, step: u64, fingerprint: &str) -> Result<CheckpointWriter, StoreError> {
    let number = names(folder)?.iter().filter_map(|name| number_of(name)).max().map_or(1, |last| last + 1);
    let target = folder.join(format!("{number:06}-{}-{step}", plain(phase)));
    let manifest = Manifest {
        format: FORMAT.into(),
        version: VERSION,
        fingerprint: fingerprint.into(),
        number,
        phase: phase.into(),
        step,
        metrics_bytes: 0,
        files: BTreeMap::new(),
        state: serde_json::Value::Null,
    };
    Ok(CheckpointWriter { aside: Aside::begin(&target)?, target, manifest })
}

impl CheckpointWriter {
    /// Starts a set of tensors: those of the given units, in order, each of [`Unit::dims`], in a precision that holds them exactly.
    ///
    /// # Errors
    /// If its file cannot be created.
    pub fn begin_set<'u>(
        &mut self,
        set: &str,
        units: impl IntoIterator<Item = &'u Unit>,
        dtype: SaveDtype,
    ) -> Result<SetWriter<'_>, StoreError> {
        let name = file_name(set);
        let specs = units.into_iter().map(|unit| TensorSpec::new(&unit.name, &unit.dims())).collect();
        let file = TensorFileWriter::create(&self.aside.path().join(&name), dtype, "hbat", specs)?;
        Ok(SetWriter { file, name, files: &mut self.manifest.files })
    }

    /// Takes a set over that nobody changes any more, such as the same set of an earlier checkpoint: by a
    /// hard link, which costs nothing, or a copy where there are none.
    ///
    /// # Errors
    /// If it can be neither linked nor copied.
    pub fn take_over(&mut self, set: &str, StoredSet { path: file, entry }: &StoredSet) -> Result<(), StoreError> {
        let name = file_name(set);
        link(file, &self.aside.path().join(&name))?;
        self.manifest.files.insert(name, entry.clone());
        Ok(())
    }

    /// Takes the files of a folder along, in one of the same name, that nobody changes any more: as [`CheckpointWriter::take_over`] does sets.
    ///
    /// # Errors
    /// If one can be neither linked nor copied.
    pub fn take_along(&mut self, folder: &Path) -> Result<(), StoreError> {
        let kept = self.aside.path().join(folder.file_name().unwrap_or_default());
        fs::create_dir(&kept).map_err(StoreError::writing(&kept))?;
        link_files(folder, &kept)
    }

    /// Takes over a set of this very checkpoint under a second name: at a phase's start the anchor is the weights.
    ///
    /// # Errors
    /// As [`CheckpointWriter::take_over`].
    ///
    /// # Panics
    /// If that set is not written yet.
    pub fn same(&mut self, set: &str, as_set: &str) -> Result<(), StoreError> {
        let name = file_name(as_set);
        let entry = self.manifest.files.get(&name).expect("the set is written").clone();
        self.take_over(set, &StoredSet { path: self.aside.path().join(name), entry })
    }

    /// Writes the state, puts the checkpoint in its place and marks it complete. `metrics` is what
    /// [`MetricsLog::sync`](crate::store::MetricsLog::sync) returned when the state was taken.
    ///
    /// # Errors
    /// If any of it fails; the checkpoint then does not count.
    pub fn complete(mut self, state: serde_json::Value, metrics: u64) -> Result<Checkpoint, StoreError> {
        self.manifest.metrics_bytes = metrics;
        self.manifest.state = state;
        let path = self.aside.path().join(STATE);
        let text =
            serde_json::to_vec_pretty(&self.manifest).map_err(std::io::Error::other).map_err(StoreError::writing(&path))?;
        write_file(&path, &text)?;
        self.aside.commit()?;
        replace_file(&self.target.join(MARKER), digest(&text).as_bytes())?;
        Ok(Checkpoint { path: self.target, manifest: self.manifest })
    }
}

/// One set of tensors in the making.
#[derive(Debug)]
pub struct SetWriter<'a> {
    file: TensorFileWriter,
    name: String,
    files: &'a mut BTreeMap<String, FileEntry>,
}

impl SetWriter<'_> {
    /// Writes the next unit's values.
    ///
    /// # Errors
    /// If the disk is full or fails.
    ///
    /// # Panics
    /// If there are more units than announced, or one has another size.
    pub fn write(&mut self, values: &[f32]) -> Result<(), StoreError> {
        self.file.write(values)
    }

    /// Waits for the disk and adds the set to the checkpoint.
    ///
    /// # Errors
    /// If the disk fails.
    ///
    /// # Panics
    /// If units announced have not come.
    pub fn finish(self) -> Result<(), StoreError> {
        let Written { bytes, header_digest, crc32 } = self.file.finish()?;
        self.files.insert(self.name, FileEntry { bytes, header_sha256: header_digest, crc32 });
        Ok(())
    }
}

/// A phase's name as part of a file name.
fn plain(phase: &str) -> String {
    phase.chars().map(|c| if c.is_ascii_alphanumeric() || c == '-' || c == '_' { c } else { '_' }).collect()
}
