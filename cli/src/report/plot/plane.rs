//! The plane of the two objectives with the methods' trajectories.

use std::f64::consts::FRAC_PI_2;

use super::axis::Axis;
use super::canvas::{Align, Canvas, Ink, Type};
use super::frame::{DARK, Frame, HEADING, PALE, heading, scale_note};
use super::geometry::{Point, Rect, along, distance};
use super::labels::{Ground, Place, TIED};
use super::mark::{Methods, Shape};
use super::{Moment, PlotError};
use crate::report::phrase;

/// Losses further apart than this ratio are shown on a logarithmic axis: the way from the start would dwarf the rest.
const RATIO: f64 = 3.0;
/// Sizes of marks.
const MARK: f64 = 5.2;
const END: f64 = 6.0;
/// The glow of the ideal corner.
const GLOW: Ink = Ink(250, 205, 70);

/// The preference side of the plane.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Preference {
    Margin,
    Accuracy,
}

impl Preference {
    /// The margin, as it goes on telling methods apart where accuracies are all 1.
    fn of(moments: &[Moment]) -> Self {
        let margin = moments.iter().any(|moment| moment.margin.is_some_and(f64::is_finite));
        if margin { Self::Margin } else { Self::Accuracy }
    }

    fn value(self, moment: &Moment) -> Option<f64> {
        match self {
            Self::Margin => moment.margin,
            Self::Accuracy => moment.accuracy,
        }
    }

    fn heading(self) -> &'static str {
        match self {
            Self::Margin => "Reward margin of validation preferences (more is better)",
            Self::Accuracy => "Accuracy on validation preferences (more is better)",
        }
    }
}

struct Spot<'a> {
    moment: &'a Moment,
    loss: f64,
    preference: f64,
}

struct Trajectory<'a> {
    method: &'a str,
    ink: Ink,
    spots: Vec<Spot<'a>>,
}

/// Every method's way through the plane.
pub(super) struct Plane<'a> {
    preference: Preference,
    trajectories: Vec<Trajectory<'a>>,
}

impl<'a> Plane<'a> {
    /// `None` if no moment has both objectives.
    pub(super) fn of(moments: &'a [Moment], methods: &Methods<'a>) -> Option<Self> {
        let preference = Preference::of(moments);
        let spot = |moment: &'a Moment| {
            let spot = Spot { moment, loss: moment.sft_nll?, preference: preference.value(moment)? };
            (spot.loss.is_finite() && spot.preference.is_finite()).then_some(spot)
        };
        let trajectories = methods.names().iter().map(|&method| {
            let spots = moments.iter().filter(|moment| moment.method == method).filter_map(spot).collect();
            Trajectory { method, ink: methods.colour(method), spots }
        });
        let trajectories: Vec<_> = trajectories.filter(|trajectory| !trajectory.spots.is_empty()).collect();
        (!trajectories.is_empty()).then_some(Self { preference, trajectories })
    }

    fn spots(&self) -> impl Iterator<Item = &Spot<'a>> {
        self.trajectories.iter().flat_map(|trajectory| &trajectory.spots)
    }

    /// The shapes that occur.
    pub(super) fn shapes(&self) -> Vec<Shape> {
        let mut shapes: Vec<Shape> = self.spots().map(|spot| Shape::after(spot.moment.phase.as_deref())).collect();
        shapes.sort_unstable();
        shapes.dedup();
        shapes
    }

    pub(super) fn draw(&self, canvas: &mut Canvas<'_>, rect: Rect) -> Result<(), PlotError> {
        let x = Axis::fit(self.spots().map(|spot| spot.loss), 0.12, RATIO);
        let y = Axis::fit(self.spots().map(|spot| spot.preference), 0.14, f64::INFINITY);
        let frame = Frame { rect, x, y };
        glow(canvas, rect)?;
        frame.draw_x(canvas)?;
        frame.draw_y(canvas)?;
        let mut ground =
            Ground::new(Rect { left: rect.left + 4.0, top: rect.top + 2.0, right: rect.right, bottom: rect.bottom - 3.0 });
        if y.shows(0.0) {
            let height = frame.at(0.0, 0.0).1;
            canvas.stroke(&[(rect.left, height), (rect.right, height)], 1.0, PALE)?;
            ground.line((rect.left, height), (rect.right, height));
        }
        frame.draw_edges(canvas)?;
        frame.number_x(canvas)?;
        canvas.text(self.preference.heading(), (rect.left + HEADING, rect.top - 14.0), heading())?;
        let across = format!("SFT loss of validation demonstrations, nats per token{} (less is better)", scale_note(&x));
        canvas.text(&across, (rect.right, rect.bottom + 42.0), heading().aligned(Align::Right))?;
        ground.take(ideal(canvas, rect)?);
        let ways: Vec<Way<'_>> = self.trajectories.iter().map(|trajectory| Way::on(&frame, trajectory)).collect();
        ways.iter().try_for_each(|way| way.draw_lines(canvas, &mut ground))?;
        ways.iter().try_for_each(|way| way.draw_marks(canvas, &mut ground))?;
        draw_starts(canvas, &ways, &mut ground)?;
        ways.iter().try_for_each(|way| way.draw_end(canvas, &mut ground))?;
        label_starts(canvas, &ways, &mut ground)?;
        // Labels extend to the right, so that the rightmost end should have the first choice.
        let mut ends: Vec<&Way<'_>> = ways.iter().collect();
        ends.sort_by(|one, other| other.end().0.total_cmp(&one.end().0));
        ends.into_iter().try_for_each(|way| way.label_end(canvas, self.preference, &mut ground))?;
        label_phases(canvas, &ways, &mut ground)
    }
}

