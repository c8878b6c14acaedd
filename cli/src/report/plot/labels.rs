//! Where labels go, so that they cover neither each other nor what they label.

use super::geometry::{Point, Rect, along, distance};

/// Points between two samples of a line.
const SAMPLE: f64 = 3.0;

/// What is drawn already.
pub(super) struct Ground {
    area: Rect,
    taken: Vec<Rect>,
    lines: Vec<Point>,
}

/// A place found for a label.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Place {
    pub(super) rect: Rect,
    /// How far it lies from what it labels.
    pub(super) reach: f64,
}

impl Ground {
    /// Labels stay within the area.
    pub(super) fn new(area: Rect) -> Self {
        Self { area, taken: Vec::new(), lines: Vec::new() }
    }

    /// Nothing may be put here any more.
    pub(super) fn take(&mut self, rect: Rect) {
        self.taken.push(rect);
    }

    /// A line is drawn here, which labels should rather not cover.
    pub(super) fn line(&mut self, from: Point, to: Point) {
        let samples = (distance(from, to) / SAMPLE).ceil().max(1.0) as usize;
        self.lines.extend((0..=samples).map(|n| along(from, to, n as f64 / samples as f64)));
    }

    /// Finds a place of this size near the point, at one of these distances, the nearer and the emptier the better, and takes
    /// it. `None` if all are taken or cover more than `crossed` samples of lines.
    pub(super) fn place(&mut self, at: Point, (width, height): (f64, f64), reaches: &[f64], crossed: usize) -> Option<Place> {
        let mut best: Option<(f64, Place)> = None;
        for reach in reaches {
            for (right, down, dislike) in DIRECTIONS {
                let centre = (at.0 + right * (reach + width / 2.0), at.1 + down * (reach + height / 2.0));
                let rect = Rect {
                    left: centre.0 - width / 2.0,
                    top: centre.1 - height / 2.0,
                    right: centre.0 + width / 2.0,
                    bottom: centre.1 + height / 2.0,
                };
                if !rect.within(&self.area) || self.taken.iter().any(|taken| taken.meets(&rect)) {
                    continue;
                }
                let covered = self.lines.iter().filter(|point| rect.holds(**point)).count();
                let cost = 3.0 * covered as f64 + 0.7 * reach + dislike + self.crossed(at, &rect, *reach);
                if covered <= crossed && best.is_none_or(|(least, _)| cost < least) {
                    best = Some((cost, Place { rect, reach: *reach }));
                }
            }
        }
        let (_, place) = best?;
        self.take(place.rect);
        if place.reach >= TIED {
            self.line(at, place.rect.nearest(at));
        }
        Some(place)
    }

    /// How much the line that would tie the label to its point crosses.
    fn crossed(&self, at: Point, rect: &Rect, reach: f64) -> f64 {
        if reach < TIED {
            return 0.0;
        }
        let near = rect.nearest(at);
        let samples = (distance(at, near) / SAMPLE).ceil() as usize;
        let tie = (1..samples).map(|n| along(at, near, n as f64 / samples as f64));
        let outside = tie.filter(|point| distance(*point, at) > TIED / 2.0);
        3.0 * outside.filter(|point| self.taken.iter().any(|taken| taken.holds(*point))).count() as f64
    }
}

/// From this reach on, a line ties a label to what it labels.
pub(super) const TIED: f64 = 20.0;

/// Right, left, above, below, the corners and between; how much each is disliked.
const DIRECTIONS: [(f64, f64, f64); 18] = [
    (1.0, 0.0, 0.0),
    (-1.0, 0.0, 1.0),
    (0.0, -1.0, 1.0),
    (0.0, 1.0, 1.0),
    (0.9, -0.9, 0.5),
    (0.9, 0.9, 0.5),
    (-0.9, -0.9, 1.5),
    (-0.9, 0.9, 1.5),
    (0.5, -1.0, 1.0),
    (0.5, 1.0, 1.0),
    (-0.5, -1.0, 1.5),
    (-0.5, 1.0, 1.5),
    (1.0, -0.5, 0.5),
    (1.0, 0.5, 0.5),
    (-1.0, -0.5, 1.5),
    (-1.0, 0.5, 1.5),
    (1.0, -0.75, 0.5),
    (1.0, 0.75, 0.5),
];

#[cfg(test)]
mod tests {
    use super::*;

    const AREA: Rect = Rect { left: 0.0, top: 0.0, right: 100.0, bottom: 100.0 };

    #[test]
    fn labels_never_meet_and_stay_inside() {
        let mut ground = Ground::new(AREA);
        let places: Vec<Rect> =
            (0..50).filter_map(|_| ground.place((50.0, 50.0), (20.0, 8.0), &[5.0, 15.0], 99)).map(|p| p.rect).collect();
        assert!(places.len() > 5 && places.len() < 50, "{}", places.len());
        for (n, one) in places.iter().enumerate() {
            assert!(one.within(&AREA) && !one.holds((50.0, 50.0)));
            assert!(places[..n].iter().all(|other| !one.meets(other)));
        }
    }

    #[test]
    fn a_label_avoids_lines_or_stays_away() {
        let mut ground = Ground::new(AREA);
        ground.line((50.0, 50.0), (100.0, 50.0));
        let place = ground.place((50.0, 50.0), (20.0, 8.0), &[5.0], 0).unwrap();
        assert!(!place.rect.holds((60.0, 50.0)), "{place:?}");
        for row in 0..40 {
            ground.line((0.0, 2.5 * f64::from(row)), (100.0, 2.5 * f64::from(row)));
        }
        assert_eq!(ground.place((20.0, 50.0), (20.0, 8.0), &[5.0], 3), None);
        assert!(ground.place((20.0, 50.0), (20.0, 8.0), &[5.0], 999).is_some());
    }
}
