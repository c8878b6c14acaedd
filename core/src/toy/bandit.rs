//! A policy of two parameters on which hybrid alignment training is exact.
//!
//! The policy chooses among a few arms with π(a) ∝ exp(θ·φ(a)). Losses are convex, their derivatives closed, phases run
//! to their minimum by Newton's method in f64, and each parameter is a unit: what the equations of consolidation (paper,
//! Eq. 5–10) say about a phase can be worked out on paper and compared. It goes through the same ledger and importance
//! rules as training does.

use std::ops::Add;

use crate::consolidation::{Consolidation, Draw, Ledger, Record, Side, importance};

/// Two numbers: parameters, features, or a gradient.
type Point = [f64; 2];

/// A loss around a point: value, gradient, Hessian.
#[derive(Debug, Clone, Copy, PartialEq)]
struct Expansion {
    /// The loss.
    value: f64,
    /// Its first derivatives.
    gradient: Point,
    /// Its second derivatives.
    hessian: [Point; 2],
}

impl Add for Expansion {
    type Output = Self;

    fn add(self, other: Self) -> Self {
        let [a, b] = self.hessian;
        let [c, d] = other.hessian;
        Self { value: self.value + other.value, gradient: add(self.gradient, other.gradient), hessian: [add(a, c), add(b, d)] }
    }
}

/// The arms' features φ(a); softmax over θ·φ(a) is the policy.
#[derive(Debug, Clone, PartialEq)]
struct Bandit {
    /// One point per arm.
    arms: Vec<Point>,
}

/// Which arm was preferred over which.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Comparison {
    /// The arm that was preferred.
    chosen: usize,
    /// The other.
    rejected: usize,
}

impl Bandit {
    /// log π(a) of every arm.
    fn log_probs(&self, theta: Point) -> Vec<f64> {
        let scores: Vec<f64> = self.arms.iter().map(|arm| dot(theta, *arm)).collect();
        let largest = scores.iter().copied().fold(f64::NEG_INFINITY, f64::max);
        let log_sum = largest + scores.iter().map(|score| (score - largest).exp()).sum::<f64>().ln();
        scores.into_iter().map(|score| score - log_sum).collect()
    }

    /// Maximum likelihood of demonstrations, of which each arm has a share p: L = −Σ p·log π.
    ///
    /// ∇L = E_π\[φ\] − E_p\[φ\], and the Hessian is the covariance of φ under π.
    fn sft(&self, theta: Point, shares: &[f64]) -> Expansion {
        let log_probs = self.log_probs(theta);
        let probs: Vec<f64> = log_probs.iter().map(|l| l.exp()).collect();
        let (mean, shown) = (self.mean(&probs), self.mean(shares));
        let centred = self.arms.iter().map(|arm| add(*arm, scale(mean, -1.0)));
        let covariance = centred.zip(&probs).map(|(c, p)| [scale(c, p * c[0]), scale(c, p * c[1])]);
        let hessian = covariance.fold([[0.0; 2]; 2], |[a, b], [c, d]| [add(a, c), add(b, d)]);
        let value = -shares.iter().zip(&log_probs).map(|(p, l)| p * l).sum::<f64>();
        Expansion { value, gradient: add(mean, scale(shown, -1.0)), hessian }
    }

    /// Direct preference optimisation, Eq. 4, a mean over comparisons: L = −log σ(β·h).
    ///
    /// The partition functions cancel: h = (θ − θ_ref)·Δ with Δ = φ(chosen) − φ(rejected). So ∇L = −β·σ(−βh)·Δ, and the
    /// Hessian is β²·σ(βh)·σ(−βh)·ΔΔᵀ.
    fn dpo(&self, theta: Point, reference: Point, comparisons: &[Comparison], beta: f64) -> Expansion {
        let moved = add(theta, scale(reference, -1.0));
        let weight = 1.0 / comparisons.len() as f64;
        let one = |comparison: &Comparison| {
            let delta = add(self.arms[comparison.chosen], scale(self.arms[comparison.rejected], -1.0));
            let h = beta * dot(moved, delta);
            let curvature = weight * beta * beta * sigmoid(h) * sigmoid(-h);
            Expansion {
                value: weight * (-h).exp().ln_1p(),
                gradient: scale(delta, -weight * beta * sigmoid(-h)),
                hessian: [scale(delta, curvature * delta[0]), scale(delta, curvature * delta[1])],
            }
        };
        comparisons.iter().map(one).fold(ZERO, Add::add)
    }

    /// E\[φ\] under the given weights.
    fn mean(&self, weights: &[f64]) -> Point {
        self.arms.iter().zip(weights).map(|(arm, w)| scale(*arm, *w)).fold([0.0; 2], add)
    }
}