/// A light in the corner where both objectives are best.
fn glow(canvas: &mut Canvas<'_>, rect: Rect) -> Result<(), PlotError> {
    let reach = 0.42 * rect.width().min(rect.height());
    for ring in 0..48 {
        let part = f64::from(ring) / 48.0;
        let radius = reach * (1.0 - part);
        let arc = (0..=24).map(|n| f64::from(n) / 24.0 * FRAC_PI_2);
        let edge = arc.map(|angle| (rect.left + radius * angle.cos(), rect.top + radius * angle.sin()));
        let corners: Vec<Point> = std::iter::once((rect.left, rect.top)).chain(edge).collect();
        canvas.polygon(&corners, GLOW.tint(0.32 * part * part + 0.02))?;
    }
    Ok(())
}

/// The arrow to the ideal corner; the space it takes.
fn ideal(canvas: &mut Canvas<'_>, rect: Rect) -> Result<Rect, PlotError> {
    let ink = Ink(150, 112, 0);
    let (tip, end) = ((rect.left + 12.0, rect.top + 12.0), (rect.left + 40.0, rect.top + 32.0));
    canvas.stroke(&[along(tip, end, 0.15), end], 2.0, ink)?;
    arrow_head(canvas, tip, end, 11.0, ink)?;
    canvas.text("better on both", (end.0 + 6.0, end.1 + 7.0), Type::new(12.0, ink))?;
    Ok(Rect { left: rect.left, top: rect.top, right: end.0 + 94.0, bottom: end.1 + 14.0 })
}

/// A head of this length at `tip`, for an arrow that comes from `from`.
fn arrow_head(canvas: &mut Canvas<'_>, tip: Point, from: Point, length: f64, ink: Ink) -> Result<(), PlotError> {
    let way = distance(from, tip);
    let (right, down) = ((tip.0 - from.0) / way, (tip.1 - from.1) / way);
    let back = (tip.0 - length * right, tip.1 - length * down);
    let half = 0.42 * length;
    canvas.polygon(&[tip, (back.0 - half * down, back.1 + half * right), (back.0 + half * down, back.1 - half * right)], ink)
}

/// A trajectory where it is drawn.
struct Way<'a> {
    trajectory: &'a Trajectory<'a>,
    points: Vec<Point>,
}

impl<'a> Way<'a> {
    fn on(frame: &Frame, trajectory: &'a Trajectory<'a>) -> Self {
        let points = trajectory.spots.iter().map(|spot| frame.at(spot.loss, spot.preference)).collect();
        Self { trajectory, points }
    }

    fn shape(&self, index: usize) -> Shape {
        Shape::after(self.trajectory.spots[index].moment.phase.as_deref())
    }

    fn end(&self) -> Point {
        self.points[self.points.len() - 1]
    }

    /// Lines that gain strength towards the end, each with an arrow head where it is long enough.
    fn draw_lines(&self, canvas: &mut Canvas<'_>, ground: &mut Ground) -> Result<(), PlotError> {
        let last = self.points.len().max(2) - 1;
        for (index, pair) in self.points.windows(2).enumerate() {
            let ink = self.trajectory.ink.tint(0.45 + 0.55 * (index + 1) as f64 / last as f64);
            canvas.stroke(pair, 2.2, ink)?;
            ground.line(pair[0], pair[1]);
            if distance(pair[0], pair[1]) > 50.0 {
                arrow_head(canvas, along(pair[0], pair[1], 0.56), pair[0], 10.0, ink)?;
            }
        }
        Ok(())
    }

    /// The marks between start and end.
    fn draw_marks(&self, canvas: &mut Canvas<'_>, ground: &mut Ground) -> Result<(), PlotError> {
        for (index, point) in self.points.iter().enumerate().take(self.points.len() - 1) {
            if self.shape(index) != Shape::Ring {
                self.shape(index).draw(canvas, *point, MARK, self.trajectory.ink)?;
                ground.take(Rect::around(*point, MARK));
            }
        }
        Ok(())
    }

    fn draw_end(&self, canvas: &mut Canvas<'_>, ground: &mut Ground) -> Result<(), PlotError> {
        let last = self.points.len() - 1;
        ground.take(Rect::around(self.end(), END + 5.0));
        match self.shape(last) {
            // A run that has not trained yet.
            Shape::Ring => Ok(()),
            shape => shape.draw_end(canvas, self.end(), END, self.trajectory.ink),
        }
    }

