//! The parts of the `hbat` program.

pub mod model;
pub mod store;
//! .

pub mod report;
pub mod data;
pub mod text;
