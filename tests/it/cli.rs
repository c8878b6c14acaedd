//! The program as its users run it: exit codes, messages, what it leaves behind, and that a killed run goes on bit by bit.

use std::path::Path;
use std::process::{Command, Output, Stdio};
use std::time::Duration;

use serde_json::Value;

use crate::support::hbat;

/// A run of seconds: every phase, little data.
const SMALL: [&str; 8] = [
    "toy.demonstrations=64",
    "toy.preferences=64",
    "toy.validation_demonstrations=16",
    "toy.validation_preferences=16",
    "sft.epochs=1",
    "dpo.epochs=1",
    "sft.batch_size=8",
    "dpo.batch_size=8",
];

pub(crate) fn run(arguments: &[&str], folder: &Path) -> Output {
    Command::new(hbat()).args(arguments).current_dir(folder).output().expect("hbat starts")
}

pub(crate) fn train<'a>(output: &'a str, settings: &[&'a str]) -> Vec<&'a str> {
    let mut arguments = vec!["train", "--output", output];
    for setting in SMALL.iter().chain(settings) {
        arguments.extend(["--set", setting]);
    }
    arguments
}

/// What a step costs, which no two runs share.
const COST: [&str; 7] = ["seconds", "tokens_per_second", "mfu", "memory", "memory_peak", "transfer_seconds", "saving_seconds"];

/// A run's metrics without what they cost.
pub(crate) fn metrics(folder: &Path) -> Vec<Value> {
    let text = std::fs::read_to_string(folder.join("metrics.jsonl")).expect("a run leaves metrics");
    let without_cost = |line: &str| {
        let mut record: Value = serde_json::from_str(line).expect("a record is JSON");
        let fields = record.as_object_mut().expect("a record is an object");
        COST.iter().for_each(|name| drop(fields.remove(*name)));
        record
    };
    text.lines().map(without_cost).collect()
}

fn weights(folder: &Path) -> Vec<u8> {
    std::fs::read(folder.join("last/model.safetensors")).expect("a run leaves its last weights")
}

#[track_caller]
pub(crate) fn same_run(found: &Path, expected: &Path) {
    assert_eq!(metrics(found), metrics(expected));
    assert_eq!(weights(found), weights(expected), "final weights");
    let best = |folder: &Path| std::fs::read(folder.join("best/model.safetensors")).expect("a run leaves its best weights");
    assert_eq!(best(found), best(expected), "best weights");
}

#[track_caller]
pub(crate) fn refused(arguments: &[&str], folder: &Path, code: i32, parts: &[&str]) {
    let output = run(arguments, folder);
    let text = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(code), "{arguments:?}: {text}");
    for part in parts {
        assert!(text.contains(part), "{arguments:?}: no {part:?} in: {text}");
    }
    assert!(!text.contains("panicked"), "{text}");
}

#[test]
fn a_run_leaves_a_table_a_picture_and_models() {
    let folder = tempfile::tempdir().unwrap();
    let output = run(&train("out", &[]), folder.path());
    let text = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    assert!(text.contains("two-stage") && text.contains("hbat") && text.contains("dpo-2"), "{text}");
    for file in
        ["config.toml", "summary.md", "plot.png", "hbat/metrics.jsonl", "hbat/best/config.json", "two-stage/last/config.json"]
    {
        assert!(folder.path().join("out").join(file).is_file(), "{file} is missing");
    }
    let steps: Vec<Value> = metrics(&folder.path().join("out/hbat")).into_iter().filter(|r| r["kind"] == "step").collect();
    assert!(steps.iter().any(|r| r["penalty"].as_f64() > Some(0.0)), "no step was held");
    for key in ["phase", "objective", "step", "loss", "penalty", "grad_norm", "learning_rate", "tokens"] {
        assert!(steps.iter().all(|r| !r[key].is_null()), "a step without {key}");
    }
    let best = "out/two-stage/best";
    let answer = run(&["generate", "-m", best, "--prompt", "copy 4 7 =", "--max-new-tokens", "2"], folder.path());
    assert_eq!(String::from_utf8_lossy(&answer.stdout), "4 7\n", "{}", String::from_utf8_lossy(&answer.stderr));
    refused(&["generate", "-m", best, "--prompt", "copy pears ="], folder.path(), 65, &["copy pears ="]);
    refused(&train("out", &[]), folder.path(), 78, &["holds a run already", "hbat resume"]);
}

