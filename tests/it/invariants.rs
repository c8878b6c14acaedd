//! What must hold whatever the numbers are: switched-off parts leave no trace, and how work is cut changes nothing.

use std::collections::BTreeMap;
use std::f64::consts::LN_2;

use burn::tensor::Device;
use hbat::compute::Compute;
use hbat::consolidation::Rule;
use hbat::engine::{Accumulate, Engine};
use hbat::error::Error;
use hbat::objective::{Dpo, Objective, Sft};
use hbat::reduce::Alone;
use hbat::schedule::{Method, Order, ScheduleSettings, phases};
use hbat::tokens::{Batch, Column, Group, Sequence};
use hbat::toy::random_policy;
use hbat::trainer::{Data, Event, KeepStart, Settings, TensorSet, Term, Trainer, accumulate};

use crate::fixtures::{block_on, numbers};
use crate::runs::{
    Outcome, close, config, data, finish, finish_phase, largest_difference, run, schedule, settings, start, weights,
};

/// Weights, changes and every number of every step that does not speak of the penalty's own measure.
fn assert_same_training(found: &Outcome, expected: &Outcome) {
    assert!(found.weights == expected.weights, "the final weights differ");
    assert_eq!(found.ledger, expected.ledger);
    let steps = found.steps().into_iter().zip(expected.steps());
    assert_eq!(found.steps().len(), expected.steps().len());
    for (found, expected) in steps {
        assert_eq!(found, expected);
    }
}

#[test]
fn importance_of_nothing_is_no_consolidation() {
    let without = run(&schedule(Method::Alternating, Rule::Paper), settings());
    for (rule, lambda, f_max) in
        [(Rule::Paper, 1.0, 0.0), (Rule::Relative, 0.0, 100.0), (Rule::Random, 0.0, 100.0), (Rule::Fisher, 0.0, 100.0)]
    {
        let mut with = schedule(Method::Hbat, rule);
        (with.consolidation.lambda, with.consolidation.f_max) = (lambda, f_max);
        assert_same_training(&run(&with, settings()), &without);
    }
}

#[test]
fn consolidation_changes_the_training_and_lessens_the_change() {
    let without = run(&schedule(Method::Alternating, Rule::Paper), settings());
    for rule in [Rule::Paper, Rule::Relative, Rule::Proportional, Rule::Random, Rule::Fisher] {
        let mut with = schedule(Method::Hbat, rule);
        with.consolidation.lambda = if rule == Rule::Fisher { 1e3 } else { 10.0 };
        let with = run(&with, settings());
        let reports: Vec<_> = with.started().iter().map(|phase| phase.importance.is_some()).collect();
        assert_eq!(reports, [false, true, true, true], "{rule:?}");
        assert_eq!(with.ended()[0], without.ended()[0], "the first phase is held by nothing");
        let total = |o: &Outcome| o.ended()[1].change.iter().sum::<f64>();
        assert!(total(&with) < total(&without), "{rule:?}: {} and {}", total(&with), total(&without));
    }
}

#[test]
fn one_subset_without_consolidation_is_two_stage_training() {
    let once = |method| run(&ScheduleSettings { subsets: 1, ..schedule(method, Rule::Relative) }, settings());
    assert_same_training(&once(Method::Alternating), &once(Method::TwoStage));
    assert_same_training(&once(Method::Hbat), &once(Method::AnchorOnly));
    assert_ne!(once(Method::AnchorOnly).weights, once(Method::TwoStage).weights);
}

/// The gradient of a batch of groups, cut into forward passes of so many groups, padded to so many tokens.
fn gradient(objective: &dyn Objective, groups: &[Group], cut: usize, bucket: usize) -> (Vec<Vec<f32>>, f64) {
    let policy = start();
    let mut sink = Accumulate::new(policy.units().len());
    let batches = groups.chunks(cut).map(|part| Batch::new(part, bucket)).collect();
    let terms = [Term { objective, batches, factor: 1.0 }];
    let reports = block_on(accumulate(Engine::Segmented, &policy, &terms, &mut sink, &Alone)).expect("a gradient");
    (sink.into_sums().into_iter().map(|g| numbers(&g.expect("a gradient"))).collect(), reports[0].loss)
}

/// Both objectives with groups of uneven lengths to train on.
fn objectives() -> [(Box<dyn Objective>, Vec<Group>); 2] {
    let Data { demonstrations, mut preferences } = data(7, 7);
    for (i, group) in preferences.iter_mut().enumerate() {
        group.columns.insert(Column::ReferenceLogProb, vec![-20.0 - i as f32, -18.0]);
    }
    [(Box::new(Sft), demonstrations), (Box::new(Dpo::default()), preferences)]
}

