//! Toy tasks: small enough for a minute on a laptop or in a browser, rich enough to show what alignment undoes.
//!
//! [`skill`] is a language task with two objectives in conflict.

#[cfg(test)]
mod bandit;
mod init;
pub mod skill;

pub use init::random_policy;
