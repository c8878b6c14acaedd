//! The progress of a run: bars on a terminal, plain lines anywhere else. All of it goes to standard error.

mod bars;
mod lines;
mod phase;
mod status;

use std::io::{IsTerminal, Write};
use std::time::Instant;

use hbat::consolidation::{Degenerate, Rule};
use hbat::records::StepCost;
use hbat::trainer::{PhaseEnded, PhaseStarted, StepReport};
use indicatif::ProgressDrawTarget;

use super::pace::Pace;
use super::{Moment, phrase};
use bars::Bars;
use lines::Lines;
use phase::Course;
use status::{Gauge, Status};

/// What a run is going to do, as far as its display needs to know.
#[derive(Debug, Clone, PartialEq)]
pub struct Outline {
    /// The method, such as "hbat".
    pub method: String,
    /// Its phases, in order.
    pub phases: Vec<PhaseOutline>,
    /// The importance rule of the phases that consolidate.
    pub rule: Option<Rule>,
}

/// One phase of an [`Outline`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PhaseOutline {
    /// Its name, unique in the run. What precedes the first "-" is its kind; phases of a kind are equally fast.
    pub name: String,
    /// Its optimizer steps.
    pub steps: usize,
}

/// Which kind of message a line is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Tone {
    /// A phase or run begins.
    Begun,
    /// Something is done.
    Done,
    /// Something worth knowing.
    Note,
    /// Something to act upon.
    Warning,
}

enum Surface {
    Bars(Bars),
    Lines(Lines),
    /// Warnings alone.
    Quiet(Lines),
}

/// Seconds since some fixed moment.
type Clock = Box<dyn Fn() -> f64 + Send>;

/// Shows one run. Its driver calls it with every event; calls of a run that goes on after an interruption begin with the
/// phase that was interrupted.
///
/// Trouble with standard error itself is ignored: it is no reason to stop training.
pub struct Display {
    outline: Outline,
    surface: Surface,
    clock: Clock,
    begun: f64,
    pace: Pace,
    course: Option<Course>,
    /// The last phase that is over.
    ended: Option<String>,
    explained: Vec<Degenerate>,
    steps: usize,
}

impl Display {
    /// A display on standard error: bars if that is a terminal, plain lines otherwise. Colours only on a terminal and
    /// without `NO_COLOR`.
    pub fn new(outline: Outline) -> Self {
        let dumb = std::env::var_os("TERM").is_some_and(|term| term == "dumb");
        if std::io::stderr().is_terminal() && !dumb {
            let width = || usize::from(console::Term::stderr().size().1);
            Self::on(outline, Surface::Bars(Bars::new(ProgressDrawTarget::stderr(), Box::new(width))), stopwatch())
        } else {
            Self::lines(outline, Box::new(std::io::stderr()))
        }
    }

    /// A display of plain lines.
    pub fn lines(outline: Outline, writer: Box<dyn Write + Send>) -> Self {
        Self::on(outline, Surface::Lines(Lines::new(writer)), stopwatch())
    }

    /// A display of warnings alone.
    pub fn quiet(outline: Outline, writer: Box<dyn Write + Send>) -> Self {
        Self::on(outline, Surface::Quiet(Lines::new(writer)), stopwatch())
    }

    fn on(outline: Outline, surface: Surface, clock: Clock) -> Self {
        let begun = clock();
        let (pace, explained) = (Pace::default(), Vec::new());
        Self { outline, surface, clock, begun, pace, course: None, ended: None, explained, steps: 0 }
    }

    /// A file is about to be read; of so many bytes.
    pub fn loading(&mut self, what: &str, bytes: u64) {
        self.line(Tone::Note, &format!("loading {what} ({})", phrase::size(bytes)));
    }

    /// Something worth knowing.
    pub fn note(&mut self, text: &str) {
        self.line(Tone::Note, text);
    }

    /// Something to act upon.
    pub fn warn(&mut self, text: &str) {
        self.line(Tone::Warning, text);
    }

    /// A phase begins. Says how widely its penalty is spread, and explains once what is wrong with a degenerate one.
    pub fn started(&mut self, started: &PhaseStarted) {
        self.begin(&started.phase, started.steps);
        let frozen = match started.frozen {
            0 => String::new(),
            units => format!(", {units} units frozen"),
        };
        let phase = format!("{}{frozen}", self.position(&started.phase));
        self.line(Tone::Begun, &format!("{phase}, {}", phrase::counted(started.steps, "step")));
        let Some(report) = &started.importance else { return };
        self.line(Tone::Note, &format!("{}: {}", started.phase, phrase::held(report, self.outline.rule)));
        if let Some(kind) = report.degenerate.filter(|kind| !self.explained.contains(kind)) {
            self.explained.push(kind);
            if let Some(text) = phrase::warning(report, self.outline.rule) {
                self.line(Tone::Warning, &format!("{}: {text}", started.phase));
            }
        }
    }

    /// So many of the phase's preferences have their reference log-probabilities.
    pub fn scored(&mut self, done: usize, total: usize) {
        self.aside("references", done, total);
    }

    /// So many of the step's prompts are answered.
    pub fn answered(&mut self, done: usize, total: usize) {
        self.aside("answers", done, total);
    }

    /// So many of the phase's examples have added to the Fisher information.
    pub fn measured(&mut self, done: usize, total: usize) {
        self.aside("Fisher", done, total);
    }

    /// So many of the model's tensors are written into a folder.
    pub fn exported(&mut self, done: usize, total: usize) {
        self.aside("export", done, total);
    }

    /// So many of the validation examples are scored.
    pub fn validated(&mut self, done: usize, total: usize) {
        self.aside("validation", done, total);
    }

