//! A model's weights and the passes through it.

use std::sync::Arc;

use burn::tensor::{Int, Tensor, TensorData};

use super::weights::Weights;
use super::{HeadKind, Layer, LayerInput, LlamaConfig, Unit};
use crate::compute::{Compute, Offload, Split};
use crate::error::Error;
use crate::kernel::norm::rms_norm;
use crate::slab::floats;
use crate::watch::Part;

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
        let mut weights = Weights::new(compute.clone());
        for unit in units.iter() {
            let data = read(unit)?;
            check_shape(unit, &data)?;
            weights.push(unit, data);
        }
        compute.settled();
        let readout = match config.architecture.head {
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
        assert_eq!(self.config.architecture.head, needed, "{readout:?} needs another head");
        self.readout = readout;
        self
    }

    /// The same model as products see it now, without what weights have beyond that: to be read, not to be trained.
    pub fn as_seen(&self) -> Self {
        let (config, units, weights) = (self.config.clone(), self.units.clone(), self.weights.as_seen());
        Self { config, units, weights, readout: self.readout, compute: self.compute.clone() }
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

    /// A copy of a unit's weights as exact as they are kept, in ordinary memory.
    ///
    /// # Errors
    /// If the device fails to hand them over.
    pub async fn values(&self, unit: usize) -> Result<Vec<f32>, Error> {
        match self.weights.elsewhere(unit) {
            Some(values) => Ok(values.to_vec()),
            None => floats(self.exact(unit).into_data_async().await.map_err(Error::device)?),
        }
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

    /// A unit's weights as [`Bf16Split`](crate::compute::Weights::Bf16Split) keeps them, where it does.
    pub(crate) fn split(&self, unit: usize) -> Option<Split> {
        self.weights.split(unit)
    }

    /// Takes them out: their memory has one owner then, and can be changed in place. [`put_split`](Self::put_split) must follow.
    pub(crate) fn take_split(&mut self, unit: usize) -> Option<Split> {
        self.weights.take_split(unit)
    }

    /// Sets them.
    pub(crate) fn put_split(&mut self, unit: usize, split: Split) {
        self.weights.put_split(unit, split);
    }

    /// As [`take`](Self::take), as values, where updates are computed in ordinary memory.
    pub(crate) fn take_values(&mut self, unit: usize) -> Vec<f32> {
        self.weights.take_values(unit)
    }

    /// Undoes [`take_values`](Self::take_values): the values are those that were taken.
    pub(crate) fn give_back(&mut self, unit: usize, values: Vec<f32>) {
        self.weights.give_back(unit, self.units[unit].dims(), values);
    }

    /// As [`put`](Self::put), as values.
    pub(crate) fn put_values(&mut self, unit: usize, values: Vec<f32>) {
        let _transfer = (self.compute.layout.offload == Offload::Optimizer).then(|| self.compute.under(Part::Transfer));
        self.weights.put_values(unit, self.units[unit].dims(), values);
    }

    /// Sets what products see of a unit's weights, of a model that is [only read](Self::as_seen).
    pub(crate) fn set_seen(&mut self, unit: usize, values: &[f32]) {
        self.weights.set_seen(unit, self.units[unit].dims(), values);
    }

    /// Where the weights are.
    pub fn compute(&self) -> &Compute {
        &self.compute
    }

    /// The configuration, to be held beyond the policy.
    pub(crate) fn shared_config(&self) -> Arc<LlamaConfig> {
        self.config.clone()
    }

    /// The weight of the final norm.
    pub(crate) fn norm_weight(&self) -> Tensor<2> {
        self.tensors()[self.config.norm_index()].clone()
    }

    /// The embedding and the layers as they are, without autodiff.
    pub(crate) fn stack(&self) -> Stack {
        Stack::new(&self.config, self.tensors())
    }
}

fn check_shape(unit: &Unit, data: &TensorData) -> Result<(), InitError> {
    let expected = unit.dims().to_vec();
    let found = data.shape().to_vec();
    if found == expected { Ok(()) } else { Err(InitError::Shape { name: unit.name.clone(), found, expected }) }
}

/// Handles on the weights below the final norm, with or without autodiff.
#[derive(Debug, Clone)]
pub(crate) struct Stack {
    embedding: Option<Tensor<2>>,
    layers: Vec<Tensors>,
}

impl Stack {
    fn new(config: &LlamaConfig, tensors: &Tensors) -> Self {
        let layer = |layer| tensors[config.layer_start(layer)..][..config.units_per_layer()].to_vec();
        Self { embedding: Some(tensors[0].clone()), layers: (0..config.num_hidden_layers).map(layer).collect() }
    }

    /// Token embeddings, `[N]` → `[N, D]`.
    ///
    /// # Panics
    /// After [`release_embedding`](Self::release_embedding).
    pub(crate) fn embed(&self, tokens: Tensor<1, Int>) -> Tensor<2> {
        self.embedding.clone().expect("embedding comes first").select(0, tokens)
    }

    /// The tensors of one layer, in unit order.
    pub(crate) fn layer(&self, layer: usize) -> &[Tensor<2>] {
        &self.layers[layer]
    }

    /// How many layers there are.
    pub(crate) fn depth(&self) -> usize {
        self.layers.len()
    }

    /// Lets go of the embedding, which nothing more is done with.
    pub(crate) fn release_embedding(&mut self) {
        self.embedding = None;
    }

    /// Lets go of a layer, which nothing more is done with.
    pub(crate) fn release(&mut self, layer: usize) {
        self.layers[layer] = Vec::new();
    }
}

/// The whole model as functions of tensors, with or without autodiff.
#[derive(Debug, Clone)]
pub(crate) struct Decoder {
    config: Arc<LlamaConfig>,
    stack: Stack,
    norm: Tensor<2>,
    head: Tensor<2>,
}

impl Decoder {
    pub(crate) fn new(config: Arc<LlamaConfig>, tensors: &Tensors) -> Self {
        let (norm, head) = (tensors[config.norm_index()].clone(), tensors[config.head_index()].clone());
        Self { stack: Stack::new(&config, tensors), norm, head, config }
    }

    /// The final norm, `[N, D]` → `[N, D]`.
    pub(crate) fn norm(&self, hidden: Tensor<2>) -> Tensor<2> {
        rms_norm(hidden, self.norm.clone(), self.config.rms_norm_eps)
    }

    /// The head as `[D, V]`, or `[D, 1]` for values.
    pub(crate) fn head(&self) -> Tensor<2> {
        let transposed = self.config.architecture.head == HeadKind::Value || self.config.head_index() == 0;
        if transposed { self.head.clone().transpose() } else { self.head.clone() }
    }

    /// The residual stream after the last layer, before the final norm: `[N]` tokens → `[N, D]`.
    pub(crate) fn hidden(&self, tokens: Tensor<1, Int>, shared: &LayerInput) -> Tensor<2> {
        (0..self.stack.depth()).fold(self.stack.embed(tokens), |hidden, layer| {
            Layer::new(self.stack.layer(layer), &shared.places).forward(hidden, shared).0
        })
    }
}
