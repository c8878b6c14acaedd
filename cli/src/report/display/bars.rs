//! Progress as bars, on a terminal: one for the phase and one for the run, below the lines that stay.

use std::time::Duration;

use console::{Style, measure_text_width, style};
use indicatif::{MultiProgress, ProgressBar, ProgressDrawTarget, ProgressStyle};

use super::Tone;
use super::status::{Gauge, Status};

/// Columns taken by the spinner and the space behind it, and one that stays free so that no terminal wraps.
const MARGIN: usize = 3;

/// Bars on a terminal of some width.
pub(super) struct Bars {
    all: MultiProgress,
    phase: ProgressBar,
    run: ProgressBar,
    columns: Box<dyn Fn() -> usize + Send>,
}

impl Bars {
    pub(super) fn new(target: ProgressDrawTarget, columns: Box<dyn Fn() -> usize + Send>) -> Self {
        let all = MultiProgress::with_draw_target(target);
        let (phase, run) = (ProgressBar::no_length(), ProgressBar::no_length());
        Self { all, phase, run, columns }
    }

    pub(super) fn show(&mut self, status: &Status) {
        if self.phase.is_hidden() {
            self.put_up();
        }
        let columns = (self.columns)().saturating_sub(MARGIN);
        let label = measure_text_width(&status.phase.label).max(measure_text_width(&status.run.label)) + 1;
        self.phase.set_message(coloured(&status.phase, columns, label));
        self.run.set_message(coloured(&status.run, columns, label));
    }

    /// Bars appear with the first thing they have to show. The phase's spinner turns while a step takes long.
    fn put_up(&mut self) {
        self.phase = self.all.add(ProgressBar::new_spinner().with_style(template("{spinner:.cyan} {wide_msg}")));
        self.run = self.all.add(ProgressBar::new_spinner().with_style(template("  {wide_msg}")));
        self.phase.enable_steady_tick(Duration::from_millis(120));
    }

    pub(super) fn line(&mut self, tone: Tone, text: &str) {
        let line = match tone {
            // The bar itself says so.
            Tone::Begun => return,
            Tone::Done => format!("{} {text}", style("✓").green().for_stderr()),
            Tone::Note => format!("  {}", style(text).dim().for_stderr()),
            Tone::Warning => format!("{} {text}", style("! warning:").yellow().bold().for_stderr()),
        };
        // A closed standard error must not stop the training.
        let _ = self.all.println(line);
    }
}

impl Drop for Bars {
    /// Leaves the terminal to whatever comes next, be it a table or an error.
    fn drop(&mut self) {
        self.phase.finish_and_clear();
        self.run.finish_and_clear();
        let _ = self.all.clear();
    }
}

fn template(text: &str) -> ProgressStyle {
    ProgressStyle::with_template(text).expect("the templates above are valid")
}

fn coloured(gauge: &Gauge, columns: usize, label: usize) -> String {
    let bar = gauge.bar(columns, label);
    let paint = |style: Style, text: &str| style.for_stderr().apply_to(text.to_string());
    let space = if bar.full.is_empty() && bar.rest.is_empty() { "" } else { " " };
    let (full, rest) = (paint(Style::new().cyan(), &bar.full), paint(Style::new().dim(), &bar.rest));
    format!("{}{full}{rest}{space}{}", bar.head, bar.tail)
}
