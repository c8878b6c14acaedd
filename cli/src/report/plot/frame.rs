//! A panel: two axes with a grid, and where values lie on it.

use super::PlotError;
use super::axis::{Axis, Scale};
use super::canvas::{Align, Canvas, Ink, Type};
use super::geometry::{Point, Rect};

/// Titles.
pub(super) const DARK: Ink = Ink(34, 34, 38);
/// Explanations and numbers on axes.
pub(super) const GREY: Ink = Ink(96, 96, 104);
/// Axes.
pub(super) const PALE: Ink = Ink(170, 170, 178);
/// Grids.
pub(super) const FAINT: Ink = Ink(232, 232, 236);

/// Where a panel's heading begins, from its left edge.
pub(super) const HEADING: f64 = -48.0;
/// Points between two ticks, across and down.
const SPACING: (f64, f64) = (90.0, 60.0);

/// A rectangle that shows values of x and y.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Frame {
    pub(super) rect: Rect,
    pub(super) x: Axis,
    pub(super) y: Axis,
}

impl Frame {
    /// Where the values lie, those outside at the edge.
    pub(super) fn at(&self, x: f64, y: f64) -> Point {
        let across = self.x.position(x).clamp(0.0, 1.0);
        let up = self.y.position(y).clamp(0.0, 1.0);
        (self.rect.left + across * self.rect.width(), self.rect.bottom - up * self.rect.height())
    }

    /// Grid and numbers along y.
    pub(super) fn draw_y(&self, canvas: &mut Canvas<'_>) -> Result<(), PlotError> {
        let Rect { left, right, .. } = self.rect;
        for (value, label) in self.y.ticks((self.rect.height() / SPACING.1) as usize + 1) {
            let height = self.at(0.0, value).1;
            canvas.stroke(&[(left, height), (right, height)], 1.0, FAINT)?;
            canvas.text(&label, (left - 8.0, height + 4.0), Type::new(11.5, GREY).aligned(Align::Right))?;
        }
        Ok(())
    }

    /// Grid along x.
    pub(super) fn draw_x(&self, canvas: &mut Canvas<'_>) -> Result<(), PlotError> {
        let Rect { top, bottom, .. } = self.rect;
        self.ticks().iter().try_for_each(|(across, _)| canvas.stroke(&[(*across, top), (*across, bottom)], 1.0, FAINT))
    }

    /// Numbers along x.
    pub(super) fn number_x(&self, canvas: &mut Canvas<'_>) -> Result<(), PlotError> {
        let kind = Type::new(11.5, GREY).aligned(Align::Centre);
        self.ticks().iter().try_for_each(|(across, label)| canvas.text(label, (*across, self.rect.bottom + 18.0), kind))
    }

    fn ticks(&self) -> Vec<(f64, String)> {
        let ticks = self.x.ticks((self.rect.width() / SPACING.0) as usize + 1);
        ticks.into_iter().map(|(value, label)| (self.at(value, 0.0).0, label)).collect()
    }

    /// The lines of both axes, above whatever lies at them.
    pub(super) fn draw_edges(&self, canvas: &mut Canvas<'_>) -> Result<(), PlotError> {
        let Rect { left, top, right, bottom } = self.rect;
        canvas.stroke(&[(left, top), (left, bottom), (right, bottom)], 1.2, PALE)
    }
}

/// The heading of a panel or an axis.
pub(super) fn heading() -> Type {
    Type::new(12.5, DARK)
}

/// Says so where an axis is logarithmic.
pub(super) fn scale_note(axis: &Axis) -> &'static str {
    match axis.scale {
        Scale::Linear => "",
        Scale::Logarithmic => ", logarithmic",
    }
}
