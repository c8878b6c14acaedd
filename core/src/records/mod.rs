//! The records of `metrics.jsonl`: one JSON object per line, told apart by `kind`.
//!
//! Numbers are written so that they read back bit by bit. NaN and infinities, which JSON lacks, are null.

mod moment;

pub use moment::Moment;

use serde_json::{Map, Value, json};

use crate::consolidation::Rule;
use crate::trainer::{PhaseEnded, PhaseStarted, StepReport};

/// What one step cost, as far as somebody measured it.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct StepCost {
    /// How long it took.
    pub seconds: f64,
    /// How long transfers between the device and the host's memory took, whether computation went on meanwhile or not.
    pub transfer_seconds: f64,
    /// How long checkpoints kept training waiting before it.
    pub saving_seconds: f64,
    /// Model-FLOPs utilisation: 6 operations per weight and token, what is recomputed not counted, as a part of what the device's
    /// maker promises. `None` where that is not known.
    pub utilisation: Option<f64>,
    /// Bytes of memory after the step, and the most so far; `None` where the device does not say.
    pub memory: Option<[u64; 2]>,
}

/// A `step` record: one optimizer step and what it cost, the `global_step`-th of the run (from 1).
///
/// `mfu` is model-FLOPs utilisation, null where the device's peak is not known; `memory` and `memory_peak` are bytes, on a device
/// what its allocator holds. The objective's own metrics follow under their own names.
pub fn step_record(report: &StepReport, cost: &StepCost, global_step: usize) -> Value {
    let mut record = json!({
        "kind": "step",
        "phase": report.phase,
        "objective": report.objective,
        "global_step": global_step,
        "step": report.step,
        "steps": report.steps,
        "loss": report.loss,
        "penalty": report.penalty,
        "grad_norm": report.grad_norm,
        "penalty_grad_norm": report.penalty_grad_norm,
        "learning_rate": report.learning_rate,
        "tokens": report.tokens,
        "seconds": cost.seconds,
        "tokens_per_second": (cost.seconds > 0.0).then(|| report.tokens as f64 / cost.seconds),
        "mfu": cost.utilisation,
        "memory": cost.memory.map(|[now, _]| now),
        "memory_peak": cost.memory.map(|[_, peak]| peak),
        "transfer_seconds": cost.transfer_seconds,
        "saving_seconds": cost.saving_seconds,
    });
    for (name, value) in &report.metrics {
        record[*name] = json!(value);
    }
    record
}

/// A `phase-start` record. Of a penalised phase, `AC` (accumulated change) and `F` (importance) give a number per unit.
///
/// # Panics
/// If `units` are not the units that the importances belong to.
pub fn phase_started_record(started: &PhaseStarted, units: &[String], rule: Option<Rule>) -> Value {
    let mut record = json!({ "kind": "phase-start", "phase": started.phase, "steps": started.steps, "frozen": started.frozen });
    if let Some(report) = &started.importance {
        record["rule"] = json!(rule);
        record["effective_units"] = json!(report.effective_units);
        record["degenerate"] = json!(report.degenerate);
        record["AC"] = by_unit(units, &report.accumulated);
        record["F"] = by_unit(units, &report.importance);
    }
    record
}

/// A `phase-end` record. `C` gives each unit's change, Eq. 7, from the phase's start to its last step. Where a run then goes on from better weights, `AC`
/// of later phases has instead the `C` of the evaluation that found these within the phase, or nothing of it.
///
/// # Panics
/// If `units` are not the units that changed.
pub fn phase_ended_record(ended: &PhaseEnded, units: &[String]) -> Value {
    json!({ "kind": "phase-end", "phase": ended.phase, "C": by_unit(units, &ended.change) })
}

/// An `evaluation` record: the fields of the moment; `phase` is null at the start.
pub fn moment_record(moment: &Moment) -> Value {
    let mut record = json!({ "kind": "evaluation" });
    record["method"] = json!(moment.method);
    record["phase"] = json!(moment.phase);
    record["sft_nll"] = json!(moment.sft_nll);
    record["accuracy"] = json!(moment.accuracy);
    record["margin"] = json!(moment.margin);
    record["extra"] = moment.extra.iter().map(|(name, value)| (name.clone(), json!(value))).collect::<Map<_, _>>().into();
    record
}

