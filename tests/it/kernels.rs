//! hbat's kernels against the same in Burn's operations on the CPU, where there is a GPU; at widths that vectors divide, and others.

use burn::tensor::activation::{log_softmax, sigmoid, softmax};
use burn::tensor::{Device, FloatDType, IndexingUpdateOp, Int, Tensor, TensorData, Tolerance};
use hbat::compute::Kernels;
use hbat::random::{normal, stream};
use hbat_backends::{DeviceName, kernels, open};
use hbat_tests::{PlainAttention, mask};

use crate::fixtures::block_on;
use crate::support::skip;

/// The GPU with our kernels, or a recorded skip.
fn gpu() -> Option<(Device, Kernels)> {
    match open(DeviceName::Wgpu(0)) {
        Ok(device) => Some((device, kernels().expect("wgpu was compiled in"))),
        Err(error) => {
            skip(&error.to_string());
            None
        }
    }
}

fn noise<const D: usize>(seed: u64, dims: [usize; D], device: &Device) -> Tensor<D> {
    let mut rng = stream(seed, "noise", &[]);
    let values: Vec<f32> = (0..dims.iter().product()).map(|_| normal(&mut rng) as f32).collect();
    Tensor::from_data(TensorData::new(values, dims), device)
}

fn same<const D: usize>(found: Tensor<D>, expected: Tensor<D>) {
    let [found, expected] = [found, expected].map(|tensor| block_on(tensor.into_data_async()).expect("numbers"));
    found.assert_approx_eq::<f32>(&expected, Tolerance::rel_abs(1e-4, 1e-5));
}

#[test]
fn norms_on_a_gpu() {
    let Some((device, own)) = gpu() else { return };
    for (rows, width) in [(70, 36), (3, 37), (1, 1)] {
        let of = |device: &Device| [1, 2, 3].map(|seed| noise(seed, [rows, width], device));
        let [x, dy, carried] = of(&Device::flex());
        let weight = noise(4, [1, width], &Device::flex());
        let inverse = x.clone().square().mean_dim(1).add_scalar(1e-5).sqrt().recip();
        let unit = x * inverse.clone();
        let scaled = dy.clone() * weight.clone();
        let mean = (scaled.clone() * unit.clone()).mean_dim(1);
        let [there, dy_there, carried_there] = of(&device);
        let weight_there = noise(4, [1, width], &device);
        same((own.rms_norm)(there.clone(), weight_there.clone(), 1e-5), unit.clone() * weight);
        let (dx, dw) = (own.rms_norm_backward)(there, weight_there, dy_there, carried_there, 1e-5);
        same(dx, carried + (scaled - unit.clone() * mean) * inverse);
        same(dw, (dy * unit).sum_dim(0));
    }
}

#[test]
fn activations_on_a_gpu() {
    let Some((device, own)) = gpu() else { return };
    for dims in [[5, 24], [7, 11]] {
        let [gate, up, da] = [1, 2, 3].map(|seed| noise(seed, dims, &Device::flex()));
        let [gate_there, up_there, da_there] = [1, 2, 3].map(|seed| noise(seed, dims, &device));
        let sigma = sigmoid(gate.clone());
        let silu = gate * sigma.clone();
        same((own.swiglu)(gate_there.clone(), up_there.clone()), silu.clone() * up.clone());
        let [dg, du, activated] = (own.swiglu_backward)(gate_there, up_there, da_there);
        same(activated, silu.clone() * up.clone());
        same(dg, da.clone() * up * (sigma.clone() + silu.clone() * (sigma.neg() + 1.0)));
        same(du, da * silu);
    }
}

#[test]
fn turned_heads_on_a_gpu() {
    let Some((device, own)) = gpu() else { return };
    let (texts, width, heads) = (2, 3, 2);
    for half in [4, 3] {
        let tables = |device: &Device| [1, 2].map(|seed| noise(seed, [width, half], device));
        let [cos, sin] = tables(&Device::flex()).map(|table| table.reshape([1, width, 1, half]));
        let x = noise(3, [texts * width, heads * 2 * half], &Device::flex()).reshape([texts, width, heads, 2 * half]);
        let (first, second) = (x.clone().narrow(3, 0, half), x.narrow(3, half, half));
        let turned = [first.clone() * cos.clone() - second.clone() * sin.clone(), second * cos + first * sin];
        let [cos, sin] = tables(&device);
        let found = (own.turn)(noise(3, [texts * width, heads * 2 * half], &device), cos, sin, FloatDType::F32);
        same(found, Tensor::cat(turned.into(), 3).reshape([texts * width, heads * 2 * half]));
    }
}

