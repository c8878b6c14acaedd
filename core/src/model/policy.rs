//! A model's weights and the passes through it.

use std::sync::Arc;

use burn::tensor::{Int, Tensor, TensorData};

use super::{Layer, LayerInput, LlamaConfig, Unit};
use crate::compute::Compute;
use crate::kernel::norm::rms_norm;

/// One tensor per unit, in the order of [`LlamaConfig::units`], each of [`Unit::dims`].
pub type Tensors = Vec<Tensor<2>>;

/// Why tensors do not make a model.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum InitError {
    /// A tensor of another shape than the configuration says.
    #[error("tensor `{name}` has the shape {found:?} where the configuration needs {expected:?}")]
    Shape {
        /// The unit.
        name: String,
        /// What was given.
        found: Vec<usize>,
        /// What was expected.
        expected: Vec<usize>,
    },
}

/// A causal language model: configuration, weights, and the device they are on.
#[derive(Debug, Clone)]
pub struct Policy {
    config: Arc<LlamaConfig>,
    units: Arc<[Unit]>,
    tensors: Tensors,
    compute: Compute,
}

impl Policy {
    /// A model from its tensors, asked for one by one in unit order and as `[rows, columns]` of [`Unit::dims`].
    ///
    /// # Errors
    /// What `read` returns, or a tensor of the wrong shape.
    pub fn load<E: From<InitError>>(
        config: LlamaConfig,
        compute: Compute,
        mut read: impl FnMut(&Unit) -> Result<TensorData, E>,
    ) -> Result<Self, E> {
        let units: Arc<[Unit]> = config.units().into();
        let mut tensors = Vec::with_capacity(units.len());
        for unit in units.iter() {
            let data = read(unit)?;
            check_shape(unit, &data)?;
            tensors.push(Tensor::from_data(data, &compute.device));
        }
        Ok(Self { config: Arc::new(config), units, tensors, compute })
    }

    /// The model's configuration.
    pub fn config(&self) -> &LlamaConfig {
        &self.config
    }

    /// The named tensors, in order.
    pub fn units(&self) -> &Arc<[Unit]> {
        &self.units
    }

    /// The weights, in unit order.
    pub fn tensors(&self) -> &Tensors {
        &self.tensors
    }

    /// The weights, to be replaced in place by the optimizer.
    pub fn tensors_mut(&mut self) -> &mut Tensors {
        &mut self.tensors
    }

    /// Where the weights are.
    pub fn compute(&self) -> &Compute {
        &self.compute
    }

    /// A decoder over the weights as they are, without autodiff.
    pub(crate) fn decoder(&self) -> Decoder {
        Decoder::new(self.config.clone(), self.tensors.clone())
    }
}

fn check_shape(unit: &Unit, data: &TensorData) -> Result<(), InitError> {
    let expected = unit.dims().to_vec();
    let found = data.shape().to_vec();
    if found == expected { Ok(()) } else { Err(InitError::Shape { name: unit.name.clone(), found, expected }) }
}

/// The model's parts as functions of tensors, with or without autodiff.
#[derive(Debug, Clone)]
pub(crate) struct Decoder {
    config: Arc<LlamaConfig>,
    tensors: Tensors,
}

impl Decoder {
    pub(crate) fn new(config: Arc<LlamaConfig>, tensors: Tensors) -> Self {
        Self { config, tensors }
    }

    pub(crate) fn layers(&self) -> usize {
        self.config.num_hidden_layers
    }

    pub(crate) fn eps(&self) -> f64 {
        self.config.rms_norm_eps
    }

    /// The unit index of a layer's first tensor.
    pub(crate) fn layer_start(&self, layer: usize) -> usize {
        1 + layer * self.config.units_per_layer()
    }

    /// The unit index of the final norm.
    pub(crate) fn norm_index(&self) -> usize {
        self.layer_start(self.layers())
    }

    /// The unit index of the vocabulary head; 0, the embedding, when tied.
    pub(crate) fn head_index(&self) -> usize {
        if self.config.tie_word_embeddings { 0 } else { self.norm_index() + 1 }
    }

    /// Token embeddings, `[N]` → `[N, D]`.
    pub(crate) fn embed(&self, tokens: Tensor<1, Int>) -> Tensor<2> {
        self.tensors[0].clone().select(0, tokens)
    }

    pub(crate) fn layer(&self, layer: usize) -> Layer {
        let start = self.layer_start(layer);
        Layer::new(&self.tensors[start..start + self.config.units_per_layer()])
    }

    pub(crate) fn norm_weight(&self) -> Tensor<2> {
        self.tensors[self.norm_index()].clone()
    }

    /// The final norm, `[N, D]` → `[N, D]`.
    pub(crate) fn norm(&self, hidden: Tensor<2>) -> Tensor<2> {
        rms_norm(hidden, self.norm_weight(), self.config.rms_norm_eps)
    }

    /// The vocabulary head as `[D, V]`.
    pub(crate) fn head(&self) -> Tensor<2> {
        let weight = self.tensors[self.head_index()].clone();
        if self.config.tie_word_embeddings { weight.transpose() } else { weight }
    }

    /// The residual stream after the last layer, before the final norm: `[N]` tokens → `[N, D]`.
    pub(crate) fn hidden(&self, tokens: Tensor<1, Int>, shared: &LayerInput) -> Tensor<2> {
        let mut hidden = self.embed(tokens);
        for layer in 0..self.layers() {
            hidden = self.layer(layer).forward(hidden, shared);
        }
        hidden
    }
}
