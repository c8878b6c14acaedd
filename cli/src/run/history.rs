//! What a run has recorded so far, read back from its metrics.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{BufRead, BufReader};
use std::path::Path;

use anyhow::Context;
use serde::Deserialize;

use crate::report::{Moment, StepLoss};

/// The evaluations and training losses of one method.
#[derive(Debug, Clone, Default, PartialEq)]
pub(super) struct History {
    pub(super) moments: Vec<Moment>,
    pub(super) losses: Vec<StepLoss>,
    /// How far a phase had moved each unit, by name, at the last step where its weights were the best so far.
    pub(super) best_change: Option<(String, BTreeMap<String, f64>)>,
    /// What came last, if it was not evaluated any more.
    pub(super) unevaluated: Option<Point>,
}

/// A point of a run after which it may be evaluated.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(tag = "kind", rename_all = "kebab-case")]
pub(crate) enum Point {
    /// An optimizer step of a phase.
    Step {
        /// The phase.
        phase: String,
        /// Which of the phase's steps it was, from 1.
        step: usize,
        /// Of how many.
        steps: usize,
    },
    /// The end of a phase.
    PhaseEnd {
        /// The phase.
        phase: String,
    },
}

/// What an evaluation within a phase says beside its measures.
#[derive(Deserialize)]
struct Within {
    phase: Option<String>,
    #[serde(rename = "C")]
    change: Option<BTreeMap<String, f64>>,
}

/// The part of a record that says what it is.
#[derive(Deserialize)]
struct Kind {
    kind: String,
}

impl History {
    /// Reads a `metrics.jsonl`.
    pub(super) fn read(path: &Path) -> anyhow::Result<Self> {
        let file = File::open(path).with_context(|| format!("reading {}", path.display()))?;
        let mut history = Self::default();
        for (number, line) in BufReader::new(file).lines().enumerate() {
            let line = line.map_err(anyhow::Error::from).and_then(|line| history.enter(&line));
            line.with_context(|| {
                let remedy = "put the file back as it was, or remove it: table and plot then begin where the run goes on";
                format!("{}, line {}: no record of a run; {remedy}", path.display(), number + 1)
            })?;
        }
        Ok(history)
    }

    fn enter(&mut self, line: &str) -> anyhow::Result<()> {
        let Kind { kind } = serde_json::from_str(line)?;
        match kind.as_str() {
            "phase-end" => self.unevaluated = Some(serde_json::from_str(line)?),
            "evaluation" => {
                self.moments.push(serde_json::from_str(line)?);
                self.unevaluated = None;
                if let Within { phase: Some(phase), change: Some(change) } = serde_json::from_str(line)? {
                    let phase = phase.split_once(" step ").map_or(phase.as_str(), |(phase, _)| phase);
                    self.best_change = Some((phase.to_owned(), change));
                }
            }
            "step" => {
                self.losses.push(serde_json::from_str(line)?);
                self.unevaluated = Some(serde_json::from_str(line)?);
            }
            _ => {}
        }
        Ok(())
    }
}