#[test]
fn the_same_run_twice_gives_the_same_bits() {
    let folder = tempfile::tempdir().unwrap();
    for name in ["a", "b"] {
        assert!(run(&train(name, &["methods=[\"hbat\"]"]), folder.path()).status.success());
    }
    same_run(&folder.path().join("a"), &folder.path().join("b"));
}

/// Kills the run after so many milliseconds; whether it was still running.
pub(crate) fn killed(arguments: &[&str], folder: &Path, milliseconds: u64) -> bool {
    let mut child =
        Command::new(hbat()).args(arguments).current_dir(folder).stderr(Stdio::null()).stdout(Stdio::null()).spawn().unwrap();
    std::thread::sleep(Duration::from_millis(milliseconds));
    let running = child.try_wait().unwrap().is_none();
    child.kill().unwrap();
    child.wait().unwrap();
    running
}

/// Interrupts the program as soon as something has happened; what it said until it ended.
#[track_caller]
pub(crate) fn interrupted(arguments: &[&str], folder: &Path, happened: impl Fn() -> bool) -> Output {
    let child = Command::new(hbat()).args(arguments).current_dir(folder).stderr(Stdio::piped()).spawn().unwrap();
    while !happened() {
        std::thread::sleep(Duration::from_millis(2));
    }
    Command::new("kill").args(["-INT", &child.id().to_string()]).status().unwrap();
    let output = child.wait_with_output().unwrap();
    assert_eq!(output.status.code(), Some(130), "{}", String::from_utf8_lossy(&output.stderr));
    output
}

/// A run with these settings that is killed once and resumed ends as `whole` in the same folder did: after the first of so many milliseconds
/// that hits it.
#[track_caller]
pub(crate) fn goes_on_after_a_kill(settings: &[&str], folder: &Path, mut pauses: impl Iterator<Item = u64>) {
    let (cut, mut hit) = (folder.join("cut"), false);
    while !hit {
        let _ = std::fs::remove_dir_all(&cut);
        let pause = pauses.next().expect("no kill hit the run");
        hit = killed(&train("cut", settings), folder, pause) && cut.join("config.toml").is_file();
    }
    // From elsewhere: a run knows where its files are.
    let elsewhere = tempfile::tempdir().unwrap();
    let output = run(&["resume", cut.to_str().expect("a path in UTF-8")], elsewhere.path());
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    same_run(&cut, &folder.join("whole"));
}

/// A judge of the toy in a second.
pub(crate) const JUDGE: [&str; 4] =
    ["methods=[\"reward-model\"]", "reward.learning_rate=1e-3", "reward.batch_size=8", "reward.epochs=6"];

/// Trains it into the folder's `judge`.
#[track_caller]
pub(crate) fn judge(folder: &Path) {
    let output = run(&train("judge", &JUDGE), folder);
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
}

/// A number of a record.
#[track_caller]
pub(crate) fn number(record: &Value, key: &str) -> f64 {
    record[key].as_f64().unwrap_or_else(|| panic!("no {key} in {record}"))
}

#[test]
fn a_run_killed_ten_times_ends_like_one_that_was_not() {
    let folder = tempfile::tempdir().unwrap();
    let settings = ["methods=[\"hbat\"]", "checkpoints.every=1", "consolidation.rule=\"relative\""];
    assert!(run(&train("whole", &settings), folder.path()).status.success());
    let (mut kills, mut pause) = (0, 90);
    while kills < 10 {
        let begun = folder.path().join("killed/config.toml").exists();
        let arguments = if begun { vec!["resume", "killed"] } else { train("killed", &settings) };
        if killed(&arguments, folder.path(), pause) {
            kills += 1;
        } else {
            // It ended before its time came: then it must have ended well, and another one is killed.
            same_run(&folder.path().join("killed"), &folder.path().join("whole"));
            std::fs::remove_dir_all(folder.path().join("killed")).unwrap();
        }
        pause = 60 + (pause * 37 + 11) % 190; // spread over steps, checkpoints, evaluations and phase boundaries
    }
    let output = run(&["resume", "killed"], folder.path());
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    same_run(&folder.path().join("killed"), &folder.path().join("whole"));
}

