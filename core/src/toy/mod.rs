//! Toy tasks: small enough for a minute on a laptop or in a browser, rich enough to show what alignment undoes.
//!
//! [`skill`] is a language task with two objectives in conflict; [`bandit`] is a policy of two parameters on which every
//! equation of consolidation can be checked exactly.

pub mod bandit;
mod init;
pub mod skill;

pub use init::random_policy;
