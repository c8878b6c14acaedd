//! Run files: what they resolve to, and what is refused with which words.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use hbat::engine::Engine;
use hbat::objective::Dpo;
use hbat::schedule::{Method, Order, phases};
use hbat::toy::skill::SkillSettings;
use hbat::trainer::KeepStart;
use hbat_cli::config::{self, ConfigError, Limit, Plan, Request, RunFile, Start, defaults};
use hbat_cli::data::{Format, TemplateChoice, TooLong};
use hbat_cli::recipes;

/// The smallest run file of a real model.
const MINIMAL: &str = "model.path = \"m\"\ndata.demonstrations = [\"d.jsonl\"]\ndata.preferences = [\"p.jsonl\"]\n";

/// A run file in a folder of its own.
struct Written {
    folder: tempfile::TempDir,
    file: PathBuf,
}

fn written(bytes: impl AsRef<[u8]>) -> Written {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let file = folder.path().join("run.toml");
    std::fs::write(&file, bytes).expect("a temporary file");
    Written { folder, file }
}

fn request(file: &Path, set: &[&str]) -> Request {
    Request { file: Some(file.to_owned()), set: set.iter().map(|text| (*text).to_owned()).collect(), ..Request::default() }
}

fn from_text(text: &str, set: &[&str]) -> Result<Plan, ConfigError> {
    config::resolve(&request(&written(text).file, set))
}

fn toy(set: &[&str]) -> Result<Plan, ConfigError> {
    config::resolve(&Request { set: set.iter().map(|text| (*text).to_owned()).collect(), ..Request::default() })
}

#[track_caller]
fn says(error: &ConfigError, parts: &[&str]) {
    let message = error.to_string();
    for part in parts {
        assert!(message.contains(part), "{message:?} does not say {part:?}");
    }
}

/// Refuses MINIMAL with these lines added, at the line after it.
#[track_caller]
fn refused(lines: &str, parts: &[&str]) {
    let text = format!("{MINIMAL}{lines}");
    let error = from_text(&text, &[]).err().unwrap_or_else(|| panic!("{lines:?} was accepted"));
    says(&error, parts);
}

/// Refuses a setting of the toy, and names it.
#[track_caller]
fn set_refused(set: &str, parts: &[&str]) {
    let error = toy(&[set]).err().unwrap_or_else(|| panic!("{set:?} was accepted"));
    says(&error, &[&format!("--set {set}")]);
    says(&error, parts);
}

#[test]
fn without_a_run_file_the_toy_is_trained_both_ways() {
    let plan = toy(&[]).expect("the toy is valid");
    assert_eq!((plan.run.name.as_str(), plan.output.clone()), ("toy", None));
    assert_eq!(plan.start, Start::Toy);
    assert!(plan.run.toy.q_l > plan.run.toy.q_w);
    let methods: Vec<Method> = plan.schedules.iter().map(|schedule| schedule.method).collect();
    assert_eq!(methods, [Method::TwoStage, Method::Hbat]);
    assert_eq!(phases(&plan.schedules[1]).len(), 4);
    assert_eq!(plan.settings.keep_start, KeepStart::Stored);
}

#[test]
fn layers_win_in_their_order() {
    let run = written(format!("seed = 7\noutput = \"out\"\n{MINIMAL}[sft]\nlearning_rate = 2e-4\n"));
    let mut request = request(&run.file, &["sft.learning_rate=3e-4", "sft.epochs = 5", "device=wgpu:1", "sft.epochs=6"]);
    let plan = config::resolve(&request).expect("valid");
    assert_eq!((plan.settings.seed, plan.run.sft.learning_rate, plan.run.sft.epochs), (7, 3e-4, 6));
    assert_eq!(plan.output, Some(run.folder.path().join("out")));
    assert_eq!(plan.device.to_string(), "wgpu:1");
    assert_eq!(plan.run.dpo, RunFile::default().dpo);
    (request.device, request.output) = (Some("cpu".parse().expect("a device")), Some("/elsewhere".into()));
    let plan = config::resolve(&request).expect("valid");
    assert_eq!((plan.device.to_string().as_str(), plan.output), ("cpu", Some(PathBuf::from("/elsewhere"))));
}

