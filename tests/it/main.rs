//! Tests that cross crates, in one binary: linking Burn takes longer than running most of them.

#[cfg(feature = "wgpu")]
mod answers;
mod backends_agree;
mod best;
#[cfg(feature = "wgpu")]
mod budget;
mod cli;
mod compare;
mod config;
mod consolidation;
mod data;
mod data_faults;
mod devices;
mod engine;
mod examples;
mod exports;
mod families;
mod fixtures;
mod generation;
mod going_on;
mod invariants;
mod kernels;
mod lab;
mod model_io;
mod objectives;
mod optimizer;
mod packing;
mod pipes;
mod ppo;
mod ppo_runs;
mod precision;
mod raft;
mod ranks;
mod resume_core;
mod reward;
mod rrhf;
mod runs;
mod smollm2;
mod store;
mod support;
mod tidy;
mod tokens;
mod trace;
mod updates;
