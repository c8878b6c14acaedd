//! RAFT: of a few answers the best is a demonstration.

use hbat::consolidation::Rule;
use hbat::engine::Engine;
use hbat::evaluate::sequence_scores;
use hbat::generate::{GenerateSettings, generate_at};
use hbat::model::Policy;
use hbat::random::stream;
use hbat::schedule::{Method, Order, ScheduleSettings, Training, phases};
use hbat::tokens::{Batch, Group, Sequence};
use hbat::trainer::{Data, Event, Settings, StepReport, Trainer, UpdateTiming};
use rand::RngExt;
use serde_json::Value;

use crate::cli::{goes_on_after_a_kill, judge, metrics, number, refused, run, train};
use crate::fixtures::{block_on, cpu};
use crate::runs::{self, by_raft, finish};

fn alone(change: impl Fn(&mut Settings)) -> runs::Outcome {
    let mut settings = runs::settings();
    change(&mut settings);
    runs::run(&by_raft(runs::schedule(Method::PreferenceOnly, Rule::Paper)), settings)
}

fn metric(step: &StepReport, wanted: &str) -> f64 {
    step.metrics.iter().find(|(name, _)| *name == wanted).expect("a metric").1
}

/// What the policy answers to a prompt in the first step: drawn, judged and compared one by one.
fn best_answer(policy: &Policy, group: &Group, place: u64, settings: &Settings) -> (Sequence, f32) {
    let prompt = group.sequences[0].prompt().to_vec();
    let generate = GenerateSettings {
        max_new_tokens: settings.raft.max_new_tokens,
        sampling: settings.raft.sampling,
        eos: vec![1, 2],
        seed: stream(settings.seed, "answers raft-1", &[0]).random(),
        batch_size: 1,
    };
    let judge = runs::judge(cpu());
    let answers = settings.raft.answers as u64;
    let judged = (0..answers).map(|nth| {
        let completion = block_on(generate_at(policy, std::slice::from_ref(&prompt), &[place * answers + nth], &generate));
        let tokens = completion.expect("an answer").remove(0).tokens;
        let ended = tokens.last().is_some_and(|last| [1, 2].contains(last));
        let read = if ended { [tokens.as_slice(), &[4]].concat() } else { tokens.clone() };
        let read = Group::demonstration(0, Sequence::new(prompt.clone(), &read).expect("tokens"));
        let score = block_on(sequence_scores(&judge, Engine::Whole, &Batch::new(&[read], 1))).expect("a score")[0];
        (Sequence::new(prompt.clone(), &tokens).expect("tokens"), score)
    });
    judged.reduce(|best, other| if other.1 > best.1 { other } else { best }).expect("several answers")
}

/// A step is the step of SFT that has the best answers for demonstrations.
#[test]
fn a_step_is_sft_on_the_best_answers() {
    for engine in [Engine::Whole, Engine::Segmented, Engine::Autodiff] {
        let settings = Settings { engine, order: Order::AsGiven, ..runs::settings() };
        let all = Training { batch_size: 6, epochs: 1, ..runs::schedule(Method::Sft, Rule::Paper).preference_training };
        let schedule = ScheduleSettings { sft: all, preference_training: all, ..runs::schedule(Method::Sft, Rule::Paper) };
        let by_raft = by_raft(ScheduleSettings { method: Method::PreferenceOnly, ..schedule.clone() });
        let found = runs::run(&by_raft, settings);
        let (policy, data) = (runs::start(), runs::data(7, 6));
        let best: Vec<(Sequence, f32)> =
            data.preferences.iter().zip(0..).map(|(group, place)| best_answer(&policy, group, place, &settings)).collect();
        let score = best.iter().map(|(_, score)| f64::from(*score)).sum::<f64>() / best.len() as f64;
        let groups = best.into_iter().enumerate().map(|(index, (sequence, _))| Group::demonstration(index, sequence)).collect();
        let demonstrations = Data { demonstrations: groups, preferences: vec![] };
        let expected = finish(&mut Trainer::new(policy, demonstrations, phases(&schedule), settings));
        let [step] = found.steps()[..] else { panic!("one step") };
        assert!((metric(step, "best_score") - score).abs() < 1e-5 && metric(step, "score") < score - 0.01, "{step:?} {score}");
        runs::close("loss", step.loss, expected.steps()[0].loss, 1e-6);
        assert_eq!(step.tokens, expected.steps()[0].tokens);
        let difference = runs::largest_difference(&found.weights, &expected.weights);
        assert!(difference <= 1e-6, "weights are off by {difference:e} by {engine:?}");
    }
}

#[test]
fn answers_do_not_depend_on_which_are_written_together() {
    let together = alone(|settings| settings.raft.rollout_batch = 64);
    let apart = alone(|settings| settings.raft.rollout_batch = 1);
    let of = |outcome: &runs::Outcome| {
        outcome
            .steps()
            .into_iter()
            .map(|step| (step.tokens, metric(step, "score"), metric(step, "best_score")))
            .collect::<Vec<_>>()
    };
    assert_eq!(of(&together), of(&apart));
    assert!(together.weights == apart.weights);
}

