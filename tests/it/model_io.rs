//! Model folders: what is read from them, what is written, and what is said about bad ones.

use std::borrow::Cow;
use std::collections::{BTreeMap, HashMap};
use std::fs;
use std::path::Path;

use hbat::model::{LlamaConfig, Storage, Unit};
use hbat_cli::model::{Export, ModelError, ModelFolder, SaveDtype, SpecialTokens, read_config};
use safetensors::{Dtype, SafeTensors, View};
use serde_json::{Value, json};
use tempfile::TempDir;

use crate::fixtures::{block_on, cpu, numbers};
use crate::support;

/// A tensor as the safetensors crate writes it, so that our writer is not its own judge.
#[derive(Debug, Clone, PartialEq)]
struct Raw {
    dtype: Dtype,
    shape: Vec<usize>,
    bytes: Vec<u8>,
}

impl View for &Raw {
    fn dtype(&self) -> Dtype {
        self.dtype
    }

    fn shape(&self) -> &[usize] {
        &self.shape
    }

    fn data(&self) -> Cow<'_, [u8]> {
        self.bytes.as_slice().into()
    }

    fn data_len(&self) -> usize {
        self.bytes.len()
    }
}

type Tensors = BTreeMap<String, Raw>;

fn config() -> Value {
    json!({
        "architectures": ["LlamaForCausalLM"], "model_type": "llama", "vocab_size": 70, "hidden_size": 72,
        "intermediate_size": 130, "num_hidden_layers": 2, "num_attention_heads": 4, "num_key_value_heads": 2, "head_dim": 18,
        "rope_theta": 1e5, "tie_word_embeddings": false, "torch_dtype": "float32", "max_position_embeddings": 64, "note": "kept",
    })
}

fn units(config: &Value) -> Vec<Unit> {
    serde_json::from_value::<LlamaConfig>(config.clone()).unwrap().units()
}

/// Bytes of a float whose low half is zero, so that every type but F16 holds it exactly; F16 does as it is small.
fn element(place: usize, dtype: Dtype) -> Vec<u8> {
    let value = (place % 251) as f32 / 64.0 - 2.0;
    match dtype {
        Dtype::BF16 => ((value.to_bits() >> 16) as u16).to_le_bytes().to_vec(),
        Dtype::F16 => half_bits(value).to_le_bytes().to_vec(),
        Dtype::F64 => f64::from(value).to_le_bytes().to_vec(),
        _ => value.to_le_bytes().to_vec(),
    }
}

/// For multiples of 1/64 within ±2: normal numbers that lose nothing.
fn half_bits(value: f32) -> u16 {
    if value == 0.0 {
        return 0;
    }
    let bits = value.to_bits();
    let exponent = ((bits >> 23) & 0xff) as i32 - 127 + 15;
    ((bits >> 16) & 0x8000) as u16 | (exponent as u16) << 10 | ((bits >> 13) & 0x3ff) as u16
}

fn tensor(shape: &[usize], dtype: Dtype, seed: usize) -> Raw {
    let elements: usize = shape.iter().product();
    Raw { dtype, shape: shape.to_vec(), bytes: (0..elements).flat_map(|i| element(i * 7 + seed, dtype)).collect() }
}

fn tensors(config: &Value, dtype: Dtype) -> Tensors {
    let units = units(config).into_iter().enumerate();
    units.map(|(i, unit)| (unit.name.clone(), tensor(&unit.shape, dtype, i))).collect()
}

fn save(path: &Path, tensors: &Tensors) {
    safetensors::serialize_to_file(tensors, None, path).unwrap();
}

fn write_json(path: &Path, value: &Value) {
    fs::write(path, value.to_string()).unwrap();
}

fn model(config: &Value, tensors: &Tensors) -> TempDir {
    let folder = tempfile::tempdir().unwrap();
    write_json(&folder.path().join("config.json"), config);
    save(&folder.path().join("model.safetensors"), tensors);
    folder
}

/// A good folder in f32.
fn good() -> TempDir {
    model(&config(), &tensors(&config(), Dtype::F32))
}

