//! Matrix products and attention at the shapes of a model and eight sequences of 1024 tokens.

use std::time::Instant;

use burn::tensor::module::{attention, attention_fallback};
use burn::tensor::ops::AttentionModuleOptions;
use burn::tensor::{DType, Device, Distribution, FloatDType, Tensor, TensorData};
use hbat::random::{normal, stream};
use hbat_backends::{dtype_name, open};
use hbat_cli::config::Matmul;
use hbat_tests::{config, median};
use serde::Serialize;
use serde_json::json;

use crate::shape::Target;

const ROWS: usize = 8;
const WIDTH: usize = 1024;
const ROUNDS: usize = 5;
const PRODUCTS: usize = 10;

/// What a matrix lies in.
#[derive(Debug, Clone, Copy, Serialize)]
#[serde(rename_all = "kebab-case")]
enum Lines {
    Rows,
    Columns,
}

pub(crate) async fn run(target: Target, shape: &str) {
    let device = open(target.name).unwrap_or_else(|error| panic!("{error}"));
    let dtype = if device.supports_dtype(FloatDType::BF16) { DType::BF16 } else { DType::F32 };
    if target.matmul == Matmul::Cublas {
        exactness(target, &device).await;
    }
    let config = config(shape);
    let (n, d, f) = (ROWS * WIDTH, config.hidden_size, config.intermediate_size);
    // Attention's projections, gate and up, down; the gradient of the latter's input, and of its weight.
    for (dims, lines) in [
        ([n, d, d], [Lines::Rows, Lines::Rows]),
        ([n, d, f], [Lines::Rows, Lines::Rows]),
        ([n, f, d], [Lines::Rows, Lines::Rows]),
        ([n, d, f], [Lines::Rows, Lines::Columns]),
        ([f, n, d], [Lines::Columns, Lines::Rows]),
    ] {
        product(target, (&device, dtype), dims, lines).await;
    }
    if target.matmul == Matmul::Burn {
        // Half the rows: some devices have no larger buffer than their matrix of probabilities.
        attentions([ROWS / 2, config.num_attention_heads, WIDTH, config.head_dim], &device, dtype).await;
    }
}

/// Small products of every type, with factors in rows and in columns and heads of attention, against the CPU's.
async fn exactness(target: Target, device: &Device) {
    let own = target.library();
    let types = [(FloatDType::F32, FloatDType::F32), (FloatDType::BF16, FloatDType::F32), (FloatDType::BF16, FloatDType::BF16)];
    for (of, to) in types {
        let devices = [device, &Device::flex()];
        // Rows of text of several heads, and a key for each.
        let [left, exact_left] = devices.map(|device| noise([2, 24, 3, 40], 1, of, device).swap_dims(1, 2));
        let [right, exact_right] = devices.map(|device| noise([2, 3, 56, 40], 2, of, device).swap_dims(2, 3));
        compare(target, (of, to, 1), (own.batches)(left, right, to), exact(exact_left, exact_right)).await;
        for lines in [[Lines::Rows, Lines::Rows], [Lines::Columns, Lines::Rows], [Lines::Rows, Lines::Columns]] {
            let [left, exact_left] = devices.map(|device| lay(|dims| noise(dims, 3, of, device), [24, 40], lines[0]));
            let [right, exact_right] = devices.map(|device| lay(|dims| noise(dims, 4, of, device), [40, 56], lines[1]));
            let exact = exact(exact_left, exact_right);
            compare(target, (of, to, 1), (own.matrices)(left.clone(), right.clone(), to), exact.clone()).await;
            compare(target, (of, to, 1), (own.lasting)(left.clone(), right.clone(), to), exact.clone()).await;
            // Where nobody else holds what it is added to, and where somebody does.
            let once = (own.matrices)(left.clone(), right.clone(), to);
            let twice = (own.added)(left.clone(), right.clone(), once.clone());
            compare(target, (of, to, 3), (own.added)(left, right, twice), exact.clone().mul_scalar(3.0)).await;
            compare(target, (of, to, 1), once, exact).await;
        }
        side_by_side(target, (of, to)).await;
    }
}

/// Probabilities of two query heads to a key head with values, for two texts and then for one, into the same rows.
async fn side_by_side(target: Target, (of, to): (FloatDType, FloatDType)) {
    let ([key_heads, group, width, depth, dim], own) = ([3, 2, 24, 32, 40], target.library());
    let all = key_heads * group * dim;
    let on = |device: &Device| {
        let of_texts = |texts, seed| {
            let left = noise([texts, key_heads, group * width, depth], seed, of, device);
            let right = noise([texts, depth, key_heads, dim], seed + 1, of, device).swap_dims(1, 2);
            (left, right)
        };
        [of_texts(2, 6), of_texts(1, 8)]
    };
    let device = open(target.name).unwrap_or_else(|error| panic!("{error}"));
    let into = Tensor::empty([3 * width, all], (&device, DType::from(to)));
    let [(left, right), (last_left, last_right)] = on(&device);
    let into = (own.joined)(left, right, group, into, 0);
    let found = (own.joined)(last_left, last_right, group, into, 2 * width);
    let joined = on(&Device::flex()).map(|(left, right)| {
        let heads = exact(left, right).reshape([-1, (key_heads * group) as i32, width as i32, dim as i32]).swap_dims(1, 2);
        heads.reshape([-1, all as i32])
    });
    compare(target, (of, to, 1), found, Tensor::cat(joined.into(), 0)).await;
}

