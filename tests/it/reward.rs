//! Reward models: the objective and a whole model against TRL and transformers, and a run of the program that trains one.

use hbat::model::Readout;
use hbat::objective::Reward;
use hbat::tokens::{Batch, Group};
use serde_json::Value;

use crate::cli::{killed, metrics, refused, run, same_run, train};
use crate::engine::{ENGINES, check, off, sequence};
use crate::fixtures::{block_on, cpu, policy};
use crate::objectives::{evaluate, group, near};
use crate::support::golden;

fn number(case: &Value, key: &str) -> f64 {
    case[key].as_f64().expect("a number")
}

fn pairs(value: &Value) -> Vec<[f32; 2]> {
    serde_json::from_value(value.clone()).expect("pairs of numbers")
}

#[test]
fn the_loss_is_trls_and_reads_the_last_tokens_alone() {
    let golden = golden("reward");
    let cases = golden["given"].as_array().expect("cases");
    assert!(cases.len() >= 12);
    for case in cases {
        let rewards = pairs(&case["rewards"]);
        // Responses of two tokens and of one: what stands before the last is no reward.
        let groups: Vec<Group> = (0..rewards.len()).map(|i| group(i, &[2, 1], &[])).collect();
        let scores: Vec<f32> = rewards.iter().flat_map(|[chosen, rejected]| [99.0, *chosen, *rejected]).collect();
        let objective = Reward { centering_coefficient: number(case, "centering_coefficient") };
        let found = evaluate(&objective, &scores, &Batch::new(&groups, 1));
        let name = format!("{} ({objective:?})", case["name"]);
        near(&name, found.loss, number(case, "loss"));
        for metric in ["margin", "accuracy"] {
            let mean = found.metrics.iter().find(|(name, _)| *name == metric).expect("a metric").1;
            near(&format!("{metric} of {name}"), mean, number(case, metric));
        }
        let expected = pairs(&case["gradient"]).into_iter().flat_map(|[chosen, rejected]| [0.0, chosen, rejected]);
        for (found, expected) in found.gradient.iter().zip(expected) {
            near(&format!("gradient of {name}"), f64::from(*found), f64::from(expected));
        }
    }
}

#[test]
fn a_models_rewards_and_gradients_are_transformers() {
    let golden = &golden("reward")["model"];
    let model = policy(&golden["config"], &golden["weights"], &cpu());
    assert_eq!(model.readout(), Readout::ValueAfter);
    let examples = golden["preferences"].as_array().expect("preferences").iter().enumerate();
    let groups: Vec<Group> =
        examples.map(|(i, e)| Group::preference(i, sequence(e, "chosen"), sequence(e, "rejected"))).collect();
    let batch = Batch::new(&groups, 1);
    let objective = Reward { centering_coefficient: number(golden, "centering_coefficient") };
    for engine in ENGINES {
        let rewards = block_on(hbat::evaluate::sequence_scores(&model, engine, &batch)).expect("rewards");
        let off = off(&rewards, pairs(&golden["rewards"]).as_flattened());
        assert!(off <= 1e-5, "{engine:?}: rewards are off by {off:e}");
        check(&model, engine, (&objective, batch.clone()), golden);
    }
}

/// A reward model of the toy in seconds.
const SMALL: [&str; 4] = ["methods=[\"reward-model\"]", "reward.learning_rate=1e-3", "reward.batch_size=8", "reward.epochs=2"];

