//! Run directories and checkpoints: what survives a kill, a torn file, a full disk, a second process.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use hbat::model::{Storage, Unit};
use hbat_cli::store::{Checkpoint, CheckpointWriter, RunDir, SaveDtype, fingerprint};
use serde_json::json;
use tempfile::TempDir;

const CONFIG: &str = "[model]\nname = \"tiny\"\n";

fn print() -> String {
    fingerprint(CONFIG)
}

fn units() -> Vec<Unit> {
    vec![
        Unit::new("embed", &[5, 3], Storage::AsIs),
        Unit::new("up", &[4, 3], Storage::Transposed),
        Unit::new("norm", &[3], Storage::AsIs),
    ]
}

/// Values that tell units, sets and checkpoints apart.
fn values(unit: &Unit, of: f32) -> Vec<f32> {
    (0..unit.elements()).map(|i| of + i as f32 / 1024.0).collect()
}

fn write_set(writer: &mut CheckpointWriter, set: &str, of: f32) {
    let units = units();
    let mut file = writer.begin_set(set, &units, SaveDtype::F32).unwrap();
    for unit in &units {
        file.write(&values(unit, of)).unwrap();
    }
    file.finish().unwrap();
}

/// Writes a checkpoint whose weights, moments, state and metrics all carry `step`.
fn write(run: &RunDir, step: u64) -> Checkpoint {
    let mut metrics = run.metrics().unwrap();
    metrics.append(&json!({ "step": step })).unwrap();
    let mut writer = run.begin_checkpoint("hpa-1", step, &print()).unwrap();
    for (set, offset) in [("weights", 0.0), ("first_moment", 0.25), ("second_moment", 0.5)] {
        write_set(&mut writer, set, step as f32 + offset);
    }
    writer.same("anchor", "weights").unwrap();
    writer.complete(json!({ "step": step }), metrics.sync().unwrap()).unwrap()
}

/// A run with checkpoints of the given steps.
fn run(steps: &[u64]) -> (TempDir, RunDir) {
    let folder = tempfile::tempdir().unwrap();
    let run = RunDir::create(&folder.path().join("run"), CONFIG).unwrap();
    for &step in steps {
        write(&run, step);
    }
    (folder, run)
}

fn names(folder: &Path) -> Vec<String> {
    let entries = fs::read_dir(folder).unwrap();
    let mut names: Vec<String> = entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
    names.sort();
    names
}

fn checkpoints(run: &RunDir) -> PathBuf {
    run.path().join("checkpoints")
}

#[track_caller]
fn says(message: &str, parts: &[&str]) {
    for part in parts {
        assert!(message.contains(part), "`{part}` is not in: {message}");
    }
}

/// The newest good checkpoint must be of this step, whole in all its parts.
#[track_caller]
fn goes_on_from(run: &RunDir, step: u64) -> Vec<String> {
    let latest = run.latest_complete(&print()).unwrap();
    let checkpoint = latest.checkpoint.expect("a checkpoint");
    assert_eq!((checkpoint.step(), checkpoint.phase()), (step, "hpa-1"));
    assert_eq!(checkpoint.state(), &json!({ "step": step }));
    let tensors = checkpoint.tensors().unwrap();
    for (set, offset) in [("weights", 0.0), ("first_moment", 0.25), ("second_moment", 0.5), ("anchor", 0.0)] {
        for unit in units() {
            assert_eq!(tensors.read(set, &unit).unwrap(), Some(values(&unit, step as f32 + offset)), "{set} {}", unit.name);
        }
    }
    latest.refused.iter().map(ToString::to_string).collect()
}

#[test]
fn a_checkpoint_is_read_back_as_it_was_written() {
    let (_folder, run) = run(&[1, 2]);
    assert_eq!(names(&checkpoints(&run)), ["000001-hpa-1-1", "000002-hpa-1-2"]);
    assert!(goes_on_from(&run, 2).is_empty());
    let checkpoint = run.latest_complete(&print()).unwrap().checkpoint.unwrap();
    assert!(checkpoint.has("anchor") && !checkpoint.has("fisher"));
    let tensors = checkpoint.tensors().unwrap();
    assert_eq!(tensors.read("fisher", &units()[0]).unwrap(), None);
    assert_eq!(tensors.read("weights", &Unit::new("head", &[1], Storage::AsIs)).unwrap(), None);
    let other_shape = Unit::new("norm", &[4], Storage::AsIs);
    says(&tensors.read("weights", &other_shape).unwrap_err().to_string(), &["`norm`", "[1, 3] where [1, 4]"]);
    assert_eq!(checkpoint.metrics_bytes(), 22);
}

