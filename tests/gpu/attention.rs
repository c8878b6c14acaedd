//! hbat's attention: small ones of every form against the CPU's, and how long those of a model take, eight sequences of 1024 tokens.

use burn::tensor::{DType, Device, FloatDType, Int, Tensor, TensorData};
use hbat::compute::Kernels;
use hbat_backends::{dtype_name, has_planes, kernels, open};
use hbat_tests::{PlainAttention, config};
use serde_json::json;

use crate::product::{noise, off, random, seconds};
use crate::shape::Target;

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
}

pub(crate) async fn run(target: Target, shape: &str) {
    if !has_planes(target.name) {
        println!("{}", json!({ "part": "own-attention", "precision": "", "skipped": "hbat's kernels need a GPU" }));
        return;
    }
    let device = open(target.name).unwrap_or_else(|error| panic!("{error}"));
    let of = if device.supports_dtype(FloatDType::BF16) { FloatDType::BF16 } else { FloatDType::F32 };
    let own = kernels().expect("a device was compiled in");
    let odd = [([2, 2], 16, 2, 70), ([4, 2], 64, 2, 200), ([3, 1], 128, 1, 131)];
    // Rows of a second text that see none of their first keys; of these widths the scale is a power of two nowhere.
    let unseen = [80, 96, 128].map(|dim| ([2, 2], dim, 2, 256));
    for (heads, dim, texts, width) in odd.into_iter().chain(unseen) {
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
    let plain = PlainAttention { heads: case.heads, dim: case.dim, texts: [case.texts, case.width], firsts: case.firsts() };
    let expected = plain.all(case.read(of, &Device::flex()).map(|x| x.cast(FloatDType::F32)));
    let [query, key, value, dy] = case.read(of, &device);
    let firsts = Tensor::<2, Int>::from_data(TensorData::new(case.firsts(), [1, case.width]), &device);
    let read = [query, key, value];
    let context = (own.attention)(read.clone(), firsts.clone(), case.heads);
    let [dq, dk, dv] = (own.attention_backward)(read, dy, firsts, case.heads);
    for ((name, found), expected) in ["context", "query", "key", "value"].into_iter().zip([context, dq, dk, dv]).zip(expected) {
        let found = found.into_data_async().await.expect("numbers").convert::<f32>();
        let expected = expected.into_data_async().await.expect("numbers");
        let off = off(&found, &expected);
        let tolerance = if of == FloatDType::BF16 { 1e-2 } else { 1e-5 };
        println!(
            "{}",
            json!({ "part": "exact-attention", "target": target.to_string(), "of": dtype_name(of), "heads": case.heads,
                "dim": case.dim, "texts": case.texts, "width": case.width, "what": name, "off": off, "passed": off <= tolerance })
        );
    }
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
