//! PPO as its users run it: a judge, a run that it judges, and what is refused.

use serde_json::Value;

use crate::cli::{JUDGE, judge, killed, metrics, number, refused, run, same_run, train};

/// HBAT by PPO on what that judge says.
const SMALL: [&str; 11] = [
    "methods=[\"hbat\"]",
    "schedule.preference=\"ppo\"",
    "ppo.reward_model=\"judge/best\"",
    "ppo.max_new_tokens=12",
    "ppo.cold_start=1",
    "ppo.batch_size=16",
    "ppo.mini_batches=2",
    "ppo.rollout_batch=8",
    "ppo.learning_rate=1e-3",
    "ppo.value_learning_rate=3e-3",
    "ppo.kl_target=2.0",
];

#[test]
fn a_run_answers_is_judged_and_keeps_what_the_judge_likes_best() {
    let folder = tempfile::tempdir().unwrap();
    judge(folder.path());
    let longer = [&SMALL[..], &["ppo.epochs=8"]].concat();
    let output = run(&train("out", &longer), folder.path());
    let (text, told) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success(), "{told}");
    assert!(text.contains("mean reward") && !told.contains("ppo.cold_start"), "{text} {told}");
    assert!(told.contains("ppo-1: 16 steps in") && told.contains("score "), "{told}");
    let records = metrics(&folder.path().join("out"));
    let steps: Vec<&Value> = records.iter().filter(|r| r["objective"] == "ppo").collect();
    assert_eq!(steps.len(), 32);
    for key in ["score", "reward", "kl", "kl_k3", "response_tokens", "missing_eos", "explained_variance", "value_loss", "tokens"]
    {
        assert!(steps.iter().all(|step| step[key].is_number()), "a step without {key}");
    }
    assert!(steps[0]["grad_norm"] == 0.0 && number(steps[1], "grad_norm") > 0.0, "one cold step");
    assert!(number(steps[31], "kl_coefficient") != number(steps[16], "kl_coefficient"), "it is controlled");
    assert!(number(steps[31], "penalty") > 0.0, "the second phase is held");
    let rewards: Vec<f64> =
        records.iter().filter(|r| r["kind"] == "evaluation").map(|r| number(&r["extra"], "mean reward")).collect();
    assert!(rewards.len() == 5 && rewards[4] > rewards[0] + 1.0, "{rewards:?}");
    assert!(folder.path().join("out/best/model.safetensors").is_file() && folder.path().join("out/plot.png").is_file());
}

/// SFT and PPO in one step: the demonstrations are the toy's, though the method alone would need none.
#[test]
fn demonstrations_may_go_beside_the_answers() {
    let folder = tempfile::tempdir().unwrap();
    judge(folder.path());
    let beside = ["methods=[\"preference-only\"]", "ppo.sft_coefficient=0.5"];
    let output = run(&train("out", &[&SMALL[1..], &beside].concat()), folder.path());
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let steps: Vec<Value> = metrics(&folder.path().join("out")).into_iter().filter(|r| r["kind"] == "step").collect();
    assert!(steps.len() > 1 && steps.iter().all(|step| step["phase"] == "ppo-1"), "{steps:?}");
    assert!(number(&steps[0], "sft_loss") == 0.0 && number(&steps[1], "sft_loss") > 0.0, "one cold step");
    let within = [&SMALL[1..], &beside, &["engine.update=\"in-backward\""]].concat();
    refused(&train("no", &within), folder.path(), 78, &["ppo.sft_coefficient", "demonstrations take another"]);
}

#[test]
fn a_killed_run_goes_on_bit_by_bit() {
    let folder = tempfile::tempdir().unwrap();
    judge(folder.path());
    let settings = [&SMALL[..], &["checkpoints.every=1", "ppo.epochs=2"]].concat();
    assert!(run(&train("whole", &settings), folder.path()).status.success());
    let (mut pause, mut kills) = (120, 0);
    while kills < 4 {
        let begun = folder.path().join("cut/config.toml").is_file();
        let arguments = if begun { vec!["resume", "cut"] } else { train("cut", &settings) };
        match killed(&arguments, folder.path(), pause) {
            true => (kills, pause) = (kills + 1, pause + 170),
            // It ended before its time came.
            false => {
                std::fs::remove_dir_all(folder.path().join("cut")).unwrap();
                pause = pause * 2 / 3;
            }
        }
    }
    let output = run(&["resume", "cut"], folder.path());
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    same_run(&folder.path().join("cut"), &folder.path().join("whole"));
}

