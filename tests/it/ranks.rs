//! Several ranks in one process, each a thread with its own trainer, against a single rank.

use std::collections::BTreeMap;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::time::Duration;

use burn::tensor::{Tensor, TensorData};
use hbat::consolidation::Rule;
use hbat::ppo::Critics;
use hbat::reduce::Reduce;
use hbat::schedule::{Method, ScheduleSettings, phases};
use hbat::trainer::{Event, TensorSet, Trainer};

use crate::fixtures::{block_on, cpu, numbers};
use crate::runs::{
    Outcome, by_ppo, by_raft, close, comparable, critics, data, finish, judge, largest_difference, run, schedule, settings,
    start, weights,
};

/// What a rank tells the others: which collective it is in, and its numbers.
type Message = (&'static str, Vec<f64>);

/// A rank's channels to and from every other.
struct Link {
    rank: usize,
    to: BTreeMap<usize, Sender<Message>>,
    from: BTreeMap<usize, Receiver<Message>>,
}

/// Links that connect every rank with every other.
fn links(world: usize) -> Vec<Link> {
    let link = |rank| Link { rank, to: BTreeMap::new(), from: BTreeMap::new() };
    let mut links: Vec<Link> = (0..world).map(link).collect();
    for (from, to) in (0..world).flat_map(|a| (0..world).map(move |b| (a, b))).filter(|(a, b)| a != b) {
        let (sender, receiver) = channel();
        links[from].to.insert(to, sender);
        links[to].from.insert(from, receiver);
    }
    links
}

impl Link {
    /// Every rank's numbers, in the order of ranks. Fails where the ranks are not in the same collective.
    fn gather(&self, what: &'static str, mine: &[f64]) -> Vec<Vec<f64>> {
        for sender in self.to.values() {
            sender.send((what, mine.to_vec())).expect("the other rank listens");
        }
        let take = |other: &Receiver<Message>| {
            let (theirs, numbers) = other.recv_timeout(Duration::from_secs(60)).expect("the other rank takes part");
            assert_eq!(theirs, what, "the ranks have come apart");
            numbers
        };
        (0..self.world()).map(|r| self.from.get(&r).map_or_else(|| mine.to_vec(), take)).collect()
    }
}

fn wide(tensor: &Tensor<2>) -> Vec<f64> {
    numbers(tensor).into_iter().map(f64::from).collect()
}

fn narrow(values: &[f64], like: &Tensor<2>) -> Tensor<2> {
    let values: Vec<f32> = values.iter().map(|v| *v as f32).collect();
    Tensor::from_data(TensorData::new(values, like.dims()), &like.device())
}

impl Reduce for Link {
    fn rank(&self) -> usize {
        self.rank
    }

    fn world(&self) -> usize {
        self.to.len() + 1
    }

    async fn sum(&self, values: &mut [f64]) {
        let all = self.gather("sum", values);
        assert!(all.iter().all(|theirs| theirs.len() == values.len()), "ranks sum different numbers of values");
        for (i, value) in values.iter_mut().enumerate() {
            *value = all.iter().map(|theirs| theirs[i]).sum();
        }
    }

    async fn sum_tensor(&self, tensor: Tensor<2>) -> Tensor<2> {
        let all = self.gather("sum of a tensor", &wide(&tensor));
        let sum: Vec<f64> = (0..all[0].len()).map(|i| all.iter().map(|theirs| theirs[i]).sum()).collect();
        narrow(&sum, &tensor)
    }

    async fn broadcast(&self, tensor: Tensor<2>, owner: usize) -> Tensor<2> {
        narrow(&self.gather("broadcast", &wide(&tensor))[owner], &tensor)
    }
}

/// Runs `work` on every rank at once; what each returns, in the order of ranks.
fn on_ranks<T: Send>(world: usize, work: impl Fn(Link) -> T + Sync) -> Vec<T> {
    std::thread::scope(|scope| {
        let threads: Vec<_> = links(world).into_iter().map(|link| scope.spawn(|| work(link))).collect();
        threads.into_iter().map(|thread| thread.join().expect("a rank")).collect()
    })
}

fn trainer(schedule: &ScheduleSettings, link: Link) -> Trainer<Link> {
    Trainer::with_reduce((start(), critics(schedule, cpu())), data(7, 6), phases(schedule), settings(), link)
}

/// AdamW divides rounding noise by itself where a gradient is almost zero; with this ε it does not.
fn smooth(method: Method, rule: Rule, batch: usize) -> ScheduleSettings {
    let mut schedule = schedule(method, rule);
    for training in [&mut schedule.sft, &mut schedule.preference_training] {
        training.optimizer.eps = 1e-2;
        training.batch_size = batch;
    }
    schedule
}

fn compare(found: &Outcome, expected: &Outcome, rank: usize, nothing_to_do: impl Fn(usize) -> bool) {
    let difference = largest_difference(&found.weights, &expected.weights);
    assert!(difference <= 1e-6, "rank {rank}: weights are off by {difference:e}");
    assert_eq!(found.steps().len(), expected.steps().len());
    for (found, expected) in found.steps().into_iter().zip(expected.steps()) {
        let name = |what: &str| format!("rank {rank}, {what} of {} step {}", found.phase, found.step);
        assert_eq!((found.tokens, found.learning_rate), (expected.tokens, expected.learning_rate));
        // PPO's is a difference of advantages that sum to nothing.
        let tolerance = if found.objective == "ppo" { 1e-6 / expected.loss.abs().max(1e-12) } else { 1e-6 };
        close(&name("loss"), found.loss, expected.loss, tolerance);
        close(&name("gradient norm"), found.grad_norm, expected.grad_norm, 1e-5);
        close(&name("penalty"), found.penalty, expected.penalty, 1e-4);
        assert!(found.metrics.len() == expected.metrics.len() || nothing_to_do(rank), "{}", name("number of metrics"));
        // Of a mini-batch of which it has no part, a rank knows no such means.
        let shared = |metric: &str| !metric.ends_with("clip_fraction") && metric != "approx_kl";
        for ((metric, found), (same, expected)) in comparable(found).zip(comparable(expected)).filter(|((m, _), _)| shared(m)) {
            assert_eq!(metric, same);
            assert!((found - expected).abs() <= 1e-5 * expected.abs().max(1.0), "{metric}: {found}, not {expected}");
        }
    }
    for (found, expected) in found.ended().into_iter().zip(expected.ended()) {
        for (found, expected) in found.change.iter().zip(&expected.change) {
            close("C", *found, *expected, 1e-4);
        }
    }
}

/// A run on several ranks does what a run on one does, on each of them, and all end with the same weights.
fn check(world: usize, schedule: &ScheduleSettings) {
    let expected = run(schedule, settings());
    let outcomes = on_ranks(world, |link| finish(&mut trainer(schedule, link)));
    for (rank, found) in outcomes.iter().enumerate() {
        compare(found, &expected, rank, |rank| rank >= schedule.preference_training.batch_size);
        assert!(found.weights == outcomes[0].weights, "ranks 0 and {rank} have different weights");
        assert_eq!(found.ledger, outcomes[0].ledger);
    }
}

#[test]
fn two_ranks_train_as_one_does_on_uneven_shares() {
    check(2, &smooth(Method::Hbat, Rule::Relative, 3));
}

#[test]
fn three_ranks_train_as_one_does() {
    check(3, &smooth(Method::Hbat, Rule::Paper, 6));
}

#[test]
fn a_rank_without_an_example_takes_part() {
    check(2, &smooth(Method::Hbat, Rule::Relative, 1));
}

#[test]
fn ranks_agree_on_fisher_information_frozen_units_and_mixed_steps() {
    check(2, &smooth(Method::Hbat, Rule::Fisher, 3));
    check(2, &smooth(Method::HbatFreeze, Rule::Paper, 3));
    check(2, &smooth(Method::Mix, Rule::Paper, 3));
}

#[test]
fn ranks_agree_on_answers_and_what_they_are_worth() {
    check(2, &by_ppo(smooth(Method::Hbat, Rule::Relative, 3)));
    check(3, &by_ppo(smooth(Method::Hbat, Rule::Paper, 2)));
    check(2, &by_raft(smooth(Method::Hbat, Rule::Relative, 3)));
    check(3, &by_raft(smooth(Method::Hbat, Rule::Paper, 2)));
}

#[test]
fn optimizer_state_is_divided_among_the_ranks() {
    let schedule = smooth(Method::Sft, Rule::Paper, 3);
    let held = on_ranks(2, |link| {
        let mut trainer = trainer(&schedule, link);
        while !matches!(block_on(trainer.step()).expect("a step"), Event::Step(_)) {}
        let has = |set| (0..20).filter(|&unit| trainer.has(set, unit)).collect::<Vec<usize>>();
        (has(TensorSet::FirstMoment), has(TensorSet::SecondMoment))
    });
    let (even, odd): (Vec<usize>, Vec<usize>) = (0..20).partition(|unit| unit % 2 == 0);
    assert_eq!(held, [(even.clone(), even), (odd.clone(), odd)]);
}

#[test]
fn a_rank_whose_judge_gives_no_number_stops_them_all() {
    let schedule = by_ppo(smooth(Method::TwoStageReversed, Rule::Paper, 2));
    let ends = on_ranks(2, |link| {
        let mut broken = judge(cpu());
        if link.rank() == 1 {
            let head = broken.units().len() - 1;
            let nan = broken.take(head) * f32::NAN;
            broken.put(head, nan);
        }
        let models = (start(), Some(Critics::new(&broken, judge(cpu()), vec![1])));
        let mut trainer = Trainer::with_reduce(models, data(7, 6), phases(&schedule), settings(), link);
        loop {
            match block_on(trainer.step()) {
                Ok(event) => assert!(!matches!(event, Event::Step(_)), "a step was taken"),
                Err(error) => break error.to_string(),
            }
        }
    });
    assert!(ends[0].contains("score of an answer is NaN at step 1 of phase ppo-1"), "{}", ends[0]);
    assert_eq!(ends[0], ends[1]);
}

#[test]
fn a_rank_whose_numbers_are_not_finite_stops_them_all() {
    let mut schedule = smooth(Method::Sft, Rule::Paper, 1);
    schedule.sft.learning_rate = 1e25;
    let ends = on_ranks(2, |link| {
        let mut trainer = trainer(&schedule, link);
        let error = loop {
            match block_on(trainer.step()) {
                Ok(event) => assert_ne!(event, Event::Finished),
                Err(error) => break error.to_string(),
            }
        };
        (error, weights(trainer.policy()).concat().iter().map(|w| w.to_bits()).collect::<Vec<_>>())
    });
    assert!(ends[0].0.contains("of phase sft-1"), "{}", ends[0].0);
    assert!(ends[0] == ends[1], "{} and {}", ends[0].0, ends[1].0);
}