fn saved(path: &Path) -> Tensors {
    let bytes = fs::read(path).unwrap();
    let file = SafeTensors::deserialize(&bytes).unwrap();
    let raw = |view: safetensors::tensor::TensorView<'_>| Raw {
        dtype: view.dtype(),
        shape: view.shape().to_vec(),
        bytes: view.data().to_vec(),
    };
    file.iter().map(|(name, view)| (name.to_string(), raw(view))).collect()
}

fn message(folder: &Path) -> String {
    let error = match ModelFolder::open(folder) {
        Ok(folder) => folder.load(cpu(), |_| ()).map(|_| ()).unwrap_err(),
        Err(error) => error,
    };
    error.to_string()
}

#[track_caller]
fn says(message: &str, parts: &[&str]) {
    for part in parts {
        assert!(message.contains(part), "`{part}` is not in: {message}");
    }
}

#[test]
fn every_float_type_is_read_into_the_layout_of_memory() {
    for dtype in [Dtype::F32, Dtype::F16, Dtype::BF16] {
        let tensors = tensors(&config(), dtype);
        let folder = model(&config(), &tensors);
        let mut read = 0;
        let opened = ModelFolder::open(folder.path()).unwrap();
        let policy = opened.load(cpu(), |bytes| read += bytes).unwrap();
        assert_eq!(read, tensors.values().map(|raw| raw.bytes.len() as u64).sum::<u64>());
        assert_eq!(read, opened.bytes());
        for (i, unit) in policy.units().iter().enumerate() {
            let [rows, columns] = unit.dims();
            let values = numbers(&policy.tensors()[i]);
            for (place, value) in values.iter().enumerate() {
                let in_file = match unit.storage {
                    Storage::AsIs => place,
                    Storage::Transposed => place % columns * rows + place / columns,
                };
                assert_eq!(*value, ((in_file * 7 + i) % 251) as f32 / 64.0 - 2.0, "{dtype} {} at {place}", unit.name);
            }
        }
    }
}

#[test]
fn a_model_is_written_as_it_was_read() {
    for (in_file, out, largest) in [
        (Dtype::F32, SaveDtype::F32, u64::MAX),
        (Dtype::F32, SaveDtype::F32, 100_000),
        (Dtype::BF16, SaveDtype::Bf16, u64::MAX),
        (Dtype::F16, SaveDtype::F16, 20_000),
    ] {
        let folder = model(&config(), &tensors(&config(), in_file));
        let source = ModelFolder::open(folder.path()).unwrap();
        let policy = source.load(cpu(), |_| ()).unwrap();
        let target = folder.path().join("out/best");
        let export = Export { dtype: out, largest_file: largest, ..Export::new(source.config(), Some(&source)) };
        block_on(export.write_policy(&policy, &target)).unwrap();

        let files = fs::read_dir(&target).unwrap().map(|entry| entry.unwrap().path());
        let shards: Vec<_> = files.filter(|path| path.extension().is_some_and(|end| end == "safetensors")).collect();
        assert_eq!(shards.len() > 1, largest < u64::MAX, "{shards:?}");
        let written: Tensors = shards.iter().flat_map(|path| saved(path)).collect();
        assert_eq!(written, tensors(&config(), in_file));
        let again = ModelFolder::open(&target).unwrap().load(cpu(), |_| ()).unwrap();
        for (one, two) in policy.tensors().iter().zip(again.tensors()) {
            assert_eq!(numbers(one), numbers(two));
        }
    }
}