#[test]
fn accumulation_padding_and_order_change_no_gradient() {
    for (objective, mut groups) in objectives() {
        let (expected, loss) = gradient(objective.as_ref(), &groups, 7, 1);
        let compare = |groups: &[Group], cut, bucket| {
            let (found, found_loss) = gradient(objective.as_ref(), groups, cut, bucket);
            let difference = largest_difference(&found, &expected);
            assert!(difference <= 2e-6, "{}, cut {cut}, bucket {bucket}: off by {difference:e}", objective.name());
            close("loss", found_loss, loss, 1e-6);
        };
        for (cut, bucket) in [(1, 1), (2, 1), (4, 1), (7, 8), (7, 64), (3, 8)] {
            compare(&groups, cut, bucket);
        }
        groups.reverse();
        groups.swap(1, 4);
        compare(&groups, 7, 1);
        compare(&groups, 2, 8);
    }
}

#[test]
fn what_fits_in_memory_changes_no_step() {
    let expected = run(&schedule(Method::Hbat, Rule::Relative), settings());
    for (micro_batch, bucket) in [(1, 1), (2, 8), (64, 64)] {
        let found = run(&schedule(Method::Hbat, Rule::Relative), Settings { micro_batch, bucket, ..settings() });
        let steps = found.steps().into_iter().zip(expected.steps());
        for (found, expected) in steps.filter(|(s, _)| s.phase == "sft-1" && s.step == 1) {
            close("loss", found.loss, expected.loss, 1e-6);
            close("norm", found.grad_norm, expected.grad_norm, 1e-6);
        }
        for (found, expected) in found.steps().into_iter().zip(expected.steps()) {
            close("loss", found.loss, expected.loss, 1e-3); // Adam makes rounding visible
            assert_eq!((found.tokens, found.learning_rate), (expected.tokens, expected.learning_rate));
        }
    }
}

/// Examples that a step's number of tokens tells apart: prompt of one token, the i-th response (place, not index) of i + 1.
fn telling_data(demonstrations: usize, preferences: usize) -> Data {
    let sequence = |n: usize| Sequence::new(vec![1], &vec![2; n]).expect("tokens");
    Data {
        demonstrations: (0..demonstrations).map(|i| Group::demonstration(i, sequence(i + 1))).collect(),
        preferences: (0..preferences).map(|i| Group::preference(i, sequence(i + 1), sequence(1))).collect(),
    }
}

/// Which examples each phase trained on how often, per objective.
fn visits(method: Method, order: Order, data: Data) -> BTreeMap<(String, &'static str), BTreeMap<usize, usize>> {
    let mut schedule = ScheduleSettings { subsets: 3, ..schedule(method, Rule::Relative) };
    (schedule.sft.batch_size, schedule.preference_training.batch_size) = (1, 1);
    let mut trainer = Trainer::new(start(), data, phases(&schedule), Settings { order, ..settings() });
    let mut visits: BTreeMap<_, BTreeMap<usize, usize>> = BTreeMap::new();
    for step in finish(&mut trainer).steps() {
        let example = step.tokens - if step.objective == "sft" { 2 } else { 4 };
        *visits.entry((step.phase.clone(), step.objective)).or_default().entry(example).or_default() += 1;
    }
    visits
}

#[test]
fn subsets_are_a_partition_of_the_data_and_epochs_visit_all_of_it() {
    for order in [Order::Shuffled, Order::AsGiven] {
        let visits = visits(Method::Hbat, order, telling_data(8, 7));
        for (objective, examples) in [("sft", 8), ("dpo", 7)] {
            let of_side: Vec<_> = visits.iter().filter(|((_, o), _)| *o == objective).map(|(_, v)| v).collect();
            let sizes: Vec<usize> = of_side.iter().map(|v| v.len()).collect();
            assert_eq!(sizes, if examples == 8 { [3, 3, 2] } else { [3, 2, 2] });
            let mut all: Vec<usize> = of_side.iter().flat_map(|v| v.keys().copied()).collect();
            all.sort_unstable();
            assert_eq!(all, (0..examples).collect::<Vec<_>>(), "{objective}");
            assert!(of_side.iter().flat_map(|v| v.values()).all(|count| *count == 2));
        }
    }
}

