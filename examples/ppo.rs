//! A reward model of preferences, then SFT, then PPO on what it says: `cargo run --release -p hbat-examples --example ppo`
//!
//! PPO reads the prompts of the pairs alone: the policy answers them, the reward model judges, and a critic that begins as the judge
//! estimates before every token what the rest of the answer will be worth.

use hbat::model::Policy;
use hbat::ppo::{Critics, Ppo};
use hbat::schedule::{Method, Preference, ScheduleSettings, phases};
use hbat::toy::skill;
use hbat::trainer::{Event, Settings, Trainer};
use hbat_examples::{schedule, settings, tiny_judge, tiny_policy, toy_data};

fn main() -> Result<(), hbat::error::Error> {
    let judge = judge()?;
    let critics = Critics::new(&judge, judge.clone(), vec![skill::EOS]);
    let by_ppo = ScheduleSettings { preference: Preference::Ppo, ..schedule(Method::TwoStage) };
    let ppo = Ppo { max_new_tokens: 16, cold_start: 2, value_learning_rate: 2e-3, ..Ppo::default() };
    let settings = Settings { ppo, ..settings() };
    let mut trainer = Trainer::new((tiny_policy(), Some(critics)), toy_data(), phases(&by_ppo), settings);
    loop {
        match pollster::block_on(trainer.step())? {
            Event::PhaseStarted(started) => println!("{}: {} steps", started.phase, started.steps),
            Event::Step(report) if report.objective == "ppo" => {
                let metrics: Vec<String> = report.metrics.iter().map(|(name, value)| format!("{name} {value:.3}")).collect();
                println!("step {:>2}  {}", report.step, metrics.join("  "));
            }
            Event::Finished => return Ok(()),
            _ => {}
        }
    }
}

/// A model that has learned from pairs which answer is the better one.
fn judge() -> Result<Policy, hbat::error::Error> {
    let mut trainer = Trainer::new(tiny_judge(), toy_data(), phases(&schedule(Method::RewardModel)), settings());
    loop {
        match pollster::block_on(trainer.step())? {
            Event::Step(report) if report.step == report.steps => println!("the judge's loss: {:.3}", report.loss),
            Event::Finished => return Ok(trainer.policy().clone()),
            _ => {}
        }
    }
}
