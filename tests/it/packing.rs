//! Several sequences in a row of a batch are computed as if each were alone.

use burn::tensor::Device;
use hbat::budget::budget;
use hbat::compute::{Compute, Layout, Memory};
use hbat::consolidation::Rule;
use hbat::engine::{Accumulate, Engine};
use hbat::objective::{Dpo, Objective, Sft};
use hbat::reduce::Alone;
use hbat::schedule::{Method, phases};
use hbat::tokens::{Batch, Column, Group};
use hbat::toy::random_policy;
use hbat::trainer::{Data, Settings, Term, Trainer, accumulate};
use hbat_backends::{DeviceName, open};

use crate::fixtures::{block_on, cpu, numbers};
use crate::runs::{close, config, data, finish, largest_difference, schedule, settings};
use crate::support::skip;

fn tensors() -> Compute {
    Compute::device(Device::flex())
}

/// Loss and gradients of one batch.
fn gradients(compute: Compute, engine: Engine, objective: &dyn Objective, batch: Batch) -> (f64, Vec<Vec<f32>>) {
    let policy = random_policy(config(), compute, 5);
    let mut sink = Accumulate::new(policy.units().len());
    let terms = [Term { objective, batches: vec![batch], factor: 1.0 }];
    let reports = block_on(accumulate(engine, &policy, &terms, &mut sink, &Alone)).expect("a gradient");
    (reports[0].loss, sink.into_sums().into_iter().map(|g| numbers(&g.expect("every unit has a gradient"))).collect())
}

/// Groups of uneven lengths for either objective.
fn objectives() -> [(Box<dyn Objective>, Vec<Group>); 2] {
    let Data { demonstrations, mut preferences } = data(9, 7);
    for (i, group) in preferences.iter_mut().enumerate() {
        group.columns.insert(Column::ReferenceLogProb, vec![-20.0 - i as f32, -18.0]);
    }
    [(Box::new(Sft), demonstrations), (Box::new(Dpo::default()), preferences)]
}

fn compare(compute: &Compute, engine: Engine, tolerance: f64) {
    for (objective, groups) in objectives() {
        let padded = gradients(compute.clone(), engine, objective.as_ref(), Batch::new(&groups, 1));
        for width in [1, 16, 40] {
            let batch = Batch::packed(&groups, width);
            assert!(width == 1 || batch.rows < batch.sequences.len(), "nothing shares a row of {width}");
            let (loss, found) = gradients(compute.clone(), engine, objective.as_ref(), batch);
            close("loss", loss, padded.0, tolerance);
            let off = largest_difference(&found, &padded.1);
            assert!(off <= tolerance, "{}, {engine:?}, rows of {width}: off by {off:e}", objective.name());
        }
    }
}

#[test]
fn packed_sequences_have_the_losses_and_gradients_of_padded_ones() {
    for engine in [Engine::Segmented, Engine::Whole, Engine::Autodiff] {
        compare(&cpu(), engine, 1e-5);
        compare(&tensors(), engine, 1e-5);
    }
}

#[test]
fn packed_sequences_have_the_losses_and_gradients_of_padded_ones_on_a_gpu() {
    match open(DeviceName::Wgpu(0)) {
        Ok(device) => compare(&Compute::device(device), Engine::Segmented, 1e-4),
        Err(error) => skip(&error.to_string()),
    }
}

#[test]
fn a_packed_run_is_the_padded_one_in_fewer_passes() {
    let schedule = schedule(Method::Hbat, Rule::Relative);
    let run = |compute, pack, micro_batch| {
        let settings = Settings { pack, micro_batch, ..settings() };
        finish(&mut Trainer::new(random_policy(config(), compute, 5), data(7, 6), phases(&schedule), settings))
    };
    let padded = run(tensors(), None, 6);
    for compute in [cpu(), tensors()] {
        let packed = run(compute, Some(24), 2);
        for (found, expected) in packed.steps().into_iter().zip(padded.steps()) {
            assert_eq!(found.tokens, expected.tokens);
            close("loss", found.loss, expected.loss, 1e-3); // Adam makes rounding visible
        }
    }
    let needs = |pack| {
        let settings = Settings { pack, micro_batch: 64, ..settings() };
        let needs = budget(&config(), Layout::new(Memory::Device), &phases(&schedule), &data(7, 6), &settings).expect("a budget");
        (needs[0].sequences, needs[0].tokens, needs[0].flops)
    };
    assert_eq!(needs(Some(24)), needs(None), "packing changes no sequence");
}
