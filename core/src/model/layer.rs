//! One decoder layer: forward, and backward in closed form from what the forward pass kept.

use burn::tensor::Tensor;

use super::LlamaConfig;
use crate::kernel::attention::{Heads, attention, attention_backward, causal_mask};
use crate::kernel::norm::{rms_norm, rms_norm_backward};
use crate::kernel::rotary::{Rotary, Turn};
use crate::kernel::swiglu::{swiglu, swiglu_backward};
use burn::tensor::Device;

/// What all layers of one forward pass share.
#[derive(Debug, Clone)]
pub(crate) struct LayerInput {
    rotary: Rotary,
    mask: Tensor<2>,
    heads: Heads,
    eps: f64,
}

impl LayerInput {
    /// For `rows` sequences of `width` tokens, the first at position 0.
    pub(crate) fn new(config: &LlamaConfig, rows: usize, width: usize, device: &Device) -> Self {
        let positions: Vec<usize> = (0..width).collect();
        let heads =
            Heads { rows, width, query: config.num_attention_heads, key_value: config.num_key_value_heads, dim: config.head_dim };
        Self {
            rotary: Rotary::new(config, &positions, device),
            mask: causal_mask(width, device),
            heads,
            eps: config.rms_norm_eps,
        }
    }
}

/// The weights of one layer, in the order of [`LlamaConfig::units`].
#[derive(Debug, Clone)]
pub(crate) struct Layer {
    attention_norm: Tensor<2>,
    feed_forward_norm: Tensor<2>,
    query: Tensor<2>,
    key: Tensor<2>,
    value: Tensor<2>,
    output: Tensor<2>,
    gate: Tensor<2>,
    up: Tensor<2>,
    down: Tensor<2>,
    biases: Option<[Tensor<2>; 4]>,
}

/// What a forward pass keeps so that the backward pass need not repeat it. All `[N, ..]` with N = B·T.
#[derive(Debug)]
pub(crate) struct Kept {
    input: Tensor<2>,
    query: Tensor<2>,
    key: Tensor<2>,
    value: Tensor<2>,
    context: Tensor<2>,
    middle: Tensor<2>,
    gate: Tensor<2>,
    up: Tensor<2>,
}

impl Layer {
    /// Takes a layer's tensors in unit order.
    pub(crate) fn new(tensors: &[Tensor<2>]) -> Self {
        let at = |i: usize| tensors[i].clone();
        let biases = (tensors.len() > 9).then(|| [at(9), at(10), at(11), at(12)]);
        Self {
            attention_norm: at(0),
            feed_forward_norm: at(1),
            query: at(2),
            key: at(3),
            value: at(4),
            output: at(5),
            gate: at(6),
            up: at(7),
            down: at(8),
            biases,
        }
    }

    /// The residual stream after this layer, `[N, D]` → `[N, D]`.
    pub(crate) fn forward(&self, input: Tensor<2>, shared: &LayerInput) -> Tensor<2> {
        self.forward_keeping(input, shared).0
    }

    /// Like [`forward`](Self::forward), with what [`backward`](Self::backward) needs.
    pub(crate) fn forward_keeping(&self, input: Tensor<2>, shared: &LayerInput) -> (Tensor<2>, Kept) {
        let dim = shared.heads.dim;
        let normed = rms_norm(input.clone(), self.attention_norm.clone(), shared.eps);
        let [q, k, v] = self.project(normed);
        let query = shared.rotary.turn(q, dim, Turn::Forward);
        let key = shared.rotary.turn(k, dim, Turn::Forward);
        let context = attention(query.clone(), key.clone(), v.clone(), shared.mask.clone(), shared.heads);
        let middle = input.clone() + self.add_bias(context.clone().matmul(self.output.clone()), 3);
        let normed = rms_norm(middle.clone(), self.feed_forward_norm.clone(), shared.eps);
        let gate = normed.clone().matmul(self.gate.clone());
        let up = normed.matmul(self.up.clone());
        let output = middle.clone() + swiglu(gate.clone(), up.clone()).matmul(self.down.clone());
        (output, Kept { input, query, key, value: v, context, middle, gate, up })
    }

