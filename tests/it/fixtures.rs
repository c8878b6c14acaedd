//! Models and numbers made from golden files.

use std::collections::BTreeMap;

use burn::tensor::{Tensor, TensorData};
use hbat::compute::Compute;
use hbat::model::{InitError, LlamaConfig, Policy, Storage, Unit};
use serde_json::Value;

/// The CPU.
pub(crate) fn cpu() -> Compute {
    Compute::host(burn::tensor::Device::flex())
}

/// Runs a future that never waits for anything but the device.
pub(crate) fn block_on<F: Future>(future: F) -> F::Output {
    let runtime = tokio::runtime::Builder::new_current_thread().build().expect("a runtime");
    runtime.block_on(future)
}

/// A golden object of numbers by name.
pub(crate) fn named(value: &Value) -> BTreeMap<String, f64> {
    serde_json::from_value(value.clone()).expect("numbers by name")
}

/// A tensor's elements, whatever their type.
pub(crate) fn numbers(tensor: &Tensor<2>) -> Vec<f32> {
    tensor.to_data().convert::<f32>().try_into_vec::<f32>().expect("f32")
}

/// The golden tensor of a unit, in the layout of [`Unit::dims`].
pub(crate) fn unit_values(weights: &Value, unit: &Unit) -> Vec<f32> {
    let values: Vec<f32> = serde_json::from_value(weights[&unit.name]["data"].clone()).expect("a tensor");
    match unit.storage {
        Storage::AsIs => values,
        Storage::Transposed => {
            let [input, out] = unit.dims();
            (0..input * out).map(|i| values[(i % out) * input + i / out]).collect()
        }
    }
}

/// A policy from a golden config and golden weights.
pub(crate) fn policy(config: &Value, weights: &Value, compute: &Compute) -> Policy {
    let config: LlamaConfig = serde_json::from_value(config.clone()).expect("a config");
    let read = |unit: &Unit| Ok::<_, InitError>(TensorData::new(unit_values(weights, unit), unit.dims()));
    Policy::load(config, compute.clone(), read).expect("weights that fit")
}
