use std::sync::{Arc, Mutex};

use hbat::trainer::ImportanceReport;
use indicatif::TermLike;

use super::*;

/// What a display has written, and the time it is shown.
#[derive(Debug, Clone, Default)]
struct Room {
    text: Arc<Mutex<String>>,
    time: Arc<Mutex<f64>>,
}

impl Room {
    fn lines(&self) -> Display {
        Display::on(outline(), Surface::Lines(Lines::new(Box::new(self.clone()))), self.clock())
    }

    fn bars(&self) -> Display {
        let target = ProgressDrawTarget::term_like(Box::new(self.clone()));
        Display::on(outline(), Surface::Bars(Bars::new(target, Box::new(|| 100))), self.clock())
    }

    fn clock(&self) -> Clock {
        let time = self.time.clone();
        Box::new(move || *time.lock().unwrap())
    }

    fn pass(&self, seconds: f64) {
        *self.time.lock().unwrap() += seconds;
    }

    fn text(&self) -> String {
        self.text.lock().unwrap().clone()
    }

    fn push(&self, text: &str) -> std::io::Result<()> {
        self.text.lock().unwrap().push_str(text);
        Ok(())
    }
}

impl Write for Room {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.push(std::str::from_utf8(bytes).unwrap())?;
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

/// A terminal that remembers what was written and forgets where.
impl TermLike for Room {
    fn width(&self) -> u16 {
        100
    }

    fn move_cursor_up(&self, _: usize) -> std::io::Result<()> {
        Ok(())
    }

    fn move_cursor_down(&self, _: usize) -> std::io::Result<()> {
        Ok(())
    }

    fn move_cursor_right(&self, _: usize) -> std::io::Result<()> {
        Ok(())
    }

    fn move_cursor_left(&self, _: usize) -> std::io::Result<()> {
        Ok(())
    }

    fn write_line(&self, text: &str) -> std::io::Result<()> {
        self.push(&format!("{text}\n"))
    }

    fn write_str(&self, text: &str) -> std::io::Result<()> {
        self.push(text)
    }

    fn clear_line(&self) -> std::io::Result<()> {
        self.push("\n")
    }

