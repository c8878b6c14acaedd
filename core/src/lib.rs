//! Hybrid alignment training: instruction following and human preference in turns.
//!
//! The crate computes and does nothing else: no files, no clock, no threads of its own, no output. It is handed a device
//! and runs the same on a CPU, a GPU, or in a browser.

pub mod budget;
pub mod compute;
pub mod consolidation;
pub mod engine;
pub mod error;
pub mod evaluate;
pub mod generate;
mod host;
mod kernel;
pub mod lab;
pub mod model;
pub mod objective;
pub mod optimizer;
pub mod ppo;
pub mod random;
pub mod records;
pub mod reduce;
pub mod rollout;
pub mod schedule;
pub mod slab;
#[cfg(test)]
mod testing;
pub mod tokens;
pub mod toy;
pub mod trainer;
pub mod watch;
