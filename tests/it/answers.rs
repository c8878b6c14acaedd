//! What steps on a policy's own answers draw, count and report, and how they fail.

use std::collections::BTreeMap;

use burn::tensor::TensorData;
use hbat::budget::{Configs, budget};
use hbat::consolidation::Rule;
use hbat::engine::{Accumulate, Engine};
use hbat::error::{Aftermath, Error};
use hbat::generate::{GenerateError, GenerateSettings, Sampling, Warp, generate};
use hbat::model::{InitError, Policy, Unit};
use hbat::objective::ClippedSurrogate;
use hbat::ppo::{Critics, KlControl};
use hbat::reduce::Alone;
use hbat::schedule::{Method, Order, phases};
use hbat::tokens::{Batch, Column, Group, Sequence};
use hbat::trainer::{Data, Event, Settings, TensorSet, Term, Trainer, accumulate};

use crate::fixtures::{block_on, cpu};
use crate::ppo::{alone, metric, ppo_steps, schedule};
use crate::runs::{by_ppo, by_raft, close, config, critics, data, judge, settings, start};

/// Every answer is trained on, alone.
fn plainly(settings: &mut Settings) {
    (settings.ppo.drop_fraction, settings.ppo.sft_coefficient) = (0.0, 0.0);
}

#[test]
fn a_reward_is_the_score_as_far_as_it_counts_less_what_distance_costs() {
    let free = alone(plainly);
    let clipped = alone(|settings| {
        plainly(settings);
        settings.ppo.score_clip = 0.01;
    });
    // At first the policy is its own reference, and a distance costs nothing.
    close("reward", metric(ppo_steps(&free)[0], "reward"), metric(ppo_steps(&free)[0], "score"), 1e-6);
    let (first, score) = (metric(ppo_steps(&clipped)[0], "reward"), metric(ppo_steps(&clipped)[0], "score"));
    assert!(first.abs() <= 0.01 + 1e-9 && first != 0.0 && score.abs() > 0.02, "{first} of {score}");
    let settings = settings();
    for step in ppo_steps(&free) {
        let expected = metric(step, "score") - settings.ppo.kl_coefficient * metric(step, "kl");
        close("reward", metric(step, "reward"), expected, 1e-5);
    }
}

#[test]
fn a_cold_step_does_not_move_the_coefficient() {
    let run = alone(|settings| {
        settings.ppo.cold_start = 2;
        settings.ppo.kl_control = Some(KlControl { target: 0.5, horizon: 20.0 });
    });
    let betas: Vec<f64> = ppo_steps(&run).into_iter().map(|step| metric(step, "kl_coefficient")).collect();
    let initial = settings().ppo.kl_coefficient;
    assert_eq!(betas[..3], [initial; 3], "the third is the first whose distance counts");
    assert_ne!(betas[3], initial);
}

#[test]
fn answers_without_an_end_are_counted() {
    let missing = |eos: Vec<u32>| {
        let (schedule, judge) = (by_ppo(schedule()), judge(cpu()));
        let models = (start(), Some(Critics::new(&judge, judge.clone(), eos)));
        let mut trainer = Trainer::new(models, data(7, 6), phases(&schedule), settings());
        loop {
            if let Event::Step(step) = block_on(trainer.step()).expect("a step") {
                return metric(&step, "missing_eos");
            }
        }
    };
    assert_eq!((missing((0..23).collect()), missing(Vec::new())), (0.0, 1.0));
}

/// The scores of steps on the same three prompts, by a policy that stays what it is.
fn scores(by: impl Fn(hbat::schedule::ScheduleSettings) -> hbat::schedule::ScheduleSettings) -> Vec<f64> {
    let mut schedule = by(schedule());
    (schedule.subsets, schedule.preference_training.learning_rate) = (1, 0.0);
    schedule.preference_training.optimizer.weight_decay = 0.0;
    let mut settings = Settings { order: Order::AsGiven, ..settings() };
    plainly(&mut settings);
    let models = (start(), critics(&schedule, cpu()));
    let mut trainer = Trainer::new(models, data(0, 3), phases(&schedule)[..1].to_vec(), settings);
    let mut scores = Vec::new();
    loop {
        match block_on(trainer.step()).expect("a step") {
            Event::Step(step) => scores.push(metric(&step, "score")),
            Event::Finished => return scores,
            _ => {}
        }
    }
}

#[test]
fn every_step_draws_other_answers() {
    for scores in [scores(by_ppo), scores(by_raft)] {
        assert!(scores.len() == 2 && scores[0] != scores[1], "{scores:?}");
    }
}

/// A model to which all tokens are alike.
fn indifferent() -> Policy {
    let zeros = |unit: &Unit| Ok::<_, InitError>(TensorData::zeros::<f32, _>(unit.dims()));
    Policy::load(config(), cpu(), zeros).expect("weights that fit")
}

#[test]
fn every_position_of_every_prompt_has_a_draw_of_its_own() {
    let settings =
        GenerateSettings { max_new_tokens: 12, sampling: Sampling::Sample(Warp::default()), ..GenerateSettings::default() };
    let answers = block_on(generate(&indifferent(), &[vec![1], vec![1]], &settings)).expect("a model that works");
    assert!(answers[0].tokens.iter().any(|token| *token != answers[0].tokens[0]), "{answers:?}");
    assert_ne!(answers[0].tokens, answers[1].tokens);
}

#[test]
fn a_reward_model_generates_nothing() {
    let refused = block_on(generate(&judge(cpu()), &[vec![1]], &GenerateSettings::default()));
    assert_eq!(refused.unwrap_err(), GenerateError::NoVocabulary);
}

