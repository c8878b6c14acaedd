//! What `tests/gpu/run` measures on a card; each part prints JSON lines.
//!
//!     gpu_parts parity DEVICE            losses, logits and gradients against the CPU's, in f32 and bf16
//!     gpu_parts memory DEVICE SHAPE ROWS WIDTH
//!                                        predicted and measured peak of steps on rows of so many tokens
//!     gpu_parts product DEVICE           bf16 matrix products at the shapes of 7 billion parameters
//!     gpu_parts speed DEVICE SHAPE ROWS STEPS
//!                                        SFT and DPO steps with and without a penalty, rows of 1024 tokens
//!
//! Shapes: toy, 135m, 1.1b, 7b, 13b, with random weights. Runs on any device; only a card's times mean anything.

#![allow(clippy::print_stdout)]

mod memory;
mod parity;
mod product;
mod shape;
mod speed;

use hbat_backends::DeviceName;

fn main() {
    hbat_cli::memory::keep_freed();
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let words: Vec<&str> = arguments.iter().map(String::as_str).collect();
    let device = |name: &str| name.parse::<DeviceName>().unwrap_or_else(|error| panic!("{error}"));
    let number = |text: &str| text.parse::<usize>().unwrap_or_else(|error| panic!("{text}: {error}"));
    let runtime = tokio::runtime::Builder::new_current_thread().build().expect("a runtime");
    runtime.block_on(async {
        match words[..] {
            ["parity", name] => parity::run(device(name)).await,
            ["memory", name, shape, rows, width] => memory::run(device(name), shape, (number(rows), number(width))).await,
            ["product", name] => product::run(device(name)).await,
            ["speed", name, shape, rows, steps] => speed::run(device(name), shape, number(rows), number(steps)).await,
            _ => panic!("parity DEVICE | memory DEVICE SHAPE ROWS WIDTH | product DEVICE | speed DEVICE SHAPE ROWS STEPS"),
        }
    });
}
