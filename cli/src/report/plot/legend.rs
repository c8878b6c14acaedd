//! The legend: methods by colour, kinds of phases by shape.

use super::PlotError;
use super::canvas::{Canvas, Ink, Type};
use super::frame::{DARK, GREY};
use super::geometry::Rect;
use super::mark::{Methods, Shape};
use super::plane::Plane;

/// Points that a method's name may take.
const NAME: f64 = 150.0;
/// Points from one row to the next.
const ROW: f64 = 20.0;
/// Points between two entries.
const GAP: f64 = 22.0;
/// Points that an entry's sample takes, the space behind it included.
const SAMPLE: f64 = 26.0;

enum Sample {
    Line(Ink),
    Mark(Shape),
}

/// Entries in rows; the shapes have a row of their own if one is not enough for all.
pub(super) struct Legend {
    entries: Vec<(Sample, String)>,
}

impl Legend {
    pub(super) fn of(methods: &Methods<'_>, plane: Option<&Plane<'_>>) -> Self {
        let text = kind();
        let lines = methods.names().iter().map(|name| (Sample::Line(methods.colour(name)), text.cut(name, NAME)));
        let marks = plane.into_iter().flat_map(Plane::shapes).map(|shape| (Sample::Mark(shape), shape.meaning().to_string()));
        Self { entries: lines.chain(marks).collect() }
    }

    fn width(&self) -> f64 {
        self.entries.iter().map(|(_, text)| SAMPLE + kind().width(text) + GAP).sum::<f64>() - GAP
    }

    /// Draws the rows from the top of the rectangle and says where they end.
    pub(super) fn draw(&self, canvas: &mut Canvas<'_>, rect: Rect) -> Result<f64, PlotError> {
        let (mut x, mut y) = (rect.left, rect.top + 0.7 * ROW);
        let wide = self.width() > rect.width();
        for (index, (sample, text)) in self.entries.iter().enumerate() {
            let width = SAMPLE + kind().width(text);
            let first = index > 0 && matches!((sample, &self.entries[index - 1].0), (Sample::Mark(_), Sample::Line(_)));
            if x > rect.left && (x + width > rect.right || (first && wide)) {
                (x, y) = (rect.left, y + ROW);
            }
            match sample {
                Sample::Line(ink) => canvas.stroke(&[(x + 1.0, y - 4.2), (x + 18.0, y - 4.2)], 3.6, *ink)?,
                Sample::Mark(shape) => shape.draw(canvas, (x + 12.0, y - 4.2), 5.2, GREY)?,
            }
            canvas.text(text, (x + SAMPLE, y), kind())?;
            x += width + GAP;
        }
        Ok(y + 0.3 * ROW)
    }
}

fn kind() -> Type {
    Type::new(12.5, DARK)
}
