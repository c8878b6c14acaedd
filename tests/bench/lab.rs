//! One lane of the lab on this machine's processor, a step for every line on standard input: `lab.mjs` drives it, beside the
//! same lane in WebAssembly. The first argument is the lab's settings as JSON. Prints what a step trained and its seconds.

#![allow(clippy::print_stdout)]

use std::time::Instant;

use hbat::compute::Compute;
use hbat::lab::{Lab, LabSettings};
use hbat_backends::{DeviceName, open};
use hbat_cli::memory;
use serde_json::json;

/// The program's own allocator.
#[global_allocator]
static ALLOCATOR: memory::Allocator = memory::Allocator;

fn main() {
    memory::keep_freed();
    let settings = std::env::args().nth(1).expect("the lab's settings as JSON");
    let settings: LabSettings = serde_json::from_str(&settings).expect("the lab's settings");
    let compute = Compute::host(open(DeviceName::Cpu).expect("a CPU"));
    let runtime = tokio::runtime::Builder::new_current_thread().build().expect("a runtime");
    let mut lab = runtime.block_on(Lab::new(settings, compute)).expect("a lab");
    for _ in std::io::stdin().lines() {
        let start = Instant::now();
        let frames = runtime.block_on(lab.advance(0)).expect("a step");
        let seconds = start.elapsed().as_secs_f64();
        println!("{}", json!({ "frames": frames, "seconds": seconds }));
    }
}
