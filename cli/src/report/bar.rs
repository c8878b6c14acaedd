//! A bar for one piece of work outside a training run. Shown on a terminal alone.

use indicatif::{ProgressBar, ProgressStyle};

/// How far one piece of work is.
#[derive(Debug)]
pub struct Bar(ProgressBar);

impl Bar {
    /// So many examples.
    pub fn items(what: &str, total: u64) -> Self {
        Self::new(what, total, "{msg:>24} [{wide_bar}] {pos}/{len} {eta}")
    }

    /// So many bytes.
    pub fn bytes(what: &str, total: u64) -> Self {
        Self::new(what, total, "{msg:>24} [{wide_bar}] {bytes}/{total_bytes}")
    }

    fn new(what: &str, total: u64, template: &str) -> Self {
        let style = ProgressStyle::with_template(template).expect("the template is well formed");
        Self(ProgressBar::new(total).with_style(style).with_message(what.to_owned()))
    }

    /// So much more is done.
    pub fn advance(&mut self, by: u64) {
        self.0.inc(by);
    }

    /// Does what prints, while the bar is out of its way.
    pub fn hidden<T>(&self, print: impl FnOnce() -> T) -> T {
        self.0.suspend(print)
    }

    /// So much is done.
    pub fn set(&mut self, done: u64) {
        self.0.set_position(done);
    }
}

impl Drop for Bar {
    fn drop(&mut self) {
        self.0.finish_and_clear();
    }
}
