//! One decoder layer: forward, and backward in closed form from what the forward pass kept.

use burn::tensor::{FloatDType, Tensor};

use super::LlamaConfig;
use crate::compute::{Compute, Kernels, Products};
use crate::engine::Texts;
use crate::kernel::attention::{Attention, Mask, attention, attention_backward};
use crate::kernel::norm::{norm, norm_backward};
use crate::kernel::product::{added_product, lasting_product, open_product, product, summed_product};
use crate::kernel::rotary::{Angles, Rotary, Turn};
use crate::kernel::swiglu::{swiglu, swiglu_backward};
use crate::kernel::{kind, wide};

/// What all layers of one forward pass share.
#[derive(Debug, Clone)]
pub(crate) struct LayerInput {
    pub(crate) places: Places,
    mask: Mask,
}

impl LayerInput {
    /// For these texts.
    pub(crate) fn new(config: &LlamaConfig, texts: &Texts, compute: &Compute) -> Self {
        let (device, angles) = (&compute.device, Angles::new(config, texts.width));
        let (rotary, owners) = match texts.packed() {
            false => (Rotary::new(angles, device), None),
            true => (Rotary::at(&angles, &texts.places(), device), Some(texts.owners())),
        };
        let mask = Mask::new(texts.width, owners.as_deref(), compute);
        Self { places: Places::new(config, rotary, compute), mask }
    }

    /// How matrices are multiplied.
    pub(crate) fn products(&self) -> Products {
        self.places.products()
    }
}

/// Where the tokens of a forward pass stand in their texts, and how layers compute on them, whoever sees whom.
#[derive(Debug, Clone)]
pub(crate) struct Places {
    rotary: Rotary,
    pub(crate) attention: Attention,
    kernels: Option<Kernels>,
    eps: f64,
    extras: &'static [LayerUnit],
}

impl Places {
    /// For tokens that are turned so.
    pub(crate) fn new(config: &LlamaConfig, rotary: Rotary, compute: &Compute) -> Self {
        let attention = Attention { heads: config.heads(), products: compute.layout.precision.products };
        let (kernels, extras) = (compute.layout.kernels, config.extras());
        Self { rotary, attention, kernels, eps: config.rms_norm_eps, extras }
    }

    fn products(&self) -> Products {
        self.attention.products
    }

    fn turned(&self, x: Tensor<2>, turn: Turn, to: FloatDType) -> Tensor<2> {
        self.rotary.turn(x, self.attention.heads.dim, turn, (to, self.kernels))
    }
}

/// A layer's tensors. Those that all families have stand at their number among its units, the others behind them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum LayerUnit {
    AttentionNorm,
    FeedForwardNorm,
    Query,
    Key,
    Value,
    Output,
    Gate,
    Up,
    Down,
    QueryBias,
    KeyBias,
    ValueBias,
    OutputBias,
    QueryNorm,
    KeyNorm,
}

impl LayerUnit {
    /// What every family's layers have.
    pub(crate) const OF_ALL: [Self; 9] = [
        Self::AttentionNorm,
        Self::FeedForwardNorm,
        Self::Query,
        Self::Key,
        Self::Value,
        Self::Output,
        Self::Gate,
        Self::Up,
        Self::Down,
    ];

    /// The name in a checkpoint, within the layer.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::AttentionNorm => "input_layernorm.weight",
            Self::FeedForwardNorm => "post_attention_layernorm.weight",
            Self::Query => "self_attn.q_proj.weight",
            Self::Key => "self_attn.k_proj.weight",
            Self::Value => "self_attn.v_proj.weight",
            Self::Output => "self_attn.o_proj.weight",
            Self::Gate => "mlp.gate_proj.weight",
            Self::Up => "mlp.up_proj.weight",
            Self::Down => "mlp.down_proj.weight",
            Self::QueryBias => "self_attn.q_proj.bias",
            Self::KeyBias => "self_attn.k_proj.bias",
            Self::ValueBias => "self_attn.v_proj.bias",
            Self::OutputBias => "self_attn.o_proj.bias",
            Self::QueryNorm => "self_attn.q_norm.weight",
            Self::KeyNorm => "self_attn.k_norm.weight",
        }
    }

    /// The bias that some models add to this projection's result.
    pub(crate) fn bias(self) -> Option<Self> {
        match self {
            Self::Query => Some(Self::QueryBias),
            Self::Key => Some(Self::KeyBias),
            Self::Value => Some(Self::ValueBias),
            Self::Output => Some(Self::OutputBias),
            _ => None,
        }
    }

    /// The norm that every head of this projection's result goes through in some models.
    pub(crate) fn head_norm(self) -> Option<Self> {
        match self {
            Self::Query => Some(Self::QueryNorm),
            Self::Key => Some(Self::KeyNorm),
            _ => None,
        }
    }

    /// The place among a layer's units, if the layer has it.
    pub(crate) fn place(self, extras: &[Self]) -> Option<usize> {
        let common = Self::OF_ALL.len();
        match (self as usize) < common {
            true => Some(self as usize),
            false => extras.iter().position(|extra| *extra == self).map(|place| common + place),
        }
    }
}