    fn project(&self, normed: Tensor<2>) -> [Tensor<2>; 3] {
        let q = self.add_bias(normed.clone().matmul(self.query.clone()), 0);
        let k = self.add_bias(normed.clone().matmul(self.key.clone()), 1);
        let v = self.add_bias(normed.matmul(self.value.clone()), 2);
        [q, k, v]
    }

    fn add_bias(&self, x: Tensor<2>, which: usize) -> Tensor<2> {
        match &self.biases {
            Some(biases) => x + biases[which].clone(),
            None => x,
        }
    }

    /// The gradient with respect to the layer's input, `[N, D]`, and with respect to its tensors in unit order.
    pub(crate) fn backward(&self, kept: Kept, dy: Tensor<2>, shared: &LayerInput) -> (Tensor<2>, Vec<Tensor<2>>) {
        let (middle_gradient, feed_forward) = self.feed_forward_backward(&kept, dy, shared.eps);
        let (input_gradient, attention) = self.attention_backward(kept, middle_gradient, shared);
        let [norm, query, key, value, output] = attention.weights;
        let [feed_forward_norm, gate, up, down] = feed_forward;
        let mut gradients = vec![norm, feed_forward_norm, query, key, value, output, gate, up, down];
        gradients.extend(attention.biases.into_iter().flatten());
        (input_gradient, gradients)
    }

    fn feed_forward_backward(&self, kept: &Kept, dy: Tensor<2>, eps: f64) -> (Tensor<2>, [Tensor<2>; 4]) {
        let activated = swiglu(kept.gate.clone(), kept.up.clone());
        let down = activated.transpose().matmul(dy.clone()); // [F, D]
        let da = dy.clone().matmul(self.down.clone().transpose()); // [N, F]
        let (dg, du) = swiglu_backward(kept.gate.clone(), kept.up.clone(), da);
        let normed = rms_norm(kept.middle.clone(), self.feed_forward_norm.clone(), eps).transpose(); // [D, N]
        let gate = normed.clone().matmul(dg.clone());
        let up = normed.matmul(du.clone());
        let dn = dg.matmul(self.gate.clone().transpose()) + du.matmul(self.up.clone().transpose());
        let (dx, norm) = rms_norm_backward(kept.middle.clone(), self.feed_forward_norm.clone(), dn, eps);
        (dy + dx, [norm, gate, up, down])
    }

    fn attention_backward(&self, kept: Kept, dy: Tensor<2>, shared: &LayerInput) -> (Tensor<2>, AttentionGradients) {
        let output = kept.context.transpose().matmul(dy.clone());
        let dc = dy.clone().matmul(self.output.clone().transpose());
        let qkv = [kept.query, kept.key, kept.value];
        let [dq, dk, dv] = attention_backward(qkv, dc, shared.mask.clone(), shared.heads);
        let dq = shared.rotary.turn(dq, shared.heads.dim, Turn::Backward);
        let dk = shared.rotary.turn(dk, shared.heads.dim, Turn::Backward);
        let normed = rms_norm(kept.input.clone(), self.attention_norm.clone(), shared.eps).transpose(); // [D, N]
        let weights = [&dq, &dk, &dv].map(|d| normed.clone().matmul(d.clone()));
        let biases = self.biases.as_ref().map(|_| [&dq, &dk, &dv, &dy].map(|d| d.clone().sum_dim(0)));
        let dn = dq.matmul(self.query.clone().transpose())
            + dk.matmul(self.key.clone().transpose())
            + dv.matmul(self.value.clone().transpose());
        let (dx, norm) = rms_norm_backward(kept.input, self.attention_norm.clone(), dn, shared.eps);
        let [query, key, value] = weights;
        (dy + dx, AttentionGradients { weights: [norm, query, key, value, output], biases })
    }
}

/// Gradients of the attention half: norm, query, key, value, output; and the four biases where the model has them.
struct AttentionGradients {
    weights: [Tensor<2>; 5],
    biases: Option<[Tensor<2>; 4]>,
}
