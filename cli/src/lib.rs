//! The parts of the `hbat` program.

pub mod args;
pub mod commands;
pub mod comparison;
pub mod config;
pub mod data;
pub mod evaluation;
pub mod exit;
pub mod lab;
pub mod memory;
pub mod model;
pub mod profile;
pub mod recipes;
pub mod report;
pub mod run;
pub mod signal;
pub mod store;
pub mod text;
