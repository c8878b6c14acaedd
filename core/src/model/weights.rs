//! Weights as products see them, and what they have beyond that.

use burn::tensor::{DType, FloatDType, Int, Tensor, TensorData};

use super::{Tensors, Unit};
use crate::compute::{Compute, Offload, Split, Weights as Kept};
use crate::host::{halved, joined, narrow, widen};
use crate::kernel::kind;

/// Weights of one model.
#[derive(Debug, Clone)]
pub(super) struct Weights {
    compute: Compute,
    /// What products compute with.
    pub(super) coarse: Tensors,
    /// What each unit has beyond that.
    fine: Vec<Fine>,
    /// What stands in the place of a tensor that was taken.
    vacant: Tensor<2>,
}

#[derive(Debug, Clone)]
enum Fine {
    Nothing,
    /// The weights in f32.
    Master(Tensor<2>),
    /// Their lower 16 bits.
    Rest(Tensor<2, Int>),
    /// The weights in f32, in ordinary memory.
    Elsewhere(Vec<f32>),
}

impl Weights {
    /// None yet, to be kept as `compute` says.
    pub(super) fn new(compute: Compute) -> Self {
        let vacant = Tensor::zeros([1, 1], &compute.device);
        Self { compute, coarse: Vec::new(), fine: Vec::new(), vacant }
    }

    /// Takes the next unit's weights, f32. Vectors stay that wherever there is bf16: no matrix is multiplied with them, and they cost nothing.
    pub(super) fn push(&mut self, unit: &Unit, data: TensorData) {
        let device = &self.compute.device;
        let kept = if unit.is_vector() { Kept::F32 } else { self.compute.layout.precision.weights };
        let (coarse, fine) = match kept {
            _ if self.compute.layout.offload == Offload::Optimizer => {
                let values = widen(data);
                (self.coarse(&values, unit.dims(), kept.dtype()), Fine::Elsewhere(values))
            }
            Kept::F32 => (Tensor::from_data(data, device), Fine::Nothing),
            Kept::Bf16Split => self.compute.staying(data, |data| match self.compute.layout.kernels {
                Some(_) => self.halves_there(Tensor::from_data(data, device)),
                None => self.halves(&widen(data), unit.dims()),
            }),
            Kept::Bf16Master => {
                let full: Tensor<2> = Tensor::from_data(data.clone(), device);
                (self.coarse(&widen(data), unit.dims(), kept.dtype()), Fine::Master(full))
            }
        };
        self.coarse.push(coarse);
        self.fine.push(fine);
    }

    /// The same as products see them, without what they have beyond that.
    pub(super) fn as_seen(&self) -> Self {
        let fine = self.fine.iter().map(|_| Fine::Nothing).collect();
        Self { compute: self.compute.clone(), coarse: self.coarse.clone(), fine, vacant: self.vacant.clone() }
    }

    /// Sets what products see of a unit.
    pub(super) fn set_seen(&mut self, unit: usize, dims: [usize; 2], values: &[f32]) {
        self.coarse[unit] = self.coarse(values, dims, kind(&self.coarse[unit]));
    }

    /// What products compute with, made from values in ordinary memory.
    fn coarse(&self, values: &[f32], dims: [usize; 2], dtype: FloatDType) -> Tensor<2> {
        let dtype = DType::from(dtype);
        Tensor::from_data(narrow(values, dims, dtype), (&self.compute.device, dtype))
    }

    /// Both halves, made from values in ordinary memory.
    fn halves(&self, values: &[f32], dims: [usize; 2]) -> (Tensor<2>, Fine) {
        let [coarse, rest] = halved(values, dims);
        let device = &self.compute.device;
        (Tensor::from_data(coarse, (device, DType::BF16)), Fine::Rest(Tensor::from_data(rest, (device, DType::I16))))
    }

    /// The same of weights on the device: there, if it has kernels for it.
    fn halves_there(&self, full: Tensor<2>) -> (Tensor<2>, Fine) {
        match self.compute.layout.kernels {
            Some(own) => {
                let (coarse, rest) = (own.halved)(full, FloatDType::BF16);
                (coarse, Fine::Rest(rest))
            }
            None => {
                let dims = full.dims();
                self.halves(&widen(full.into_data()), dims)
            }
        }
    }

    fn joined(&self, coarse: Tensor<2>, rest: Tensor<2, Int>) -> Tensor<2> {
        if let Some(own) = self.compute.layout.kernels {
            return (own.joined)((coarse, rest));
        }
        let (dims, device) = (coarse.dims(), &self.compute.device);
        Tensor::from_data(TensorData::new(joined([coarse.into_data(), rest.into_data()]), dims), (device, DType::F32))
    }

