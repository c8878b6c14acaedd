//! The parts of the `hbat` program.

pub mod data;
pub mod evaluation;
pub mod model;
pub mod report;
pub mod store;
pub mod text;
