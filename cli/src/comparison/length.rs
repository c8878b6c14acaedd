//! Win rates without what length does: a judge that likes long answers prefers whoever writes more.

/// Precision of the prior about what length does. It keeps the fit finite where the longer answer always wins, and is felt nowhere else.
const RIDGE: f64 = 0.01;

/// How often the first answer would win if both were as long as each other, and the standard error of that.
///
/// `results` are 1 where the first answer won, ½ for a tie and 0, with how much longer the first answer is. By AlpacaEval 2's regression
/// (Dubois et al. 2024) for one pair of models, without its term for how hard a prompt is, which takes many: log odds of winning are
/// a + b·tanh(difference / its standard deviation), by maximum likelihood with a wide prior on b, and the rate is that of a alone. `None` without
/// results, or where all are the same: then there are no odds; and where nothing but the prior would say what answers of one length come to: all of
/// one side's are longer, or who wins follows from length.
pub(super) fn length_controlled(results: &[(f64, f64)]) -> Option<(f64, f64)> {
    if results.iter().all(|(won, _)| Some(*won) == results.first().map(|(first, _)| *first)) {
        return None;
    }
    let scale = deviation(results.iter().map(|(_, longer)| *longer));
    if one_sided(results) || separated(results) {
        return None;
    }
    // Answers that are all as long say nothing about length.
    let feature = |longer: f64| if scale > 0.0 { (longer / scale).tanh() } else { 0.0 };
    let points: Vec<(f64, f64)> = results.iter().map(|&(won, longer)| (won, feature(longer))).collect();
    let Curve { at: [a, _], curvature: [aa, ab, bb], .. } = fit(&points);
    let rate = sigmoid(a);
    let variance = bb / (aa * bb - ab * ab);
    Some((rate, rate * (1.0 - rate) * variance.sqrt()))
}

fn one_sided(results: &[(f64, f64)]) -> bool {
    results.iter().all(|(_, longer)| *longer > 0.0) || results.iter().all(|(_, longer)| *longer < 0.0)
}

/// Whether some length tells all that was won from all that was lost, ties being half of either. Not if it is 0: of answers as long as the others there
/// may then be both.
fn separated(results: &[(f64, f64)]) -> bool {
    let range = |of: fn(f64) -> bool| {
        let lengths = results.iter().filter(|(won, _)| of(*won)).map(|(_, longer)| *longer);
        lengths.fold((f64::INFINITY, f64::NEG_INFINITY), |(least, most), x| (least.min(x), most.max(x)))
    };
    let (won, lost) = (range(|won| won > 0.0), range(|won| won < 1.0));
    let apart = |shorter: (f64, f64), longer: (f64, f64)| shorter.1 < longer.0 || (shorter.1 == longer.0 && shorter.1 != 0.0);
    apart(won, lost) || apart(lost, won)
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
    fn what_only_the_prior_says_is_not_said() {
        assert_eq!(length_controlled(&[(1.0, 30.0), (0.0, -20.0)]), None, "a win and a loss");
        let shorter = [(1.0, -5.0), (1.0, -9.0), (0.0, -7.0), (1.0, -2.0), (0.0, -4.0)];
        assert_eq!(length_controlled(&shorter), None, "no answer is as long as the others");
        let by_length: Vec<(f64, f64)> = (0..40).map(|i| if i % 4 == 0 { (0.0, -90.0) } else { (1.0, 110.0) }).collect();
        assert_eq!(length_controlled(&by_length), None, "the longer one wins");
    }

    #[test]
    fn a_judge_of_length_alone_prefers_nobody() {
        // But for one in seven.
        let won = |i: usize, longer: f64| if (longer > 0.0) == (i % 7 == 3) { 0.0 } else { 1.0 };
        let results = (0..70).map(|i| if i % 5 == 0 { -90.0 } else { 110.0 }).enumerate().map(|(i, x)| (won(i, x), x));
        let (rate, error) = length_controlled(&results.collect::<Vec<_>>()).unwrap();
        assert!((0.2..0.8).contains(&rate) && error > 0.1, "{rate} ± {error}");
    }

    #[test]
    fn where_length_says_nothing_it_is_the_win_rate() {
        let results = [(1.0, 0.0), (1.0, 0.0), (0.5, 0.0), (0.0, 0.0)];
        let (rate, error) = length_controlled(&results).unwrap();
        assert!((rate - 0.625).abs() < 1e-9, "{rate}");
        // That of a proportion.
        assert!((error - (0.625_f64 * 0.375 / 4.0).sqrt()).abs() < 1e-9, "{error}");
    }

    #[test]
    fn answers_as_long_as_the_others_are_enough() {
        let of = |won: usize, lost: usize| {
            let even = std::iter::repeat_n((1.0, 0.0), won).chain(std::iter::repeat_n((0.0, 0.0), lost));
            even.chain([(1.0, 9.0), (1.0, 7.0), (0.0, -8.0), (0.0, -7.0)]).collect::<Vec<_>>()
        };
        let (rate, _) = length_controlled(&of(30, 10)).unwrap();
        assert!((rate - 0.75).abs() < 0.01, "{rate}");
        assert!((length_controlled(&of(10, 10)).unwrap().0 - 0.5).abs() < 0.01);
        assert_eq!(length_controlled(&[(1.0, 5.0), (0.0, 5.0), (1.0, 5.0)]), None, "none is as long");
    }

    #[test]
    fn without_odds_there_is_none() {
        assert_eq!(length_controlled(&[]), None);
        assert_eq!(length_controlled(&[(1.0, 3.0), (1.0, -3.0)]), None);
        assert_eq!(length_controlled(&[(0.5, 3.0)]), None);
    }
}
