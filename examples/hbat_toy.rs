//! Hybrid alignment training, phase by phase: `cargo run --release -p hbat-examples --example hbat_toy`
//!
//! Watch what the two objectives cost each other, and which units the penalty holds.

use hbat::schedule::{Method, phases};
use hbat::trainer::{Event, PhaseStarted, StepReport, Trainer};
use hbat_examples::{schedule, settings, tiny_policy, toy_data};

fn main() -> Result<(), hbat::error::Error> {
    let mut trainer = Trainer::new(tiny_policy(), toy_data(), phases(&schedule(Method::Hbat)), settings());
    loop {
        match pollster::block_on(trainer.step())? {
            Event::PhaseStarted(started) => held(&started, &trainer),
            Event::Step(report) if report.step == 1 || report.step == report.steps => step(&report),
            Event::PhaseEnded(ended) => {
                let mean = ended.change.iter().sum::<f64>() / ended.change.len() as f64;
                println!("  mean squared change per unit {mean:.2e}");
            }
            Event::Finished => return Ok(()),
            _ => {}
        }
    }
}

fn held(started: &PhaseStarted, trainer: &Trainer) {
    println!("{}: {} steps", started.phase, started.steps);
    let Some(report) = &started.importance else { return };
    let most = report.importance.iter().enumerate().max_by(|a, b| a.1.total_cmp(b.1));
    if let Some((unit, importance)) = most {
        let name = &trainer.policy().units()[unit].name;
        println!("  {:.1} effective units; held most: {name}, F = {importance:.1}", report.effective_units);
    }
}

fn step(report: &StepReport) {
    println!("  step {:>2}  {} loss {:.4}  penalty {:.2e}", report.step, report.objective, report.loss, report.penalty);
}
