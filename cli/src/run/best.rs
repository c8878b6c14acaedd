//! Which moment of a run is the best: the highest mean reward of its answers, where there is who judges them, then the highest preference
//! accuracy, then the lowest SFT loss.

use crate::report::Moment;

/// The mean reward of the policy's likeliest answers, among a moment's further measures.
pub(crate) const REWARD: &str = "mean reward";

/// Whether the newest moment, which must come after some phase, is better than every one after an earlier phase. Where nothing
/// was measured, the newest is the best.
pub(crate) fn improves(moments: &[Moment]) -> bool {
    let Some((newest, earlier)) = moments.split_last() else { return false };
    if [newest.accuracy, newest.sft_nll].into_iter().flatten().any(f64::is_nan) {
        return false;
    }
    let unmeasured = newest.accuracy.is_none() && newest.sft_nll.is_none() && reward(newest).is_none();
    newest.phase.is_some() && (unmeasured || earlier.iter().filter(|m| m.phase.is_some()).all(|m| better(newest, m)))
}

/// The best of all.
pub(crate) fn of(moments: &[Moment]) -> Option<&Moment> {
    (1..=moments.len()).rev().find(|count| improves(&moments[..*count])).map(|count| &moments[count - 1])
}

fn reward(moment: &Moment) -> Option<f64> {
    moment.extra.iter().find(|(name, _)| name == REWARD).map(|(_, reward)| *reward)
}

fn better(candidate: &Moment, than: &Moment) -> bool {
    let measures = |m: &Moment| {
        let high = |measure: Option<f64>| measure.unwrap_or(f64::NEG_INFINITY);
        (high(reward(m)), high(m.accuracy), -m.sft_nll.unwrap_or(f64::INFINITY))
    };
    measures(candidate) > measures(than)
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
        let all = [start.clone(), first.clone(), moment(Some("dpo-1"), 0.6, 3.0), moment(Some("sft-2"), 0.6, 3.5)];
        assert_eq!((of(&all), of(&all[..1]).is_none()), (Some(&all[2]), true));
        assert!(improves(&[first.clone(), moment(Some("dpo-1"), 0.5, 1.9)]));
        assert!(!improves(&[first.clone(), moment(Some("dpo-1"), 0.5, 2.0)]));
        assert!(!improves(&[first.clone(), moment(Some("dpo-1"), 0.4, 0.1)]));
        assert!(!improves(&[moment(Some("sft-1"), 0.5, f64::NAN)]), "what is no number is not the best");
        assert!(!improves(&[first, moment(Some("dpo-1"), f64::NAN, 0.1)]));
    }

    #[test]
    fn the_reward_of_answers_comes_first() {
        let judged = |reward: f64, accuracy: f64| Moment {
            extra: vec![("exact match".into(), 1.0), (REWARD.into(), reward)],
            ..moment(Some("ppo-1"), accuracy, 1.0)
        };
        assert!(improves(&[judged(0.5, 0.9), judged(0.6, 0.1)]));
        assert!(!improves(&[judged(0.5, 0.9), judged(0.4, 1.0)]));
        assert!(improves(&[judged(0.5, 0.8), judged(0.5, 0.9)]));
        let alone = |reward: f64| Moment { accuracy: None, sft_nll: None, ..judged(reward, 0.0) };
        assert!(improves(&[alone(0.5), alone(0.6)]) && !improves(&[alone(0.5), alone(0.4)]));
    }

    #[test]
    fn without_measures_the_last_weights_are_the_result() {
        let bare = |phase: &str| Moment { accuracy: None, sft_nll: None, ..moment(Some(phase), 0.0, 0.0) };
        assert!(improves(&[bare("sft-1"), bare("dpo-1")]));
    }
}
