//! From the logits of one position to a token.

use rand::{Rng, RngExt};
use serde::{Deserialize, Serialize};

/// How the next token is chosen.
#[derive(Debug, Clone, Copy, PartialEq, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Sampling {
    /// The likeliest token; of equally likely ones the first.
    #[default]
    Greedy,
    /// At random from the warped distribution.
    Sample(Warp),
}

/// What bends the model's distribution before a token is drawn, applied in this order (transformers' order).
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Warp {
    /// Logits are divided by this; above 0.
    pub temperature: f64,
    /// Only this many of the likeliest tokens stay (more, if several tie for the last place); `None` keeps all.
    pub top_k: Option<usize>,
    /// The likeliest tokens stay until their probabilities reach this sum, the token that reaches it included; 1 keeps all.
    pub top_p: f64,
}

impl Default for Warp {
    fn default() -> Self {
        Self { temperature: 1.0, top_k: None, top_p: 1.0 }
    }
}

impl Warp {
    /// The tokens that stay, likeliest first (by id where they tie), with their probabilities renormalised to 1. In f64.
    ///
    /// `logits` are those of the whole vocabulary at one position, `[V]`, all finite.
    pub fn distribution(&self, logits: &[f32]) -> Vec<(u32, f64)> {
        let kept: Vec<(u32, f64)> = self.staying(logits).collect();
        let total: f64 = kept.iter().map(|(_, p)| p).sum();
        kept.into_iter().map(|(token, p)| (token, p / total)).collect()
    }

    /// The token at `u` in [0, 1) of the cumulative distribution. Most draws fall on few tokens, and no more are sorted.
    fn draw(&self, logits: &[f32], u: f64) -> u32 {
        match self.top_p < 1.0 {
            true => at(self.distribution(logits), u),
            false => at(self.staying(logits), u),
        }
    }

    /// The tokens that stay, likeliest first, with their probabilities among those that `top_k` leaves.
    fn staying(&self, logits: &[f32]) -> impl Iterator<Item = (u32, f64)> {
        let logit = |token: u32| f64::from(logits[token as usize]);
        let most = logits.iter().copied().fold(f32::NEG_INFINITY, f32::max);
        let weight = move |logit: f64| ((logit - f64::from(most)) / self.temperature).exp();
        let mut descending = Descending::new(logits);
        let least = self.top_k.and_then(|k| descending.nth(k.max(1) - 1)).map_or(f64::NEG_INFINITY, logit);
        let stay = logits.iter().map(|&logit| f64::from(logit)).filter(|&logit| logit >= least);
        let total: f64 = stay.map(weight).sum();
        let descending = descending.begun_anew().take_while(move |&token| logit(token) >= least);
        self.nucleus(descending.map(move |token| (token, weight(logit(token)) / total)))
    }

    fn nucleus(&self, descending: impl Iterator<Item = (u32, f64)>) -> impl Iterator<Item = (u32, f64)> {
        // A rounded sum may reach 1 before the last token.
        let enough = if self.top_p >= 1.0 { f64::INFINITY } else { self.top_p };
        descending.scan(0.0, move |sum: &mut f64, (token, p)| {
            let reached = *sum >= enough && *sum > 0.0;
            *sum += p;
            (!reached).then_some((token, p))
        })
    }
}

/// Tokens by falling logits, by id where they tie, sorted no further than is asked for.
struct Descending<'a> {
    logits: &'a [f32],
    order: Vec<u32>,
    /// So many of them are given away.
    given: usize,
    /// So many are in order, before all others.
    sorted: usize,
}

impl<'a> Descending<'a> {
    /// Sorted at first.
    const FEW: usize = 64;

    fn new(logits: &'a [f32]) -> Self {
        Self { logits, order: (0..logits.len() as u32).collect(), given: 0, sorted: 0 }
    }

    fn begun_anew(self) -> Self {
        Self { given: 0, ..self }
    }

    /// Puts three times as many in order as are, so that all work is one or two passes for a few tokens, and a sort for all.
    fn sort_more(&mut self) {
        let Self { logits, order, sorted, .. } = self;
        let first = |a: &u32, b: &u32| logits[*b as usize].total_cmp(&logits[*a as usize]).then(a.cmp(b));
        let rest = &mut order[*sorted..];
        let more = rest.len().min((3 * *sorted).max(Self::FEW));
        if more < rest.len() {
            rest.select_nth_unstable_by(more, first);
        }
        rest[..more].sort_unstable_by(first);
        *sorted += more;
    }
}

impl Iterator for Descending<'_> {
    type Item = u32;

    fn next(&mut self) -> Option<u32> {
        if self.given == self.sorted && self.sorted < self.order.len() {
            self.sort_more();
        }
        let token = self.order.get(self.given).copied();
        self.given += usize::from(token.is_some());
        token
    }
}

impl Sampling {
    /// A token for finite `logits` `[V]`; `rng` is asked only when sampling.
    pub(super) fn choose(&self, logits: &[f32], rng: &mut impl Rng) -> u32 {
        match self {
            Self::Greedy => greedy(logits),
            Self::Sample(warp) => warp.draw(logits, rng.random()),
        }
    }
}