fn fails(mut trainer: Trainer) -> Error {
    loop {
        match block_on(trainer.step()) {
            Ok(event) => assert_ne!(event, Event::Finished),
            Err(error) => return error,
        }
    }
}

#[test]
fn a_step_that_fails_after_its_first_update_has_changed_weights() {
    let mut schedule = by_ppo(schedule());
    schedule.preference_training.learning_rate = 1e30;
    let mut settings = settings();
    plainly(&mut settings);
    (settings.ppo.cold_start, settings.ppo.mini_batches) = (0, 1);
    let trainer = Trainer::new((start(), critics(&schedule, cpu())), data(7, 6), phases(&schedule), settings);
    match fails(trainer) {
        Error::NotFinite { aftermath, step: 1, .. } => assert_eq!(aftermath, Aftermath::Spoiled),
        other => panic!("{other}"),
    }
}

/// Demonstrations have a token that no answer reads: every answer ends with its first token.
#[test]
fn demonstrations_without_a_likelihood_are_named() {
    let broken = |unit: &Unit| {
        let mut values = vec![0.0f32; unit.elements()];
        if unit.name == "model.embed_tokens.weight" {
            values[22 * 16..].fill(f32::NAN);
        }
        Ok::<_, InitError>(TensorData::new(values, unit.dims()))
    };
    let policy =
        Policy::load(hbat::model::LlamaConfig { tie_word_embeddings: false, ..config() }, cpu(), broken).expect("weights");
    let judge = judge(cpu());
    let critics = Critics::new(&judge, judge.clone(), (0..23).collect());
    let sequence = |prompt: u32| Sequence::new(vec![prompt], &[3, 4]).expect("tokens");
    let data = Data {
        demonstrations: (0..2).map(|i| Group::demonstration(70 + i, sequence(22))).collect(),
        preferences: (0..6).map(|i| Group::preference(i, sequence(5), sequence(5))).collect(),
    };
    let mut settings = settings();
    (settings.ppo.cold_start, settings.ppo.drop_fraction) = (0, 0.0);
    let schedule = by_ppo(crate::runs::schedule(Method::PreferenceOnly, Rule::Paper));
    match fails(Trainer::new((policy, Some(critics)), data, phases(&schedule), settings)) {
        Error::NotFinite { quantity, examples, .. } => {
            assert_eq!(quantity, "loss of demonstrations");
            assert!(!examples.is_empty() && examples.iter().all(|example| [70, 71].contains(example)), "{examples:?}");
        }
        other => panic!("{other}"),
    }
}

#[test]
fn metrics_are_means_over_answers_of_any_length() {
    let answer = |index: usize, length: usize| {
        let response: Vec<u32> = (0..length).map(|t| ((index * 5 + t * 3) % 23) as u32).collect();
        let mut group = Group::demonstration(index, Sequence::new(vec![1, 2], &response).expect("tokens"));
        group.columns = [(Column::OldLogProb, vec![-3.0; length]), (Column::Advantage, vec![1.0; length])].into();
        group
    };
    let (policy, objective) = (start(), ClippedSurrogate { clip: 0.05 });
    let metrics = |groups: &[&Group]| {
        let batches = groups.iter().map(|group| Batch::new([*group], 1)).collect();
        let terms = [Term { objective: &objective, batches, factor: 1.0 }];
        let mut sink = Accumulate::new(policy.units().len());
        let mut reports = block_on(accumulate(Engine::Whole, &policy, &terms, &mut sink, &Alone)).expect("a gradient");
        reports.remove(0).metrics.into_iter().collect::<BTreeMap<_, _>>()
    };
    let (short, long) = (answer(0, 2), answer(1, 9));
    let [short_alone, long_alone, both] = [&[&short][..], &[&long], &[&short, &long]].map(metrics);
    for name in ["approx_kl", "clip_fraction"] {
        close(name, both[name], (short_alone[name] + long_alone[name]) / 2.0, 1e-6);
    }
    assert_ne!(short_alone["approx_kl"], long_alone["approx_kl"]);
}

#[test]
fn a_plan_counts_the_optimizer_steps_that_are_taken() {
    let (schedule, mut settings) = (by_ppo(crate::runs::schedule(Method::Hbat, Rule::Paper)), settings());
    settings.ppo.cold_start = 1;
    let (phases, data, judge) = (phases(&schedule), data(7, 6), judge(cpu()));
    let configs = Configs { policy: &config(), reward: Some(judge.config()) };
    let plan = budget(configs, cpu().layout, &phases, &data, &settings).expect("enough data");
    let mut trainer = Trainer::new((start(), critics(&schedule, cpu())), data, phases, settings);
    assert!(trainer.has(TensorSet::ValueWeights, 0));
    let mut taken: BTreeMap<String, u64> = BTreeMap::new();
    while block_on(trainer.step()).expect("a step") != Event::Finished {
        let running = trainer.progress().running;
        if let Some((phase, ppo)) = running.and_then(|running| Some((running.phase, running.ppo?))) {
            taken.insert(phase, ppo.updates + ppo.value_updates);
        }
    }
    assert_eq!(taken.len(), 2);
    for phase in plan.iter().filter(|phase| phase.phase.starts_with("ppo")) {
        assert_eq!(phase.updates as u64, taken[&phase.phase], "{}", phase.phase);
    }
    let without = Trainer::new(start(), crate::runs::data(1, 1), Vec::new(), crate::runs::settings());
    assert!(!without.has(TensorSet::ValueWeights, 0), "there is no critic");
}