#[test]
fn a_set_of_some_units_is_allowed() {
    let (_folder, run) = run(&[]);
    let mut writer = run.begin_checkpoint("sft-1", 3, &print()).unwrap();
    let (units, metrics) = (units(), run.metrics().unwrap());
    let mut set = writer.begin_set("first_moment", units.iter().skip(1), SaveDtype::F32).unwrap();
    for unit in &units[1..] {
        set.write(&values(unit, 1.0)).unwrap();
    }
    set.finish().unwrap();
    let tensors = writer.complete(json!(null), metrics.sync().unwrap()).unwrap().tensors().unwrap();
    assert_eq!(tensors.read("first_moment", &units[0]).unwrap(), None);
    assert_eq!(tensors.read("first_moment", &units[2]).unwrap(), Some(values(&units[2], 1.0)));
}

#[cfg(unix)]
#[test]
fn an_anchor_costs_no_space_and_outlives_the_checkpoint_it_came_from() {
    use std::os::unix::fs::MetadataExt;
    let (_folder, run) = run(&[1]);
    let start = run.latest_complete(&print()).unwrap().checkpoint.unwrap();
    let still_open = start.tensors().unwrap();
    let mut writer = run.begin_checkpoint("hpa-1", 2, &print()).unwrap();
    writer.take_over("anchor", &start.set("weights").unwrap()).unwrap();
    let next = writer.complete(json!(null), run.metrics().unwrap().sync().unwrap()).unwrap();
    let inode = |path: PathBuf| fs::metadata(path).unwrap().ino();
    assert_eq!(inode(next.set_path("anchor")), inode(start.set_path("weights")));
    run.prune(1, &print()).unwrap();
    assert_eq!(names(&checkpoints(&run)), ["000002-hpa-1-2"]);
    for tensors in [next.tensors().unwrap(), still_open] {
        assert_eq!(tensors.read("anchor", &units()[1]).unwrap(), Some(values(&units()[1], 1.0)));
    }
}

#[test]
fn a_set_cannot_be_taken_over_from_nothing() {
    let (_folder, run) = run(&[1]);
    let start = run.latest_complete(&print()).unwrap().checkpoint.unwrap();
    fs::remove_file(start.set_path("weights")).unwrap();
    let mut writer = run.begin_checkpoint("hpa-1", 2, &print()).unwrap();
    let error = writer.take_over("anchor", &start.set("weights").unwrap()).unwrap_err().to_string();
    says(&error, &["cannot read", "weights.safetensors"]);
    drop(writer);
    assert_eq!(names(&checkpoints(&run)), ["000001-hpa-1-1"]);
}

/// A folder's name, with its files' names and contents.
type Folder = (String, Vec<(String, Vec<u8>)>);

/// Everything a kill during the second checkpoint can leave: each file whole, half or absent, in the order of writing.
fn torn(whole: &Path) -> Vec<Folder> {
    let order = ["weights", "first_moment", "second_moment", "anchor"].map(|set| format!("{set}.safetensors"));
    let order: Vec<String> = order.into_iter().chain(["state.json".to_string()]).collect();
    let file = |name: &String| (name.clone(), fs::read(whole.join(name)).unwrap());
    let half = |(name, bytes): (String, Vec<u8>)| (name, bytes[..bytes.len() / 2].to_vec());
    let mut left = Vec::new();
    for count in 0..=order.len() {
        let before: Vec<_> = order[..count].iter().map(file).collect();
        left.push((".tmp-000002-hpa-1-2".to_string(), before.clone()));
        if let Some(next) = order.get(count) {
            left.push((".tmp-000002-hpa-1-2".to_string(), [before.clone(), vec![half(file(next))]].concat()));
        } else {
            left.push(("000002-hpa-1-2".to_string(), before.clone()));
            let marker = |bytes: &[u8]| (".tmp-COMPLETE".to_string(), bytes.to_vec());
            left.push(("000002-hpa-1-2".to_string(), [before.clone(), vec![marker(b"")]].concat()));
            left.push(("000002-hpa-1-2".to_string(), [before, vec![marker(b"0123")]].concat()));
        }
    }
    left
}

