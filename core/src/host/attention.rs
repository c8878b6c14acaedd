//! Causal grouped-query attention, one sequence and key head at a time.
//!
//! Scores are computed transposed, `[keys, queries]` for as many queries as the register tile has columns: their softmax
//! runs down registers instead of across them, what is above the diagonal is never computed, and everything a task
//! touches stays in the second cache. The backward pass makes the probabilities anew from the sums that were kept.

use std::ops::Range;

use pulp::{Simd, WithSimd};

use super::exponential::{exp, raise};
use super::matrix::{Matrix, Write, pack};
use super::norm::lanes;
use super::simd::dispatch;
use super::threads::{Threads, in_turn};
use super::tile::{TILE_ROWS, Tile, none, store, tile, tile_columns, tile_of_rows};
use crate::kernel::attention::Heads;

/// Queries per update of the key and value gradients.
const QUERIES: usize = 64;

/// What attention reads: rotated queries `[N, H·hd]`, rotated keys and values `[N, KV·hd]`, N rows of all sequences.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Input<'a> {
    pub(crate) query: &'a [f32],
    pub(crate) key: &'a [f32],
    pub(crate) value: &'a [f32],
}

/// softmax(Q·Kᵀ/√hd)·V `[N, H·hd]`, and log Σ e^score of every row and query head, task by task.
pub(crate) fn attention(input: Input, sequences: &[Range<usize>], heads: Heads) -> (Vec<f32>, Vec<Vec<f32>>) {
    let tasks = in_turn(threads(sequences, heads), sequences.len() * heads.key_value, |task| {
        let rows = sequences[task / heads.key_value].clone();
        dispatch(Forward { head: Head::new(input, rows, task % heads.key_value, heads) })
    });
    let (contexts, log_sums): (Vec<_>, Vec<_>) = tasks.into_iter().unzip();
    (join(&contexts, sequences, heads, heads.query), log_sums)
}

/// The gradients of [`attention`] with respect to query, key and value, for an incoming gradient `dy` of its `context`.
pub(crate) fn attention_backward(
    input: Input,
    (context, dy): (&[f32], &[f32]),
    log_sums: &[Vec<f32>],
    sequences: &[Range<usize>],
    heads: Heads,
) -> [Vec<f32>; 3] {
    let tasks = in_turn(threads(sequences, heads), sequences.len() * heads.key_value, |task| {
        let rows = sequences[task / heads.key_value].clone();
        let head = Head::new(input, rows, task % heads.key_value, heads);
        dispatch(Backward { context: head.of_queries(context), dy: head.of_queries(dy), log_sums: &log_sums[task], head })
    });
    let mut parts = [Vec::new(), Vec::new(), Vec::new()];
    for task in tasks {
        parts.iter_mut().zip(task).for_each(|(parts, part)| parts.push(part));
    }
    let [query, key, value] = parts;
    [
        join(&query, sequences, heads, heads.query),
        join(&key, sequences, heads, heads.key_value),
        join(&value, sequences, heads, heads.key_value),
    ]
}

fn threads(sequences: &[Range<usize>], heads: Heads) -> Threads {
    let scores: usize = sequences.iter().map(|rows| rows.len() * rows.len()).sum();
    Threads::for_elements(scores * heads.query)
}

/// Puts the tasks' results, `[rows, count / KV · hd]` each, side by side: `[N, count · hd]`.
fn join(parts: &[Vec<f32>], sequences: &[Range<usize>], heads: Heads, count: usize) -> Vec<f32> {
    let (width, part) = (count * heads.dim, count / heads.key_value * heads.dim);
    let mut out = vec![0.0; sequences.iter().map(|rows| rows.len()).sum::<usize>() * width];
    for (parts, rows) in parts.chunks(heads.key_value).zip(sequences) {
        for (row, out) in out[rows.start * width..rows.end * width].chunks_exact_mut(width).enumerate() {
            for (out, from) in out.chunks_exact_mut(part).zip(parts) {
                out.copy_from_slice(&from[row * part..][..part]);
            }
        }
    }
    out
}

/// One key head of one sequence, with the queries that share it.
struct Head<'a> {
    input: Input<'a>,
    rows: Range<usize>,
    which: usize,
    heads: Heads,
}

impl<'a> Head<'a> {
    fn new(input: Input<'a>, rows: Range<usize>, which: usize, heads: Heads) -> Self {
        Self { input, rows, which, heads }
    }

