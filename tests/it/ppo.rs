//! PPO: its arithmetic and a whole HBAT run with it against PyTorch, and what must hold of any such run.

use hbat::compute::Compute;
use hbat::consolidation::{Consolidation, Rule};
use hbat::engine::Engine;
use hbat::generate::Sampling;
use hbat::objective::{ClippedSurrogate, ClippedValue, Objective};
use hbat::optimizer::AdamWSettings;
use hbat::ppo::{Critics, KlControl, KlEstimates, Ppo, explained_variance, generalized_advantages, token_rewards, whiten};
use hbat::reduce::Alone;
use hbat::schedule::{Method, Order, Preference, ScheduleSettings, Training, Warmup, phases};
use hbat::tokens::{Batch, Column, Group, Sequence};
use hbat::trainer::{Data, Event, Settings, StepReport, Trainer, UpdateTiming};
use serde_json::Value;

use crate::backends_agree::{gpu, with_kernels};
use crate::fixtures::{block_on, cpu, named, numbers, policy};
use crate::objectives::{evaluate, group, near};
use crate::runs::{self, by_ppo, finish};
use crate::support::golden;

fn number(case: &Value, key: &str) -> f64 {
    case[key].as_f64().unwrap_or_else(|| panic!("{key} is no number"))
}

fn list(case: &Value, key: &str) -> Vec<f32> {
    serde_json::from_value(case[key].clone()).unwrap_or_else(|_| panic!("{key} is no list"))
}

fn lists(case: &Value, key: &str) -> Vec<Vec<f32>> {
    serde_json::from_value(case[key].clone()).unwrap_or_else(|_| panic!("{key} are no lists"))
}

fn cases<'a>(golden: &'a Value, key: &str) -> &'a Vec<Value> {
    golden[key].as_array().expect("cases")
}

#[track_caller]
fn all_near(what: &str, found: &[Vec<f64>], expected: &[Vec<f32>]) {
    assert_eq!(found.len(), expected.len(), "{what}");
    for (found, expected) in found.iter().zip(expected) {
        assert_eq!(found.len(), expected.len(), "{what}");
        found.iter().zip(expected).for_each(|(found, expected)| near(what, *found, f64::from(*expected)));
    }
}

#[test]
fn advantages_are_those_of_pytorch() {
    let golden = golden("ppo");
    assert!(cases(&golden, "advantages").len() >= 9);
    for case in cases(&golden, "advantages") {
        let name = case["name"].as_str().expect("a name");
        let (values, log_probs, reference) =
            (lists(case, "values"), lists(case, "log_probs"), lists(case, "reference_log_probs"));
        let scores = list(case, "scores");
        let answers = 0..scores.len();
        let reward = |i: usize| token_rewards(&log_probs[i], &reference[i], f64::from(scores[i]), number(case, "beta"));
        let rewards: Vec<Vec<f64>> = answers.clone().map(reward).collect();
        all_near(&format!("rewards of {name}"), &rewards, &lists(case, "rewards"));
        let (discount, lambda) = (number(case, "gamma"), number(case, "lambda"));
        let advantage = |i: usize| generalized_advantages(&rewards[i], &values[i], discount, lambda);
        let mut advantages: Vec<Vec<f64>> = answers.clone().map(advantage).collect();
        all_near(&format!("advantages of {name}"), &advantages, &lists(case, "advantages"));
        block_on(whiten(&mut advantages, &Alone));
        all_near(&format!("whitened advantages of {name}"), &advantages, &lists(case, "whitened"));
        let explained = block_on(explained_variance(&lists(case, "returns").concat(), &values.concat(), &Alone));
        near(&format!("explained variance of {name}"), explained, number(case, "explained_variance"));
        let kl: Vec<KlEstimates> = answers.clone().map(|i| KlEstimates::of(&log_probs[i], &reference[i])).collect();
        let mean = |of: fn(&KlEstimates) -> f64| kl.iter().map(of).sum::<f64>() / kl.len() as f64;
        near(&format!("k1 of {name}"), mean(|kl| kl.k1), number(case, "kl"));
        near(&format!("k3 of {name}"), mean(|kl| kl.k3), number(case, "k3"));
    }
}

