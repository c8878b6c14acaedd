//! A model's weights and the passes through it.

use std::sync::Arc;

use burn::tensor::{Int, Tensor, TensorData};

use super::weights::Weights;
use super::{HeadKind, Layer, LayerInput, LlamaConfig, Unit};
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

/// What a model says about each response token y_t.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Readout {
    /// log π(y_t | y_<t, x), from the hidden state before it.
    LogProbs,
    /// The value of the hidden state before it: a critic's estimate while y_t is not yet known.
    ValueBefore,
    /// The value of its own hidden state: a reward model's verdict, which counts at the last token.
    ValueAfter,
}

/// A causal decoder and what stands on it: configuration, weights, and the device they are on.
#[derive(Debug, Clone)]
pub struct Policy {
    config: Arc<LlamaConfig>,
    units: Arc<[Unit]>,
    weights: Weights,
    readout: Readout,
    compute: Compute,
}

impl Policy {
    /// A model from its f32 tensors, asked for one by one in unit order and as `[rows, columns]` of [`Unit::dims`].
    ///
    /// # Errors
    /// What `read` returns, or a tensor of the wrong shape.
    pub fn load<E: From<InitError>>(
        config: LlamaConfig,
        compute: Compute,
        mut read: impl FnMut(&Unit) -> Result<TensorData, E>,
    ) -> Result<Self, E> {
        let units: Arc<[Unit]> = config.units().into();
        let mut weights = Weights::new(compute.precision.weights);
        for unit in units.iter() {
            let data = read(unit)?;
            check_shape(unit, &data)?;
            weights.push(unit, Tensor::from_data(data, &compute.device));
        }
        let readout = match config.head {
            HeadKind::Vocabulary => Readout::LogProbs,
            HeadKind::Value => Readout::ValueAfter,
        };
        Ok(Self { config: Arc::new(config), units, weights, readout, compute })
    }

    /// The same model, read otherwise: a reward model becomes a critic.
    ///
    /// # Panics
    /// If the model has not the head for it.
    pub fn reading(mut self, readout: Readout) -> Self {
        let needed = if readout == Readout::LogProbs { HeadKind::Vocabulary } else { HeadKind::Value };
        assert_eq!(self.config.head, needed, "{readout:?} needs another head");
        self.readout = readout;
        self
    }

    /// What the model says about response tokens.
    pub fn readout(&self) -> Readout {
        self.readout
    }

    /// The model's configuration.
    pub fn config(&self) -> &LlamaConfig {
        &self.config
    }

    /// The named tensors, in order.
    pub fn units(&self) -> &Arc<[Unit]> {
        &self.units
    }

    /// The weights as products see them, in unit order.
    pub fn tensors(&self) -> &Tensors {
        &self.weights.coarse
    }

    /// A unit's weights as exact as they are kept, f32.
    pub fn exact(&self, unit: usize) -> Tensor<2> {
        self.weights.full(unit)
    }

    /// Takes a unit's weights out, as exact as they are kept and f32: their memory has one owner then, and can be changed in
    /// place. [`put`](Self::put) must follow before anything else is done with the model.
    pub fn take(&mut self, unit: usize) -> Tensor<2> {
        self.weights.take(unit)
    }

    /// Sets a unit's weights, f32.
    pub fn put(&mut self, unit: usize, weights: Tensor<2>) {
        self.weights.put(unit, weights);
    }

    /// Where the weights are.
    pub fn compute(&self) -> &Compute {
        &self.compute
    }

    /// The tensors of one layer.
    pub(crate) fn layer_tensors(&self, layer: usize) -> &[Tensor<2>] {
        &self.tensors()[self.config.layer_start(layer)..][..self.config.units_per_layer()]
    }

    /// The weight of the final norm.
    pub(crate) fn norm_weight(&self) -> Tensor<2> {
        self.tensors()[self.config.norm_index()].clone()
    }

    /// A decoder over the weights as they are, without autodiff.
    pub(crate) fn decoder(&self) -> Decoder {
        Decoder::new(self.config.clone(), self.tensors().clone())
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

    /// Token embeddings, `[N]` → `[N, D]`.
    pub(crate) fn embed(&self, tokens: Tensor<1, Int>) -> Tensor<2> {
        self.tensors[0].clone().select(0, tokens)
    }

    pub(crate) fn layer(&self, layer: usize) -> Layer<'_> {
        Layer(&self.tensors[self.config.layer_start(layer)..][..self.config.units_per_layer()])
    }

    /// The final norm, `[N, D]` → `[N, D]`.
    pub(crate) fn norm(&self, hidden: Tensor<2>) -> Tensor<2> {
        rms_norm(hidden, self.tensors[self.config.norm_index()].clone(), self.config.rms_norm_eps)
    }

    /// The head as `[D, V]`, or `[D, 1]` for values.
    pub(crate) fn head(&self) -> Tensor<2> {
        let weight = self.tensors[self.config.head_index()].clone();
        let transposed = self.config.head == HeadKind::Value || self.config.head_index() == 0;
        if transposed { weight.transpose() } else { weight }
    }

    /// The residual stream after the last layer, before the final norm: `[N]` tokens → `[N, D]`.
    pub(crate) fn hidden(&self, tokens: Tensor<1, Int>, shared: &LayerInput) -> Tensor<2> {
        (0..self.config.num_hidden_layers).fold(self.embed(tokens), |hidden, layer| {
            let layer = self.layer(layer);
            layer.output(&layer.keep(hidden, shared))
        })
    }
}