#[test]
fn relative_paths_belong_to_the_file_or_to_the_current_folder() {
    let run = written(MINIMAL);
    let plan = config::resolve(&request(&run.file, &["data.preferences=p.jsonl"])).expect("valid");
    assert_eq!(plan.start, Start::Folder(run.folder.path().join("m")));
    assert_eq!(plan.run.data.demonstrations, [run.folder.path().join("d.jsonl")]);
    assert_eq!(plan.run.data.preferences, [std::env::current_dir().expect("a folder").join("p.jsonl")]);
}

#[test]
fn values_after_set_need_no_quotes() {
    let plan =
        toy(&["methods=[hbat, sft]", "engine.kind=segmented", "schedule.preference_probability=0.3", "sft.betas=[0.8,0.9]"]);
    let plan = plan.expect("valid");
    assert_eq!(plan.run.methods, [Method::Hbat, Method::Sft]);
    assert_eq!(plan.settings.engine, Engine::Segmented);
    assert_eq!(plan.schedules[0].preference_probability, Some(0.3));
    assert_eq!(plan.schedules[0].sft.optimizer.betas, (0.8, 0.9));
    assert_eq!(toy(&["methods=sft"]).expect("valid").run.methods, [Method::Sft]);
    assert_eq!(toy(&["sft={ epochs = 9 }"]).expect("valid").run.sft.epochs, 9);
    let model = |set| from_text(MINIMAL, &[set]).expect("valid").run.model.path;
    assert_eq!(model("model.path=/a b#c=d"), Path::new("/a b#c=d"));
    assert!(model("model.path=2024").ends_with("2024"));
}

#[test]
fn sections_become_cores_settings() {
    let set = [
        "sft.warmup_steps=3",
        "sft.warmup_ratio=0.5",
        "sft.max_grad_norm=inf",
        "dpo.beta=0.5",
        "dpo.label_smoothing=0.1",
        "dpo.nll_coefficient=0.2",
    ];
    let plan = toy(&set).expect("valid");
    let sft = plan.schedules[0].sft;
    assert_eq!((sft.warmup.steps, sft.warmup.fraction, sft.optimizer.clip), (3, 0.5, f64::INFINITY));
    assert_eq!(plan.settings.dpo, Dpo { beta: 0.5, label_smoothing: 0.1, nll_coefficient: 0.2 });
    let set = ["data.shuffle=false", "consolidation.rule=fisher", "consolidation.f_max=7"];
    let plan = toy(&set).expect("valid");
    assert_eq!(plan.settings.order, Order::AsGiven);
    assert_eq!(plan.schedules[1].consolidation.f_max, 7.0);
}

#[test]
fn data_is_read_in_the_readers_terms() {
    let set = ["data.limit_preferences=12", "data.preference_format=alpaca-farm", "data.preference_columns={ output_1 = 'a' }"];
    let more = ["validation.preferences=v.json", "validation.limit_preferences=5", "data.too_long=drop", "data.template=plain"];
    let run = from_text(MINIMAL, &[&set[..], &more[..]].concat()).expect("valid").run;
    assert_eq!((run.data.limit_demonstrations, run.data.limit_preferences), (Limit::All, Limit::First(12)));
    assert_eq!((run.data.template, run.data.max_length, run.data.too_long), (TemplateChoice::Plain, 1024, TooLong::Drop));
    assert_eq!(Option::<Format>::from(run.data.demonstration_format), None);
    assert_eq!(Option::from(run.data.preference_format), Some(Format::AlpacaFarm));
    assert_eq!(run.data.preference_columns["output_1"], "a");
    assert_eq!(run.validation.limit_preferences.count(), Some(5));
    assert!(run.validation.demonstrations.is_empty() && run.validation.preferences[0].ends_with("v.json"));
}

#[test]
fn the_toys_defaults_are_cores() {
    let run = from_text("model.path = \"toy\"", &[]).expect("valid").run;
    assert_eq!(run.toy.settings(run.seed), SkillSettings::default());
    assert_eq!(run.toy.settings(5).seed, 5);
}

#[test]
fn one_method_of_several_is_a_run_of_its_own() {
    let plan = toy(&[]).expect("valid");
    let only = plan.only(Method::Hbat);
    assert_eq!(only.schedules, plan.schedules[1..]);
    assert_eq!(only.fingerprint(), toy(&["methods=hbat"]).expect("valid").fingerprint());
    assert_ne!(only.fingerprint(), plan.fingerprint());
}