/// Compares a loss on one response of as many tokens as there are scores, whose share is that of all tokens.
fn check_loss(case: &Value, objective: &dyn Objective, scores: &str, columns: [(Column, &str); 2]) {
    let (name, scores) = (format!("{} {}", objective.name(), case["name"]), list(case, scores));
    let columns = columns.map(|(column, key)| (column, list(case, key)));
    let batch = Batch::new([&group(0, &[scores.len()], &columns)], 1);
    let found = evaluate(objective, &scores, &batch);
    near(&name, found.loss, number(case, "loss"));
    let metric = |wanted: &str| found.metrics.iter().find(|(name, _)| *name == wanted).expect("a metric").1;
    near(&format!("clip fraction of {name}"), metric("clip_fraction"), number(case, "clip_fraction"));
    if objective.name() == "ppo" {
        near(&format!("KL of {name}"), metric("approx_kl"), number(case, "approximate_kl"));
    }
    for (found, expected) in found.gradient.iter().zip(list(case, "gradient")) {
        near(&format!("gradient of {name}"), f64::from(*found), f64::from(expected));
    }
}

#[test]
fn both_losses_and_their_gradients_are_those_of_pytorch() {
    let golden = golden("ppo");
    for case in cases(&golden, "policy_loss") {
        let columns = [(Column::OldLogProb, "old"), (Column::Advantage, "advantages")];
        check_loss(case, &ClippedSurrogate { clip: number(case, "clip") }, "new", columns);
    }
    for case in cases(&golden, "value_loss") {
        let columns = [(Column::OldValue, "old_values"), (Column::Return, "returns")];
        check_loss(case, &ClippedValue { clip: number(case, "clip") }, "values", columns);
    }
}

#[test]
fn the_coefficient_follows_the_distance_as_in_pytorch() {
    for case in cases(&golden("ppo"), "kl_controller") {
        let control = KlControl { target: number(case, "target"), horizon: number(case, "horizon") };
        let mut beta = number(case, "beta");
        for update in cases(case, "updates") {
            beta = control.next(beta, number(update, "kl"), number(update, "n") as usize);
            near("β", beta, number(update, "beta"));
        }
    }
}

fn tokens(value: &Value) -> Vec<u32> {
    serde_json::from_value(value.clone()).expect("token ids")
}

fn traced_data(golden: &Value) -> Data {
    let demonstration = |(i, e): (usize, &Value)| {
        Group::demonstration(i, Sequence::new(tokens(&e["prompt"]), &tokens(&e["response"])).expect("no empty parts"))
    };
    // Of a pair PPO reads the prompt alone.
    let prompt = |(i, prompt): (usize, &Value)| {
        let sequence = Sequence::new(tokens(prompt), &[3]).expect("no empty parts");
        Group::preference(i, sequence.clone(), sequence)
    };
    Data {
        demonstrations: cases(golden, "demonstrations").iter().enumerate().map(demonstration).collect(),
        preferences: cases(golden, "prompts").iter().enumerate().map(prompt).collect(),
    }
}

fn traced_schedule(run: &Value) -> ScheduleSettings {
    let training = |section: &Value, batch: &Value, warmup| Training {
        learning_rate: number(section, "learning_rate"),
        decay: hbat::optimizer::Decay::Cosine,
        warmup,
        batch_size: batch["batch"].as_u64().expect("a count") as usize,
        epochs: section["epochs"].as_u64().unwrap_or(1) as usize,
        optimizer: AdamWSettings::default(),
    };
    let sft = training(&run["sft"], run, Warmup { steps: 0, fraction: 0.0 });
    let ppo = training(&run["ppo"], &run["ppo"], Warmup { steps: 100, fraction: 0.1 });
    ScheduleSettings {
        method: Method::Hbat,
        subsets: 2,
        sft,
        preference: Preference::Ppo,
        preference_training: ppo,
        consolidation: Consolidation { rule: Rule::Relative, lambda: number(run, "lambda"), f_max: number(run, "F_max") },
        freeze_fraction: 0.2,
        preference_probability: None,
    }
}

