//! Which method was in which phase at which step.

use super::canvas::{Align, Canvas, Ink, Type};
use super::frame::{Frame, GREY};
use super::geometry::Rect;
use super::mark::{Methods, Shape};
use super::{Curve, PlotError};

/// Height of a method's row and the space below it.
const ROW: (f64, f64) = (15.0, 4.0);
const WHITE: Ink = Ink(255, 255, 255);

/// A phase in steps.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Band<'a> {
    pub(super) phase: &'a str,
    /// The step before its first, and its last.
    pub(super) from: usize,
    pub(super) to: usize,
}

/// The phases of a curve.
pub(super) fn bands(curve: &Curve) -> Vec<Band<'_>> {
    let mut bands: Vec<Band<'_>> = Vec::new();
    for step in &curve.steps {
        match bands.last_mut() {
            Some(band) if band.phase == step.phase => band.to = step.global_step,
            last => {
                let from = last.map_or(step.global_step.saturating_sub(1), |band| band.to);
                bands.push(Band { phase: &step.phase, from, to: step.global_step });
            }
        }
    }
    bands
}

/// Height of so many rows.
pub(super) fn height(rows: usize) -> f64 {
    rows as f64 * (ROW.0 + ROW.1)
}

/// Draws a row of bands for each method from the top of the frame.
pub(super) fn draw(canvas: &mut Canvas<'_>, curves: &[&Curve], methods: &Methods<'_>, frame: &Frame) -> Result<(), PlotError> {
    for (row, curve) in curves.iter().enumerate() {
        let top = frame.rect.top + height(row);
        for band in bands(curve) {
            let across = |step: usize| frame.at(step as f64, 0.0).0;
            let rect = Rect { left: across(band.from), top, right: across(band.to), bottom: top + ROW.0 };
            draw_band(canvas, rect, band.phase, methods.colour(&curve.method))?;
        }
    }
    Ok(())
}

/// Demonstrations pale, preferences strong, mixed between; with the phase's name if there is space, else its number.
fn draw_band(canvas: &mut Canvas<'_>, rect: Rect, phase: &str, ink: Ink) -> Result<(), PlotError> {
    let fill = match Shape::after(Some(phase)) {
        Shape::Square => ink.tint(0.22),
        Shape::Triangle => ink.tint(0.85),
        Shape::Ring | Shape::Diamond => ink.tint(0.5),
    };
    let letters = if fill.is_light() { ink.shade(0.6) } else { WHITE };
    let seam = if rect.width() > 4.0 { 0.7 } else { 0.0 };
    canvas.rect(Rect { left: rect.left + seam, right: rect.right - seam, ..rect }, fill)?;
    let kind = Type::new(9.5, letters).aligned(Align::Centre);
    let number = phase.rsplit('-').next().unwrap_or(phase);
    let fitting = [phase, number].into_iter().find(|text| kind.width(text) + 4.0 <= rect.width());
    let middle = ((rect.left + rect.right) / 2.0, rect.bottom - 4.2);
    fitting.map_or(Ok(()), |text| canvas.text(text, middle, kind))
}

/// Shades the phases of the only method behind its losses.
pub(super) fn shade(canvas: &mut Canvas<'_>, curve: &Curve, frame: &Frame) -> Result<(), PlotError> {
    for band in bands(curve) {
        let ink = match Shape::after(Some(band.phase)) {
            Shape::Square => GREY.tint(0.06),
            Shape::Triangle => GREY.tint(0.13),
            Shape::Ring | Shape::Diamond => GREY.tint(0.09),
        };
        let across = |step: usize| frame.at(step as f64, 0.0).0;
        canvas.rect(Rect { left: across(band.from), right: across(band.to), ..frame.rect }, ink)?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::super::StepLoss;
    use super::*;

    #[test]
    fn phases_are_runs_of_steps() {
        let step = |phase: &str, global_step| StepLoss {
            phase: phase.into(),
            objective: "sft".into(),
            global_step,
            loss: None,
            score: None,
        };
        let steps = vec![step("sft-1", 3), step("sft-1", 4), step("dpo-1", 5), step("sft-2", 6)];
        let curve = Curve { method: "hbat".into(), steps };
        let found = bands(&curve);
        assert_eq!(
            found,
            [
                Band { phase: "sft-1", from: 2, to: 4 },
                Band { phase: "dpo-1", from: 4, to: 5 },
                Band { phase: "sft-2", from: 5, to: 6 }
            ]
        );
    }
}
