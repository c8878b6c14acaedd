//! Which examples each step of a phase trains on, and at which rate: all known before the first step.

use std::cmp::Reverse;
use std::collections::BTreeSet;

use rand::RngExt;

use super::{Data, Settings};
use crate::consolidation::Side;
use crate::error::Error;
use crate::optimizer::AdamWSettings;
use crate::random::stream;
use crate::schedule::{Aim, Phase, Training, Work, batches, subset};
use crate::tokens::{Group, packed};

/// One optimizer step to come.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Item {
    pub(crate) aim: Aim,
    pub(crate) examples: Vec<usize>,
    pub(crate) rate: f64,
}

/// All steps of a phase.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Agenda {
    pub(crate) items: Vec<Item>,
    pub(crate) optimizer: AdamWSettings,
}

impl Agenda {
    pub(crate) fn new(phase: &Phase, data: &Data, settings: &Settings) -> Result<Self, Error> {
        match &phase.work {
            Work::One { aim, training, subset, subsets } => {
                let items = items(phase, *aim, training, (*subset, *subsets), data, settings)?;
                Ok(Self { items, optimizer: training.optimizer })
            }
            Work::Mixed { sft, dpo, preference_probability } => {
                let sft_items = items(phase, Aim::Sft, sft, (0, 1), data, settings)?;
                let dpo_items = items(phase, Aim::Dpo, dpo, (0, 1), data, settings)?;
                let items = mixed(sft_items, dpo_items, *preference_probability, settings.seed);
                Ok(Self { items, optimizer: sft.optimizer })
            }
        }
    }

    /// The examples of one side that the phase touches, in order of their place in the data set.
    pub(crate) fn examples(&self, side: Side) -> Vec<usize> {
        self.touched(|item| item.aim.side() == side)
    }

    /// The preferences that the phase needs reference log-probabilities of, in the order in which they are scored: those of similar length
    /// together, the longest first.
    pub(crate) fn to_score(&self, data: &Data) -> Vec<usize> {
        let mut examples = self.touched(|item| item.aim == Aim::Dpo);
        examples.sort_by_key(|&example| Reverse(data.preferences[example].longest()));
        examples
    }

    fn touched(&self, by: impl Fn(&Item) -> bool) -> Vec<usize> {
        let examples = self.items.iter().filter(|item| by(item)).flat_map(|item| item.examples.iter().copied());
        examples.collect::<BTreeSet<_>>().into_iter().collect()
    }

    /// How many examples of one side a step trains on at most.
    pub(crate) fn most(&self, side: Side) -> usize {
        self.items.iter().filter(|item| item.aim.side() == side).map(|item| item.examples.len()).max().unwrap_or(0)
    }
}

/// Cuts the examples of a step into forward passes of at most `micro_batch` rows.
///
/// Where there are several, those of similar length go together, so that little is padded, and the longest go first: while
/// they run no earlier pass has left gradients behind, and what does not fit fails at once. Packed ones go, the longest first, into
/// the first pass that has room for all sequences of their group.
pub(crate) fn passes(groups: &[Group], mut examples: Vec<usize>, settings: &Settings) -> Vec<Vec<usize>> {
    if settings.pack.is_some() {
        examples.sort_by_key(|&example| Reverse(groups[example].longest()));
        return packed_passes(groups, examples, settings);
    }
    let per_pass = per_pass(groups, &examples, settings);
    if examples.len() > per_pass {
        examples.sort_by_key(|&example| Reverse(groups[example].longest()));
    }
    examples.chunks(per_pass).map(<[usize]>::to_vec).collect()
}

/// How many of the examples, from the first on, make one forward pass, with no more of them than a step has: nothing that only scores
/// takes more memory than training.
pub(crate) fn first_pass(groups: &[Group], examples: &[usize], most: usize, settings: &Settings) -> usize {
    let examples = &examples[..examples.len().min(most)];
    match settings.pack {
        Some(_) => (1..=examples.len()).take_while(|count| *count == 1 || fits(groups, &examples[..*count], settings)).last(),
        None => Some(per_pass(groups, examples, settings).min(examples.len())),
    }
    .unwrap_or(0)
}

fn per_pass(groups: &[Group], examples: &[usize], settings: &Settings) -> usize {
    let sequences = examples.first().map_or(1, |&first| groups[first].sequences.len());
    (settings.micro_batch / sequences).max(1)
}

fn packed_passes(groups: &[Group], examples: Vec<usize>, settings: &Settings) -> Vec<Vec<usize>> {
    let mut passes: Vec<Vec<usize>> = Vec::new();
    for example in examples {
        let with = |pass: &Vec<usize>| [pass.as_slice(), &[example]].concat();
        match passes.iter().position(|pass| fits(groups, &with(pass), settings)) {
            Some(room) => passes[room].push(example),
            None => passes.push(vec![example]),
        }
    }
    passes
}

/// Whether the rows of a pass hold these examples.
fn fits(groups: &[Group], examples: &[usize], settings: &Settings) -> bool {
    let lengths = examples.iter().flat_map(|&example| &groups[example].sequences).map(|s| s.tokens().len());
    let rows = packed(lengths, settings.pack.unwrap_or(0)).into_iter().map(|(row, _)| row + 1).max();
    rows.unwrap_or(0) <= settings.micro_batch
}

fn items(
    phase: &Phase,
    aim: Aim,
    training: &Training,
    (which, of): (usize, usize),
    data: &Data,
    settings: &Settings,
) -> Result<Vec<Item>, Error> {
    if aim == Aim::Ppo && settings.ppo.sft_coefficient > 0.0 && data.demonstrations.is_empty() {
        return Err(Error::TooFewExamples { kind: "demonstrations", examples: 0, subsets: 1 });
    }
    let (groups, kind) = data.side(aim.side());
    let subset = subset(groups.len(), which, of, kind, settings.order, settings.seed)?;
    let rate = training.rate(training.steps(subset.len()));
    let label = format!("{} {kind}", phase.name);
    let epochs = (0..training.epochs)
        .flat_map(|epoch| batches(&subset, training.batch_size, &label, epoch, settings.order, settings.seed));
    Ok(epochs.enumerate().map(|(step, examples)| Item { aim, examples, rate: rate.at(step) }).collect())
}

/// Draws at each step which objective goes on; when one has no steps left, the other does.
fn mixed(sft: Vec<Item>, dpo: Vec<Item>, probability: Option<f64>, seed: u64) -> Vec<Item> {
    let total = sft.len() + dpo.len();
    let probability = probability.unwrap_or(dpo.len() as f64 / total.max(1) as f64);
    let (mut sft, mut dpo) = (sft.into_iter().peekable(), dpo.into_iter().peekable());
    let mut rng = stream(seed, "mix", &[]);
    (0..total)
        .filter_map(|_| {
            let preference = rng.random::<f64>() < probability;
            let first = if preference { dpo.next() } else { sft.next() };
            first.or_else(|| if preference { sft.next() } else { dpo.next() })
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn without_a_probability_objectives_are_drawn_by_their_steps() {
        let items = |aim, count| vec![Item { aim, examples: vec![0], rate: 0.0 }; count];
        let aims = |probability| -> Vec<Aim> {
            mixed(items(Aim::Sft, 2), items(Aim::Dpo, 18), probability, 7).into_iter().map(|item| item.aim).collect()
        };
        assert_eq!(aims(None), aims(Some(0.9)));
        assert_ne!(aims(None), aims(Some(0.1)));
        assert_eq!(aims(None).iter().filter(|aim| **aim == Aim::Dpo).count(), 18);
    }
}