    /// A unit's weights, f32.
    pub(super) fn full(&self, unit: usize) -> Tensor<2> {
        match &self.fine[unit] {
            Fine::Nothing => self.coarse[unit].clone(),
            Fine::Master(master) => master.clone(),
            Fine::Rest(rest) => self.joined(self.coarse[unit].clone(), rest.clone()),
            Fine::Elsewhere(values) => {
                let data = TensorData::new(values.clone(), self.coarse[unit].dims());
                Tensor::from_data(data, (&self.compute.device, DType::F32))
            }
        }
    }

    /// A unit's weights, f32, where they lie in ordinary memory besides.
    pub(super) fn elsewhere(&self, unit: usize) -> Option<&[f32]> {
        match &self.fine[unit] {
            Fine::Elsewhere(values) => Some(values),
            _ => None,
        }
    }

    /// Takes a unit's weights out, f32: nobody else holds their memory then. [`put`](Self::put) must follow.
    pub(super) fn take(&mut self, unit: usize) -> Tensor<2> {
        match &mut self.fine[unit] {
            Fine::Nothing => std::mem::replace(&mut self.coarse[unit], self.vacant.clone()),
            Fine::Master(master) => std::mem::replace(master, self.vacant.clone()),
            Fine::Rest(_) | Fine::Elsewhere(_) => self.full(unit),
        }
    }

    /// Sets a unit's weights, f32.
    pub(super) fn put(&mut self, unit: usize, full: Tensor<2>) {
        (self.coarse[unit], self.fine[unit]) = match self.fine[unit] {
            Fine::Nothing => (full, Fine::Nothing),
            Fine::Master(_) => (self.halves_there(full.clone()).0, Fine::Master(full)),
            Fine::Rest(_) => self.halves_there(full),
            Fine::Elsewhere(_) => {
                let (dims, values) = (full.dims(), widen(full.into_data()));
                (self.coarse(&values, dims, kind(&self.coarse[unit])), Fine::Elsewhere(values))
            }
        };
    }

    /// A unit's weights where they are split.
    pub(super) fn split(&self, unit: usize) -> Option<Split> {
        match &self.fine[unit] {
            Fine::Rest(rest) => Some((self.coarse[unit].clone(), rest.clone())),
            _ => None,
        }
    }

    /// Takes a unit's weights out where they are split. [`put_split`](Self::put_split) must follow.
    pub(super) fn take_split(&mut self, unit: usize) -> Option<Split> {
        match std::mem::replace(&mut self.fine[unit], Fine::Nothing) {
            Fine::Rest(rest) => Some((std::mem::replace(&mut self.coarse[unit], self.vacant.clone()), rest)),
            other => {
                self.fine[unit] = other;
                None
            }
        }
    }

    /// Sets split weights.
    pub(super) fn put_split(&mut self, unit: usize, (coarse, rest): Split) {
        (self.coarse[unit], self.fine[unit]) = (coarse, Fine::Rest(rest));
    }

    /// As [`take`](Self::take), where updates are computed in ordinary memory.
    pub(super) fn take_values(&mut self, unit: usize) -> Vec<f32> {
        match &mut self.fine[unit] {
            Fine::Elsewhere(values) => std::mem::take(values),
            _ => widen(self.take(unit).into_data()),
        }
    }

    /// Undoes [`take_values`](Self::take_values) with the same values.
    pub(super) fn give_back(&mut self, unit: usize, dims: [usize; 2], values: Vec<f32>) {
        match &mut self.fine[unit] {
            Fine::Elsewhere(taken) => *taken = values,
            _ => self.put_values(unit, dims, values),
        }
    }

