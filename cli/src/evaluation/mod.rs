//! Scoring demonstrations and preferences with a policy that is not being trained.

mod report;
mod score;

pub use report::{DemonstrationScore, Evaluation, ExampleScore, PreferenceScore, evaluate_demonstrations, evaluate_preferences};
pub use score::{Scorer, Sequences};
