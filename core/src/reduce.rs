//! The one seam through which ranks of a cluster share sums.
//!
//! Every rank holds the weights; optimizer state is owned unit by unit (`unit mod world`), so that its memory is divided
//! by the number of ranks. What must agree goes through [`Reduce`]: loss weights, gradients, norms, changes and metrics.

use burn::tensor::Tensor;

/// Sums over ranks. One rank is the trivial case, [`Alone`].
pub trait Reduce {
    /// This rank, from 0.
    fn rank(&self) -> usize;

    /// Number of ranks.
    fn world(&self) -> usize;

    /// Replaces each value by its sum over all ranks; the same sum, bit for bit, on each.
    fn sum(&self, values: &mut [f64]) -> impl Future<Output = ()>;

    /// The sum of a tensor over all ranks.
    fn sum_tensor(&self, tensor: Tensor<2>) -> impl Future<Output = Tensor<2>>;

    /// The owner's tensor, on every rank.
    fn broadcast(&self, tensor: Tensor<2>, owner: usize) -> impl Future<Output = Tensor<2>>;

    /// Whether this rank keeps the optimizer state of a unit.
    fn owns(&self, unit: usize) -> bool {
        unit % self.world() == self.rank()
    }
}

/// A single rank.
#[derive(Debug, Clone, Copy, Default)]
pub struct Alone;

impl Reduce for Alone {
    fn rank(&self) -> usize {
        0
    }

    fn world(&self) -> usize {
        1
    }

    async fn sum(&self, _: &mut [f64]) {}

    async fn sum_tensor(&self, tensor: Tensor<2>) -> Tensor<2> {
        tensor
    }

    async fn broadcast(&self, tensor: Tensor<2>, _: usize) -> Tensor<2> {
        tensor
    }
}
