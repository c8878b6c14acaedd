//! Progress as plain lines, for files and pipes.

use std::io::Write;

use super::Tone;
use super::status::Status;

/// Seconds after which a line is due in any case.
const OFTEN: f64 = 30.0;
/// Seconds that a line for another tenth keeps from the line before, so that short phases leave their ends only.
const SELDOM: f64 = 2.0;

/// Plain lines on some writer.
pub(super) struct Lines {
    writer: Box<dyn Write + Send>,
    written: f64,
    /// What was shown last, and in which tenth of it that was.
    shown: (String, usize),
}

impl Lines {
    pub(super) fn new(writer: Box<dyn Write + Send>) -> Self {
        Self { writer, written: 0.0, shown: Default::default() }
    }

    /// Shows the status if it is time to.
    pub(super) fn show(&mut self, status: &Status, now: f64) {
        let phase = &status.phase;
        let tenth = (10 * phase.done).checked_div(phase.total).unwrap_or(10);
        let advanced = self.shown.0 != phase.label || self.shown.1 != tenth;
        let since = now - self.written;
        if phase.done == phase.total || !(since >= OFTEN || (advanced && since >= SELDOM)) {
            return;
        }
        self.shown = (phase.label.clone(), tenth);
        let run = status.run.details.iter().map(|left| format!("  {} {left}", status.run.label)).collect::<String>();
        self.write(&format!("{}{run}", phase.words()), now);
    }

    pub(super) fn line(&mut self, tone: Tone, text: &str, now: f64) {
        match tone {
            Tone::Begun | Tone::Done | Tone::Note => self.write(text, now),
            Tone::Warning => self.write(&format!("warning: {text}"), now),
        }
    }

    fn write(&mut self, text: &str, now: f64) {
        self.written = now;
        // A closed standard error must not stop the training.
        let _ = writeln!(self.writer, "{text}").and_then(|()| self.writer.flush());
    }
}
