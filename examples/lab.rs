//! The browser lab without a browser: `cargo run --release -p hbat-examples --example lab`
//!
//! Trains one lane for twenty steps and prints settings and losses as JSON. What it prints on the committed settings is
//! `wasm/www/tests/golden.json`, by which the page's tests check that a browser computes the same.

use hbat::compute::Compute;
use hbat::lab::{Frame, Lab, LabError, LabSettings, LaneMethod};
use hbat_backends::{DeviceName, open};

const STEPS: usize = 20;

fn main() -> Result<(), LabError> {
    let settings = LabSettings { lanes: vec![LaneMethod::Hbat], examples: 160, measure_every: 1000, ..LabSettings::default() };
    let device = open(DeviceName::Cpu).expect("there is always a CPU");
    let mut lab = pollster::block_on(Lab::new(settings, Compute::host(device)))?;
    let mut losses = Vec::new();
    while losses.len() < STEPS {
        for frame in pollster::block_on(lab.advance(0))? {
            if let Frame::Step { loss, .. } = frame {
                losses.push(loss);
            }
        }
    }
    println!("{}", serde_json::json!({ "settings": lab.settings(), "lane": 0, "losses": losses }));
    Ok(())
}
