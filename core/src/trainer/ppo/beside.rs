//! Demonstrations beside the answers: what SFT and PPO have in one step (SFT+PPO), and with plain text PPO-ptx.

use crate::objective::Sft;
use crate::random::{permutation, stream};
use crate::reduce::Reduce;
use crate::schedule::Order;
use crate::tokens::Batch;
use crate::trainer::agenda::{Item, passes};
use crate::trainer::term::Term;
use crate::trainer::{Running, Settings, Trainer};

impl<R: Reduce> Trainer<R> {
    /// What an optimizer step of the policy minimises besides; nothing without a coefficient.
    pub(super) fn beside(&self, step: usize, update: usize) -> Option<Term<'static>> {
        let factor = self.settings.ppo.sft_coefficient;
        let batches = || -> Vec<Batch> {
            let demonstrations = &self.data.demonstrations;
            let mine = self.demonstrations(step, update).into_iter().skip(self.reduce.rank()).step_by(self.reduce.world());
            let batch = |part: Vec<usize>| self.settings.batch(part.iter().map(|&example| &demonstrations[example]));
            passes(demonstrations, mine.collect(), &self.settings).into_iter().map(batch).collect()
        };
        (factor > 0.0).then(|| Term { objective: &Sft, batches: batches(), factor })
    }

    /// Which demonstrations those are, as many as it trains on answers: the next of all, in a new order as often as all have had their turn. Cold
    /// steps pass theirs over.
    fn demonstrations(&self, step: usize, update: usize) -> Vec<usize> {
        let Some(Running { agenda, .. }) = &self.current else { unreachable!("only called within a phase") };
        let ppo = self.settings.ppo;
        let kept = |item: &Item| ppo.kept(item.examples.len());
        let (answers, earlier) = (kept(&agenda.items[step]), agenda.items[..step].iter().map(kept).sum::<usize>());
        let size = ppo.mini_batch(answers);
        let per_epoch = answers.div_ceil(size);
        let within = (update % per_epoch) * size;
        let start = ppo.inner_epochs * earlier + (update / per_epoch) * answers + within;
        let places = start..start + size.min(answers - within);
        in_turn(places, self.data.demonstrations.len(), &self.phases[self.position].name, &self.settings)
    }
}

/// What stands at these places of an endless row of all examples in ever new orders.
fn in_turn(places: std::ops::Range<usize>, examples: usize, phase: &str, settings: &Settings) -> Vec<usize> {
    let order = |turn: usize| match settings.order {
        Order::AsGiven => (0..examples).collect(),
        Order::Shuffled => permutation(examples, &mut stream(settings.seed, &format!("beside {phase}"), &[turn as u64])),
    };
    let turns = places.start / examples..places.end.div_ceil(examples);
    let row: Vec<usize> = turns.clone().flat_map(order).collect();
    row[places.start - turns.start * examples..][..places.len()].to_vec()
}
