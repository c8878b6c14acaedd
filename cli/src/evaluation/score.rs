//! Sequence log-probabilities, or rewards, of many examples.

use hbat::engine::Engine;
use hbat::evaluate::sequence_scores;
use hbat::model::Policy;
use hbat::tokens::{Batch, Group};

use crate::signal::Interrupted;

/// Σ log π(y|x), or the reward, of each sequence of each example, in the examples' order.
pub type Sequences = Vec<Vec<f64>>;

/// How examples are put through a model.
#[derive(Debug, Clone, Copy)]
pub struct Scorer {
    /// How scores come about.
    pub engine: Engine,
    /// Sequences per forward pass.
    pub micro_batch: usize,
    /// Lengths are padded to a multiple of this.
    pub bucket: usize,
}

impl Scorer {
    /// Scores every example, those of like length together so that little is padding. `progress` hears how many are done,
    /// and may stop the work.
    ///
    /// # Errors
    /// If the device fails, or what `progress` returns.
    pub async fn score(
        &self,
        policy: &Policy,
        groups: &[Group],
        progress: &mut dyn FnMut(usize) -> Result<(), Interrupted>,
    ) -> anyhow::Result<Sequences> {
        let mut order: Vec<usize> = (0..groups.len()).collect();
        order.sort_by_key(|&i| (groups[i].longest(), i));
        let mut scores = vec![Vec::new(); groups.len()];
        let sequences = groups.first().map_or(1, |g| g.sequences.len());
        let mut done = 0;
        for part in order.chunks((self.micro_batch / sequences).max(1)) {
            let batch = Batch::new(part.iter().map(|&i| &groups[i]), self.bucket);
            let sums = sequence_scores(policy, self.engine, &batch).await?;
            for (&example, range) in part.iter().zip(&batch.groups) {
                scores[example] = sums[range.clone()].iter().map(|s| f64::from(*s)).collect();
            }
            done += part.len();
            progress(done)?;
        }
        Ok(scores)
    }
}
