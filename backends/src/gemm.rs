//! Products of strided matrices in rows, as a BLAS is asked for them, to which every matrix lies in columns.
//!
//! What lies in rows is, read in columns, the transpose. So C = A·B in rows is asked for as Cᵀ = Bᵀ·Aᵀ in columns, and no element
//! moves.

/// Matrices in memory: `[.., rows, columns]` and the strides between elements, counted in elements.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Strided {
    pub(crate) sizes: Vec<usize>,
    pub(crate) strides: Vec<usize>,
}

/// A matrix in columns, or as many as a call multiplies.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) struct Matrix {
    pub(crate) rows: usize,
    pub(crate) columns: usize,
    /// From the start of a column to that of the next.
    pub(crate) leading: usize,
    /// From a matrix to the next.
    pub(crate) batch_stride: usize,
    /// Its transpose is the factor.
    pub(crate) transposed: bool,
}

/// What every call has in common: `product` = `first` · `second`, `batch` times.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) struct Gemm {
    pub(crate) first: Matrix,
    pub(crate) second: Matrix,
    pub(crate) product: Matrix,
    pub(crate) batch: usize,
}

/// The calls that multiply two tensors into a third.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Calls {
    pub(crate) gemm: Gemm,
    /// Where the first, the second and the product of each call begin.
    pub(crate) offsets: Vec<[usize; 3]>,
}

/// `[.., M, K]` · `[.., K, N]` = `[.., M, N]`, where sizes of 1 in front of the matrices stand for as many as the other has.
///
/// # Panics
/// If the shapes do not go together.
pub(crate) fn product_shape(left: &[usize], right: &[usize]) -> Vec<usize> {
    let rank = left.len();
    assert!(rank >= 2 && right.len() == rank && left[rank - 1] == right[rank - 2], "no product of {left:?} and {right:?}");
    let outer = left.iter().zip(right).take(rank - 2).map(|(left, right)| {
        assert!(left == right || *left == 1 || *right == 1, "no product of {left:?} and {right:?}");
        *left.max(right)
    });
    outer.chain([left[rank - 2], right[rank - 1]]).collect()
}

impl Strided {
    /// Whether a BLAS can read it where it lies: in rows or in columns, both of which may have gaps.
    pub(crate) fn readable(&self) -> bool {
        self.matrix().is_some()
    }

    /// Its last two dimensions. What lies in rows is already the transpose that is asked for.
    fn matrix(&self) -> Option<Matrix> {
        let last = self.sizes.len() - 1;
        let (rows, columns) = (self.sizes[last - 1], self.sizes[last]);
        let lines = |lines: usize, length: usize, between: usize, within: usize| {
            let whole = (length == 1 || within == 1) && (lines == 1 || between >= length);
            whole.then_some(if lines == 1 { length } else { between })
        };
        let (between_rows, between_columns) = (self.strides[last - 1], self.strides[last]);
        let of = |rows, columns, leading, transposed| Matrix { rows, columns, leading, batch_stride: 0, transposed };
        lines(rows, columns, between_rows, between_columns)
            .map(|leading| of(columns, rows, leading, false))
            .or_else(|| lines(columns, rows, between_columns, between_rows).map(|leading| of(rows, columns, leading, true)))
    }

    /// The same with a dimension cut into so many parts, one dimension of parts and one within them.
    pub(crate) fn cut(mut self, dimension: usize, parts: usize) -> Self {
        let (size, stride) = (self.sizes[dimension] / parts, self.strides[dimension]);
        self.sizes.splice(dimension..=dimension, [parts, size]);
        self.strides.splice(dimension..=dimension, [size * stride, stride]);
        self
    }

    /// From one matrix to the next along a dimension in front, of which there are `of` altogether.
    fn step(&self, dimension: usize, of: usize) -> usize {
        if self.sizes[dimension] == of { self.strides[dimension] } else { 0 }
    }
}

/// A tensor in rows without gaps.
pub(crate) fn rows(sizes: &[usize]) -> Strided {
    let mut strides = vec![1; sizes.len()];
    (0..sizes.len().saturating_sub(1)).rev().for_each(|i| strides[i] = strides[i + 1] * sizes[i + 1]);
    Strided { sizes: sizes.to_vec(), strides }
}

/// How two tensors are multiplied into a third, which lies in rows. `None` if one of the factors must be laid in rows first.
///
/// # Panics
/// As [`product_shape`] does.
pub(crate) fn calls(left: &Strided, right: &Strided, product: &Strided) -> Option<Calls> {
    let shape = product_shape(&left.sizes, &right.sizes);
    assert_eq!(shape, product.sizes, "a product of another shape");
    let mut loops = loops(&shape[..shape.len() - 2], [right, left, product]);
    let Loop { times, steps } = loops.pop().unwrap_or(Loop { times: 1, steps: [0; 3] });
    let [first, second, product] = [(right.matrix()?, 0), (left.matrix()?, 1), (product.matrix()?, 2)]
        .map(|(matrix, which)| Matrix { batch_stride: steps[which], ..matrix });
    Some(Calls { gemm: Gemm { first, second, product, batch: times }, offsets: offsets(&loops) })
}

