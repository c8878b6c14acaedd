//! SFT, then DPO against the weights that SFT left: `cargo run --release -p hbat-examples --example dpo`
//!
//! No second model is loaded: before the first preference step the policy scores the pairs itself.

use hbat::schedule::{Method, phases};
use hbat::trainer::{Event, Trainer};
use hbat_examples::{schedule, settings, tiny_policy, toy_data};

fn main() -> Result<(), hbat::error::Error> {
    let mut trainer = Trainer::new(tiny_policy(), toy_data(), phases(&schedule(Method::TwoStage)), settings());
    loop {
        match pollster::block_on(trainer.step())? {
            Event::PhaseStarted(started) => println!("{}: {} steps", started.phase, started.steps),
            Event::Scored { done, total } if done == total => println!("reference log-probabilities of {total} pairs"),
            Event::Step(report) if report.objective == "dpo" => {
                let metrics: Vec<String> = report.metrics.iter().map(|(name, value)| format!("{name} {value:.3}")).collect();
                println!("step {:>2}  loss {:.4}  {}", report.step, report.loss, metrics.join("  "));
            }
            Event::Finished => return Ok(()),
            _ => {}
        }
    }
}