#[test]
fn a_mixed_run_visits_every_example_in_every_epoch() {
    let visits = visits(Method::Mix, Order::Shuffled, telling_data(6, 9));
    let twice = |examples| (0..examples).map(|i| (i, 2)).collect::<BTreeMap<_, _>>();
    assert_eq!(visits[&("mix".into(), "sft")], twice(6));
    assert_eq!(visits[&("mix".into(), "dpo")], twice(9));
}

#[test]
fn a_mixed_run_lets_each_objective_follow_its_own_schedule() {
    let mut mix = schedule(Method::Mix, Rule::Paper);
    let rates = |outcome: &Outcome, objective| {
        let of_objective = outcome.steps().into_iter().filter(|s| s.objective == objective).map(|s| s.learning_rate);
        of_objective.collect::<Vec<_>>()
    };
    let alone = run(&schedule(Method::TwoStage, Rule::Paper), settings());
    for probability in [None, Some(0.0), Some(1.0)] {
        mix.preference_probability = probability;
        let mixed = run(&mix, settings());
        for objective in ["sft", "dpo"] {
            assert_eq!(rates(&mixed, objective), rates(&alone, objective));
        }
        let order: Vec<_> = mixed.steps().iter().map(|s| s.objective).collect();
        if let Some(probability) = probability {
            assert!(order.is_sorted_by(|a, b| if probability == 0.0 { a >= b } else { a <= b }), "{order:?}");
        }
    }
}

#[test]
fn preference_phases_start_at_ln_2_and_every_penalty_at_its_anchor() {
    for method in [Method::Hbat, Method::HbatFreeze, Method::Alternating, Method::TwoStageReversed, Method::AnchorOnly] {
        let outcome = run(&schedule(method, Rule::Relative), settings());
        let first = |objective| outcome.steps().into_iter().filter(move |s| s.step == 1 && s.objective == objective);
        assert!(first("dpo").count() >= 1);
        for step in first("dpo") {
            close(&step.phase, step.loss, LN_2, 1e-6);
        }
        for step in first("sft").chain(first("dpo")) {
            assert_eq!((step.penalty, step.penalty_grad_norm), (0.0, 0.0), "{}", step.phase);
        }
    }
}

#[test]
fn penalties_grow_from_their_anchor_and_norms_include_them() {
    let outcome = run(&schedule(Method::Hbat, Rule::Relative), settings());
    let later: Vec<_> = outcome.steps().into_iter().filter(|s| s.step > 1 && s.phase != "sft-1").collect();
    assert!(!later.is_empty());
    assert!(later.iter().all(|s| s.penalty > 0.0 && s.penalty_grad_norm > 0.0 && s.grad_norm > 0.0));
    assert!(outcome.steps().iter().filter(|s| s.phase == "sft-1").all(|s| s.penalty == 0.0));
}

#[test]
fn frozen_units_do_not_move_and_the_others_do() {
    let outcome = run(&schedule(Method::HbatFreeze, Rule::Paper), settings());
    let ended = outcome.ended();
    let frozen: Vec<usize> = outcome.started().iter().map(|phase| phase.frozen).collect();
    assert_eq!(frozen, [0, 10, 10, 10]);
    let accumulated = [ended[0].change.clone(), ended[1].change.clone(), sum(&ended[0].change, &ended[2].change)];
    for (phase, accumulated) in ended[1..].iter().zip(accumulated) {
        let mut order: Vec<usize> = (0..accumulated.len()).collect();
        order.sort_by(|&a, &b| accumulated[b].total_cmp(&accumulated[a]));
        assert!(order[..10].iter().all(|&unit| phase.change[unit] == 0.0), "a frozen unit moved in {}", phase.phase);
        assert!(order[10..].iter().all(|&unit| phase.change[unit] > 0.0), "a free unit stood still in {}", phase.phase);
    }
}

fn sum(a: &[f64], b: &[f64]) -> Vec<f64> {
    a.iter().zip(b).map(|(a, b)| a + b).collect()
}

#[test]
fn frozen_units_have_no_moments() {
    let phases = phases(&schedule(Method::HbatFreeze, Rule::Paper));
    let mut trainer = Trainer::new(start(), data(7, 6), phases, settings());
    let first = finish_phase(&mut trainer);
    while !matches!(block_on(trainer.step()).expect("a step"), Event::Step(_)) {}
    let with_moments: Vec<usize> = (0..20).filter(|&unit| trainer.has(TensorSet::FirstMoment, unit)).collect();
    let mut sorted = first.change.clone();
    sorted.sort_by(f64::total_cmp);
    let median = sorted[9];
    assert_eq!(with_moments, (0..20).filter(|&unit| first.change[unit] <= median).collect::<Vec<_>>());
}

