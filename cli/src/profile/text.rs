//! Profiles as text.

use hbat::watch::Part;
use serde_json::json;

use super::Recorded;
use crate::report::kind;

/// Milliseconds per step and share of the step, for each kind of phase.
pub(super) fn table(steps: &[Recorded]) -> String {
    let mut kinds: Vec<&str> = Vec::new();
    for step in steps {
        if !kinds.contains(&kind(&step.phase)) {
            kinds.push(kind(&step.phase));
        }
    }
    let of = |name: &str| -> Vec<&Recorded> { steps.iter().filter(|step| kind(&step.phase) == name).collect() };
    let groups: Vec<Vec<&Recorded>> = kinds.iter().map(|name| of(name)).collect();
    let head: String = kinds.iter().map(|name| format!(" {name}: ms per step | share |")).collect();
    let mut text =
        String::from("Each part was waited for before the next began, so that a step takes longer here than otherwise.\n\n");
    text += &format!("| part |{head}\n|---|{}\n", "--:|--:|".repeat(kinds.len()));
    for part in Part::ALL {
        let row = |group: &Vec<&Recorded>| mean(group, |step| step.seconds(part));
        if groups.iter().any(|group| row(group) > 0.0) {
            text += &line(part.name(), &groups, row);
        }
    }
    let known = |step: &Recorded| Part::ALL.iter().map(|part| step.seconds(*part)).sum::<f64>();
    text += &line("anything else", &groups, |group| mean(group, |step| (step.total() - known(step)).max(0.0)));
    text += &line("step", &groups, |group| mean(group, Recorded::total));
    let counts: Vec<String> = kinds.iter().zip(&groups).map(|(name, group)| format!("{} of {name}", group.len())).collect();
    text + &format!("\nSteps: {}.\n", counts.join(", "))
}

fn mean(group: &[&Recorded], seconds: impl Fn(&Recorded) -> f64) -> f64 {
    group.iter().map(|step| seconds(step)).sum::<f64>() / group.len() as f64
}

fn line(name: &str, groups: &[Vec<&Recorded>], seconds: impl Fn(&Vec<&Recorded>) -> f64) -> String {
    let cell = |group| {
        let (part, step) = (seconds(group), mean(group, Recorded::total));
        format!(" {:.3} | {:.1}% |", 1e3 * part, 100.0 * part / step.max(f64::MIN_POSITIVE))
    };
    format!("| {name} |{}\n", groups.iter().map(cell).collect::<String>())
}

/// A trace in Chrome's format: times in microseconds, steps with their parts inside.
pub(super) fn trace(steps: &[Recorded]) -> String {
    let event = |name: &str, step: &Recorded, (from, to): (f64, f64)| {
        json!({ "name": name, "cat": kind(&step.phase), "ph": "X", "ts": 1e6 * from, "dur": 1e6 * (to - from), "pid": 1, "tid": 1,
            "args": { "phase": step.phase, "step": step.step } })
    };
    let of_step = |step: &Recorded| {
        let whole = event(&format!("{} step {}", step.phase, step.step), step, (step.from, step.to));
        let mut spans = step.spans.clone();
        spans.sort_by(|a, b| a.from.total_cmp(&b.from).then(b.to.total_cmp(&a.to)));
        let parts = spans.iter().map(|span| event(span.part.name(), step, (span.from, span.to)));
        std::iter::once(whole).chain(parts).collect::<Vec<_>>()
    };
    let events: Vec<serde_json::Value> = steps.iter().flat_map(of_step).collect();
    json!({ "displayTimeUnit": "ms", "traceEvents": events }).to_string()
}

#[cfg(test)]
mod tests {
    use super::super::Span;
    use super::*;

    fn step(phase: &str, step: usize) -> Recorded {
        let span = |part, from, to, within| Span { part, from, to, within };
        let spans =
            vec![span(Part::Forward, 1.0, 1.5, 0.0), span(Part::Recompute, 1.6, 1.7, 0.0), span(Part::Backward, 1.5, 2.0, 0.1)];
        Recorded { phase: phase.into(), step, from: 1.0, to: 3.0, spans }
    }

    #[test]
    fn a_table_shows_means_by_kind_and_what_no_part_explains() {
        let text = table(&[step("sft-1", 2), step("sft-2", 2), step("dpo-1", 2)]);
        assert!(text.contains("| part | sft: ms per step | share | dpo: ms per step | share |"), "{text}");
        assert!(text.contains("| forward | 500.000 | 25.0% | 500.000 | 25.0% |"), "{text}");
        assert!(text.contains("| backward | 400.000 | 20.0% |"), "{text}");
        assert!(text.contains("| anything else | 1000.000 | 50.0% |"), "{text}");
        assert!(text.contains("| step | 2000.000 | 100.0% |") && text.ends_with("Steps: 2 of sft, 1 of dpo.\n"), "{text}");
        assert!(!text.contains("transfer"), "{text}");
        let other = table(&[step("sft-1", 2), Recorded { spans: vec![], ..step("dpo-1", 2) }]);
        assert!(other.contains("| forward | 500.000 | 25.0% | 0.000 | 0.0% |"), "{other}");
    }

    #[test]
    fn a_trace_nests_parts_in_steps() {
        let trace: serde_json::Value = serde_json::from_str(&trace(&[step("sft-1", 2)])).unwrap();
        let events = trace["traceEvents"].as_array().unwrap();
        let names: Vec<&str> = events.iter().map(|event| event["name"].as_str().unwrap()).collect();
        assert_eq!(names, ["sft-1 step 2", "forward", "backward", "recompute"]);
        assert_eq!((events[2]["ts"].as_f64(), events[2]["dur"].as_f64()), (Some(1.5e6), Some(0.5e6)));
        assert!(events.iter().all(|event| event["ph"] == "X" && event["args"]["phase"] == "sft-1"));
    }
}