    fn flush(&self) -> std::io::Result<()> {
        Ok(())
    }
}

/// What a step costs that takes so many seconds, on a device that says nothing of itself.
fn cost(seconds: f64) -> StepCost {
    StepCost { seconds, ..StepCost::default() }
}

fn outline() -> Outline {
    let phase = |name: &str| PhaseOutline { name: name.into(), steps: 20 };
    Outline { method: "hbat".into(), phases: vec![phase("sft-1"), phase("dpo-1")], rule: Some(Rule::Paper) }
}

fn started(phase: &str, importance: Option<ImportanceReport>) -> PhaseStarted {
    PhaseStarted { phase: phase.into(), steps: 20, importance, frozen: 0 }
}

fn uniform() -> Option<ImportanceReport> {
    let (accumulated, importance) = (vec![1e-9; 12], vec![100.0 / 12.0; 12]);
    Some(ImportanceReport { accumulated, importance, effective_units: 12.0, degenerate: Some(Degenerate::Uniform) })
}

fn step(phase: &str, step: usize) -> StepReport {
    StepReport {
        phase: phase.into(),
        objective: if phase.starts_with("sft") { "sft" } else { "dpo" },
        step,
        steps: 20,
        loss: 2.0 / step as f64,
        penalty: 0.0,
        grad_norm: 1.0,
        penalty_grad_norm: 0.0,
        learning_rate: 1e-3,
        tokens: 500,
        metrics: Vec::new(),
    }
}

/// A whole run: slow demonstrations, a quick phase of preferences.
fn drive(display: &mut Display, room: &Room) {
    display.loading("model.safetensors", 513_000_000);
    display.started(&started("sft-1", None));
    for n in 1..=20 {
        room.pass(1.5);
        display.step(&step("sft-1", n), &cost(1.5));
    }
    display.ended(&PhaseEnded { phase: "sft-1".into(), change: Vec::new() });
    room.pass(3.0);
    display.validated(5, 10);
    display.started(&started("dpo-1", uniform()));
    room.pass(3.0);
    display.scored(10, 40);
    display.scored(40, 40);
    for n in 1..=20 {
        room.pass(0.05);
        display.step(&step("dpo-1", n), &cost(0.05));
    }
    display.ended(&PhaseEnded { phase: "dpo-1".into(), change: Vec::new() });
    room.pass(3.0);
    display.validated(5, 10);
    display.warn("something");
}

#[test]
fn lines_tell_a_run() {
    let room = Room::default();
    let mut display = room.lines();
    drive(&mut display, &room);
    display.finish();
    let expected = "\
loading model.safetensors (513 MB)
sft-1 (phase 1 of 2), 20 steps
sft-1  2/20  loss 1.500  0:27 left  333 tokens/s  hbat 0:57 left
sft-1  4/20  loss 1.042  0:24 left  333 tokens/s  hbat 0:54 left
sft-1  6/20  loss 0.817  0:21 left  333 tokens/s  hbat 0:51 left
sft-1  8/20  loss 0.679  0:18 left  333 tokens/s  hbat 0:48 left
sft-1 10/20  loss 0.586  0:15 left  333 tokens/s  hbat 0:45 left
sft-1 12/20  loss 0.321  0:12 left  333 tokens/s  hbat 0:42 left
sft-1 14/20  loss 0.234  0:09 left  333 tokens/s  hbat 0:39 left
sft-1 16/20  loss 0.186  0:06 left  333 tokens/s  hbat 0:36 left
sft-1 18/20  loss 0.155  0:03 left  333 tokens/s  hbat 0:33 left
sft-1: 20 steps in 30.0 s, loss 2.000 → 0.134, 333 tokens/s
validation  5/10  hbat 0:30 left
dpo-1 (phase 2 of 2), 20 steps
dpo-1: F: effective units 12.0 of 12 (paper)
warning: dpo-1: all 12 units are held alike, whatever the other objective changed in them: changes are so small that \
the rule `paper`, a plain softmax over them, is flat; choose the rule `relative` or `proportional` to hold most what \
changed most
dpo-1 references 10/40  hbat 0:30 left
dpo-1: 20 steps in 4.00 s, loss 2.000 → 0.134, 10,000 tokens/s
validation  5/10  hbat 0:00 left
warning: something
hbat: 40 steps in 40.0 s
";
    assert_eq!(room.text(), expected);
}

#[test]
fn a_slow_step_leaves_a_line_every_half_minute() {
    let room = Room::default();
    let mut display = room.lines();
    for n in [5, 5, 5, 5] {
        room.pass(16.0);
        display.step(&StepReport { steps: 1000, ..step("sft-1", n) }, &cost(16.0));
    }
    assert_eq!(room.text().lines().count(), 2, "{}", room.text());
}

#[test]
fn a_resumed_run_begins_within_a_phase() {
    let room = Room::default();
    let mut display = room.lines();
    for n in [11, 12] {
        room.pass(40.0);
        display.step(&step("dpo-1", n), &cost(40.0));
    }
    let text = room.text();
    assert!(text.starts_with("dpo-1 11/20  loss 0.182\n"), "no time left from the warm-up step: {text}");
    assert!(text.contains("dpo-1 12/20  loss 0.174  5:20 left  12 tokens/s  hbat 5:20 left"), "{text}");
}

#[test]
fn degenerate_importances_are_explained_once() {
    let room = Room::default();
    let mut display = room.lines();
    for _ in 0..3 {
        display.started(&started("dpo-1", uniform()));
    }
    assert_eq!(room.text().matches("effective units 12.0 of 12 (paper)").count(), 3);
    assert_eq!(room.text().matches("warning:").count(), 1);
}

#[test]
fn an_evaluation_is_a_line() {
    let room = Room::default();
    let extra = vec![("exact match".to_string(), 0.5)];
    let moment = Moment { method: "hbat".into(), phase: None, sft_nll: Some(1.25), accuracy: None, margin: Some(0.0), extra };
    room.lines().evaluated(&moment);
    assert_eq!(room.text(), "start: SFT loss 1.250, margin 0.000, exact match 0.500\n");
}

#[test]
fn bars_leave_the_summaries_and_go() {
    let room = Room::default();
    let mut display = room.bars();
    drive(&mut display, &room);
    display.finish();
    let text = room.text();
    for line in ["✓ sft-1: 20 steps in 30.0 s", "✓ hbat: 40 steps in 40.0 s", "! something", "loading model"] {
        assert!(text.contains(line), "{line} in {text}");
    }
    assert!(text.contains("━") && text.contains("loss 2.000"), "{text}");
    assert!(!text.contains("phase 1 of 2"), "the bar says so: {text}");
    assert!(!text.contains('\u{1b}'), "no colours where nobody sees them");
}
