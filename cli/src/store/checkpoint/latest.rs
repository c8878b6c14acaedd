//! Finding the checkpoint to go on from, and removing old ones.

use std::path::{Path, PathBuf};

use super::{Checkpoint, Flaw, Latest, MARKER, Refusal, number_of};
use crate::store::aside::{names, remove_dir};
use crate::store::error::StoreError;

/// The newest checkpoint that is complete, undamaged and of this configuration; none where there are no checkpoints at all.
pub(crate) fn latest_complete(folder: &Path, fingerprint: &str) -> Result<Latest, StoreError> {
    let mut latest = Latest { checkpoint: None, refused: Vec::new() };
    for path in newest_first(folder)? {
        let whole = |checkpoint: Checkpoint| checkpoint.verify_values().map(|()| checkpoint);
        match Checkpoint::verify(&path, fingerprint).and_then(whole) {
            Ok(checkpoint) => {
                latest.checkpoint = Some(checkpoint);
                break;
            }
            Err(flaw) => latest.refused.push(Refusal { path, reason: flaw.to_string() }),
        }
    }
    if latest.checkpoint.is_none() && !latest.refused.is_empty() {
        let reasons = latest.refused.iter().map(ToString::to_string).collect();
        return Err(StoreError::NoneUsable { folder: folder.to_path_buf(), reasons });
    }
    Ok(latest)
}

/// Removes checkpoints older than the `keep` newest good ones.
pub(crate) fn prune(folder: &Path, fingerprint: &str, keep: usize) -> Result<(), StoreError> {
    let mut good = 0;
    for path in newest_first(folder)? {
        if good < keep.max(1) {
            good += usize::from(Checkpoint::verify(&path, fingerprint).is_ok());
        } else {
            remove_dir(&path)?;
        }
    }
    Ok(())
}

/// Removes the checkpoint of a number.
pub(crate) fn discard(folder: &Path, number: u64) -> Result<(), StoreError> {
    newest_first(folder)?.into_iter().filter(|path| self::number(path) == Some(number)).try_for_each(|path| remove_dir(&path))
}

/// Removes checkpoints that a killed process left without their marker.
pub(crate) fn discard_incomplete(folder: &Path) -> Result<Vec<Refusal>, StoreError> {
    let incomplete: Vec<PathBuf> = newest_first(folder)?.into_iter().filter(|path| !path.join(MARKER).exists()).collect();
    let discard = |path: PathBuf| {
        remove_dir(&path)?;
        Ok(Refusal { path, reason: Flaw::Incomplete.to_string() })
    };
    incomplete.into_iter().map(discard).collect()
}

/// Directories named like checkpoints, whatever is in them.
fn newest_first(folder: &Path) -> Result<Vec<PathBuf>, StoreError> {
    let mut numbered: Vec<(u64, String)> =
        names(folder)?.into_iter().filter_map(|name| Some((number_of(&name)?, name))).collect();
    numbered.sort_by(|a, b| b.cmp(a));
    let paths = numbered.into_iter().map(|(_, name)| folder.join(name));
    Ok(paths.filter(|path| path.is_dir()).collect())
}

fn number(path: &Path) -> Option<u64> {
    number_of(path.file_name()?.to_str()?)
}
