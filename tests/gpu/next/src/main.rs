//! Burn's fused attention with its fused backward pass, as its next release has it: whether it is right, and how long it takes at the shape of
//! a model of 7 billion parameters, eight sequences of 1024 tokens, causal. Prints JSON lines; `gpu_parts product` and `tests/gpu/peer.py product`
//! give hbat's and PyTorch's for the same shape.

use std::time::Instant;

use burn::tensor::module::{attention, attention_fallback};
use burn::tensor::ops::AttentionModuleOptions;
use burn::tensor::{Device, Distribution, FloatDType, Tensor};

/// Texts, heads, positions, width of a head.
const LARGE: [usize; 4] = [8, 32, 1024, 128];
const SMALL: [usize; 4] = [1, 2, 256, 128];

/// After so many calls kernels have been chosen.
const WARM_UP: usize = 5;
const CALLS: usize = 20;

fn main() {
    let (device, of) = (Device::cuda(0), FloatDType::BF16);
    let began = Instant::now();
    exactness(&device, of);
    println!(
        r#"{{ "part": "next-attention", "what": "choice of kernels, small", "seconds": {:.1} }}"#,
        began.elapsed().as_secs_f64()
    );
    if std::env::args().nth(1).as_deref() != Some("small") {
        timed("forward", &device, of, |read| drop(forward(read)));
        timed("forward and backward", &device, of, |read| drop(gradients(read, forward)));
    }
}

fn random(dims: [usize; 4], of: FloatDType, device: &Device) -> [Tensor<4>; 3] {
    [(); 3].map(|()| Tensor::<4>::random(dims, Distribution::Normal(0.0, 1.0), device).cast(of))
}

fn causal() -> AttentionModuleOptions {
    AttentionModuleOptions { is_causal: true, ..Default::default() }
}

fn forward([query, key, value]: [Tensor<4>; 3]) -> Tensor<4> {
    attention(query, key, value, None, None, causal())
}

/// The same from Burn's operations, scores in memory.
fn decomposed([query, key, value]: [Tensor<4>; 3]) -> Tensor<4> {
    attention_fallback(query, key, value, None, None, causal())
}

/// Of the sum of all outputs' squares.
fn gradients(read: [Tensor<4>; 3], attention: fn([Tensor<4>; 3]) -> Tensor<4>) -> [Tensor<4>; 3] {
    let read = read.map(|x| x.require_grad());
    let mut gradients = attention(read.clone()).square().sum().backward();
    read.map(|x| x.grad_remove(&mut gradients).expect("a gradient"))
}

/// The largest difference from the decomposed attention of f32, over the largest number.
fn exactness(device: &Device, of: FloatDType) {
    let autodiff = device.clone().autodiff();
    let read = random(SMALL, of, &autodiff);
    let exact = read.clone().map(|x| x.cast(FloatDType::F32));
    let found = gradients(read, forward);
    let expected = gradients(exact, decomposed);
    for ((name, found), expected) in ["query", "key", "value"].into_iter().zip(found).zip(expected) {
        let largest = expected.clone().abs().max().into_scalar::<f32>();
        let off = (found.cast(FloatDType::F32) - expected).abs().max().into_scalar::<f32>() / largest;
        println!(r#"{{ "part": "next-attention", "what": "gradient of the {name}", "off": {off:e} }}"#);
    }
}

fn timed(what: &str, device: &Device, of: FloatDType, call: impl Fn([Tensor<4>; 3])) {
    let autodiff = device.clone().autodiff();
    let read = random(LARGE, of, &autodiff);
    let run = |calls: usize| {
        let began = Instant::now();
        for _ in 0..calls {
            call(read.clone());
        }
        device.sync().expect("the device goes on");
        began.elapsed().as_secs_f64()
    };
    let warm_up = run(WARM_UP);
    let mut times: Vec<f64> = (0..5).map(|_| run(CALLS) / CALLS as f64 * 1e3).collect();
    times.sort_by(f64::total_cmp);
    println!(r#"{{ "part": "next-attention", "what": "{what}", "ms": {:.3}, "warm_up_seconds": {warm_up:.1} }}"#, times[2]);
}