#[test]
fn what_cannot_judge_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    judge(folder.path());
    let with =
        |more: &[&'static str]| train("out", &[&SMALL[..], more].concat()).into_iter().map(String::from).collect::<Vec<_>>();
    let refused = |more: &[&'static str], code, parts: &[&str]| {
        let arguments = with(more);
        refused(&arguments.iter().map(String::as_str).collect::<Vec<_>>(), folder.path(), code, parts);
        assert!(!folder.path().join("out").exists(), "a refused run leaves no folder");
    };
    refused(
        &["ppo.reward_model=\"\""],
        78,
        &["ppo.reward_model", "a reward model has to judge answers", "methods = [\"reward-model\"]"],
    );
    refused(&["ppo.reward_model=\"nowhere\""], 78, &["ppo.reward_model", "there is no folder"]);
    refused(&["methods=[\"mix\"]"], 78, &["schedule.preference", "mix"]);
    refused(&["ppo.kl_horizon=8.0"], 78, &["ppo.kl_horizon", "leap", "10000"]);
    refused(&["ppo.max_new_tokens=1000000000"], 78, &["ppo.max_new_tokens", "between 1 and 65536"]);
    refused(&["ppo.kl_coefficient=-1.0"], 78, &["ppo.kl_coefficient", "between 0 and 1e30"]);
    assert!(run(&train("plain", &["methods=[\"sft\"]"]), folder.path()).status.success());
    refused(&["ppo.reward_model=\"plain/best\""], 65, &["plain/best is a language model, which gives no rewards"]);
    let other = folder.path().join("judge/best/tokenizer.json");
    let words = std::fs::read_to_string(&other).unwrap();
    std::fs::write(&other, words.replace("copy", "kopy")).unwrap();
    refused(&[], 65, &["judge/best has a tokenizer of other words"]);
}

#[test]
fn a_cold_start_that_nothing_follows_is_told() {
    let folder = tempfile::tempdir().unwrap();
    judge(folder.path());
    let output = run(&train("out", &[&SMALL[..], &["ppo.cold_start=2"]].concat()), folder.path());
    let told = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success() && told.contains("ppo.cold_start is 2, and ppo-1 has 2 steps"), "{told}");
}

#[test]
fn a_run_does_not_go_on_with_another_judge() {
    let folder = tempfile::tempdir().unwrap();
    judge(folder.path());
    assert!(run(&train("out", &SMALL), folder.path()).status.success());
    std::fs::remove_dir_all(folder.path().join("judge")).unwrap();
    let more = [&JUDGE[..], &["reward.epochs=1"]].concat();
    assert!(run(&train("judge", &more), folder.path()).status.success());
    refused(&["resume", "out"], folder.path(), 65, &["configuration and head of the reward model", "reward_model"]);
}

#[test]
fn a_plan_counts_the_critics() {
    let folder = tempfile::tempdir().unwrap();
    judge(folder.path());
    let arguments = |preference: &str| {
        let mut arguments = train("out", &SMALL[..]);
        arguments[0] = "plan";
        arguments.drain(1..3);
        let arguments: Vec<String> = arguments.into_iter().map(String::from).collect();
        [arguments, ["--json", "--set", preference].map(String::from).to_vec()].concat()
    };
    let plan = |preference: &str| -> Value {
        let arguments = arguments(preference);
        let output = run(&arguments.iter().map(String::as_str).collect::<Vec<_>>(), folder.path());
        let text: Result<Value, _> = serde_json::from_slice(&output.stdout);
        text.unwrap_or_else(|_| panic!("{}", String::from_utf8_lossy(&output.stderr)))["needs"].take()
    };
    let (by_ppo, by_dpo) = (plan("schedule.preference=\"ppo\""), plan("schedule.preference=\"dpo\""));
    let phase = |plan: &Value| plan["methods"][0]["phases"][1].clone();
    assert_eq!((&phase(&by_ppo)["phase"], &phase(&by_dpo)["phase"]), (&"ppo-1".into(), &"dpo-1".into()));
    let critics = |plan: &Value| number(&phase(plan)["peak"], "critics");
    assert!(critics(&by_ppo) > 3.0 * number(&phase(&by_ppo)["peak"], "weights") && critics(&by_dpo) == 0.0);
    let disk = |plan: &Value| number(&plan["disk"], "checkpoint");
    assert!(disk(&by_ppo) > 1.5 * disk(&by_dpo));
}