/// Σ (λ/2)·F_i·(θ_i − θ_i*)² (Eq. 5 and 8) for `strength` = λF; its gradient is λF(θ − θ*).
fn penalty(theta: Point, anchor: Point, strength: Point) -> Expansion {
    let away = add(theta, scale(anchor, -1.0));
    let pull = [strength[0] * away[0], strength[1] * away[1]];
    Expansion { value: 0.5 * dot(pull, away), gradient: pull, hessian: [[strength[0], 0.0], [0.0, strength[1]]] }
}

/// The minimum of a convex loss, by Newton's method with halved steps where a whole one would not shrink the gradient,
/// until no step does: to the last bits of f64.
///
/// In a direction in which the loss is flat the point stays where it starts, as it would under gradient descent.
fn minimise(start: Point, loss: impl Fn(Point) -> Expansion) -> Point {
    let mut theta = start;
    for _ in 0..200 {
        let here = loss(theta);
        let step = newton(&here);
        let smaller = |next: &Point| norm(loss(*next).gradient) < norm(here.gradient);
        let lengths = std::iter::successors(Some(1.0), |length| Some(length * 0.5)).take(50);
        let Some(next) = lengths.map(|length| add(theta, scale(step, length))).find(smaller) else { break };
        theta = next;
    }
    theta
}

/// −H⁻¹·g, with a trace of damping so that a singular Hessian leaves its null space alone.
fn newton(at: &Expansion) -> Point {
    let [[a, b], [c, d]] = at.hessian;
    let damping = 1e-13 * (a + d) + f64::MIN_POSITIVE;
    let (a, d) = (a + damping, d + damping);
    let determinant = a * d - b * c;
    let [x, y] = at.gradient;
    [-(d * x - b * y) / determinant, -(a * y - c * x) / determinant]
}

/// Both objectives' data, cut into as many subsets as there are rounds.
#[derive(Debug, Clone, PartialEq)]
struct Experiment {
    /// The arms.
    bandit: Bandit,
    /// Each round's demonstrations: the share of every arm.
    demonstrations: Vec<Vec<f64>>,
    /// Each round's comparisons.
    comparisons: Vec<Vec<Comparison>>,
    /// DPO's β.
    beta: f64,
    /// The penalty; `None` alternates without it.
    consolidation: Option<Consolidation>,
}

/// A finished phase.
#[derive(Debug, Clone, Copy, PartialEq)]
struct Phase {
    /// What it trained.
    side: Side,
    /// θ at its start: its anchor, and DPO's reference.
    before: Point,
    /// θ at its end.
    after: Point,
    /// λF, zero where nothing was held.
    strength: Point,
}

impl Experiment {
    /// Algorithm 1: IFA_1, HPA_1, IFA_2, …, every phase run to its minimum.
    fn alternate(&self, start: Point) -> Vec<Phase> {
        let mut ledger = Ledger::default();
        let mut theta = start;
        let mut phases = Vec::new();
        for round in 0..self.demonstrations.len() {
            for side in [Side::Instruction, Side::Preference] {
                let phase = self.phase(round, side, theta, &ledger);
                theta = phase.after;
                let change = [0, 1].map(|i| (phase.before[i] - phase.after[i]).powi(2)); // Eq. 7, one element per unit
                ledger.enter(Record { phase: format!("{side:?} {round}"), side, change: change.to_vec() });
                phases.push(phase);
            }
        }
        phases
    }

    fn phase(&self, round: usize, side: Side, before: Point, ledger: &Ledger) -> Phase {
        let strength = self.strength(side, ledger);
        let task = |theta| match side {
            Side::Instruction => self.bandit.sft(theta, &self.demonstrations[round]),
            Side::Preference => self.bandit.dpo(theta, before, &self.comparisons[round], self.beta),
        };
        let after = minimise(before, |theta| task(theta) + penalty(theta, before, strength));
        Phase { side, before, after, strength }
    }

    /// λF from what the other side changed so far, Eq. 6, 9 and 10.
    fn strength(&self, side: Side, ledger: &Ledger) -> Point {
        let held = self.consolidation.zip(ledger.accumulated(side.other()));
        let importances = held.and_then(|(consolidation, accumulated)| {
            let draw = Draw { seed: 0, phase: "bandit" };
            let f = importance(consolidation.rule, &accumulated, consolidation.f_max, draw)?;
            Some([consolidation.lambda * f[0], consolidation.lambda * f[1]])
        });
        importances.unwrap_or([0.0; 2])
    }
}

const ZERO: Expansion = Expansion { value: 0.0, gradient: [0.0; 2], hessian: [[0.0; 2]; 2] };

fn add(a: Point, b: Point) -> Point {
    [a[0] + b[0], a[1] + b[1]]
}