#[test]
fn a_run_goes_on_from_the_configuration_it_saved() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let plan = toy(&["sft.epochs=7"]).expect("valid");
    let file = folder.path().join("config.toml");
    std::fs::write(&file, plan.to_toml()).expect("a file");
    let again = config::resume(&file, folder.path(), Some("wgpu".parse().expect("a device"))).expect("valid");
    assert_eq!((again.run.sft.epochs, again.device.to_string().as_str()), (7, "wgpu:0"));
    assert_eq!((again.fingerprint(), again.output), (plan.fingerprint(), Some(folder.path().to_owned())));
}

#[test]
fn the_resolved_run_file_is_complete_explained_and_read_back_equal() {
    let columns = "data.demonstration_columns={ prompt = 'the \"question\"', completion = 'a' }";
    let set = [columns, "sft.learning_rate=1.2345678901234566e-7", "sft.max_grad_norm=inf", "seed=9007199254740993"];
    let plan = from_text(MINIMAL, &set).expect("valid");
    let text = plan.to_toml();
    let again = from_text(&text, &[]).unwrap_or_else(|error| panic!("{error}\n{text}"));
    assert_eq!(again.run, plan.run);
    assert_eq!(again.fingerprint(), plan.fingerprint());
    assert_eq!(defaults::keys(&text), defaults::keys(defaults::TEXT));
    assert!(text.contains("# Peak learning rate.\nlearning_rate = 1.2345678901234566e-7\n"), "{text}");
}

#[test]
fn the_fingerprint_holds_what_must_not_change_on_resuming() {
    let of = |set: &[&str]| from_text(MINIMAL, set).expect("valid").fingerprint();
    let base = of(&[]);
    assert_eq!(base.len(), 64);
    for same in [
        "device=cuda",
        "output=x",
        "checkpoints.every=5",
        "engine.micro_batch=1",
        "engine.weights=bf16-split",
        "engine.moments=bf16",
        "sft.learning_rate=2e-5",
        "dpo.max_grad_norm=0.5",
        "dpo.beta=0.3",
        "consolidation.f_max=3",
        "model.path=/moved/m",
    ] {
        assert_eq!(of(&[same]), base, "{same}");
    }
    for other in [
        "seed=1",
        "sft.epochs=9",
        "dpo.batch_size=9",
        "data.max_length=7",
        "methods=hbat",
        "model.path=other",
        "data.preferences=x",
    ] {
        assert_ne!(of(&[other]), base, "{other}");
    }
}

#[test]
fn settings_of_the_engine_that_cannot_be_had_together_are_refused() {
    let refused = |set: &[&str], parts: &[&str]| {
        let error = toy(set).err().unwrap_or_else(|| panic!("{set:?} was accepted"));
        says(&error, parts);
    };
    for narrow in ["engine.weights=bf16-split", "engine.moments=bf16"] {
        let offloaded = ["device=cuda", "engine.offload=optimizer", narrow];
        refused(&offloaded, &["engine.offload", "the host keeps weights and moments in f32", "bf16-master"]);
    }
    toy(&["device=cuda", "engine.offload=optimizer", "engine.weights=bf16-master"]).expect("f32 masters are on the host");
    for objective in ["sft", "dpo"] {
        let slow = format!("{objective}.betas=[0.9, 0.999]");
        let key = format!("{objective}.betas");
        refused(&["engine.moments=bf16", &slow], &[&key, "stands still above 0.99", "\"f32\""]);
        toy(&[&slow]).expect("f32 follows any step");
    }
    let within = ["engine.update=in-backward", "engine.micro_batch=16", "sft.batch_size=16", "dpo.batch_size=9"];
    refused(&within, &["dpo.batch_size", "one forward pass", "engine.micro_batch to 18", "after-backward"]);
    toy(&["engine.update=in-backward", "engine.micro_batch=16", "sft.batch_size=16", "dpo.batch_size=8"]).expect("one pass");
    refused(&["engine.weights=bf16"], &["engine.weights", "bf16-split", "rounds most updates away"]);
}

