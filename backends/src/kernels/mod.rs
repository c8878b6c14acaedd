//! Kernels for what Burn's fusion leaves in many passes over memory, written in CubeCL: they run on every device that has planes
//! (warps, subgroups). What they compute is f32, whatever is read and written; they take part in Burn's fusion and its order of work,
//! not in its autodiff.

mod adamw;
mod attention;
mod embedding;
mod halves;
mod launch;
mod norm;
mod penalty;
mod rotary;
mod softmax;
mod swiglu;
mod vocabulary;

use burn::backend::Dispatch;
use burn::tensor::{FloatDType, Int, Tensor};
use hbat::compute::{AdamWNumbers, AdamWState, Kernels, Split};

use adamw::AdamWKernels;
use attention::AttentionKernels;
use embedding::EmbeddingKernel;
use halves::HalvesKernels;
#[cfg(feature = "cuda")]
pub(crate) use launch::{empty, lasting, owned};
use norm::NormKernels;
use penalty::PenaltyKernels;
use rotary::RotaryKernel;
use softmax::SoftmaxKernels;
use swiglu::SwigluKernels;
use vocabulary::VocabularyKernels;

/// All of them.
pub(crate) const ALL: Kernels = Kernels {
    name: "hbat",
    rms_norm,
    rms_norm_backward,
    turn,
    // A card's matrix units multiply bf16; f32 is multiplied by a library.
    one_go: FloatDType::BF16,
    attention,
    attention_backward,
    softmax,
    softmax_backward,
    swiglu,
    swiglu_backward,
    log_probs,
    logits_gradient,
    embedded_backward,
    halved,
    joined,
    sums: penalty::SUMS,
    measured,
    pulled,
    pulled_whole,
    adamw,
    adamw_whole,
};

/// x / √(mean(x²) + ε) · w for the rows of `x` `[N, D]` and `weight` `[1, D]` of f32.
fn rms_norm(x: Tensor<2>, weight: Tensor<2>, eps: f32) -> Tensor<2> {
    Tensor::from_dispatch(Dispatch::rms_norm_rows(x.into_dispatch(), weight.into_dispatch(), eps))
}

/// The gradients of [`rms_norm`] for an incoming gradient `dy` `[N, D]`, which may be f32 where `x` is not: of `x`, `carried` added to it, and of `weight`.
fn rms_norm_backward(x: Tensor<2>, weight: Tensor<2>, dy: Tensor<2>, carried: Tensor<2>, eps: f32) -> (Tensor<2>, Tensor<2>) {
    let [x, weight, dy, carried] = [x, weight, dy, carried].map(Tensor::into_dispatch);
    let (dx, dw) = Dispatch::rms_norm_rows_backward(x, weight, dy, carried, eps);
    (Tensor::from_dispatch(dx), Tensor::from_dispatch(dw))
}

/// Turns the heads of `x` `[B·T, heads · head_dim]` by tables `[T, head_dim / 2]` of f32, rotate-half convention, into a type.
fn turn(x: Tensor<2>, cos: Tensor<2>, sin: Tensor<2>, to: FloatDType) -> Tensor<2> {
    Tensor::from_dispatch(Dispatch::turn_heads(x.into_dispatch(), cos.into_dispatch(), sin.into_dispatch(), to))
}

/// softmax(Q·Kᵀ/√hd)·V for `query` `[B·T, H·hd]`, `key` and `value` `[B·T, KV·hd]` of one type, `firsts` as below, H and KV.
fn attention([query, key, value]: [Tensor<2>; 3], firsts: Tensor<2, Int>, heads: [usize; 2]) -> Tensor<2> {
    let [query, key, value] = [query, key, value].map(Tensor::into_dispatch);
    Tensor::from_dispatch(Dispatch::attend(query, key, value, firsts.into_dispatch(), heads))
}

/// The gradients of [`attention`] for an incoming gradient `dy`: of query and key, f32, and of value.
fn attention_backward(
    [query, key, value]: [Tensor<2>; 3],
    dy: Tensor<2>,
    firsts: Tensor<2, Int>,
    heads: [usize; 2],
) -> [Tensor<2>; 3] {
    let [query, key, value, dy] = [query, key, value, dy].map(Tensor::into_dispatch);
    let (dq, dk, dv) = Dispatch::attend_backward(query, key, value, dy, firsts.into_dispatch(), heads);
    [dq, dk, dv].map(Tensor::from_dispatch)
}

/// softmax(`scores`·scale), row by row, in the type asked for: `scores` `[B, KV, G·T, T]` of f32, and for each position the first one that it
/// sees, `[1, T]` or `[B, T]`, up to itself. What it does not see is 0 and not read.
fn softmax(scores: Tensor<4>, firsts: Tensor<2, Int>, scale: f32, to: FloatDType) -> Tensor<4> {
    Tensor::from_dispatch(Dispatch::causal_softmax(scores.into_dispatch(), firsts.into_dispatch(), scale, to))
}

/// P = [`softmax`], and dS = P ∘ (dP − rowsum(dP ∘ P))·scale, the gradient of `scores` for that of P, `dp`, of f32.
fn softmax_backward(scores_and_dp: [Tensor<4>; 2], firsts: Tensor<2, Int>, scale: f32, to: FloatDType) -> [Tensor<4>; 2] {
    let [scores, dp] = scores_and_dp.map(Tensor::into_dispatch);
    let (probabilities, gradient) = Dispatch::causal_softmax_backward(scores, dp, firsts.into_dispatch(), scale, to);
    [probabilities, gradient].map(Tensor::from_dispatch)
}