#[test]
fn a_signal_saves_the_run_and_resume_finishes_it() {
    let folder = tempfile::tempdir().unwrap();
    let settings = ["methods=[\"hbat\"]", "sft.epochs=40"];
    assert!(run(&train("whole", &settings), folder.path()).status.success());
    let steps = || std::fs::read_to_string(folder.path().join("stopped/metrics.jsonl")).unwrap_or_default();
    interrupted(&train("stopped", &settings), folder.path(), || steps().contains("\"kind\":\"step\""));
    assert!(run(&["resume", "stopped"], folder.path()).status.success());
    same_run(&folder.path().join("stopped"), &folder.path().join("whole"));
}

/// Runs where no file may become larger than some blocks of 512 bytes, which to a program is much like a full disk.
#[cfg(unix)]
fn run_within(blocks: u32, arguments: &[&str], folder: &Path) -> Output {
    let script = format!("trap '' XFSZ; ulimit -f {blocks}; exec \"$0\" \"$@\"");
    Command::new("sh").args(["-c", &script]).arg(hbat()).args(arguments).current_dir(folder).output().expect("sh starts")
}

#[cfg(unix)]
#[test]
fn a_full_disk_stops_the_run_and_resume_finishes_it() {
    let folder = tempfile::tempdir().unwrap();
    let settings = ["methods=[\"hbat\"]"];
    assert!(run(&train("whole", &settings), folder.path()).status.success());
    let output = run_within(800, &train("full", &settings), folder.path());
    let text = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(70), "{text}");
    assert!(text.contains("File too large") && text.contains("hbat resume") && !text.contains("panicked"), "{text}");
    let full = folder.path().join("full");
    assert!(checkpoints(&full).is_empty() && !full.join("last").exists(), "half-written results");
    let steps = metrics(&full).iter().filter(|record| record["kind"] == "step").count();
    assert!(steps < 4, "{steps} steps were trained that nobody could keep");
    assert!(run(&["resume", "full"], folder.path()).status.success());
    same_run(&full, &folder.path().join("whole"));
}

/// Names of the complete checkpoints of a run, the oldest first.
fn names(run: &Path) -> Vec<String> {
    checkpoints(run).iter().map(|path| path.file_name().unwrap().to_string_lossy().into_owned()).collect()
}

#[test]
fn a_run_that_diverges_keeps_what_was_good_and_goes_on_with_other_settings() {
    let folder = tempfile::tempdir().unwrap();
    let settings = ["methods=[\"hbat\"]", "checkpoints.every=9", "dpo.learning_rate=1e36", "dpo.warmup_steps=0"];
    let words = ["is NaN at step 2 of phase dpo-1 (examples [", "last checkpoint is", "000002-sft-1-4", "hbat resume"];
    refused(&train("run", &settings), folder.path(), 70, &words);
    let path = folder.path().join("run");
    let left = names(&path);
    assert_eq!(left, ["000001-sft-1-0", "000002-sft-1-4"]);
    refused(&["resume", "run"], folder.path(), 70, &words);
    assert_eq!(names(&path), left, "another try changes nothing");
    let config = std::fs::read_to_string(path.join("config.toml")).unwrap();
    std::fs::write(path.join("config.toml"), config.replace("1e36", "1e-4")).unwrap();
    let output = run(&["resume", "run"], folder.path());
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{said}");
    assert!(said.contains("changed since it was last at work: dpo.learning_rate: 1e36, now 1e-4"), "{said}");
    assert_eq!(metrics(&path).iter().filter(|record| record["kind"] == "step").count(), 16);
}

#[test]
fn a_phase_whose_last_step_diverges_is_no_result() {
    let folder = tempfile::tempdir().unwrap();
    // So large that no square of it is a number, and so large that only the model notices.
    for (name, rate, words) in [
        ("over", "sft.learning_rate=1e38", "change of the weights is"),
        ("far", "sft.learning_rate=1e15", "the loss of validation is NaN after sft-1"),
    ] {
        let settings = ["methods=[\"sft\"]", "sft.batch_size=64", "checkpoints.keep=1", rate];
        refused(&train(name, &settings), folder.path(), 70, &[words, "last checkpoint is", "000001-sft-1-0"]);
        let path = folder.path().join(name);
        assert_eq!(names(&path), ["000001-sft-1-0"], "{name}");
        assert!(!path.join("best").exists() && !path.join("last").exists(), "{name}");
    }
}

