//! Steps of both objectives with and without a penalty, and what a step's time goes into.

use std::sync::Arc;
use std::time::Instant;

use hbat::compute::Compute;
use hbat::engine::Engine;
use hbat::model::{Policy, Unit};
use hbat::objective::{Dpo, Objective, Sft};
use hbat::optimizer::{AdamW, AdamWSettings, Consolidate, Pull};
use hbat::reduce::Alone;
use hbat::tokens::{Batch, Column, Group};
use hbat::trainer::{Term, accumulate};
use hbat::watch::Part;
use hbat_backends::{peak_flops, usage};
use hbat_cli::profile::{self, End, Recorder};
use hbat_tests::{config, median, pull, sequence};
use serde_json::json;

use crate::shape::{Target, policy};

const WIDTH: usize = 1024;
/// Passes, at least, before steps are timed.
const WARM_UP: usize = 2;

struct Bench {
    policy: Policy,
    optimizer: AdamW,
    pull: Pull,
    device: (Target, Compute),
    /// Of a pass.
    rows: usize,
}

/// Steps of one pass, or of several: of each of `passes`.
pub(crate) async fn run(target: Target, shape: &str, rows: usize, steps: usize, passes: &[usize]) {
    let mut bench = Bench::new(target, shape, rows, target.narrowest()).await;
    for passes in passes {
        for objective in ["sft", "dpo"] {
            bench.measure(shape, objective, steps, *passes).await;
        }
    }
}

/// The device is waited for at the beginning and the end of every part, so that a step takes longer than it does unwatched.
pub(crate) async fn profile(target: Target, shape: &str, rows: usize) {
    let compute = target.narrowest();
    let recorder = Arc::new(Recorder::new(End::Done(compute.device.clone())));
    let Bench { mut policy, mut optimizer, pull, .. } = Bench::new(target, shape, rows, compute.watched(recorder.clone())).await;
    for objective in ["sft", "dpo"] {
        let (term, mut seconds) = (term(objective, rows), 0.0);
        for _ in 0..=WARM_UP {
            recorder.take();
            seconds = step(&mut policy, &mut optimizer, Some(&pull), (&term, 1)).await;
        }
        let spans = recorder.take();
        let parts: serde_json::Map<_, _> =
            Part::ALL.iter().map(|part| (part.name().into(), profile::seconds(&spans, *part).into())).collect();
        println!(
            "{}",
            json!({ "part": "profile", "target": target.to_string(), "shape": shape, "objective": objective, "rows": rows, "seconds": seconds, "parts": parts })
        );
    }
}

impl Bench {
    async fn new(target: Target, shape: &str, rows: usize, compute: Compute) -> Self {
        let policy = policy(config(shape), compute.clone());
        let optimizer = AdamW::new(AdamWSettings::default(), policy.units().len());
        let pull = pull(&policy).await;
        Self { policy, optimizer, pull, device: (target, compute), rows }
    }

    /// Steps without and with the penalty take turns, so that both meet the same clocks.
    async fn measure(&mut self, shape: &str, objective: &str, steps: usize, passes: usize) {
        let warm_up = WARM_UP.div_ceil(passes);
        let (mut seconds, term) = ([Vec::new(), Vec::new()], term(objective, self.rows));
        for number in 0..warm_up + steps {
            for (pull, seconds) in [None, Some(&self.pull)].into_iter().zip(&mut seconds) {
                let took = step(&mut self.policy, &mut self.optimizer, pull, (&term, passes)).await;
                if number >= warm_up {
                    seconds.push(took);
                }
            }
        }
        let [free, held] = [median(&seconds[0]), median(&seconds[1])];
        let weights: usize = self.policy.units().iter().map(Unit::elements).sum();
        let (target, compute) = &self.device;
        let tokens = (passes * self.rows * WIDTH) as f64;
        let flops = 6.0 * weights as f64 * tokens / free;
        let peak = peak_flops(target.name, compute.layout.precision.weights.dtype());
        println!(
            "{}",
            json!({ "part": "speed", "target": target.to_string(), "shape": shape, "objective": objective, "rows": self.rows,
                "passes": passes, "width": WIDTH,
                "weights": compute.layout.precision.weights, "tokens_per_second": tokens / free, "model_flops": flops,
                "mfu": peak.map(|peak| flops / peak), "penalty_ratio": held / free, "step_seconds": seconds,
                "memory": usage(target.name, &compute.device).map(|usage| usage.peak) })
        );
    }
}

fn term(objective: &str, rows: usize) -> Work {
    assert!(rows.is_multiple_of(2), "{rows} sequences are no pairs");
    let sequence = |index| sequence(index, (WIDTH / 4, WIDTH), 512);
    let pair = |index| {
        let mut group = Group::preference(index, sequence(2 * index), sequence(2 * index + 1));
        group.columns.insert(Column::ReferenceLogProb, vec![-8000.0, -8000.0]);
        group
    };
    match objective {
        "dpo" => (Box::new(Dpo::default()), (0..rows / 2).map(pair).collect()),
        _ => (Box::new(Sft), (0..rows).map(|index| Group::demonstration(index, sequence(index))).collect()),
    }
}

/// What a step minimises, and on what.
type Work = (Box<dyn Objective>, Vec<Group>);

/// Seconds of a step of so many passes, the device waited for.
async fn step(policy: &mut Policy, optimizer: &mut AdamW, pull: Option<&Pull>, (work, passes): (&Work, usize)) -> f64 {
    let (objective, groups) = work;
    let began = Instant::now();
    let frozen = vec![false; policy.units().len()];
    let mut sink = Consolidate::new(policy, pull, &frozen);
    let terms = [Term { objective: objective.as_ref(), batches: vec![Batch::new(groups, 1); passes], factor: 1.0 }];
    accumulate(Engine::Segmented, policy, &terms, &mut sink, &Alone).await.expect("a gradient");
    let consolidated = sink.into_consolidated();
    optimizer.finish(policy, consolidated, 1e-6).await.expect("a step");
    let last = policy.tensors()[0].clone().slice([0..1, 0..1]);
    last.into_scalar_async::<f32>().await.expect("a number");
    began.elapsed().as_secs_f64()
}
