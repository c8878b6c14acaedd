//! Attention as anybody would write it down.

use burn::tensor::{Device, Tensor, TensorData, activation::softmax};

/// Attention by tensor operations: what hbat's kernels are compared with.
pub struct PlainAttention {
    /// Of queries, and of keys and values.
    pub heads: [usize; 2],
    /// Width of a head.
    pub dim: usize,
    /// Texts, and positions of each.
    pub texts: [usize; 2],
    /// The first position that each sees, up to itself; for all texts alike, or one text's below the other's.
    pub firsts: Vec<i32>,
}

impl PlainAttention {
    /// softmax(Q·Kᵀ/√hd)·V of query, key, value and dy `[texts · T, heads · hd]` on the CPU, and its gradients: of query, key, value.
    pub fn all(&self, read: [Tensor<2>; 4]) -> [Tensor<2>; 4] {
        let [query, key, value, dy] = read.map(|x| self.by_heads(x));
        let scale = 1.0 / (self.dim as f64).sqrt();
        let scores = query.clone().matmul(key.clone().swap_dims(2, 3)) * scale;
        let (dims, [texts, width]) = (scores.dims(), self.texts);
        let p = softmax(scores.reshape([texts, self.heads[0], width, width]) + mask(&self.firsts, width), 3).reshape(dims);
        let dp = dy.clone().matmul(value.clone().swap_dims(2, 3));
        let ds = p.clone() * (dp.clone() - (dp * p.clone()).sum_dim(3)) * scale;
        let turned = |x: &Tensor<4>| x.clone().swap_dims(2, 3);
        let (dk, dv) = (turned(&ds).matmul(query), turned(&p).matmul(dy));
        [p.matmul(value), ds.matmul(key), dk, dv].map(|x| self.side_by_side(x))
    }

    /// `[texts · T, heads · hd]` → `[texts, KV, G·T, hd]`, the heads that share a key one below the other.
    fn by_heads(&self, x: Tensor<2>) -> Tensor<4> {
        let ([texts, width], heads, key_heads) = (self.texts, x.dims()[1] / self.dim, self.heads[1]);
        let x = x.reshape([texts, width, heads, self.dim]).swap_dims(1, 2);
        x.reshape([texts, key_heads, heads / key_heads * width, self.dim])
    }

    /// And back.
    fn side_by_side(&self, x: Tensor<4>) -> Tensor<2> {
        let ([texts, width], heads) = (self.texts, x.dims()[1] * x.dims()[2] / self.texts[1]);
        let x = x.reshape([texts, heads, width, self.dim]).swap_dims(1, 2);
        x.reshape([texts * width, heads * self.dim])
    }
}

/// What is to be added to scores of rows of so many positions, so that each sees from its first on up to itself: `[rows, 1, T, T]`, on the CPU.
pub fn mask(firsts: &[i32], width: usize) -> Tensor<4> {
    let seen = |row: usize, column: usize| (firsts[row] as usize..=row % width).contains(&column);
    let values: Vec<f32> = (0..firsts.len() * width).map(|i| if seen(i / width, i % width) { 0.0 } else { -1e30 }).collect();
    Tensor::from_data(TensorData::new(values, [firsts.len() / width, 1, width, width]), &Device::flex())
}