/// A phase is saved when it is over, before it is evaluated.
#[test]
fn a_run_goes_on_from_the_end_of_a_phase() {
    let folder = tempfile::tempdir().unwrap();
    let settings = ["methods=[\"hbat\"]", "checkpoints.keep=9"];
    assert!(run(&train("whole", &settings), folder.path()).status.success());
    let whole = folder.path().join("whole");
    let all = ["000001-sft-1-0", "000002-sft-1-4", "000003-dpo-1-4", "000004-sft-2-4", "000005-dpo-2-4", "000006-dpo-2-4"];
    assert_eq!(names(&whole), all);
    assert!(run(&train("cut", &settings), folder.path()).status.success());
    let cut = folder.path().join("cut");
    for checkpoint in checkpoints(&cut).into_iter().skip(3) {
        std::fs::remove_dir_all(checkpoint).unwrap();
    }
    for folder in ["best", "last"] {
        std::fs::remove_dir_all(cut.join(folder)).unwrap();
    }
    assert!(run(&["resume", "cut"], folder.path()).status.success());
    same_run(&cut, &whole);
}

#[test]
fn a_refused_run_leaves_nothing_behind() {
    let folder = tempfile::tempdir().unwrap();
    let several = ["engine.update=\"in-backward\"", "engine.pack=40", "engine.micro_batch=2"];
    refused(&train("run", &several), folder.path(), 78, &["engine.update", "one of phase sft-1 takes"]);
    assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 0);
}

#[cfg(target_os = "linux")]
#[test]
fn an_output_that_cannot_be_written_is_refused_before_anything_is_read() {
    let folder = tempfile::tempdir().unwrap();
    refused(&train("/sys/hbat-run", &[]), folder.path(), 70, &["/sys/hbat-run cannot be written", "--output"]);
    refused(&["recipes", "cp", "toy", "/sys/hbat.toml"], folder.path(), 78, &["/sys/hbat.toml"]);
}

#[test]
fn a_plan_tells_what_a_run_needs_and_runs_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let output = run(&["plan", "--json"], folder.path());
    let plan: Value = serde_json::from_slice(&output.stdout).unwrap();
    let phases = plan["needs"]["methods"][1]["phases"].as_array().unwrap();
    let names: Vec<&str> = phases.iter().map(|phase| phase["phase"].as_str().unwrap()).collect();
    assert_eq!(names, ["sft-1", "dpo-1", "sft-2", "dpo-2"]);
    assert!(phases.iter().all(|phase| phase["peak"]["weights"].as_u64() > Some(100_000)), "{plan}");
    assert!(plan["speed"]["flops"].as_f64() > Some(1e7), "{plan}");
    let text = String::from_utf8(run(&["plan", "--flops", "1e9"], folder.path()).stdout).unwrap();
    for part in ["two-stage", "dpo-2", "moments", "1 GFLOP/s, as stated", "disk: up to"] {
        assert!(text.contains(part), "no {part:?} in: {text}");
    }
    assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 0);
    refused(&["plan", "--set", "schedule.subsets=100000"], folder.path(), 78, &["schedule.subsets"]);
    refused(&["plan", "--flops", "0"], folder.path(), 2, &["--flops"]);
    // For a card that is elsewhere.
    let elsewhere = ["plan", "--device", "cuda", "--flops", "4e14", "--memory"];
    assert!(run(&[&elsewhere[..], &["80e9"]].concat(), folder.path()).status.success());
    refused(&[&elsewhere[..], &["2.7e9"]].concat(), folder.path(), 78, &["cuda:0 has", "engine.kind = \"segmented\""]);
}