/// The first position that each sees, up to itself: later texts' rows hold another text from their third position on.
fn firsts(texts: usize, width: usize) -> Vec<i32> {
    let first = |text: usize, position: usize| if text > 0 && position > 1 { 2 } else { 0 };
    (0..texts).flat_map(|text| (0..width).map(move |position| first(text, position))).collect()
}

#[test]
fn attention_s_probabilities_on_a_gpu() {
    let Some((device, own)) = gpu() else { return };
    let (texts, key_heads, group, scale) = (2, 2, 3, 0.3);
    for (width, layouts) in [(8, 1), (8, texts), (5, texts), (40, 1), (200, texts), (1, 1)] {
        let dims = [texts, key_heads, group * width, width];
        let firsts = firsts(layouts, width);
        let of = |device: &Device| [1, 2].map(|seed| noise(seed, dims, device) * 5.0);
        let [scores, dp] = of(&Device::flex());
        let heads = scores.mul_scalar(scale).reshape([texts, key_heads * group, width, width]);
        let expected = softmax(heads + mask(&firsts, width), 3).reshape(dims);
        let mean = (expected.clone() * dp.clone()).sum_dim(3);
        let gradient = expected.clone() * (dp - mean) * scale;
        let ([scores, dp], seen) = (of(&device), Tensor::<2, Int>::from_data(TensorData::new(firsts, [layouts, width]), &device));
        same((own.softmax)(scores.clone(), seen.clone(), scale, FloatDType::F32), expected.clone());
        let [probabilities, found] = (own.softmax_backward)([scores, dp], seen, scale, FloatDType::F32);
        same(probabilities, expected);
        same(found, gradient);
    }
}

#[test]
fn attention_without_its_scores_on_a_gpu() {
    let Some((device, own)) = gpu() else { return };
    for (dim, [heads, key_heads], [texts, width], layouts) in [
        (16, [2, 2], [1, 1], 1),
        (16, [3, 1], [2, 5], 2),
        (16, [1, 1], [2, 64], 1),
        (32, [4, 2], [2, 70], 2),
        (32, [1, 1], [1, 33], 1),
        (16, [2, 1], [2, 200], 2),
    ] {
        let of = |device: &Device| {
            [(1, heads), (2, key_heads), (3, key_heads), (4, heads)]
                .map(|(seed, heads)| noise(seed, [texts * width, heads * dim], device))
        };
        let firsts = firsts(layouts, width);
        let plain = PlainAttention { heads: [heads, key_heads], dim, texts: [texts, width], firsts: firsts.clone() };
        let expected = plain.all(of(&Device::flex()));
        let [query, key, value, dy] = of(&device);
        let seen = Tensor::<2, Int>::from_data(TensorData::new(firsts, [layouts, width]), &device);
        let (read, numbers) = ([query, key, value], [heads, key_heads]);
        let context = (own.attention)(read.clone(), seen.clone(), numbers);
        let [dq, dk, dv] = (own.attention_backward)(read, dy, seen, numbers);
        [context, dq, dk, dv].into_iter().zip(expected).for_each(|(found, expected)| same(found, expected));
    }
}

#[test]
fn log_probabilities_of_targets_on_a_gpu() {
    let Some((device, own)) = gpu() else { return };
    for [rows, width] in [[3, 4000], [5, 37], [1, 1], [70, 6]] {
        let targets: Vec<i32> = (0..rows).map(|row| ((row * 7 + width - 1) % width) as i32).collect();
        let of = |device: &Device| {
            let targets = Tensor::<1, Int>::from_data(TensorData::new(targets.clone(), [rows]), device);
            (noise(1, [rows, width], device) * 9.0, targets, noise(2, [rows], device))
        };
        let (logits, chosen, seeds) = of(&Device::flex());
        let (chosen, column) = (chosen.reshape([rows, 1]), seeds.clone().reshape([rows, 1]));
        let expected = log_softmax(logits.clone(), 1);
        let none = Tensor::zeros([rows, width], &Device::flex());
        let single = none.scatter(1, chosen.clone(), column.clone(), IndexingUpdateOp::Add);
        let gradient = single - expected.clone().exp() * column;
        let (logits_there, targets, seeds) = of(&device);
        let (found, sums) = (own.log_probs)(logits_there.clone(), targets.clone());
        same(found, expected.clone().gather(1, chosen).reshape([rows]));
        same(sums.clone(), (logits - expected).narrow(1, 0, 1).reshape([rows]));
        same((own.logits_gradient)(logits_there, sums, targets, seeds, FloatDType::F32), gradient);
    }
}