    /// `[rows, hd]` of one head among `count`, in `values` `[N, count · hd]`.
    fn matrix(&self, values: &'a [f32], count: usize, which: usize) -> Matrix<'a> {
        let (stride, dim) = (count * self.heads.dim, self.heads.dim);
        Matrix::strided(&values[self.rows.start * stride + which * dim..], self.rows.len(), dim, stride)
    }

    fn of_keys(&self, values: &'a [f32]) -> Matrix<'a> {
        self.matrix(values, self.heads.key_value, self.which)
    }

    /// The matrices of the query heads in this group.
    fn of_queries(&self, values: &'a [f32]) -> Vec<Matrix<'a>> {
        (0..self.heads.group()).map(|g| self.matrix(values, self.heads.query, self.which * self.heads.group() + g)).collect()
    }
}

/// All rows of a matrix as left operand.
#[inline(always)]
fn left_panels(matrix: Matrix) -> Vec<f32> {
    let mut panels = vec![0.0; matrix.rows().next_multiple_of(TILE_ROWS) * matrix.columns()];
    pack(matrix, 0..matrix.rows(), 0..matrix.columns(), TILE_ROWS, &mut panels);
    panels
}

/// Some rows of a matrix as one right panel of the transpose, `[columns][tile]`.
#[inline(always)]
fn right_panel<S: Simd>(matrix: Matrix, from: usize, panel: &mut [f32]) {
    let rows = from..(from + tile_columns::<S>()).min(matrix.rows());
    pack(matrix, rows, 0..matrix.columns(), tile_columns::<S>(), panel);
}

/// panels of left rows · `right` into `out` `[rows, tile]`; `depth` of the panels' `stride` takes part.
#[inline(always)]
fn down<S: Simd>(simd: S, left: &[f32], (stride, depth): (usize, usize), right: &[f32], out: &mut [f32]) {
    let columns = tile_columns::<S>();
    for (left, out) in left.chunks_exact(TILE_ROWS * stride).zip(out.chunks_mut(TILE_ROWS * columns)) {
        let sums: Tile<S> = tile(simd, &left[..TILE_ROWS * depth], &right[..columns * depth]);
        store(simd, &sums, out, (0, columns), Write::Replace);
    }
}

/// Scores that a query may not see become as good as −∞: key `first + i` is hidden from query `first + j` for i > j.
#[inline(always)]
fn hide(scores: &mut [f32], first: usize, columns: usize) {
    for (i, row) in scores[first * columns..].chunks_exact_mut(columns).enumerate() {
        row[..i.min(columns)].fill(crate::kernel::attention::MASKED);
    }
}

struct Forward<'a> {
    head: Head<'a>,
}

impl WithSimd for Forward<'_> {
    type Output = (Vec<f32>, Vec<f32>);

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) -> Self::Output {
        let head = &self.head;
        let (length, dim, columns, group) = (head.rows.len(), head.heads.dim, tile_columns::<S>(), head.heads.group());
        let keys = left_panels(head.of_keys(head.input.key));
        let values = left_panels(head.of_keys(head.input.value).transposed());
        let mut panel = vec![0.0; dim * columns];
        let mut scores = vec![0.0; length.next_multiple_of(columns).next_multiple_of(TILE_ROWS) * columns];
        let mut result = vec![0.0; dim.next_multiple_of(TILE_ROWS) * columns];
        let mut context = vec![0.0; length * group * dim];
        let mut log_sums = vec![0.0; group * length.next_multiple_of(columns)];
        for (g, queries) in head.of_queries(head.input.query).into_iter().enumerate() {
            for first in (0..length).step_by(columns) {
                let seen = (first + columns).min(length);
                right_panel::<S>(queries, first, &mut panel);
                scale(&mut panel, head.heads.scale() as f32);
                let padded = seen.next_multiple_of(TILE_ROWS);
                down(simd, &keys[..padded * dim], (dim, dim), &panel, &mut scores[..padded * columns]);
                let scores = &mut scores[..seen * columns];
                hide(scores, first, columns);
                let log_sums = &mut log_sums[g * length.next_multiple_of(columns) + first..][..columns];
                softmax(scores, log_sums);
                down(simd, &values, (length, seen), scores, &mut result);
                let rows = context[first * group * dim..seen * group * dim].chunks_exact_mut(group * dim);
                untranspose(&result, columns, rows.map(|row| &mut row[g * dim..][..dim]));
            }
        }
        (context, log_sums)
    }
}

#[inline(always)]
fn scale(values: &mut [f32], by: f32) {
    for value in values {
        *value *= by;
    }
}