#[test]
fn a_kill_while_writing_goes_back_to_the_checkpoint_before() {
    let (_other, finished) = run(&[1, 2]);
    let torn = torn(&checkpoints(&finished).join("000002-hpa-1-2"));
    assert_eq!(torn.len(), 14);
    for (name, files) in torn {
        let (_folder, run) = run(&[1]);
        let path = run.path().to_path_buf();
        let left = checkpoints(&run).join(&name);
        fs::create_dir(&left).unwrap();
        for (file, bytes) in &files {
            fs::write(left.join(file), bytes).unwrap();
        }
        drop(run);
        let run = RunDir::open(&path).unwrap();
        let refused = goes_on_from(&run, 1);
        assert_eq!(names(&checkpoints(&run)), ["000001-hpa-1-1"], "{name} with {} files", files.len());
        assert_eq!(refused.len(), usize::from(!name.starts_with('.')));
        assert!(refused.iter().all(|reason| reason.contains("killed while writing")), "{refused:?}");
        write(&run, 2);
        assert!(goes_on_from(&run, 2).is_empty() || !refused.is_empty());
    }
}

fn edit(path: &Path, how: impl FnOnce(&mut Vec<u8>)) {
    let mut bytes = fs::read(path).unwrap();
    how(&mut bytes);
    fs::write(path, bytes).unwrap();
}

/// Changes the state and vouches for it, as a program of another version would.
fn rewrite(checkpoint: &Path, from: &str, to: &str) {
    let text = fs::read_to_string(checkpoint.join("state.json")).unwrap();
    assert!(text.contains(from));
    let text = text.replace(from, to);
    fs::write(checkpoint.join("state.json"), &text).unwrap();
    fs::write(checkpoint.join("COMPLETE"), fingerprint(&text)).unwrap();
}

/// What happened to a complete checkpoint, and what its refusal must name.
type Damage = (fn(&Path), &'static [&'static str]);

const DAMAGE: [Damage; 12] = [
    (|c| edit(&c.join("weights.safetensors"), |b| b.truncate(b.len() / 2)), &["safetensors has", "bytes, not"]),
    (|c| edit(&c.join("first_moment.safetensors"), |b| b.truncate(4)), &["first_moment.safetensors has 4 bytes"]),
    (|c| edit(&c.join("second_moment.safetensors"), Vec::clear), &["second_moment.safetensors has 0 bytes"]),
    (|c| edit(&c.join("weights.safetensors"), |b| b.push(0)), &["safetensors has", "as written"]),
    (|c| edit(&c.join("weights.safetensors"), |b| b[20] ^= 1), &[".safetensors", "header"]),
    (|c| fs::remove_file(c.join("anchor.safetensors")).unwrap(), &["anchor.safetensors"]),
    (|c| edit(&c.join("state.json"), |b| b.truncate(100)), &["state.json is not the one that COMPLETE vouches for"]),
    (|c| fs::remove_file(c.join("state.json")).unwrap(), &["state.json cannot be read"]),
    (|c| edit(&c.join("COMPLETE"), Vec::clear), &["COMPLETE"]),
    (|c| rewrite(c, "\"version\": 1", "\"version\": 2"), &["format version 2; this program reads 1"]),
    (|c| rewrite(c, "hbat checkpoint", "another trainer"), &["calls itself `another trainer`"]),
    (|c| rewrite(c, &print(), &fingerprint("")), &["another configuration"]),
];

