//! How fast a run goes, and how long the rest will take.

use std::collections::{BTreeMap, VecDeque};

use super::quantile;

/// Steps that a moving median looks back on.
const WINDOW: usize = 20;

/// One measured step.
#[derive(Debug, Clone, Copy)]
struct Measured {
    tokens: usize,
    seconds: f64,
}

/// The measured speed of a run.
///
/// The first step of every phase is left out: it compiles or tunes kernels and fills allocators. Later steps that meet a shape for the first time
/// do so, too, and a median takes no notice of them. The kinds of phase are measured apart, because a preference step costs more than a
/// demonstration step.
#[derive(Debug, Default)]
pub(crate) struct Pace {
    recent: BTreeMap<String, VecDeque<Measured>>,
    warm: bool,
}

/// The kind of a phase, from its name: "sft-3" is of the kind "sft".
pub(crate) fn kind(phase: &str) -> &str {
    phase.split_once('-').map_or(phase, |(kind, _)| kind)
}

impl Pace {
    /// A phase begins or goes on after an interruption: its next step is a warm-up.
    pub(crate) fn begin(&mut self) {
        self.warm = false;
    }

    /// Takes note of a step of this phase.
    pub(crate) fn record(&mut self, phase: &str, tokens: usize, seconds: f64) {
        if !std::mem::replace(&mut self.warm, true) {
            return;
        }
        let recent = self.recent.entry(kind(phase).to_string()).or_default();
        if recent.len() == WINDOW {
            recent.pop_front();
        }
        recent.push_back(Measured { tokens, seconds });
    }

    /// Tokens per second over the phase's last steps; `None` until its kind is measured.
    pub(crate) fn tokens_per_second(&self, phase: &str) -> Option<f64> {
        let recent = self.recent.get(kind(phase))?;
        let tokens: usize = recent.iter().map(|step| step.tokens).sum();
        let seconds: f64 = recent.iter().map(|step| step.seconds).sum();
        (seconds > 0.0).then(|| tokens as f64 / seconds)
    }

    /// Seconds for so many steps of this phase. A kind not measured yet is taken to be as fast as the mean of the others;
    /// `None` until any is measured.
    pub(crate) fn seconds(&self, phase: &str, steps: usize) -> Option<f64> {
        if steps == 0 {
            return Some(0.0);
        }
        let step = match self.recent.get(kind(phase)) {
            Some(own) => quantile(own.iter().map(|step| step.seconds), 0.5),
            None => quantile(self.recent.values().flatten().map(|step| step.seconds), 0.5),
        };
        step.map(|seconds| seconds * steps as f64)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_step_of_a_phase_does_not_count() {
        let mut pace = Pace::default();
        pace.begin();
        pace.record("sft-1", 100, 60.0);
        assert_eq!((pace.seconds("sft-1", 9), pace.tokens_per_second("sft-1")), (None, None));
        pace.record("sft-1", 100, 0.5);
        assert_eq!((pace.seconds("sft-1", 8), pace.tokens_per_second("sft-1")), (Some(4.0), Some(200.0)));
        pace.begin();
        pace.record("dpo-1", 200, 60.0);
        assert_eq!(pace.seconds("dpo-1", 8), Some(4.0), "the other kind's speed until its own is known");
        pace.record("dpo-1", 200, 2.0);
        assert_eq!((pace.seconds("dpo-2", 8), pace.seconds("sft-2", 8)), (Some(16.0), Some(4.0)));
    }

    #[test]
    fn a_step_that_compiles_kernels_is_no_measure() {
        let mut pace = Pace::default();
        for seconds in [9.0, 1.0, 1.0, 30.0, 2.0, 1.0] {
            pace.record("sft-1", 10, seconds);
        }
        assert_eq!(pace.seconds("sft-1", 10), Some(10.0));
    }

    #[test]
    fn old_steps_are_forgotten() {
        let mut pace = Pace::default();
        for seconds in [1.0; 30].into_iter().chain([3.0; WINDOW]) {
            pace.record("mix", 30, seconds);
        }
        assert_eq!((pace.seconds("mix", 2), pace.tokens_per_second("mix")), (Some(6.0), Some(10.0)));
        assert_eq!(pace.seconds("mix", 0), Some(0.0));
    }
}
