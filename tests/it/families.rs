//! Relatives of LLaMA: what they compute is compared with PyTorch in `engine.rs`, what becomes of their folders here.

use std::collections::HashMap;
use std::fs;
use std::path::Path;

use hbat::model::Unit;
use hbat_cli::model::{Export, ModelFolder, read_config};
use safetensors::tensor::TensorView;
use safetensors::{Dtype, SafeTensors};
use serde_json::{Value, json};

use crate::cli::{judge, refused, run};
use crate::fixtures::{block_on, cpu};
use crate::going_on::with_files;

fn config(class: &str, model_type: &str) -> Value {
    json!({
        "architectures": [class], "model_type": model_type, "vocab_size": 20, "hidden_size": 8, "intermediate_size": 12,
        "num_hidden_layers": 1, "num_attention_heads": 2, "num_key_value_heads": 1, "tie_word_embeddings": true,
        "sliding_window": 32, "use_sliding_window": false, "max_position_embeddings": 64,
    })
}

/// A model folder of this configuration; weights are small numbers.
fn folder(config: &Value) -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    fs::write(folder.path().join("config.json"), config.to_string()).unwrap();
    let (read, _) = read_config(folder.path()).unwrap();
    let bytes = |elements: usize| (0..elements).flat_map(|i| (i as f32 / 64.0).to_le_bytes()).collect::<Vec<u8>>();
    let values: Vec<_> = read.units().into_iter().map(|unit| (bytes(unit.shape.iter().product()), unit)).collect();
    let view = |unit: &Unit, bytes| TensorView::new(Dtype::F32, unit.shape.clone(), bytes).unwrap();
    let tensors: HashMap<_, _> = values.iter().map(|(bytes, unit)| (unit.name.clone(), view(unit, bytes))).collect();
    safetensors::serialize_to_file(tensors, None, &folder.path().join("model.safetensors")).unwrap();
    folder
}

fn names(folder: &Path) -> Vec<String> {
    let bytes = fs::read(folder.join("model.safetensors")).unwrap();
    let mut names: Vec<_> = SafeTensors::deserialize(&bytes).unwrap().names().into_iter().map(str::to_owned).collect();
    names.sort();
    names
}

#[test]
fn a_model_is_written_as_the_family_it_is_of() {
    for (family, biases) in [("Mistral", 0), ("Qwen2", 3), ("Qwen3", 0)] {
        let model_type = family.to_lowercase();
        let folder = folder(&config(&format!("{family}ForCausalLM"), &model_type));
        let source = ModelFolder::open(folder.path()).unwrap();
        let policy = source.load(cpu(), |_| ()).unwrap();
        for origin in [Some(&source), None] {
            let target = folder.path().join("out");
            block_on(Export::new(source.config(), origin).write_policy(&policy, &target)).unwrap();
            let (read, raw) = read_config(&target).unwrap();
            assert_eq!(&read, source.config());
            assert_eq!(
                (&raw["model_type"], &raw["architectures"]),
                (&json!(model_type), &json!([format!("{family}ForCausalLM")]))
            );
            assert_eq!(names(&target), names(folder.path()));
            assert_eq!(names(&target).iter().filter(|name| name.ends_with("bias")).count(), biases);
        }
        let judge = ModelFolder::open(folder.path()).unwrap().reward_model(1);
        let target = folder.path().join("judge");
        let policy = judge.load(cpu(), |_| ()).unwrap();
        block_on(Export::new(judge.config(), Some(&judge)).write_policy(&policy, &target)).unwrap();
        assert_eq!(read_config(&target).unwrap().1["architectures"], json!([format!("{family}ForSequenceClassification")]));
        assert!(names(&target).contains(&"score.weight".to_owned()));
    }
}

