//! Modified elastic weight consolidation: what changed under the other objective is held near where that objective left it.
//!
//! Nothing here touches an autodiff graph: the penalty's gradient λ·F·(θ − θ*) is added to the summed gradient by the
//! optimizer, once per step (see [`crate::optimizer`]).

mod freeze;
mod importance;
mod ledger;

pub use freeze::frozen;
pub use importance::{Degenerate, Draw, Rule, degenerate, effective_units, importance};
pub use ledger::{Ledger, Record, Side};

use serde::{Deserialize, Serialize};

/// Strength and shape of the penalty Σ_i (λ/2)·F_i·‖θ_i − θ_i*‖², Eq. 5 and 8.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Consolidation {
    /// How accumulated changes become importances.
    pub rule: Rule,
    /// λ. To emulate the released code's Σ F·‖λ'(θ−θ*)‖², set λ = 2·λ'².
    pub lambda: f64,
    /// F_max, the sum of all importances; unused by [`Rule::Fisher`].
    pub f_max: f64,
}

impl Default for Consolidation {
    fn default() -> Self {
        Self { rule: Rule::Paper, lambda: 1.0, f_max: 100.0 }
    }
}
