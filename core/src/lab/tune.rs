//! Every lane at its own best β: the comparison in which no method is shown at a setting that suits another.

use serde::Serialize;

use super::lane::Lane;
use super::plane::{Corner, hypervolume};
use super::settings::LaneMethod;
use super::{Ground, Lab, LabError, LabSettings};
use crate::compute::Compute;
use crate::schedule::Preference;
use crate::trainer::Event;

/// The values of DPO's β that are tried, a factor of about two apart.
const BETAS: [f64; 5] = [0.1, 0.2, 0.5, 1.0, 2.0];

/// The values of PPO's β that are tried, a factor of about three apart.
const KL_COEFFICIENTS: [f64; 5] = [0.01, 0.03, 0.1, 0.3, 1.0];

/// What was tried, and how it ended.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Tuned {
    /// Per lane.
    pub lanes: Vec<TunedLane>,
}

/// One method with every β of the way in which preferences are taught.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct TunedLane {
    /// The method.
    pub method: LaneMethod,
    /// In the order of β.
    pub tried: Vec<Tried>,
    /// Which of them ended with the largest hypervolume.
    pub best: usize,
    /// The hypervolume of all ends together: what the method offers to someone who may choose β.
    pub front: f64,
}

/// The end of a run.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Tried {
    /// β.
    pub beta: f64,
    /// Hypervolume of the end.
    pub hypervolume: f64,
    /// SFT loss at the end.
    pub sft_loss: f64,
    /// Preference reward at the end.
    pub reward: f64,
}

/// Trains every lane to its end with five values of DPO's β, or of PPO's; `progress` is told the steps that are done, and of how many.
///
/// # Errors
/// Where preferences are taught without a β; else as [`Lab::new`] and [`Lab::advance`].
pub async fn tune_beta(
    settings: &LabSettings,
    compute: &Compute,
    progress: &mut dyn FnMut(usize, usize),
) -> Result<Tuned, LabError> {
    let betas = betas(settings.preference)?;
    let mut lanes: Vec<TunedLane> =
        settings.lanes.iter().map(|&method| TunedLane { method, tried: Vec::new(), best: 0, front: 0.0 }).collect();
    let mut done = 0;
    let ground = Ground::prepare(settings, compute.clone(), &mut |_, _| Ok::<_, LabError>(())).await?;
    for beta in betas {
        let mut lab = Lab::on(&ground, with_beta(settings, beta))?;
        let total = BETAS.len() * lab.lanes.iter().map(Lane::steps).sum::<usize>();
        for (lane, tuned) in lab.lanes.iter_mut().zip(&mut lanes) {
            while train(lane).await? {
                done += 1;
                progress(done, total);
            }
            let end = lab.gauge.point(lane.policy(), &lab.settings).await?;
            tuned.enter(beta, end, lab.gauge.ideal());
        }
    }
    Ok(Tuned { lanes })
}

fn betas(preference: Preference) -> Result<[f64; 5], LabError> {
    match preference {
        Preference::Dpo => Ok(BETAS),
        Preference::Ppo => Ok(KL_COEFFICIENTS),
        Preference::Rrhf | Preference::Raft => {
            let (value, rule) = (preference.aim().name().into(), "dpo or ppo, which have a β to tune".into());
            Err(LabError::Setting { field: "preference", value, rule })
        }
    }
}

fn with_beta(settings: &LabSettings, beta: f64) -> LabSettings {
    match settings.preference {
        Preference::Ppo => LabSettings { kl_coefficient: beta, ..settings.clone() },
        _ => LabSettings { beta, ..settings.clone() },
    }
}

/// Takes the next optimizer step; false if there is none.
async fn train(lane: &mut Lane) -> Result<bool, LabError> {
    loop {
        match lane.trainer.step().await? {
            Event::Step(_) => return Ok(true),
            Event::Finished => return Ok(false),
            _ => {}
        }
    }
}

impl TunedLane {
    fn enter(&mut self, beta: f64, end: Corner, ideal: Corner) {
        let volume = hypervolume(&[end], ideal);
        if self.tried.iter().all(|tried| tried.hypervolume < volume) {
            self.best = self.tried.len();
        }
        self.tried.push(Tried { beta, hypervolume: volume, sft_loss: end.sft_loss, reward: end.reward });
        let ends = self.tried.iter().map(|tried| Corner { sft_loss: tried.sft_loss, reward: tried.reward });
        self.front = hypervolume(&ends.collect::<Vec<_>>(), ideal);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_best_is_the_first_with_the_largest_hypervolume_and_the_front_is_all_of_them() {
        let ideal = Corner::ideal(0.0);
        let nadir = Corner::NADIR.sft_loss;
        let mut lane = TunedLane { method: LaneMethod::Hbat, tried: vec![], best: 0, front: 0.0 };
        for (beta, loss, reward) in [(0.1, 0.75, 0.5), (0.3, 0.5, 1.0), (1.0, 0.5, 1.0)] {
            lane.enter(beta, Corner { sft_loss: loss * nadir, reward }, ideal);
        }
        assert_eq!(lane.best, 1);
        assert_eq!(lane.tried[1].hypervolume, 0.5);
        assert!((lane.front - 0.5).abs() < 1e-12, "{}", lane.front);
    }
}
