//! Products of small matrices in registers and shared memory: on the matrix units of a card, or in loops where there are none.
//!
//! A crew of 32 units (a card's plane) holds 16 rows of a left factor and of a product, four units to a row and the one eight below. Of 8
//! columns each of them holds two that lie side by side, a pair: `lane / 4` is its row, `lane % 4` its pair. That is how the instruction
//! `mma.m16n8k16` has it, and what comes out of one product is at once the left factor of the next.

use burn_cubecl::cubecl::cmma::{MatrixIdent, MmaDefinition};
use burn_cubecl::cubecl::{self, prelude::*};

use super::tiles::{Form, Head, ROWS, crew_row, element, fill, lane, pair_column, staged_row};

/// Two elements side by side.
pub(super) type Pair<F> = Vector<F, Const<2>>;

/// 16 rows and 16 columns of a tile, as a left factor.
#[cube]
fn left<F: Float, N: Size>(tile: &[Vector<F, N>], row: usize, column: usize, #[comptime] form: Form) -> Array<Pair<F>> {
    let mut held = Array::<Pair<F>>::new(4usize);
    if comptime!(form.matrix_units) {
        let at = (row + lane() % 16) * staged_row::<N>(form.dim) + (column + lane() / 16 * 8) / N::value();
        let unit = MmaDefinition::<F, F, f32>::new(16usize, 8usize, 16usize);
        let found = unit.load_matrix::<Vector<F, N>, Const<2>>(&tile[at..at + 1], MatrixIdent::A, 4usize, false);
        #[unroll]
        for i in 0..4usize {
            held[i] = found[i];
        }
    } else {
        #[unroll]
        for i in 0..4usize {
            let r = row + lane() / 4 + i % 2 * 8;
            let c = column + pair_column() + i / 2 * 8;
            let mut pair = Pair::<F>::new(element::<F, N>(tile, r, c, form.dim));
            pair.insert(1usize, element::<F, N>(tile, r, c + 1, form.dim));
            held[i] = pair;
        }
    }
    held
}

/// All columns of 16 rows of a tile, 16 by 16.
#[cube]
fn lefts<F: Float, N: Size>(tile: &[Vector<F, N>], row: usize, #[comptime] form: Form) -> Array<Pair<F>> {
    let mut held = Array::<Pair<F>>::new(comptime!(form.dim / 4));
    #[unroll]
    for k in 0..comptime!(form.dim / 16) {
        let block = left::<F, N>(tile, row, k * 16, form);
        #[unroll]
        for i in 0..4usize {
            held[k * 4 + i] = block[i];
        }
    }
    held
}

/// The cube's rows of a head from one on, of which each crew holds its own; through a tile that nobody needs any longer.
#[cube]
pub(super) fn hold<F: Float, N: Size>(
    tile: &mut [Vector<F, N>],
    x: &Tensor<Vector<F, N>>,
    head: &Head,
    from: usize,
    #[comptime] form: Form,
) -> Array<Pair<F>> {
    sync_cube();
    fill::<F, N>(tile, x, head, from, ROWS, form);
    sync_cube();
    lefts::<F, N>(&*tile, crew_row(), form)
}

/// The k-th block of 16 columns, rounded to the type of factors.
#[cube]
fn left_of<F: Float, S: Float>(held: &Array<Pair<S>>, #[comptime] k: usize) -> Array<Pair<F>> {
    let mut part = Array::<Pair<F>>::new(4usize);
    #[unroll]
    for i in 0..4usize {
        part[i] = Pair::<F>::cast_from(held[k * 4 + i]);
    }
    part
}

/// Sums of a product, all 0: 16 rows, so many columns.
#[cube]
pub(super) fn zeros(#[comptime] columns: usize) -> Array<Pair<f32>> {
    let mut sums = Array::<Pair<f32>>::new(comptime!(columns / 4));
    #[unroll]
    for i in 0..comptime!(columns / 4) {
        sums[i] = Pair::<f32>::new(0.0f32);
    }
    sums
}

/// What the right factor of a product is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
enum Right {
    /// A tile: its rows are what is summed over.
    Tile,
    /// A tile, transposed: its columns are.
    Transposed,
}

/// 16 × 16 elements of a tile, from some on, as a right factor.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
struct Block {
    row: usize,
    column: usize,
    right: Right,
}

/// Adds `left` · a block of a tile to the `at`-th 16 columns of `sums`.
#[cube]
fn multiply<F: Float, N: Size>(
    sums: &mut Array<Pair<f32>>,
    #[comptime] at: usize,
    left: &Array<Pair<F>>,
    tile: &[Vector<F, N>],
    #[comptime] block: Block,
    #[comptime] form: Form,
) {
    if comptime!(form.matrix_units) {
        multiply_on_units::<F, N>(sums, at, left, tile, block, form);
    } else {
        multiply_in_loops::<F, N>(sums, at, left, tile, block, form);
    }
}

