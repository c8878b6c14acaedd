//! Hybrid alignment training: instruction following and human preference in turns.
//!
//! The crate computes and does nothing else: no files, no clock, no threads of its own, no output. It is handed a device
//! and runs the same on a CPU, a GPU, or in a browser.

pub mod compute;
pub mod engine;
mod kernel;
pub mod model;
pub mod objective;
pub mod tokens;
