//! What a run has recorded so far, read back from its metrics.

use std::fs::File;
use std::io::{BufRead, BufReader};
use std::path::Path;

use anyhow::Context;
use serde::Deserialize;

use crate::report::Moment;

/// The part of a record that says what it is.
#[derive(Deserialize)]
struct Kind {
    kind: String,
}

/// The moments of a `metrics.jsonl` and its number of steps.
pub(super) fn read(path: &Path) -> anyhow::Result<(Vec<Moment>, usize)> {
    let file = File::open(path).with_context(|| format!("reading {}", path.display()))?;
    let (mut moments, mut steps) = (Vec::new(), 0);
    for (number, line) in BufReader::new(file).lines().enumerate() {
        let place = || format!("{}, line {}", path.display(), number + 1);
        let line = line.with_context(place)?;
        let Kind { kind } = serde_json::from_str(&line).with_context(place)?;
        match kind.as_str() {
            "evaluation" => moments.push(serde_json::from_str::<Moment>(&line).with_context(place)?),
            "step" => steps += 1,
            _ => {}
        }
    }
    Ok((moments, steps))
}
