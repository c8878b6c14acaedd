//! Matrix products as Burn computes them, at the shapes of 7 billion parameters and 8192 tokens.

use std::time::Instant;

use burn::tensor::{DType, Distribution, FloatDType, Tensor};
use hbat_backends::{DeviceName, open};
use hbat_tests::median;
use serde_json::json;

/// `[m, k]` times `[k, n]`: attention's projections, gate and up, down, the gradient of a weight.
const SHAPES: [[usize; 3]; 4] = [[8192, 4096, 4096], [8192, 4096, 11008], [8192, 11008, 4096], [4096, 8192, 11008]];
const ROUNDS: usize = 5;
const PRODUCTS: usize = 10;

pub(crate) async fn run(name: DeviceName) {
    let device = open(name).unwrap_or_else(|error| panic!("{error}"));
    let dtype = if device.supports_dtype(FloatDType::BF16) { DType::BF16 } else { DType::F32 };
    for [m, k, n] in SHAPES {
        let random = |dims: [usize; 2]| Tensor::<2>::random(dims, Distribution::Normal(0.0, 1.0), (&device, dtype));
        let (left, right) = (random([m, k]), random([k, n]));
        let mut seconds = Vec::new();
        for round in 0..=ROUNDS {
            let began = Instant::now();
            let mut last = left.clone().matmul(right.clone());
            for _ in 1..PRODUCTS {
                last = left.clone().matmul(right.clone());
            }
            last.slice([0..1, 0..1]).into_scalar_async::<f32>().await.expect("a number");
            if round > 0 {
                seconds.push(began.elapsed().as_secs_f64() / PRODUCTS as f64);
            }
        }
        let flops = 2.0 * (m * k * n) as f64 / median(&seconds);
        println!("{}", json!({ "part": "product", "shape": [m, k, n], "dtype": format!("{dtype:?}"), "flops": flops }));
    }
}