/// What the device's name tells is refused before anything is opened, by `plan` too.
#[test]
fn settings_that_a_device_cannot_have_are_refused() {
    for (set, parts) in [
        (["device=wgpu", "engine.products=tf32"], ["engine.products", "wgpu:0 does not round factors"]),
        (["device=wgpu", "engine.matmul=cublas"], ["engine.matmul", "wgpu:0 is no card of NVIDIA's"]),
        (["device=cpu", "engine.kernels=hbat"], ["engine.kernels", "cpu is none"]),
        (["device=cpu", "engine.offload=anchor"], ["engine.offload", "no memory but the host's"]),
    ] {
        says(&toy(&set).expect_err("the device has none"), &parts);
    }
    toy(&["device=cuda", "engine.matmul=cublas", "engine.offload=anchor", "engine.kernels=hbat"]).expect("a card has all");
}

#[test]
fn unknown_keys_are_refused_with_line_and_nearest() {
    refused(
        "[sft]\nlearning_rte = 1e-5\n",
        &["run.toml, line 5: unknown key `sft.learning_rte`; did you mean `sft.learning_rate`?"],
    );
    refused("[stf]\nepochs = 1\n", &["run.toml, line 4: unknown key `stf`; did you mean `sft`?"]);
    refused("[dpo]\nnum_train_epochs = 1\n", &["unknown key `dpo.num_train_epochs`; did you mean `dpo.epochs`?"]);
    refused("data.x = 1\n", &["line 4: unknown key `data.x`; [data] has demonstrations, preferences,"]);
    refused(
        "[engine]\nthreads = 1\n",
        &[
            "unknown key `engine.threads`; [engine] has kind, micro_batch, bucket, pack, weights, products, matmul, kernels, moments, sums, \
             offload, layer_inputs, update",
        ],
    );
    set_refused("sft.lr=1e-5", &["unknown key `sft.lr`; did you mean `sft.learning_rate`?"]);
    set_refused("sft.epochs.x=1", &["sft.epochs = { x = 1 }: expected a whole number, 0 or more"]);
}

#[test]
fn wrong_types_are_refused_with_what_is_expected() {
    refused("[sft]\nlearning_rate = \"1e-5\"\n", &["run.toml, line 5: sft.learning_rate = \"1e-5\": expected a number"]);
    refused("[sft]\nepochs = 1.5\n", &["line 5: sft.epochs = 1.5: expected a whole number, 0 or more"]);
    refused("[sft]\nepochs = -1\n", &["sft.epochs = -1: expected a whole number, 0 or more"]);
    refused("[sft]\ndecay = \"cosin\"\n", &["expected one of \"cosine\", \"linear\", \"constant\"; did you mean \"cosine\"?"]);
    refused("[sft]\ndecay = 3\n", &["sft.decay = 3: expected one of \"cosine\""]);
    refused("[sft]\nbetas = [0.9]\n", &["sft.betas = [0.9]: expected two numbers, such as [0.9, 0.95]"]);
    refused("[sft]\nbetas = 0.9\n", &["sft.betas = 0.9: expected two numbers"]);
    refused("[sft]\nbetas = [0.9, 0.9, 0.9]\n", &["sft.betas = [0.9, 0.9, 0.9]: expected two numbers"]);
    refused("[consolidation]\nrule = \"papers\"\n", &["\"paper\", \"reference\"", "did you mean \"paper\"?"]);
    refused("[validation]\ndemonstrations = 3\n", &["validation.demonstrations = 3: expected a list of files"]);
    refused("[validation]\ndemonstrations = [3]\n", &["expected a list of files"]);
    refused("[validation]\nlimit_preferences = \"none\"\n", &["expected \"all\" or a whole number"]);
    refused("[schedule]\npreference_probability = \"half\"\n", &["expected \"auto\" or a number between 0 and 1"]);
    refused("sft = 3\n", &["line 4: `sft` is a section", "write [sft]"]);
    refused("[[sft]]\nepochs = 3\n", &["line 4: `sft` is a section"]);
    set_refused("methods=[habt]", &["expected a list of \"sft\", \"preference-only\"", "did you mean \"hbat\"?"]);
    set_refused("methods=[1]", &["methods = [1]: expected a list of \"sft\""]);
    set_refused("toy.digits=3", &["toy.digits = 3: expected two whole numbers, such as [3, 6]"]);
    set_refused("data.preference_format=alpaca_farm", &["expected one of \"auto\"", "did you mean \"alpaca-farm\"?"]);
    set_refused("data.shuffle=no", &["data.shuffle = \"no\": expected true or false"]);
    set_refused("seed=18446744073709551616", &["18446744073709551616"]);
    set_refused("data.demonstration_columns=x", &["expected a table of names, such as { prompt = \"question\" }"]);
}