/// The same of a moment within a phase that a run may come back to, with C per unit up to there.
pub fn moment_record_with_change(moment: &Moment, units: &[String], change: &[f64]) -> Value {
    let mut record = moment_record(moment);
    record["C"] = by_unit(units, change);
    record
}

fn by_unit(units: &[String], values: &[f64]) -> Value {
    assert_eq!(units.len(), values.len(), "a value per unit");
    units.iter().zip(values).map(|(unit, value)| (unit.clone(), json!(value))).collect::<Map<_, _>>().into()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::consolidation::Degenerate;
    use crate::trainer::ImportanceReport;

    fn keys(record: &Value) -> String {
        record.as_object().unwrap().keys().map(String::as_str).collect::<Vec<_>>().join(" ")
    }

    fn units() -> Vec<String> {
        vec!["model.embed_tokens.weight".into(), "lm_head.weight".into()]
    }

    #[test]
    fn a_step_has_its_keys_and_the_objectives_metrics() {
        let report = StepReport {
            phase: "dpo-2".into(),
            objective: "dpo",
            step: 3,
            steps: 8,
            loss: 0.1 + 0.2,
            penalty: 1e-12,
            grad_norm: f64::NAN,
            penalty_grad_norm: 0.0,
            learning_rate: 5e-7,
            tokens: 321,
            metrics: vec![("accuracy", 0.75), ("margin", 1.5)],
        };
        let memory = Some([3 << 30, 5 << 30]);
        let cost = StepCost { seconds: 0.25, transfer_seconds: 0.125, saving_seconds: 1.5, utilisation: None, memory };
        let record = step_record(&report, &cost, 11);
        assert_eq!(
            keys(&record),
            "kind phase objective global_step step steps loss penalty grad_norm penalty_grad_norm learning_rate tokens seconds \
             tokens_per_second mfu memory memory_peak transfer_seconds saving_seconds accuracy margin"
        );
        let read: Value = serde_json::from_str(&record.to_string()).unwrap();
        assert_eq!(read["loss"].as_f64(), Some(0.1 + 0.2));
        assert_eq!((&read["global_step"], read["tokens_per_second"].as_f64()), (&json!(11), Some(1284.0)));
        assert!(read["mfu"].is_null() && read["memory_peak"] == 5_368_709_120_u64 && read["transfer_seconds"] == 0.125);
        assert!(read["grad_norm"].is_null());
    }

    #[test]
    fn phases_name_every_unit() {
        let mut started = PhaseStarted { phase: "sft-1".into(), steps: 4, importance: None, frozen: 0 };
        assert_eq!(keys(&phase_started_record(&started, &units(), None)), "kind phase steps frozen");
        started.importance = Some(ImportanceReport {
            accumulated: vec![1e-9, 3e-9],
            importance: vec![50.0, 50.0],
            effective_units: 2.0,
            degenerate: Some(Degenerate::Uniform),
        });
        let record = phase_started_record(&started, &units(), Some(Rule::Paper));
        assert_eq!(keys(&record), "kind phase steps frozen rule effective_units degenerate AC F");
        assert_eq!((&record["rule"], &record["degenerate"]), (&json!("paper"), &json!("uniform")));
        assert_eq!(record["AC"]["lm_head.weight"], 3e-9);
        let ended = phase_ended_record(&PhaseEnded { phase: "sft-1".into(), change: vec![1.0, 2.0] }, &units());
        assert_eq!(
            ended.to_string(),
            r#"{"kind":"phase-end","phase":"sft-1","C":{"model.embed_tokens.weight":1.0,"lm_head.weight":2.0}}"#
        );
    }

    #[test]
    fn an_evaluation_reads_back_as_its_moment() {
        let moment = Moment {
            method: "hbat".into(),
            phase: None,
            sft_nll: Some(2.0 / 3.0),
            accuracy: None,
            margin: Some(0.0),
            extra: vec![("exact match".into(), 0.5)],
        };
        let record = moment_record(&moment);
        assert_eq!(keys(&record), "kind method phase sft_nll accuracy margin extra");
        assert_eq!(serde_json::from_value::<Moment>(record).unwrap(), moment);
    }
}
