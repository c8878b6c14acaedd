//! RRHF as its users run it: the objective of pairs that needs no reference.

use serde_json::Value;

use crate::cli::{goes_on_after_a_kill, metrics, number, refused, run, train};

const SMALL: [&str; 5] = [
    "methods=[\"hbat\"]",
    "schedule.preference=\"rrhf\"",
    "rrhf.learning_rate=1e-3",
    "rrhf.batch_size=16",
    "checkpoints.every=1",
];

#[test]
fn a_run_ranks_pairs_without_a_reference_and_goes_on_bit_by_bit() {
    let folder = tempfile::tempdir().unwrap();
    let output = run(&train("whole", &SMALL), folder.path());
    let told = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{told}");
    assert!(!told.contains("reference"), "nothing is scored: {told}");
    let records = metrics(&folder.path().join("whole"));
    let steps: Vec<&Value> = records.iter().filter(|record| record["objective"] == "rrhf").collect();
    let phases: Vec<&Value> = records.iter().filter(|record| record["kind"] == "phase-start").map(|r| &r["phase"]).collect();
    assert_eq!(phases, ["sft-1", "rrhf-1", "sft-2", "rrhf-2"]);
    let (first, last) = (steps[0], steps[steps.len() - 1]);
    assert!(number(last, "margin") > number(first, "margin") && number(last, "ranking_loss") < number(first, "ranking_loss"));
    assert!(number(last, "penalty") > 0.0, "the last phase is held: {last}");
    assert!((number(last, "loss") - number(last, "ranking_loss") + number(last, "logps/chosen")).abs() < 1e-4, "{last}");
    let mut accuracies = records.iter().filter(|r| r["kind"] == "evaluation").map(|r| number(r, "accuracy"));
    assert!(accuracies.next_back() > Some(0.8), "the pairs' order is learned");

    goes_on_after_a_kill(&SMALL, folder.path(), (60..2000).step_by(20));
}

#[test]
fn mixed_steps_are_dpos() {
    let folder = tempfile::tempdir().unwrap();
    let mix = train("out", &["methods=[\"mix\"]", "schedule.preference=\"rrhf\""]);
    refused(&mix, folder.path(), 78, &["schedule.preference", "the preference steps of mix are DPO's"]);
    let negative = train("out", &[&SMALL[..], &["rrhf.length_exponent=-1"]].concat());
    refused(&negative, folder.path(), 78, &["rrhf.length_exponent"]);
}