#[test]
fn an_update_in_the_backward_pass_is_the_same() {
    let plain = alone(|_| {});
    let within = alone(|settings| settings.update = UpdateTiming::InBackward);
    let difference = runs::largest_difference(&within.weights, &plain.weights);
    assert!(difference <= 1e-5, "weights are off by {difference:e}");
}

#[test]
fn of_one_answer_the_best_is_it() {
    for step in alone(|settings| settings.raft.answers = 1).steps() {
        assert_eq!(metric(step, "score"), metric(step, "best_score"));
    }
}

#[test]
fn without_a_judge_there_is_no_raft() {
    let schedule = by_raft(runs::schedule(Method::PreferenceOnly, Rule::Paper));
    let mut trainer = Trainer::new(runs::start(), runs::data(7, 6), phases(&schedule), runs::settings());
    let error = block_on(trainer.step()).expect_err("nobody judges").to_string();
    assert!(error.contains("phase raft-1 trains on the policy's own answers, and there is no reward model"), "{error}");
}

#[test]
fn the_policy_comes_to_answer_as_the_judge_likes() {
    let mut schedule = by_raft(runs::schedule(Method::PreferenceOnly, Rule::Paper));
    schedule.preference_training = Training { epochs: 60, learning_rate: 5e-3, batch_size: 6, ..schedule.preference_training };
    let models = (runs::start(), runs::critics(&schedule, cpu()));
    let mut trainer = Trainer::new(models, runs::data(7, 6), phases(&schedule), runs::settings());
    let outcome = finish(&mut trainer);
    let scores: Vec<f64> = outcome.steps().into_iter().map(|step| metric(step, "score")).collect();
    let mean = |scores: &[f64]| scores.iter().sum::<f64>() / scores.len() as f64;
    let (first, last) = (mean(&scores[..5]), mean(&scores[scores.len() - 5..]));
    assert!(last > first + 0.5, "{first} to {last}: {scores:?}");
    let answered = outcome.events.iter().filter_map(|e| if let Event::Answered { total, .. } = e { Some(*total) } else { None });
    assert_eq!(answered.max(), Some(18), "three answers to each of six prompts");
}

const SMALL: [&str; 9] = [
    "methods=[\"hbat\"]",
    "schedule.preference=\"raft\"",
    "raft.reward_model=\"judge/best\"",
    "raft.answers=3",
    "raft.max_new_tokens=12",
    "raft.batch_size=16",
    "raft.rollout_batch=32",
    "raft.learning_rate=2e-3",
    "checkpoints.every=1",
];

#[test]
fn a_run_is_judged_and_goes_on_bit_by_bit() {
    let folder = tempfile::tempdir().unwrap();
    judge(folder.path());
    let output = run(&train("whole", &SMALL), folder.path());
    let told = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success() && told.contains("raft-1: ") && told.contains("score "), "{told}");
    let records = metrics(&folder.path().join("whole"));
    let phases: Vec<&Value> = records.iter().filter(|record| record["kind"] == "phase-start").map(|r| &r["phase"]).collect();
    assert_eq!(phases, ["sft-1", "raft-1", "sft-2", "raft-2"]);
    let steps: Vec<&Value> = records.iter().filter(|record| record["objective"] == "raft").collect();
    let last = steps[steps.len() - 1];
    assert!(number(last, "best_score") > number(last, "score") && number(last, "penalty") > 0.0, "{last}");
    let rewards: Vec<f64> =
        records.iter().filter(|r| r["kind"] == "evaluation").map(|r| number(&r["extra"], "mean reward")).collect();
    assert!(rewards.len() == 5 && rewards[4] > rewards[0] + 0.5, "{rewards:?}");

    goes_on_after_a_kill(&SMALL, folder.path(), (150..4000).step_by(40));
}

#[test]
fn what_cannot_be_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    judge(folder.path());
    let refused = |more: &[&'static str], parts: &[&str]| {
        refused(&train("out", &[&SMALL[..], more].concat()), folder.path(), 78, parts);
        assert!(!folder.path().join("out").exists(), "a refused run leaves no folder");
    };
    refused(&["raft.reward_model=\"\""], &["raft.reward_model", "a reward model has to judge answers"]);
    refused(&["raft.reward_model=\"nowhere\""], &["raft.reward_model", "there is no folder"]);
    refused(&["methods=[\"mix\"]"], &["schedule.preference", "the preference steps of mix are DPO's"]);
    refused(&["raft.answers=0"], &["raft.answers", "between 1 and 1000"]);
}

