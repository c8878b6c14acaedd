//! Rotary position embedding, rotate-half convention (Hugging Face's LLaMA, not the interleaved pairs of the RoFormer paper).

use burn::tensor::{Device, FloatDType, Tensor, TensorData};

use super::wide;
use crate::compute::Kernels;
use crate::model::{LlamaConfig, RopeScaling};

/// Cosines and sines of the first positions, f32 whatever the model computes in.
#[derive(Debug, Clone)]
pub(crate) struct Angles {
    half: usize,
    cos: Vec<f32>,
    sin: Vec<f32>,
}

impl Angles {
    /// For positions 0 to `width` − 1.
    pub(crate) fn new(config: &LlamaConfig, width: usize) -> Self {
        Self::of(config, 0..width)
    }

    /// For these positions, one after the other.
    pub(crate) fn of(config: &LlamaConfig, positions: impl Iterator<Item = usize>) -> Self {
        let frequencies = frequencies(config);
        let angles: Vec<f32> = positions.flat_map(|p| frequencies.iter().map(move |f| p as f32 * f)).collect();
        let table = |f: fn(f32) -> f32| angles.iter().map(|&a| f(a)).collect();
        Self { half: frequencies.len(), cos: table(f32::cos), sin: table(f32::sin) }
    }

    /// Half the width of a head: the number of angles per position.
    pub(crate) fn half(&self) -> usize {
        self.half
    }

    /// The cosines of a position, `[head_dim / 2]`.
    pub(crate) fn cos(&self, position: usize) -> &[f32] {
        &self.cos[position * self.half..][..self.half]
    }

    /// The sines of a position, `[head_dim / 2]`.
    pub(crate) fn sin(&self, position: usize) -> &[f32] {
        &self.sin[position * self.half..][..self.half]
    }
}

/// [`Angles`] on a device, `[T, head_dim / 2]` each.
#[derive(Debug, Clone)]
pub(crate) struct Rotary {
    cos: Tensor<2>,
    sin: Tensor<2>,
    minus_sin: Tensor<2>,
}

/// Which way to turn.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Turn {
    /// The embedding itself.
    Forward,
    /// Its transpose, which is its inverse: what a gradient goes through.
    Backward,
}

impl Rotary {
    /// For a table of every row's own positions, which need not count up from 0.
    pub(crate) fn at(angles: &Angles, positions: &[usize], device: &Device) -> Self {
        let table = |of: fn(&Angles, usize) -> &[f32]| positions.iter().flat_map(|p| of(angles, *p).iter().copied()).collect();
        Self::new(Angles { half: angles.half, cos: table(Angles::cos), sin: table(Angles::sin) }, device)
    }

    /// The tables' tensors.
    pub(crate) fn new(angles: Angles, device: &Device) -> Self {
        let shape = [angles.cos.len() / angles.half, angles.half];
        let table = |values| Tensor::from_data(TensorData::new(values, shape), device);
        let minus = angles.sin.iter().map(|sin| -sin).collect();
        Self { cos: table(angles.cos), sin: table(angles.sin), minus_sin: table(minus) }
    }

    /// Turns the heads of `x` `[B·T, heads · head_dim]`, where T is the number of positions of the table. f32 need not be rounded first.
    pub(crate) fn turn(&self, x: Tensor<2>, head_dim: usize, turn: Turn, how: (FloatDType, Option<Kernels>)) -> Tensor<2> {
        let (to, kernels) = how;
        let sin = match turn {
            Turn::Forward => self.sin.clone(),
            Turn::Backward => self.minus_sin.clone(),
        };
        if let Some(own) = kernels {
            return (own.turn)(x, self.cos.clone(), sin, to);
        }
        let [rows, columns] = x.dims();
        let [width, half] = self.cos.dims();
        let x = wide(x).reshape([rows / width, width, columns / head_dim, head_dim]); // [B, T, H, hd]
        let first = x.clone().narrow(3, 0, half);
        let second = x.narrow(3, half, half);
        let cos = self.cos.clone().reshape([1, width, 1, half]);
        let sin = sin.reshape([1, width, 1, half]);
        let turned_first = first.clone() * cos.clone() - second.clone() * sin.clone();
        let turned_second = second * cos + first * sin;
        Tensor::cat(vec![turned_first, turned_second], 3).reshape([rows, columns]).cast(to)
    }
}

/// θ^(−2i/d), scaled as the configuration says; in f32, step by step as transformers computes them.
fn frequencies(config: &LlamaConfig) -> Vec<f32> {
    let (theta, d) = (config.rope_theta as f32, config.head_dim);
    (0..d / 2)
        .map(|i| 1.0 / theta.powf((2 * i) as f32 / d as f32))
        .map(|f| match &config.rope_scaling {
            RopeScaling::Default => f,
            RopeScaling::Linear { factor } => f / *factor as f32,
            RopeScaling::Llama3 { .. } => llama3(f, &config.rope_scaling),
        })
        .collect()
}

fn llama3(frequency: f32, scaling: &RopeScaling) -> f32 {
    let RopeScaling::Llama3 { factor, low_freq_factor, high_freq_factor, original_max_position_embeddings } = scaling else {
        return frequency;
    };
    let (factor, low, high, original) =
        (*factor as f32, *low_freq_factor as f32, *high_freq_factor as f32, *original_max_position_embeddings as f32);
    let wavelength = 2.0 * std::f32::consts::PI / frequency;
    if wavelength < original / high {
        frequency
    } else if wavelength > original / low {
        frequency / factor
    } else {
        let smooth = (original / wavelength - low) / (high - low);
        (1.0 - smooth) * frequency / factor + smooth * frequency
    }
}
