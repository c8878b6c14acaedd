//! Rules about the code itself, so that nobody has to remember them.

use std::collections::BTreeMap;
use std::path::Path;
use std::process::Command;

use crate::support;

/// Source files that may be longer than 500 lines: the path and the reason.
const LONG: [(&str, &str); 0] = [];

/// What each crate may depend on within the workspace. Data and dependencies point one way.
const DEPENDENCIES: [(&str, &[&str]); 6] = [
    ("core", &[]),
    ("backends", &["hbat"]),
    ("cli", &["hbat", "hbat-backends"]),
    ("wasm", &["hbat"]),
    ("examples", &["hbat", "hbat-backends"]),
    ("tests", &["hbat", "hbat-backends", "hbat-cli"]),
];

/// The system that core must not touch: it runs in browsers, and its caller owns files, clocks, threads and terminals.
const OUTSIDE: [&str; 11] = [
    "std::fs",
    "std::time",
    "std::thread",
    "std::env",
    "std::io",
    "std::net",
    "std::process",
    "println!",
    "eprintln!",
    "print!",
    "Device::default()",
];

/// Tracked files as paths from the root, and their text where they are text.
fn tracked() -> Vec<(String, Option<String>)> {
    let listed = Command::new("git").args(["ls-files", "-z"]).current_dir(support::root()).output();
    let listed = listed.expect("git lists the tracked files");
    assert!(listed.status.success(), "these rules need a git checkout: {}", String::from_utf8_lossy(&listed.stderr));
    let paths = String::from_utf8(listed.stdout).expect("tracked paths are UTF-8");
    let present = paths.split('\0').filter(|path| !path.is_empty() && support::root().join(path).is_file());
    present.map(|path| (path.to_string(), std::fs::read_to_string(support::root().join(path)).ok())).collect()
}

/// Tracked texts whose path ends so.
fn texts(end: &str) -> Vec<(String, String)> {
    let texts = tracked().into_iter().filter_map(|(path, text)| Some((path, text?)));
    texts.filter(|(path, _)| path.ends_with(end)).collect()
}

/// Fails with one line per finding.
#[track_caller]
fn none(findings: impl IntoIterator<Item = String>) {
    let findings: Vec<String> = findings.into_iter().collect();
    assert!(findings.is_empty(), "\n{}", findings.join("\n"));
}

/// `path:line: word` for each line of the text, comments aside, that contains one of the words.
fn lines_with(path: &str, text: &str, words: &[String]) -> Vec<String> {
    let mut found = Vec::new();
    for (number, line) in text.lines().enumerate() {
        let code = line.split("//").next().unwrap_or(line);
        let words = words.iter().filter(|word| code.contains(word.as_str()));
        found.extend(words.map(|word| format!("{path}:{}: {word}", number + 1)));
    }
    found
}

/// The text before a file's own tests.
fn without_tests(text: &str) -> &str {
    text.split("#[cfg(test)]\nmod ").next().unwrap_or(text)
}

#[test]
fn core_touches_nothing_outside_itself() {
    let words = OUTSIDE.map(String::from);
    let core = || texts(".rs").into_iter().filter(|(path, _)| path.starts_with("core/src/"));
    none(core().flat_map(|(path, text)| lines_with(&path, without_tests(&text), &words)));
    let with_threads = ["optimizer", "host", "generate"].map(|folder| format!("core/src/{folder}/"));
    let without =
        core().filter(|(path, _)| !path.ends_with("/tests.rs") && !with_threads.iter().any(|folder| path.starts_with(folder)));
    none(without.flat_map(|(path, text)| lines_with(&path, without_tests(&text), &["rayon".to_owned()])));
}

#[test]
fn nothing_is_left_unfinished() {
    // In two parts, so that this file does not find itself.
    let words = ["to do!", "unimple mented!", "#[ig nore", "FIX ME", "dbg !("].map(|word| word.replacen(' ', "", 1));
    none(texts(".rs").iter().flat_map(|(path, text)| lines_with(path, text, &words)));
}

#[test]
fn tracked_files_are_small() {
    let size = |path: &str| std::fs::metadata(support::root().join(path)).map_or(0, |data| data.len());
    let large = tracked().into_iter().map(|(path, _)| (size(&path), path)).filter(|(size, _)| *size > 1 << 20);
    none(large.map(|(size, path)| format!("{path}: {size} bytes, more than 1 MiB")));
}