#[test]
fn gradients_of_an_embedding_on_a_gpu() {
    let Some((device, own)) = gpu() else { return };
    for width in [12, 5] {
        // Of seven tokens the third comes three times, the last not at all.
        let (order, starts) = (vec![2, 0, 1, 4, 3], vec![0, 1, 1, 4, 4, 4, 5, 5]);
        let of = |device: &Device| (noise(1, [7, width], device), noise(2, [5, width], device));
        let (table, gradient) = of(&Device::flex());
        let tokens = Tensor::<1, Int>::from_data(TensorData::new(vec![2, 2, 0, 5, 2], [5]), &Device::flex());
        let expected = table.select_assign(0, tokens, gradient, IndexingUpdateOp::Add);
        let (table, gradient) = of(&device);
        let [order, starts] = [order, starts].map(|ints: Vec<i32>| {
            let count = ints.len();
            Tensor::<1, Int>::from_data(TensorData::new(ints, [count]), &device)
        });
        same((own.embedded_backward)(table, gradient, order, starts), expected);
    }
}

/// Their halves, as [`hbat::compute::Split`] defines them: bf16 in f32, and the lower 16 bits.
fn halves(full: &Tensor<2>) -> (Vec<f32>, Vec<i32>) {
    let values: Vec<f32> = block_on(full.clone().into_data_async()).expect("numbers").try_into_vec().expect("f32");
    let half = |(index, value): (usize, f32)| {
        let threshold = (index as u32).wrapping_mul(0x9E37_79B1) >> 16;
        let coarse = f32::from_bits((value.to_bits() + threshold) & 0xFFFF_0000);
        (coarse, i32::from(value.to_bits() as u16 as i16))
    };
    values.into_iter().enumerate().map(half).unzip()
}

#[test]
fn weights_in_two_halves_on_a_gpu() {
    let Some((device, own)) = gpu() else { return };
    for dims in [[6, 10], [3, 5], [600, 700]] {
        let full = noise(1, dims, &Device::flex());
        let expected = halves(&full);
        let (coarse, rest) = (own.halved)(noise(1, dims, &device), FloatDType::F32);
        let data = |found: TensorData| found.convert::<f32>().try_into_vec::<f32>().expect("numbers");
        let found = data(block_on(coarse.clone().into_data_async()).expect("numbers"));
        assert_eq!(found, expected.0);
        let found = data(block_on(rest.clone().into_data_async()).expect("numbers"));
        assert_eq!(found, expected.1.into_iter().map(|low| low as f32).collect::<Vec<f32>>());
        let whole = block_on((own.joined)((coarse, rest)).into_data_async()).expect("numbers");
        assert_eq!(data(whole), data(block_on(full.into_data_async()).expect("numbers")));
    }
    let odd = TensorData::new(vec![f32::INFINITY, f32::NEG_INFINITY, f32::NAN, -0.0], [1, 4]);
    let whole = (own.joined)((own.halved)(Tensor::from_data(odd, &device), FloatDType::F32));
    let found: Vec<f32> = block_on(whole.into_data_async()).expect("numbers").try_into_vec().expect("f32");
    assert!(found[0] == f32::INFINITY && found[1] == f32::NEG_INFINITY && found[2].is_nan() && found[3] == 0.0, "{found:?}");
}

