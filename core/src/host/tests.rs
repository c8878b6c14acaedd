//! Every loop against the tensor operations that say the same.

use burn::tensor::{Device, FloatDType, Int, Tensor, TensorData};

use super::attention::Input;
use super::matrix::{Matrix, Write, multiplied, product};
use super::{attention, norm, rotary, swiglu, vocabulary};
use crate::compute::{Compute, Products};
use crate::kernel;
use crate::kernel::attention::{Attention, Heads, Mask};
use crate::kernel::rotary::{Angles, Rotary, Turn};
use crate::model::LlamaConfig;
use crate::testing::Noise;

fn tensor(values: &[f32], dims: [usize; 2]) -> Tensor<2> {
    Tensor::from_data(TensorData::new(values.to_vec(), dims), &Device::flex())
}

#[track_caller]
fn same<const D: usize>(found: &[f32], expected: Tensor<D>) {
    let expected: Vec<f32> = expected.into_data().try_into_vec().unwrap();
    assert_eq!(found.len(), expected.len());
    let largest = expected.iter().fold(0f32, |m, v| m.max(v.abs()));
    let off = found.iter().zip(&expected).fold(0f32, |m, (a, b)| m.max((a - b).abs()));
    assert!(largest > 0.0 && off <= 2e-6 * largest, "off by {off:e} of {largest:e}");
}

#[test]
fn products_of_all_layouts_and_sizes() {
    // Around the edges of register tiles, blocks and slabs, on one thread and on all.
    let sizes = [(1, 1, 1), (6, 16, 4), (7, 17, 5), (13, 33, 400), (150, 65, 770), (3, 1000, 2), (300, 200, 130)];
    for (rows, columns, depth) in sizes {
        let (a, b) = (Noise(1).values(rows * depth, 1.0), Noise(2).values(depth * columns, 1.0));
        let left = [Matrix::new(&a, rows, depth), Matrix::new(&a, depth, rows).transposed()];
        let right = [Matrix::new(&b, depth, columns), Matrix::new(&b, columns, depth).transposed()];
        let lefts = [tensor(&a, [rows, depth]), tensor(&a, [depth, rows]).transpose()];
        let rights = [tensor(&b, [depth, columns]), tensor(&b, [columns, depth]).transpose()];
        for (left, expected_left) in left.into_iter().zip(&lefts) {
            for (right, expected_right) in right.into_iter().zip(&rights) {
                let expected = expected_left.clone().matmul(expected_right.clone());
                let mut found = multiplied(left, right);
                same(&found, expected.clone());
                product(left, right, &mut found, Write::Add);
                same(&found, expected.clone() * 2.0);
                product(left, right, &mut found, Write::Replace);
                same(&found, expected);
            }
        }
    }
}

#[test]
fn a_product_with_more_depth_than_panels_hold() {
    let (rows, columns, depth) = (9, 600, 8000);
    let (a, b) = (Noise(1).values(rows * depth, 1.0), Noise(2).values(depth * columns, 1.0));
    let found = multiplied(Matrix::new(&a, rows, depth), Matrix::new(&b, depth, columns));
    same(&found, tensor(&a, [rows, depth]).matmul(tensor(&b, [depth, columns])));
}

#[test]
fn norms() {
    for (rows, width) in [(3, 5), (70, 48), (200, 100)] {
        let [x, dy, gradient] = [3, 4, 5].map(|seed| Noise(seed).values(rows * width, 1.0));
        let weight = Noise(6).values(width, 1.0);
        let (x_tensor, weight_tensor) = (tensor(&x, [rows, width]), tensor(&weight, [1, width]));
        same(&norm::rms_norm(&x, &weight, 1e-5), kernel::norm::rms_norm(x_tensor.clone(), weight_tensor.clone(), 1e-5));
        let mut found = gradient.clone();
        let found_weight = norm::rms_norm_backward(&x, &weight, &dy, 1e-5, &mut found);
        let (dx, dw) = kernel::norm::rms_norm_backward(x_tensor, weight_tensor, tensor(&dy, [rows, width]), 1e-5);
        same(&found, tensor(&gradient, [rows, width]) + dx);
        same(&found_weight, dw);
    }
}

