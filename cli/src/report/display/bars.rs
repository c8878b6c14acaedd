//! Progress as bars, on a terminal: one for the phase and one for the run, below the lines that stay.

use std::time::Duration;

use console::{Style, measure_text_width, style};
use indicatif::{MultiProgress, ProgressBar, ProgressDrawTarget, ProgressStyle};

use super::Tone;
use super::status::{Bar, Gauge, Status};
use crate::report::phrase;

/// Columns taken by the spinner and the space behind it, and one that stays free so that no terminal wraps.
const MARGIN: usize = 3;

/// Bars on a terminal of some width.
pub(super) struct Bars {
    all: MultiProgress,
    /// The phase's and the run's, once there is something to show.
    shown: Option<(ProgressBar, ProgressBar)>,
    columns: Box<dyn Fn() -> usize + Send>,
}

impl Bars {
    pub(super) fn new(target: ProgressDrawTarget, columns: Box<dyn Fn() -> usize + Send>) -> Self {
        Self { all: MultiProgress::with_draw_target(target), shown: None, columns }
    }

    pub(super) fn show(&mut self, status: &Status) {
        let columns = (self.columns)().saturating_sub(MARGIN);
        let label = measure_text_width(&status.phase.label).max(measure_text_width(&status.run.label)) + 1;
        let (phase, run) = self.shown.get_or_insert_with(|| put_up(&self.all));
        let bars = [&status.phase, &status.run].map(|gauge| (gauge, gauge.bar(columns, label)));
        let length = bars[0].1.length.min(bars[1].1.length);
        phase.set_message(coloured(bars[0].0, &bars[0].1, length));
        run.set_message(coloured(bars[1].0, &bars[1].1, length));
    }

    pub(super) fn line(&mut self, tone: Tone, text: &str) {
        let (sign, ink) = match tone {
            // The bar itself says so.
            Tone::Begun => return,
            Tone::Done => (style("✓").green(), Style::new()),
            Tone::Note => (style(" "), Style::new().dim()),
            Tone::Warning => (style("!").yellow().bold(), Style::new().yellow()),
        };
        let columns = (self.columns)().saturating_sub(MARGIN);
        for (index, part) in phrase::wrap(text, columns).into_iter().enumerate() {
            let sign = if index == 0 { sign.clone() } else { style(" ") };
            // A closed standard error must not stop the training.
            let _ = self.all.println(format!("{} {}", sign.for_stderr(), ink.clone().for_stderr().apply_to(part)));
        }
    }
}

impl Drop for Bars {
    /// Leaves the terminal to whatever comes next, be it a table or an error.
    fn drop(&mut self) {
        if let Some((phase, run)) = &self.shown {
            phase.finish_and_clear();
            run.finish_and_clear();
        }
    }
}

/// Two bars. The phase's spinner turns while a step takes long.
fn put_up(all: &MultiProgress) -> (ProgressBar, ProgressBar) {
    let add = |text: &str| {
        let style = ProgressStyle::with_template(text).expect("the templates below are valid");
        all.add(ProgressBar::new_spinner().with_style(style))
    };
    let bars = (add("{spinner:.cyan} {wide_msg}"), add("  {wide_msg}"));
    bars.0.enable_steady_tick(Duration::from_millis(120));
    bars
}

fn coloured(gauge: &Gauge, bar: &Bar, length: usize) -> String {
    let [full, rest] = gauge.filled(length).map(style);
    let space = if length == 0 { "" } else { " " };
    format!("{}{}{}{space}{}", bar.head, full.cyan().for_stderr(), rest.dim().for_stderr(), bar.tail)
}