/// In place where nobody else holds what changes, and not where somebody does.
#[test]
fn what_others_hold_is_not_changed_on_a_gpu() {
    let Some((device, own)) = gpu() else { return };
    let dims = [6, 10];
    let [gradient, weights, first, second, anchor] = [1, 2, 3, 4, 5].map(|seed| noise(seed, dims, &device));
    let second = second.abs();
    let (coarse, rest) = (own.halved)(weights, FloatDType::F32);
    let before = (own.joined)((coarse.clone(), rest.clone()));
    let sums = Tensor::<2>::zeros(own.sums, &device);
    let (_, _) = (own.pulled)(gradient.clone(), (coarse.clone(), rest.clone()), anchor.clone(), sums.clone(), 0.7);
    let (_, _) = (own.pulled_whole)(gradient.clone(), anchor.clone(), before.clone(), sums.clone(), 0.7);
    same(gradient.clone(), noise(1, dims, &Device::flex()));
    same(sums, Tensor::zeros(own.sums, &Device::flex()));
    let held = ((coarse.clone(), rest.clone()), [first.clone(), second.clone()]);
    let numbers = [0.5, 0.01, 0.999, 0.9, 0.95, 1e-8, 0.1, 0.3];
    let ((changed, _), _) = (own.adamw)(gradient.clone(), held, numbers);
    let (_, _) = (own.adamw_whole)(gradient, (before.clone(), [first.clone(), second.clone()]), numbers);
    same(before, noise(2, dims, &Device::flex()));
    same((own.joined)((coarse, rest)), noise(2, dims, &Device::flex()));
    same(first, noise(3, dims, &Device::flex()));
    same(second, noise(4, dims, &Device::flex()).abs());
    let moved = block_on((changed - noise(2, dims, &device)).abs().max().into_scalar_async::<f32>()).expect("a number");
    assert!(moved > 1e-4, "{moved}");
}

#[test]
fn steps_of_adamw_on_a_gpu() {
    let Some((device, own)) = gpu() else { return };
    let [clip, rate, keep, beta1, beta2, eps, correction1, correction2] = [0.5, 0.01, 0.999, 0.9, 0.95, 1e-8, 0.1, 0.3];
    for dims in [[6, 10], [3, 5], [600, 700]] {
        let of = |device: &Device| {
            let [gradient, weights, first, second] = [1, 2, 3, 4].map(|seed| noise(seed, dims, device));
            (gradient, weights, first, second.abs())
        };
        let (gradient, weights, first, second) = of(&Device::flex());
        let g = gradient * clip;
        let first = first.clone() + (g.clone() - first) * (1.0 - beta1);
        let second = second * beta2 + g.square() * (1.0 - beta2);
        let step = first.clone() / (second.clone().sqrt() / correction2 + eps) * (rate / correction1);
        let (gradient, there, first_there, second_there) = of(&device);
        let numbers = [clip, rate, keep, beta1, beta2, eps, correction1, correction2];
        let split = (own.halved)(there, FloatDType::F32);
        let (split, [found_first, found_second]) = (own.adamw)(gradient, (split, [first_there, second_there]), numbers);
        let coarse: Vec<f32> = block_on(split.0.clone().into_data_async()).expect("numbers").try_into_vec().expect("f32");
        assert!(coarse.iter().all(|coarse| coarse.to_bits() & 0xFFFF == 0), "products get a bf16");
        let expected = weights * keep - step;
        same((own.joined)(split), expected.clone());
        same(found_first, first.clone());
        same(found_second, second.clone());
        let (gradient, there, first_there, second_there) = of(&device);
        let (whole, [found_first, found_second]) = (own.adamw_whole)(gradient, (there, [first_there, second_there]), numbers);
        same(whole, expected);
        same(found_first, first);
        same(found_second, second);
    }
}

#[test]
fn the_penalty_on_a_gpu() {
    let Some((device, own)) = gpu() else { return };
    for dims in [[6, 10], [3, 5], [600, 700]] {
        let [gradient, weights, anchor] = [1, 2, 3].map(|seed| noise(seed, dims, &Device::flex()));
        let away = weights - anchor;
        let pull = away.clone() * 0.7;
        let pulled = gradient.clone() + pull.clone();
        let sums = [pulled.clone().square().sum(), (away * pull.clone()).sum() * 0.5, pull.square().sum()];
        let of = || [1, 2, 3].map(|seed| noise(seed, dims, &device));
        let none = || Tensor::<2>::zeros(own.sums, &device);
        let total = |sums: Tensor<2>| sums.sum_dim(0).reshape([3]);
        let [there, weights, anchor] = of();
        let (found, found_sums) = (own.pulled)(there, (own.halved)(weights, FloatDType::F32), anchor, none(), 0.7);
        same(found, pulled.clone());
        same(total(found_sums.clone()), Tensor::cat(sums.clone().into(), 0));
        let [there, weights, anchor] = of();
        let (found, found_sums) = (own.pulled_whole)(there, weights, anchor, found_sums, 0.7);
        same(found, pulled);
        same(total(found_sums), Tensor::cat(sums.into(), 0) * 2.0);
        let zero = Tensor::<1>::zeros([1], &Device::flex());
        let squares = Tensor::cat(vec![gradient.square().sum(), zero.clone(), zero], 0);
        same(total((own.measured)(of()[0].clone(), none())), squares);
    }
}
