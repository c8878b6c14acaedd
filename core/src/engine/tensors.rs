//! The passes as tensor operations, for any backend; also the reference of those over ordinary memory.

use burn::tensor::{Device, IndexingUpdateOp, Int, Tensor, TensorData};

use super::passes::{BringBack, Head, HeadGradients, Layers, Texts};
use crate::compute::{Compute, Kernels, LayerInputs, Products};
use crate::kernel::norm::{norm, norm_backward};
use crate::kernel::product::{open_product, summed_product};
use crate::kernel::vocabulary::{log_probs, logits, logits_gradient};
use crate::kernel::{kind, wide};
use crate::model::{Kept, Layer, LayerInput, Policy, Stack};
use crate::slab::copied;
use crate::watch::Part;

/// Integers as a tensor.
pub(super) fn indices(values: &[i32], device: &Device) -> Tensor<1, Int> {
    Tensor::from_data(TensorData::new(values.to_vec(), [values.len()]), device)
}

/// A decoder's layers over one batch of padded texts.
pub(super) struct TensorLayers {
    stack: Stack,
    shared: LayerInput,
    /// Of all positions.
    tokens: Vec<i32>,
    /// Of all positions, −1 where there is only padding.
    owners: Vec<i32>,
    compute: Compute,
}

impl TensorLayers {
    pub(super) fn new(policy: &Policy, texts: &Texts) -> Self {
        let compute = policy.compute().clone();
        Self {
            stack: policy.stack(),
            shared: LayerInput::new(policy.config(), texts, &compute),
            tokens: texts.tokens.to_vec(),
            owners: texts.owners(),
            compute,
        }
    }

    fn layer(&self, layer: usize) -> Layer<'_> {
        Layer::new(self.stack.layer(layer), &self.shared.places)
    }
}

impl Layers for TensorLayers {
    type Hidden = Tensor<2>;
    type Kept = Kept;

    fn embed(&self) -> Tensor<2> {
        self.stack.embed(indices(&self.tokens, &self.compute.device))
    }

    fn forward(&self, layer: usize, input: &Tensor<2>) -> (Tensor<2>, Kept) {
        self.layer(layer).forward(input.clone(), &self.shared)
    }

    fn keep(&self, layer: usize, input: &Tensor<2>) -> Kept {
        self.layer(layer).keep(input.clone(), &self.shared)
    }

    fn backward(&self, layer: usize, input: Tensor<2>, kept: Kept, gradient: Tensor<2>) -> (Tensor<2>, Vec<Tensor<2>>) {
        self.layer(layer).backward(input, kept, gradient, &self.shared)
    }

    fn put_away(&self, input: Tensor<2>) -> BringBack<Tensor<2>> {
        match self.compute.layout.layer_inputs {
            LayerInputs::Device => Box::new(move || input),
            LayerInputs::Host => through_host(self.compute.clone(), input),
        }
    }

    fn release_embedding(&mut self) {
        self.stack.release_embedding();
    }

    fn release(&mut self, layer: usize) {
        self.stack.release(layer);
    }

    fn read(&self, hidden: Tensor<2>, positions: &[i32]) -> Tensor<2> {
        let positions = indices(positions, &hidden.device());
        hidden.select(0, positions)
    }

    fn spread(&self, gradient: Tensor<2>, positions: &[i32]) -> Tensor<2> {
        let (device, [rows, width]) = (gradient.device(), gradient.dims());
        let nothing = Tensor::zeros([1, width], (&device, gradient.dtype()));
        // Where each position's row is; behind the last row are the zeros.
        let mut places = vec![rows as i32; self.tokens.len()];
        positions.iter().zip(0..).for_each(|(position, row)| places[*position as usize] = row);
        Tensor::cat(vec![gradient, nothing], 0).select(0, indices(&places, &device))
    }

    fn embed_backward(&self, table: Tensor<2>, gradient: Tensor<2>) -> Tensor<2> {
        let (kept, device) = (kind(&gradient), &self.compute.device);
        if let Some(own) = self.compute.layout.kernels {
            let (order, starts) = by_token(&self.tokens, &self.owners, table.dims()[0]);
            return (own.embedded_backward)(table.cast(kept), gradient, indices(&order, device), indices(&starts, device));
        }
        let tokens = indices(&self.tokens, device);
        wide(table).select_assign(0, tokens, wide(gradient), IndexingUpdateOp::Add).cast(kept)
    }
}

/// Positions in the order of their tokens, padding left out, and where those of each token begin.
fn by_token(tokens: &[i32], owners: &[i32], vocabulary: usize) -> (Vec<i32>, Vec<i32>) {
    let mut order: Vec<i32> = (0..tokens.len() as i32).filter(|position| owners[*position as usize] >= 0).collect();
    order.sort_by_key(|position| tokens[*position as usize]);
    let mut starts = vec![0; vocabulary + 1];
    order.iter().for_each(|position| starts[tokens[*position as usize] as usize + 1] += 1);
    (0..vocabulary).for_each(|token| starts[token + 1] += starts[token]);
    (order, starts)
}

/// Puts a tensor into ordinary memory.
fn through_host(compute: Compute, tensor: Tensor<2>) -> BringBack<Tensor<2>> {
    let (dtype, copy) = (tensor.dtype(), copied(tensor));
    Box::new(move || {
        let _transfer = compute.under(Part::Transfer);
        Tensor::from_data(copy(), (&compute.device, dtype))
    })
}

/// The final norm of any head.
struct Norm {
    weight: Tensor<2>,
    eps: f64,
    kernels: Option<Kernels>,
    gradient: Option<Tensor<2>>,
}

