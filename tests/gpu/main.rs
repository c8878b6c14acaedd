//! What `tests/gpu/run` measures on a card; each part prints JSON lines.
//!
//!     gpu_parts parity DEVICE            losses, logits and gradients against the CPU's, in f32 and bf16; updates by hbat's kernels
//!                                        against those by Burn's
//!     gpu_parts memory DEVICE SHAPE ROWS WIDTH
//!                                        predicted and measured peak of steps on rows of so many tokens
//!     gpu_parts product DEVICE SHAPE     bf16 matrix products at the shapes of a model, and attention
//!     gpu_parts attention DEVICE SHAPE   hbat's attention against the CPU's, and its times at the shape of a model
//!     gpu_parts speed DEVICE SHAPE ROWS STEPS [PASSES]...
//!                                        SFT and DPO steps with and without a penalty, rows of 1024 tokens, of one pass or so many
//!     gpu_parts profile DEVICE SHAPE ROWS
//!                                        what such a step's time goes into
//!
//! DEVICE is `cuda` or another, or `cuda+cublas`, where cuBLASLt multiplies instead of Burn, or `cuda+burn`, where Burn's kernels compute the
//! rest instead of hbat's, which `wgpu+hbat` takes; with `+resident`, anchors lie on the device. Shapes: toy, 135m, 1.1b, 7b, 13b, or
//! such as 7b@4, with that many layers; random weights. Runs on any device; only a card's times mean anything.

#![allow(clippy::print_stdout)]

mod attention;
mod memory;
mod parity;
mod product;
mod shape;
mod speed;
mod update;

use shape::Target;

/// What it takes.
const WORDS: &str = "parity DEVICE | memory DEVICE SHAPE ROWS WIDTH | product DEVICE SHAPE | attention DEVICE SHAPE | \
                     speed DEVICE SHAPE ROWS STEPS [PASSES]... | profile DEVICE SHAPE ROWS";

fn main() {
    hbat_cli::memory::keep_freed();
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let words: Vec<&str> = arguments.iter().map(String::as_str).collect();
    let number = |text: &str| text.parse::<usize>().unwrap_or_else(|error| panic!("{text}: {error}"));
    let runtime = tokio::runtime::Builder::new_current_thread().build().expect("a runtime");
    runtime.block_on(async {
        match words[..] {
            ["parity", name] => {
                update::run(Target::parse(name)).await;
                parity::run(Target::parse(name)).await;
            }
            ["memory", name, shape, rows, width] => memory::run(Target::parse(name), shape, (number(rows), number(width))).await,
            ["attention", name, shape] => attention::run(Target::parse(name), shape).await,
            ["product", name, shape] => product::run(Target::parse(name), shape).await,
            ["speed", name, shape, rows, steps, ref passes @ ..] => {
                let several: Vec<usize> = passes.iter().map(|passes| number(passes)).collect();
                let passes = if several.is_empty() { vec![1] } else { several };
                speed::run(Target::parse(name), shape, number(rows), number(steps), &passes).await;
            }
            ["profile", name, shape, rows] => speed::profile(Target::parse(name), shape, number(rows)).await,
            _ => panic!("{WORDS}"),
        }
    });
}