#[test]
fn gated_activations() {
    for n in [1, 77, 20_000] {
        let [mut gate, mut up, mut da] = [7, 8, 9].map(|seed| Noise(seed).values(n, 8.0));
        let [g, u, d] = [&gate, &up, &da].map(|v| tensor(v, [1, n]));
        let activated = kernel::swiglu::swiglu(g.clone(), u.clone(), None);
        same(&swiglu::swiglu(&gate, &up), activated.clone());
        swiglu::swiglu_backward(&mut gate, &mut up, &mut da);
        let [dg, du, again] = kernel::swiglu::swiglu_backward(g, u, d, None);
        same(&gate, dg);
        same(&up, du);
        same(&da, activated);
        same(&da, again);
    }
}

fn heads(key_value: usize) -> (LlamaConfig, Heads) {
    let config = format!(
        r#"{{"vocab_size": 5, "hidden_size": 12, "intermediate_size": 8, "num_hidden_layers": 1, "num_attention_heads": 6,
            "num_key_value_heads": {key_value}, "head_dim": 10}}"#
    );
    let config: LlamaConfig = serde_json::from_str(&config).unwrap();
    let heads = config.heads();
    (config, heads)
}

#[test]
fn rotations() {
    let (config, heads) = heads(2);
    let (texts, width, columns) = (3, 37, heads.query * heads.dim);
    let x = Noise(10).values(texts * width * columns, 1.0);
    let positions: Vec<usize> = (0..texts).flat_map(|_| 0..width).collect();
    let angles = Angles::new(&config, width);
    let expected = Rotary::new(angles.clone(), &Device::flex());
    for turn in [Turn::Forward, Turn::Backward] {
        let mut found = x.clone();
        rotary::turn(&mut found, &positions, &angles, turn);
        same(&found, expected.turn(tensor(&x, [texts * width, columns]), heads.dim, turn, (FloatDType::F32, None)));
    }
}

#[test]
fn attention_of_texts_as_long_as_each_other() {
    for (key_value, texts, width) in [(1, 1, 1), (2, 3, 23), (6, 2, 64), (3, 1, 131)] {
        let (_, heads) = heads(key_value);
        let (rows, q, kv) = (texts * width, heads.query * heads.dim, heads.key_value * heads.dim);
        let [query, dy] = [11, 12].map(|seed| Noise(seed).values(rows * q, 2.0));
        let [key, value] = [13, 14].map(|seed| Noise(seed).values(rows * kv, 2.0));
        let sequences: Vec<_> = (0..texts).map(|t| t * width..(t + 1) * width).collect();
        let input = Input { query: &query, key: &key, value: &value };
        let (context, log_sums) = attention::attention(input, &sequences, heads);
        let mask = Mask::new(width, None, &Compute::device(Device::flex()));
        let how = Attention { heads, products: Products::Plain };
        let tensors = [tensor(&query, [rows, q]), tensor(&key, [rows, kv]), tensor(&value, [rows, kv])];
        let [q_tensor, k_tensor, v_tensor] = tensors.clone();
        let expected = kernel::attention::attention(q_tensor, k_tensor, v_tensor, mask.clone(), how);
        same(&context, expected);
        if width > 1 {
            let found = attention::attention_backward(input, (&context, &dy), &log_sums, &sequences, heads);
            let expected = kernel::attention::attention_backward(tensors, tensor(&dy, [rows, q]), mask, how);
            found.iter().zip(expected).for_each(|(found, expected)| same(found, expected));
        }
    }
}

#[test]
fn vocabularies() {
    for (vocabulary, rows) in [(11, 3), (700, 29), (3000, 64)] {
        let logits = Noise(15).values(vocabulary * rows, 20.0); // [V, C]
        let targets: Vec<i32> = (0..rows).map(|i| (i * 7 % vocabulary) as i32).collect();
        let seeds = Noise(16).values(rows, 1.0);
        let sums = vocabulary::log_sums(&logits, rows);
        let indices = Tensor::<1, Int>::from_data(TensorData::new(targets.clone(), [rows]), &Device::flex());
        let by_rows = tensor(&logits, [vocabulary, rows]).transpose();
        let (scores, log_sums) = kernel::vocabulary::log_probs(by_rows.clone(), indices.clone(), None);
        let found: Vec<f32> = targets.iter().enumerate().map(|(i, t)| logits[*t as usize * rows + i] - sums[i]).collect();
        same(&found, scores);
        let seeds_tensor = Tensor::from_data(TensorData::new(seeds.clone(), [rows]), &Device::flex());
        let kept = (FloatDType::F32, None);
        let expected = kernel::vocabulary::logits_gradient((by_rows, log_sums), indices, seeds_tensor, kept);
        let mut found = logits;
        vocabulary::logits_gradient(&mut found, &sums, &targets, &seeds);
        same(&found, expected.transpose());
    }
}