#[test]
fn numbers_out_of_range_are_refused_by_name() {
    let cases = [
        ("sft.learning_rate=0", "must be greater than 0 and finite; the default is for models of 7 billion parameters"),
        ("dpo.learning_rate=-1e-6", "must be greater than 0"),
        ("sft.learning_rate=nan", "must be greater than 0"),
        ("sft.learning_rate=inf", "must be greater than 0 and finite"),
        ("sft.batch_size=0", "must be 1 or more"),
        ("dpo.epochs=0", "must be between 1 and 10000"),
        ("sft.warmup_ratio=1.1", "must be between 0 and 1"),
        ("sft.betas=[0.9,1.0]", "each number must be at least 0 and less than 1"),
        ("sft.eps=0", "must be between 1e-30 and 1"),
        ("sft.weight_decay=-0.1", "must be 0 or more"),
        ("dpo.max_grad_norm=0", "must be greater than 0, or inf"),
        ("dpo.beta=0", "must be greater than 0"),
        ("dpo.nll_coefficient=-1", "must be between 0 and 1e30"),
        ("dpo.beta=1e300", "must be greater than 0 and at most 1e30"),
        ("dpo.label_smoothing=0.5", "must be at least 0 and less than 0.5"),
        ("schedule.subsets=0", "must be 1 or more"),
        ("schedule.freeze_fraction=1", "must be at least 0 and less than 1"),
        ("schedule.preference_probability=nan", "must be between 0 and 1"),
        ("consolidation.lambda=-1", "must be between 0 and 1e30"),
        ("consolidation.f_max=-1", "must be between 0 and 1e30"),
        ("engine.micro_batch=0", "must be 1 or more"),
        ("engine.bucket=0", "must be between 1 and 65536"),
        ("data.max_length=1", "must be 2 or more"),
        ("data.limit_demonstrations=0", "must be 1 or more"),
        ("checkpoints.keep=0", "must be 1 or more"),
        ("sft.epochs=9000000000000000000", "between 1 and 10000"),
        ("toy.q_w=1.5", "must be between 0 and 1"),
    ];
    for (set, part) in cases {
        let key = set.split_once('=').expect("KEY=VALUE").0;
        set_refused(set, &[&format!("{key} = "), part]);
    }
}

#[test]
fn settings_that_contradict_each_other_are_refused() {
    set_refused("methods=[]", &["there is nothing to train"]);
    set_refused("methods=[hbat,sft,hbat]", &["\"hbat\" stands there twice"]);
    set_refused("device=gpu", &["device = \"gpu\"", "did you mean \"wgpu\"?"]);
    set_refused("data.demonstrations=x.jsonl", &["model.path is \"toy\"", "generated data only"]);
    set_refused("toy.preferences=1", &["schedule.subsets = 2", "lower schedule.subsets"]);
    set_refused("engine.sums=bf16", &["engine.sums = \"bf16\"", "would be rounded for nothing"]);
    let inputs = from_text(MINIMAL, &["engine.kind=whole", "engine.layer_inputs=host"]).expect_err("which are all it keeps");
    says(&inputs, &["engine.layer_inputs = \"host\"", "engine.kind \"segmented\""]);
    let rounded = from_text(MINIMAL, &["engine.weights=bf16-split", "engine.products=tf32"]).expect_err("which are bf16's");
    says(&rounded, &["engine.products = \"tf32\"", "weights \"f32\""]);
    let library = from_text(MINIMAL, &["engine.kind=autodiff", "engine.matmul=cublas"]).expect_err("without gradients");
    says(&library, &["engine.matmul = \"cublas\"", "engine.kind \"segmented\""]);
    set_refused("toy.digits=[4,3]", &["the fewest digits are more than the most"]);
    let limited = from_text(MINIMAL, &["data.limit_demonstrations=3", "schedule.subsets=4", "methods=hbat"]).err();
    says(&limited.expect("3 into 4"), &["data.limit_demonstrations = 3", "schedule.subsets = 4"]);
    let best = from_text(MINIMAL, &["schedule.continue_from=best"]).expect_err("no validation");
    says(&best, &["schedule.continue_from = \"best\"", "name files in [validation]"]);
    let format = from_text(MINIMAL, &["data.demonstration_format=alpaca-farm"]).expect_err("of preferences");
    says(&format, &["this is a format of preferences", "set data.preference_format"]);
    let empty = from_text(MINIMAL, &["data.preferences=['']"]).expect_err("no path");
    says(&empty, &["an empty path names no file"]);
}

