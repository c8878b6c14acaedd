//! The ledger of changes: how far each phase moved each unit.

use serde::{Deserialize, Serialize};

/// Which of the two objectives a phase trains. Each is protected while the other trains.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Side {
    /// Instruction following (IFA): demonstrations.
    Instruction,
    /// Human preference (HPA): comparisons.
    Preference,
}

impl Side {
    /// The side that this one must not undo.
    pub fn other(self) -> Self {
        match self {
            Self::Instruction => Self::Preference,
            Self::Preference => Self::Instruction,
        }
    }
}

/// One finished phase.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Record {
    /// The phase's name, unique in a schedule.
    pub phase: String,
    /// The objective it trained.
    pub side: Side,
    /// C per unit: the mean over its elements of (θ_before − θ_after)², Eq. 7; empty if the phase was thrown away.
    pub change: Vec<f64>,
}

/// All finished phases. Sums are formed from the records, so a phase that is run again replaces its record and cannot count
/// twice.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub struct Ledger {
    records: Vec<Record>,
}

impl Ledger {
    /// Enters a finished phase, in place of an earlier record of the same name.
    pub fn enter(&mut self, record: Record) {
        self.records.retain(|r| r.phase != record.phase);
        self.records.push(record);
    }

    /// Every record, in the order of entry.
    pub fn records(&self) -> &[Record] {
        &self.records
    }

    /// AC = Σ C over the finished phases of one side, Eq. 10, but for those thrown away. `None` before the first.
    pub fn accumulated(&self, side: Side) -> Option<Vec<f64>> {
        let mut of_side = self.records.iter().filter(|r| r.side == side && !r.change.is_empty()).map(|r| r.change.clone());
        let first = of_side.next()?;
        Some(of_side.fold(first, |sum, change| sum.iter().zip(&change).map(|(a, b)| a + b).collect()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn record(phase: &str, side: Side, change: f64) -> Record {
        Record { phase: phase.into(), side, change: vec![change, 2.0 * change] }
    }

    #[test]
    fn changes_add_up_per_side() {
        let mut ledger = Ledger::default();
        assert_eq!(ledger.accumulated(Side::Instruction), None);
        ledger.enter(record("sft-1", Side::Instruction, 1.0));
        ledger.enter(record("dpo-1", Side::Preference, 10.0));
        ledger.enter(record("sft-2", Side::Instruction, 2.0));
        assert_eq!(ledger.accumulated(Side::Instruction), Some(vec![3.0, 6.0]));
        assert_eq!(ledger.accumulated(Side::Preference), Some(vec![10.0, 20.0]));
    }

    #[test]
    fn a_phase_that_was_thrown_away_counts_for_nothing() {
        let mut ledger = Ledger::default();
        ledger.enter(Record { change: vec![], ..record("dpo-1", Side::Preference, 1.0) });
        assert_eq!(ledger.accumulated(Side::Preference), None);
        ledger.enter(record("dpo-2", Side::Preference, 3.0));
        assert_eq!(ledger.accumulated(Side::Preference), Some(vec![3.0, 6.0]));
    }

    #[test]
    fn a_phase_run_again_counts_once() {
        let mut ledger = Ledger::default();
        ledger.enter(record("sft-1", Side::Instruction, 1.0));
        ledger.enter(record("sft-1", Side::Instruction, 5.0));
        assert_eq!(ledger.accumulated(Side::Instruction), Some(vec![5.0, 10.0]));
    }
}
