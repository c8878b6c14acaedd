//! Runs whose phases go on from the best weights so far.

use std::collections::BTreeMap;

use serde_json::Value;

use crate::cli::{metrics, number, refused, run, same_run, train};
use crate::going_on::checkpoints;

const BEST: [&str; 6] = [
    "methods=[\"hbat\"]",
    "schedule.subsets=3",
    "schedule.continue_from=\"best\"",
    "consolidation.rule=\"relative\"",
    "validation.every=1",
    "dpo.learning_rate=3e-3",
];

type Change = BTreeMap<String, f64>;

fn change(record: &Value, key: &str) -> Option<Change> {
    record.get(key).map(|numbers| serde_json::from_value(numbers.clone()).expect("a number per unit"))
}

fn side(phase: &Value) -> &str {
    phase.as_str().and_then(|phase| phase.split('-').next()).expect("a phase")
}

/// What a run's records say that it went on from, and how far each phase had come up to there.
#[derive(Default)]
struct Told {
    best: Option<[f64; 2]>,
    /// Of the phase under way, at its best step.
    within: Option<Change>,
    /// Of the phase that has ended.
    ended: Option<(String, Change)>,
    /// Summed up by side.
    sums: BTreeMap<String, Change>,
    /// Phases thrown away from their start on, and from a step within on.
    back: [usize; 2],
}

impl Told {
    fn evaluated(&mut self, record: &Value) {
        let found = [number(record, "accuracy"), -number(record, "sft_nll")];
        let better = self.best.is_none_or(|best| found > best);
        if better {
            self.best = Some(found);
        }
        assert_eq!(record.get("C").is_some(), better && self.ended.is_none(), "{record}");
        let Some((side, change)) = self.ended.take() else {
            self.within = change(record, "C").or(self.within.take());
            return;
        };
        let within = self.within.take();
        if !better {
            self.back[usize::from(within.is_some())] += 1;
        }
        let counted = if better { Some(change) } else { within };
        let sums = self.sums.entry(side).or_default();
        for (unit, change) in counted.into_iter().flatten() {
            *sums.entry(unit).or_default() += change;
        }
    }

    fn started(&self, record: &Value) {
        let Some(found) = change(record, "AC") else { return };
        let other = if side(&record["phase"]) == "sft" { "dpo" } else { "sft" };
        for (unit, found) in found {
            let expected = self.sums[other].get(&unit).copied().unwrap_or(0.0);
            assert!((found - expected).abs() <= 1e-9 * expected, "{}, {unit}: {found}, not {expected}", record["phase"]);
        }
    }
}

/// What the weights do not contain counts for nothing: a phase is as long as it is gone on from.
#[test]
fn importances_are_of_changes_that_the_weights_contain() {
    let temporary = tempfile::tempdir().unwrap();
    let output = run(&train("out", &BEST), temporary.path());
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let mut told = Told::default();
    for record in metrics(&temporary.path().join("out")) {
        match record["kind"].as_str() {
            Some("phase-start") => told.started(&record),
            Some("phase-end") => told.ended = Some((side(&record["phase"]).into(), change(&record, "C").expect("changes"))),
            Some("evaluation") if !record["phase"].is_null() => told.evaluated(&record),
            _ => {}
        }
    }
    assert!(told.back.iter().all(|times| *times > 0), "{:?}: nothing was tested", told.back);
}

#[test]
fn a_run_that_goes_on_knows_how_far_its_best_step_had_come() {
    let temporary = tempfile::tempdir().unwrap();
    let folder = temporary.path();
    let settings = [&BEST[..], &["checkpoints.keep=99", "checkpoints.every=2"]].concat();
    for name in ["whole", "cut"] {
        assert!(run(&train(name, &settings), folder).status.success());
    }
    let checkpoints = checkpoints(&folder.join("cut"));
    for later in &checkpoints[checkpoints.len() / 2..] {
        std::fs::remove_dir_all(later).unwrap();
    }
    std::fs::remove_dir_all(folder.join("cut/last")).unwrap();
    assert!(run(&["resume", "-q", "cut"], folder).status.success());
    same_run(&folder.join("cut"), &folder.join("whole"));
}

#[test]
fn fisher_information_is_of_weights_that_are_gone_on_from() {
    let temporary = tempfile::tempdir().unwrap();
    let settings = [&BEST[..], &["consolidation.rule=\"fisher\""]].concat();
    refused(
        &train("out", &settings),
        temporary.path(),
        78,
        &["consolidation.rule = \"fisher\"", "schedule.continue_from = \"last\""],
    );
}