impl Norm {
    fn new(policy: &Policy) -> Self {
        let kernels = policy.compute().layout.kernels;
        Self { weight: policy.norm_weight(), eps: policy.config().rms_norm_eps, kernels, gradient: None }
    }

    fn forward(&self, read: Tensor<2>) -> Tensor<2> {
        norm(read, self.weight.clone(), self.eps, self.kernels)
    }

    fn backward(&mut self, read: Tensor<2>, gradient: Tensor<2>) -> Tensor<2> {
        let (gradient, weight) = norm_backward([read, self.weight.clone(), gradient], None, self.eps, self.kernels);
        add(&mut self.gradient, weight);
        gradient
    }
}

/// Adds up in f32.
fn add(sum: &mut Option<Tensor<2>>, part: Tensor<2>) {
    *sum = Some(match sum.take() {
        Some(sum) => sum + wide(part),
        None => wide(part),
    });
}

fn or_zeros(sum: Option<Tensor<2>>, like: &Tensor<2>) -> Tensor<2> {
    sum.unwrap_or_else(|| like.zeros_like()).cast(kind(like))
}

/// Reads the log-probability of response tokens.
pub(super) struct Vocabulary {
    norm: Norm,
    /// `[V, D]` where it is the embedding, else `[D, V]`.
    weight: Tensor<2>,
    tied: bool,
    products: Products,
    gradient: Option<Tensor<2>>,
}

impl Vocabulary {
    pub(super) fn new(policy: &Policy) -> Self {
        let index = policy.config().head_index();
        Self {
            norm: Norm::new(policy),
            weight: policy.tensors()[index].clone(),
            tied: index == 0,
            products: policy.compute().layout.precision.products,
            gradient: None,
        }
    }

    /// As `[D, V]`.
    fn head(&self) -> Tensor<2> {
        if self.tied { self.weight.clone().transpose() } else { self.weight.clone() }
    }

    /// The logits of hidden states `[C, D]`, `[C, V]`.
    pub(super) fn logits(&self, read: Tensor<2>) -> Tensor<2> {
        logits(self.norm.forward(read), self.head(), self.products)
    }
}

impl Head for Vocabulary {
    /// Logits `[C, V]`, and log Σexp of each row.
    type Kept = (Tensor<2>, Tensor<1>);

    fn forward(&self, read: Tensor<2>, targets: &[i32]) -> (Tensor<1>, Self::Kept) {
        let (targets, logits) = (indices(targets, &read.device()), self.logits(read));
        let (scores, sums) = log_probs(logits.clone(), targets, self.norm.kernels);
        (scores, (logits, sums))
    }

    fn backward(&mut self, read: Tensor<2>, kept: Self::Kept, targets: &[i32], seeds: Tensor<1>) -> Tensor<2> {
        let targets = indices(targets, &read.device());
        let dlogits = logits_gradient(kept, targets, seeds, (kind(&read), self.norm.kernels)); // [C, V]
        let normed = self.norm.forward(read.clone());
        // In the layout of the weight, so that the product comes out contiguous.
        let (left, right) = match self.tied {
            true => (dlogits.clone().transpose(), normed),  // [V, D]
            false => (normed.transpose(), dlogits.clone()), // [D, V]
        };
        self.gradient = Some(summed_product(self.gradient.take(), left, right, self.products));
        self.norm.backward(read, open_product(dlogits, self.head().transpose(), self.products))
    }

    fn gradients(self) -> HeadGradients {
        HeadGradients { norm: or_zeros(self.norm.gradient, &self.norm.weight), weight: or_zeros(self.gradient, &self.weight) }
    }
}

/// Reads one value: the normed hidden state times the weight, `[1, D]`.
pub(super) struct Value {
    norm: Norm,
    weight: Tensor<2>,
    gradient: Option<Tensor<2>>,
}

impl Value {
    pub(super) fn new(policy: &Policy) -> Self {
        let weight = policy.tensors()[policy.config().head_index()].clone();
        Self { norm: Norm::new(policy), weight, gradient: None }
    }
}

impl Head for Value {
    type Kept = ();

    fn forward(&self, read: Tensor<2>, _: &[i32]) -> (Tensor<1>, ()) {
        let rows = read.dims()[0];
        ((wide(self.norm.forward(read)) * wide(self.weight.clone())).sum_dim(1).reshape([rows]), ())
    }

    fn backward(&mut self, read: Tensor<2>, (): (), _: &[i32], seeds: Tensor<1>) -> Tensor<2> {
        let seeds = seeds.reshape([read.dims()[0], 1]);
        let normed = self.norm.forward(read.clone());
        add(&mut self.gradient, (wide(normed) * seeds.clone()).sum_dim(0));
        let gradient = (seeds * wide(self.weight.clone())).cast(kind(&read));
        self.norm.backward(read, gradient)
    }

    fn gradients(self) -> HeadGradients {
        HeadGradients { norm: or_zeros(self.norm.gradient, &self.norm.weight), weight: or_zeros(self.gradient, &self.weight) }
    }
}

#[cfg(test)]
mod tests {
    use super::by_token;

    #[test]
    fn positions_of_a_token_lie_together_and_padding_nowhere() {
        let (order, starts) = by_token(&[3, 1, 0, 3, 0, 1], &[0, 0, -1, 1, 1, 1], 5);
        assert_eq!((order, starts), (vec![4, 1, 5, 0, 3], vec![0, 1, 3, 3, 5, 5]));
    }
}