/// Some products one after the other: how far on the first, the second and the product of the next lie.
struct Loop {
    times: usize,
    steps: [usize; 3],
}

/// The dimensions in front, joined where all three tensors allow it.
fn loops(outer: &[usize], tensors: [&Strided; 3]) -> Vec<Loop> {
    let mut loops: Vec<Loop> = Vec::new();
    for (dimension, &times) in outer.iter().enumerate() {
        let steps = tensors.map(|tensor| tensor.step(dimension, times));
        match loops.last_mut() {
            _ if times == 1 => {}
            Some(last) if (0..3).all(|which| last.steps[which] == steps[which] * times) => {
                *last = Loop { times: last.times * times, steps };
            }
            _ => loops.push(Loop { times, steps }),
        }
    }
    loops
}

fn offsets(loops: &[Loop]) -> Vec<[usize; 3]> {
    loops.iter().fold(vec![[0; 3]], |offsets, Loop { times, steps }| {
        let next = |from: [usize; 3]| (0..*times).map(move |time| [0, 1, 2].map(|which| from[which] + time * steps[which]));
        offsets.into_iter().flat_map(next).collect()
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A tensor without gaps whose dimensions were then exchanged.
    fn permuted(sizes: &[usize], order: &[usize]) -> Strided {
        let strides = rows(sizes).strides;
        Strided { sizes: order.iter().map(|i| sizes[*i]).collect(), strides: order.iter().map(|i| strides[*i]).collect() }
    }

    fn values(of: &Strided, seed: usize) -> Vec<f64> {
        let last: usize = of.sizes.iter().zip(&of.strides).map(|(size, stride)| (size - 1) * stride).sum();
        (0..=last).map(|i| ((i * 7 + seed) % 11) as f64 - 5.0).collect()
    }

    /// What GEMM is defined to be.
    fn blas(calls: &Calls, first: &[f64], second: &[f64], product: &mut [f64]) {
        let Gemm { first: a, second: b, product: c, batch } = calls.gemm;
        let of = |m: Matrix, values: &[f64], from: usize, i: usize, j: usize| {
            let (i, j) = if m.transposed { (j, i) } else { (i, j) };
            assert!(i < m.rows && j < m.columns && m.leading >= m.rows);
            values[from + i + j * m.leading]
        };
        let depth = if a.transposed { a.rows } else { a.columns };
        for (offset, n) in calls.offsets.iter().flat_map(|offset| (0..batch).map(move |n| (offset, n))) {
            let [a_from, b_from, c_from] = [(a, 0), (b, 1), (c, 2)].map(|(m, which)| offset[which] + n * m.batch_stride);
            for (i, j) in (0..c.rows).flat_map(|i| (0..c.columns).map(move |j| (i, j))) {
                product[c_from + i + j * c.leading] =
                    (0..depth).map(|k| of(a, first, a_from, i, k) * of(b, second, b_from, k, j)).sum();
            }
        }
    }

    /// Σ left·right, index by index.
    fn plain(left: (&Strided, &[f64]), right: (&Strided, &[f64])) -> Vec<f64> {
        let shape = product_shape(&left.0.sizes, &right.0.sizes);
        let (rank, depth) = (shape.len(), left.0.sizes[shape.len() - 1]);
        let at = |(of, values): (&Strided, &[f64]), index: &[usize]| {
            let offset = index.iter().enumerate().map(|(i, at)| if of.sizes[i] == 1 { 0 } else { at * of.strides[i] });
            values[offset.sum::<usize>()]
        };
        let element = |flat: usize| {
            let mut index = vec![0; rank];
            (0..rank).rev().fold(flat, |rest, i| {
                index[i] = rest % shape[i];
                rest / shape[i]
            });
            let (mut by_left, mut by_right) = (index.clone(), index);
            let product = |k: usize| {
                by_left[rank - 1] = k;
                by_right[rank - 2] = k;
                at(left, &by_left) * at(right, &by_right)
            };
            (0..depth).map(product).sum()
        };
        (0..shape.iter().product()).map(element).collect()
    }

    fn check(left: &Strided, right: &Strided, times: usize, batch: usize) {
        check_into(left, right, &rows(&product_shape(&left.sizes, &right.sizes)), (times, batch));
    }

    /// `product` has no gaps, but its dimensions may have been exchanged.
    fn check_into(left: &Strided, right: &Strided, product: &Strided, (times, batch): (usize, usize)) {
        let calls = calls(left, right, product).unwrap_or_else(|| panic!("{left:?} and {right:?} cannot be read"));
        assert_eq!((calls.offsets.len(), calls.gemm.batch), (times, batch), "{left:?}, {right:?}");
        let (of_left, of_right) = (values(left, 1), values(right, 5));
        let expected = plain((left, &of_left), (right, &of_right));
        let mut found = vec![f64::NAN; expected.len()];
        blas(&calls, &of_right, &of_left, &mut found);
        let place = |flat: usize| -> usize {
            let plain = rows(&product.sizes);
            let index = plain.strides.iter().zip(&product.sizes).map(|(stride, size)| flat / stride % size);
            index.zip(&product.strides).map(|(at, stride)| at * stride).sum()
        };
        let found: Vec<f64> = (0..found.len()).map(|flat| found[place(flat)]).collect();
        assert_eq!(found, expected, "{left:?}, {right:?} into {product:?}");
    }

    #[test]
    fn matrices_in_rows_and_in_columns() {
        let (m, k, n) = (4, 3, 5);
        for left in [rows(&[m, k]), permuted(&[k, m], &[1, 0])] {
            for right in [rows(&[k, n]), permuted(&[n, k], &[1, 0])] {
                check(&left, &right, 1, 1);
            }
        }
    }

    #[test]
    fn matrices_with_gaps() {
        let left = Strided { sizes: vec![4, 3], strides: vec![8, 1] };
        let right = Strided { sizes: vec![3, 5], strides: vec![1, 7] };
        check(&left, &right, 1, 1);
    }

    #[test]
    fn single_rows_and_columns() {
        for [m, k, n] in [[1, 3, 5], [4, 1, 5], [4, 3, 1], [1, 1, 1]] {
            for left in [rows(&[m, k]), permuted(&[k, m], &[1, 0])] {
                for right in [rows(&[k, n]), permuted(&[n, k], &[1, 0])] {
                    check(&left, &right, 1, 1);
                }
            }
        }
        check(&Strided { sizes: vec![1, 3], strides: vec![0, 1] }, &rows(&[3, 2]), 1, 1);
    }

    #[test]
    fn heads_of_attention() {
        let (batch, heads, width, dim) = (2, 3, 4, 5);
        let queries = rows(&[batch, heads, width, dim]);
        let keys = permuted(&[batch, width, heads, dim], &[0, 2, 3, 1]);
        check(&queries, &keys, batch, heads);
        let values = permuted(&[batch, width, heads, dim], &[0, 2, 1, 3]);
        check(&rows(&[batch, heads, width, width]), &values, batch, heads);
        check(&permuted(&[batch, heads, width, width], &[0, 1, 3, 2]), &queries, 1, batch * heads);
    }

    #[test]
    fn heads_side_by_side() {
        let (batch, heads, width, dim) = (2, 3, 4, 5);
        let joined = |groups: usize| permuted(&[batch, width, heads, groups, dim], &[0, 2, 3, 1, 4]);
        let values = permuted(&[batch, width, heads, 1, dim], &[0, 2, 3, 1, 4]);
        check_into(&rows(&[batch, heads, 1, width, width]), &values, &joined(1), (batch, heads));
        check_into(&rows(&[batch, heads, 2, width, width]), &values, &joined(2), (batch * heads, 2));
    }

    #[test]
    fn cut_dimensions() {
        assert_eq!(rows(&[2, 6, 5]).cut(1, 3), rows(&[2, 3, 2, 5]));
        assert_eq!(permuted(&[2, 5, 6], &[0, 2, 1]).cut(1, 3), permuted(&[2, 5, 3, 2], &[0, 2, 3, 1]));
    }

    #[test]
    fn one_factor_for_many() {
        check(&rows(&[2, 3, 4, 5]), &rows(&[1, 1, 5, 2]), 1, 6);
        check(&rows(&[2, 1, 4, 5]), &rows(&[2, 3, 5, 2]), 2, 3);
        check(&rows(&[1, 3, 4, 5]), &rows(&[2, 1, 5, 2]), 2, 3);
    }

    #[test]
    fn what_lies_in_neither_must_be_copied() {
        let every_other = Strided { sizes: vec![4, 3], strides: vec![6, 2] };
        let repeated = Strided { sizes: vec![4, 3], strides: vec![0, 1] };
        assert!(!every_other.readable() && !repeated.readable() && rows(&[4, 3]).readable());
        assert_eq!(calls(&every_other, &rows(&[3, 2]), &rows(&[4, 2])), None);
        assert_eq!(calls(&rows(&[2, 4]), &repeated, &rows(&[2, 3])), None);
    }
}
