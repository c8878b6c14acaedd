//! The passes as tensor operations, for any backend; also the reference of those over ordinary memory.

use burn::tensor::{Device, IndexingUpdateOp, Int, Tensor, TensorData};

use super::passes::{BringBack, Head, HeadGradients, Layers, Texts};
use crate::compute::{Compute, Kernels, LayerInputs, Products};
use crate::kernel::norm::{norm, norm_backward};
use crate::kernel::product::{added_product, open_product};
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
    tokens: Tensor<1, Int>,
    compute: Compute,
}

impl TensorLayers {
    pub(super) fn new(policy: &Policy, texts: &Texts) -> Self {
        let compute = policy.compute().clone();
        Self {
            stack: policy.stack(),
            shared: LayerInput::new(policy.config(), texts, &compute),
            tokens: indices(&texts.tokens, &compute.device),
            compute,
        }
    }

    fn layer(&self, layer: usize) -> Layer<'_> {
        Layer::new(self.stack.layer(layer), &self.shared)
    }
}

impl Layers for TensorLayers {
    type Hidden = Tensor<2>;
    type Kept = Kept;

    fn embed(&self) -> Tensor<2> {
        self.stack.embed(self.tokens.clone())
    }

    fn forward(&self, layer: usize, input: &Tensor<2>) -> (Tensor<2>, Kept) {
        let layer = self.layer(layer);
        let kept = layer.keep(input.clone(), &self.shared);
        (layer.output(&kept), kept)
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
        let device = gradient.device();
        let zeros = Tensor::zeros([self.tokens.dims()[0], gradient.dims()[1]], (&device, gradient.dtype()));
        zeros.select_assign(0, indices(positions, &device), gradient, IndexingUpdateOp::Add)
    }

    fn embed_backward(&self, table: Tensor<2>, gradient: Tensor<2>) -> Tensor<2> {
        let kept = kind(&gradient);
        wide(table).select_assign(0, self.tokens.clone(), wide(gradient), IndexingUpdateOp::Add).cast(kept)
    }
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
        let nothing = read.zeros_like();
        let (gradient, weight) = norm_backward([read, self.weight.clone(), gradient, nothing], self.eps, self.kernels);
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
    kernels: Option<Kernels>,
    gradient: Option<Tensor<2>>,
}

impl Vocabulary {
    pub(super) fn new(policy: &Policy) -> Self {
        let (index, layout) = (policy.config().head_index(), policy.compute().layout);
        Self {
            norm: Norm::new(policy),
            weight: policy.tensors()[index].clone(),
            tied: index == 0,
            products: layout.precision.products,
            kernels: layout.kernels,
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
        let (scores, sums) = log_probs(logits.clone(), targets, self.kernels);
        (scores, (logits, sums))
    }

    fn backward(&mut self, read: Tensor<2>, kept: Self::Kept, targets: &[i32], seeds: Tensor<1>) -> Tensor<2> {
        let targets = indices(targets, &read.device());
        let dlogits = logits_gradient(kept, targets, seeds, (kind(&read), self.kernels)); // [C, V]
        let normed = self.norm.forward(read.clone());
        // In the layout of the weight, so that the product comes out contiguous.
        let (left, right) = match self.tied {
            true => (dlogits.clone().transpose(), normed),  // [V, D]
            false => (normed.transpose(), dlogits.clone()), // [D, V]
        };
        self.gradient = Some(match self.gradient.take() {
            Some(sum) => added_product(sum, left, right, self.products),
            None => open_product(left, right, self.products),
        });
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