#[test]
fn a_run_learns_to_tell_better_responses_and_what_it_leaves_is_a_judge() {
    let folder = tempfile::tempdir().unwrap();
    let output = run(&train("out", &[&SMALL[..], &["reward.epochs=6"]].concat()), folder.path());
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let records = metrics(&folder.path().join("out"));
    let steps: Vec<&Value> = records.iter().filter(|r| r["kind"] == "step").collect();
    assert!(steps.len() == 48 && steps.iter().all(|r| r["objective"] == "reward" && r["phase"] == "reward-1"));
    let moments: Vec<&Value> = records.iter().filter(|r| r["kind"] == "evaluation").collect();
    let accuracies: Vec<f64> = moments.iter().map(|r| number(r, "accuracy")).collect();
    assert!(accuracies.len() == 2 && accuracies[1] >= 0.9, "{accuracies:?}");
    assert!(moments.iter().all(|r| r["sft_nll"].is_null()), "a reward model has no likelihoods");
    let config: Value = serde_json::from_slice(&std::fs::read(folder.path().join("out/best/config.json")).unwrap()).unwrap();
    assert_eq!(
        (&config["architectures"][0], &config["id2label"]["0"]),
        (&"LlamaForSequenceClassification".into(), &"LABEL_0".into())
    );

    let pair = r#"{"prompt": "sort 3 1 2 =", "chosen": "1 2 3 see ya", "rejected": "1 2 3 kind regards"}"#;
    std::fs::write(folder.path().join("pairs.jsonl"), pair).unwrap();
    let judge = ["eval", "-m", "out/best", "--preferences", "pairs.jsonl", "--json", "--per-example"];
    let output = run(&judge, folder.path());
    let text = String::from_utf8_lossy(&output.stdout);
    let judged: Value =
        serde_json::from_str(&text).unwrap_or_else(|_| panic!("{text} {}", String::from_utf8_lossy(&output.stderr)));
    let (of_all, of_one) = (&judged["preference_rewards"], &judged["preference_examples"][0]);
    near("margin", number(of_all, "margin"), number(of_one, "chosen") - number(of_one, "rejected"));
    assert!(judged["preferences"].is_null(), "{text}");

    refused(&["generate", "-m", "out/best", "--prompt", "copy 1 ="], folder.path(), 65, &["out/best is a reward model"]);
    let with_reference = [&judge[..], &["--reference", "out/best"]].concat();
    refused(&with_reference, folder.path(), 65, &["leave --reference out"]);
}

#[test]
fn a_killed_run_goes_on_bit_by_bit() {
    let folder = tempfile::tempdir().unwrap();
    let settings = [&SMALL[..], &["checkpoints.every=1"]].concat();
    assert!(run(&train("whole", &settings), folder.path()).status.success());
    let mut pause = 60;
    while !killed(&train("cut", &settings), folder.path(), pause) || !folder.path().join("cut/config.toml").is_file() {
        let _ = std::fs::remove_dir_all(folder.path().join("cut"));
        pause += 20;
        assert!(pause < 2000, "no kill hit the run");
    }
    let output = run(&["resume", "cut"], folder.path());
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    same_run(&folder.path().join("cut"), &folder.path().join("whole"));
}

#[test]
fn a_reward_model_is_trained_alone_and_by_nothing_else() {
    let folder = tempfile::tempdir().unwrap();
    let both = train("both", &["methods=[\"reward-model\", \"hbat\"]"]);
    refused(&both, folder.path(), 78, &["methods", "a run of its own"]);
    assert!(run(&train("out", &SMALL), folder.path()).status.success());
    let pairs = r#"{"prompt": "copy 1 =", "chosen": "1", "rejected": "2"}"#;
    std::fs::write(folder.path().join("pairs.jsonl"), pairs).unwrap();
    let demonstrations = r#"{"prompt": "copy 1 =", "completion": "1"}"#;
    std::fs::write(folder.path().join("texts.jsonl"), demonstrations).unwrap();
    let files = ["model.path=\"out/best\"", "data.preferences=[\"pairs.jsonl\"]", "data.max_length=32"];
    let set = |more: &[&'static str]| -> Vec<String> {
        files.iter().chain(more).flat_map(|setting| ["--set".to_owned(), (*setting).to_owned()]).collect()
    };
    std::fs::write(folder.path().join("empty.toml"), "").unwrap();
    let words = |settings: Vec<String>, output: &str| -> Vec<String> {
        ["train", "empty.toml", "--output", output].map(str::to_owned).into_iter().chain(settings).collect()
    };
    let sft = words(set(&["methods=[\"two-stage\"]", "data.demonstrations=[\"texts.jsonl\"]"]), "sft");
    let sft: Vec<&str> = sft.iter().map(String::as_str).collect();
    refused(&sft, folder.path(), 65, &["out/best is a reward model"]);
    // One that is there already goes on with the head that it has, and needs no demonstrations.
    let more = words(set(&["methods=[\"reward-model\"]", "reward.learning_rate=1e-12"]), "more");
    let more: Vec<&str> = more.iter().map(String::as_str).collect();
    let output = run(&more, folder.path());
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let head = |path: &str| -> Vec<u8> {
        let file = std::fs::read(folder.path().join(path)).unwrap();
        file[file.len() - 4 * 8..].to_vec()
    };
    assert_eq!(head("more/last/model.safetensors"), head("out/best/model.safetensors"));
}
