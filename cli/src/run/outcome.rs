//! What a finished run shows: the table of both objectives and the picture of their plane.

use std::io::Write;
use std::path::{Path, PathBuf};

use anyhow::Context;
use hbat::schedule::Aim;

use super::history::History;
use crate::config::{self, Plan};
use crate::report::{Curve, Moment, Picture, PlotError, markdown, save_plot, table, tell};
use crate::store::replace_file;

/// Writes the table and the picture into the run's directory, and then prints the table.
pub(super) fn present(plan: &Plan, directory: &Path) -> anyhow::Result<()> {
    let (moments, curves) = results(plan, directory)?;
    let summary = directory.join("summary.md");
    replace_file(&summary, markdown(&moments).as_bytes())?;
    let plot = directory.join("plot.png");
    let subject = if plan.run.trains(Aim::Reward) { "the reward model" } else { "the two objectives" };
    let title = format!("{}: {subject}", plan.run.name);
    let plotted = match save_plot(&Picture { title: &title, moments: &moments, curves: &curves }, &plot) {
        Ok(()) => format!("plot: {}\n", plot.display()),
        Err(error @ PlotError::Nothing) => {
            tell(format_args!("note: {error}"));
            String::new()
        }
        Err(error) => return Err(error.into()),
    };
    let evaluated = moments.iter().any(|moment| moment.is_measured());
    let table = if evaluated { table(&moments) } else { "nothing was evaluated: [validation] names no files\n".into() };
    let (mut out, results) = (std::io::stdout().lock(), directory.display());
    writeln!(out, "{table}{plotted}results: {results}").with_context(|| format!("printing the results, which are in {results}"))
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
