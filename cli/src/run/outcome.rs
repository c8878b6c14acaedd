//! What a finished run shows: the table of both objectives and the picture of their plane.

use std::path::Path;

use anyhow::Context;

use crate::config::Plan;
use crate::report::{Moment, markdown, table};

pub(crate) fn present(plan: &Plan, directory: &Path, moments: &[Moment]) -> anyhow::Result<()> {
    println!("{}", table(moments));
    let summary = directory.join("summary.md");
    std::fs::write(&summary, markdown(moments)).with_context(|| format!("writing {}", summary.display()))?;
    let _ = plan;
    println!("results: {}", directory.display());
    Ok(())
}
