//! Where a run's time goes: what a step costs, always; and for `--profile` every part of the first steps of each phase, as a table
//! and as a trace that Chrome (`chrome://tracing`) and Perfetto show.

mod cost;
mod recorder;
mod text;

use std::path::Path;

use hbat::trainer::StepReport;
use hbat::watch::Part;

pub(crate) use cost::Meter;
pub use recorder::{End, Recorder, Span, seconds};

/// A step and its parts.
#[derive(Debug, Clone, PartialEq)]
struct Recorded {
    phase: String,
    step: usize,
    from: f64,
    to: f64,
    spans: Vec<Span>,
}

impl Recorded {
    /// Seconds of a part, without parts within it.
    fn seconds(&self, part: Part) -> f64 {
        seconds(&self.spans, part)
    }

    /// Seconds of the whole step.
    fn total(&self) -> f64 {
        self.to - self.from
    }
}

/// The steps that are profiled.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Profile {
    /// Steps of each phase, the first of this process left out where there are several: it compiles kernels and fills allocators.
    wanted: usize,
    /// The phase of the last step, and how many of its steps this process has seen.
    seen: (String, usize),
    steps: Vec<Recorded>,
}

impl Profile {
    /// So many steps of each phase.
    pub(crate) fn new(wanted: usize) -> Self {
        Self { wanted, seen: (String::new(), 0), steps: Vec::new() }
    }

    /// Takes note of a step and its parts.
    pub(crate) fn note(&mut self, report: &StepReport, (from, to): (f64, f64), spans: Vec<Span>) {
        if self.seen.0 != report.phase {
            self.seen = (report.phase.clone(), 0);
        }
        self.seen.1 += 1;
        let only = report.steps == 1;
        if only || (2..self.wanted + 2).contains(&self.seen.1) {
            self.steps.push(Recorded { phase: report.phase.clone(), step: report.step, from, to, spans });
        }
    }

    /// Writes `profile.md` and `profile.json` into the run's folder, and whether there was anything to write.
    pub(crate) fn write(&self, folder: &Path) -> std::io::Result<bool> {
        if self.steps.is_empty() {
            return Ok(false);
        }
        std::fs::write(folder.join("profile.md"), text::table(&self.steps))?;
        std::fs::write(folder.join("profile.json"), text::trace(&self.steps))?;
        Ok(true)
    }
}
