//! Hybrid alignment training.
pub mod tokens;
