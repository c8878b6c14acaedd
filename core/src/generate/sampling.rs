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
        let mut order: Vec<u32> = (0..logits.len() as u32).collect();
        let logit = |token: u32| f64::from(logits[token as usize]);
        order.sort_by(|&a, &b| logit(b).total_cmp(&logit(a)));
        if let Some(last) = self.top_k.and_then(|k| order.get(k.max(1) - 1)) {
            let least = logit(*last);
            order.retain(|&token| logit(token) >= least);
        }
        let weight = |token: u32| ((logit(token) - logit(order[0])) / self.temperature).exp();
        let total: f64 = order.iter().map(|&token| weight(token)).sum();
        let kept = self.nucleus(order.iter().map(|&token| (token, weight(token) / total)));
        let total: f64 = kept.iter().map(|(_, p)| p).sum();
        kept.into_iter().map(|(token, p)| (token, p / total)).collect()
    }

    fn nucleus(&self, descending: impl Iterator<Item = (u32, f64)>) -> Vec<(u32, f64)> {
        if self.top_p >= 1.0 {
            return descending.collect(); // a rounded sum may reach 1 before the last token
        }
        let before = |sum: &mut f64, (token, p): (u32, f64)| {
            let reached = *sum >= self.top_p && *sum > 0.0;
            *sum += p;
            (!reached).then_some((token, p))
        };
        descending.scan(0.0, before).collect()
    }
}

impl Sampling {
    /// A token for finite `logits` `[V]`; `rng` is asked only when sampling.
    pub(super) fn choose(&self, logits: &[f32], rng: &mut impl Rng) -> u32 {
        match self {
            Self::Greedy => likeliest(logits),
            Self::Sample(warp) => draw(&warp.distribution(logits), rng.random()),
        }
    }
}

fn likeliest(logits: &[f32]) -> u32 {
    let better = |best: usize, i: usize| if logits[i] > logits[best] { i } else { best };
    (0..logits.len()).reduce(better).map_or(0, |token| token as u32)
}

/// Inverts the cumulative distribution at `u` in [0, 1).
fn draw(distribution: &[(u32, f64)], u: f64) -> u32 {
    let mut sum = 0.0;
    for &(token, p) in distribution {
        sum += p;
        if u < sum {
            return token;
        }
    }
    distribution.last().map_or(0, |&(token, _)| token) // the sum may round to less than 1
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
    fn greedy_takes_the_first_of_the_likeliest() {
        assert_eq!(likeliest(&[0.0, 2.0, 2.0, 1.0]), 1);
    }
}
