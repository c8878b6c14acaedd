//! From scores and values to advantages.

use crate::reduce::Reduce;

/// What every token of an answer earned: r_t = −β·(log π(y_t) − log π_ref(y_t)), and the last one the answer's score, too. `[T]`
pub fn token_rewards(log_probs: &[f32], reference: &[f32], score: f64, beta: f64) -> Vec<f64> {
    let cost = |(log_prob, reference): (&f32, &f32)| -beta * (f64::from(*log_prob) - f64::from(*reference));
    let mut rewards: Vec<f64> = log_probs.iter().zip(reference).map(cost).collect();
    if let Some(last) = rewards.last_mut() {
        *last += score;
    }
    rewards
}

/// Generalised advantage estimates (Schulman et al. 2016, Eq. 16) of an answer's `rewards` `[T]` and the critic's `values` `[T]`, each before
/// its token: A_t = Σ_k (γλ)^k·δ_{t+k} with δ_t = r_t + γ·V_{t+1} − V_t. After the last token there is nothing to come, ended or cut off.
/// `[T]`
pub fn generalized_advantages(rewards: &[f64], values: &[f32], discount: f64, lambda: f64) -> Vec<f64> {
    let mut advantages = vec![0.0; rewards.len()];
    let (mut next_value, mut next_advantage) = (0.0, 0.0);
    for t in (0..rewards.len()).rev() {
        let value = f64::from(values[t]);
        next_advantage = rewards[t] + discount * next_value - value + discount * lambda * next_advantage;
        (advantages[t], next_value) = (next_advantage, value);
    }
    advantages
}

/// Shifts and scales the advantages of a batch's answers, over all ranks, to mean 0 and variance 1 over tokens (variance as of a sample, n − 1,
/// and 1e-8 added to it, as TRL and trlX do). A single token becomes 0.
pub async fn whiten<R: Reduce>(answers: &mut [Vec<f64>], reduce: &R) {
    let tokens = || answers.iter().flatten();
    let mut sums = [tokens().count() as f64, tokens().sum()];
    reduce.sum(&mut sums).await;
    let [count, sum] = sums;
    let mean = sum / count.max(1.0);
    let mut squares = [tokens().map(|a| (a - mean).powi(2)).sum::<f64>()];
    reduce.sum(&mut squares).await;
    let scale = 1.0 / (squares[0] / (count - 1.0).max(1.0) + 1e-8).sqrt();
    answers.iter_mut().flatten().for_each(|a| *a = (*a - mean) * scale);
}

/// 1 − Var(R − V) / Var(R) over tokens and ranks: how much of the `returns` the `values` foretold. not finite where returns do not vary.
pub async fn explained_variance<R: Reduce>(returns: &[f32], values: &[f32], reduce: &R) -> f64 {
    let pairs = || returns.iter().zip(values).map(|(r, v)| (f64::from(*r), f64::from(*r) - f64::from(*v)));
    let mut sums = [returns.len() as f64, pairs().map(|(r, _)| r).sum(), pairs().map(|(_, e)| e).sum()];
    reduce.sum(&mut sums).await;
    let [count, returns, errors] = sums;
    let (mean, bias) = (returns / count, errors / count);
    let mut squares = [pairs().map(|(r, _)| (r - mean).powi(2)).sum::<f64>(), pairs().map(|(_, e)| (e - bias).powi(2)).sum()];
    reduce.sum(&mut squares).await;
    1.0 - squares[1] / squares[0]
}

#[cfg(test)]
mod tests {
    use pollster::block_on;

    use super::*;
    use crate::reduce::Alone;

    #[test]
    fn with_lambda_1_an_advantage_is_the_rest_of_the_rewards_less_the_value() {
        let advantages = generalized_advantages(&[1.0, 2.0, 4.0], &[0.5, -1.0, 3.0], 1.0, 1.0);
        assert_eq!(advantages, [6.5, 7.0, 1.0]);
        let one_step = generalized_advantages(&[1.0, 2.0], &[0.5, 3.0], 0.5, 0.0);
        assert_eq!(one_step, [1.0 + 0.5 * 3.0 - 0.5, -1.0]);
    }

    #[test]
    fn the_score_comes_with_the_last_token() {
        assert_eq!(token_rewards(&[-1.0, -2.0], &[-1.5, -1.0], 3.0, 0.5), [-0.25, 3.5]);
    }

    #[test]
    fn a_single_token_whitens_to_nothing() {
        let mut one = [vec![7.0]];
        block_on(whiten(&mut one, &Alone));
        assert_eq!(one, [vec![0.0]]);
    }

    #[test]
    fn values_that_foretell_all_explain_all() {
        let explained = |values: &[f32]| block_on(explained_variance(&[1.0, 2.0, 4.0], values, &Alone));
        assert_eq!(explained(&[0.0, 1.0, 3.0]), 1.0, "a bias varies nothing");
        assert_eq!(explained(&[5.0, 5.0, 5.0]), 0.0);
        assert!(block_on(explained_variance(&[2.0, 2.0], &[1.0, 3.0], &Alone)).is_infinite());
    }
}
