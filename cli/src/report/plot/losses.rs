//! Training losses over steps, a panel per objective.

use std::f64::consts::LN_2;

use super::axis::Axis;
use super::canvas::{Align, Canvas, Ink, Type};
use super::frame::{Frame, GREY, HEADING, heading, scale_note};
use super::geometry::{Point, Rect};
use super::mark::Methods;
use super::{Curve, PlotError, phases};

/// Losses further apart than this ratio are shown on a logarithmic axis.
const RATIO: f64 = 20.0;
/// At most so many points are drawn of a curve: more than there are pixels for.
const POINTS: usize = 600;
/// The moving mean looks so small a part of all its steps ahead and back.
const PART: usize = 60;
/// Single steps are drawn behind the mean up to so many of them.
const SINGLE: usize = 4000;
/// Points between two panels.
const GAP: f64 = 42.0;
/// Panels that fit; further objectives are left out.
const PANELS: usize = 3;

/// Losses of one method on one objective: a line per phase, each of (step, loss).
struct Line {
    ink: Ink,
    phases: Vec<Vec<(f64, f64)>>,
}

/// All there is to draw about training losses.
pub(super) struct Losses<'a> {
    curves: Vec<&'a Curve>,
    methods: &'a Methods<'a>,
    objectives: Vec<&'a str>,
    last: usize,
}

impl<'a> Losses<'a> {
    /// `None` if there is no loss to show.
    pub(super) fn of(curves: &'a [Curve], methods: &'a Methods<'a>) -> Option<Self> {
        let curves: Vec<&Curve> = curves.iter().filter(|curve| !curve.steps.is_empty()).collect();
        let mut objectives: Vec<&str> = Vec::new();
        for step in curves.iter().flat_map(|curve| &curve.steps).filter(|step| step.shown().is_some()) {
            if !objectives.contains(&step.objective.as_str()) {
                objectives.push(&step.objective);
            }
        }
        objectives.sort_by_key(|objective| *objective != "sft");
        objectives.truncate(PANELS);
        let last = curves.iter().flat_map(|curve| &curve.steps).map(|step| step.global_step).max()?;
        (!objectives.is_empty()).then_some(Self { curves, methods, objectives, last })
    }

    /// The phases on top, the panels below each other.
    pub(super) fn draw(&self, canvas: &mut Canvas<'_>, rect: Rect) -> Result<(), PlotError> {
        canvas.text("Phases", (rect.left + HEADING, rect.top - 14.0), heading())?;
        let count = self.objectives.len() as f64;
        let top = rect.top + phases::height(self.curves.len()) + GAP - 8.0;
        let height = (rect.bottom - top - GAP * (count - 1.0)) / count;
        for (index, objective) in self.objectives.iter().enumerate() {
            let top = top + index as f64 * (height + GAP);
            self.panel(canvas, objective, Rect { top, bottom: top + height, ..rect })?;
        }
        let steps = self.frame(rect, Axis::between(0.0, 1.0));
        steps.number_x(canvas)?;
        phases::draw(canvas, &self.curves, self.methods, &steps)?;
        canvas.text("Optimizer step", (rect.right, rect.bottom + 42.0), heading().aligned(Align::Right))
    }

    fn frame(&self, rect: Rect, y: Axis) -> Frame {
        Frame { rect, x: Axis::between(0.0, self.last as f64), y }
    }

    fn panel(&self, canvas: &mut Canvas<'_>, objective: &str, rect: Rect) -> Result<(), PlotError> {
        let lines: Vec<Line> = self.curves.iter().map(|curve| line(curve, objective, self.methods)).collect();
        let smooth: Vec<Line> = lines.iter().map(Line::smooth).collect();
        let values = smooth.iter().flat_map(|line| &line.phases).flatten().map(|(_, loss)| *loss);
        let frame = self.frame(rect, Axis::fit(values, 0.12, RATIO));
        if let [only] = self.curves[..] {
            phases::shade(canvas, only, &frame)?;
        }
        frame.draw_y(canvas)?;
        frame.draw_x(canvas)?;
        if objective == "dpo" && frame.y.shows(LN_2) {
            undecided(canvas, &frame)?;
        }
        for (line, smooth) in lines.iter().zip(&smooth) {
            if (PART..=SINGLE).contains(&line.len()) {
                line.draw(canvas, &frame, 0.8, line.ink.tint(0.3))?;
            }
            smooth.draw(canvas, &frame, 2.0, line.ink)?;
        }
        frame.draw_edges(canvas)?;
        canvas.text(&title(objective, &frame.y), (rect.left + HEADING, rect.top - 14.0), heading())
    }
}