/// One layer.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Layer<'a> {
    /// Its weights, in the order of [`LlamaConfig::units`].
    weights: &'a [Tensor<2>],
    extras: &'static [LayerUnit],
    products: Products,
    kernels: Option<Kernels>,
    eps: f64,
}

/// What a forward pass keeps besides its input, so that the backward pass need not repeat it. All `[N, ..]` with N = B·T.
#[derive(Debug)]
pub(crate) struct Kept {
    query: Tensor<2>,
    key: Tensor<2>,
    value: Tensor<2>,
    context: Tensor<2>,
    inner: Inner,
}

impl Kept {
    /// Keys, turned, and values, `[N, KV·hd]` each.
    pub(crate) fn keys_and_values(self) -> [Tensor<2>; 2] {
        [self.key, self.value]
    }
}

/// The residual stream between a layer's halves, `[N, D]`, and the factors of the activation, `[N, F]`.
#[derive(Debug)]
pub(crate) struct Inner {
    middle: Tensor<2>,
    gate: Tensor<2>,
    up: Tensor<2>,
}

impl<'a> Layer<'a> {
    /// With these weights.
    pub(crate) fn new(weights: &'a [Tensor<2>], places: &Places) -> Self {
        let Places { extras, kernels, eps, .. } = *places;
        Self { weights, extras, products: places.products(), kernels, eps }
    }

    /// Everything up to the activation: what [`backward`](Self::backward) needs.
    pub(crate) fn keep(&self, input: Tensor<2>, shared: &LayerInput) -> Kept {
        let [query, key, value] = self.heads(input.clone(), &shared.places);
        let (mask, how) = (shared.mask.clone(), shared.places.attention);
        let context = attention(query.clone(), key.clone(), value.clone(), mask, how);
        let inner = self.inner(input, context.clone());
        Kept { query, key, value, context, inner }
    }

    /// What attention reads of tokens: queries `[N, H·hd]` and keys `[N, KV·hd]`, turned, and values `[N, KV·hd]`.
    pub(crate) fn heads(&self, input: Tensor<2>, places: &Places) -> [Tensor<2>; 3] {
        let normed = self.norm(input, LayerUnit::AttentionNorm);
        let kept = kind(&normed);
        let [query, key] = [LayerUnit::Query, LayerUnit::Key].map(|unit| {
            let heads = self.open_project(normed.clone(), unit);
            places.turned(self.norm_heads(heads, unit), Turn::Forward, kept)
        });
        [query, key, self.project(normed, LayerUnit::Value)]
    }

    /// A projection's heads through their norm, where the model has one, `[N, heads·hd]`.
    fn norm_heads(&self, x: Tensor<2>, unit: LayerUnit) -> Tensor<2> {
        match self.head_norm(unit) {
            Some(weight) => {
                let (dims, heads) = (x.dims(), by_head(x, &weight));
                norm(heads, weight, self.eps, self.kernels).reshape(dims)
            }
            None => x,
        }
    }

    /// The gradient of what the heads' norm reads, and of its weight; the projection is computed again from `normed`.
    fn norm_heads_backward(&self, normed: &Tensor<2>, unit: LayerUnit, dy: Tensor<2>) -> (Tensor<2>, Option<Tensor<2>>) {
        let Some(weight) = self.head_norm(unit) else { return (dy, None) };
        let dims = dy.dims();
        let [x, dy] = [self.open_project(normed.clone(), unit), wide(dy)].map(|x| by_head(x, &weight));
        let (dx, weight) = norm_backward([x, weight, dy], None, self.eps, self.kernels);
        (dx.reshape(dims).cast(kind(normed)), Some(weight))
    }