#[test]
fn damaged_and_foreign_checkpoints_are_refused_with_a_reason() {
    for (damage, parts) in DAMAGE {
        let (_folder, run) = run(&[1, 2]);
        damage(&checkpoints(&run).join("000002-hpa-1-2"));
        let refused = goes_on_from(&run, 1);
        assert_eq!(refused.len(), 1);
        says(&refused[0], parts);
        says(&refused[0], &["000002-hpa-1-2 is not used"]);
        // It is kept for whoever wants to look at it, is not counted, and its number is not used again.
        write(&run, 3);
        assert!(checkpoints(&run).join("000003-hpa-1-3").is_dir());
        run.prune(2, &print()).unwrap();
        assert_eq!(names(&checkpoints(&run)).len(), 3);
        assert!(goes_on_from(&run, 3).is_empty());
    }
}

#[test]
fn a_single_bit_that_changed_is_noticed() {
    for set in ["first_moment", "second_moment"] {
        let (_folder, run) = run(&[1, 2]);
        let file = checkpoints(&run).join(format!("000002-hpa-1-2/{set}.safetensors"));
        edit(&file, |bytes| *bytes.last_mut().unwrap() ^= 1);
        let refused = goes_on_from(&run, 1);
        says(&refused[0], &["000002-hpa-1-2 is not used", set, "its checksum differs"]);
    }
}

#[test]
fn without_a_good_checkpoint_nothing_is_written_over() {
    let (_folder, run) = run(&[1]);
    edit(&checkpoints(&run).join("000001-hpa-1-1/weights.safetensors"), Vec::clear);
    let error = run.latest_complete(&print()).unwrap_err().to_string();
    says(&error, &["no checkpoint in", "000001-hpa-1-1", "Nothing was changed", "--output"]);
}

#[test]
fn old_checkpoints_are_pruned() {
    let (_folder, run) = run(&[1, 2, 3, 4, 5]);
    fs::create_dir(checkpoints(&run).join("notes")).unwrap();
    run.prune(2, &print()).unwrap();
    assert_eq!(names(&checkpoints(&run)), ["000004-hpa-1-4", "000005-hpa-1-5", "notes"]);
    run.prune(0, &print()).unwrap();
    assert_eq!(names(&checkpoints(&run)), ["000005-hpa-1-5", "notes"]);
    assert!(goes_on_from(&run, 5).is_empty());
}

#[test]
fn two_processes_do_not_share_a_directory() {
    let (_folder, run) = run(&[1]);
    let path = run.path().to_path_buf();
    let me = format!("in use by process {}", std::process::id());
    says(&RunDir::open(&path).unwrap_err().to_string(), &[&me, "--output"]);
    says(&RunDir::create(&path, CONFIG).unwrap_err().to_string(), &[&me]);
    drop(run);
    assert!(goes_on_from(&RunDir::open(&path).unwrap(), 1).is_empty());
}

#[test]
fn a_run_starts_in_an_empty_directory_only() {
    let (_folder, run) = run(&[]);
    let path = run.path().to_path_buf();
    drop(run);
    says(&RunDir::create(&path, CONFIG).unwrap_err().to_string(), &["holds a run already", "`hbat resume "]);
    let foreign = tempfile::tempdir().unwrap();
    fs::write(foreign.path().join("thesis.tex"), "").unwrap();
    says(&RunDir::create(foreign.path(), CONFIG).unwrap_err().to_string(), &["is not empty", "`thesis.tex`", "--output"]);
    assert_eq!(names(foreign.path()), ["thesis.tex"]);
    says(&RunDir::open(foreign.path()).unwrap_err().to_string(), &["not the directory of a run", "config.toml"]);
    says(&RunDir::open(&foreign.path().join("none")).unwrap_err().to_string(), &["not the directory of a run"]);
    says(&RunDir::create(&foreign.path().join("thesis.tex/run"), CONFIG).unwrap_err().to_string(), &["cannot be a run's folder"]);
}

#[test]
fn a_start_that_was_killed_can_be_repeated() {
    let folder = tempfile::tempdir().unwrap();
    fs::create_dir(folder.path().join("checkpoints")).unwrap();
    fs::write(folder.path().join(".lock"), "4194304").unwrap();
    fs::write(folder.path().join(".tmp-config.toml"), "[mod").unwrap();
    RunDir::create(folder.path(), CONFIG).unwrap();
    assert_eq!(names(folder.path()), [".lock", "checkpoints", "config.toml"]);
}