#[test]
fn shards_are_of_the_size_asked_for_and_listed_in_the_index() {
    let folder = good();
    let source = ModelFolder::open(folder.path()).unwrap();
    let policy = source.load(cpu(), |_| ()).unwrap();
    let target = folder.path().join("out");
    let export = Export { largest_file: 100_000, ..Export::new(source.config(), Some(&source)) };
    block_on(export.write_policy(&policy, &target)).unwrap();
    let index: Value = serde_json::from_slice(&fs::read(target.join("model.safetensors.index.json")).unwrap()).unwrap();
    assert_eq!(index["metadata"]["total_size"], source.bytes());
    for (name, file) in index["weight_map"].as_object().unwrap() {
        let path = target.join(file.as_str().unwrap());
        assert!(saved(&path).contains_key(name), "{name}");
        assert!(fs::metadata(&path).unwrap().len() < 102_000);
    }
    let first = index["weight_map"]["model.embed_tokens.weight"].as_str().unwrap();
    assert!(first.starts_with("model-00001-of-0000"));
    let head = fs::read(target.join(first)).unwrap();
    let (_, metadata) = SafeTensors::read_metadata(&head).unwrap();
    assert_eq!(metadata.metadata(), &Some(HashMap::from([("format".to_string(), "pt".to_string())])));
}

#[test]
fn the_configuration_and_the_tokenizer_are_carried_along() {
    let folder = good();
    for name in ["tokenizer.json", "tokenizer_config.json", "chat_template.jinja", "generation_config.json"] {
        fs::write(folder.path().join(name), format!("{name}: é")).unwrap();
    }
    let source = ModelFolder::open(folder.path()).unwrap();
    let policy = source.load(cpu(), |_| ()).unwrap();
    let target = folder.path().join("out");
    let export = Export { dtype: SaveDtype::Bf16, ..Export::new(source.config(), Some(&source)) };
    // The folder may be gone when the run ends.
    fs::remove_file(folder.path().join("tokenizer.json")).unwrap();
    block_on(export.write_policy(&policy, &target)).unwrap();
    for name in ["tokenizer.json", "tokenizer_config.json", "chat_template.jinja", "generation_config.json"] {
        assert_eq!(fs::read_to_string(target.join(name)).unwrap(), format!("{name}: é"));
    }
    let (_, written) = read_config(&target).unwrap();
    let mut expected = config();
    expected["torch_dtype"] = json!("bfloat16");
    assert_eq!(written, expected);
}

#[test]
fn a_model_from_no_folder_describes_itself() {
    let folder = good();
    let source = ModelFolder::open(folder.path()).unwrap();
    let policy = source.load(cpu(), |_| ()).unwrap();
    let target = folder.path().join("out");
    let tokens = SpecialTokens { bos: Some(1), eos: Some(2), pad: None };
    block_on(Export { tokens, ..Export::new(source.config(), None) }.write_policy(&policy, &target)).unwrap();
    let (config, raw) = read_config(&target).unwrap();
    assert_eq!(&config, source.config());
    assert_eq!((&raw["model_type"], &raw["architectures"][0]), (&json!("llama"), &json!("LlamaForCausalLM")));
    let generation: Value = serde_json::from_slice(&fs::read(target.join("generation_config.json")).unwrap()).unwrap();
    assert_eq!(generation, json!({"bos_token_id": 1, "eos_token_id": 2}));
}

#[test]
fn an_export_that_fails_leaves_what_was_there() {
    let folder = good();
    let source = ModelFolder::open(folder.path()).unwrap();
    let policy = source.load(cpu(), |_| ()).unwrap();
    let target = folder.path().join("out");
    let export = Export::new(source.config(), Some(&source));
    block_on(export.write_policy(&policy, &target)).unwrap();
    let before = fs::read(target.join("model.safetensors")).unwrap();
    let fails = async |unit: usize| match unit {
        7 => Err(ModelError::Device { tensor: "t".into(), reason: "lost".into() }),
        _ => Ok(numbers(&policy.tensors()[unit])),
    };
    says(&block_on(export.write(&target, fails)).unwrap_err().to_string(), &["failed to hand over `t`: lost"]);
    assert_eq!(fs::read(target.join("model.safetensors")).unwrap(), before);
    let mut names: Vec<_> = fs::read_dir(folder.path()).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    names.sort();
    assert_eq!(names, ["config.json", "model.safetensors", "out"]);

    fs::write(target.join("thesis.tex"), "").unwrap();
    let error = block_on(export.write_policy(&policy, &target)).unwrap_err().to_string();
    says(&error, &["out holds `thesis.tex`", "choose another directory"]);
    assert!(target.join("thesis.tex").is_file());
}