    /// An optimizer step was taken, at this cost.
    pub fn step(&mut self, report: &StepReport, cost: &StepCost) {
        let seconds = cost.seconds;
        if self.course.as_ref().is_none_or(|course| course.name != report.phase) {
            self.begin(&report.phase, report.steps);
        }
        self.steps += 1;
        self.pace.record(&report.phase, report.tokens, seconds);
        if let Some(course) = &mut self.course {
            course.record(report, seconds);
        }
        let left = self.pace.seconds(&report.phase, report.steps.saturating_sub(report.step));
        let (name, value) = phase::watched(report);
        let mean = self.course.as_ref().and_then(|course| course.mean(report.objective)).unwrap_or(value);
        let details = [
            Some(format!("{name} {}", phrase::measure(mean))),
            left.map(|seconds| format!("{} left", phrase::clock(seconds))),
            self.pace.tokens_per_second(&report.phase).map(|speed| format!("{} tokens/s", phrase::count(speed))),
            cost.utilisation.map(|part| format!("{:.0}% MFU", 100.0 * part)),
            cost.memory.map(|[_, peak]| format!("{} at most", phrase::size(peak))),
            (cost.transfer_seconds >= 0.01 * seconds)
                .then(|| format!("{:.0}% transfers", 100.0 * cost.transfer_seconds / seconds)),
        ];
        let details = details.into_iter().flatten().collect();
        self.show(Gauge { label: report.phase.clone(), done: report.step, total: report.steps, details });
    }

    /// A phase is over. Its line stays.
    pub fn ended(&mut self, ended: &PhaseEnded) {
        let now = (self.clock)();
        match self.course.take() {
            Some(course) => self.line(Tone::Done, &course.summary(now)),
            None => self.line(Tone::Done, &ended.phase),
        }
        self.ended = Some(ended.phase.clone());
    }

    /// Both objectives were evaluated.
    pub fn evaluated(&mut self, moment: &Moment) {
        if !moment.is_measured() {
            return;
        }
        let named = [("SFT loss", moment.sft_nll), ("accuracy", moment.accuracy), ("margin", moment.margin)];
        let named = named.into_iter().filter_map(|(name, value)| Some((name, value?)));
        let extra = moment.extra.iter().map(|(name, value)| (name.as_str(), *value));
        let values: Vec<String> = named.chain(extra).map(|(name, value)| format!("{name} {}", phrase::measure(value))).collect();
        self.line(Tone::Note, &format!("{}: {}", moment.label(), values.join(", ")));
    }

    /// The run is over: takes the bars away and says how long it took.
    pub fn finish(&mut self) {
        let seconds = phrase::took((self.clock)() - self.begun);
        self.line(Tone::Done, &format!("{}: {} in {seconds}", self.outline.method, phrase::counted(self.steps, "step")));
    }

    fn begin(&mut self, phase: &str, steps: usize) {
        self.pace.begin();
        self.course = Some(Course::new(phase, steps, (self.clock)()));
    }

    /// "dpo-1 (phase 2 of 4)".
    fn position(&self, phase: &str) -> String {
        let phases = &self.outline.phases;
        match phases.iter().position(|planned| planned.name == phase) {
            Some(index) => format!("{phase} (phase {} of {})", index + 1, phases.len()),
            None => phase.to_string(),
        }
    }

    /// Work of the phase that is no step.
    fn aside(&mut self, what: &str, done: usize, total: usize) {
        let label = self.course.as_ref().map_or(what.to_string(), |course| format!("{} {what}", course.name));
        self.show(Gauge { label, done, total, details: Vec::new() });
    }

    fn show(&mut self, phase: Gauge) {
        let run = self.run();
        let now = (self.clock)();
        match &mut self.surface {
            Surface::Bars(bars) => bars.show(&Status { phase, run }),
            Surface::Lines(lines) => lines.show(&Status { phase, run }, now),
            Surface::Quiet(_) => {}
        }
    }

    /// The whole run as it stands: within a phase, or after one, while it is validated.
    fn run(&self) -> Gauge {
        let phases = &self.outline.phases;
        let place = |name: &str| phases.iter().position(|planned| planned.name == name);
        let (index, done) = match (&self.course, &self.ended) {
            (Some(course), _) => (place(&course.name).unwrap_or(0), course.done),
            (None, Some(ended)) => (place(ended).map_or(0, |index| index + 1), 0),
            (None, None) => (0, 0),
        };
        let before: usize = phases[..index].iter().map(|planned| planned.steps).sum();
        let total = phases.iter().map(|planned| planned.steps).sum();
        let rest = phases[index..].iter().enumerate().map(|(ahead, planned)| {
            let done = if ahead == 0 { done } else { 0 };
            self.pace.seconds(&planned.name, planned.steps.saturating_sub(done))
        });
        let left: Option<f64> = rest.sum();
        let details = left.map(|seconds| format!("{} left", phrase::clock(seconds))).into_iter().collect();
        Gauge { label: self.outline.method.clone(), done: before + done, total, details }
    }

    fn line(&mut self, tone: Tone, text: &str) {
        let now = (self.clock)();
        match &mut self.surface {
            Surface::Bars(bars) => bars.line(tone, text),
            Surface::Lines(lines) => lines.line(tone, text, now),
            Surface::Quiet(lines) if tone == Tone::Warning => lines.line(tone, text, now),
            Surface::Quiet(_) => {}
        }
    }
}

fn stopwatch() -> Clock {
    let start = Instant::now();
    Box::new(move || start.elapsed().as_secs_f64())
}

#[cfg(test)]
mod tests;
