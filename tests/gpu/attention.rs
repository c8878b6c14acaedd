//! hbat's attention: small ones of every form against the CPU's, and how long those of a model take, eight sequences of 1024 tokens.

use burn::tensor::{DType, Device, FloatDType, Int, Tensor, TensorData, activation::softmax};
use hbat_backends::{Kernels, dtype_name, has_planes, kernels, open};
use serde_json::json;

use crate::product::{noise, random, seconds};
use crate::shape::{Target, config};

const ROWS: usize = 8;
const WIDTH: usize = 1024;

/// Heads and their width, texts and theirs.
#[derive(Clone, Copy)]
struct Case {
    heads: [usize; 2],
    dim: usize,
    texts: usize,
    width: usize,
}

impl Case {
    /// Query, key, value and dy.
    fn read(&self, of: FloatDType, device: &Device) -> [Tensor<2>; 4] {
        let [queries, keys] = self.heads.map(|heads| [self.texts * self.width, heads * self.dim]);
        [(queries, 1), (keys, 2), (keys, 3), (queries, 4)].map(|(dims, seed)| noise(dims, seed, of, device))
    }

    /// The first position that each sees: two thirds of a row are another text.
    fn firsts(&self) -> Vec<i32> {
        (0..self.width).map(|t| if t >= self.width / 3 { self.width / 3 } else { 0 } as i32).collect()
    }

    fn scale(&self) -> f32 {
        1.0 / (self.dim as f32).sqrt()
    }

    /// `[B, KV, G·T, hd]`.
    fn by_heads(&self, x: Tensor<2>) -> Tensor<4> {
        let (heads, key_heads) = (x.dims()[1] / self.dim, self.heads[1]);
        let x = x.reshape([self.texts, self.width, heads, self.dim]).swap_dims(1, 2);
        x.reshape([self.texts, key_heads, heads / key_heads * self.width, self.dim])
    }

    fn side_by_side(&self, x: Tensor<4>) -> Tensor<2> {
        let heads = x.dims()[1] * x.dims()[2] / self.width;
        let x = x.reshape([self.texts, heads, self.width, self.dim]).swap_dims(1, 2);
        x.reshape([self.texts * self.width, heads * self.dim])
    }
}

pub(crate) async fn run(target: Target, shape: &str) {
    if !has_planes(target.name) {
        println!("{}", json!({ "part": "own-attention", "precision": "", "skipped": "hbat's kernels need a GPU" }));
        return;
    }
    let device = open(target.name).unwrap_or_else(|error| panic!("{error}"));
    let of = if device.supports_dtype(FloatDType::BF16) { FloatDType::BF16 } else { FloatDType::F32 };
    let own = kernels().expect("a device was compiled in");
    for (heads, dim, texts, width) in [([2, 2], 16, 2, 70), ([4, 2], 64, 2, 200), ([3, 1], 128, 1, 131), ([2, 2], 128, 2, 256)] {
        // f32's wider heads do not fit into every GPU's shared memory, and a library multiplies it.
        if of == FloatDType::BF16 || dim == 16 {
            exactness(target, own, Case { heads, dim, texts, width }, of).await;
        }
    }
    if of != FloatDType::BF16 {
        return;
    }
    let config = config(shape);
    let (heads, dim) = ([config.num_attention_heads, config.num_key_value_heads], config.head_dim);
    timed(own, Case { heads, dim, texts: ROWS, width: WIDTH }, &device, of).await;
}

async fn exactness(target: Target, own: Kernels, case: Case, of: FloatDType) {
    let device = open(target.name).unwrap_or_else(|error| panic!("{error}"));
    let expected = expected(&case, of);
    let [query, key, value, dy] = case.read(of, &device);
    let firsts = Tensor::<2, Int>::from_data(TensorData::new(case.firsts(), [1, case.width]), &device);
    let read = [query, key, value];
    let context = (own.attention)(read.clone(), firsts.clone(), case.heads);
    let [dq, dk, dv] = (own.attention_backward)(read, dy, firsts, case.heads);
    for ((name, found), expected) in ["context", "query", "key", "value"].into_iter().zip([context, dq, dk, dv]).zip(expected) {
        let found = found.into_data_async().await.expect("numbers").convert::<f32>();
        let expected = expected.into_data_async().await.expect("numbers");
        let pairs = found.iter::<f32>().zip(expected.iter::<f32>());
        let (most, largest) =
            pairs.fold((0.0f32, 0.0f32), |(most, largest), (a, b)| (most.max((a - b).abs()), largest.max(b.abs())));
        let off = if most.is_nan() { f64::NAN } else { f64::from(most / largest) };
        let tolerance = if of == FloatDType::BF16 { 1e-2 } else { 1e-5 };
        println!(
            "{}",
            json!({ "part": "exact-attention", "target": target.to_string(), "of": dtype_name(of), "heads": case.heads,
                "dim": case.dim, "texts": case.texts, "width": case.width, "what": name, "off": off, "passed": off <= tolerance })
        );
    }
}

/// By tensor operations in f32 on the CPU.
fn expected(case: &Case, of: FloatDType) -> [Tensor<2>; 4] {
    let [query, key, value, dy] = case.read(of, &Device::flex()).map(|x| case.by_heads(x.cast(FloatDType::F32)));
    let firsts = case.firsts();
    let seen = |row: usize, column: usize| (firsts[row] as usize..=row).contains(&column);
    let mask: Vec<f32> = (0..case.width.pow(2)).map(|i| if seen(i / case.width, i % case.width) { 0.0 } else { -1e30 }).collect();
    let mask = Tensor::<4>::from_data(TensorData::new(mask, [1, 1, case.width, case.width]), &Device::flex());
    let scores = query.clone().matmul(key.clone().swap_dims(2, 3)) * case.scale();
    let dims = scores.dims();
    let p = softmax(scores.reshape([case.texts, case.heads[0], case.width, case.width]) + mask, 3).reshape(dims);
    let dp = dy.clone().matmul(value.clone().swap_dims(2, 3));
    let ds = p.clone() * (dp.clone() - (dp * p.clone()).sum_dim(3)) * case.scale();
    let (dk, dv) = (ds.clone().swap_dims(2, 3).matmul(query), p.clone().swap_dims(2, 3).matmul(dy));
    [p.matmul(value), ds.matmul(key), dk, dv].map(|x| case.side_by_side(x))
}

/// Floating-point operations are those of the half of all pairs that are seen: two products forward, five backward.
async fn timed(own: Kernels, case: Case, device: &Device, of: FloatDType) {
    let [queries, keys] = case.heads.map(|heads| [case.texts * case.width, heads * case.dim]);
    let [query, key, value, dy] = [queries, keys, keys, queries].map(|dims| random(dims, device, DType::from(of)));
    let firsts = Tensor::<2, Int>::zeros([1, case.width], device);
    let read = [query, key, value];
    let forward = seconds(|| (own.attention)(read.clone(), firsts.clone(), case.heads)).await;
    let backward = seconds(|| {
        let [dq, _, _] = (own.attention_backward)(read.clone(), dy.clone(), firsts.clone(), case.heads);
        dq
    })
    .await;
    let product = (case.texts * case.heads[0] * case.width * case.width * case.dim) as f64;
    println!(
        "{}",
        json!({ "part": "own-attention", "shape": [case.texts, case.heads[0], case.width, case.dim], "key_heads": case.heads[1],
            "forward": forward, "backward": backward, "forward_flops": 2.0 * product / forward, "backward_flops": 5.0 * product / backward })
    );
}
