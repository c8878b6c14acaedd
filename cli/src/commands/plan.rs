//! `hbat plan`: what a run needs, without running it.

use std::io::Write;

use anyhow::Context;

use crate::args::Plan;
use crate::config::{self, Request};
use crate::report::{needs_text, tell};
use crate::run::{self, Needs, Speed};

/// Prints memory, disk, steps and time of a run.
pub(super) async fn run(options: Plan) -> anyhow::Result<i32> {
    let plan = config::resolve(&Request::from(options.run))?;
    run::check_device(&plan)?;
    let mut needs = Needs::of(&plan)?;
    if let Some(memory) = options.memory {
        needs.is_elsewhere(hbat_backends::usable(plan.device, memory as u64));
    }
    let speed = match options.flops {
        Some(flops) => Speed::stated(flops),
        None => run::measured_speed(&plan, &needs).await.context("timing a layer, which --flops spares")?,
    };
    let mut out = std::io::stdout().lock();
    match options.json {
        true => writeln!(out, "{}", serde_json::to_string(&serde_json::json!({ "needs": needs, "speed": speed }))?)?,
        false => write!(out, "{}", needs_text(&needs, &speed))?,
    }
    if let Some(problem) = needs.cold(&plan) {
        tell(format_args!("warning: {problem}"));
    }
    needs.check(&plan)?;
    Ok(0)
}