#[cfg(target_os = "linux")]
#[test]
fn a_directory_that_cannot_be_written_is_named() {
    let error = RunDir::create(Path::new("/sys/hbat-run"), CONFIG).unwrap_err().to_string();
    says(&error, &["/sys/hbat-run cannot be written", "--output"]);
}

#[cfg(target_os = "linux")]
#[test]
fn a_full_disk_is_named_and_loses_nothing() {
    let (_folder, run) = run(&[1]);
    fs::remove_file(run.path().join("metrics.jsonl")).unwrap();
    std::os::unix::fs::symlink("/dev/full", run.path().join("metrics.jsonl")).unwrap();
    let error = run.metrics().unwrap().append(&json!({"step": 2})).unwrap_err().to_string();
    says(&error, &["no space left", "metrics.jsonl", "`hbat resume`"]);
    assert!(goes_on_from(&run, 1).is_empty());
}

const CHILD: &str = "HBAT_TEST_STORE_CHILD";

/// What a run does, over and over: steps, a checkpoint, pruning. Resumes where it was killed.
fn work(path: &Path) {
    let run = if path.join("config.toml").exists() { RunDir::open(path) } else { RunDir::create(path, CONFIG) }.unwrap();
    let latest = run.latest_complete(&print()).unwrap().checkpoint;
    let mut metrics = run.metrics().unwrap();
    metrics.cut_back_to(latest.as_ref().map_or(0, Checkpoint::metrics_bytes)).unwrap();
    drop(metrics);
    for step in latest.map_or(1, |checkpoint| checkpoint.step() + 1).. {
        write(&run, step);
        run.prune(2, &print()).unwrap();
    }
}

/// Waits until the child has a checkpoint after `before`, and then for a while that differs from round to round.
fn wait(run: &Path, before: u64, round: u32) {
    let deadline = Instant::now() + Duration::from_secs(60);
    let number = |path: PathBuf| {
        let number = path.file_name()?.to_str()?.split('-').next()?.parse::<u64>().ok()?;
        path.join("COMPLETE").exists().then_some(number)
    };
    let newest = || fs::read_dir(run.join("checkpoints")).ok()?.filter_map(|entry| number(entry.ok()?.path())).max();
    while newest().is_none_or(|newest| newest <= before) {
        assert!(Instant::now() < deadline, "the child writes nothing");
        std::thread::sleep(Duration::from_millis(1));
    }
    std::thread::sleep(Duration::from_micros(u64::from(round) * 7_919 % 50_000));
}

#[test]
fn a_kill_at_any_moment_loses_no_complete_checkpoint() {
    if let Some(path) = std::env::var_os(CHILD) {
        return work(Path::new(&path));
    }
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("run");
    let mut step = 0;
    for round in 0..10 {
        let mut child = Command::new(std::env::current_exe().unwrap());
        child.args(["--exact", "store::a_kill_at_any_moment_loses_no_complete_checkpoint"]).env(CHILD, &path);
        let mut child = child.stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
        wait(&path, step, round);
        child.kill().unwrap();
        child.wait().unwrap();

        let run = RunDir::open(&path).unwrap();
        let latest = run.latest_complete(&print()).unwrap();
        let checkpoint = latest.checkpoint.unwrap_or_else(|| panic!("no checkpoint after {step}: {:?}", latest.refused));
        assert!(checkpoint.step() >= step && checkpoint.step() > 0, "{} after {step}", checkpoint.step());
        assert!(latest.refused.iter().all(|refusal| refusal.reason.contains("killed while writing")), "{:?}", latest.refused);
        step = checkpoint.step();
        goes_on_from(&run, step);
        let mut metrics = run.metrics().unwrap();
        assert_eq!(metrics.cut_back_to(checkpoint.metrics_bytes()).unwrap().missing, 0);
        let lines = fs::read_to_string(path.join("metrics.jsonl")).unwrap();
        let expected: String = (1..=step).map(|step| format!("{{\"step\":{step}}}\n")).collect();
        assert_eq!(lines, expected);
    }
}