fn traced_ppo(run: &Value) -> Ppo {
    Ppo {
        kl_coefficient: number(run, "beta"),
        kl_control: None,
        clip: number(run, "clip"),
        value_clip: number(run, "value_clip"),
        discount: number(run, "gamma"),
        gae_lambda: number(run, "lambda"),
        score_clip: number(run, "score_clip"),
        inner_epochs: number(run, "inner_epochs") as usize,
        mini_batches: 1,
        drop_fraction: 0.0,
        sft_coefficient: 0.0,
        value_learning_rate: number(run, "value_learning_rate"),
        cold_start: number(run, "cold_steps") as usize,
        max_new_tokens: number(run, "new_tokens") as usize,
        sampling: Sampling::Greedy,
        rollout_batch: 2,
    }
}

fn traced(golden: &Value, (compute, engine): (&Compute, Engine), method: Method, ppo: Ppo) -> Trainer {
    let policy_of = |config: &str, weights: &str| policy(&golden[config], &golden[weights], compute);
    let judge = policy_of("reward_config", "reward_start");
    let critics = Critics::new(&judge, judge.clone(), vec![number(&golden["run"]["ppo"], "eos") as u32]);
    let settings = Settings { engine, order: Order::AsGiven, ppo, ..runs::settings() };
    let models = (policy_of("config", "start"), Some(critics));
    let schedule = ScheduleSettings { method, ..traced_schedule(&golden["run"]) };
    Trainer::new(models, traced_data(golden), phases(&schedule), settings)
}

fn mean(expected: &Value, key: &str) -> f64 {
    let values: Vec<f64> = serde_json::from_value(expected[key].clone()).expect("numbers");
    values.iter().sum::<f64>() / values.len().max(1) as f64
}

/// Differences of numbers that are about as large as `scale`.
#[track_caller]
fn within(what: &str, found: f64, expected: f64, scale: f64) {
    let difference = (found - expected).abs();
    assert!(difference <= 2e-4 * expected.abs() + 1e-5 * scale, "{what}: {found}, PyTorch {expected}, off by {difference:e}");
}

fn check_ppo_step(found: &StepReport, expected: &Value) {
    let name = |what: &str| format!("{what} of {} step {}", found.phase, found.step);
    let metric = |wanted: &str| metric(found, wanted);
    within(&name("score"), metric("score"), mean(expected, "scores"), 1.0);
    within(&name("kl"), metric("kl"), number(expected, "kl"), 1.0);
    within(&name("k3"), metric("kl_k3"), number(expected, "k3"), 0.1);
    let lengths: Vec<Vec<u32>> = serde_json::from_value(expected["responses"].clone()).expect("token lists");
    let length = lengths.iter().map(Vec::len).sum::<usize>() as f64 / lengths.len() as f64;
    within(&name("length"), metric("response_tokens"), length, 0.0);
    within(&name("explained variance"), metric("explained_variance"), number(expected, "explained_variance"), 1.0);
    within(&name("value loss"), metric("value_loss"), mean(expected, "value_losses"), 0.1);
    within(&name("value gradient"), metric("value_grad_norm"), mean(expected, "value_grad_norms"), 0.1);
    within(&name("policy loss"), found.loss, mean(expected, "policy_losses"), 0.1);
    within(&name("gradient"), found.grad_norm, mean(expected, "grad_norms"), 0.1);
    within(&name("penalty"), found.penalty, mean(expected, "penalties"), 1e-2 * found.penalty.abs());
    within(&name("penalty's gradient"), found.penalty_grad_norm, mean(expected, "penalty_grad_norms"), 1e-3);
    within(&name("rate"), found.learning_rate, number(expected, "learning_rate"), 1e-9);
    within(&name("critic's rate"), metric("value_learning_rate"), number(expected, "value_learning_rate"), 1e-9);
}