/// A LLaMA's folder under another name, such as `MistralForCausalLM`.
fn renamed(model: &Path, head: &str, window: Value) {
    let path = model.join("config.json");
    let mut config: Value = serde_json::from_slice(&fs::read(&path).unwrap()).unwrap();
    config["architectures"] = json!([format!("Mistral{head}")]);
    config["model_type"] = json!("mistral");
    config["sliding_window"] = window;
    fs::write(path, config.to_string()).unwrap();
}

#[test]
fn a_mistral_whose_window_holds_every_text_is_trained_as_a_llama() {
    let temporary = tempfile::tempdir().unwrap();
    let folder = temporary.path();
    with_files(folder);
    let train = |output: &str| {
        let output = run(&["train", "run.toml", "-o", output], folder);
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    };
    train("llama");
    renamed(&folder.join("model"), "ForCausalLM", json!(16));
    train("mistral");
    let weights = |name: &str| fs::read(folder.join(name).join("last/model.safetensors")).unwrap();
    assert!(weights("llama") == weights("mistral"), "the weights differ");
    assert_eq!(read_config(&folder.join("mistral/last")).unwrap().1["architectures"], json!(["MistralForCausalLM"]));
}

#[test]
fn texts_longer_than_a_window_are_refused() {
    let temporary = tempfile::tempdir().unwrap();
    let folder = temporary.path();
    with_files(folder);
    let model = folder.join("model");
    renamed(&model, "ForCausalLM", json!(4));
    let words = ["`sliding_window` is 4", "set a lower maximum"];
    refused(&["train", "run.toml", "-o", "out"], folder, 65, &words);
    assert!(!folder.join("out/checkpoints").exists());
    refused(&["plan", "run.toml"], folder, 65, &words);
    refused(&["generate", "-m", "model", "--prompt", "copy 4 =", "--max-new-tokens", "4"], folder, 65, &words);
    refused(&["eval", "-m", "model", "--demonstrations", "d.jsonl"], folder, 65, &words);
    renamed(&model, "ForCausalLM", Value::Null);
    assert!(run(&["eval", "-m", "model", "--demonstrations", "d.jsonl"], folder).status.success());
    // As a reference, and as a judge.
    let narrow = folder.join("toy/best");
    renamed(&narrow, "ForCausalLM", json!(4));
    refused(&["eval", "-m", "model", "-r", "toy/best", "--preferences", "p.jsonl"], folder, 65, &words);
    judge(folder);
    renamed(&folder.join("judge/best"), "ForSequenceClassification", json!(4));
    refused(&["compare", "d.jsonl", "d.jsonl", "--reward-model", "judge/best"], folder, 65, &words);
    let by_raft =
        ["--set", "schedule.preference=raft", "--set", "raft.reward_model=judge/best", "--set", "raft.max_new_tokens=4"];
    let plan = [&["plan", "run.toml"][..], &by_raft].concat();
    refused(&plan, folder, 65, &["judge/best/config.json: `sliding_window` is 4"]);
    renamed(&folder.join("judge/best"), "ForSequenceClassification", json!(12));
    let output = run(&plan, folder);
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
}

#[test]
fn answers_end_with_any_token_that_the_models_folder_names() {
    let temporary = tempfile::tempdir().unwrap();
    let folder = temporary.path();
    with_files(folder);
    let answer = || {
        let output = run(&["generate", "-m", "model", "--prompt", "copy 4 7 =", "--max-new-tokens", "5", "--json"], folder);
        serde_json::from_slice::<Value>(&output.stdout).unwrap_or_else(|_| panic!("{}", String::from_utf8_lossy(&output.stderr)))
    };
    let whole = answer();
    assert!(whole["tokens"].as_u64() > Some(1), "{whole}");
    let generation = json!({"eos_token_id": (0..40).collect::<Vec<_>>()});
    fs::write(folder.join("model/generation_config.json"), generation.to_string()).unwrap();
    let first = answer();
    assert_eq!((&first["tokens"], &first["finish"]), (&json!(1), &json!("stop")), "{first}");
}
