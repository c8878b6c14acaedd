//! Supervised fine-tuning in ten lines: `cargo run --release -p hbat-examples --example sft`

use hbat::schedule::{Method, phases};
use hbat::trainer::{Event, Trainer};
use hbat_examples::{schedule, settings, tiny_policy, toy_data};

fn main() -> Result<(), hbat::error::Error> {
    let mut trainer = Trainer::new(tiny_policy(), toy_data(), phases(&schedule(Method::Sft)), settings());
    loop {
        match pollster::block_on(trainer.step())? {
            Event::Step(report) => {
                println!("step {:>2}/{}  loss {:.4}  rate {:.2e}", report.step, report.steps, report.loss, report.learning_rate)
            }
            Event::Finished => return Ok(()),
            _ => {}
        }
    }
}