/// silu(`gate`)·`up`, element by element.
fn swiglu(gate: Tensor<2>, up: Tensor<2>) -> Tensor<2> {
    Tensor::from_dispatch(Dispatch::swiglu_elements(gate.into_dispatch(), up.into_dispatch()))
}

/// The gradients of [`swiglu`] with respect to `gate` and `up` for an incoming gradient `da`, and [`swiglu`] again.
fn swiglu_backward(gate: Tensor<2>, up: Tensor<2>, da: Tensor<2>) -> [Tensor<2>; 3] {
    let [gate, up, da] = [gate, up, da].map(Tensor::into_dispatch);
    let (gate, up, activated) = Dispatch::swiglu_elements_backward(gate, up, da);
    [gate, up, activated].map(Tensor::from_dispatch)
}

/// log π of `targets` `[R]` under softmax(`logits` `[R, V]`) of f32, and log Σ exp of each row, both `[R]`.
fn log_probs(logits: Tensor<2>, targets: Tensor<1, Int>) -> (Tensor<1>, Tensor<1>) {
    let (chosen, sums) = Dispatch::target_log_probs(logits.into_dispatch(), targets.into_dispatch());
    (Tensor::from_dispatch(chosen), Tensor::from_dispatch(sums))
}

/// The gradient of `logits` for those of [`log_probs`], `seeds`: s·(onehot(target) − p), in the type asked for.
fn logits_gradient(logits: Tensor<2>, sums: Tensor<1>, targets: Tensor<1, Int>, seeds: Tensor<1>, to: FloatDType) -> Tensor<2> {
    let (logits, sums, seeds) = (logits.into_dispatch(), sums.into_dispatch(), seeds.into_dispatch());
    Tensor::from_dispatch(Dispatch::target_gradient(logits, sums, targets.into_dispatch(), seeds, to))
}

/// `table` `[V, D]`, with the rows `order[starts[v]..starts[v + 1]]` of `gradient` `[N, D]` added to its v-th.
fn embedded_backward(table: Tensor<2>, gradient: Tensor<2>, order: Tensor<1, Int>, starts: Tensor<1, Int>) -> Tensor<2> {
    let ([table, gradient], [order, starts]) =
        ([table, gradient].map(Tensor::into_dispatch), [order, starts].map(Tensor::into_dispatch));
    Tensor::from_dispatch(Dispatch::rows_of_tokens(table, gradient, order, starts))
}

/// The halves of f32 weights, the first in a type.
fn halved(full: Tensor<2>, to: FloatDType) -> Split {
    let (coarse, rest) = Dispatch::halved(full.into_dispatch(), to);
    (Tensor::from_dispatch(coarse), Tensor::from_dispatch(rest))
}

/// The weights whose halves these are.
fn joined((coarse, rest): Split) -> Tensor<2> {
    Tensor::from_dispatch(Dispatch::joined(coarse.into_dispatch(), rest.into_dispatch()))
}

/// Running sums with Σ g² added to them.
fn measured(gradient: Tensor<2>, sums: Tensor<2>) -> Tensor<2> {
    Tensor::from_dispatch(Dispatch::measured(gradient.into_dispatch(), sums.into_dispatch()))
}

/// g + λF·(θ − θ*) in the type of g, and running sums with Σ of its square, (λF/2)·Σ(θ − θ*)², and Σ of the pull's square added to them.
fn pulled(gradient: Tensor<2>, weights: Split, anchor: Tensor<2>, sums: Tensor<2>, strength: f32) -> (Tensor<2>, Tensor<2>) {
    let [gradient, coarse, anchor, sums] = [gradient, weights.0, anchor, sums].map(Tensor::into_dispatch);
    let (gradient, sums) = Dispatch::pulled(gradient, coarse, weights.1.into_dispatch(), anchor, sums, strength);
    (Tensor::from_dispatch(gradient), Tensor::from_dispatch(sums))
}

/// [`pulled`] by weights of f32.
fn pulled_whole(
    gradient: Tensor<2>,
    weights: Tensor<2>,
    anchor: Tensor<2>,
    sums: Tensor<2>,
    strength: f32,
) -> (Tensor<2>, Tensor<2>) {
    let [gradient, weights, anchor, sums] = [gradient, weights, anchor, sums].map(Tensor::into_dispatch);
    let (gradient, sums) = Dispatch::pulled_whole(gradient, weights, anchor, sums, strength);
    (Tensor::from_dispatch(gradient), Tensor::from_dispatch(sums))
}

/// Weights and moments after a step of AdamW.
fn adamw(gradient: Tensor<2>, ((coarse, rest), moments): AdamWState<Split>, numbers: AdamWNumbers) -> AdamWState<Split> {
    let [gradient, coarse] = [gradient, coarse].map(Tensor::into_dispatch);
    let [first, second] = moments.map(Tensor::into_dispatch);
    let (coarse, rest, first, second) = Dispatch::adamw(gradient, coarse, rest.into_dispatch(), first, second, numbers);
    let split = (Tensor::from_dispatch(coarse), Tensor::<2, Int>::from_dispatch(rest));
    (split, [Tensor::from_dispatch(first), Tensor::from_dispatch(second)])
}

/// The same of weights of f32.
fn adamw_whole(gradient: Tensor<2>, (weights, moments): AdamWState<Tensor<2>>, numbers: AdamWNumbers) -> AdamWState<Tensor<2>> {
    let [gradient, weights] = [gradient, weights].map(Tensor::into_dispatch);
    let [first, second] = moments.map(Tensor::into_dispatch);
    let (weights, first, second) = Dispatch::adamw_whole(gradient, weights, first, second, numbers);
    (Tensor::from_dispatch(weights), [Tensor::from_dispatch(first), Tensor::from_dispatch(second)])
}
