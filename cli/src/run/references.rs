//! Reference log-probabilities on disk, for runs that meet the same weights and preferences once more: sweeps of β, λ or rates.
//!
//! A file's name is a SHA-256 of all that the numbers depend on: weights, model, token ids, engine, how numbers are laid out and who computes
//! with them, and the hardware. On a processor, what is read is what would have been computed, bit by bit.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant, SystemTime};

use anyhow::Context;
use hbat::trainer::Trainer;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use crate::config::{AUTO, NONE, Plan};
use crate::store::{hex, replace_file};

/// What takes no longer is computed again rather than kept.
const SHORT: Duration = Duration::from_secs(5);
/// Files that are kept, the newest ones.
const KEPT: usize = 64;
/// Raised when numbers come out otherwise.
const VERSION: u32 = 3;

/// Files of reference log-probabilities.
#[derive(Debug, Clone)]
pub(crate) struct ReferenceCache {
    folder: PathBuf,
    /// What took no longer is not kept.
    short: Duration,
    /// What the numbers depend on besides weights and data.
    settings: String,
    /// The phase being scored: its key, its examples, and since when.
    scoring: Option<(String, Vec<usize>, Instant)>,
}

#[derive(Serialize, Deserialize)]
struct Contents {
    /// Σ log π_ref of both sequences of each preference.
    references: Vec<Vec<f32>>,
}

impl ReferenceCache {
    /// Where a run keeps them: its own folder, the user's cache, or nowhere.
    pub(crate) fn new(plan: &Plan) -> Option<Self> {
        let named = &plan.run.checkpoints.reference_cache;
        let (folder, short) = match named.as_os_str() {
            name if name == NONE => return None,
            name if name == AUTO => (cache_folder()?.join("hbat/references"), SHORT),
            _ => (named.clone(), Duration::ZERO),
        };
        let engine = plan.run.engine;
        let settings = format!(
            "{VERSION} {} {} {} {:?} {} {} {} {:?}",
            env!("CARGO_PKG_VERSION"),
            plan.device,
            hbat_backends::hardware(plan.device).map_or_else(String::new, |found| format!("{} {}", found.adapter, found.driver)),
            engine.kind,
            engine.micro_batch,
            engine.bucket,
            engine.pack,
            plan.layout,
        );
        Some(Self { folder, short, settings, scoring: None })
    }

    /// At a phase's start: hands over what is known, and says where from.
    pub(crate) async fn look_up(&mut self, trainer: &mut Trainer) -> anyhow::Result<Option<PathBuf>> {
        let examples = trainer.unscored().to_vec();
        if examples.is_empty() {
            return Ok(None);
        }
        let key = self.key(trainer, &examples).await?;
        let path = self.path(&key);
        if let Some(contents) = read(&path, examples.len()) {
            trainer.know_references(examples.into_iter().zip(contents.references).collect())?;
            return Ok(Some(path));
        }
        self.scoring = Some((key, examples, Instant::now()));
        Ok(None)
    }

    /// When all of a phase's preferences are scored: keeps what took its time.
    pub(crate) fn keep(&mut self, known: &BTreeMap<usize, Vec<f32>>) -> anyhow::Result<()> {
        let Some((key, examples, began)) = self.scoring.take() else { return Ok(()) };
        if began.elapsed() < self.short {
            return Ok(());
        }
        let references: Option<Vec<Vec<f32>>> = examples.iter().map(|example| known.get(example).cloned()).collect();
        let contents = Contents { references: references.context("every preference has been scored")? };
        fs::create_dir_all(&self.folder).with_context(|| format!("creating {}", self.folder.display()))?;
        replace_file(&self.path(&key), &serde_json::to_vec(&contents)?)?;
        prune(&self.folder)
    }

    async fn key(&self, trainer: &Trainer, examples: &[usize]) -> anyhow::Result<String> {
        let mut hash = Sha256::new();
        hash.update(&self.settings);
        hash.update(serde_json::to_vec(trainer.policy().config())?);
        for (index, unit) in trainer.policy().units().iter().enumerate() {
            hash.update(&unit.name);
            for chunk in trainer.policy().values(index).await?.chunks(1 << 16) {
                hash.update(chunk.iter().flat_map(|value| value.to_le_bytes()).collect::<Vec<u8>>());
            }
        }
        for sequence in examples.iter().flat_map(|example| &trainer.data().preferences[*example].sequences) {
            let response = sequence.response().len() as u32;
            let tokens = sequence.tokens().iter().copied().chain([u32::MAX, response]);
            hash.update(tokens.flat_map(u32::to_le_bytes).collect::<Vec<u8>>());
        }
        Ok(hex(&hash.finalize()))
    }

    fn path(&self, key: &str) -> PathBuf {
        self.folder.join(format!("{key}.json"))
    }
}

/// What a file says, if it is whole and about so many preferences.
fn read(path: &Path, preferences: usize) -> Option<Contents> {
    let contents: Contents = serde_json::from_slice(&fs::read(path).ok()?).ok()?;
    let whole = contents.references.len() == preferences && contents.references.iter().all(|pair| pair.len() == 2);
    whole.then_some(contents)
}

/// Whether a file is named by a key.
fn is_ours(path: &Path) -> bool {
    let key = path.file_name().and_then(|name| name.to_str()).and_then(|name| name.strip_suffix(".json"));
    key.is_some_and(|key| key.len() == 64 && key.bytes().all(|byte| byte.is_ascii_hexdigit()))
}

/// Removes all but the newest files, of those that are ours. One that another run has removed meanwhile is gone either way.
fn prune(folder: &Path) -> anyhow::Result<()> {
    let mut files: Vec<(SystemTime, PathBuf)> = Vec::new();
    for entry in fs::read_dir(folder).with_context(|| format!("listing {}", folder.display()))? {
        let path = entry?.path();
        if is_ours(&path) {
            let written = fs::metadata(&path).and_then(|data| data.modified());
            files.push((written.unwrap_or(SystemTime::UNIX_EPOCH), path));
        }
    }
    files.sort_by(|a, b| b.cmp(a));
    for (_, path) in files.into_iter().skip(KEPT) {
        let _ = fs::remove_file(path);
    }
    Ok(())
}

/// The user's folder for what can be made again.
fn cache_folder() -> Option<PathBuf> {
    let named = |name: &str| std::env::var_os(name).filter(|value| !value.is_empty()).map(PathBuf::from);
    named("XDG_CACHE_HOME").or_else(|| Some(named("HOME")?.join(".cache")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_whole_files_count_and_only_the_newest_stay() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a.json");
        for (text, whole) in [
            (r#"{"references":[[-1.5,-2.25]]}"#, true),
            (r#"{"references":[[-1.5,-2.25],[1.0,2.0]]}"#, false),
            (r#"{"references":[[-1.5]]}"#, false),
            (r#"{"references":[[-1.5,-2.2"#, false),
        ] {
            fs::write(&path, text).unwrap();
            assert_eq!(read(&path, 1).is_some(), whole, "{text}");
        }
        for number in 0..KEPT + 3 {
            fs::write(folder.path().join(format!("{number}.json")), "").unwrap();
            fs::write(folder.path().join(format!("{number:064x}.json")), "").unwrap();
        }
        prune(folder.path()).unwrap();
        let left = fs::read_dir(folder.path()).unwrap().map(|entry| entry.unwrap().path());
        let (ours, others): (Vec<PathBuf>, Vec<PathBuf>) = left.partition(|path| is_ours(path));
        assert_eq!((ours.len(), others.len()), (KEPT, KEPT + 4), "what somebody else put there stays");
    }
}