#[cube]
fn multiply_on_units<F: Float, N: Size>(
    sums: &mut Array<Pair<f32>>,
    #[comptime] at: usize,
    left: &Array<Pair<F>>,
    tile: &[Vector<F, N>],
    #[comptime] block: Block,
    #[comptime] form: Form,
) {
    let (r, c) = if comptime!(block.right == Right::Tile) {
        (lane() % 16, lane() / 16 * 8)
    } else {
        (lane() / 16 * 8 + lane() % 8, lane() / 8 % 2 * 8)
    };
    let start = (block.row + r) * staged_row::<N>(form.dim) + (block.column + c) / N::value();
    let unit = MmaDefinition::<F, F, f32>::new(16usize, 8usize, 16usize);
    let found = unit.load_matrix::<Vector<F, N>, Const<2>>(
        &tile[start..start + 1],
        MatrixIdent::B,
        4usize,
        comptime!(block.right == Right::Tile),
    );
    #[unroll]
    for half in 0..2usize {
        let mut factor = Array::<Pair<F>>::new(2usize);
        let mut sum = Array::<Pair<f32>>::new(2usize);
        #[unroll]
        for i in 0..2usize {
            factor[i] = found[half * 2 + i];
            sum[i] = sums[at * 4 + half * 2 + i];
        }
        let product = unit.execute(left, &factor, &sum);
        #[unroll]
        for i in 0..2usize {
            sums[at * 4 + half * 2 + i] = product[i];
        }
    }
}

#[cube]
fn multiply_in_loops<F: Float, N: Size>(
    sums: &mut Array<Pair<f32>>,
    #[comptime] at: usize,
    left: &Array<Pair<F>>,
    tile: &[Vector<F, N>],
    #[comptime] block: Block,
    #[comptime] form: Form,
) {
    for k in 0..16usize {
        // Four units beside each other hold a row of the left factor.
        let owner = UNIT_POS_PLANE - UNIT_POS_PLANE % 4 + (k % 8 / 2) as u32;
        let upper = plane_shuffle(f32::cast_from(left[k / 8 * 2].extract_dynamic(k % 2)), owner);
        let lower = plane_shuffle(f32::cast_from(left[k / 8 * 2 + 1].extract_dynamic(k % 2)), owner);
        #[unroll]
        for half in 0..2usize {
            let n = half * 8 + pair_column();
            let mut factor = Pair::<f32>::new(0.0f32);
            #[unroll]
            for e in 0..2usize {
                let found = if comptime!(block.right == Right::Tile) {
                    element::<F, N>(tile, block.row + k, block.column + n + e, form.dim)
                } else {
                    element::<F, N>(tile, block.row + n + e, block.column + k, form.dim)
                };
                factor.insert(e, f32::cast_from(found));
            }
            sums[at * 4 + half * 2] += factor * Pair::<f32>::new(upper);
            sums[at * 4 + half * 2 + 1] += factor * Pair::<f32>::new(lower);
        }
    }
}

/// 16 rows of a left factor, `dim` wide, by all rows of a tile: 16 × rows.
#[cube]
pub(super) fn by_rows<F: Float, N: Size>(
    left: &Array<Pair<F>>,
    tile: &[Vector<F, N>],
    #[comptime] rows: usize,
    #[comptime] form: Form,
) -> Array<Pair<f32>> {
    let mut sums = zeros(rows);
    #[unroll]
    for k in 0..comptime!(form.dim / 16) {
        let part = left_of::<F, F>(left, k);
        add_by_rows::<F, N>(&mut sums, &part, tile, k, rows, form);
    }
    sums
}

/// The same for 16 rows of another tile.
#[cube]
pub(super) fn rows_by_rows<F: Float, N: Size>(
    left_tile: &[Vector<F, N>],
    row: usize,
    tile: &[Vector<F, N>],
    #[comptime] rows: usize,
    #[comptime] form: Form,
) -> Array<Pair<f32>> {
    let mut sums = zeros(rows);
    #[unroll]
    for k in 0..comptime!(form.dim / 16) {
        let part = left::<F, N>(left_tile, row, comptime!(k * 16), form);
        add_by_rows::<F, N>(&mut sums, &part, tile, k, rows, form);
    }
    sums
}

/// Adds 16 rows of a left factor, 16 columns from the k-th such on, by the same columns of all rows of a tile: 16 × rows.
#[cube]
fn add_by_rows<F: Float, N: Size>(
    sums: &mut Array<Pair<f32>>,
    left: &Array<Pair<F>>,
    tile: &[Vector<F, N>],
    #[comptime] k: usize,
    #[comptime] rows: usize,
    #[comptime] form: Form,
) {
    #[unroll]
    for n in 0..comptime!(rows / 16) {
        multiply::<F, N>(sums, n, left, tile, comptime!(Block { row: n * 16, column: k * 16, right: Right::Transposed }), form);
    }
}

/// Adds what 16 rows, so many columns wide, are by as many rows of a tile to sums `dim` wide.
#[cube]
pub(super) fn add_by_tile<F: Float, N: Size>(
    sums: &mut Array<Pair<f32>>,
    held: &Array<Pair<f32>>,
    tile: &[Vector<F, N>],
    #[comptime] rows: usize,
    #[comptime] form: Form,
) {
    #[unroll]
    for k in 0..comptime!(rows / 16) {
        let part = left_of::<F, f32>(held, k);
        #[unroll]
        for n in 0..comptime!(form.dim / 16) {
            multiply::<F, N>(sums, n, &part, tile, comptime!(Block { row: k * 16, column: n * 16, right: Right::Tile }), form);
        }
    }
}
