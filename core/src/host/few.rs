//! Products of few rows with a whole weight, as for the latest tokens of texts.
//!
//! There a weight's every number is multiplied a few times only, and what takes the time is to bring it. A copy of the whole weight, laid
//! into panels, would go through memory five times. Here it is copied block by block, and a block stays in the second cache until it has
//! been multiplied.

use burn::tensor::Tensor;

use super::matrix::{Matrix, Write, product};
use super::threads::{Threads, in_turn};
use super::weight::Weight;

/// Rows up to which this is faster.
const FEW: usize = 64;

/// Elements of a block, 256 KiB.
const BLOCK: usize = 1 << 16;

/// At most so many sums of products are added up in the end.
const PARTS: usize = 32;

/// Whether so many rows are few beside this weight.
pub(super) fn few(rows: usize, weight: &Tensor<2>) -> bool {
    rows <= FEW && weight.dims().iter().product::<usize>() > BLOCK
}

/// `out` `[N, columns]` + `x` `[N, depth]` · W for a weight `[depth, columns]`.
pub(super) fn add_few(x: &[f32], weight: &Tensor<2>, out: &mut [f32]) {
    let [depth, columns] = weight.dims();
    let rows = x.len() / depth;
    let block = (BLOCK / columns).max(1);
    let part = depth.div_ceil(block).div_ceil(PARTS) * block;
    let parts = in_turn(Threads::All, depth.div_ceil(part), |task| {
        let mut out = vec![0.0; rows * columns];
        for from in (task * part..((task + 1) * part).min(depth)).step_by(block) {
            let own = Weight::new(weight.clone().narrow(0, from, block.min(depth - from)));
            let x = Matrix::strided(&x[from..], rows, own.dims()[0], depth);
            product(x, own.matrix(), &mut out, Write::Add);
        }
        out
    });
    for part in parts {
        out.iter_mut().zip(part).for_each(|(out, part)| *out += part);
    }
}

/// `x` `[N, depth]` · Wᵀ for a weight `[columns, depth]`.
pub(super) fn few_transposed(x: &[f32], weight: &Tensor<2>) -> Vec<f32> {
    let [columns, depth] = weight.dims();
    let rows = x.len() / depth;
    let block = (BLOCK / depth).max(1);
    let parts = in_turn(Threads::All, columns.div_ceil(block), |task| {
        let own = Weight::new(weight.clone().narrow(0, task * block, block.min(columns - task * block)));
        let mut out = vec![0.0; own.dims()[0] * rows];
        product(own.matrix(), Matrix::new(x, rows, depth).transposed(), &mut out, Write::Replace);
        out
    });
    let mut out = vec![0.0; rows * columns];
    for (column, values) in parts.iter().flat_map(|part| part.chunks_exact(rows)).enumerate() {
        values.iter().enumerate().for_each(|(row, value)| out[row * columns + column] = *value);
    }
    out
}
