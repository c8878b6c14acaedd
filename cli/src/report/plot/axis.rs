//! Axes: which values are shown, where, and which of them have a tick.

/// Values beyond are shown at the edge: their differences overflow.
const HUGE: f64 = 1e100;

/// How values are spread over an axis.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Scale {
    Linear,
    /// Equal ratios are equally long.
    Logarithmic,
}

/// The shown range of a measure.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Axis {
    pub(super) scale: Scale,
    low: f64,
    high: f64,
}

impl Axis {
    /// An axis that shows all these (finite) values with some space around them: a part of their range at each end.
    /// Logarithmic if all are positive and the largest is more than `ratio` times the smallest.
    pub(super) fn fit(values: impl Iterator<Item = f64>, space: f64, ratio: f64) -> Self {
        let (low, high) = values
            .filter(|v| v.abs() < HUGE)
            .fold((f64::INFINITY, f64::NEG_INFINITY), |(low, high), v| (low.min(v), high.max(v)));
        if low > high {
            return Self { scale: Scale::Linear, low: 0.0, high: 1.0 };
        }
        if low > 0.0 && high > ratio * low {
            let factor = (high / low).powf(space);
            return Self { scale: Scale::Logarithmic, low: low / factor, high: high * factor };
        }
        let range = high - low;
        // A constant is shown in the middle; rounding noise around one is no range.
        let pad = if range > 1e-9 * low.abs().max(high.abs()) { space * range } else { 0.1 * low.abs().max(0.1) };
        Self { scale: Scale::Linear, low: low - pad, high: high + pad }
    }

    /// A linear axis from `low` to `high`.
    pub(super) fn between(low: f64, high: f64) -> Self {
        Self { scale: Scale::Linear, low, high }
    }

    /// Where the value lies, from 0 at the axis' low end to 1.
    pub(super) fn position(&self, value: f64) -> f64 {
        match self.scale {
            Scale::Linear => (value - self.low) / (self.high - self.low),
            Scale::Logarithmic => (value / self.low).ln() / (self.high / self.low).ln(),
        }
    }

    pub(super) fn shows(&self, value: f64) -> bool {
        (self.low..=self.high).contains(&value)
    }

    /// About so many round values with their labels, at least one of the two ends aside.
    pub(super) fn ticks(&self, about: usize) -> Vec<(f64, String)> {
        match self.scale {
            Scale::Linear => self.even(about),
            Scale::Logarithmic => self.decades(about),
        }
    }

    fn even(&self, about: usize) -> Vec<(f64, String)> {
        let wanted = (self.high - self.low) / about.max(1) as f64;
        let decade = 10f64.powf(wanted.log10().floor());
        let step = [1.0, 2.0, 2.5, 5.0, 10.0]
            .map(|m| m * decade)
            .into_iter()
            .find(|step| *step >= 0.999 * wanted)
            .unwrap_or(10.0 * decade);
        let whole = |scaled: f64| scaled > 0.5 && (scaled.round() - scaled).abs() < 1e-6 * scaled;
        let decimals = (0..12).find(|n| whole(step * 10f64.powi(*n))).unwrap_or(12);
        // An end that is a multiple itself has its tick in spite of rounding.
        let range = (self.low / step - 1e-9).ceil() as i64..=(self.high / step + 1e-9).floor() as i64;
        range.map(|n| (n as f64 * step, label(n as f64 * step, decimals as usize))).collect()
    }