#[test]
fn an_export_to_a_place_that_cannot_be_written_says_so() {
    let folder = good();
    let source = ModelFolder::open(folder.path()).unwrap();
    let policy = source.load(cpu(), |_| ()).unwrap();
    let target = folder.path().join("config.json/best");
    let error = block_on(Export::new(source.config(), None).write_policy(&policy, &target)).unwrap_err();
    says(&error.to_string(), &["cannot write", "config.json"]);
}

#[test]
fn old_and_redundant_tensors_are_passed_over() {
    let mut config = config();
    config["tie_word_embeddings"] = json!(true);
    let mut tensors = tensors(&config, Dtype::F32);
    tensors.insert("lm_head.weight".into(), tensors["model.embed_tokens.weight"].clone());
    tensors.insert("model.layers.0.self_attn.rotary_emb.inv_freq".into(), tensor(&[9], Dtype::F32, 0));
    tensors.insert("v_head.summary.weight".into(), tensor(&[1, 72], Dtype::F32, 0));
    let folder = model(&config, &tensors);
    let opened = ModelFolder::open(folder.path()).unwrap();
    assert_eq!(opened.unused_tensors(), ["v_head.summary.weight"]);
    opened.load(cpu(), |_| ()).unwrap();

    tensors.insert("lm_head.weight".into(), tensor(&[70, 72], Dtype::F32, 5));
    says(&message(model(&config, &tensors).path()), &["`lm_head.weight` differs", "`tie_word_embeddings`", "set it to false"]);
}

#[test]
fn names_without_the_prefix_are_understood() {
    let mut config = config();
    config["tie_word_embeddings"] = json!(true);
    let tensors = tensors(&config, Dtype::F32);
    let short = |(name, raw): (&String, &Raw)| (name.trim_start_matches("model.").to_string(), raw.clone());
    let folder = model(&config, &tensors.iter().map(short).collect());
    let prefixed = model(&config, &tensors);
    let load = |folder: &TempDir| ModelFolder::open(folder.path()).unwrap().load(cpu(), |_| ()).unwrap();
    let (one, two) = (load(&folder), load(&prefixed));
    assert!(one.tensors().iter().zip(two.tensors()).all(|(a, b)| numbers(a) == numbers(b)));
}

#[test]
fn a_tokenizer_must_not_be_larger_than_the_embedding() {
    let folder = good();
    let opened = ModelFolder::open(folder.path()).unwrap();
    assert!(opened.check_vocabulary(70).is_ok() && opened.check_vocabulary(60).is_ok());
    let error = opened.check_vocabulary(71).unwrap_err().to_string();
    says(&error, &["71 tokens", "70 embeddings", "config.json"]);
}

/// What spoils a good folder.
type Spoil = fn(&Path);