#[test]
fn source_files_are_short() {
    let long = texts(".rs").into_iter().filter(|(_, text)| text.lines().count() > 500);
    let unlisted = long.filter(|(path, _)| !LONG.iter().any(|(listed, _)| path == listed));
    none(unlisted.map(|(path, text)| format!("{path}: {} lines, more than 500", text.lines().count())));
}

#[test]
fn lines_are_short() {
    let long = |(path, text): (String, String)| {
        let long = text.lines().enumerate().filter(|(_, line)| line.chars().count() > 160);
        let lines: Vec<String> = long.map(|(index, _)| (index + 1).to_string()).collect();
        (!lines.is_empty()).then(|| format!("{path}: lines longer than 160: {}", lines.join(", ")))
    };
    none(texts(".rs").into_iter().filter_map(long));
}

#[test]
fn nothing_private_is_in_the_tree() {
    let words = ["/wo rk/", "artifac tory", "/ro ot/", "HF_TO KEN="].map(|word| word.replacen(' ', "", 1));
    let found = |(path, text): (String, Option<String>)| {
        let text = text.unwrap_or_default();
        words.iter().filter(|word| text.contains(word.as_str())).map(|word| format!("{path}: {word}")).collect::<Vec<_>>()
    };
    none(tracked().into_iter().flat_map(found));
}

