//! Runs that go on where something changed meanwhile, and output that nobody takes.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::time::{Duration, Instant};

use crate::cli::{interrupted, metrics, refused, run, same_run, train};
use crate::support::hbat;

fn said(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

/// Two digits to be copied.
fn digits(i: usize) -> String {
    format!("{} {}", i % 10, (i * 7) % 10)
}

/// Examples of that, as lines of JSON.
pub(crate) fn demonstrations(count: usize) -> String {
    (0..count).map(|i| format!("{{\"prompt\": \"copy {} =\", \"completion\": \"{}\"}}\n", digits(i), digits(i))).collect()
}

/// A model of the toy's in `model`, examples in `d.jsonl` and `p.jsonl`, and a run file over them, `run.toml`.
pub(crate) fn with_files(folder: &Path) {
    assert!(run(&train("toy", &["methods=[\"sft\"]"]), folder).status.success());
    fs::rename(folder.join("toy/last"), folder.join("model")).unwrap();
    fs::write(folder.join("d.jsonl"), demonstrations(16)).unwrap();
    let preference =
        |i| format!("{{\"prompt\": \"copy {} =\", \"chosen\": \"{}\", \"rejected\": \"1\"}}\n", digits(i), digits(i));
    fs::write(folder.join("p.jsonl"), (0..16).map(preference).collect::<String>()).unwrap();
    let text = "methods = [\"hbat\"]\n[model]\npath = \"model\"\n[data]\ndemonstrations = [\"d.jsonl\"]\npreferences = [\"p.jsonl\"]\n\
                max_length = 32\n[validation]\npreferences = [\"p.jsonl\"]\nlimit_preferences = 8\n[sft]\nbatch_size = 4\n\
                [dpo]\nbatch_size = 4\n";
    fs::write(folder.join("run.toml"), text).unwrap();
}

#[test]
fn a_run_goes_on_only_with_what_it_began_with() {
    let temporary = tempfile::tempdir().unwrap();
    let folder = temporary.path();
    with_files(folder);
    let output = run(&["train", "run.toml", "-o", "out"], folder);
    assert!(output.status.success(), "{}", said(&output));
    let changes: [(&str, &str, &str, &str); 3] = [
        ("d.jsonl", "\"completion\": \"0 0\"", "\"completion\": \"9\"", "the demonstrations are not those"),
        ("p.jsonl", "\"rejected\": \"1\"", "\"rejected\": \"2\"", "the preferences are not those"),
        ("model/config.json", "\"rope_theta\": 100.0", "\"rope_theta\": 101.0", "config.json are not those"),
    ];
    for (file, old, new, words) in changes {
        let path = folder.join(file);
        let before = fs::read_to_string(&path).unwrap();
        assert!(before.contains(old), "{file} has no {old}: {before}");
        fs::write(&path, before.replace(old, new)).unwrap();
        refused(&["resume", "out"], folder, 65, &[words, "put the files named by"]);
        fs::write(&path, before).unwrap();
    }
    let output = run(&["resume", "out"], folder);
    assert!(output.status.success() && said(&output).contains("hbat had finished"), "{}", said(&output));
}

/// Every method starts from the same weights, those that begin after an interruption, too.
#[test]
fn a_run_does_not_go_on_from_other_weights() {
    let temporary = tempfile::tempdir().unwrap();
    let folder = temporary.path();
    with_files(folder);
    assert!(run(&["train", "run.toml", "-o", "out"], folder).status.success());
    fs::copy(folder.join("out/last/model.safetensors"), folder.join("model/model.safetensors")).unwrap();
    refused(&["resume", "out"], folder, 65, &["the model's weights are not those", "put the files named by model.path back"]);
    fs::write(folder.join("out/inputs.json"), "{").unwrap();
    let output = run(&["resume", "out"], folder);
    assert!(output.status.success() && said(&output).contains("inputs.json is damaged"), "{}", said(&output));
}

pub(crate) fn checkpoints(run: &Path) -> Vec<PathBuf> {
    let mut found: Vec<_> = fs::read_dir(run.join("checkpoints")).unwrap().map(|entry| entry.unwrap().path()).collect();
    found.sort();
    found
}

/// The last line of a run's metrics; nothing if there is none.
fn last_record(run: &Path) -> String {
    let text = fs::read_to_string(run.join("metrics.jsonl")).unwrap_or_default();
    text.lines().last().unwrap_or_default().to_owned()
}

/// What later checkpoints had found to be best is undone with them: a run never goes on from weights that it has not had.
#[test]
fn the_best_weights_go_back_with_the_run() {
    let temporary = tempfile::tempdir().unwrap();
    let folder = temporary.path();
    let settings = [
        "methods=[\"hbat-freeze\"]",
        "validation.every=2",
        "schedule.continue_from=\"best\"",
        "checkpoints.keep=99",
        "checkpoints.every=3",
    ];
    assert!(run(&train("whole", &settings), folder).status.success());
    assert!(run(&train("cut", &settings), folder).status.success());
    let cut = folder.join("cut");
    while checkpoints(&cut).len() > 1 {
        fs::remove_dir_all(checkpoints(&cut).pop().unwrap()).unwrap();
        fs::remove_dir_all(cut.join("last")).unwrap();
        let left = checkpoints(&cut);
        assert!(run(&["resume", "-q", "cut"], folder).status.success());
        same_run(&cut, &folder.join("whole"));
        let anew = checkpoints(&cut).into_iter().filter(|path| !left.contains(path));
        anew.for_each(|path| fs::remove_dir_all(path).unwrap());
    }
}

#[test]
fn a_finished_run_stays_as_it_is() {
    let temporary = tempfile::tempdir().unwrap();
    let folder = temporary.path();
    assert!(run(&train("out", &["methods=[\"hbat\"]"]), folder).status.success());
    let out = folder.join("out");
    let (before, plot) = (checkpoints(&out), fs::read(out.join("plot.png")).unwrap());
    let weights = ["best", "last"].map(|name| fs::read(out.join(name).join("model.safetensors")).unwrap());
    fs::remove_dir_all(out.join("best")).unwrap();
    let output = run(&["resume", "out"], folder);
    assert!(output.status.success() && said(&output).contains("hbat had finished"), "{}", said(&output));
    assert_eq!(checkpoints(&out), before);
    assert!(fs::read(out.join("plot.png")).unwrap() == plot, "the plot's title, too");
    assert!(weights == ["best", "last"].map(|name| fs::read(out.join(name).join("model.safetensors")).unwrap()));
}

/// Resumes `run` with another rate in the place of one that made it diverge; what it says.
#[track_caller]
fn goes_on_at_1e_4(folder: &Path, rate: &str) -> String {
    let path = folder.join("run/config.toml");
    fs::write(&path, fs::read_to_string(&path).unwrap().replace(rate, "1e-4")).unwrap();
    let output = run(&["resume", "run"], folder);
    assert!(output.status.success(), "{}", said(&output));
    said(&output)
}

/// Weights that are good for nothing show in the evaluation of a phase's end. Until then the checkpoint before is kept, and afterwards gone on from.
#[cfg(unix)]
#[test]
fn a_signal_before_a_diverged_phase_is_evaluated_loses_no_good_checkpoint() {
    let temporary = tempfile::tempdir().unwrap();
    let folder = temporary.path();
    let settings = [
        "methods=[\"two-stage\"]",
        "dpo.batch_size=64",
        "dpo.warmup_steps=0",
        "dpo.learning_rate=1e15",
        "checkpoints.keep=1",
        "toy.validation_demonstrations=2000",
        "toy.validation_preferences=2000",
    ];
    interrupted(&train("run", &settings), folder, || {
        let record = last_record(&folder.join("run"));
        record.contains("phase-end") && record.contains("dpo-1")
    });
    refused(&["resume", "run"], folder, 70, &["validation is", "sft-1-", "go on from there"]);
    let told = goes_on_at_1e_4(folder, "1e15");
    assert!(!told.contains("begins anew"), "{told}");
}

/// As above within a phase, where a checkpoint was written just before the evaluation.
#[test]
fn a_checkpoint_of_weights_that_are_good_for_nothing_is_taken_back() {
    let temporary = tempfile::tempdir().unwrap();
    let folder = temporary.path();
    let settings = [
        "methods=[\"two-stage\"]",
        "dpo.batch_size=16",
        "dpo.warmup_steps=0",
        "dpo.learning_rate=1e15",
        "validation.every=1",
        "checkpoints.every=1",
        "checkpoints.keep=1",
    ];
    refused(&train("run", &settings), folder, 70, &["validation is", "dpo-1 step 1", "sft-1-", "go on from there"]);
    let told = goes_on_at_1e_4(folder, "1e15");
    assert!(!told.contains("begins anew"), "{told}");
    assert_eq!(checkpoints(&folder.join("run")).len(), 1);
}

#[test]
fn a_change_that_is_refused_is_told_until_it_is_taken_back() {
    let temporary = tempfile::tempdir().unwrap();
    let folder = temporary.path();
    assert!(run(&train("out", &["methods=[\"sft\"]"]), folder).status.success());
    let path = folder.join("out/config.toml");
    let before = fs::read_to_string(&path).unwrap();
    fs::write(&path, before.replacen("epochs = 1", "epochs = 2", 1)).unwrap();
    for _ in 0..2 {
        refused(&["resume", "out"], folder, 65, &["changed since it was last at work: sft.epochs: 1, now 2"]);
    }
    fs::write(&path, before).unwrap();
    let output = run(&["resume", "out"], folder);
    assert!(output.status.success() && !said(&output).contains("changed since it was last"), "{}", said(&output));
}

#[test]
fn validating_on_nothing_is_refused() {
    let temporary = tempfile::tempdir().unwrap();
    let folder = temporary.path();
    with_files(folder);
    let on_nothing = |setting| ["plan", "run.toml", "--set", "validation.preferences=[]", "--set", setting];
    let problem =
        "and there is nothing to validate on; name files of validation.demonstrations or validation.preferences, or take 0";
    refused(&on_nothing("validation.every=2"), folder, 78, &["validation.every = 2", problem]);
    refused(&on_nothing("schedule.continue_from=best"), folder, 78, &["without validation data nothing is the best"]);
}

#[test]
fn a_quiet_run_warns() {
    let temporary = tempfile::tempdir().unwrap();
    let folder = temporary.path();
    with_files(folder);
    let text = fs::read_to_string(folder.join("p.jsonl")).unwrap();
    let same = text.lines().map(|line| {
        line.replace(
            "\"rejected\": \"1\"",
            &line[line.find("\"chosen").unwrap()..line.find(", \"rejected").unwrap()].replace("chosen", "rejected"),
        )
    });
    fs::write(folder.join("p.jsonl"), same.collect::<Vec<_>>().join("\n")).unwrap();
    let output = run(&["train", "-q", "run.toml", "-o", "out", "--set", "consolidation.rule=\"reference\""], folder);
    let told = said(&output);
    assert!(output.status.success() && told.lines().all(|line| line.starts_with("warning: ")), "{told}");
    assert!(told.contains("16 of 16 pairs have the same chosen and rejected response") && told.contains("dpo-1"), "{told}");
}

/// A template that prints the time: what a run goes on with is what it printed when the run began.
#[test]
fn a_run_sees_the_day_on_which_it_began() {
    let temporary = tempfile::tempdir().unwrap();
    let folder = temporary.path();
    with_files(folder);
    let seconds = "{{ strftime_now('%S') | list | join(' ') }} {% for m in messages %}{{ m.content }} {% endfor %}";
    fs::write(folder.join("model/chat_template.jinja"), seconds).unwrap();
    let chat = r#"{"messages": [{"role": "user", "content": "copy 1 2 ="}, {"role": "assistant", "content": "1 2"}]}"#;
    fs::write(folder.join("d.jsonl"), format!("{chat}\n").repeat(4)).unwrap();
    let begun = Instant::now();
    let output = run(&["train", "run.toml", "-o", "out", "--set", "methods=[\"sft\"]"], folder);
    assert!(output.status.success(), "{}", said(&output));
    std::thread::sleep(Duration::from_millis(1100).saturating_sub(begun.elapsed()));
    let output = run(&["resume", "out"], folder);
    assert!(output.status.success(), "{}", said(&output));
    let path = folder.join("out/inputs.json");
    let inputs: serde_json::Value = serde_json::from_slice(&fs::read(&path).unwrap()).unwrap();
    let other = serde_json::json!(inputs["began"].as_f64().unwrap() + 1.0);
    fs::write(&path, fs::read_to_string(&path).unwrap().replace(&inputs["began"].to_string(), &other.to_string())).unwrap();
    refused(&["resume", "out"], folder, 65, &["the demonstrations are not those"]);
}

#[test]
fn what_a_run_lost_beside_its_checkpoints_does_not_stop_it() {
    let temporary = tempfile::tempdir().unwrap();
    let folder = temporary.path();
    let settings = ["methods=[\"hbat\"]"];
    assert!(run(&train("whole", &settings), folder).status.success());
    assert!(run(&train("cut", &settings), folder).status.success());
    let cut = folder.join("cut");
    fs::remove_dir_all(checkpoints(&cut).pop().unwrap()).unwrap();
    fs::write(cut.join("reference.json"), "{").unwrap();
    let output = run(&["resume", "cut"], folder);
    assert!(output.status.success() && said(&output).contains("reference.json is damaged"), "{}", said(&output));
    same_run(&cut, &folder.join("whole"));

    fs::remove_file(cut.join("metrics.jsonl")).unwrap();
    let output = run(&["resume", "cut"], folder);
    assert!(output.status.success() && said(&output).contains("metrics.jsonl has lost its end"), "{}", said(&output));

    fs::remove_dir_all(cut.join("checkpoints")).unwrap();
    let output = run(&["resume", "cut"], folder);
    assert!(output.status.success(), "{}", said(&output));
    same_run(&cut, &folder.join("whole"));
    fs::remove_dir_all(cut.join("checkpoints")).unwrap();
    let output = run(&["resume", "cut"], folder);
    assert!(said(&output).contains("the run begins anew"), "{}", said(&output));
}

#[test]
fn one_method_does_not_become_several_nor_several_one() {
    let temporary = tempfile::tempdir().unwrap();
    let folder = temporary.path();
    for (name, methods, others) in [
        ("one", "methods=[\"sft\"]", "methods = [\"sft\", \"hbat\"]"),
        ("two", "methods=[\"sft\", \"two-stage\"]", "methods = [\"sft\"]"),
    ] {
        assert!(run(&train(name, &[methods]), folder).status.success());
        let path = folder.join(name).join("config.toml");
        let config = fs::read_to_string(&path).unwrap();
        let line = config.lines().find(|line| line.starts_with("methods = ")).unwrap().to_owned();
        fs::write(&path, config.replace(&line, others)).unwrap();
        refused(&["resume", name], folder, 78, &["methods", "the run began with", "put it back"]);
    }
}

#[cfg(unix)]
#[test]
fn an_interrupted_run_of_several_methods_names_itself_and_not_the_method() {
    let temporary = tempfile::tempdir().unwrap();
    let folder = temporary.path();
    let output = interrupted(&train("run", &["sft.epochs=50"]), folder, || folder.join("run/two-stage/metrics.jsonl").exists());
    assert!(said(&output).contains("/run`") && !said(&output).contains("two-stage`"), "{}", said(&output));
}

/// The step that was to be evaluated is, though nothing but the evaluation had been left of it.
#[cfg(unix)]
#[test]
fn a_signal_during_an_evaluation_within_a_phase_does_not_lose_it() {
    let temporary = tempfile::tempdir().unwrap();
    let folder = temporary.path();
    let settings = [
        "methods=[\"two-stage\"]",
        "sft.batch_size=16",
        "dpo.batch_size=32",
        "validation.every=1",
        "schedule.continue_from=\"best\"",
        "toy.validation_demonstrations=2000",
        "toy.validation_preferences=2000",
    ];
    assert!(run(&train("whole", &settings), folder).status.success());
    let stopped = folder.join("stopped");
    let is_step = || last_record(&stopped).contains("\"kind\":\"step\"");
    interrupted(&train("stopped", &settings), folder, is_step);
    assert!(is_step(), "the signal did not come during the evaluation");
    assert!(run(&["resume", "stopped"], folder).status.success());
    same_run(&stopped, &folder.join("whole"));
}

/// The settings of a method's folder are those it goes on with.
#[test]
fn a_changed_setting_reaches_the_methods_own_folders() {
    let temporary = tempfile::tempdir().unwrap();
    let folder = temporary.path();
    let settings = ["methods=[\"sft\", \"two-stage\"]", "sft.learning_rate=1e36", "sft.batch_size=8"];
    refused(&train("run", &settings), folder, 70, &["is NaN", "/run/config.toml"]);
    goes_on_at_1e_4(folder, "1e36");
    for method in ["sft", "two-stage"] {
        let config = fs::read_to_string(folder.join("run").join(method).join("config.toml")).unwrap();
        assert!(config.contains("learning_rate = 1e-4") && !config.contains("1e36"), "{method}: {config}");
    }
}

#[cfg(target_os = "linux")]
#[test]
fn output_that_nobody_takes_stops_no_training() {
    let temporary = tempfile::tempdir().unwrap();
    let folder = temporary.path();
    let full = || fs::OpenOptions::new().write(true).open("/dev/full").unwrap();
    let train = |name, stdout: Stdio, stderr: Stdio| {
        let arguments = train(name, &["methods=[\"sft\"]"]);
        Command::new(hbat()).args(arguments).current_dir(folder).stdout(stdout).stderr(stderr).output().unwrap()
    };
    assert_eq!(train("mute", Stdio::piped(), full().into()).status.code(), Some(0));
    let output = train("blind", full().into(), Stdio::piped());
    assert_eq!(output.status.code(), Some(70), "{}", said(&output));
    assert!(said(&output).contains("printing the results") && !said(&output).contains("the device failed"), "{}", said(&output));
    for name in ["mute", "blind"] {
        assert!(folder.join(name).join("plot.png").is_file() && !metrics(&folder.join(name)).is_empty(), "{name}");
    }
    let script = "\"$0\" recipes cat toy | head -1 >/dev/null; exec \"$0\" recipes cat toy >&-";
    let closed = Command::new("bash").args(["-c", &format!("set -o pipefail; {script}")]).arg(hbat()).output().unwrap();
    assert!(!said(&closed).contains("panicked"), "{}", said(&closed));
    let piped = Command::new("bash")
        .args(["-c", "set -o pipefail; for i in 1 2 3 4; do \"$0\" recipes cat toy; done | head -1"])
        .arg(hbat())
        .output()
        .unwrap();
    assert!(!said(&piped).contains("Broken pipe"), "{}", said(&piped));
}

#[test]
fn preferences_alone_need_no_demonstrations() {
    let temporary = tempfile::tempdir().unwrap();
    let folder = temporary.path();
    with_files(folder);
    let with = |methods: &'static str| ["train", "run.toml", "-o", "out", "--set", "data.demonstrations=[]", "--set", methods];
    refused(&with("methods=[\"two-stage\"]"), folder, 78, &["data.demonstrations is not set", "preference-only"]);
    let output = run(&with("methods=[\"preference-only\"]"), folder);
    assert!(output.status.success() && said(&output).contains("dpo-1 (phase 1 of 1), 8 steps"), "{}", said(&output));
    let beside = [&with("methods=[\"preference-only\"]")[..], &["--set", "schedule.preference=\"ppo\""]].concat();
    let beside = [&beside[..], &["--set", "ppo.reward_model=\"j\"", "--set", "ppo.sft_coefficient=1"]].concat();
    refused(&beside, folder, 78, &["data.demonstrations is not set"]);
}

#[test]
fn prompts_come_from_lines_or_from_examples() {
    let temporary = tempfile::tempdir().unwrap();
    let folder = temporary.path();
    with_files(folder);
    fs::write(folder.join("prompts.txt"), "copy 4 7 =\n\ncopy 1 =\n").unwrap();
    fs::write(folder.join("three.jsonl"), "{\"prompt\": \"copy 4 7 =\", \"completion\": \"4 7\"}\n").unwrap();
    let generate = |file: &str| run(&["generate", "-m", "model", "--prompts", file, "--max-new-tokens", "2"], folder);
    let text = String::from_utf8_lossy(&generate("prompts.txt").stdout).into_owned();
    assert!(text.starts_with("> copy 4 7 =\n4 7\n") && text.contains("> copy 1 =\n"), "{text}");
    let output = generate("three.jsonl");
    assert_eq!(String::from_utf8_lossy(&output.stdout), "4 7\n", "{}", said(&output));
    let files: [(&str, &[u8], &str); 3] = [
        ("blank.txt", b" \n\n", "blank.txt: holds no prompts"),
        ("latin.txt", b"copy \xe9 =\n", "latin.txt: line 1: byte 5 (0xE9) is not UTF-8"),
        ("pears.txt", b"copy 1 =\ncopy pears =\n", "pears.txt, line 2: the tokenizer fails on \"pears\""),
    ];
    for (name, bytes, words) in files {
        fs::write(folder.join(name), bytes).unwrap();
        refused(&["generate", "-m", "model", "--prompts", name], folder, 65, &[words]);
    }
    refused(&["generate", "-m", "model", "--prompts", "none.txt"], folder, 65, &["none.txt: there is no such file"]);
    let long = format!("copy {}=", "1 ".repeat(80));
    refused(&["generate", "-m", "model", "--prompt", &long], folder, 65, &["the prompt has 82 tokens", "may have 64"]);
}

#[test]
fn numbers_and_folders_that_cannot_be_are_refused_by_name() {
    let temporary = tempfile::tempdir().unwrap();
    let folder = temporary.path();
    fs::write(folder.join("file"), "").unwrap();
    for (setting, words) in [
        ("consolidation.lambda=1e39", "between 0 and 1e30"),
        ("sft.epochs=1000000000", "between 1 and 10000"),
        ("engine.pack=1000000000", "the tokens of a row"),
        ("output=\"\"", "an empty path names no folder"),
    ] {
        let (key, _) = setting.split_once('=').unwrap();
        refused(&["train", "--set", setting], folder, 78, &[key, words]);
    }
    refused(&["train", "-o", "file"], folder, 78, &["file cannot be a run's folder"]);
    let reference = ["eval", "-m", "m", "--reference", "r", "--demonstrations", "d.jsonl"];
    refused(&reference, folder, 2, &["--preferences"]);
}