/// Column by column: e^(score − log Σ), and log Σ.
#[inline(always)]
fn softmax(scores: &mut [f32], log_sums: &mut [f32]) {
    let columns = log_sums.len();
    let (mut largest, mut sums) = ([f32::MIN; WIDEST], [0.0; WIDEST]);
    let (largest, sums) = (&mut largest[..columns], &mut sums[..columns]);
    for row in scores.chunks_exact(columns) {
        raise(largest, row);
    }
    for row in scores.chunks_exact_mut(columns) {
        for ((score, largest), sum) in row.iter_mut().zip(&*largest).zip(&mut *sums) {
            *score = exp(*score - largest);
            *sum += *score;
        }
    }
    for ((log_sum, largest), sum) in log_sums.iter_mut().zip(&*largest).zip(&mut *sums) {
        *log_sum = largest + sum.ln();
        *sum = 1.0 / *sum;
    }
    for row in scores.chunks_exact_mut(columns) {
        for (score, inverse) in row.iter_mut().zip(&*sums) {
            *score *= inverse;
        }
    }
}

/// More columns than any register tile has.
const WIDEST: usize = 64;

/// Columns of `result` `[hd, tile]` into rows.
#[inline(always)]
fn untranspose<'a>(result: &[f32], columns: usize, rows: impl Iterator<Item = &'a mut [f32]>) {
    for (column, row) in rows.enumerate() {
        for (value, result) in row.iter_mut().zip(result.chunks_exact(columns)) {
            *value = result[column];
        }
    }
}

struct Backward<'a> {
    head: Head<'a>,
    context: Vec<Matrix<'a>>,
    dy: Vec<Matrix<'a>>,
    log_sums: &'a [f32],
}

impl WithSimd for Backward<'_> {
    type Output = [Vec<f32>; 3];

    /// With P the probabilities and dP = dY·Vᵀ: dS = P ∘ (dP − rowsum(dY ∘ Y))/√hd, dQ = dS·K, dK = dSᵀ·Q, dV = Pᵀ·dY.
    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) -> Self::Output {
        let head = &self.head;
        let (length, dim, group) = (head.rows.len(), head.heads.dim, head.heads.group());
        let mut block = QueryBlock::new::<S>(head);
        let (step, padded) = (block.panels * block.columns, length.next_multiple_of(block.columns));
        let [mut query, mut key, mut value] = [length * group * dim, length * dim, length * dim].map(|n| vec![0.0; n]);
        for (g, queries) in head.of_queries(head.input.query).into_iter().enumerate() {
            let log_sums = &self.log_sums[g * padded..][..padded];
            for first in (0..length).step_by(step) {
                let rows = first..(first + step).min(length);
                block.fill(simd, queries, (self.context[g], self.dy[g]), log_sums, rows.clone());
                let out = query[first * group * dim..rows.end * group * dim].chunks_exact_mut(group * dim);
                block.query_gradient(simd, rows.clone(), out.map(|row| &mut row[g * dim..][..dim]));
                block.add_to_keys(simd, &block.scores, queries, rows.clone(), &mut key);
                block.add_to_keys(simd, &block.probabilities, self.dy[g], rows, &mut value);
            }
        }
        [query, key, value]
    }
}

/// Probabilities and score gradients of a few panels of queries against all keys they see.
struct QueryBlock {
    dim: usize,
    columns: usize,
    panels: usize,
    scale: f32,
    /// Keys and values as left operands, `[keys, hd]`, and the keys transposed, `[hd, keys]`.
    keys: Vec<f32>,
    values: Vec<f32>,
    keys_transposed: Vec<f32>,
    /// Elements of a panel of scores, `[keys, columns]`.
    stride: usize,
    length: usize,
    probabilities: Vec<f32>,
    scores: Vec<f32>,
}

impl QueryBlock {
    #[inline(always)]
    fn new<S: Simd>(head: &Head) -> Self {
        let (columns, length) = (tile_columns::<S>(), head.rows.len());
        let panels = (QUERIES / columns).max(1);
        let stride = length.next_multiple_of(TILE_ROWS) * columns;
        let key = head.of_keys(head.input.key);
        Self {
            dim: head.heads.dim,
            columns,
            panels,
            scale: head.heads.scale() as f32,
            keys: left_panels(key),
            values: left_panels(head.of_keys(head.input.value)),
            keys_transposed: left_panels(key.transposed()),
            stride,
            length,
            probabilities: vec![0.0; panels * stride],
            scores: vec![0.0; panels * stride],
        }
    }

