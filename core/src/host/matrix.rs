//! Matrix products over ordinary memory.
//!
//! The scheme of Goto and van de Geijn ("Anatomy of high-performance matrix multiplication", 2008): operands are copied
//! into panels that lie in the order in which they are read, blocks of them stay in the caches, and a tile of the result
//! stays in registers while the depth of a block runs by. Every element is summed in the same order however the rows are
//! shared among threads.

use std::cell::Cell;
use std::ops::Range;

use pulp::{Simd, WithSimd};

use super::simd::dispatch;
use super::threads::{Threads, in_chunks};
use super::tile::{TILE_ROWS, TileColumns, none, store, tile, tile_columns, tile_of_rows};

/// Depth of a block: one panel of each operand fits the first cache.
const DEPTH: usize = 384;

/// Rows of a block of the left operand, which fits the second cache.
const BLOCK_ROWS: usize = 144;

/// Elements of the right operand that are in panels at the same time, 16 MiB.
const PANEL_ELEMENTS: usize = 1 << 22;

/// Multiplications from which other threads are called in.
const PARALLEL: usize = 1 << 21;

/// A matrix somewhere in memory, or its transpose: element (i, j) is `values[i · row_stride + j · column_stride]`.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Matrix<'a> {
    values: &'a [f32],
    rows: usize,
    columns: usize,
    row_stride: usize,
    column_stride: usize,
}

impl<'a> Matrix<'a> {
    /// A matrix that lies row by row without gaps.
    pub(crate) fn new(values: &'a [f32], rows: usize, columns: usize) -> Self {
        assert_eq!(values.len(), rows * columns);
        Self { values, rows, columns, row_stride: columns, column_stride: 1 }
    }

    /// The first `columns` elements of rows that begin `stride` apart.
    pub(super) fn strided(values: &'a [f32], rows: usize, columns: usize, stride: usize) -> Self {
        assert!(columns <= stride && (rows == 0 || values.len() >= (rows - 1) * stride + columns));
        Self { values, rows, columns, row_stride: stride, column_stride: 1 }
    }

    /// The same memory, rows for columns.
    pub(crate) fn transposed(self) -> Self {
        Self { rows: self.columns, columns: self.rows, row_stride: self.column_stride, column_stride: self.row_stride, ..self }
    }

    pub(super) fn rows(&self) -> usize {
        self.rows
    }

    pub(super) fn columns(&self) -> usize {
        self.columns
    }

    /// One row of a matrix that lies row by row.
    pub(super) fn row(&self, row: usize) -> &'a [f32] {
        self.along_row(row, 0, self.columns)
    }

    /// `count` elements of row `row` from column `from`, for a matrix that lies row by row.
    fn along_row(&self, row: usize, from: usize, count: usize) -> &'a [f32] {
        &self.values[row * self.row_stride + from..][..count]
    }

    /// `count` elements of column `column` from row `from`, for a matrix that lies column by column.
    fn along_column(&self, column: usize, from: usize, count: usize) -> &'a [f32] {
        &self.values[column * self.column_stride + from..][..count]
    }
}

/// What a product does with what is there.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Write {
    /// Overwrites it.
    Replace,
    /// Adds to it.
    Add,
}

/// `left` · `right` into `out`, row by row.
pub(crate) fn product(left: Matrix, right: Matrix, out: &mut [f32], write: Write) {
    let (rows, columns, depth) = (left.rows, right.columns, left.columns);
    assert_eq!(depth, right.rows, "inner sizes of a product");
    assert_eq!(out.len(), rows * columns, "size of a product");
    if rows * columns == 0 {
        return;
    }
    let width = dispatch(TileColumns);
    let padded = columns.next_multiple_of(width);
    let slab = (PANEL_ELEMENTS / padded).max(DEPTH);
    let threads = if rows * columns * depth >= PARALLEL { Threads::All } else { Threads::One };
    with_right_scratch(padded * slab.min(depth), |panels| {
        for from in (0..depth).step_by(slab) {
            let slab = from..(from + slab).min(depth);
            let panels = &mut panels[..padded * slab.len()];
            pack_right(right, slab.clone(), width, panels, threads);
            let write = if from == 0 { write } else { Write::Add };
            multiply(Block { left, slab, panels, columns, write }, out, threads);
        }
    });
}

/// `left` · `right` as a new matrix.
pub(crate) fn multiplied(left: Matrix, right: Matrix) -> Vec<f32> {
    let mut out = vec![0.0; left.rows * right.columns];
    product(left, right, &mut out, Write::Replace);
    out
}

fn pack_right(right: Matrix, slab: Range<usize>, width: usize, panels: &mut [f32], threads: Threads) {
    let together = width * 8; // columns per task
    let rows = right.transposed();
    in_chunks(threads, panels, together * slab.len(), |task, panels| {
        let columns = task * together..((task + 1) * together).min(rows.rows);
        dispatch(|| pack(rows, columns, slab.clone(), width, panels));
    });
}

/// Copies rows of a matrix into panels of `width` rows, each `[depth][width]`; rows that are missing are zero.
#[inline(always)]
pub(super) fn pack(matrix: Matrix, rows: Range<usize>, depth: Range<usize>, width: usize, panels: &mut [f32]) {
    for (first, panel) in rows.clone().step_by(width).zip(panels.chunks_exact_mut(width * depth.len())) {
        let count = width.min(rows.end - first);
        if matrix.column_stride == 1 {
            pack_along_rows(matrix, first..first + count, depth.clone(), width, panel);
        } else {
            pack_along_columns(matrix, first..first + count, depth.clone(), width, panel);
        }
    }
}