#[test]
fn a_run_in_bf16_trains_and_goes_on_where_it_was_stopped() {
    let folder = tempfile::tempdir().unwrap();
    let settings = ["methods=[\"hbat\"]", "engine.weights=\"bf16-split\"", "engine.moments=\"bf16\"", "checkpoints.every=1"];
    assert!(run(&train("whole", &settings), folder.path()).status.success());
    let losses: Vec<f64> = metrics(&folder.path().join("whole")).iter().filter_map(|r| r["loss"].as_f64()).collect();
    assert!(losses.len() == 16 && losses.iter().all(|loss| loss.is_finite()), "{losses:?}");
    killed_with_checkpoints(2, &train("killed", &settings), &folder.path().join("killed"));
    let output = run(&["resume", "killed"], folder.path());
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    same_run(&folder.path().join("killed"), &folder.path().join("whole"));
    refused(&train("plain", &["engine.weights=\"bf16\""]), folder.path(), 78, &["engine.weights", "bf16-split"]);
    refused(
        &train("rounded", &["engine.products=\"tf32\""]),
        folder.path(),
        78,
        &["engine.products", "cpu does not round factors"],
    );
    let library = ["engine.matmul=\"cublas\""];
    refused(&train("library", &library), folder.path(), 78, &["engine.matmul", "cpu is no card of NVIDIA's"]);
    let kernels = train("kernels", &["engine.kernels=\"hbat\""]);
    refused(&kernels, folder.path(), 78, &["engine.kernels", "graphics cards", "cpu is none", "auto"]);
    for setting in ["engine.offload=\"anchor\"", "engine.layer_inputs=\"host\""] {
        let segmented = "engine.kind=\"segmented\"";
        refused(&train("held", &[setting, segmented]), folder.path(), 78, &["engine.", "no memory but the host's"]);
    }
}

#[test]
fn references_of_the_same_weights_and_preferences_are_read_back() {
    let folder = tempfile::tempdir().unwrap();
    let cached = ["methods=[\"hbat\"]", "checkpoints.reference_cache=\"cache\""];
    let settings = |more: &'static str| [cached[0], cached[1], more];
    let stderr = |output: &Output| String::from_utf8_lossy(&output.stderr).into_owned();
    let first = run(&train("first", &settings("seed=0")), folder.path());
    assert!(first.status.success() && !stderr(&first).contains("read from"), "{}", stderr(&first));
    let files = || std::fs::read_dir(folder.path().join("cache")).unwrap().count();
    assert_eq!(files(), 2, "one for each preference phase");
    let again = run(&train("again", &settings("seed=0")), folder.path());
    assert_eq!(stderr(&again).matches("reference log-probabilities read from").count(), 2, "{}", stderr(&again));
    same_run(&folder.path().join("again"), &folder.path().join("first"));
    // Another beta meets the first phase's weights once more, and others after it.
    let other = run(&train("other", &settings("dpo.beta=0.3")), folder.path());
    assert_eq!((stderr(&other).matches("read from").count(), files()), (1, 3), "{}", stderr(&other));
    for entry in std::fs::read_dir(folder.path().join("cache")).unwrap() {
        std::fs::write(entry.unwrap().path(), "{\"references\":[[1.0").unwrap();
    }
    let torn = run(&train("torn", &settings("seed=0")), folder.path());
    assert!(torn.status.success() && !stderr(&torn).contains("read from"), "{}", stderr(&torn));
    same_run(&folder.path().join("torn"), &folder.path().join("first"));
}

#[test]
fn a_profile_says_where_time_goes() {
    let folder = tempfile::tempdir().unwrap();
    let mut arguments = train("out", &["methods=[\"hbat\"]", "engine.kind=\"segmented\"", "checkpoints.background=\"off\""]);
    arguments.extend(["--profile", "2"]);
    let output = run(&arguments, folder.path());
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let table = std::fs::read_to_string(folder.path().join("out/profile.md")).unwrap();
    assert!(table.contains("| recompute |") && table.contains("Steps: 4 of sft, 4 of dpo."), "{table}");
    let trace: Value = serde_json::from_slice(&std::fs::read(folder.path().join("out/profile.json")).unwrap()).unwrap();
    let steps = trace["traceEvents"].as_array().unwrap().iter().filter(|event| event["name"].as_str().unwrap().contains("step"));
    assert_eq!(steps.count(), 8);
    let text = std::fs::read_to_string(folder.path().join("out/metrics.jsonl")).unwrap();
    let step: Value = serde_json::from_str(text.lines().find(|line| line.contains("\"step\"")).unwrap()).unwrap();
    assert!(step["tokens_per_second"].as_f64() > Some(0.0) && step["memory_peak"].as_u64() > Some(1 << 20), "{step}");
}