fn manifest(folder: &str) -> toml::Table {
    let path = support::root().join(folder).join("Cargo.toml");
    let text = std::fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    text.parse().unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

/// Names and requirements of a manifest's dependencies, those for tests and for single platforms included.
fn dependencies(manifest: &toml::Table) -> BTreeMap<String, toml::Value> {
    let platforms = manifest.get("target").and_then(|target| target.as_table()).into_iter().flatten();
    let tables = platforms.filter_map(|(_, platform)| platform.as_table()).chain([manifest]);
    let sections = ["dependencies", "dev-dependencies", "build-dependencies"];
    let named = tables.flat_map(|table| sections.iter().filter_map(|section| table.get(*section)?.as_table()));
    named.flatten().map(|(name, value)| (name.clone(), value.clone())).collect()
}

#[test]
fn crates_depend_one_way() {
    let members = manifest("")["workspace"]["members"].as_array().expect("a list of members").len();
    assert_eq!(members, DEPENDENCIES.len(), "every member has its line in DEPENDENCIES");
    none(DEPENDENCIES.iter().flat_map(|(folder, allowed)| {
        let names = dependencies(&manifest(folder)).into_keys();
        let ours = names.filter(|name| name == "hbat" || name.starts_with("hbat-"));
        ours.filter(|name| !allowed.contains(&name.as_str())).map(move |name| format!("{folder}/Cargo.toml: {name}"))
    }));
}

#[test]
fn versions_stand_in_one_place_and_burn_is_exact() {
    let workspace = manifest("")["workspace"]["dependencies"].as_table().expect("a table").clone();
    let version = |value: &toml::Value| value.get("version").or(Some(value)).and_then(|v| v.as_str()).unwrap_or("").to_string();
    let burn = workspace.iter().filter(|(name, value)| name.starts_with("burn") && !version(value).starts_with('='));
    none(burn.map(|(name, value)| format!("Cargo.toml: {name} = {value}: pin it with `=`")));
    none(DEPENDENCIES.iter().flat_map(|(folder, _)| {
        let own = dependencies(&manifest(folder)).into_iter().filter(|(_, value)| value.get("workspace").is_none());
        own.map(move |(name, _)| format!("{folder}/Cargo.toml: {name}: take it from the workspace"))
    }));
}

#[test]
fn core_chooses_no_backend() {
    let mut burn = vec![manifest("")["workspace"]["dependencies"]["burn"].clone()];
    // Its own tests run on a device like any program, so dev-dependencies may choose one.
    burn.extend(manifest("core")["dependencies"].get("burn").cloned());
    let features = burn.iter().filter_map(|value| value.get("features")?.as_array()).flatten().filter_map(|value| value.as_str());
    none(features.filter(|name| !["std", "autodiff"].contains(name)).map(|name| format!("burn/{name} is not core's to choose")));
}

/// The lines of a Markdown text's shell blocks, continuation lines joined and prompts removed.
fn commands(text: &str) -> Vec<String> {
    let mut shell = false;
    let mut commands = Vec::new();
    for line in text.replace("\\\n", " ").lines() {
        match (line.trim().strip_prefix("```"), shell) {
            (Some(language), false) => shell = ["sh", "bash", "console"].contains(&language.trim()),
            (Some(_), true) => shell = false,
            (None, true) => commands.push(line.trim().trim_start_matches("$ ").to_string()),
            (None, false) => (),
        }
    }
    commands
}

/// What a documented command names that does not exist.
fn missing(command: &str, help: &str) -> Option<String> {
    let words: Vec<&str> = command.split_whitespace().take_while(|word| !word.starts_with('#')).collect();
    let subcommand = |word: &&str| help.lines().any(|line| line.split_whitespace().next() == Some(*word));
    let unknown = |word: &&&str| !word.starts_with('-') && !subcommand(word);
    match words.as_slice() {
        ["cargo", "run", rest @ ..] => {
            if let Some(at) = rest.iter().position(|word| *word == "--example") {
                let example = rest.get(at + 1)?;
                let file = support::root().join("examples/examples").join(example).with_extension("rs");
                return (!file.is_file()).then(|| format!("no example {example}"));
            }
            if let Some(at) = rest.iter().position(|word| *word == "--bin") {
                let bench = rest.get(at + 1)?.strip_prefix("bench_")?;
                let file = support::root().join("tests/bench").join(bench).with_extension("rs");
                return (!file.is_file()).then(|| format!("no benchmark {bench}"));
            }
            let at = rest.iter().position(|word| *word == "--")?;
            rest.get(at + 1).filter(unknown).map(|word| format!("hbat has no command {word}"))
        }
        ["hbat" | "target/release/hbat" | "./target/release/hbat", rest @ ..] => {
            rest.first().filter(unknown).map(|word| format!("hbat has no command {word}"))
        }
        [program, ..] if program.contains('/') && !program.contains("://") => {
            let known = support::root().join(program).is_file();
            (!known).then(|| format!("no file {program}"))
        }
        _ => None,
    }
}

#[test]
fn documented_commands_exist() {
    let help = Command::new(support::hbat()).arg("--help").output().expect("hbat runs");
    let help = String::from_utf8_lossy(&help.stdout).into_owned();
    let documents = texts(".md");
    assert!(documents.iter().any(|(path, _)| path == "README.md"), "README.md is missing");
    none(documents.iter().flat_map(|(path, text)| {
        let commands = commands(text).into_iter();
        let wrong = commands.filter_map(|command| Some(format!("{path}: `{command}`: {}", missing(&command, &help)?)));
        wrong.collect::<Vec<_>>()
    }));
}

#[test]
fn documented_links_lead_somewhere() {
    let broken = |(path, text): (String, String)| {
        let folder = support::root().join(&path).parent().map(Path::to_path_buf).unwrap_or_default();
        let targets = text.split("](").skip(1).filter_map(|rest| rest.split([')', '#']).next()).map(String::from);
        let local = targets.filter(|target| !target.is_empty() && !target.contains(':'));
        let gone: Vec<String> = local.filter(|target| !folder.join(target).exists()).collect();
        gone.into_iter().map(|target| format!("{path}: {target} does not exist")).collect::<Vec<_>>()
    };
    none(texts(".md").into_iter().flat_map(broken));
}

#[test]
fn the_rules_find_what_they_look_for() {
    let words = ["std::fs".to_string()];
    assert_eq!(lines_with("a.rs", "use std::fs;\n// std::fs\nlet x = 1; // std::fs", &words), ["a.rs:1: std::fs"]);
    assert_eq!(without_tests("a\n#[cfg(test)]\nmod tests { b }"), "a\n");
    assert_eq!(commands("```sh\n$ hbat a \\\n  b\n```\nhbat c\n```rust\nhbat d\n```"), ["hbat a    b"]);
    let help = "Commands:\n  train  Train\n";
    assert_eq!(missing("cargo run --release -- train x.toml", help), None);
    assert_eq!(missing("hbat fly", help).as_deref(), Some("hbat has no command fly"));
    assert_eq!(missing("./tests/absent", help).as_deref(), Some("no file ./tests/absent"));
}