/// The judge is in memory, and neither a critic nor a reference; checkpoints are those of any other run.
#[test]
fn a_plan_counts_the_judge_alone() {
    let folder = tempfile::tempdir().unwrap();
    judge(folder.path());
    let plan = |preference: &str| -> Value {
        let others = ["ppo.reward_model=\"judge/best\"", "ppo.max_new_tokens=12", preference];
        let mut arguments = train("out", &[&SMALL[..1], &SMALL[2..], &others].concat());
        arguments[0] = "plan";
        arguments.drain(1..3);
        arguments.push("--json");
        let output = run(&arguments, folder.path());
        let text: Result<Value, _> = serde_json::from_slice(&output.stdout);
        text.unwrap_or_else(|_| panic!("{}", String::from_utf8_lossy(&output.stderr)))["needs"].take()
    };
    let [raft, ppo, dpo] = ["raft", "ppo", "dpo"].map(|name| plan(&format!("schedule.preference=\"{name}\"")));
    let phase = |plan: &Value| plan["methods"][0]["phases"][1].clone();
    let critics = |plan: &Value| number(&phase(plan)["peak"], "critics");
    assert!(critics(&raft) > 0.9 * number(&phase(&raft)["peak"], "weights") && critics(&raft) < critics(&ppo) / 2.0);
    assert_eq!(number(&phase(&raft), "updates"), number(&phase(&raft), "steps"));
    let disk = |plan: &Value| number(&plan["disk"], "checkpoint");
    assert!(disk(&raft) == disk(&dpo) && disk(&raft) < disk(&ppo));
}

/// Files of prompts are enough, for training and for validation: nothing but the judge says what is good.
#[test]
fn prompts_alone_are_answered() {
    let folder = tempfile::tempdir().unwrap();
    judge(folder.path());
    assert!(run(&train("plain", &["methods=[\"sft\"]"]), folder.path()).status.success());
    let prompts: String =
        (0..40).map(|i| format!("{{\"prompt\": \"sort {} {} {} =\"}}\n", i % 10, i / 4, (7 * i) % 10)).collect();
    std::fs::write(folder.path().join("prompts.jsonl"), prompts).unwrap();
    let files = [
        "methods=[\"preference-only\"]",
        "model.path=\"plain/best\"",
        "data.preferences=[\"prompts.jsonl\"]",
        "validation.preferences=[\"prompts.jsonl\"]",
    ];
    for preference in ["raft", "ppo"] {
        let chosen = format!("schedule.preference=\"{preference}\"");
        let more = [
            chosen.as_str(),
            "ppo.reward_model=\"judge/best\"",
            "ppo.max_new_tokens=12",
            "ppo.batch_size=16",
            "ppo.cold_start=0",
        ];
        let output = run(&train(preference, &[&SMALL[2..], &files, &more].concat()), folder.path());
        let told = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success() && !told.contains("eos_token"), "answers end as the template ends them: {told}");
        assert!(told.contains("40 examples read, 40 of them prompts alone, 40 kept"), "{told}");
        let records = metrics(&folder.path().join(preference));
        let evaluated: Vec<&Value> = records.iter().filter(|record| record["kind"] == "evaluation").collect();
        assert!(
            evaluated.len() == 2 && evaluated.iter().all(|r| r["accuracy"].is_null() && r["extra"]["mean reward"].is_number())
        );
    }
    let by_dpo = train("out", &[&files[..], &["schedule.preference=\"dpo\""]].concat());
    refused(
        &by_dpo,
        folder.path(),
        65,
        &["prompts.jsonl", "its columns (prompt) fit no format of preferences", "answers, by PPO or RAFT"],
    );
    let pair = "{\"prompt\": \"sort 1 2 3 =\"}\n{\"prompt\": \"sort 1 2 3 =\", \"chosen\": \"1 2 3\", \"rejected\": \"3\"}";
    std::fs::write(folder.path().join("pair.jsonl"), pair).unwrap();
    let by_raft =
        train("out", &[&SMALL[2..], &files, &["schedule.preference=\"raft\"", "data.preferences=[\"pair.jsonl\"]"]].concat());
    refused(
        &by_raft,
        folder.path(),
        65,
        &["pair.jsonl, line 2", "(prompt, chosen, rejected)", "preference_format in a run file"],
    );
    let named = train("out", &[&files[..], &["data.preference_format=\"prompt\""]].concat());
    refused(&named, folder.path(), 78, &["data.preference_format", "prompts alone are for training on the policy's own answers"]);
    let shown = run(&["data", "inspect", "prompts.jsonl", "-m", "plain/best", "-n", "1"], folder.path());
    let text = String::from_utf8_lossy(&shown.stdout);
    let expected = "--- example 0: 5 prompt tokens, to be answered\n[prompt: sort 0 0 0 =][end of an answer: .]\n40 examples read, 40 of them";
    assert!(text.starts_with(expected), "{text} {}", String::from_utf8_lossy(&shown.stderr));
}
