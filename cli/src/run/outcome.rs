//! What a finished run shows: the table of both objectives and the picture of their plane.

use std::path::{Path, PathBuf};

use anyhow::Context;
use hbat::schedule::Aim;

use super::history::History;
use crate::config::{self, Plan};
use crate::report::{Curve, Moment, Picture, PlotError, markdown, save_plot, table};

/// Prints the table, and writes it and the picture into the run's directory.
pub(super) fn present(plan: &Plan, directory: &Path) -> anyhow::Result<()> {
    let (moments, curves) = results(plan, directory)?;
    print!("{}", table(&moments));
    let summary = directory.join("summary.md");
    std::fs::write(&summary, markdown(&moments)).with_context(|| format!("writing {}", summary.display()))?;
    let plot = directory.join("plot.png");
    let subject = if plan.run.trains(Aim::Reward) { "the reward model" } else { "the two objectives" };
    let title = format!("{}: {subject}", plan.name);
    match save_plot(&Picture { title: &title, moments: &moments, curves: &curves }, &plot) {
        Ok(()) => println!("plot: {}", plot.display()),
        Err(error @ PlotError::Nothing) => eprintln!("note: {error}"),
        Err(error) => return Err(error.into()),
    }
    println!("results: {}", directory.display());
    Ok(())
}

/// The moments and losses of all methods, from their metrics.
fn results(plan: &Plan, directory: &Path) -> anyhow::Result<(Vec<Moment>, Vec<Curve>)> {
    let (mut moments, mut curves) = (Vec::new(), Vec::new());
    for schedule in &plan.schedules {
        let method = config::name(schedule.method);
        let folder: PathBuf = if plan.schedules.len() == 1 { directory.into() } else { directory.join(&method) };
        let history = History::read(&folder.join("metrics.jsonl"))?;
        moments.extend(history.moments);
        curves.push(Curve { method, steps: history.losses });
    }
    Ok((moments, curves))
}