    /// As [`put`](Self::put), where updates are computed in ordinary memory.
    pub(super) fn put_values(&mut self, unit: usize, dims: [usize; 2], values: Vec<f32>) {
        if let Fine::Elsewhere(_) = self.fine[unit] {
            self.coarse[unit] = self.coarse(&values, dims, kind(&self.coarse[unit]));
            self.fine[unit] = Fine::Elsewhere(values);
        } else {
            self.put(unit, Tensor::from_data(TensorData::new(values, dims), &self.compute.device));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::Storage;
    use super::*;
    use crate::compute::{Moments, Precision};
    use crate::random::{normal, stream};
    use burn::tensor::Device;

    fn random(scale: f64) -> Tensor<2> {
        let mut rng = stream(1, "weights", &[]);
        let values: Vec<f32> = (0..4096).map(|_| (scale * normal(&mut rng)) as f32).collect();
        Tensor::from_data(TensorData::new(values, [64, 64]), &Device::flex())
    }

    fn numbers(tensor: Tensor<2>) -> Vec<f32> {
        tensor.into_data().convert::<f32>().try_into_vec().unwrap()
    }

    fn compute(weights: Kept) -> Compute {
        Compute::device(Device::flex()).with(Precision { weights, moments: Moments::F32, ..Precision::default() })
    }

    fn kept(kept: Kept, full: &Tensor<2>) -> Weights {
        holding(Weights::new(compute(kept)), full)
    }

    fn holding(mut weights: Weights, full: &Tensor<2>) -> Weights {
        weights.push(&Unit::new("w", &full.dims(), Storage::AsIs), full.to_data());
        weights
    }

    #[test]
    fn nothing_is_lost() {
        let full = random(0.02);
        for kind in [Kept::F32, Kept::Bf16Master, Kept::Bf16Split] {
            let mut weights = kept(kind, &full);
            assert_eq!(numbers(weights.full(0)), numbers(full.clone()), "{kind:?}");
            let taken = weights.take(0);
            weights.put(0, taken - 1e-6);
            assert_eq!(numbers(weights.full(0)), numbers(full.clone() - 1e-6), "{kind:?}");
        }
    }

    #[test]
    fn vectors_stay_what_they_are() {
        let norm = random(1.0).slice([0..1, 0..64]);
        let elsewhere = compute(Kept::Bf16Master).offloading(Offload::Optimizer);
        for compute in [compute(Kept::Bf16Split), compute(Kept::Bf16Master), elsewhere] {
            let mut weights = Weights::new(compute);
            weights.push(&Unit::new("norm", &[64], Storage::AsIs), norm.to_data());
            let moved = weights.take_values(0).iter().map(|w| w + 1e-6).collect();
            weights.put_values(0, norm.dims(), moved);
            assert_eq!(numbers(weights.coarse[0].clone()), numbers(norm.clone() + 1e-6));
            assert_eq!(numbers(weights.full(0)), numbers(norm.clone() + 1e-6));
        }
    }

    #[test]
    fn weights_in_ordinary_memory_are_what_the_device_rounds() {
        let full = random(0.02);
        for kept in [Kept::F32, Kept::Bf16Master] {
            let mut weights = holding(Weights::new(compute(kept).offloading(Offload::Optimizer)), &full);
            assert_eq!(numbers(weights.full(0)), numbers(full.clone()));
            assert_eq!(weights.coarse[0].dtype(), DType::from(kept.dtype()));
            let moved: Vec<f32> = weights.take_values(0).iter().map(|w| w + 1e-3).collect();
            weights.put_values(0, full.dims(), moved.clone());
            assert_eq!(weights.elsewhere(0), Some(moved.as_slice()));
            let there = self::kept(kept, &Tensor::from_data(TensorData::new(moved, full.dims()), &Device::flex()));
            assert_eq!(numbers(weights.coarse[0].clone()), numbers(there.coarse[0].clone()));
        }
    }

    #[test]
    fn what_was_saved_comes_back_as_the_same_two_numbers() {
        // Halfway between two bf16, powers of two, zeros and the smallest numbers among them.
        let odd: [f32; 9] = [1.0 + 1.0 / 256.0, 1.0 - 1.0 / 512.0, 2.0, -0.5, 0.0, -0.0, 1e-38, -1e-40, 3e38];
        let odd = Tensor::from_data(TensorData::new(odd.to_vec(), [1, 9]), &Device::flex());
        for full in [random(1.0), random(1e-6), odd] {
            let weights = kept(Kept::Bf16Split, &full);
            let again = kept(Kept::Bf16Split, &weights.full(0));
            assert!(numbers(weights.full(0)).iter().all(|x| x.is_finite()));
            assert_eq!(numbers(weights.full(0)), numbers(again.full(0)));
            assert_eq!(numbers(weights.coarse[0].clone()), numbers(again.coarse[0].clone()));
        }
    }

    #[test]
    fn a_hundred_small_steps_add_up() {
        for kind in [Kept::F32, Kept::Bf16Master, Kept::Bf16Split] {
            let mut weights = kept(kind, &random(0.02));
            let before = numbers(weights.full(0));
            for _ in 0..100 {
                let taken = weights.take(0);
                weights.put(0, taken - 1e-6);
            }
            let moved = before.iter().zip(numbers(weights.full(0))).map(|(b, a)| f64::from((b - a).powi(2))).sum::<f64>();
            let rms = (moved / before.len() as f64).sqrt();
            assert!((rms / 1e-4 - 1.0).abs() < 3e-3, "{kind:?}: {rms:e}");
            let seen = numbers(weights.coarse[0].clone()).iter().zip(&before).map(|(a, b)| f64::from(b - a)).sum::<f64>();
            assert!((seen / before.len() as f64 / 1e-4 - 1.0).abs() < 0.1, "{kind:?}: products see {seen:e}");
        }
    }
}
