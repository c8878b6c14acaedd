//! Rows of a head in shared memory, and which of them a unit has.

use burn_cubecl::cubecl::{self, prelude::*};

use super::products::Pair;

/// Units that compute 16 rows together.
const CREW: usize = 32;

/// Units of a cube: four crews.
pub(super) const UNITS: usize = 4 * CREW;

/// Rows of a cube.
pub(super) const ROWS: usize = 64;

/// What a kernel is compiled for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) struct Form {
    /// Width of a head, a multiple of 16.
    pub(super) dim: usize,
    /// Whether there are matrix units for the type of the factors.
    pub(super) matrix_units: bool,
}

/// What the tensors hold.
#[derive(CubeType, CubeLaunch)]
pub(super) struct Texts {
    /// On scores.
    pub(super) scale: f32,
    /// Positions of a text.
    pub(super) width: u32,
    /// Of queries.
    pub(super) heads: u32,
    /// Of them to one of keys.
    pub(super) group: u32,
    /// From the firsts of one text to the next one's.
    pub(super) apart: u32,
}

#[cube]
impl Texts {
    /// A head's queries.
    pub(super) fn queries(&self, head: usize, #[comptime] dim: usize) -> Head {
        Head::new(head, self.heads as usize, self.width as usize, dim)
    }

    /// A head's keys, or values.
    pub(super) fn keys(&self, head: usize, #[comptime] dim: usize) -> Head {
        Head::new(head, (self.heads / self.group) as usize, self.width as usize, dim)
    }

    /// Where the firsts of the cube's text begin.
    pub(super) fn firsts(&self) -> usize {
        CUBE_POS_Z as usize * self.apart as usize
    }

    /// Those of the cube's text and a head among the rows of statistics.
    pub(super) fn statistics(&self, head: usize) -> usize {
        (CUBE_POS_Z as usize * self.heads as usize + head) * self.width as usize
    }

    /// From the first statistics to the second.
    pub(super) fn all(&self) -> usize {
        CUBE_COUNT_Z as usize * (self.heads * self.width) as usize
    }

    /// The cube's first query, where those that have most to look at come first.
    pub(super) fn first_query(&self) -> usize {
        ((self.width as usize - 1) / ROWS - CUBE_POS_X as usize) * ROWS
    }
}

/// One head's rows of the cube's text in a tensor `[texts · width, heads · dim]`.
#[derive(CubeType)]
pub(super) struct Head {
    /// Of its first row's first element.
    start: usize,
    /// From one row to the next, in elements.
    step: usize,
    /// Rows.
    width: usize,
}

#[cube]
impl Head {
    fn new(head: usize, heads: usize, width: usize, #[comptime] dim: usize) -> Head {
        Head { start: (CUBE_POS_Z as usize * width * heads + head) * dim, step: heads * dim, width }
    }
}

/// The place of a unit in its crew.
#[cube]
pub(super) fn lane() -> usize {
    UNIT_POS as usize % CREW
}

/// The first of the cube's rows that this unit's crew has.
#[cube]
pub(super) fn crew_row() -> usize {
    UNIT_POS as usize / CREW * 16
}

/// The first of the cube's two rows that this unit has; the other is eight below.
#[cube]
pub(super) fn unit_row() -> usize {
    crew_row() + lane() / 4
}

/// The first column of the unit's pair in every eight.
#[cube]
pub(super) fn pair_column() -> usize {
    lane() % 4 * 2
}

/// Vectors of a staged row: one more than it has, so that eight rows lie in different banks.
#[cube]
pub(super) fn staged_row<N: Size>(#[comptime] dim: usize) -> comptime_type!(usize) {
    let vectors = N::value();
    comptime!(dim / vectors + 1)
}

/// Shared memory for so many rows.
#[cube]
pub(super) fn stage<F: Float, N: Size>(#[comptime] rows: usize, #[comptime] form: Form) -> Shared<[Vector<F, N>]> {
    let across = staged_row::<N>(form.dim);
    Shared::new_aligned_slice(comptime!(rows * across), 16usize)
}

/// Some rows of a head from one on into shared memory; zeros for those that there are not.
#[cube]
pub(super) fn fill<F: Float, N: Size>(
    tile: &mut [Vector<F, N>],
    x: &Tensor<Vector<F, N>>,
    head: &Head,
    from: usize,
    #[comptime] rows: usize,
    #[comptime] form: Form,
) {
    let size = N::value();
    let vectors = comptime!(form.dim / size);
    let across = staged_row::<N>(form.dim);
    #[unroll]
    for turn in 0..comptime!((rows * vectors).div_ceil(UNITS)) {
        let i = turn * UNITS + UNIT_POS as usize;
        let row = i / vectors;
        let column = i % vectors;
        if comptime!((rows * vectors).is_multiple_of(UNITS)) || row < rows {
            let mut value = Vector::<F, N>::new(F::new(0.0f32));
            if from + row < head.width {
                value = x[(head.start + (from + row) * head.step) / size + column];
            }
            tile[row * across + column] = value;
        }
    }
}

/// Keys and values from one on, for all the cube's units, which are done with those before.
#[cube]
pub(super) fn fill_both<F: Float, N: Size>(
    key_tile: &mut [Vector<F, N>],
    value_tile: &mut [Vector<F, N>],
    key: &Tensor<Vector<F, N>>,
    value: &Tensor<Vector<F, N>>,
    head: &Head,
    at: usize,
    #[comptime] rows: usize,
    #[comptime] form: Form,
) {
    sync_cube();
    fill::<F, N>(key_tile, key, head, at, rows, form);
    fill::<F, N>(value_tile, value, head, at, rows, form);
    sync_cube();
}

/// One element of a tile.
#[cube]
pub(super) fn element<F: Float, N: Size>(tile: &[Vector<F, N>], row: usize, column: usize, #[comptime] dim: usize) -> F {
    tile[row * staged_row::<N>(dim) + column / N::value()].extract_dynamic(column % N::value())
}

/// A crew's sums, each row by a factor, into the rows of a head from the cube's first on; those beyond its end are left out.
#[cube]
pub(super) fn write<P: Float>(
    out: &mut Tensor<Pair<P>>,
    head: &Head,
    from: usize,
    sums: &Array<Pair<f32>>,
    factors: &Array<f32>,
    #[comptime] form: Form,
) {
    #[unroll]
    for half in 0..2usize {
        let row = from + unit_row() + half * 8;
        if row < head.width {
            let start = (head.start + row * head.step + pair_column()) / 2;
            #[unroll]
            for n in 0..comptime!(form.dim / 8) {
                out[start + n * 4] = Pair::<P>::cast_from(sums[n * 2 + half] * Pair::<f32>::new(factors[half]));
            }
        }
    }
}

/// The same number for both rows of a unit.
#[cube]
pub(super) fn alike(number: f32) -> Array<f32> {
    let mut both = Array::<f32>::new(2usize);
    both[0] = number;
    both[1] = number;
    both
}