#[test]
fn the_same_run_twice_is_the_same_to_the_last_bit() {
    for rule in [Rule::Relative, Rule::Random, Rule::Fisher] {
        let schedule = schedule(Method::Hbat, rule);
        assert_eq!(run(&schedule, settings()), run(&schedule, settings()));
        assert_ne!(run(&schedule, settings()).weights, run(&schedule, Settings { seed: 4, ..settings() }).weights);
    }
}

#[test]
fn random_importance_is_drawn_anew_for_every_phase() {
    let outcome = run(&schedule(Method::Hbat, Rule::Random), settings());
    let drawn: Vec<_> = outcome.started().iter().filter_map(|p| p.importance.as_ref().map(|i| i.importance.clone())).collect();
    assert_eq!(drawn.len(), 3);
    assert!(drawn[0] != drawn[1] && drawn[1] != drawn[2]);
    drawn.iter().for_each(|f| close("F_max", f.iter().sum(), 100.0, 1e-12));
}

#[test]
fn a_phase_goes_on_from_the_weights_it_is_given() {
    let mut schedule = schedule(Method::AnchorOnly, Rule::Relative);
    schedule.preference_training.learning_rate = 0.0;
    let mut trainer = Trainer::new(start(), data(7, 6), phases(&schedule), settings());
    finish_phase(&mut trainer);
    let best = random_policy(config(), start().compute().clone(), 77);
    trainer.continue_from(best.clone());
    let rest = finish(&mut trainer);
    assert!(rest.ended()[0].change.iter().all(|c| *c == 0.0), "the anchor is not the weights that were given");
    close("loss", rest.steps()[0].loss, LN_2, 1e-6);
    assert!(rest.weights == weights(&best));
}

#[test]
#[should_panic(expected = "weights can only be replaced between phases")]
fn weights_cannot_be_replaced_within_a_phase() {
    let mut trainer = Trainer::new(start(), data(7, 6), phases(&schedule(Method::Sft, Rule::Paper)), settings());
    block_on(trainer.step()).expect("the phase starts");
    trainer.continue_from(start());
}

/// Weights and first moments, unit by unit.
type Numbers = [Vec<Vec<f32>>; 2];

/// A run whose second phase cannot stay finite, up to its error, with the numbers before and after the step that failed.
fn diverge(compute: Compute) -> (Error, Numbers, Numbers) {
    let mut schedule = schedule(Method::TwoStage, Rule::Paper);
    schedule.preference_training.learning_rate = 1e25;
    let policy = random_policy(config(), compute, 5);
    let mut trainer = Trainer::new(policy, data(7, 6), phases(&schedule), settings());
    loop {
        let before = [weights(trainer.policy()), moments(&trainer)];
        if let Err(error) = block_on(trainer.step()) {
            return (error, before, [weights(trainer.policy()), moments(&trainer)]);
        }
    }
}

fn moments(trainer: &Trainer) -> Vec<Vec<f32>> {
    let units = 0..trainer.policy().units().len();
    units.map(|unit| block_on(trainer.values(TensorSet::FirstMoment, unit)).expect("values").unwrap_or_default()).collect()
}

#[test]
fn leaving_the_representable_numbers_stops_before_the_weights_are_touched() {
    for compute in [Compute::host(Device::flex()), Compute::device(Device::flex())] {
        let (error, before, after) = diverge(compute);
        let Error::NotFinite { phase, step, examples, value, .. } = &error else { panic!("{error}") };
        assert_eq!((phase.as_str(), *step, examples.len()), ("dpo-1", 2, 3));
        assert!(!value.is_finite() && examples.iter().all(|e| (100..106).contains(e)), "{error}");
        let bits = |w: &Numbers| w.iter().flatten().flatten().map(|v| v.to_bits()).collect::<Vec<_>>();
        assert!(bits(&before) == bits(&after), "the failed step moved something");
        assert!(error.to_string().contains("at step 2 of phase dpo-1") && error.to_string().contains("Lower the learning rate"));
    }
}

#[test]
fn where_the_start_is_kept_changes_nothing_but_must_be_said() {
    let phases = phases(&schedule(Method::Sft, Rule::Paper));
    let settings = Settings { keep_start: KeepStart::Stored, ..settings() };
    let mut trainer = Trainer::new(start(), data(7, 6), phases, settings);
    let error = loop {
        match block_on(trainer.step()) {
            Ok(event) => assert_ne!(event, Event::Finished),
            Err(error) => break error,
        }
    };
    assert!(error.to_string().contains("the weights at the start of phase sft-1 cannot be read: no reader"), "{error}");
}
