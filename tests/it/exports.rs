//! The models that a run leaves.

use std::fs;
use std::path::Path;

use half::bf16;
use hbat_cli::model::read_config;
use hbat_cli::store::TensorFile;

use crate::cli::{refused, run, train};
use crate::going_on::checkpoints;

fn weights(model: &Path) -> Vec<Vec<f32>> {
    let units = read_config(model).unwrap().0.units();
    let file = TensorFile::open(&model.join("model.safetensors")).unwrap();
    units.iter().map(|unit| file.read(unit).unwrap()).collect()
}

fn rounded(weights: Vec<Vec<f32>>) -> Vec<Vec<f32>> {
    weights.into_iter().map(|unit| unit.into_iter().map(|value| bf16::from_f32(value).to_f32()).collect()).collect()
}

/// `best/` is written from a checkpoint in `every` and from a copy in `never`.
#[test]
fn models_are_written_in_the_precision_asked_for_and_checkpoints_lose_nothing() {
    let temporary = tempfile::tempdir().unwrap();
    let folder = temporary.path();
    let common = ["methods=[\"sft\"]", "sft.batch_size=16", "validation.every=1"];
    for (name, settings) in [
        ("whole", &["checkpoints.every=1"][..]),
        ("every", &["checkpoints.every=1", "checkpoints.export_dtype=bf16"]),
        ("never", &["checkpoints.export_dtype=bf16"]),
        ("waiting", &["checkpoints.export_dtype=bf16", "checkpoints.background=off"]),
    ] {
        let output = run(&train(name, &[&common, settings].concat()), folder);
        assert!(output.status.success(), "{name}: {}", String::from_utf8_lossy(&output.stderr));
    }
    let exact = |model: &str| weights(&folder.join("whole").join(model));
    for run in ["every", "never", "waiting"] {
        for model in ["best", "last"] {
            let path = folder.join(run).join(model);
            assert!(weights(&path) == rounded(exact(model)), "{run}/{model}");
            let config = fs::read_to_string(path.join("config.json")).unwrap();
            assert!(config.contains("\"bfloat16\"") && !config.contains("\"float32\""), "{run}/{model}: {config}");
        }
    }
    assert!(exact("last") != rounded(exact("last")), "nothing was there to round");
    let bytes = |run: &str| fs::metadata(folder.join(run).join("last/model.safetensors")).unwrap().len();
    assert!(2 * bytes("every") < bytes("whole") + 10_000, "{} and {}", bytes("every"), bytes("whole"));
    let last = |run: &str| fs::read(checkpoints(&folder.join(run)).pop().unwrap().join("weights.safetensors")).unwrap();
    assert!(last("every") == last("whole"));
}

#[test]
fn phases_do_not_go_on_from_rounded_weights() {
    let temporary = tempfile::tempdir().unwrap();
    let settings = train("out", &["checkpoints.export_dtype=f16", "schedule.continue_from=best"]);
    let problem = "checkpoints.export_dtype = \"f16\": schedule.continue_from is \"best\"";
    refused(&settings, temporary.path(), 78, &[problem, "take \"f32\""]);
    let unknown = train("out", &["checkpoints.export_dtype=fp16"]);
    refused(&unknown, temporary.path(), 78, &["one of \"f32\", \"bf16\", \"f16\"; did you mean \"f16\"?"]);
}