/// Each bad folder, and what its message must name.
const BAD: [(Spoil, &[&str]); 28] = [
    (|f| fs::remove_dir_all(f).unwrap(), &["there is no model folder", "hf download"]),
    (|f| fs::remove_file(f.join("config.json")).unwrap(), &["has no config.json"]),
    (|f| fs::write(f.join("config.json"), "").unwrap(), &["config.json: EOF", "line 1"]),
    (|f| fs::write(f.join("config.json"), "{\n\"a\": 1,\n}").unwrap(), &["config.json", "line 3"]),
    (|f| fs::write(f.join("config.json"), b"{\"a\": \"\xff\"}").unwrap(), &["config.json", "unicode", "line 1"]),
    (|f| fs::write(f.join("config.json"), "[]").unwrap(), &["config.json", "correct the file"]),
    (|f| edit(f, "model_type", json!("gpt2")), &["`model_type` is gpt2; supported: llama"]),
    (|f| edit(f, "hidden_act", json!("gelu")), &["`hidden_act` is gelu", "silu"]),
    (|f| edit(f, "hidden_size", json!("72")), &["config.json", "invalid type", "line 1"]),
    (|f| edit(f, "hidden_size", json!(-1)), &["config.json", "invalid value"]),
    (|f| edit(f, "num_key_value_heads", json!(3)), &["`num_key_value_heads` is 3"]),
    (|f| edit(f, "num_hidden_layers", json!(3_000_000_000_u64)), &["no tensor `model.layers.2999999999.", "config.json"]),
    (|f| edit(f, "num_hidden_layers", json!(1)), &["9 tensors that config.json has no place for, first `model.layers.1."]),
    (
        |f| edit(f, "hidden_size", json!(64)),
        &["tensor `model.embed_tokens.weight` has the shape [70, 72] where [70, 64] is needed"],
    ),
    (
        |f| fs::rename(f.join("model.safetensors"), f.join("pytorch_model.bin")).unwrap(),
        &["but pytorch_model.bin", "save_pretrained"],
    ),
    (|f| fs::rename(f.join("model.safetensors"), f.join("q4.gguf")).unwrap(), &["but q4.gguf", "GGUF is not read"]),
    (|f| fs::remove_file(f.join("model.safetensors")).unwrap(), &["has no model.safetensors or model.safetensors.index.json"]),
    (|f| fs::write(f.join("model.safetensors"), "").unwrap(), &["model.safetensors", "it has 0 bytes", "Fetch or copy"]),
    (|f| fs::write(f.join("model.safetensors"), "version https://git-lfs.github.com/spec/v1").unwrap(), &["git lfs pull"]),
    (|f| fs::write(f.join("model.safetensors"), [0x80; 64]).unwrap(), &["model.safetensors has no valid safetensors header"]),
    (|f| fs::write(f.join("model.safetensors"), "\x02\0\0\0\0\0\0\0{]").unwrap(), &["no valid safetensors header", "line 1"]),
    (|f| cut(f, 100), &["promises a header of", "has 100: it is truncated"]),
    (|f| cut(f, 100_000), &["has 100000 bytes where its header promises", "it is truncated"]),
    (|f| change(f, |t| drop(t.remove("lm_head.weight"))), &["no tensor `lm_head.weight`", "`tie_word_embeddings`"]),
    (|f| change(f, |t| drop(t.remove("model.norm.weight"))), &["model.safetensors has no tensor `model.norm.weight`"]),
    (|f| replace(f, "model.norm.weight", tensor(&[72], Dtype::F64, 0)), &["`model.norm.weight` holds F64; F32, F16 and BF16"]),
    (
        |f| replace(f, "model.layers.0.self_attn.o_proj.bias", tensor(&[72], Dtype::F32, 0)),
        &["1 tensor that config.json", "o_proj.bias", "set `attention_bias` to true"],
    ),
    (
        |f| replace(f, "model.layers.0.self_attn.q_proj.bias", tensor(&[72], Dtype::F32, 0)),
        &["q_proj.bias", "`model_type` is \"qwen2\""],
    ),
];

fn edit(folder: &Path, field: &str, value: Value) {
    let mut config = config();
    config[field] = value;
    write_json(&folder.join("config.json"), &config);
}

fn cut(folder: &Path, length: u64) {
    fs::OpenOptions::new().write(true).open(folder.join("model.safetensors")).unwrap().set_len(length).unwrap();
}

fn change(folder: &Path, how: impl FnOnce(&mut Tensors)) {
    let mut tensors = tensors(&config(), Dtype::F32);
    how(&mut tensors);
    save(&folder.join("model.safetensors"), &tensors);
}

fn replace(folder: &Path, name: &str, raw: Raw) {
    change(folder, |tensors| drop(tensors.insert(name.into(), raw)));
}

#[test]
fn bad_folders_are_refused_with_a_reason() {
    for (spoil, parts) in BAD {
        let folder = good();
        spoil(folder.path());
        let message = message(folder.path());
        says(&message, parts);
        assert!(!message.contains('\n'), "{message}");
    }
}