fn follows_pytorch(compute: &Compute, engine: Engine) {
    let golden = golden("ppo_trace");
    let mut trainer = traced(&golden, (compute, engine), Method::Hbat, traced_ppo(&golden["run"]["ppo"]));
    let outcome = finish(&mut trainer);
    let expected = cases(&golden, "steps");
    assert_eq!(outcome.steps().len(), expected.len());
    for (found, expected) in outcome.steps().into_iter().zip(expected) {
        assert_eq!(found.phase, expected["phase"]);
        match found.objective {
            "ppo" => check_ppo_step(found, expected),
            _ => within(&format!("loss of {} step {}", found.phase, found.step), found.loss, number(expected, "loss"), 0.1),
        }
    }
    for (ended, expected) in outcome.ended().into_iter().zip(cases(&golden, "phases")) {
        let changes = named(&expected["C"]);
        for (unit, found) in trainer.policy().units().iter().zip(&ended.change) {
            let off = (found - changes[&unit.name]).abs() / changes[&unit.name];
            assert!(off <= 2e-3, "C of {} in {} is off by {off:e}", unit.name, ended.phase);
        }
    }
    for (unit, weights) in trainer.policy().units().iter().zip(&outcome.weights) {
        let expected: Vec<f32> = list(&golden["final_weights"][&unit.name], "data");
        let squares = |values: &[f32]| values.iter().map(|v| f64::from(*v).powi(2)).sum::<f64>();
        within(&format!("final Σθ² of {}", unit.name), squares(weights), squares(&expected), 0.0);
    }
    let critic = trainer.critics().and_then(Critics::value).expect("a critic");
    for (index, unit) in critic.units().iter().enumerate() {
        let squares: f64 = numbers(&critic.exact(index)).iter().map(|v| f64::from(*v).powi(2)).sum();
        let expected = number(&golden["value_final"][&unit.name], "sum_of_squares");
        within(&format!("final Σθ² of the critic's {}", unit.name), squares, expected, 0.0);
    }
}

#[test]
fn a_run_follows_pytorch() {
    follows_pytorch(&cpu(), Engine::Whole);
    follows_pytorch(&cpu(), Engine::Segmented);
}

#[test]
fn by_autodiff_it_follows_pytorch_too() {
    follows_pytorch(&cpu(), Engine::Autodiff);
}

/// Answers, verdicts and both models' updates: by Burn's operations, and by hbat's kernels.
#[test]
fn on_a_gpu_it_follows_pytorch_too() {
    let Some(device) = gpu() else { return };
    follows_pytorch(&Compute::device(device.clone()), Engine::Whole);
    follows_pytorch(&with_kernels(device), Engine::Segmented);
}

fn ends_as(trainer: &Trainer, outcome: &runs::Outcome, expected: &Value) {
    for (unit, weights) in trainer.policy().units().iter().zip(&outcome.weights) {
        let squares: f64 = weights.iter().map(|v| f64::from(*v).powi(2)).sum();
        let expected = number(&expected[&unit.name], "sum_of_squares");
        within(&format!("final Σθ² of {}", unit.name), squares, expected, 0.0);
    }
}

/// PPO alone, with demonstrations in every update of the policy.
#[test]
fn with_demonstrations_beside_the_answers_it_follows_pytorch() {
    let golden = golden("ppo_trace");
    let (run, beside) = (&golden["run"]["ppo"], &golden["beside"]);
    for engine in [Engine::Whole, Engine::Segmented, Engine::Autodiff] {
        let ppo = Ppo { sft_coefficient: number(beside, "sft_coefficient"), ..traced_ppo(run) };
        let mut trainer = traced(&golden, (&cpu(), engine), Method::PreferenceOnly, ppo);
        let outcome = finish(&mut trainer);
        assert_eq!(outcome.steps().len(), cases(beside, "steps").len());
        for (found, expected) in outcome.steps().into_iter().zip(cases(beside, "steps")) {
            check_ppo_step(found, expected);
            let losses = if found.grad_norm > 0.0 { mean(expected, "sft_losses") } else { 0.0 };
            within(&format!("SFT loss of step {}", found.step), metric(found, "sft_loss"), losses, 1.0);
        }
        ends_as(&trainer, &outcome, &beside["final"]);
    }
}

