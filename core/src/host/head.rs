//! The final norm and the vocabulary head over ordinary memory.

use std::sync::Arc;

use burn::tensor::{Device, Tensor, TensorData};

use super::matrix::{Matrix, Write, multiplied, product};
use super::norm::{rms_norm, rms_norm_backward};
use super::vocabulary::{log_sums, logits_gradient};
use super::weight::{Weight, tensor};
use crate::engine::{Head, HeadGradients};
use crate::model::{LlamaConfig, Policy};

/// Reads the log-probability of response tokens.
pub(crate) struct Vocabulary {
    config: Arc<LlamaConfig>,
    device: Device,
    norm: Weight,
    weight: Weight,
    norm_gradient: Vec<f32>,
    weight_gradient: Vec<f32>,
}

/// A chunk's logits, transposed, `[V, C]`, and the logarithms of their columns' sums of exponentials.
pub(crate) struct Kept {
    logits: Vec<f32>,
    log_sums: Vec<f32>,
}

impl Vocabulary {
    pub(crate) fn new(policy: &Policy) -> Self {
        Self {
            config: policy.shared_config(),
            device: policy.compute().device.clone(),
            norm: Weight::new(policy.norm_weight()),
            weight: Weight::new(policy.tensors()[policy.config().head_index()].clone()),
            norm_gradient: Vec::new(),
            weight_gradient: Vec::new(),
        }
    }

    fn eps(&self) -> f32 {
        self.config.rms_norm_eps as f32
    }

    /// The head as `[V, D]`.
    fn head(&self) -> Matrix<'_> {
        match self.config.head_index() {
            0 => self.weight.matrix(),
            _ => self.weight.matrix().transposed(),
        }
    }

    fn normed(&self, read: &Weight) -> Vec<f32> {
        rms_norm(read.values(), self.norm.values(), self.eps())
    }
}

impl Head for Vocabulary {
    type Kept = Kept;

    fn forward(&self, read: Tensor<2>, targets: &[i32]) -> (Tensor<1>, Kept) {
        let [rows, width] = read.dims();
        let device = read.device();
        let normed = self.normed(&Weight::new(read));
        let logits = multiplied(self.head(), Matrix::new(&normed, rows, width).transposed());
        let log_sums = log_sums(&logits, rows);
        let score = |(i, target): (usize, &i32)| logits[*target as usize * rows + i] - log_sums[i];
        let scores: Vec<f32> = targets.iter().enumerate().map(score).collect();
        (Tensor::from_data(TensorData::new(scores, [rows]), &device), Kept { logits, log_sums })
    }

    fn backward(&mut self, read: Tensor<2>, mut kept: Kept, targets: &[i32], seeds: Tensor<1>) -> Tensor<2> {
        let [rows, width] = read.dims();
        let read = Weight::new(read);
        let normed = self.normed(&read);
        let seeds = seeds.into_data().convert::<f32>();
        logits_gradient(&mut kept.logits, &kept.log_sums, targets, seeds.as_slice().expect("converted to f32"));
        let dlogits = Matrix::new(&kept.logits, self.config.vocab_size, rows); // [V, C]
        let dnormed = multiplied(dlogits.transposed(), self.head());
        let mut gradient = vec![0.0; rows * width];
        let norm = rms_norm_backward(read.values(), self.norm.values(), &dnormed, self.eps(), &mut gradient);
        add(&mut self.norm_gradient, norm);
        self.weight_gradient.resize(self.weight.values().len(), 0.0);
        let normed = Matrix::new(&normed, rows, width);
        match self.config.head_index() {
            0 => product(dlogits, normed, &mut self.weight_gradient, Write::Add), // [V, D]
            _ => product(normed.transposed(), dlogits.transposed(), &mut self.weight_gradient, Write::Add), // [D, V]
        }
        tensor(gradient, [rows, width], &self.device)
    }

    fn gradients(self) -> HeadGradients {
        HeadGradients {
            norm: tensor(self.norm_gradient, self.norm.dims(), &self.device),
            weight: tensor(self.weight_gradient, self.weight.dims(), &self.device),
        }
    }
}

fn add(sum: &mut Vec<f32>, part: Vec<f32>) {
    sum.resize(part.len(), 0.0);
    sum.iter_mut().zip(part).for_each(|(sum, part)| *sum += part);
}
