//! Input and output that are no ordinary files.

use std::fs;
use std::io::Write;
use std::path::Path;
use std::process::{Command, Output, Stdio};

use crate::cli::{refused, run, train};
use crate::going_on::demonstrations;
use crate::support::hbat;

/// Runs the program with these bytes on its standard input, through a pipe.
fn fed(bytes: &[u8], arguments: &[&str], folder: &Path) -> Output {
    let mut command = Command::new(hbat());
    command.args(arguments).current_dir(folder).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().expect("hbat starts");
    // It may have seen enough before all is written.
    let _ = child.stdin.take().expect("a pipe").write_all(bytes);
    child.wait_with_output().expect("it ends")
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

#[test]
fn a_pipe_is_read_to_its_end_and_not_from_its_beginning_again() {
    let temporary = tempfile::tempdir().unwrap();
    let folder = temporary.path();
    assert!(run(&train("toy", &["methods=[\"sft\"]"]), folder).status.success());
    let examples = demonstrations(400);
    assert!(examples.len() > 16_384);
    fs::write(folder.join("d.jsonl"), &examples).unwrap();
    let eval = |file| ["eval", "-m", "toy/last", "--json", "--demonstrations", file];
    let piped = fed(examples.as_bytes(), &eval("/dev/stdin"), folder);
    assert!(text(&piped.stdout).contains("\"examples\":400"), "{} {}", text(&piped.stdout), text(&piped.stderr));
    assert_eq!(text(&piped.stdout), text(&run(&eval("d.jsonl"), folder).stdout));
    let parquet = fed(b"PAR1 and so on", &["data", "inspect", "-m", "toy/last", "/dev/stdin"], folder);
    assert_eq!(parquet.status.code(), Some(65));
    assert!(text(&parquet.stderr).contains("is Parquet from a pipe"), "{}", text(&parquet.stderr));
}

#[test]
fn prompts_are_told_from_examples_by_what_is_there() {
    let temporary = tempfile::tempdir().unwrap();
    let folder = temporary.path();
    assert!(run(&train("toy", &["methods=[\"sft\"]"]), folder).status.success());
    let generate = |file| ["generate", "-m", "toy/last", "--json", "--max-new-tokens", "1", "--prompts", file];
    let prompts = |output: Output| -> Vec<String> {
        assert!(output.status.success(), "{}", text(&output.stderr));
        let line = |line: &str| serde_json::from_str::<serde_json::Value>(line).unwrap()["prompt"].as_str().unwrap().to_owned();
        text(&output.stdout).lines().map(line).collect()
    };
    let examples = demonstrations(3);
    let expected = ["copy 0 0 =", "copy 1 7 =", "copy 2 4 ="];
    let array = format!("[{}]", examples.trim().replace('\n', ","));
    for (name, content) in [("e.txt", examples.clone()), ("array", array), ("lines.txt", expected.join("\n\n"))] {
        fs::write(folder.join(name), content).unwrap();
        assert_eq!(prompts(run(&generate(name), folder)), expected, "{name}");
    }
    assert_eq!(prompts(fed(examples.as_bytes(), &generate("/dev/stdin"), folder)), expected);
    // The toy has no words for these, which tells that they were taken for prompts.
    for odd in ["{not JSON", "[INST] copy", "[1, 2]", "{}\ncopy"] {
        fs::write(folder.join("odd.txt"), odd).unwrap();
        refused(&generate("odd.txt"), folder, 65, &["odd.txt, line 1"]);
    }
    let forced = [&generate("lines.txt")[..], &["--format", "prompt-completion"]].concat();
    refused(&forced, folder, 65, &["lines.txt: begins with \"copy 0 0 =\""]);
    fs::write(folder.join("c.csv"), "prompt\ncopy 0 0 =\n").unwrap();
    refused(&generate("c.csv"), folder, 65, &["c.csv: is .csv, which is not read"]);
    fs::write(folder.join("blank.txt"), "\n \n").unwrap();
    refused(&generate("blank.txt"), folder, 65, &["holds no prompts"]);
    let one = ["generate", "-m", "toy/last", "-p", "copy 0 0 ="];
    refused(&[&one[..], &["-n", "2"]].concat(), folder, 2, &["--limit", "cannot be used with", "--prompt"]);
    refused(&["generate", "-m", "toy/last", "-p", "- 5"], folder, 65, &["prompt \"- 5\""]);
}

#[cfg(unix)]
#[test]
fn recordings_go_where_links_point_and_replace_no_device() {
    let temporary = tempfile::tempdir().unwrap();
    let folder = temporary.path();
    fs::write(folder.join("target.json"), "old").unwrap();
    std::os::unix::fs::symlink("target.json", folder.join("link.json")).unwrap();
    let small = ["record", "--set", "examples=16", "--set", "lanes=[\"hbat\"]"];
    let output = run(&[&small[..], &["-o", "link.json"]].concat(), folder);
    assert!(output.status.success(), "{}", text(&output.stderr));
    assert!(fs::symlink_metadata(folder.join("link.json")).unwrap().is_symlink());
    let recording = fs::read_to_string(folder.join("target.json")).unwrap();
    assert!(recording.starts_with("[{") && recording.contains("\"kind\":\"finished\""), "{recording:.100}");
    std::os::unix::fs::symlink("new.json", folder.join("ahead.json")).unwrap();
    assert!(run(&[&small[..], &["-o", "ahead.json"]].concat(), folder).status.success());
    assert_eq!(fs::read_to_string(folder.join("new.json")).unwrap(), recording);
    let output = run(&[&small[..], &["-o", "/dev/stdout"]].concat(), folder);
    assert_eq!(text(&output.stdout), recording);
    let twice = [&small[..], &["-o", "link.json", "--ghosts", "./target.json", "--seeds", "1"]].concat();
    refused(&twice, folder, 78, &["--ghosts ./target.json: that is where --output goes"]);
}
