//! One decoder layer over ordinary memory, step by step what [`model::Layer`](crate::model) does with tensors.

use std::ops::Range;

use burn::tensor::Tensor;

use super::attention::{Input, attention, attention_backward};
use super::few::{add_few, few};
use super::matrix::{Matrix, Write, multiplied, product};
use super::norm::{rms_norm, rms_norm_backward};
use super::rotary::turn;
use super::swiglu::{swiglu, swiglu_backward};
use super::weight::{Weight, tensor};
use crate::kernel::attention::Heads;
use crate::kernel::rotary::{Angles, Turn};
use crate::model::LayerUnit;

/// What all layers share.
#[derive(Debug)]
pub(super) struct Shared {
    /// Where each sequence's rows lie, without padding between them.
    pub(super) sequences: Vec<Range<usize>>,
    /// Where every row's angles stand among them.
    pub(super) positions: Vec<usize>,
    pub(super) angles: Angles,
    pub(super) heads: Heads,
    pub(super) eps: f32,
    /// What layers have beyond the tensors that all families' have.
    pub(super) extras: &'static [LayerUnit],
}

/// What a forward pass keeps besides its input, `[N, ..]` each.
#[derive(Debug)]
pub(crate) struct Kept {
    query: Vec<f32>,
    pub(super) key: Vec<f32>,
    pub(super) value: Vec<f32>,
    context: Vec<f32>,
    log_sums: Vec<Vec<f32>>,
    inner: Inner,
}

/// The residual stream between a layer's halves, and the factors of the activation, `[N, ..]` each.
#[derive(Debug)]
pub(super) struct Inner {
    middle: Vec<f32>,
    gate: Vec<f32>,
    up: Vec<f32>,
}

/// A layer's weights, read when they are needed.
pub(super) struct Layer<'a> {
    pub(super) tensors: &'a [Tensor<2>],
    pub(super) shared: &'a Shared,
}