/// PPO alone, without the best answers of every step.
#[test]
fn without_the_best_answers_it_follows_pytorch() {
    let golden = golden("ppo_trace");
    let (run, dropping) = (&golden["run"]["ppo"], &golden["dropping"]);
    for engine in [Engine::Whole, Engine::Segmented, Engine::Autodiff] {
        let ppo = Ppo { drop_fraction: number(dropping, "drop_fraction"), ..traced_ppo(run) };
        let mut trainer = traced(&golden, (&cpu(), engine), Method::PreferenceOnly, ppo);
        let outcome = finish(&mut trainer);
        assert_eq!(outcome.steps().len(), cases(dropping, "steps").len());
        outcome.steps().into_iter().zip(cases(dropping, "steps")).for_each(|(found, expected)| check_ppo_step(found, expected));
        ends_as(&trainer, &outcome, &dropping["final"]);
    }
}

#[test]
fn without_a_judge_there_is_no_ppo() {
    let golden = golden("ppo_trace");
    let policy = policy(&golden["config"], &golden["start"], &cpu());
    let mut trainer = Trainer::new(policy, traced_data(&golden), phases(&traced_schedule(&golden["run"])), runs::settings());
    let error = loop {
        match block_on(trainer.step()) {
            Ok(event) => assert_ne!(event, Event::Finished),
            Err(error) => break error.to_string(),
        }
    };
    assert!(error.contains("phase ppo-1 trains on the policy's own answers, and there is no reward model"), "{error}");
}

/// A run of PPO alone, with other settings than usual.
pub(crate) fn alone(change: impl Fn(&mut Settings)) -> runs::Outcome {
    let mut settings = runs::settings();
    settings.ppo = Ppo { cold_start: 0, kl_control: None, ..settings.ppo };
    change(&mut settings);
    runs::run(&by_ppo(runs::schedule(Method::TwoStageReversed, Rule::Paper)), settings)
}

pub(crate) fn metric(step: &StepReport, wanted: &str) -> f64 {
    step.metrics.iter().find(|(name, _)| *name == wanted).expect("a metric").1
}

pub(crate) fn ppo_steps(outcome: &runs::Outcome) -> Vec<&StepReport> {
    outcome.steps().into_iter().filter(|step| step.objective == "ppo").collect()
}

#[test]
fn on_the_first_update_every_ratio_is_1() {
    for (engine, micro_batch, pack) in [(Engine::Whole, 1, None), (Engine::Segmented, 2, None), (Engine::Autodiff, 4, Some(16))] {
        let once = alone(|settings| {
            (settings.engine, settings.micro_batch, settings.pack) = (engine, micro_batch, pack);
            (settings.ppo.inner_epochs, settings.ppo.mini_batches) = (1, 1);
        });
        for step in ppo_steps(&once) {
            for name in ["approx_kl", "clip_fraction", "value_clip_fraction"] {
                // Autodiff scores by another softmax than it trains by.
                let most = if engine == Engine::Autodiff { 1e-11 } else { 0.0 };
                assert!(metric(step, name) <= most, "{name} of step {} by {engine:?}", step.step);
            }
            // Whitened advantages have the mean 0, and so has the loss.
            assert!(step.loss.abs() < 1e-6 && step.grad_norm > 0.0, "{}", step.loss);
        }
    }
}

#[test]
fn answers_do_not_depend_on_which_prompts_are_answered_together() {
    let together = alone(|settings| settings.ppo.rollout_batch = 64);
    let apart = alone(|settings| settings.ppo.rollout_batch = 1);
    let of = |outcome: &runs::Outcome| {
        ppo_steps(outcome).into_iter().map(|step| (step.tokens, metric(step, "score"))).collect::<Vec<_>>()
    };
    assert_eq!(of(&together), of(&apart));
    assert!(together.weights == apart.weights);
}