    /// Round values in every decade, from the set with the most that are not too many.
    fn decades(&self, about: usize) -> Vec<(f64, String)> {
        let sets: [&[f64]; 5] =
            [&[1.0, 1.5, 2.0, 3.0, 4.0, 5.0, 6.0, 7.0, 8.0], &[1.0, 2.0, 3.0, 5.0, 7.0], &[1.0, 2.0, 5.0], &[1.0, 3.0], &[1.0]];
        let decades = self.low.log10().floor() as i32..=self.high.log10().floor() as i32;
        let values = |set: &[f64]| -> Vec<(f64, String)> {
            let all = decades.clone().flat_map(|decade| set.iter().map(move |m| (m * 10f64.powi(decade), *m, decade)));
            let shown = all.filter(|(value, _, _)| self.shows(*value));
            shown.map(|(value, m, decade)| (value, decade_label(value, m, decade))).collect()
        };
        let fitting = sets.iter().map(|set| values(set)).find(|ticks| ticks.len() <= about + 1);
        let ticks = fitting.unwrap_or_else(|| {
            let all = values(&[1.0]);
            let every = all.len().div_ceil(about.max(1));
            all.into_iter().step_by(every).collect()
        });
        if ticks.len() < 2 { self.even(about) } else { ticks }
    }
}

/// With a true minus sign, and no minus zero.
fn label(value: f64, decimals: usize) -> String {
    if value != 0.0 && (value.abs() >= 1e6 || decimals > 7) {
        return format!("{value:.2e}");
    }
    let text = format!("{:.decimals$}", value.abs());
    if value < 0.0 && text.chars().any(|c| ('1'..='9').contains(&c)) { format!("−{text}") } else { text }
}

fn decade_label(value: f64, multiple: f64, decade: i32) -> String {
    if (-3..6).contains(&decade) {
        let halves = usize::from(multiple.fract() != 0.0);
        label(value, (-decade).max(0) as usize + if decade <= 0 { halves } else { 0 })
    } else {
        format!("{multiple}e{decade}")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn labels(axis: Axis, about: usize) -> String {
        axis.ticks(about).into_iter().map(|(_, label)| label).collect::<Vec<_>>().join(" ")
    }

    #[test]
    fn linear_ticks_are_round() {
        assert_eq!(labels(Axis::between(-0.3, 2.2), 5), "0.0 0.5 1.0 1.5 2.0");
        assert_eq!(labels(Axis::between(-1e-7, 3e-7), 4), "−0.0000001 0.0000000 0.0000001 0.0000002 0.0000003");
        assert_eq!(labels(Axis::between(0.0, 1280.0), 4), "0 500 1000");
        assert_eq!(labels(Axis::between(0.0, 5e7), 4), "0 2.00e7 4.00e7");
        assert_eq!(labels(Axis::between(-30.0, 10.0), 4), "−30 −20 −10 0 10");
    }

    #[test]
    fn logarithmic_ticks_are_round() {
        let axis = Axis::fit([0.3, 3.2].into_iter(), 0.1, 4.0);
        assert_eq!(axis.scale, Scale::Logarithmic);
        assert_eq!(labels(axis, 6), "0.3 0.5 0.7 1 2 3");
        assert_eq!(labels(Axis::fit([1e-5, 1e5].into_iter(), 0.0, 4.0), 6), "1e-5 0.001 0.1 10 1000 100000");
        assert_eq!(labels(Axis::fit([1.01, 1.2].into_iter(), 0.0, 1.01), 4), "1.05 1.10 1.15 1.20");
    }

    #[test]
    fn values_fall_between_the_ends() {
        for values in [vec![0.4, 2.0, f64::NAN], vec![-1.0, 3.0], vec![7.0], vec![0.0], vec![1e-12, 1e12], vec![1.0, 1.0 + 1e-15]]
        {
            let axis = Axis::fit(values.iter().copied(), 0.1, 4.0);
            let finite = values.iter().filter(|v| v.is_finite());
            assert!(finite.clone().all(|v| (0.05..0.95).contains(&axis.position(*v))), "{values:?} {axis:?}");
            assert!((1..=9).contains(&axis.ticks(5).len()), "{values:?} {axis:?}");
        }
        assert_eq!(Axis::fit([f64::NAN].into_iter(), 0.1, 4.0), Axis::between(0.0, 1.0));
    }
}