    #[inline(always)]
    fn fill<S: Simd>(&mut self, simd: S, queries: Matrix, (context, dy): (Matrix, Matrix), log_sums: &[f32], rows: Range<usize>) {
        let (dim, columns) = (self.dim, self.columns);
        let mut panel = vec![0.0; dim * columns];
        let panels = self.probabilities.chunks_exact_mut(self.stride).zip(self.scores.chunks_exact_mut(self.stride));
        for (first, (probabilities, scores)) in rows.clone().step_by(columns).zip(panels) {
            let seen = (first + columns).min(self.length);
            let padded = seen.next_multiple_of(TILE_ROWS);
            right_panel::<S>(queries, first, &mut panel);
            scale(&mut panel, self.scale);
            down(simd, &self.keys[..padded * dim], (dim, dim), &panel, &mut probabilities[..padded * columns]);
            right_panel::<S>(dy, first, &mut panel);
            down(simd, &self.values[..padded * dim], (dim, dim), &panel, &mut scores[..padded * columns]);
            probabilities[seen * columns..].fill(0.0);
            scores[seen * columns..].fill(0.0);
            let (probabilities, scores) = (&mut probabilities[..seen * columns], &mut scores[..seen * columns]);
            hide(probabilities, first, columns);
            let mut totals = [0.0; WIDEST];
            for (total, row) in totals.iter_mut().zip(first..seen) {
                let (y, dy) = (context.row(row), dy.row(row));
                *total = lanes(dim, |i| y[i] * dy[i]);
            }
            score_gradient(probabilities, scores, &log_sums[first..][..columns], &totals, self.scale);
        }
    }

    #[inline(always)]
    fn query_gradient<'a, S: Simd>(&self, simd: S, rows: Range<usize>, mut out: impl Iterator<Item = &'a mut [f32]>) {
        let mut result = vec![0.0; self.dim.next_multiple_of(TILE_ROWS) * self.columns];
        for (first, scores) in rows.step_by(self.columns).zip(self.scores.chunks_exact(self.stride)) {
            let seen = (first + self.columns).min(self.length);
            down(simd, &self.keys_transposed, (self.length, seen), scores, &mut result);
            untranspose(&result, self.columns, out.by_ref().take(self.columns));
        }
    }

    /// `operand` `[keys, queries]` · the rows of `right` `[queries, hd]`, added to `out` `[keys, hd]`.
    #[inline(always)]
    fn add_to_keys<S: Simd>(&self, simd: S, operand: &[f32], right: Matrix, rows: Range<usize>, out: &mut [f32]) {
        let mut panels = vec![0.0; self.dim.next_multiple_of(self.columns) * rows.len()];
        pack(right.transposed(), 0..self.dim, rows.clone(), self.columns, &mut panels);
        for key in (0..rows.end).step_by(TILE_ROWS) {
            for (j, panel) in panels.chunks_exact(self.columns * rows.len()).enumerate() {
                let mut sums = none(simd);
                for (p, panel) in panel.chunks(self.columns * self.columns).enumerate() {
                    let left = &operand[p * self.stride + key * self.columns..];
                    tile_of_rows(simd, std::array::from_fn(|i| &left[i * self.columns..]), panel, &mut sums);
                }
                store(simd, &sums, &mut out[key * self.dim..], (j * self.columns, self.dim), Write::Add);
            }
        }
    }
}

/// Turns scores into probabilities P, and dP into dS = P ∘ (dP − total)·scale.
///
/// What a row is computed from lies in arrays of its own: of slices the compiler could not tell that writing one leaves the
/// others alone, and would go element by element.
#[inline(always)]
fn score_gradient(probabilities: &mut [f32], scores: &mut [f32], log_sums: &[f32], totals: &[f32; WIDEST], scale: f32) {
    let columns = log_sums.len();
    let (mut row, mut sums) = ([0.0; WIDEST], [0.0; WIDEST]);
    let (row, sums) = (&mut row[..columns], &mut sums[..columns]);
    sums.copy_from_slice(log_sums);
    for (probabilities, scores) in probabilities.chunks_exact_mut(columns).zip(scores.chunks_exact_mut(columns)) {
        for ((row, p), log_sum) in row.iter_mut().zip(&*probabilities).zip(&*sums) {
            *row = exp(p - log_sum);
        }
        probabilities.copy_from_slice(row);
        for ((s, p), total) in scores.iter_mut().zip(&*row).zip(totals) {
            *s = p * (*s - total) * scale;
        }
    }
}
