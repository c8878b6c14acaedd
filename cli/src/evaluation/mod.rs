//! Scoring demonstrations and preferences with a policy or a reward model that is not being trained.

mod report;
mod score;

pub use report::{
    DemonstrationRewards, DemonstrationScore, Evaluation, ExampleScore, PreferenceRewards, PreferenceScore,
    evaluate_demonstrations, evaluate_preferences, reward_demonstrations, reward_preferences,
};
pub use score::{Scorer, Sequences};
