//! What was changed in a run's settings before it went on.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use toml::{Table, Value};

use crate::config::Plan;
use crate::store::replace_file;

/// The settings that the run was last at work with.
const LAST: &str = "last-settings.toml";

/// Tells each setting that is not as it was when the run was last at work, such as `sft.learning_rate: 1e-5, now 1e-6`. Nothing if nobody knows
/// what was.
pub(super) fn since_last(plan: &Plan, run: &Path) -> Vec<String> {
    let before = fs::read_to_string(run.join(LAST)).ok().and_then(|text| text.parse::<Table>().ok());
    before.zip(Table::try_from(&plan.run).ok()).map_or(Vec::new(), |(before, now)| differences(before, now))
}

/// Remembers the settings that a run goes to work with.
///
/// # Errors
/// If they cannot be written down.
pub(super) fn remember(plan: &Plan, run: &Path) -> anyhow::Result<()> {
    let now = Table::try_from(&plan.run)?;
    Ok(replace_file(&run.join(LAST), toml::to_string(&now)?.as_bytes())?)
}

fn differences(before: Table, now: Table) -> Vec<String> {
    let [before, now] = [before, now].map(|table| {
        let mut settings = BTreeMap::new();
        collect("", Value::Table(table), &mut settings);
        settings
    });
    let keys = before.keys().chain(now.keys().filter(|key| !before.contains_key(*key)));
    // The run's own folder may have been moved, or be named from elsewhere.
    let changed = keys.filter(|key| key.as_str() != "output" && before.get(*key) != now.get(*key));
    changed.map(|key| format!("{key}: {}, now {}", said(before.get(key)), said(now.get(key)))).collect()
}

/// As one would write it in a run file.
fn said(value: Option<&Value>) -> String {
    match value {
        None => "nothing".into(),
        Some(Value::Float(number)) if *number != 0.0 && !(1e-3..1e6).contains(&number.abs()) => format!("{number:e}"),
        Some(value) => value.to_string(),
    }
}

/// Every setting by its dotted key.
fn collect(key: &str, value: Value, settings: &mut BTreeMap<String, Value>) {
    match value {
        Value::Table(table) => {
            for (name, value) in table {
                collect(&if key.is_empty() { name } else { format!("{key}.{name}") }, value, settings);
            }
        }
        value => drop(settings.insert(key.into(), value)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn settings_that_came_went_or_changed_are_told() {
        let [before, now] = [
            "device = \"cpu\"\n[sft]\nlearning_rate = 1e-5\nepochs = 1",
            "device = \"cpu\"\nseed = 2\n[sft]\nlearning_rate = 1e-6",
        ];
        let [before, now] = [before, now].map(|text| text.parse::<Table>().unwrap());
        let told = ["sft.epochs: 1, now nothing", "sft.learning_rate: 1e-5, now 1e-6", "seed: nothing, now 2"];
        assert_eq!(differences(before, now), told);
    }
}