#[test]
fn what_has_no_default_must_be_set() {
    let unset = |text| from_text(text, &[]).expect_err("incomplete").to_string();
    assert!(unset("").contains("run.toml: model.path is not set; name a folder in Hugging Face layout, or \"toy\""));
    assert!(unset("model.path = \"\"").contains("model.path is not set"));
    assert!(unset("model.path = \"m\"").contains("data.demonstrations is not set"));
    assert!(unset("model.path = \"m\"\ndata.demonstrations = \"d\"").contains("data.preferences is not set"));
    let sft = "methods = \"sft\"\nmodel.path = \"m\"\ndata.demonstrations = \"d\"";
    assert!(from_text(sft, &[]).is_ok());
}

#[test]
fn files_that_are_no_run_files_are_refused() {
    let of = |bytes: &[u8]| config::resolve(&request(&written(bytes).file, &[])).expect_err("no run file");
    says(&of(b"seed = 1\nseed = 2\n"), &["run.toml, line 2: is no valid TOML: duplicate key", "`seed = 2`"]);
    says(&of(b"seed = 1\n[sft\nepochs = 1\n"), &["run.toml, line 2: is no valid TOML", "`[sft`"]);
    says(&of(b"seed = 1e\n"), &["run.toml, line 1", "`seed = 1e`"]);
    says(&of(b"seed = 99999999999999999999\n"), &["run.toml, line 1", "99999999999999999999"]);
    says(&of(b"seed = 1\n# \xff\n"), &["run.toml, line 2: is not UTF-8"]);
    says(&of(b"\x00\x01\x02"), &["run.toml, line 1: is no valid TOML"]);
    says(&of(b"PAR1\x15\x04"), &["run.toml, line 1: is no valid TOML"]);
    let folder = tempfile::tempdir().expect("a temporary folder");
    says(&config::resolve(&request(folder.path(), &[])).expect_err("a folder"), &["it is a folder", "hbat recipes cat toy"]);
    let missing = config::resolve(&request(&folder.path().join("x.toml"), &[])).expect_err("nothing there");
    says(&missing, &["x.toml: there is no such run file", "hbat recipes ls"]);
    let name = config::resolve(&request(Path::new("smollm2"), &[])).expect_err("a recipe");
    says(&name, &["it is the name of a recipe: `hbat recipes cp smollm2 smollm2.toml`"]);
}

#[test]
fn a_run_file_may_begin_with_a_byte_order_mark_and_have_windows_lines() {
    let text = format!("\u{feff}{}", MINIMAL.replace('\n', "\r\n"));
    assert!(from_text(&text, &[]).is_ok());
    let error = from_text(&format!("{text}[sft]\r\nepoch = 1\r\n"), &[]).expect_err("unknown");
    says(&error, &["line 5: unknown key `sft.epoch`; did you mean `sft.epochs`?"]);
}

#[test]
fn assignments_are_refused_when_incomplete() {
    set_refused("name=\"a/b\"", &["name = \"a/b\"", "no folder can be called so"]);
    set_refused(&format!("name={}", "x".repeat(201)), &["no folder can be called so", "up to 200"]);
    set_refused("run_name=x", &["did you mean `name`?"]);
    set_refused("seed", &["there is no =", "write --set KEY=VALUE"]);
    set_refused("=1", &["there is no key before the ="]);
    set_refused("seed=", &["there is no value after the ="]);
    set_refused("a b=1", &["the key is no dotted path of names"]);
}

