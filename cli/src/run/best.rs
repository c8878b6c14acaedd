//! Which moment of a run is the best: the highest preference accuracy, then the lowest SFT loss.

use crate::report::Moment;

/// Selects among the moments after a phase.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Best;

impl Best {
    /// Whether the newest moment is better than every one after an earlier phase.
    pub(crate) fn improves(self, moments: &[Moment]) -> bool {
        let Some((newest, earlier)) = moments.split_last() else { return false };
        earlier.iter().filter(|m| m.phase.is_some()).all(|m| better(newest, m))
    }

    /// Whether the newest moment is the best.
    pub(crate) fn is_last(self, moments: &[Moment]) -> bool {
        self.improves(moments)
    }
}

fn better(candidate: &Moment, than: &Moment) -> bool {
    let accuracy = |m: &Moment| m.accuracy.unwrap_or(f64::NEG_INFINITY);
    let nll = |m: &Moment| m.sft_nll.unwrap_or(f64::INFINITY);
    (accuracy(candidate), -nll(candidate)) > (accuracy(than), -nll(than))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn moment(phase: Option<&str>, accuracy: f64, nll: f64) -> Moment {
        let phase = phase.map(Into::into);
        Moment { method: "hbat".into(), phase, sft_nll: Some(nll), accuracy: Some(accuracy), margin: None, extra: vec![] }
    }

    #[test]
    fn accuracy_decides_and_then_the_loss() {
        let start = moment(None, 1.0, 0.0);
        let first = moment(Some("sft-1"), 0.5, 2.0);
        assert!(Best.improves(&[start.clone(), first.clone()]), "the start is no result");
        assert!(Best.improves(&[first.clone(), moment(Some("dpo-1"), 0.6, 3.0)]));
        assert!(Best.improves(&[first.clone(), moment(Some("dpo-1"), 0.5, 1.9)]));
        assert!(!Best.improves(&[first.clone(), moment(Some("dpo-1"), 0.5, 2.0)]));
        assert!(!Best.improves(&[first, moment(Some("dpo-1"), 0.4, 0.1)]));
    }
}
