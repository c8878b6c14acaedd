//! Colours of methods and shapes of phases.

use super::canvas::{Canvas, Ink};
use super::geometry::Point;
use super::{Picture, PlotError, methods};
use crate::report::pace::kind;

const WHITE: Ink = Ink(255, 255, 255);

/// The colours of Okabe and Ito, which differ under every common colour blindness; its yellow, too faint on white, is
/// left to the last.
const COLOURS: [Ink; 8] = [
    Ink(0, 114, 178),
    Ink(213, 94, 0),
    Ink(0, 158, 115),
    Ink(204, 121, 167),
    Ink(230, 159, 0),
    Ink(86, 180, 233),
    Ink(40, 40, 40),
    Ink(196, 182, 20),
];

/// The methods of a picture, each with its colour.
pub(super) struct Methods<'a>(Vec<&'a str>);

impl<'a> Methods<'a> {
    /// In order of appearance, moments first.
    pub(super) fn of(picture: &Picture<'a>) -> Self {
        let mut all = methods(picture.moments);
        for curve in picture.curves {
            if !all.contains(&curve.method.as_str()) {
                all.push(&curve.method);
            }
        }
        Self(all)
    }

    pub(super) fn colour(&self, method: &str) -> Ink {
        let index = self.0.iter().position(|known| *known == method).unwrap_or(0);
        COLOURS[index % COLOURS.len()]
    }

    pub(super) fn names(&self) -> &[&'a str] {
        &self.0
    }
}

/// The shape of a mark says after which kind of phase it was made.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Shape {
    /// The start.
    Ring,
    /// After training on demonstrations.
    Square,
    /// After training on preferences.
    Triangle,
    /// After anything else, such as both mixed.
    Diamond,
}

impl Shape {
    pub(super) fn after(phase: Option<&str>) -> Self {
        match phase.map(kind) {
            None => Self::Ring,
            Some("sft") => Self::Square,
            Some("dpo" | "ppo" | "rrhf" | "raft") => Self::Triangle,
            Some(_) => Self::Diamond,
        }
    }

    pub(super) fn meaning(self) -> &'static str {
        match self {
            Self::Ring => "start",
            Self::Square => "after demonstrations",
            Self::Triangle => "after preferences",
            Self::Diamond => "after both, mixed",
        }
    }

    /// Draws the mark with a white seam. All shapes of a size look equally large.
    pub(super) fn draw(self, canvas: &mut Canvas<'_>, at: Point, size: f64, ink: Ink) -> Result<(), PlotError> {
        self.fill(canvas, at, size + 1.6, WHITE)?;
        self.fill(canvas, at, size, ink)?;
        if self == Self::Ring { canvas.disc(at, 0.55 * size, WHITE) } else { Ok(()) }
    }

    /// The mark of a trajectory's end: with a ring of its own shape around it.
    pub(super) fn draw_end(self, canvas: &mut Canvas<'_>, at: Point, size: f64, ink: Ink) -> Result<(), PlotError> {
        self.fill(canvas, at, size + 6.6, WHITE)?;
        self.fill(canvas, at, size + 5.0, ink)?;
        self.fill(canvas, at, size + 2.6, WHITE)?;
        self.fill(canvas, at, size, ink)
    }

    fn fill(self, canvas: &mut Canvas<'_>, at: Point, size: f64, ink: Ink) -> Result<(), PlotError> {
        let corners = |offsets: &[(f64, f64)]| -> Vec<Point> {
            offsets.iter().map(|(right, down)| (at.0 + right * size, at.1 + down * size)).collect()
        };
        match self {
            Self::Ring => canvas.disc(at, size, ink),
            Self::Square => canvas.polygon(&corners(&[(-0.88, -0.88), (0.88, -0.88), (0.88, 0.88), (-0.88, 0.88)]), ink),
            Self::Triangle => canvas.polygon(&corners(&[(0.0, -1.25), (1.15, 0.75), (-1.15, 0.75)]), ink),
            Self::Diamond => canvas.polygon(&corners(&[(0.0, -1.25), (1.25, 0.0), (0.0, 1.25), (-1.25, 0.0)]), ink),
        }
    }
}
