//! Importance: from how much each unit changed under the other objective to how strongly it is held.

use rand::RngExt;
use serde::{Deserialize, Serialize};

use crate::random::stream;

/// The rule that turns accumulated changes AC into importances F.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Rule {
    /// F = F_max · softmax(AC), as printed (Eq. 6 and 9). AC is so small that F comes out uniform.
    Paper,
    /// F = F_max · softmax(10²⁰ · AC): the authors' released code multiplies differences by 10¹⁰ before squaring. One-hot.
    Reference,
    /// F = F_max · softmax(AC / mean AC): neither uniform nor one-hot, whatever the learning rate.
    Relative,
    /// F = F_max · AC / ΣAC.
    Proportional,
    /// F = F_max · softmax(U\[0, 1)): the paper's ablation HBAT-Random.
    Random,
    /// The original EWC: the diagonal of the Fisher information, element by element, instead of a number per unit.
    Fisher,
}

/// What a rule needs besides AC.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Draw<'a> {
    /// The run's seed.
    pub seed: u64,
    /// The phase that draws.
    pub phase: &'a str,
}

/// F per unit, `[units]`, summing to `f_max`. `None` for [`Rule::Fisher`], which is no number per unit.
pub fn importance(rule: Rule, accumulated: &[f64], f_max: f64, draw: Draw<'_>) -> Option<Vec<f64>> {
    let units = accumulated.len() as f64;
    let total: f64 = accumulated.iter().sum();
    let shares = match rule {
        Rule::Fisher => return None,
        Rule::Random => softmax(&uniform(accumulated.len(), draw)),
        _ if total == 0.0 => vec![1.0 / units; accumulated.len()],
        Rule::Paper => softmax(accumulated),
        Rule::Reference => softmax(&scaled(accumulated, 1e20)),
        Rule::Relative => softmax(&scaled(accumulated, units / total)),
        Rule::Proportional => scaled(accumulated, 1.0 / total),
    };
    Some(scaled(&shares, f_max))
}

fn scaled(values: &[f64], factor: f64) -> Vec<f64> {
    values.iter().map(|v| v * factor).collect()
}

fn uniform(count: usize, draw: Draw<'_>) -> Vec<f64> {
    let mut rng = stream(draw.seed, &format!("importance {}", draw.phase), &[]);
    (0..count).map(|_| rng.random::<f64>()).collect()
}

fn softmax(values: &[f64]) -> Vec<f64> {
    let largest = values.iter().copied().fold(f64::NEG_INFINITY, f64::max);
    let exponentials: Vec<f64> = values.iter().map(|v| (v - largest).exp()).collect();
    let total: f64 = exponentials.iter().sum();
    exponentials.iter().map(|e| e / total).collect()
}

/// exp(entropy of F / ΣF): how many units share the importance. 1 means one-hot, `units` means uniform, and 0 that nothing is important.
pub fn effective_units(importance: &[f64]) -> f64 {
    let total: f64 = importance.iter().sum();
    if total == 0.0 {
        return 0.0;
    }
    let entropy: f64 = importance.iter().map(|f| f / total).filter(|p| *p > 0.0).map(|p| -p * p.ln()).sum();
    entropy.exp()
}

/// In which way importances say nothing about the units.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Degenerate {
    /// Fewer than two effective units: all but one are left free.
    OneHot,
    /// More than 99% of the units: all are held alike.
    Uniform,
}

/// Whether so many effective units of so many mean that the rule degenerated.
pub fn degenerate(effective: f64, units: usize) -> Option<Degenerate> {
    if units < 2 || effective == 0.0 {
        None
    } else if effective < 2.0 {
        Some(Degenerate::OneHot)
    } else if effective > 0.99 * units as f64 {
        Some(Degenerate::Uniform)
    } else {
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const DRAW: Draw<'_> = Draw { seed: 1, phase: "dpo-1" };

    fn f(rule: Rule, accumulated: &[f64], f_max: f64) -> Vec<f64> {
        importance(rule, accumulated, f_max, DRAW).unwrap()
    }

    #[test]
    fn the_softmax_degenerates_both_ways() {
        let changes = [1e-10, 2e-10, 4e-10];
        let paper = f(Rule::Paper, &changes, 50.0);
        assert!(paper.iter().all(|v| (v - 50.0 / 3.0).abs() < 1e-7));
        assert_eq!(degenerate(effective_units(&paper), 3), Some(Degenerate::Uniform));
        let reference = f(Rule::Reference, &changes, 50.0);
        assert_eq!(reference, [0.0, 0.0, 50.0]);
        assert_eq!(degenerate(effective_units(&reference), 3), Some(Degenerate::OneHot));
    }

    #[test]
    fn relative_and_proportional_do_not_depend_on_the_scale_of_the_changes() {
        for rule in [Rule::Relative, Rule::Proportional] {
            let small = f(rule, &[1e-10, 2e-10, 4e-10], 100.0);
            let large = f(rule, &[1.0, 2.0, 4.0], 100.0);
            assert!(small.iter().zip(&large).all(|(a, b)| (a - b).abs() < 1e-12 * b));
        }
        let shares = f(Rule::Proportional, &[1.0, 3.0], 100.0);
        assert_eq!(shares, [25.0, 75.0]);
    }

    #[test]
    fn nothing_changed_means_uniform() {
        for rule in [Rule::Paper, Rule::Reference, Rule::Relative, Rule::Proportional] {
            assert_eq!(f(rule, &[0.0; 4], 8.0), [2.0; 4]);
        }
    }

    #[test]
    fn where_nothing_is_held_nobody_is_warned() {
        let nothing = f(Rule::Relative, &[1.0, 3.0, 4.0], 0.0);
        assert_eq!((effective_units(&nothing), degenerate(effective_units(&nothing), 3)), (0.0, None));
    }

    #[test]
    fn fewer_than_two_units_or_all_but_a_hundredth_say_nothing() {
        assert_eq!(degenerate(1.99, 10), Some(Degenerate::OneHot));
        assert_eq!((degenerate(2.0, 10), degenerate(9.9, 10)), (None, None));
        assert_eq!(degenerate(9.91, 10), Some(Degenerate::Uniform));
    }

    #[test]
    fn random_draws_depend_on_seed_and_phase_alone() {
        let draw = |seed, phase| importance(Rule::Random, &[0.0; 5], 1.0, Draw { seed, phase }).unwrap();
        assert_eq!(draw(1, "dpo-1"), draw(1, "dpo-1"));
        assert_ne!(draw(1, "dpo-1"), draw(1, "sft-2"));
        assert_ne!(draw(1, "dpo-1"), draw(2, "dpo-1"));
        assert!((draw(1, "dpo-1").iter().sum::<f64>() - 1.0).abs() < 1e-12);
    }
}
