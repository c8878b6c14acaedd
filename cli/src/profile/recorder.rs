//! A clock for the parts of a step.

use std::sync::{Mutex, PoisonError};
use std::time::Instant;

use burn::tensor::Device;
use hbat::watch::{Part, Watch};

/// A part of a step, in seconds since the recorder began.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Span {
    /// Which.
    pub part: Part,
    /// When it began.
    pub from: f64,
    /// When it ended.
    pub to: f64,
    /// How much of it lay in parts within it.
    pub within: f64,
}

impl Span {
    /// Seconds, without parts within it.
    pub fn own(&self) -> f64 {
        (self.to - self.from - self.within).max(0.0)
    }
}

/// Seconds of a part, without parts within it.
pub fn seconds(spans: &[Span], part: Part) -> f64 {
    spans.iter().filter(|span| span.part == part).fold(0.0, |sum, span| sum + span.own())
}

/// What a recorder counts as the end of a part.
#[derive(Debug)]
pub enum End {
    /// That the device has been told what to do.
    Told,
    /// That this device has done it.
    Done(Device),
}

/// Records when parts begin and end.
#[derive(Debug)]
pub struct Recorder {
    began: Instant,
    end: End,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    /// Parts under way: since when, and how much of it lay in parts within it.
    open: Vec<(Part, f64, f64)>,
    spans: Vec<Span>,
}

impl Recorder {
    /// Begins.
    pub fn new(end: End) -> Self {
        Self { began: Instant::now(), end, state: Mutex::default() }
    }

    /// Seconds since the recorder began.
    pub fn now(&self) -> f64 {
        self.began.elapsed().as_secs_f64()
    }

    /// What ended since this was last called, in order of its end.
    pub fn take(&self) -> Vec<Span> {
        std::mem::take(&mut self.state.lock().unwrap_or_else(PoisonError::into_inner).spans)
    }

    /// Waits for the device, where that is asked for. A device that fails says so to whoever reads from it next.
    fn settle(&self) {
        if let End::Done(device) = &self.end {
            let _ = device.sync();
        }
    }
}

impl Watch for Recorder {
    fn begin(&self, part: Part) {
        self.settle();
        let now = self.now();
        self.state.lock().unwrap_or_else(PoisonError::into_inner).open.push((part, now, 0.0));
    }

    fn end(&self, _: Part) {
        self.settle();
        let now = self.now();
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        let Some((part, from, within)) = state.open.pop() else { return };
        if state.open.iter().any(|(outer, ..)| outer.is_whole()) {
            return;
        }
        if let Some((.., outer)) = state.open.last_mut() {
            *outer += now - from;
        }
        state.spans.push(Span { part, from, to: now, within });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_within_parts_are_taken_off() {
        let recorder = Recorder::new(End::Done(Device::flex()));
        recorder.begin(Part::Backward);
        recorder.begin(Part::Recompute);
        std::thread::sleep(std::time::Duration::from_millis(5));
        recorder.end(Part::Recompute);
        recorder.end(Part::Backward);
        let spans = recorder.take();
        let [recompute, backward] = spans[..] else { panic!("{spans:?}") };
        assert_eq!((recompute.part, backward.part), (Part::Recompute, Part::Backward));
        assert!(recompute.own() >= 5e-3 && (backward.within - recompute.own()).abs() < 1e-9);
        assert!(backward.own() < backward.to - backward.from - 4e-3);
        assert!(recorder.take().is_empty());
    }

    #[test]
    fn what_lies_within_a_whole_belongs_to_it() {
        let recorder = Recorder::new(End::Told);
        for part in [Part::Answers, Part::Forward, Part::Head] {
            recorder.begin(part);
        }
        std::thread::sleep(std::time::Duration::from_millis(2));
        for part in [Part::Head, Part::Forward, Part::Answers] {
            recorder.end(part);
        }
        let spans = recorder.take();
        let [answers] = spans[..] else { panic!("{spans:?}") };
        assert!(answers.part == Part::Answers && answers.own() >= 2e-3);
    }
}
