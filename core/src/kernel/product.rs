//! Products of matrices, as exact as their elements even where a device rounds them.

use burn::tensor::{FloatDType, Tensor};

use super::{kind, wide};
use crate::compute::{Library, Multiply, Products};

/// `left` · `right`.
pub(crate) fn product<const D: usize>(left: Tensor<D>, right: Tensor<D>, products: Products) -> Tensor<D>
where
    Tensor<D>: Multiplied<D>,
{
    match products {
        Products::Plain => left.matmul(right),
        Products::Split => in_parts(left, right, Tensor::matmul),
        Products::Library(library) => {
            let to = kind(&left);
            Tensor::by(library)(left, right, to)
        }
    }
}

/// `left` · `right` in f32, whatever they are: what was bf16 is still that when a card multiplies it in TF32.
pub(crate) fn wide_product<const D: usize>(left: Tensor<D>, right: Tensor<D>, products: Products) -> Tensor<D>
where
    Tensor<D>: Multiplied<D>,
{
    match products {
        Products::Library(library) => Tensor::by(library)(left, right, FloatDType::F32),
        Products::Plain | Products::Split => product(wide(left), wide(right), products),
    }
}

/// `left` · `right` for what is computed on in f32: not rounded before, where that costs nothing.
pub(crate) fn open_product<const D: usize>(left: Tensor<D>, right: Tensor<D>, products: Products) -> Tensor<D>
where
    Tensor<D>: Multiplied<D>,
{
    match products {
        Products::Library(_) => wide_product(left, right, products),
        Products::Plain | Products::Split => wide(product(left, right, products)),
    }
}

/// `sum` + `left` · `right` in the type of `sum`. By a library, the sum of both is rounded and no part of it before.
pub(crate) fn added_product(sum: Tensor<2>, left: Tensor<2>, right: Tensor<2>, products: Products) -> Tensor<2> {
    match products {
        Products::Library(library) => (library.added)(left, right, sum),
        Products::Plain | Products::Split => {
            let to = kind(&sum);
            sum + product(left, right, products).cast(to)
        }
    }
}

/// `left` · `right` in f32, added to a sum of f32 that may have begun.
pub(crate) fn summed_product(sum: Option<Tensor<2>>, left: Tensor<2>, right: Tensor<2>, products: Products) -> Tensor<2> {
    match sum {
        Some(sum) => added_product(sum, left, right, products),
        None => open_product(left, right, products),
    }
}

/// `left` · `right`, which outlasts the pass.
pub(crate) fn lasting_product(left: Tensor<2>, right: Tensor<2>, products: Products) -> Tensor<2> {
    match products {
        Products::Library(library) => {
            let to = kind(&left);
            (library.lasting)(left, right, to)
        }
        Products::Plain | Products::Split => product(left, right, products),
    }
}

/// What a [`Library`] multiplies.
pub(crate) trait Multiplied<const D: usize> {
    fn by(library: Library) -> Multiply<D>;
}

impl Multiplied<2> for Tensor<2> {
    fn by(library: Library) -> Multiply<2> {
        library.matrices
    }
}

impl Multiplied<4> for Tensor<4> {
    fn by(library: Library) -> Multiply<4> {
        library.batches
    }
}

/// With x = c + r, c its first 8 bits and r the other 16, and y alike: c·c' + (c·r' + r·y).
///
/// Every device multiplies c as it is. What TF32 rounds off, 2⁻¹² of r, r' and y, stands beside a factor of 2⁻⁸, so that a
/// product is off by less than 2⁻¹⁹. The parts need no gradients of their own: those of r and r' are the product's.
fn in_parts<const D: usize>(
    left: Tensor<D>,
    right: Tensor<D>,
    multiply: impl Fn(Tensor<D>, Tensor<D>) -> Tensor<D>,
) -> Tensor<D> {
    let (coarse_left, coarse_right) = (coarse(&left), coarse(&right));
    let small = multiply(left - coarse_left.clone(), right.clone());
    let small = small + multiply(coarse_left.clone(), right - coarse_right.clone());
    small + multiply(coarse_left, coarse_right)
}

/// The first 8 bits of every element.
fn coarse<const D: usize>(x: &Tensor<D>) -> Tensor<D> {
    wide(x.clone().detach().cast(FloatDType::BF16))
}

#[cfg(test)]
mod tests {
    use burn::tensor::{Device, TensorData};

    use super::*;
    use crate::testing::Noise;

    fn random(seed: u64, [rows, columns]: [usize; 2]) -> Tensor<2> {
        let values = Noise(seed).values(rows * columns, 1.0);
        Tensor::from_data(TensorData::new(values, [rows, columns]), &Device::flex())
    }

    /// As a card multiplies: factors of 11 bits, here the first 11.
    fn rounding(left: Tensor<2>, right: Tensor<2>) -> Tensor<2> {
        let cut = |x: Tensor<2>| x.into_data().iter::<f32>().map(|x| f32::from_bits(x.to_bits() & !0x1fff)).collect::<Vec<_>>();
        let cut = |x: Tensor<2>| Tensor::from_data(TensorData::new(cut(x.clone()), x.dims()), &Device::flex());
        cut(left).matmul(cut(right))
    }

    /// The largest difference, as a part of the largest number.
    fn off(found: Tensor<2>, expected: &Tensor<2>) -> f32 {
        ((found - expected.clone()).abs().max() / expected.clone().abs().max()).into_scalar::<f32>()
    }

    #[test]
    fn parts_give_f32_where_factors_are_rounded() {
        let (left, right) = (random(1, [40, 70]), random(2, [70, 30]));
        let expected = left.clone().matmul(right.clone());
        let rounded = off(rounding(left.clone(), right.clone()), &expected);
        let found = off(in_parts(left.clone(), right.clone(), rounding), &expected);
        assert!(rounded > 1e-4 && found < 2e-6, "{rounded}, in parts {found}");
        assert!(off(product(left, right, Products::Split), &expected) < 1e-6);
    }

    #[test]
    fn gradients_of_parts_are_those_of_the_product() {
        let (left, right) = (random(3, [4, 7]), random(4, [7, 5]));
        let gradients = |products| {
            let leaves = [&left, &right].map(|x| x.clone().autodiff().require_grad());
            let [left, right] = leaves.clone();
            let gradients = product(left, right, products).powi_scalar(2).sum().backward();
            leaves.map(|leaf| leaf.grad(&gradients).expect("a gradient"))
        };
        for (found, expected) in gradients(Products::Split).into_iter().zip(gradients(Products::Plain)) {
            assert!(off(found, &expected) < 1e-6);
        }
    }
}