#[test]
fn a_file_is_no_folder() {
    let folder = good();
    says(&message(&folder.path().join("model.safetensors")), &["is a file", "give the model's folder"]);
}

#[test]
fn weights_that_are_no_numbers_are_found() {
    for (name, place, bits, parts) in [
        ("model.norm.weight", 3, f32::NAN, ["element [3] of tensor `model.norm.weight` is NaN", "an earlier copy"]),
        ("model.layers.1.mlp.down_proj.weight", 131, f32::INFINITY, ["element [1, 1] of tensor", "is inf"]),
    ] {
        let folder = good();
        change(folder.path(), |tensors| {
            let bytes = &mut tensors.get_mut(name).unwrap().bytes;
            bytes[place * 4..place * 4 + 4].copy_from_slice(&bits.to_le_bytes());
        });
        says(&message(folder.path()), &parts);
    }
}

/// A folder in two shards.
fn sharded() -> TempDir {
    let folder = tempfile::tempdir().unwrap();
    write_json(&folder.path().join("config.json"), &config());
    let all = tensors(&config(), Dtype::BF16);
    let (one, two): (Tensors, Tensors) = all.into_iter().partition(|(name, _)| name.contains("layers.0"));
    let map = |tensors: &Tensors, file: &str| tensors.keys().map(|name| (name.clone(), json!(file))).collect::<Vec<_>>();
    let weight_map = [map(&one, "a.safetensors"), map(&two, "b.safetensors")].concat();
    let weight_map: serde_json::Map<_, _> = weight_map.into_iter().collect();
    write_json(&folder.path().join("model.safetensors.index.json"), &json!({"metadata": {}, "weight_map": weight_map}));
    save(&folder.path().join("a.safetensors"), &one);
    save(&folder.path().join("b.safetensors"), &two);
    folder
}

#[test]
fn shards_are_read_through_their_index() {
    let folder = sharded();
    let single = model(&config(), &tensors(&config(), Dtype::BF16));
    let load = |folder: &TempDir| ModelFolder::open(folder.path()).unwrap().load(cpu(), |_| ()).unwrap();
    let (one, two) = (load(&folder), load(&single));
    assert!(one.tensors().iter().zip(two.tensors()).all(|(a, b)| numbers(a) == numbers(b)));

    fs::remove_file(folder.path().join("b.safetensors")).unwrap();
    says(&message(folder.path()), &["index.json names b.safetensors, which is not there"]);
    fs::write(folder.path().join("model.safetensors.index.json"), "{}").unwrap();
    says(&message(folder.path()), &["index.json: missing field `weight_map`"]);
}

#[test]
fn a_shard_that_lacks_a_tensor_is_found_out() {
    let folder = sharded();
    let mut first = saved(&folder.path().join("a.safetensors"));
    first.remove("model.layers.0.mlp.up_proj.weight");
    save(&folder.path().join("a.safetensors"), &first);
    says(&message(folder.path()), &["a.safetensors has no tensor `model.layers.0.mlp.up_proj.weight`", "incomplete"]);
}

#[test]
fn smollm2_is_written_as_it_was_read() {
    let Some(folder) = support::smollm2() else { return support::skip("SmolLM2-135M-Instruct is not there") };
    let source = ModelFolder::open(&folder).unwrap();
    assert!(source.unused_tensors().is_empty());
    let policy = source.load(cpu(), |_| ()).unwrap();
    let target = tempfile::tempdir().unwrap();
    let best = target.path().join("best");
    let export = Export { dtype: SaveDtype::Bf16, ..Export::new(source.config(), Some(&source)) };
    block_on(export.write_policy(&policy, &best)).unwrap();
    let differs = |(name, raw): &(String, Raw), after: &Tensors| after[name] != *raw;
    let (before, after) = (saved(&folder.join("model.safetensors")), saved(&best.join("model.safetensors")));
    assert_eq!(before.len(), after.len());
    assert_eq!(before.into_iter().filter(|entry| differs(entry, &after)).count(), 0);
    assert!(best.join("chat_template.jinja").is_file() && best.join("tokenizer.json").is_file());
}