#[test]
fn updates_in_the_backward_pass_are_the_same() {
    let one_pass = |settings: &mut Settings| (settings.ppo.mini_batches, settings.ppo.sft_coefficient) = (1, 0.0);
    let plain = alone(one_pass);
    let within = alone(|settings| {
        one_pass(settings);
        settings.update = UpdateTiming::InBackward;
    });
    let difference = runs::largest_difference(&within.weights, &plain.weights);
    assert!(difference <= 1e-5, "weights are off by {difference:e}");
}

/// The mean score of the first answers of a run whose answers end with a token, and behind which the judge reads others.
fn first_score(eos: &[u32], suffix: &[u32]) -> f64 {
    let schedule = by_ppo(schedule());
    let judge = runs::judge(cpu());
    let critics = Critics::new(&judge, judge.clone(), eos.to_vec()).with_suffix(suffix.to_vec());
    let mut trainer = Trainer::new((runs::start(), Some(critics)), runs::data(7, 6), phases(&schedule), runs::settings());
    loop {
        if let Event::Step(step) = block_on(trainer.step()).expect("a step") {
            return metric(&step, "score");
        }
    }
}

#[test]
fn the_judge_reads_what_templates_put_behind_finished_answers() {
    let any: Vec<u32> = (0..23).collect();
    assert_ne!(first_score(&any, &[4]), first_score(&any, &[]), "every answer is finished with its first token");
    assert_eq!(first_score(&[], &[4]), first_score(&[], &[]), "none is");
}

#[test]
fn a_cold_start_trains_the_critic_alone() {
    let cold = alone(|settings| settings.ppo.cold_start = 100);
    for step in ppo_steps(&cold) {
        assert_eq!((step.grad_norm, metric(step, "kl")), (0.0, 0.0), "the policy stays what it was");
        assert!(metric(step, "value_grad_norm") > 0.0);
    }
    assert!(cold.ended()[0].change.iter().all(|change| *change == 0.0));
    let losses: Vec<f64> = ppo_steps(&cold).into_iter().map(|step| metric(step, "value_loss")).collect();
    assert!(losses.last() < losses.first(), "{losses:?}");
}

#[test]
fn the_policy_comes_to_answer_as_the_judge_likes() {
    let mut schedule = by_ppo(runs::schedule(Method::TwoStageReversed, Rule::Paper));
    schedule.preference_training = Training { epochs: 30, learning_rate: 5e-3, batch_size: 6, ..schedule.preference_training };
    let mut settings = runs::settings();
    settings.ppo = Ppo {
        cold_start: 2,
        kl_control: None,
        kl_coefficient: 0.02,
        mini_batches: 1,
        inner_epochs: 4,
        drop_fraction: 0.0,
        sft_coefficient: 0.0,
        ..settings.ppo
    };
    let judge = runs::judge(cpu());
    let models = (runs::start(), Some(Critics::new(&judge, judge.clone(), vec![1, 2])));
    let outcome = finish(&mut Trainer::new(models, runs::data(7, 6), phases(&schedule), settings));
    let scores: Vec<f64> = ppo_steps(&outcome).into_iter().map(|step| metric(step, "score")).collect();
    let mean = |scores: &[f64]| scores.iter().sum::<f64>() / scores.len() as f64;
    let (first, last) = (mean(&scores[..5]), mean(&scores[scores.len() - 5..]));
    assert!(last > first + 0.5, "{first} to {last}: {scores:?}");
}

#[test]
fn a_judge_of_fewer_tokens_is_refused() {
    let golden = golden("ppo_trace");
    let models = (policy(&golden["config"], &golden["start"], &cpu()), runs::critics(&by_ppo(schedule()), cpu()));
    let mut trainer = Trainer::new(models, traced_data(&golden), phases(&by_ppo(schedule())), runs::settings());
    let error = block_on(trainer.step()).unwrap_err().to_string();
    assert!(error.contains("the reward model knows 23 of the policy's 61 tokens"), "{error}");
}

pub(crate) fn schedule() -> ScheduleSettings {
    runs::schedule(Method::TwoStageReversed, Rule::Paper)
}