#[test]
fn paths_that_are_not_there_are_named_with_their_line() {
    let run = written(MINIMAL);
    let check = || config::resolve(&request(&run.file, &[])).expect("valid").check_paths();
    says(&check().expect_err("no model"), &["run.toml, line 1: model.path", "there is no such folder"]);
    std::fs::create_dir(run.folder.path().join("m")).expect("a folder");
    says(&check().expect_err("no data"), &["run.toml, line 2: data.demonstrations", "d.jsonl\" does not exist"]);
    std::fs::write(run.folder.path().join("d.jsonl"), "").expect("a file");
    std::fs::create_dir(run.folder.path().join("p.jsonl")).expect("a folder");
    says(&check().expect_err("a folder"), &["run.toml, line 3: data.preferences", "p.jsonl\" is no file"]);
    assert!(toy(&[]).expect("valid").check_paths().is_ok());
}

#[test]
fn every_recipe_is_valid_and_shows_every_setting() {
    let all: BTreeSet<String> = defaults::keys(defaults::TEXT).into_iter().collect();
    for recipe in recipes::list() {
        let plan = config::resolve_recipe(*recipe).unwrap_or_else(|error| panic!("{error}"));
        let complete = recipe.complete();
        assert_eq!(from_text(&complete, &[]).map(|plan| plan.settings).ok(), Some(plan.settings), "{}", recipe.name);
        let uncommented: String = complete.lines().map(|line| uncomment(line, &all) + "\n").collect();
        assert_eq!(defaults::keys(&uncommented).into_iter().collect::<BTreeSet<_>>(), all, "{uncommented}");
        let table: toml::Table = uncommented.parse().unwrap_or_else(|error| panic!("{}: {error}\n{uncommented}", recipe.name));
        let run: RunFile = table.try_into().expect("complete");
        assert_eq!(run.sft, plan.run.sft);
        assert_eq!(run.checkpoints, plan.run.checkpoints);
    }
}

/// The line without its `# ` if that makes it a header or a setting.
fn uncomment(line: &str, all: &BTreeSet<String>) -> String {
    let known = |key: &str| all.iter().any(|path| path.rsplit('.').next() == Some(key));
    let bare = line.strip_prefix("# ").filter(|bare| match defaults::lines(bare).next() {
        Some(defaults::Line::Section(_)) => true,
        Some(defaults::Line::Setting(key, _)) => known(key),
        _ => false,
    });
    bare.unwrap_or(line).to_owned()
}

#[test]
fn recipes_are_copied_but_never_over_something() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let file = recipes::copy("dialogue", folder.path()).expect("a copy");
    assert_eq!(file, folder.path().join("dialogue.toml"));
    let copied = std::fs::read_to_string(&file).expect("a file");
    assert_eq!(copied, recipes::get("dialogue").expect("a recipe").complete());
    let again = recipes::copy("dialogue", &file).expect_err("it exists").to_string();
    assert!(again.contains("exists already"), "{again}");
    let nowhere = recipes::copy("toy", &folder.path().join("no/such/x.toml")).expect_err("no folder").to_string();
    assert!(nowhere.contains("cannot be written"), "{nowhere}");
    let unknown = recipes::get("dialog").expect_err("misspelt").to_string();
    assert!(unknown.contains("there is no recipe \"dialog\"; did you mean \"dialogue\"?; there are toy, smollm2"), "{unknown}");
}

#[test]
fn the_papers_recipes_have_the_papers_settings() {
    let plan = |name| config::resolve_recipe(recipes::get(name).expect("a recipe")).expect("valid").run;
    let (dialogue, summarisation) = (plan("dialogue"), plan("summarisation"));
    for run in [&dialogue, &summarisation] {
        assert_eq!((run.sft.learning_rate, run.sft.batch_size, run.sft.epochs), (1e-5, 64, 3));
        let dpo = run.dpo.training;
        assert_eq!((dpo.learning_rate, dpo.batch_size, dpo.epochs), (1e-6, 64, 2));
        assert_eq!((dpo.warmup_steps, dpo.warmup_ratio, run.data.max_length), (150, 0.1, 1024));
        assert_eq!(run.consolidation.lambda, 1.0);
    }
    assert_eq!((dialogue.schedule.subsets, dialogue.consolidation.f_max, dialogue.dpo.beta), (2, 100.0, 0.1));
    assert_eq!((summarisation.schedule.subsets, summarisation.consolidation.f_max, summarisation.dpo.beta), (10, 50.0, 0.5));
}
