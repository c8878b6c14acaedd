//! Win rates without what length does: a judge that likes long answers prefers whoever writes more.

/// Precision of the prior about what length does. It keeps the fit finite where the longer answer always wins, and is felt nowhere else.
const RIDGE: f64 = 0.01;

/// How often the first answer would win if both were as long as each other, and the standard error of that.
///
/// `results` are 1 where the first answer won, ½ for a tie and 0, with how much longer the first answer is. By AlpacaEval 2's regression
/// (Dubois et al. 2024) for one pair of models, without its term for how hard a prompt is, which takes many: log odds of winning are
/// a + b·tanh(difference / its standard deviation), by maximum likelihood with a wide prior on b, and the rate is that of a alone. `None` without
/// results, or where all are the same: then there are no odds.
pub(super) fn length_controlled(results: &[(f64, f64)]) -> Option<(f64, f64)> {
    if results.iter().all(|(won, _)| Some(*won) == results.first().map(|(first, _)| *first)) {
        return None;
    }
    let scale = deviation(results.iter().map(|(_, longer)| *longer));
    // Answers that are all as much longer say nothing about length.
    let feature = |longer: f64| if scale > 0.0 { (longer / scale).tanh() } else { 0.0 };
    let points: Vec<(f64, f64)> = results.iter().map(|&(won, longer)| (won, feature(longer))).collect();
    let Curve { at: [a, _], curvature: [aa, ab, bb], .. } = fit(&points);
    let rate = sigmoid(a);
    let variance = bb / (aa * bb - ab * ab);
    Some((rate, rate * (1.0 - rate) * variance.sqrt()))
}

/// The standard deviation of a sample.
fn deviation(values: impl Iterator<Item = f64> + Clone) -> f64 {
    let count = values.clone().count() as f64;
    let mean = values.clone().sum::<f64>() / count;
    (values.map(|value| (value - mean).powi(2)).sum::<f64>() / (count - 1.0)).sqrt()
}

/// The negative log posterior at a and b, with its derivatives.
struct Curve {
    at: [f64; 2],
    height: f64,
    slope: [f64; 2],
    /// By aa, ab and bb.
    curvature: [f64; 3],
}

impl Curve {
    fn at(points: &[(f64, f64)], [a, b]: [f64; 2]) -> Self {
        let mut curve = Self { at: [a, b], height: RIDGE * b * b / 2.0, slope: [0.0, RIDGE * b], curvature: [0.0, 0.0, RIDGE] };
        for &(won, x) in points {
            let odds = a + b * x;
            let p = sigmoid(odds);
            let (error, spread) = (p - won, p * (1.0 - p));
            // log(1 + exp(odds)) − won·odds, whatever the sign of the odds.
            curve.height += odds.max(0.0) + (-odds.abs()).exp().ln_1p() - won * odds;
            curve.slope = [curve.slope[0] + error, curve.slope[1] + error * x];
            let [aa, ab, bb] = curve.curvature;
            curve.curvature = [aa + spread, ab + spread * x, bb + spread * x * x];
        }
        curve
    }

    /// Newton's step from here, a part of it.
    fn step(&self, part: f64) -> [f64; 2] {
        let ([a, b], [da, db], [aa, ab, bb]) = (self.at, self.slope, self.curvature);
        let determinant = aa * bb - ab * ab;
        [a - part * (bb * da - ab * db) / determinant, b - part * (aa * db - ab * da) / determinant]
    }
}

/// The lowest point. The curve is convex, so that halved Newton steps find it.
fn fit(points: &[(f64, f64)]) -> Curve {
    let mut curve = Curve::at(points, [0.0, 0.0]);
    for _ in 0..100 {
        let parts = std::iter::successors(Some(1.0), |part| Some(part / 2.0)).take(50);
        let lower = parts.map(|part| Curve::at(points, curve.step(part))).find(|next| next.height < curve.height);
        match lower {
            Some(next) => curve = next,
            None => break,
        }
    }
    curve
}

fn sigmoid(odds: f64) -> f64 {
    1.0 / (1.0 + (-odds).exp())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_judge_of_length_alone_prefers_nobody() {
        let results: Vec<(f64, f64)> = (0..40).map(|i| if i % 4 == 0 { (0.0, -90.0) } else { (1.0, 110.0) }).collect();
        let (rate, error) = length_controlled(&results).unwrap();
        assert!((0.2..0.8).contains(&rate) && error > 0.1, "{rate} ± {error}");
    }

    #[test]
    fn where_length_says_nothing_it_is_the_win_rate() {
        let results = [(1.0, 5.0), (1.0, 5.0), (0.5, 5.0), (0.0, 5.0)];
        let (rate, error) = length_controlled(&results).unwrap();
        assert!((rate - 0.625).abs() < 1e-9, "{rate}");
        // That of a proportion.
        assert!((error - (0.625_f64 * 0.375 / 4.0).sqrt()).abs() < 1e-9, "{error}");
    }

    #[test]
    fn without_odds_there_is_none() {
        assert_eq!(length_controlled(&[]), None);
        assert_eq!(length_controlled(&[(1.0, 3.0), (1.0, -3.0)]), None);
        assert_eq!(length_controlled(&[(0.5, 3.0)]), None);
    }
}