fn title(objective: &str, axis: &Axis) -> String {
    if matches!(objective, "ppo" | "raft") {
        return format!("Score of answers in training ({}){}", objective.to_uppercase(), scale_note(axis));
    }
    let unit = if objective == "sft" { ", nats per token" } else { "" };
    let name = if objective == "reward" { "Reward model's".into() } else { objective.to_uppercase() };
    let name = heading().cut(&name, 120.0);
    format!("{name} loss in training{unit}{}", scale_note(axis))
}

/// The DPO loss of a policy that prefers neither response.
fn undecided(canvas: &mut Canvas<'_>, frame: &Frame) -> Result<(), PlotError> {
    let (_, height) = frame.at(0.0, LN_2);
    canvas.dashes((frame.rect.left, height), (frame.rect.right, height), 1.0, GREY.tint(0.7))?;
    let kind = Type::new(10.5, GREY).aligned(Align::Right);
    canvas.text_on_lines("ln 2: undecided", (frame.rect.right - 4.0, height - 5.0), kind)
}

fn line(curve: &Curve, objective: &str, methods: &Methods<'_>) -> Line {
    let mut phases: Vec<Vec<(f64, f64)>> = Vec::new();
    let mut phase = None;
    for step in curve.steps.iter().filter(|step| step.objective == objective) {
        let Some(loss) = step.shown() else { continue };
        if phase.replace(&step.phase) != Some(&step.phase) {
            phases.push(Vec::new());
        }
        phases.last_mut().expect("one was pushed").push((step.global_step as f64, loss));
    }
    Line { ink: methods.colour(&curve.method), phases }
}

impl Line {
    fn len(&self) -> usize {
        self.phases.iter().map(Vec::len).sum()
    }

    /// The moving mean within every phase, thinned out to what can be seen.
    fn smooth(&self) -> Self {
        let (reach, every) = (self.len() / PART, self.len().div_ceil(POINTS).max(1));
        let phases = self.phases.iter().map(|phase| {
            let mean = |index: usize| {
                let around = &phase[index.saturating_sub(reach)..(index + reach + 1).min(phase.len())];
                (phase[index].0, around.iter().map(|(_, loss)| loss).sum::<f64>() / around.len() as f64)
            };
            let kept = (0..phase.len()).filter(|index| index % every == 0 || index + 1 == phase.len());
            kept.map(mean).collect()
        });
        Self { ink: self.ink, phases: phases.collect() }
    }

    /// A line for each phase, a dot for a phase of one step.
    fn draw(&self, canvas: &mut Canvas<'_>, frame: &Frame, width: f64, ink: Ink) -> Result<(), PlotError> {
        for phase in &self.phases {
            let points: Vec<Point> = phase.iter().map(|(step, loss)| frame.at(*step, *loss)).collect();
            match points[..] {
                [only] => canvas.disc(only, width, ink)?,
                _ => canvas.stroke(&points, width, ink)?,
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_mean_stays_within_its_phase() {
        let phase = |level: f64| (0..240).map(|n| (f64::from(n), level + f64::from(n % 2))).collect::<Vec<_>>();
        let line = Line { ink: Ink(0, 0, 0), phases: vec![phase(0.0), phase(100.0)] };
        let smooth = line.smooth();
        assert!(smooth.phases[0].iter().all(|(_, loss)| (0.4..0.6).contains(loss)), "{:?}", smooth.phases[0]);
        assert!(smooth.phases[1].iter().all(|(_, loss)| (100.4..100.6).contains(loss)));
    }

    #[test]
    fn long_curves_are_thinned_out_and_keep_their_ends() {
        let line = Line { ink: Ink(0, 0, 0), phases: vec![(0..100_000).map(|n| (f64::from(n), 1.0)).collect()] };
        let smooth = line.smooth();
        assert!(smooth.len() <= POINTS + 1);
        assert_eq!((smooth.phases[0][0].0, smooth.phases[0][smooth.len() - 1].0), (0.0, 99_999.0));
    }
}