fn scale(a: Point, by: f64) -> Point {
    [a[0] * by, a[1] * by]
}

fn dot(a: Point, b: Point) -> f64 {
    a[0] * b[0] + a[1] * b[1]
}

fn norm(a: Point) -> f64 {
    a[0].hypot(a[1])
}

fn sigmoid(x: f64) -> f64 {
    1.0 / (1.0 + (-x).exp())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::consolidation::Rule;

    /// Three arms: one parameter each for the first two, none for the third. Any distribution is the minimum of its own
    /// likelihood, at θ_i = ln(p_i / p_3).
    fn bandit() -> Bandit {
        Bandit { arms: vec![[1.0, 0.0], [0.0, 1.0], [0.0, 0.0]] }
    }

    const FIRST_OVER_SECOND: Comparison = Comparison { chosen: 0, rejected: 1 };
    const SECOND_OVER_THIRD: Comparison = Comparison { chosen: 1, rejected: 2 };

    fn experiment(rule: Option<Rule>) -> Experiment {
        Experiment {
            bandit: bandit(),
            demonstrations: vec![vec![0.2, 0.5, 0.3], vec![0.1, 0.6, 0.3]],
            comparisons: vec![vec![FIRST_OVER_SECOND], vec![FIRST_OVER_SECOND, SECOND_OVER_THIRD]],
            beta: 0.5,
            consolidation: rule.map(|rule| Consolidation { rule, lambda: 0.7, f_max: 3.0 }),
        }
    }

    fn near(found: Point, expect: Point) {
        assert!((0..2).all(|i| (found[i] - expect[i]).abs() <= 1e-12 * (1.0 + expect[i].abs())), "{found:?}, not {expect:?}");
    }

    /// Compares gradient and Hessian with central differences.
    fn check_derivatives(loss: impl Fn(Point) -> Expansion) {
        let at = [0.3, -0.8];
        for i in 0..2 {
            let moved = |by: f64| loss(std::array::from_fn(|j| at[j] + if i == j { by } else { 0.0 }));
            let (up, down, h) = (moved(1e-5), moved(-1e-5), 2e-5);
            assert!(((up.value - down.value) / h - loss(at).gradient[i]).abs() < 1e-9);
            let slope = scale(add(up.gradient, scale(down.gradient, -1.0)), 1.0 / h);
            assert!((0..2).all(|j| (slope[j] - loss(at).hessian[i][j]).abs() < 1e-9));
        }
    }

    #[test]
    fn derivatives_are_those_of_the_values() {
        let arms = Bandit { arms: vec![[1.0, 0.5], [-0.3, 1.0], [0.2, -0.7], [0.0, 0.1]] };
        check_derivatives(|theta| arms.sft(theta, &[0.1, 0.4, 0.3, 0.2]));
        check_derivatives(|theta| arms.dpo(theta, [0.1, 0.2], &[FIRST_OVER_SECOND, SECOND_OVER_THIRD], 0.5));
        check_derivatives(|theta| penalty(theta, [0.1, 0.2], [0.4, 3.0]));
    }

    #[test]
    fn dpo_is_a_function_of_log_probs_alone() {
        let arms = Bandit { arms: vec![[1.0, 0.5], [-0.3, 1.0], [0.2, -0.7]] };
        let (theta, reference, beta) = ([0.4, -0.2], [0.1, 0.6], 0.3);
        let (now, then) = (arms.log_probs(theta), arms.log_probs(reference));
        let h = (now[0] - then[0]) - (now[1] - then[1]);
        let expect = -(1.0 / (1.0 + (-beta * h).exp())).ln();
        assert!((arms.dpo(theta, reference, &[FIRST_OVER_SECOND], beta).value - expect).abs() < 1e-15);
    }

    #[test]
    fn the_first_phase_is_maximum_likelihood() {
        let phase = experiment(Some(Rule::Relative)).alternate([0.9, -0.4])[0];
        assert_eq!(phase.strength, [0.0; 2]);
        near(phase.after, [(0.2f64 / 0.3).ln(), (0.5f64 / 0.3).ln()]);
    }

    #[test]
    fn importances_come_from_the_changes_of_the_other_side() {
        let start = [0.0, 0.0];
        let (c1, c2) = ((0.2f64 / 0.3).ln().powi(2), (0.5f64 / 0.3).ln().powi(2)); // Eq. 7 for IFA_1
        let strength = |rule| experiment(Some(rule)).alternate(start)[1].strength;
        near(strength(Rule::Proportional), [0.7 * 3.0 * c1 / (c1 + c2), 0.7 * 3.0 * c2 / (c1 + c2)]);
        let softmax = |a: f64, b: f64| [2.1 / (1.0 + (b - a).exp()), 2.1 / (1.0 + (a - b).exp())];
        near(strength(Rule::Paper), softmax(c1, c2)); // Eq. 6
        near(strength(Rule::Relative), softmax(2.0 * c1 / (c1 + c2), 2.0 * c2 / (c1 + c2)));
        near(strength(Rule::Reference), [0.0, 2.1]);
    }

    #[test]
    fn a_held_preference_phase_ends_where_pull_and_gradient_balance() {
        // With δ = θ − θ*, β·σ(−βu)·(1, −1) = λF∘δ and u = δ_1 − δ_2: one equation in u, solved here by bisection.
        let phase = experiment(Some(Rule::Paper)).alternate([0.0, 0.0])[1];
        let [f1, f2] = phase.strength;
        let (mut low, mut high) = (0.0, 100.0);
        for _ in 0..200 {
            let u = 0.5 * (low + high);
            let excess = u - 0.5 * sigmoid(-0.5 * u) * (1.0 / f1 + 1.0 / f2);
            if excess > 0.0 { high = u } else { low = u }
        }
        let push = 0.5 * sigmoid(-0.5 * low);
        near(phase.after, [phase.before[0] + push / f1, phase.before[1] - push / f2]);
    }

    #[test]
    fn changes_accumulate_over_the_rounds_of_a_side() {
        let phases = experiment(Some(Rule::Proportional)).alternate([0.2, 0.1]);
        let sides = [Side::Instruction, Side::Preference, Side::Instruction, Side::Preference];
        assert_eq!(phases.iter().map(|p| p.side).collect::<Vec<_>>(), sides);
        let change = |phase: usize| [0, 1].map(|i| (phases[phase].after[i] - phases[phase].before[i]).powi(2));
        let shares = |sum: Point| scale(sum, 0.7 * 3.0 / (sum[0] + sum[1]));
        near(phases[1].strength, shares(change(0)));
        near(phases[2].strength, shares(change(1))); // HPA_1 alone: HPA_2 does not exist yet
        near(phases[3].strength, shares(add(change(0), change(2)))); // Eq. 10
        assert!((1..4).all(|i| phases[i].before == phases[i - 1].after));
    }

    #[test]
    fn a_later_instruction_phase_is_stationary_under_its_penalty() {
        let phase = experiment(Some(Rule::Relative)).alternate([0.0, 0.0])[2];
        let probs: Vec<f64> = bandit().log_probs(phase.after).iter().map(|l| l.exp()).collect();
        let shown = [0.1, 0.6];
        near([0, 1].map(|i| phase.after[i]), [0, 1].map(|i| phase.before[i] - (probs[i] - shown[i]) / phase.strength[i]));
    }

    #[test]
    fn nothing_is_penalised_at_the_anchor_and_dpo_starts_at_ln_2() {
        let at = [0.4, -1.3];
        assert_eq!(penalty(at, at, [2.0, 5.0]).value, 0.0);
        assert_eq!(penalty(at, at, [2.0, 5.0]).gradient, [0.0; 2]);
        let start = bandit().dpo(at, at, &[FIRST_OVER_SECOND, SECOND_OVER_THIRD], 0.1);
        assert_eq!(start.value, std::f64::consts::LN_2);
    }

    #[test]
    fn no_strength_is_no_penalty_and_infinite_strength_is_no_training() {
        let undecided = vec![FIRST_OVER_SECOND, Comparison { chosen: 1, rejected: 0 }, FIRST_OVER_SECOND, SECOND_OVER_THIRD];
        let of = |consolidation| Experiment {
            comparisons: vec![undecided.clone(), [undecided.clone(), vec![Comparison { chosen: 2, rejected: 1 }]].concat()],
            consolidation,
            ..experiment(None)
        };
        let with = |lambda| of(Some(Consolidation { rule: Rule::Relative, lambda, f_max: 3.0 })).alternate([0.0, 0.0]);
        assert_eq!(with(0.0), of(None).alternate([0.0, 0.0]));
        let rigid = with(1e14);
        near(rigid[3].after, rigid[0].after);
    }

    #[test]
    fn a_preference_that_loses_a_quarter_of_its_votes_is_learned_as_odds_of_three_to_one() {
        let votes = [[FIRST_OVER_SECOND; 3].as_slice(), &[Comparison { chosen: 1, rejected: 0 }]].concat();
        let start = [0.5, 0.2];
        let after = minimise(start, |theta| bandit().dpo(theta, start, &votes, 0.5));
        // β·h = ln 3, shared evenly between the two parameters; their sum is a direction in which the loss is flat.
        near(after, [start[0] + 3f64.ln(), start[1] - 3f64.ln()]);
    }
}
