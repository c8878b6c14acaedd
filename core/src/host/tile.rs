//! The innermost part of a matrix product: a tile of the result that stays in registers while the depth runs by.

use pulp::{Simd, WithSimd};

use super::matrix::Write;

/// Rows of the tile.
///
/// 6 · 2 sums hide the latency of multiply-add and fit 16 registers with operands. Browsers multiply and add in two
/// instructions, which needs a register more, and keep one to themselves: with more than 4 rows sums go through memory,
/// at half the speed.
pub(super) const TILE_ROWS: usize = if cfg!(target_arch = "wasm32") { 4 } else { 6 };

/// Vector registers per row of the tile.
const TILE_VECTORS: usize = 2;

/// Columns of the register tile on this machine.
pub(super) struct TileColumns;

impl WithSimd for TileColumns {
    type Output = usize;

    #[inline(always)]
    fn with_simd<S: Simd>(self, _: S) -> usize {
        tile_columns::<S>()
    }
}

pub(super) const fn tile_columns<S: Simd>() -> usize {
    TILE_VECTORS * size_of::<S::f32s>() / size_of::<f32>()
}

/// The register tile: rows of [`tile_columns`].
pub(super) type Tile<S> = [[<S as Simd>::f32s; TILE_VECTORS]; TILE_ROWS];

/// A tile of zeros.
#[inline(always)]
pub(super) fn none<S: Simd>(simd: S) -> Tile<S> {
    [[simd.splat_f32s(0.0); TILE_VECTORS]; TILE_ROWS]
}

/// The product of a panel of [`TILE_ROWS`] rows and a panel of [`tile_columns`] columns.
#[inline(always)]
pub(super) fn tile<S: Simd>(simd: S, left: &[f32], right: &[f32]) -> Tile<S> {
    let mut sums = none(simd);
    let right = S::as_simd_f32s(right).0.as_chunks::<TILE_VECTORS>().0;
    for (left, right) in left.as_chunks::<TILE_ROWS>().0.iter().zip(right) {
        add_outer(simd, *left, right, &mut sums);
    }
    sums
}

/// Adds the product of the rows of a tile, as deep as `right`, and a panel of [`tile_columns`] columns.
#[cfg(not(target_arch = "wasm32"))]
#[inline(always)]
pub(super) fn tile_of_rows<S: Simd>(simd: S, left: [&[f32]; TILE_ROWS], right: &[f32], sums: &mut Tile<S>) {
    let right = S::as_simd_f32s(right).0.as_chunks::<TILE_VECTORS>().0;
    let [a, b, c, d, e, f] = left;
    // One loop counter and no checks: the compiler knows how to do that for zips.
    for ((((((a, b), c), d), e), f), right) in a.iter().zip(b).zip(c).zip(d).zip(e).zip(f).zip(right) {
        add_outer(simd, [*a, *b, *c, *d, *e, *f], right, sums);
    }
}

/// The same for the smaller tile of browsers.
#[cfg(target_arch = "wasm32")]
#[inline(always)]
pub(super) fn tile_of_rows<S: Simd>(simd: S, left: [&[f32]; TILE_ROWS], right: &[f32], sums: &mut Tile<S>) {
    let right = S::as_simd_f32s(right).0.as_chunks::<TILE_VECTORS>().0;
    let [a, b, c, d] = left;
    for ((((a, b), c), d), right) in a.iter().zip(b).zip(c).zip(d).zip(right) {
        add_outer(simd, [*a, *b, *c, *d], right, sums);
    }
}

#[inline(always)]
fn add_outer<S: Simd>(simd: S, left: [f32; TILE_ROWS], right: &[S::f32s; TILE_VECTORS], sums: &mut Tile<S>) {
    for i in 0..TILE_ROWS {
        let left = simd.splat_f32s(left[i]);
        for j in 0..TILE_VECTORS {
            sums[i][j] = simd.mul_add_e_f32s(left, right[j], sums[i][j]);
        }
    }
}

/// Writes the part of a tile that lies within `out`, whose rows are `columns` long, from column `at`.
#[inline(always)]
pub(super) fn store<S: Simd>(simd: S, sums: &Tile<S>, out: &mut [f32], (at, columns): (usize, usize), write: Write) {
    for (sums, out) in sums.iter().zip(out.chunks_mut(columns)) {
        let out = &mut out[at..];
        let (vectors, _) = S::as_mut_simd_f32s(out);
        if let Some(out) = vectors.first_chunk_mut::<TILE_VECTORS>() {
            for (out, sum) in out.iter_mut().zip(sums) {
                *out = if write == Write::Add { simd.add_f32s(*out, *sum) } else { *sum };
            }
        } else {
            let sums: &[f32] = pulp::bytemuck::cast_slice(sums);
            for (out, sum) in out.iter_mut().zip(sums) {
                *out = if write == Write::Add { *out + sum } else { *sum };
            }
        }
    }
}