#[inline(always)]
fn pack_along_rows(matrix: Matrix, rows: Range<usize>, depth: Range<usize>, width: usize, panel: &mut [f32]) {
    if rows.len() == width && width == TILE_ROWS {
        let rows: [&[f32]; TILE_ROWS] = std::array::from_fn(|i| matrix.along_row(rows.start + i, depth.start, depth.len()));
        for (k, group) in panel.as_chunks_mut::<TILE_ROWS>().0.iter_mut().enumerate() {
            *group = rows.map(|row| row[k]);
        }
        return;
    }
    if rows.len() < width {
        panel.fill(0.0);
    }
    for (i, row) in rows.enumerate() {
        let row = matrix.along_row(row, depth.start, depth.len());
        for (group, value) in panel.chunks_exact_mut(width).zip(row) {
            group[i] = *value;
        }
    }
}

#[inline(always)]
fn pack_along_columns(matrix: Matrix, rows: Range<usize>, depth: Range<usize>, width: usize, panel: &mut [f32]) {
    let count = rows.len();
    for (group, k) in panel.chunks_exact_mut(width).zip(depth) {
        let column = matrix.along_column(k, rows.start, count);
        if count == width && width == TILE_ROWS {
            group[..TILE_ROWS].copy_from_slice(&column[..TILE_ROWS]);
        } else {
            group[..count].copy_from_slice(column);
            group[count..].fill(0.0);
        }
    }
}

/// A stretch of the depth, its slab: the left operand as it is, the right one in panels.
#[derive(Clone)]
struct Block<'a> {
    left: Matrix<'a>,
    slab: Range<usize>,
    panels: &'a [f32],
    columns: usize,
    write: Write,
}

fn multiply(block: Block, out: &mut [f32], threads: Threads) {
    let rows = rows_per_task(block.left.rows, threads);
    let depth = depth_per_block(block.slab.len());
    in_chunks(threads, out, rows * block.columns, |task, out| {
        let rows = task * rows..task * rows + out.len() / block.columns;
        with_left_scratch(rows.len().next_multiple_of(TILE_ROWS) * depth, |packed| {
            dispatch(Rows { block: &block, rows, depth, packed, out });
        });
    });
}

/// Equal shares of at most [`DEPTH`].
fn depth_per_block(depth: usize) -> usize {
    depth.div_ceil(depth.div_ceil(DEPTH).max(1))
}

/// Equal shares of at most [`BLOCK_ROWS`], as many as divide evenly among the threads.
fn rows_per_task(rows: usize, threads: Threads) -> usize {
    let tasks = rows.div_ceil(BLOCK_ROWS).next_multiple_of(threads.count());
    rows.div_ceil(tasks).next_multiple_of(TILE_ROWS)
}

/// One task of a product: some rows of the result, over the depth of a slab.
struct Rows<'a, 'b> {
    block: &'a Block<'b>,
    rows: Range<usize>,
    /// Depth that is packed together, and memory for it.
    depth: usize,
    packed: &'a mut [f32],
    out: &'a mut [f32],
}

impl WithSimd for Rows<'_, '_> {
    type Output = ();

    // Whatever is not inlined here, down to the last closure, loses the vector instructions.
    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) {
        let Block { left, ref slab, panels, columns, write } = *self.block;
        let width = tile_columns::<S>();
        for from in (0..slab.len()).step_by(self.depth) {
            let depth = self.depth.min(slab.len() - from);
            let packed = &mut self.packed[..self.rows.len().next_multiple_of(TILE_ROWS) * depth];
            let direct = left.column_stride == 1;
            if !direct {
                pack(left, self.rows.clone(), slab.start + from..slab.start + from + depth, TILE_ROWS, packed);
            }
            let write = if from == 0 { write } else { Write::Add };
            for (j, right) in panels.chunks_exact(width * slab.len()).enumerate() {
                let right = &right[width * from..width * (from + depth)];
                for (i, out) in self.out.chunks_mut(TILE_ROWS * columns).enumerate() {
                    let mut sums = none(simd);
                    if direct {
                        let (first, last) = (self.rows.start + i * TILE_ROWS, self.rows.end - 1);
                        let rows = std::array::from_fn(|i| left.along_row((first + i).min(last), slab.start + from, depth));
                        tile_of_rows(simd, rows, right, &mut sums);
                    } else {
                        sums = tile(simd, &packed[i * TILE_ROWS * depth..(i + 1) * TILE_ROWS * depth], right);
                    }
                    store(simd, &sums, out, (j * width, columns), write);
                }
            }
        }
    }
}

thread_local! {
    static LEFT: Cell<Vec<f32>> = const { Cell::new(Vec::new()) };
    static RIGHT: Cell<Vec<f32>> = const { Cell::new(Vec::new()) };
}

fn with_left_scratch(len: usize, f: impl FnOnce(&mut [f32])) {
    LEFT.set(lend(LEFT.take(), len, f));
}

fn with_right_scratch(len: usize, f: impl FnOnce(&mut [f32])) {
    RIGHT.set(lend(RIGHT.take(), len, f));
}

/// A thread's scratch memory is taken out while in use: a thread that waits for others may begin another product.
fn lend(mut memory: Vec<f32>, len: usize, f: impl FnOnce(&mut [f32])) -> Vec<f32> {
    const LINE: usize = 64; // bytes: loads then never touch two lines of the cache
    if memory.len() < len + LINE / size_of::<f32>() {
        memory = vec![0.0; len + LINE / size_of::<f32>()];
    }
    let from = memory.as_ptr().align_offset(LINE).min(LINE / size_of::<f32>());
    f(&mut memory[from..from + len]);
    memory
}
