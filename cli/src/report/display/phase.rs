//! The course of one phase.

use std::collections::{BTreeMap, VecDeque};

use hbat::trainer::StepReport;

use crate::report::phrase;

/// Steps that a phase's last loss is the mean of: one batch is too noisy to be shown.
const WINDOW: usize = 10;

/// First loss and last losses of an objective.
struct Losses {
    first: f64,
    last: VecDeque<f64>,
}

/// What has been seen of a phase.
pub(super) struct Course {
    pub(super) name: String,
    /// Steps done, those of an interrupted run included.
    pub(super) done: usize,
    steps: usize,
    /// Steps seen: those since the interruption, if there was one.
    taken: usize,
    begun: f64,
    seconds: f64,
    tokens: usize,
    losses: BTreeMap<&'static str, Losses>,
}

impl Course {
    pub(super) fn new(name: &str, steps: usize, now: f64) -> Self {
        let losses = BTreeMap::new();
        Self { name: name.to_string(), done: 0, steps, taken: 0, begun: now, seconds: 0.0, tokens: 0, losses }
    }

    pub(super) fn record(&mut self, report: &StepReport, seconds: f64) {
        self.done = report.step;
        self.taken += 1;
        self.seconds += seconds;
        self.tokens += report.tokens;
        let losses = self.losses.entry(report.objective).or_insert_with(|| Losses { first: report.loss, last: VecDeque::new() });
        if losses.last.len() == WINDOW {
            losses.last.pop_front();
        }
        losses.last.push_back(report.loss);
    }

    /// The mean of the objective's last losses.
    pub(super) fn loss(&self, objective: &str) -> Option<f64> {
        let last = &self.losses.get(objective)?.last;
        Some(last.iter().sum::<f64>() / last.len() as f64)
    }

    /// "sft-1: 32 steps in 12.3 s, loss 2.310 → 0.412, 2,345 tokens/s".
    pub(super) fn summary(&self, now: f64) -> String {
        let taken = match self.taken {
            taken if taken == self.steps => phrase::counted(taken, "step"),
            taken => format!("the last {} of {}", phrase::counted(taken, "step"), self.steps),
        };
        let mut parts = vec![format!("{}: {taken} in {}", self.name, phrase::took(now - self.begun))];
        for (objective, losses) in &self.losses {
            let objective = if self.losses.len() > 1 { format!("{objective} ") } else { String::new() };
            let last = losses.last.iter().sum::<f64>() / losses.last.len() as f64;
            parts.push(format!("{objective}loss {} → {}", phrase::measure(losses.first), phrase::measure(last)));
        }
        if self.seconds > 0.0 {
            parts.push(format!("{} tokens/s", phrase::count(self.tokens as f64 / self.seconds)));
        }
        parts.join(", ")
    }
}