fn greedy(logits: &[f32]) -> u32 {
    let better = |best: usize, i: usize| if logits[i] > logits[best] { i } else { best };
    (0..logits.len()).reduce(better).map_or(0, |token| token as u32)
}

/// Inverts the cumulative distribution at `u` in [0, 1).
fn at(distribution: impl IntoIterator<Item = (u32, f64)>, u: f64) -> u32 {
    let (mut sum, mut last) = (0.0, 0);
    for (token, p) in distribution {
        sum += p;
        last = token;
        if u < sum {
            break;
        }
    }
    last // the sum may round to less than 1
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::random::stream;

    fn warp(temperature: f64, top_k: Option<usize>, top_p: f64) -> Warp {
        Warp { temperature, top_k, top_p }
    }

    fn check(warp: Warp, probabilities: &[f64], expect: &[u32]) {
        let logits: Vec<f32> = probabilities.iter().map(|p| p.ln() as f32).collect();
        let kept: Vec<u32> = warp.distribution(&logits).into_iter().map(|(token, _)| token).collect();
        assert_eq!(kept, expect, "{warp:?} of {probabilities:?}");
    }

    #[test]
    fn the_token_that_crosses_p_stays() {
        let p = [0.1, 0.5, 0.25, 0.15];
        check(warp(1.0, None, 0.4), &p, &[1]);
        check(warp(1.0, None, 0.6), &p, &[1, 2]);
        check(warp(1.0, None, 0.8), &p, &[1, 2, 3]);
        check(warp(1.0, None, 1.0), &p, &[1, 2, 3, 0]);
        check(warp(1.0, None, 0.0), &p, &[1]);
        // A sum that is p to the last bit has crossed it.
        check(warp(1.0, None, 0.5), &[0.25; 4], &[0, 1]);
    }

    #[test]
    fn top_k_keeps_ties_and_comes_before_top_p() {
        check(warp(1.0, Some(2), 1.0), &[0.2, 0.4, 0.2, 0.2], &[1, 0, 2, 3]);
        // Renormalised after top-k, 0.5 and 0.3 are 0.625 and 0.375: the first alone reaches 0.6.
        check(warp(1.0, Some(2), 0.6), &[0.5, 0.3, 0.2], &[0]);
        check(warp(1.0, None, 0.6), &[0.5, 0.3, 0.2], &[0, 1]);
        check(warp(1.0, Some(9), 1.0), &[0.5, 0.3, 0.2], &[0, 1, 2]);
    }

    #[test]
    fn temperature_comes_before_top_p() {
        // Squared and renormalised, 0.5 and 0.3 are 0.66 and 0.24.
        check(warp(0.5, None, 0.6), &[0.5, 0.3, 0.2], &[0]);
    }

    #[test]
    fn draws_follow_the_distribution() {
        let logits = [0.6f32.ln(), 0.3f32.ln(), 0.1f32.ln()];
        let mut rng = stream(5, "test", &[]);
        let mut counts = [0; 3];
        for _ in 0..10_000 {
            counts[Sampling::Sample(Warp::default()).choose(&logits, &mut rng) as usize] += 1;
        }
        // Standard deviations: 49, 46, 30.
        let near = |count: i32, expect: i32| (count - expect).abs() < 200;
        assert!(near(counts[0], 6000) && near(counts[1], 3000) && near(counts[2], 1000), "{counts:?}");
    }

    #[test]
    fn what_is_sorted_in_parts_is_in_order() {
        let mut rng = stream(6, "test", &[]);
        for count in [0, 1, 63, 64, 65, 256, 257, 5000] {
            // Many tie.
            let logits: Vec<f32> = (0..count).map(|_| f32::from(rng.random::<i8>() / 4)).collect();
            let mut expect: Vec<u32> = (0..count).collect();
            expect.sort_by(|&a, &b| logits[b as usize].total_cmp(&logits[a as usize]));
            assert_eq!(Descending::new(&logits).collect::<Vec<_>>(), expect);
        }
    }

    /// Whether all of the vocabulary is sorted or only what a draw needs, it is the same token.
    #[test]
    fn a_draw_is_where_the_whole_distribution_has_it() {
        let mut rng = stream(7, "test", &[]);
        let logits: Vec<f32> = (0..3000).map(|_| 3.0 * rng.random::<f32>()).collect();
        for warp in [warp(1.0, None, 1.0), warp(0.7, None, 0.9), warp(1.3, Some(50), 1.0), warp(1.0, Some(500), 0.5)] {
            let distribution = warp.distribution(&logits);
            for u in (0..200).map(|i| (f64::from(i) + 0.5) / 200.0).chain([0.0, 1.0 - 1e-15]) {
                assert_eq!(warp.draw(&logits, u), at(distribution.iter().copied(), u), "{warp:?} at {u}");
            }
        }
    }

    #[test]
    fn greedy_takes_the_first_of_the_likeliest() {
        assert_eq!(greedy(&[0.0, 2.0, 2.0, 1.0]), 1);
    }
}
