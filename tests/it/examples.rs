//! The examples run as they say.

use std::process::Command;

use crate::support::hbat;

/// Runs an example of the same build and returns what it prints.
fn output(name: &str) -> String {
    let folder = hbat().parent().expect("a build's folder").join("examples");
    let program = folder.join(format!("{name}{}", std::env::consts::EXE_SUFFIX));
    let output = Command::new(&program).output().unwrap_or_else(|error| {
        panic!("{}: {error}; run `cargo build --release --workspace --examples` first", program.display())
    });
    assert!(output.status.success(), "{name}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).expect("text")
}

/// The numbers that follow a word, in the order in which they are printed.
fn numbers(text: &str, word: &str) -> Vec<f64> {
    let after = text.split(word).skip(1).filter_map(|rest| rest.split_whitespace().next());
    after.filter_map(|number| number.trim_end_matches([',', ';']).parse().ok()).collect()
}

#[test]
fn every_example_trains() {
    for name in ["sft", "dpo", "custom_objective", "hbat_toy"] {
        let text = output(name);
        let losses = numbers(&text, "loss ");
        assert!(losses.len() >= 3 && losses.iter().all(|loss| loss.is_finite()), "{name}: {text}");
        if name != "hbat_toy" {
            assert!(losses.last() < losses.first(), "{name} learns nothing: {text}");
        }
    }
    let text = output("ppo");
    let scores = numbers(&text, "score ");
    assert!(scores.len() >= 8 && scores.last() > scores.first(), "the judge is not pleased: {text}");
}