    /// From attention's context `[N, H·hd]` to the activation.
    pub(crate) fn inner(&self, input: Tensor<2>, context: Tensor<2>) -> Inner {
        let middle = self.project_onto(input, context, LayerUnit::Output);
        let normed = self.norm(middle.clone(), LayerUnit::FeedForwardNorm);
        let (gate, up) = (self.project(normed.clone(), LayerUnit::Gate), self.project(normed, LayerUnit::Up));
        Inner { middle, gate, up }
    }

    /// The residual stream after the layer, `[N, D]`.
    pub(crate) fn output(&self, inner: &Inner) -> Tensor<2> {
        let activated = swiglu(inner.gate.clone(), inner.up.clone(), self.kernels);
        self.project_onto(inner.middle.clone(), activated, LayerUnit::Down)
    }

    /// The same from a layer's input, and what its backward pass needs.
    pub(crate) fn forward(&self, input: Tensor<2>, shared: &LayerInput) -> (Tensor<2>, Kept) {
        let kept = self.keep(input, shared);
        (self.output(&kept.inner), kept)
    }

    fn norm(&self, x: Tensor<2>, unit: LayerUnit) -> Tensor<2> {
        norm(x, self.weight(unit), self.eps, self.kernels)
    }

    /// The gradients of what a norm reads, with what comes around the norm added to it, and of its weight.
    fn norm_backward(&self, x: Tensor<2>, unit: LayerUnit, dy: Tensor<2>, carried: Tensor<2>) -> (Tensor<2>, Tensor<2>) {
        norm_backward([x, self.weight(unit), dy], Some(carried), self.eps, self.kernels)
    }

    fn weight(&self, unit: LayerUnit) -> Tensor<2> {
        self.weights[unit as usize].clone()
    }

    /// `x` · W + b.
    fn project(&self, x: Tensor<2>, unit: LayerUnit) -> Tensor<2> {
        let kept = kind(&x);
        match self.bias(unit) {
            Some(_) => self.open_project(x, unit).cast(kept),
            None => self.product(x, self.weight(unit)),
        }
    }

    /// `residual` + `x` · W + b.
    fn project_onto(&self, residual: Tensor<2>, x: Tensor<2>, unit: LayerUnit) -> Tensor<2> {
        match self.bias(unit) {
            Some(_) => residual + self.project(x, unit),
            None => added_product(residual, x, self.weight(unit), self.products),
        }
    }

    /// The same in f32, for what is computed on before it is rounded.
    fn open_project(&self, x: Tensor<2>, unit: LayerUnit) -> Tensor<2> {
        let product = open_product(x, self.weight(unit), self.products);
        match self.bias(unit) {
            Some(bias) => product + bias,
            None => product,
        }
    }

    fn bias(&self, unit: LayerUnit) -> Option<Tensor<2>> {
        unit.bias().and_then(|bias| self.extra(bias))
    }

    fn head_norm(&self, unit: LayerUnit) -> Option<Tensor<2>> {
        unit.head_norm().and_then(|norm| self.extra(norm))
    }

    /// A tensor that not every model has.
    fn extra(&self, unit: LayerUnit) -> Option<Tensor<2>> {
        unit.place(self.extras).map(|place| self.weights[place].clone())
    }

    /// `dy` · Wᵀ.
    fn back(&self, dy: &Tensor<2>, unit: LayerUnit) -> Tensor<2> {
        self.product(dy.clone(), self.weight(unit).transpose())
    }

    /// The sum of several of these in f32.
    fn sum_back<const N: usize>(&self, parts: [(&Tensor<2>, LayerUnit); N]) -> Tensor<2> {
        let sum = parts
            .into_iter()
            .fold(None, |sum, (dy, unit)| Some(summed_product(sum, dy.clone(), self.weight(unit).transpose(), self.products)));
        sum.expect("one at least")
    }

    /// The gradient of a unit's weights.
    fn weight_gradient(&self, x: Tensor<2>, dy: &Tensor<2>) -> Tensor<2> {
        let multiply = if self.kernels.is_some() { lasting_product } else { product };
        multiply(x.transpose(), dy.clone(), self.products)
    }

    fn product(&self, left: Tensor<2>, right: Tensor<2>) -> Tensor<2> {
        product(left, right, self.products)
    }

