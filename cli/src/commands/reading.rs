//! From the command line's words to the readers' own, and what is the same in all commands that score examples.

use std::path::Path;

use hbat::compute::Compute;
use hbat::engine::Engine;
use hbat::model::Policy;
use hbat::tokens::Group;

use crate::args::Reading;
use crate::data::{Codec, CodecOptions, ReadOptions};
use crate::evaluation::{Scorer, Sequences};
use crate::model::{ModelError, ModelFolder, read_config};
use crate::report::{Bar, tell};

/// Sequence lengths are padded to a multiple of this.
const BUCKET: usize = 8;

impl Reading {
    pub(super) fn codec(self) -> CodecOptions {
        CodecOptions { template: self.template, max_length: self.max_length, too_long: self.too_long }
    }

    pub(super) fn read(self, limit: Option<usize>) -> ReadOptions {
        ReadOptions { format: self.format.into(), limit, columns: Default::default() }
    }
}

/// The tokenizer of a model's folder. That there is one is looked at first: its tokenizer would else be what is missed.
pub(super) fn codec(folder: &Path, reading: Reading) -> anyhow::Result<Codec> {
    read_config(folder)?;
    Ok(Codec::load(folder, reading.codec())?)
}

/// A model's folder, whose tokenizer is the codec's.
pub(super) fn open(folder: &Path, codec: &Codec) -> anyhow::Result<ModelFolder> {
    let folder = ModelFolder::open(folder)?;
    folder.check_vocabulary(codec.tokenizer().vocabulary())?;
    Ok(folder)
}

/// Its weights, on the device.
pub(super) fn load(folder: &ModelFolder, compute: &Compute) -> anyhow::Result<Policy> {
    let mut bar = Bar::bytes("weights", folder.bytes());
    Ok(folder.load(compute.clone(), |bytes| bar.advance(bytes))?)
}

/// Whether a model can compute texts of so many tokens; says so if it was not made for them.
pub(super) fn check_length(folder: &ModelFolder, longest: usize) -> Result<(), ModelError> {
    folder.check_length(longest)?;
    let made_for = folder.config().max_position_embeddings;
    if longest > made_for {
        let folder = folder.path().display();
        tell(format_args!("warning: texts of up to {longest} tokens, and {folder} was made for {made_for}"));
    }
    Ok(())
}

/// The longest of the examples' texts, tokens.
pub(super) fn longest(groups: &[Group]) -> usize {
    groups.iter().map(Group::longest).max().unwrap_or(0)
}

/// Scores of examples, so many sequences at a time, with a bar.
pub(super) async fn score(micro_batch: usize, policy: &Policy, groups: &[Group], what: &str) -> anyhow::Result<Sequences> {
    let scorer = Scorer { engine: Engine::Segmented, micro_batch, bucket: BUCKET };
    let mut bar = Bar::items(what, groups.len() as u64);
    let mut progress = |done| {
        bar.set(done as u64);
        Ok(())
    };
    scorer.score(policy, groups, &mut progress).await
}