    /// The method's name and where it ended, tied to the end by a line where they lie apart.
    fn label_end(&self, canvas: &mut Canvas<'_>, preference: Preference, ground: &mut Ground) -> Result<(), PlotError> {
        let ink = self.trajectory.ink.shade(0.25);
        let (head, body) = (Type::new(13.0, ink).bold(), Type::new(11.0, ink));
        let name = head.cut(self.trajectory.method, 190.0);
        let numbers = numbers(self.trajectory.spots[self.points.len() - 1].moment, preference);
        let size = (head.width(&name).max(body.width(&numbers)) + 6.0, 32.0);
        let Some(place) = ground.place(self.end(), size, &[13.0, 24.0, 40.0, 60.0, 90.0, 130.0], usize::MAX) else {
            return Ok(());
        };
        tie(canvas, self.end(), place, ink)?;
        canvas.text_on_lines(&name, (place.rect.left + 3.0, place.rect.top + 14.0), head)?;
        canvas.text_on_lines(&numbers, (place.rect.left + 3.0, place.rect.bottom - 4.0), body)
    }
}

/// "loss 0.405 · margin 2.341 · accuracy 0.969", as far as known.
fn numbers(moment: &Moment, preference: Preference) -> String {
    let margin = moment.margin.filter(|_| preference == Preference::Margin);
    let parts = [("loss", moment.sft_nll), ("margin", margin), ("accuracy", moment.accuracy)];
    let parts = parts.into_iter().filter_map(|(name, value)| Some(format!("{name} {}", phrase::measure(value?))));
    parts.collect::<Vec<_>>().join(" · ").replace('-', "−")
}

/// A thin line from a label to what it labels, where these lie apart.
fn tie(canvas: &mut Canvas<'_>, at: Point, place: Place, ink: Ink) -> Result<(), PlotError> {
    if place.reach < TIED {
        return Ok(());
    }
    let near = place.rect.nearest(at);
    let from = along(at, near, (END + 6.0) / distance(at, near));
    canvas.stroke(&[from, near], 0.9, ink.tint(0.6))
}

/// The distinct points where methods start.
fn starts(ways: &[Way<'_>]) -> Vec<Point> {
    let mut starts: Vec<Point> = Vec::new();
    for way in ways.iter().filter(|way| way.shape(0) == Shape::Ring) {
        if starts.iter().all(|start| distance(*start, way.points[0]) > 3.0) {
            starts.push(way.points[0]);
        }
    }
    starts
}

fn draw_starts(canvas: &mut Canvas<'_>, ways: &[Way<'_>], ground: &mut Ground) -> Result<(), PlotError> {
    for start in starts(ways) {
        Shape::Ring.draw(canvas, start, 8.0, DARK)?;
        ground.take(Rect::around(start, 8.0));
    }
    Ok(())
}

fn label_starts(canvas: &mut Canvas<'_>, ways: &[Way<'_>], ground: &mut Ground) -> Result<(), PlotError> {
    let kind = Type::new(12.5, DARK).bold();
    for start in starts(ways) {
        if let Some(place) = ground.place(start, (kind.width("start") + 4.0, 16.0), &[10.0, 16.0], usize::MAX) {
            canvas.text_on_lines("start", (place.rect.left + 2.0, place.rect.bottom - 4.0), kind)?;
        }
    }
    Ok(())
}

/// Names of phases as far as there is space, the methods taking turns, their last but the end first.
fn label_phases(canvas: &mut Canvas<'_>, ways: &[Way<'_>], ground: &mut Ground) -> Result<(), PlotError> {
    let longest = ways.iter().map(|way| way.points.len()).max().unwrap_or(0);
    for index in 1..longest {
        for way in ways.iter().filter(|way| index + 1 < way.points.len()) {
            let kind = Type::new(10.5, way.trajectory.ink.shade(0.2));
            let label = kind.cut(way.trajectory.spots[index].moment.label(), 90.0);
            let size = (kind.width(&label) + 4.0, 13.0);
            if let Some(place) = ground.place(way.points[index], size, &[MARK + 2.0, MARK + 6.0], 8) {
                canvas.text_on_lines(&label, (place.rect.left + 2.0, place.rect.bottom - 3.0), kind)?;
            }
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_leave_out_what_is_missing() {
        let mut moment = Moment {
            method: "a".into(),
            phase: None,
            sft_nll: Some(0.5),
            accuracy: None,
            margin: Some(-1.25),
            extra: Vec::new(),
        };
        assert_eq!(numbers(&moment, Preference::Margin), "loss 0.500 · margin −1.250");
        moment.accuracy = Some(1.0);
        assert_eq!(numbers(&moment, Preference::Accuracy), "loss 0.500 · accuracy 1.000");
    }
}
