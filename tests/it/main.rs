//! Tests that cross crates, in one binary: linking Burn takes longer than running most of them.

mod cli;
mod config;
mod data;
mod data_faults;
mod devices;
mod engine;
mod fixtures;
mod model_io;
mod store;
mod support;
mod tidy;
mod tokens;
mod trace;