#[test]
fn what_cannot_be_done_is_said_with_the_right_code() {
    let temporary = tempfile::tempdir().unwrap();
    let folder = temporary.path();
    refused(&["trian"], folder, 2, &["train"]);
    refused(&["train", "nowhere.toml"], folder, 78, &["nowhere.toml"]);
    refused(&["train", "--set", "sft.learning_rat=1"], folder, 78, &["sft.learning_rate"]);
    refused(&["train", "--set", "sft.learning_rate=0"], folder, 78, &["sft.learning_rate", "0"]);
    refused(&["train", "--set", "schedule.subsets=100000"], folder, 78, &["schedule.subsets"]);
    refused(&["train", "--device", "cuda:0"], folder, 78, &["cuda"]);
    refused(&["resume", "."], folder, 78, &["config.toml"]);
    refused(&["eval", "--model", "nowhere", "--demonstrations", "x.jsonl"], folder, 65, &["nowhere"]);
    refused(&["recipes", "cat", "toi"], folder, 2, &["toy"]);
    refused(&["generate", "--model", "nowhere", "--prompt", "hi"], folder, 65, &["nowhere"]);
    assert!(std::fs::read_dir(folder).unwrap().filter_map(Result::ok).all(|e| e.file_name() != "runs" || e.path().is_dir()));
}

#[test]
fn a_truncated_checkpoint_is_refused_and_the_one_before_is_used() {
    let folder = tempfile::tempdir().unwrap();
    let settings = ["methods=[\"hbat\"]", "checkpoints.every=1", "checkpoints.keep=3"];
    assert!(run(&train("whole", &settings), folder.path()).status.success());
    killed_with_checkpoints(3, &train("cut", &settings), &folder.path().join("cut"));
    let newest = checkpoints(&folder.path().join("cut")).pop().unwrap();
    let file = newest.join("weights.safetensors");
    let length = std::fs::metadata(&file).unwrap().len();
    std::fs::File::options().write(true).open(&file).unwrap().set_len(length / 2).unwrap();
    let output = run(&["resume", "cut"], folder.path());
    let text = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success() && text.contains("is not used"), "{text}");
    same_run(&folder.path().join("cut"), &folder.path().join("whole"));
}

#[test]
fn a_finished_run_whose_steps_would_be_others_is_not_written_over() {
    let folder = tempfile::tempdir().unwrap();
    assert!(run(&train("out", &["methods=[\"hbat\"]"]), folder.path()).status.success());
    let out = folder.path().join("out");
    let (before, best) = (metrics(&out), weights(&out));
    let config = std::fs::read_to_string(out.join("config.toml")).unwrap();
    let changed = config.replace("epochs = 1", "epochs = 2");
    assert_ne!(changed, config);
    std::fs::write(out.join("config.toml"), changed).unwrap();
    refused(&["resume", "out"], folder.path(), 65, &["no checkpoint in", "another configuration", "--output"]);
    assert_eq!((metrics(&out), weights(&out)), (before, best));
    std::fs::write(out.join("config.toml"), config).unwrap();
    let again = run(&["resume", "out"], folder.path());
    assert!(again.status.success(), "{}", String::from_utf8_lossy(&again.stderr));
}

/// Begins a run anew until it is killed on its way with so many complete checkpoints, be the machine fast or slow.
fn killed_with_checkpoints(count: usize, arguments: &[&str], run: &Path) {
    let mut pause = 200;
    loop {
        let _ = std::fs::remove_dir_all(run);
        let running = killed(arguments, run.parent().expect("a run lies in a folder"), pause);
        if running && checkpoints(run).len() >= count {
            return;
        }
        pause = if running { pause + 70 } else { 50 };
    }
}

/// Complete checkpoints, the oldest first.
fn checkpoints(run: &Path) -> Vec<std::path::PathBuf> {
    let Ok(entries) = std::fs::read_dir(run.join("checkpoints")) else { return Vec::new() };
    let mut found: Vec<_> = entries.filter_map(Result::ok).map(|e| e.path()).filter(|p| p.join("COMPLETE").is_file()).collect();
    found.sort();
    found
}
