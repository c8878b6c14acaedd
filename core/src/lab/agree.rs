//! Whether a device computes what another one does: the same short run on both, step by step.

use serde::Serialize;

use super::gauge::Gauge;
use super::lane::Lane;
use super::settings::{BATCH, EPOCHS, LaneMethod};
use super::{Lab, LabError, LabSettings};
use crate::compute::Compute;
use crate::engine::Accumulate;
use crate::error::Error;
use crate::schedule::Preference;
use crate::slab::floats;
use crate::trainer::Event;

/// How far two devices are apart.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Agreement {
    /// Optimizer steps that both took.
    pub steps: usize,
    /// Loss, gradients, importance and weights.
    pub rows: Vec<AgreementRow>,
}

/// One comparison.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct AgreementRow {
    /// What was compared.
    pub what: &'static str,
    /// The largest relative difference.
    pub largest: f64,
    /// How large it may be.
    pub tolerance: f64,
    /// Whether it is not larger.
    pub ok: bool,
}

/// Trains HBAT for about `steps` steps on both devices, the first of which is the reference; `progress` is told how many steps
/// are done, and of how many.
///
/// Preferences are taught by their pairs, whatever the settings say: answers that are drawn would soon be others for a last bit's difference.
/// The run has phases of two steps, so that importances are compared as well: `steps` is rounded down to a multiple of four, 4 to 40.
///
/// # Errors
/// If a setting is out of range, or a device fails.
pub async fn agreement(
    settings: &LabSettings,
    steps: usize,
    computes: [Compute; 2],
    progress: &mut dyn FnMut(usize, usize),
) -> Result<Agreement, LabError> {
    let subsets = (steps / (2 * EPOCHS)).clamp(1, 10);
    let settings = LabSettings {
        lanes: vec![LaneMethod::Hbat],
        preference: Preference::Dpo,
        subsets,
        examples: subsets * BATCH,
        ..settings.clone()
    };
    let [left, right] = computes;
    let mut labs = [Lab::new(settings.clone(), left).await?, Lab::new(settings, right).await?];
    let total = labs[0].lanes[0].steps();
    let gradients = apart(&gradients(&labs[0]).await?, &gradients(&labs[1]).await?);
    let (mut loss, mut importance, mut done) = (0.0f64, 0.0f64, 0);
    loop {
        let [left, right] = &mut labs;
        match (left.lanes[0].trainer.step().await?, right.lanes[0].trainer.step().await?) {
            (Event::Step(a), Event::Step(b)) => {
                loss = loss.max((a.loss - b.loss).abs() / a.loss.abs());
                done += 1;
                progress(done, total);
            }
            (Event::PhaseStarted(a), Event::PhaseStarted(b)) => {
                if let (Some(a), Some(b)) = (a.importance, b.importance) {
                    importance = importance.max(apart(&[a.importance], &[b.importance]));
                }
            }
            (Event::Finished, Event::Finished) => break,
            _ => {}
        }
    }
    let weights = apart(&weights(&labs[0].lanes[0]).await?, &weights(&labs[1].lanes[0]).await?);
    let rows =
        [("loss", loss, 1e-3), ("gradients", gradients, 1e-3), ("importance", importance, 5e-2), ("weights", weights, 1e-2)];
    let row = |(what, largest, tolerance)| AgreementRow { what, largest, tolerance, ok: largest <= tolerance };
    Ok(Agreement { steps: done, rows: rows.map(row).into() })
}

/// The largest of max |a − b| / max |a| over all tensors.
fn apart(left: &[Vec<f64>], right: &[Vec<f64>]) -> f64 {
    let largest = |values: &mut dyn Iterator<Item = f64>| values.fold(0.0, |most, value| f64::max(most, value.abs()));
    let tensor = |(a, b): (&Vec<f64>, &Vec<f64>)| {
        let difference = largest(&mut a.iter().zip(b).map(|(a, b)| a - b));
        if difference == 0.0 { 0.0 } else { difference / largest(&mut a.iter().copied()) }
    };
    left.iter().zip(right).map(tensor).fold(0.0, f64::max)
}

/// Both objectives' gradients at a lab's start, unit by unit.
async fn gradients(lab: &Lab) -> Result<Vec<Vec<f64>>, LabError> {
    let gauge: &Gauge = &lab.gauge;
    let [sft, dpo] = gauge.gradients(lab.lanes[0].policy(), &lab.settings).await?.map(Accumulate::into_sums);
    let mut values = Vec::new();
    for gradient in sft.into_iter().chain(dpo).flatten() {
        values.push(wide(floats(gradient.into_data_async().await.map_err(Error::device)?)?));
    }
    Ok(values)
}

async fn weights(lane: &Lane) -> Result<Vec<Vec<f64>>, LabError> {
    let mut values = Vec::new();
    for unit in 0..lane.policy().units().len() {
        values.push(wide(lane.policy().values(unit).await?));
    }
    Ok(values)
}

fn wide(values: Vec<f32>) -> Vec<f64> {
    values.into_iter().map(f64::from).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn differences_are_relative_to_each_tensors_largest_number() {
        let a = [vec![1.0, -4.0], vec![1e-6, 0.0]];
        assert_eq!(apart(&a, &a), 0.0);
        assert_eq!(apart(&a, &[vec![1.0, -3.0], vec![1e-6, 0.0]]), 0.25);
        assert_eq!(apart(&a, &[vec![1.0, -4.0], vec![1e-6, 5e-7]]), 0.5);
        assert_eq!(apart(&[vec![0.0]], &[vec![1.0]]), f64::INFINITY);
    }
}