pub(crate) fn noise<const D: usize>(dims: [usize; D], seed: u64, dtype: FloatDType, device: &Device) -> Tensor<D> {
    let mut rng = stream(seed, "noise", &[]);
    let values: Vec<f32> = (0..dims.iter().product()).map(|_| normal(&mut rng) as f32).collect();
    let data = TensorData::new(values, dims).convert_dtype(dtype.into());
    Tensor::from_data(data, (device, DType::from(dtype)))
}

fn exact<const D: usize>(left: Tensor<D>, right: Tensor<D>) -> Tensor<D> {
    left.cast(FloatDType::F32).matmul(right.cast(FloatDType::F32))
}

/// A sum of so many equal products, rounded after each. Bf16 rounds a number by up to 2⁻⁸ of it: k products by k · 2⁻⁸ of one, all sums together by
/// (1 + … + n) · 2⁻⁸ of one, and so by (n + 1) / 2 · 2⁻⁸ of the last.
async fn compare<const D: usize>(
    target: Target,
    (of, to, sums): (FloatDType, FloatDType, u8),
    found: Tensor<D>,
    expected: Tensor<D>,
) {
    let shape = expected.dims().to_vec();
    let found = found.into_data_async().await.expect("a product").convert::<f32>();
    let expected = expected.into_data_async().await.expect("a product");
    let off = off(&found, &expected);
    let tolerance = if to == FloatDType::BF16 { 4e-3 * f64::midpoint(f64::from(sums), 1.0) } else { 2e-6 };
    let words = [of, to].map(dtype_name);
    println!(
        "{}",
        json!({ "part": "exactness", "target": target.to_string(), "of": words[0], "to": words[1], "shape": shape, "sums": sums, "off": off,
            "passed": off <= tolerance })
    );
}

/// The largest difference as a part of the largest number; not a number where one of them is none.
pub(crate) fn off(found: &TensorData, expected: &TensorData) -> f64 {
    let more = |most: f32, next: f32| if next > most || next.is_nan() { next } else { most };
    let pairs = found.iter::<f32>().zip(expected.iter::<f32>());
    let (most, largest) = pairs.fold((0.0, 0.0), |(most, largest), (a, b)| (more(most, (a - b).abs()), more(largest, b.abs())));
    f64::from(most / largest)
}

fn lay(made: impl Fn([usize; 2]) -> Tensor<2>, [rows, columns]: [usize; 2], lines: Lines) -> Tensor<2> {
    match lines {
        Lines::Rows => made([rows, columns]),
        Lines::Columns => made([columns, rows]).transpose(),
    }
}

/// Operations per second, and the largest difference from Burn's product as a part of its largest number.
async fn product(target: Target, (device, dtype): (&Device, DType), dims: [usize; 3], lines: [Lines; 2]) {
    let [rows, depth, columns] = dims;
    let random = |dims| random(dims, device, dtype);
    let (left, right) = (lay(random, [rows, depth], lines[0]), lay(random, [depth, columns], lines[1]));
    let multiply = target.multiply();
    let seconds = seconds(|| multiply(left.clone(), right.clone())).await;
    let flops = 2.0 * dims.iter().product::<usize>() as f64 / seconds;
    let expected = left.clone().matmul(right.clone());
    let difference = (multiply(left, right) - expected.clone()).abs().max();
    let off = number(difference).await / number(expected.abs().max()).await;
    println!(
        "{}",
        json!({ "part": "product", "target": target.to_string(), "shape": dims, "left": lines[0], "right": lines[1],
            "dtype": format!("{dtype:?}"), "flops": flops, "off": off })
    );
}

/// Burn's fused attention beside the same in single products.
async fn attentions(dims: [usize; 4], device: &Device, dtype: DType) {
    let [query, key, value] = [(); 3].map(|()| random(dims, device, dtype));
    let options = AttentionModuleOptions { is_causal: true, ..Default::default() };
    let fused = || attention(query.clone(), key.clone(), value.clone(), None, None, options);
    let single = || attention_fallback(query.clone(), key.clone(), value.clone(), None, None, options);
    let (difference, largest) = ((fused() - single()).abs().max(), single().abs().max());
    let off = number(difference).await / number(largest).await;
    let (fused, single) = (seconds(fused).await, seconds(single).await);
    println!(
        "{}",
        json!({ "part": "attention", "shape": dims, "dtype": format!("{dtype:?}"), "fused": fused, "single": single, "off": off })
    );
}

pub(crate) fn random<const D: usize>(dims: [usize; D], device: &Device, dtype: DType) -> Tensor<D> {
    Tensor::random(dims, Distribution::Normal(0.0, 1.0), (device, dtype))
}

/// The median over rounds of a computation's seconds, the device waited for.
pub(crate) async fn seconds<const D: usize>(compute: impl Fn() -> Tensor<D>) -> f64 {
    let mut seconds = Vec::new();
    for round in 0..=ROUNDS {
        let began = Instant::now();
        let mut last = compute();
        for _ in 1..PRODUCTS {
            last = compute();
        }
        number(last.slice([(); D].map(|()| 0..1))).await;
        if round > 0 {
            seconds.push(began.elapsed().as_secs_f64() / PRODUCTS as f64);
        }
    }
    median(&seconds)
}

async fn number<const D: usize>(tensor: Tensor<D>) -> f64 {
    f64::from(tensor.into_scalar_async::<f32>().await.expect("a number"))
}
