//! Which moment of a run is the best: the highest preference accuracy, then the lowest SFT loss.

use crate::report::Moment;

/// Whether the newest moment, which must come after some phase, is better than every one after an earlier phase. Where nothing
/// was measured, the newest is the best.
pub(crate) fn improves(moments: &[Moment]) -> bool {
    let Some((newest, earlier)) = moments.split_last() else { return false };
    if [newest.accuracy, newest.sft_nll].into_iter().flatten().any(f64::is_nan) {
        return false;
    }
    let unmeasured = newest.accuracy.is_none() && newest.sft_nll.is_none();
    newest.phase.is_some() && (unmeasured || earlier.iter().filter(|m| m.phase.is_some()).all(|m| better(newest, m)))
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
        assert!(improves(&[start.clone(), first.clone()]), "the start is no result");
        assert!(improves(&[first.clone(), moment(Some("dpo-1"), 0.6, 3.0)]));
        assert!(improves(&[first.clone(), moment(Some("dpo-1"), 0.5, 1.9)]));
        assert!(!improves(&[first.clone(), moment(Some("dpo-1"), 0.5, 2.0)]));
        assert!(!improves(&[first.clone(), moment(Some("dpo-1"), 0.4, 0.1)]));
        assert!(!improves(&[moment(Some("sft-1"), 0.5, f64::NAN)]), "what is no number is not the best");
        assert!(!improves(&[first, moment(Some("dpo-1"), f64::NAN, 0.1)]));
    }

    #[test]
    fn without_measures_the_last_weights_are_the_result() {
        let bare = |phase: &str| Moment { accuracy: None, sft_nll: None, ..moment(Some(phase), 0.0, 0.0) };
        assert!(improves(&[bare("sft-1"), bare("dpo-1")]));
    }
}