impl Layer<'_> {
    /// Everything up to the activation: what [`backward`](Self::backward) needs.
    pub(super) fn keep(&self, input: &[f32]) -> Kept {
        let [query, key, value] = self.heads(input);
        let read = Input { query: &query, key: &key, value: &value };
        let (context, log_sums) = attention(read, &self.shared.sequences, self.shared.heads);
        let inner = self.inner(input, &context);
        Kept { query, key, value, context, log_sums, inner }
    }

    /// What attention reads: queries and keys, turned, and values.
    pub(super) fn heads(&self, input: &[f32]) -> [Vec<f32>; 3] {
        let normed = rms_norm(input, self.weight(LayerUnit::AttentionNorm).values(), self.shared.eps);
        let [mut query, mut key, value] =
            [LayerUnit::Query, LayerUnit::Key, LayerUnit::Value].map(|unit| self.project(&normed, unit));
        self.norm_heads(&mut query, LayerUnit::Query);
        self.norm_heads(&mut key, LayerUnit::Key);
        self.turn(&mut query, Turn::Forward);
        self.turn(&mut key, Turn::Forward);
        [query, key, value]
    }

    /// From attention's context to the activation.
    pub(super) fn inner(&self, input: &[f32], context: &[f32]) -> Inner {
        let mut middle = input.to_vec();
        self.add_product(context, LayerUnit::Output, &mut middle);
        let normed = rms_norm(&middle, self.weight(LayerUnit::FeedForwardNorm).values(), self.shared.eps);
        let (gate, up) = (self.project(&normed, LayerUnit::Gate), self.project(&normed, LayerUnit::Up));
        Inner { middle, gate, up }
    }

    /// The residual stream after the layer.
    pub(super) fn output(&self, inner: &Inner) -> Vec<f32> {
        let mut output = inner.middle.clone();
        self.add_product(&swiglu(&inner.gate, &inner.up), LayerUnit::Down, &mut output);
        output
    }

    /// The same from a layer's input, and what its backward pass needs.
    pub(super) fn forward(&self, input: &[f32]) -> (Vec<f32>, Kept) {
        let kept = self.keep(input);
        (self.output(&kept.inner), kept)
    }

    /// Turns the gradient with respect to the layer's output into that with respect to its input; returns the gradients
    /// of its tensors in unit order.
    pub(super) fn backward(&self, input: &[f32], mut kept: Kept, gradient: &mut [f32]) -> Vec<Tensor<2>> {
        let [feed_forward_norm, gate, up, down] = self.feed_forward_backward(&mut kept.inner, gradient);
        let ([norm, query, key, value, output], extras) = self.attention_backward(input, kept, gradient);
        let mut gradients = vec![norm, feed_forward_norm, query, key, value, output, gate, up, down];
        gradients.extend(extras);
        let tensors = gradients.into_iter().zip(self.tensors);
        tensors.map(|(values, like)| tensor(values, like.dims(), &like.device())).collect()
    }

    fn feed_forward_backward(&self, inner: &mut Inner, gradient: &mut [f32]) -> [Vec<f32>; 4] {
        let rows = self.shared.positions.len();
        let mut activated = self.back(gradient, LayerUnit::Down); // d activation, for the moment
        swiglu_backward(&mut inner.gate, &mut inner.up, &mut activated);
        let (dg, du) = (&inner.gate, &inner.up);
        let down = outer(&activated, gradient, rows);
        drop(activated);
        let weight = self.weight(LayerUnit::FeedForwardNorm);
        let normed = rms_norm(&inner.middle, weight.values(), self.shared.eps);
        let (gate, up) = (outer(&normed, dg, rows), outer(&normed, du, rows));
        let mut dn = self.back(dg, LayerUnit::Gate);
        self.add_back(du, LayerUnit::Up, &mut dn);
        let norm = rms_norm_backward(&inner.middle, weight.values(), &dn, self.shared.eps, gradient);
        [norm, gate, up, down]
    }

    /// Gradients of norm, query, key, value, output; and of what the model has besides.
    fn attention_backward(&self, input: &[f32], kept: Kept, gradient: &mut [f32]) -> ([Vec<f32>; 5], Vec<Vec<f32>>) {
        let rows = self.shared.positions.len();
        let output = outer(&kept.context, gradient, rows);
        let dc = self.back(gradient, LayerUnit::Output);
        let read = Input { query: &kept.query, key: &kept.key, value: &kept.value };
        let [mut dq, mut dk, dv] =
            attention_backward(read, (&kept.context, &dc), &kept.log_sums, &self.shared.sequences, self.shared.heads);
        drop((kept, dc));
        self.turn(&mut dq, Turn::Backward);
        self.turn(&mut dk, Turn::Backward);
        let weight = self.weight(LayerUnit::AttentionNorm);
        let normed = rms_norm(input, weight.values(), self.shared.eps);
        let query_norm = self.norm_heads_backward(&normed, LayerUnit::Query, &mut dq);
        let key_norm = self.norm_heads_backward(&normed, LayerUnit::Key, &mut dk);
        let extra = |unit: &LayerUnit| match unit {
            LayerUnit::QueryBias => Some(sum_of_rows(&dq, rows)),
            LayerUnit::KeyBias => Some(sum_of_rows(&dk, rows)),
            LayerUnit::ValueBias => Some(sum_of_rows(&dv, rows)),
            LayerUnit::OutputBias => Some(sum_of_rows(gradient, rows)),
            LayerUnit::QueryNorm => query_norm.clone(),
            LayerUnit::KeyNorm => key_norm.clone(),
            _ => None,
        };
        let extras = self.shared.extras.iter().filter_map(extra).collect();
        let [query, key, value] = [&dq, &dk, &dv].map(|d| outer(&normed, d, rows));
        let mut dn = self.back(&dq, LayerUnit::Query);
        self.add_back(&dk, LayerUnit::Key, &mut dn);
        self.add_back(&dv, LayerUnit::Value, &mut dn);
        let norm = rms_norm_backward(input, weight.values(), &dn, self.shared.eps, gradient);
        ([norm, query, key, value, output], extras)
    }

    fn weight(&self, unit: LayerUnit) -> Weight {
        Weight::new(self.tensors[unit as usize].clone())
    }

    fn turn(&self, x: &mut [f32], way: Turn) {
        turn(x, &self.shared.positions, &self.shared.angles, way);
    }

    /// `x` `[N, in]` as a matrix.
    fn matrix<'a>(&self, x: &'a [f32]) -> Matrix<'a> {
        let rows = self.shared.positions.len();
        Matrix::new(x, rows, x.len() / rows)
    }

    /// `x` · W + b.
    fn project(&self, x: &[f32], unit: LayerUnit) -> Vec<f32> {
        let mut out = vec![0.0; self.shared.positions.len() * self.tensors[unit as usize].dims()[1]];
        self.add_product(x, unit, &mut out);
        out
    }

    /// `out` + `x` · W + b.
    fn add_product(&self, x: &[f32], unit: LayerUnit, out: &mut [f32]) {
        let weight = &self.tensors[unit as usize];
        match few(self.shared.positions.len(), weight) {
            true => add_few(x, weight, out),
            false => product(self.matrix(x), self.weight(unit).matrix(), out, Write::Add),
        }
        self.add_bias(unit, out);
    }

    /// `dy` · Wᵀ.
    fn back(&self, dy: &[f32], unit: LayerUnit) -> Vec<f32> {
        multiplied(self.matrix(dy), self.weight(unit).matrix().transposed())
    }

    /// `out` + `dy` · Wᵀ.
    fn add_back(&self, dy: &[f32], unit: LayerUnit, out: &mut [f32]) {
        product(self.matrix(dy), self.weight(unit).matrix().transposed(), out, Write::Add);
    }

    fn add_bias(&self, unit: LayerUnit, out: &mut [f32]) {
        let Some(bias) = unit.bias().and_then(|bias| self.extra(bias)) else { return };
        for row in out.chunks_exact_mut(bias.values().len()) {
            row.iter_mut().zip(bias.values()).for_each(|(out, bias)| *out += bias);
        }
    }

    /// A projection's heads through their norm, where the model has one.
    fn norm_heads(&self, heads: &mut Vec<f32>, unit: LayerUnit) {
        if let Some(weight) = self.head_norm(unit) {
            *heads = rms_norm(heads, weight.values(), self.shared.eps);
        }
    }

    /// Makes the gradient of what the heads' norm reads of that of what it gives; returns that of its weight. The projection is computed again
    /// from `normed`.
    fn norm_heads_backward(&self, normed: &[f32], unit: LayerUnit, gradient: &mut Vec<f32>) -> Option<Vec<f32>> {
        let weight = self.head_norm(unit)?;
        let heads = self.project(normed, unit);
        let dy = std::mem::replace(gradient, vec![0.0; heads.len()]);
        Some(rms_norm_backward(&heads, weight.values(), &dy, self.shared.eps, gradient))
    }

    fn head_norm(&self, unit: LayerUnit) -> Option<Weight> {
        unit.head_norm().and_then(|norm| self.extra(norm))
    }

    /// A tensor that not every model has.
    fn extra(&self, unit: LayerUnit) -> Option<Weight> {
        unit.place(self.shared.extras).map(|place| Weight::new(self.tensors[place].clone()))
    }
}

fn sum_of_rows(d: &[f32], rows: usize) -> Vec<f32> {
    let mut sum = vec![0.0; d.len() / rows];
    for row in d.chunks_exact(sum.len()) {
        sum.iter_mut().zip(row).for_each(|(sum, d)| *sum += d);
    }
    sum
}

/// `x`ᵀ · `dy`, `[in, out]`: the gradient of a weight.
fn outer(x: &[f32], dy: &[f32], rows: usize) -> Vec<f32> {
    multiplied(Matrix::new(x, rows, x.len() / rows).transposed(), Matrix::new(dy, rows, dy.len() / rows))
}
