//! The course of one phase.

use std::collections::{BTreeMap, VecDeque};

use hbat::trainer::StepReport;

use crate::report::phrase;

/// Steps that a phase's last loss is the mean of: one batch is too noisy to be shown.
const WINDOW: usize = 10;

/// The first and the last of what an objective is watched by.
struct Watched {
    name: &'static str,
    first: f64,
    last: VecDeque<f64>,
}

impl Watched {
    /// The mean of the last.
    fn mean(&self) -> f64 {
        self.last.iter().sum::<f64>() / self.last.len() as f64
    }
}

/// What a step is watched by: its loss, but where a judge scores answers, whose mean says more.
pub(super) fn watched(report: &StepReport) -> (&'static str, f64) {
    let score = report.metrics.iter().find(|(name, _)| *name == "score");
    score.copied().unwrap_or(("loss", report.loss))
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
    watched: BTreeMap<&'static str, Watched>,
}

impl Course {
    pub(super) fn new(name: &str, steps: usize, now: f64) -> Self {
        let watched = BTreeMap::new();
        Self { name: name.to_string(), done: 0, steps, taken: 0, begun: now, seconds: 0.0, tokens: 0, watched }
    }

    pub(super) fn record(&mut self, report: &StepReport, seconds: f64) {
        self.done = report.step;
        self.taken += 1;
        self.seconds += seconds;
        self.tokens += report.tokens;
        let (name, value) = watched(report);
        let of_objective =
            self.watched.entry(report.objective).or_insert_with(|| Watched { name, first: value, last: VecDeque::new() });
        if of_objective.last.len() == WINDOW {
            of_objective.last.pop_front();
        }
        of_objective.last.push_back(value);
    }

    /// The mean of the last that the objective is watched by.
    pub(super) fn mean(&self, objective: &str) -> Option<f64> {
        self.watched.get(objective).map(Watched::mean)
    }

    /// "sft-1: 32 steps in 12.3 s, loss 2.310 → 0.412, 2,345 tokens/s".
    pub(super) fn summary(&self, now: f64) -> String {
        let taken = match self.taken {
            taken if taken == self.steps => phrase::counted(taken, "step"),
            taken => format!("the last {} of {}", phrase::counted(taken, "step"), self.steps),
        };
        let mut parts = vec![format!("{}: {taken} in {}", self.name, phrase::took(now - self.begun))];
        for (objective, watched) in &self.watched {
            let objective = if self.watched.len() > 1 { format!("{objective} ") } else { String::new() };
            let [first, last] = [watched.first, watched.mean()].map(phrase::measure);
            parts.push(format!("{objective}{} {first} → {last}", watched.name));
        }
        if self.seconds > 0.0 {
            parts.push(format!("{} tokens/s", phrase::count(self.tokens as f64 / self.seconds)));
        }
        parts.join(", ")
    }
}