    /// The gradient with respect to the layer's input, `[N, D]`, and with respect to its tensors in unit order.
    pub(crate) fn backward(
        &self,
        input: Tensor<2>,
        kept: Kept,
        dy: Tensor<2>,
        shared: &LayerInput,
    ) -> (Tensor<2>, Vec<Tensor<2>>) {
        let (middle_gradient, feed_forward) = self.feed_forward_backward(&kept.inner, dy);
        let (input_gradient, attention) = self.attention_backward(input, kept, middle_gradient, shared);
        let [norm, query, key, value, output] = attention.weights;
        let [feed_forward_norm, gate, up, down] = feed_forward;
        let mut gradients = vec![norm, feed_forward_norm, query, key, value, output, gate, up, down];
        gradients.extend(attention.extras);
        (input_gradient, gradients)
    }

    fn feed_forward_backward(&self, inner: &Inner, dy: Tensor<2>) -> (Tensor<2>, [Tensor<2>; 4]) {
        let da = self.back(&dy, LayerUnit::Down); // [N, F]
        let [dg, du, activated] = swiglu_backward(inner.gate.clone(), inner.up.clone(), da, self.kernels);
        let down = self.weight_gradient(activated, &dy); // [F, D]
        let normed = self.norm(inner.middle.clone(), LayerUnit::FeedForwardNorm);
        let (gate, up) = (self.weight_gradient(normed.clone(), &dg), self.weight_gradient(normed, &du));
        let dn = self.sum_back([(&dg, LayerUnit::Gate), (&du, LayerUnit::Up)]);
        let (dx, norm) = self.norm_backward(inner.middle.clone(), LayerUnit::FeedForwardNorm, dn, dy);
        (dx, [norm, gate, up, down])
    }

    fn attention_backward(
        &self,
        input: Tensor<2>,
        kept: Kept,
        dy: Tensor<2>,
        shared: &LayerInput,
    ) -> (Tensor<2>, AttentionGradients) {
        let output = self.weight_gradient(kept.context.clone(), &dy);
        let dc = self.back(&dy, LayerUnit::Output);
        let qkv = [kept.query, kept.key, kept.value];
        let [dq, dk, dv] = attention_backward(qkv, dc, shared.mask.clone(), shared.places.attention);
        // What goes on through a norm is not rounded before.
        let to = if self.head_norm(LayerUnit::Query).is_some() { FloatDType::F32 } else { kind(&dy) };
        let [dq, dk] = [dq, dk].map(|d| shared.places.turned(d, Turn::Backward, to));
        let normed = self.norm(input.clone(), LayerUnit::AttentionNorm);
        let (dq, query_norm) = self.norm_heads_backward(&normed, LayerUnit::Query, dq);
        let (dk, key_norm) = self.norm_heads_backward(&normed, LayerUnit::Key, dk);
        let [query, key, value] = [&dq, &dk, &dv].map(|d| self.weight_gradient(normed.clone(), d));
        let sum = |d: &Tensor<2>| Some(wide(d.clone()).sum_dim(0));
        let extra = |unit: &LayerUnit| match unit {
            LayerUnit::QueryBias => sum(&dq),
            LayerUnit::KeyBias => sum(&dk),
            LayerUnit::ValueBias => sum(&dv),
            LayerUnit::OutputBias => sum(&dy),
            LayerUnit::QueryNorm => query_norm.clone(),
            LayerUnit::KeyNorm => key_norm.clone(),
            _ => None,
        };
        let extras = self.extras.iter().filter_map(extra).collect();
        let dn = self.sum_back([(&dq, LayerUnit::Query), (&dk, LayerUnit::Key), (&dv, LayerUnit::Value)]);
        let (dx, norm) = self.norm_backward(input, LayerUnit::AttentionNorm, dn, dy);
        (dx, AttentionGradients { weights: [norm, query, key, value, output], extras })
    }
}

/// Gradients of the attention half: norm, query, key, value, output; and of what the model has besides.
struct AttentionGradients {
    weights: [Tensor<2>; 5],
    extras: Vec<Tensor<2>>,
}

/// `[N, heads·hd]` as a row per head, of which `weight` `[1, hd]` says how wide it is.
fn by_head(x: Tensor<2>, weight: &Tensor<2>) -> Tensor<2> {
    let ([rows, columns], [_, dim]) = (x.dims(), weight.dims());
    x.reshape([rows * columns / dim, dim])
}
