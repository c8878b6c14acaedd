//! Where parameter gradients go as the backward pass produces them.

use burn::tensor::{FloatDType, Tensor};

use crate::error::Error;
use crate::model::{Policy, Tensors};
use crate::slab::floats;

/// Receives the gradient of every unit once per backward pass.
pub trait GradientSink {
    /// Takes the gradient of the unit with this index, of the shape of [`Unit::dims`](crate::model::Unit::dims).
    fn take(&mut self, unit: usize, gradient: Tensor<2>);

    /// Is told that the next pass is the last one.
    fn last_pass(&mut self) {}
}

/// Sums gradients over the batches of an optimizer step: in f32 or as asked for, unless there is but one.
#[derive(Debug)]
pub struct Accumulate {
    sums: Vec<Option<Tensor<2>>>,
    /// What each unit's are kept in.
    kept: Vec<FloatDType>,
}

impl Accumulate {
    /// For this many units, in f32.
    pub fn new(units: usize) -> Self {
        Self { sums: vec![None; units], kept: vec![FloatDType::F32; units] }
    }

    /// For a policy's units, as its gradients are to be kept; those of vectors in f32.
    pub fn of(policy: &Policy) -> Self {
        let matrices = policy.compute().layout.precision.sums.dtype();
        let kept = policy.units().iter().map(|unit| if unit.is_vector() { FloatDType::F32 } else { matrices });
        Self { sums: vec![None; policy.units().len()], kept: kept.collect() }
    }

    /// Takes out what a unit's gradients came to.
    pub(crate) fn remove(&mut self, unit: usize) -> Option<Tensor<2>> {
        self.sums[unit].take()
    }

    /// The sums, `None` for a unit that no backward pass has reached.
    pub fn into_sums(self) -> Vec<Option<Tensor<2>>> {
        self.sums
    }
}

impl GradientSink for Accumulate {
    fn take(&mut self, unit: usize, gradient: Tensor<2>) {
        let slot = &mut self.sums[unit];
        *slot = Some(match slot.take() {
            Some(sum) => (sum.cast(FloatDType::F32) + gradient.cast(FloatDType::F32)).cast(self.kept[unit]),
            None => gradient,
        });
    }
}

/// Adds up squared gradients: the diagonal of the empirical Fisher information when every pass is one sample.
#[derive(Debug)]
pub struct Square {
    sums: Tensors,
}

impl Square {
    /// Starts at zero for tensors like these.
    pub fn new(like: &Tensors) -> Self {
        Self { sums: like.iter().map(|tensor| tensor.zeros_like().cast(FloatDType::F32)).collect() }
    }

    /// Σ g², element by element.
    pub fn into_sums(self) -> Tensors {
        self.sums
    }
}

impl GradientSink for Square {
    fn take(&mut self, unit: usize, gradient: Tensor<2>) {
        self.sums[unit].inplace(|sum| sum + gradient.cast(FloatDType::F32).square());
    }
}

/// Multiplies the gradient of one backward pass with another one, unit by unit: how far two objectives agree.
#[derive(Debug)]
pub struct Dot {
    other: Vec<Option<Tensor<2>>>,
    /// g·h, g·g and h·h of a unit, `[3]` each.
    products: Vec<Option<Tensor<1>>>,
}

/// The cosines of the angles between two gradients g and h; 0 where either is zero.
#[derive(Debug, Clone, PartialEq)]
pub struct Alignment {
    /// Over all units together.
    pub overall: f64,
    /// Per unit.
    pub units: Vec<f64>,
}

impl Dot {
    /// With the gradient that another sink has summed; `None` counts as zero.
    pub fn new(other: Accumulate) -> Self {
        let other = other.into_sums();
        Self { products: vec![None; other.len()], other }
    }

    /// Reads the products back and makes cosines of them.
    ///
    /// # Errors
    /// If the device fails.
    pub async fn alignment(self) -> Result<Alignment, Error> {
        let count = self.products.len();
        let known: Vec<usize> = (0..count).filter(|&unit| self.products[unit].is_some()).collect();
        let tensors: Vec<Tensor<1>> = self.products.into_iter().flatten().collect();
        let mut products = vec![[0.0; 3]; count];
        if !tensors.is_empty() {
            let values = floats(Tensor::cat(tensors, 0).into_data_async().await.map_err(Error::device)?)?;
            for (unit, values) in known.into_iter().zip(values.as_chunks::<3>().0) {
                products[unit] = values.map(f64::from);
            }
        }
        let total = products.iter().fold([0.0; 3], |sum, part| std::array::from_fn(|i| sum[i] + part[i]));
        Ok(Alignment { overall: cosine(total), units: products.into_iter().map(cosine).collect() })
    }
}

impl GradientSink for Dot {
    fn take(&mut self, unit: usize, gradient: Tensor<2>) {
        let Some(other) = self.other[unit].take() else { return };
        let (g, h) = (gradient.cast(FloatDType::F32), other.cast(FloatDType::F32));
        let sums = [g.clone() * h.clone(), g.square(), h.square()].map(Tensor::sum);
        self.products[unit] = Some(Tensor::cat(sums.into(), 0));
    }
}

fn cosine([product, left, right]: [f64; 3]) -> f64 {
    let norms = (left * right).sqrt();
    if norms > 0.0 { (product / norms).clamp(-1.0, 1.0) } else { 0.0 }
}

#[cfg(test)]
mod tests {
    use burn::tensor::Device;

    use super::*;

    fn check(g: [[f32; 2]; 2], h: [[f32; 2]; 2], overall: f64, units: [f64; 2]) {
        let unit = |row: [f32; 2]| Tensor::<2>::from_floats([row], &Device::flex());
        let mut sums = Accumulate::new(2);
        h.into_iter().enumerate().for_each(|(i, row)| sums.take(i, unit(row)));
        let mut dot = Dot::new(sums);
        g.into_iter().enumerate().for_each(|(i, row)| dot.take(i, unit(row)));
        let found = pollster::block_on(dot.alignment()).unwrap();
        let near = |a: f64, b: f64| (a - b).abs() < 1e-7;
        assert!(near(found.overall, overall) && found.units.iter().zip(units).all(|(a, b)| near(*a, b)), "{found:?}");
    }

    #[test]
    fn cosines_are_those_of_the_angles() {
        let g = [[3.0, 4.0], [-1e-3, 2e-3]];
        check(g, g, 1.0, [1.0, 1.0]);
        check(g, g.map(|row| row.map(|x| -2.0 * x)), -1.0, [-1.0, -1.0]);
        check([[3.0, 4.0], [0.0, 0.0]], [[4.0, -3.0], [1.0, 1.0]], 0.0, [0.0, 0.0]);
        check([[1.0, 0.0], [1.0, 0.0]], [[1.0, 1.0], [0.0, 0.0]], 0.5, [0.5f64.sqrt(), 0.0]);
    }
}
