//! Bytes, by what they are for, at the moments of a step at which they are most.

use burn::tensor::{DType, FloatDType};
use serde::Serialize;

use super::Pass;
use crate::compute::{self, LayerInputs, Layout, Offload, Products};
use crate::engine::{Engine, HEAD_CHUNK};
use crate::kernel::attention::rows_at_once;
use crate::model::{HeadKind, LlamaConfig, Unit};
use crate::optimizer::LAYERS_AHEAD;
use crate::trainer::UpdateTiming;

/// Bytes of an f32.
const F32: usize = 4;

/// Bytes of what a split weight has beyond its bf16.
const REMAINDER: usize = 2;

/// Copies of a unit in f32 that an update by tensor operations makes: both moments, and the step.
const UPDATE_COPIES: usize = 3;

/// Copies of the attention matrix that live together in a backward pass of tensor operations: P, P∘dP, and what becomes dS. Kernels make
/// P and dS beside scores and dP.
const ATTENTION_COPIES: usize = 3;

/// Pages of a device's allocator that are empty if all empty places are taken together. Pages are as large as the largest tensor so far; from 135
/// million to 13 billion weights cards left none to two, within 4% of the whole.
const EMPTY_PAGES: usize = 1;

/// Bytes that a program holds at one moment.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize)]
pub struct Memory {
    /// What products compute with.
    pub weights: usize,
    /// What weights have beyond that: f32 masters, or the bits that bf16 cuts off.
    pub master: usize,
    /// Gradients of an optimizer step.
    pub gradients: usize,
    /// AdamW's first and second moments.
    pub moments: usize,
    /// The anchor, and Fisher information.
    pub consolidation: usize,
    /// What the layers' backward passes need.
    pub activations: usize,
    /// Logits of response tokens.
    pub logits: usize,
    /// What training on answers has besides: the judge, of PPO the reference and the critic with all it takes, or keys and values of answers.
    pub critics: usize,
    /// What comes and goes within a layer or the head.
    pub workspace: usize,
    /// What is left empty of the allocator's pages.
    pub pages: usize,
}

impl Memory {
    /// Every part with its name.
    pub fn parts(&self) -> [(&'static str, usize); 10] {
        [
            ("weights", self.weights),
            ("master", self.master),
            ("gradients", self.gradients),
            ("moments", self.moments),
            ("anchor", self.consolidation),
            ("activations", self.activations),
            ("logits", self.logits),
            ("critics", self.critics),
            ("workspace", self.workspace),
            ("empty pages", self.pages),
        ]
    }

    /// All of it.
    pub fn total(&self) -> usize {
        self.parts().iter().map(|(_, bytes)| bytes).sum()
    }

    /// Whichever is more.
    #[must_use]
    pub fn larger(self, other: Self) -> Self {
        if other.total() > self.total() { other } else { self }
    }
}

/// What a phase keeps for consolidation, in copies of the model.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Holdings {
    pub(super) anchor: bool,
    /// The weights of the phase's start, where no anchor keeps them.
    pub(super) start: bool,
    pub(super) fisher: usize,
}

/// Numbers of elements in a model, and their bytes.
pub(super) struct Sizes<'a> {
    config: &'a LlamaConfig,
    layout: Layout,
    engine: Engine,
    update: UpdateTiming,
    model: usize,
    layer: usize,
    largest: usize,
    embedding: usize,
    head: usize,
}

impl<'a> Sizes<'a> {
    pub(super) fn new(config: &'a LlamaConfig, layout: Layout, (engine, update): (Engine, UpdateTiming)) -> Self {
        let units = config.units();
        let of = |units: &[Unit]| units.iter().map(Unit::elements).sum();
        let layer = &units[config.layer_start(0)..config.layer_start(1)];
        let largest = layer.iter().map(Unit::elements).max().unwrap_or(0);
        let [embedding, head] = [0, config.head_index()].map(|unit| units[unit].elements());
        Self { config, layout, engine, update, model: of(&units), layer: of(layer), largest, embedding, head }
    }

    /// Between two passes.
    pub(super) fn resting(&self, holdings: &Holdings) -> Memory {
        let Layout { precision, .. } = self.layout;
        let moment = bytes(precision.moments.dtype());
        let (beyond, moment) = if self.offloads_updates() { (0, 0) } else { (master_bytes(precision.weights), moment) };
        let copies = self.copies(holdings, self.layout.memory);
        let consolidation = F32 * self.model * copies;
        let (weights, master) = (self.narrow() * self.model, beyond * self.model);
        Memory { weights, master, moments: 2 * moment * self.model, consolidation, ..Memory::default() }
    }

    /// Of a reference. Where tensors of f32 are values, it is the anchor or the start that is kept.
    pub(super) fn reference(&self, holdings: &Holdings) -> usize {
        let values = self.layout.updates() == compute::Memory::Device && self.layout.precision.weights == compute::Weights::F32;
        let kept = holdings.start || (holdings.anchor && self.layout.anchors() == compute::Memory::Device);
        if values && kept { 0 } else { self.read_only() }
    }

    /// Of a copy that is read and not trained.
    pub(super) fn read_only(&self) -> usize {
        self.narrow() * self.model
    }

    /// Bytes of the keys and values of texts that are being generated, and of the logits of their last tokens; or, if that is more, of the
    /// first keys and values and a layer on its way through the prompts.
    pub(super) fn generating(&self, [texts, prompts]: &[Pass; 2]) -> usize {
        let (_, key) = self.projections();
        let cached = |texts: &Pass| self.narrow() * self.config.num_hidden_layers * 2 * key * self.positions(texts);
        let logits = 2 * F32 * texts.rows * self.config.vocab_size;
        (cached(texts) + logits).max(cached(prompts) + self.going_forward(prompts))
    }

    /// Of a pass that goes forward and keeps nothing, within a layer.
    pub(super) fn going_forward(&self, pass: &Pass) -> usize {
        self.narrow() * (2 * self.input(pass) + self.kept(pass) + self.positions(pass) * self.config.intermediate_size)
    }

    /// Bytes in ordinary memory besides during a pass: what is offloaded, with updates the gradients they are computed from, and
    /// layers' inputs that wait there.
    pub(super) fn elsewhere(&self, holdings: &Holdings, pass: &Pass) -> usize {
        if self.layout.memory == compute::Memory::Host {
            return 0;
        }
        let inputs = if self.waits_elsewhere() { self.config.num_hidden_layers * self.input(pass) } else { 0 };
        // Within the backward pass a layer's gradients wait while the next one's are computed; the first come with the head's.
        let (updates, arriving) = match (self.offloads_updates(), self.update) {
            (false, _) => (0, 0),
            (true, UpdateTiming::AfterBackward) => (4 * self.model, 0),
            (true, UpdateTiming::InBackward) => (3 * self.model + self.largest.max(self.head), self.layer + self.head),
        };
        F32 * (updates + self.model * self.copies(holdings, compute::Memory::Host)) + self.narrow() * (inputs + arriving)
    }

    /// How many of the inputs of so many layers the device holds.
    fn resident_inputs(&self, layers: usize) -> usize {
        if self.waits_elsewhere() { layers.min(1) } else { layers }
    }

    fn waits_elsewhere(&self) -> bool {
        self.engine == Engine::Segmented && self.layout.layer_inputs == LayerInputs::Host
    }

    /// Copies of the model for consolidation that lie in a memory.
    fn copies(&self, holdings: &Holdings, memory: compute::Memory) -> usize {
        let anchor = usize::from(holdings.anchor && self.layout.anchors() == memory);
        let rest = usize::from(holdings.start) + holdings.fisher;
        anchor + if self.layout.updates() == memory { rest } else { 0 }
    }

    fn offloads_updates(&self) -> bool {
        self.layout.offload == Offload::Optimizer
    }

    /// Bytes of an element of activations, and of a gradient that no other is added to.
    fn narrow(&self) -> usize {
        bytes(self.layout.precision.weights.dtype())
    }

    /// The most during a pass, and during the update after the last. Earlier passes of the same step leave sums of gradients.
    pub(super) fn peak(&self, holdings: &Holdings, pass: &Pass, [earlier_passes, later_passes]: [usize; 2]) -> Memory {
        let resting = Memory { pages: self.empty_pages(pass), ..self.resting(holdings) };
        let last = self.config.num_hidden_layers - 1;
        let earlier = bytes(self.layout.precision.sums.dtype()) * self.model * earlier_passes.min(1);
        let coming = self.anchors_on_their_way(holdings);
        // A tied head's anchor comes last, as the embedding's.
        let first = if self.config.head_index() == 0 { 0 } else { self.head };
        let moments = [
            (self.at_head(pass, earlier), coming * (first + LAYERS_AHEAD * self.layer)),
            (self.at_layer(last, pass, earlier), coming * LAYERS_AHEAD * self.layer),
            (self.at_layer(0, pass, earlier), coming * (self.layer + self.embedding)),
        ];
        let after = if later_passes == 0 { self.update(resting, holdings, earlier) } else { resting };
        moments.into_iter().fold(after, |peak, ([gradients, activations, logits, workspace], coming)| {
            peak.larger(Memory { gradients, activations, logits, workspace: workspace + coming, ..resting })
        })
    }

    /// Where what stays has memory of its own, pages are but for what comes and goes. Elsewhere they are not counted: on a device that makes
    /// everything anew, more is left over in the places of what stays than pages are large.
    fn empty_pages(&self, pass: &Pass) -> usize {
        if self.layout.updates_in_place() { EMPTY_PAGES * self.largest_tensor(pass) } else { 0 }
    }

    /// The head in f32, the scores of attention, the gate, queries in f32, or an anchor.
    fn largest_tensor(&self, pass: &Pass) -> usize {
        let (n, (q, _)) = (self.positions(pass), self.projections());
        let scores = self.scores(pass);
        let gate = self.narrow() * n * self.config.intermediate_size;
        [F32 * self.head, F32 * scores, gate, F32 * n * q, F32 * self.largest].into_iter().max().unwrap_or(0)
    }

    /// Elements of the attention matrices that exist at once; none where attention is computed in one go.
    fn scores(&self, pass: &Pass) -> usize {
        let heads = self.config.num_attention_heads;
        let products = self.layout.precision.weights.dtype();
        if self.layout.kernels.is_some_and(|own| self.config.heads().in_one_go(&own, products)) {
            return 0;
        }
        pass.rows.min(rows_at_once(heads, pass.width)) * heads * pass.width * pass.width
    }

    /// Bytes per weight of anchors that are sent for while a pass goes backward: those of the next layers, first the head's, too.
    fn anchors_on_their_way(&self, holdings: &Holdings) -> usize {
        let sent = self.layout.carrier.is_some() && self.update == UpdateTiming::AfterBackward;
        if sent && holdings.anchor && self.layout.offload == Offload::Anchor { F32 } else { 0 }
    }

    /// While the weights are changed.
    fn update(&self, resting: Memory, holdings: &Holdings, earlier: usize) -> Memory {
        let largest = self.largest.max(self.head);
        let gradients = match self.update {
            UpdateTiming::AfterBackward => earlier.max(self.narrow() * self.model),
            UpdateTiming::InBackward => self.narrow() * self.head,
        };
        let workspace = match self.layout.memory {
            _ if self.offloads_updates() => self.narrow() * largest,
            compute::Memory::Host => 0,
            compute::Memory::Device => largest * self.update_bytes(holdings, earlier),
        };
        Memory { gradients, workspace, ..resting }
    }

    /// Bytes per weight that an update takes: none in place, or what a master is rounded to; by tensor operations what is narrow is widened,
    /// gradient and moments in the place of the narrow ones, the two parts of a split weight beside them. A pulled gradient is rounded
    /// in ordinary memory, where it and its weights are f32.
    fn update_bytes(&self, holdings: &Holdings, earlier: usize) -> usize {
        let precision = self.layout.precision;
        if self.layout.updates_in_place() {
            return 0;
        }
        if self.layout.kernels.is_some() {
            return self.narrow();
        }
        let gradient = if earlier > 0 { bytes(precision.sums.dtype()) } else { self.narrow() };
        let joined = usize::from(precision.weights == compute::Weights::Bf16Split);
        // Where all is f32, the gradient makes room for what is computed from it.
        let copies = UPDATE_COPIES + joined - usize::from(precision.weights == compute::Weights::F32);
        let moments = if precision.moments == compute::Moments::F32 { 0 } else { 2 * bytes(precision.moments.dtype()) };
        let pulled = if holdings.anchor && gradient < F32 { 2 * F32 } else { 0 };
        F32 * copies + F32 + pulled - gradient - moments
    }

    /// Bytes of gradients, activations, logits and workspace while the head goes backward.
    fn at_head(&self, pass: &Pass, earlier: usize) -> [usize; 4] {
        let (d, chunk) = (self.config.hidden_size, pass.reads.min(HEAD_CHUNK));
        let vocabulary = match self.config.architecture.head {
            HeadKind::Vocabulary => self.config.vocab_size,
            HeadKind::Value => 0,
        };
        let layers = self.config.num_hidden_layers;
        let layers = self.resident_inputs(layers) * self.input(pass) + layers * self.kept_of_whole(pass);
        let (logits, copies) = match (self.engine, self.layout.memory) {
            (Engine::Segmented, compute::Memory::Host) => (chunk, self.head),
            (Engine::Segmented, compute::Memory::Device) => (2 * chunk, 0),
            (_, compute::Memory::Host) => (pass.reads, self.head),
            (_, compute::Memory::Device) => (pass.reads + chunk, 0),
        };
        let narrow = self.narrow();
        let activations = narrow * (layers + 2 * pass.reads * d);
        // While products are computed, logits exist once.
        let parts = self.parts([chunk * d, self.head, chunk * vocabulary]).saturating_sub(F32 * chunk * vocabulary);
        let workspace = narrow * (copies + 4 * chunk * d) + self.added_to_head(pass) + parts;
        let gradients = earlier + F32 * self.head + self.places_of_gradients(earlier);
        [gradients, activations, F32 * logits * vocabulary, workspace]
    }

    /// Bytes of the places that layers' gradients have while the head goes backward. A library writes them to memory of their own, which the
    /// step before has made; elsewhere nothing is kept for them.
    fn places_of_gradients(&self, earlier: usize) -> usize {
        let own = self.layout.updates_in_place() && matches!(self.layout.precision.products, Products::Library(_));
        match (own, self.update, earlier) {
            (true, UpdateTiming::AfterBackward, 0) => self.narrow() * self.config.num_hidden_layers * self.layer,
            (true, UpdateTiming::InBackward, _) => self.narrow() * self.layer,
            _ => 0,
        }
    }

    /// Bytes that a device holds beside the sum of the head's gradients: one more gradient, and where weights are narrow the same in f32. As
    /// much as the latter is the head in f32 before. The sum begins with the first of them. A library adds to the sum; what is left is to
    /// round it.
    fn added_to_head(&self, pass: &Pass) -> usize {
        let (narrow, first) = (self.narrow(), pass.reads <= HEAD_CHUNK);
        match self.layout.memory {
            compute::Memory::Host => 0,
            compute::Memory::Device if matches!(self.layout.precision.products, Products::Library(_)) => {
                if narrow == F32 {
                    0
                } else {
                    narrow * self.head
                }
            }
            compute::Memory::Device if narrow == F32 => {
                if first {
                    0
                } else {
                    F32 * self.head
                }
            }
            compute::Memory::Device => (narrow + if first { 0 } else { F32 }) * self.head,
        }
    }

    /// The same while a layer goes backward.
    fn at_layer(&self, layer: usize, pass: &Pass, earlier: usize) -> [usize; 4] {
        let layers = self.config.num_hidden_layers;
        let here = match self.engine {
            Engine::Segmented => self.kept(pass),
            Engine::Whole | Engine::Autodiff => 0,
        };
        let below = self.resident_inputs(layer + 1) * self.input(pass) + (layer + 1) * self.kept_of_whole(pass);
        let narrow = self.narrow();
        let gradients = match (self.update, earlier) {
            (UpdateTiming::InBackward, _) => narrow * (self.head + self.layer),
            (_, 0) => narrow * self.head + self.places_of_gradients(0).max(narrow * (layers - layer) * self.layer),
            (_, sums) => sums + narrow * (self.head + self.layer),
        };
        let read = pass.reads * self.config.hidden_size;
        [gradients, narrow * (below + here + self.input(pass) + read), 0, self.within_layer(pass)]
    }

    /// The residual stream of a pass.
    fn input(&self, pass: &Pass) -> usize {
        self.positions(pass) * self.config.hidden_size
    }

    /// Tokens that are computed on: loops over memory leave out padding.
    fn positions(&self, pass: &Pass) -> usize {
        match self.layout.memory {
            compute::Memory::Host => pass.tokens,
            compute::Memory::Device => pass.rows * pass.width,
        }
    }

    fn kept_of_whole(&self, pass: &Pass) -> usize {
        match self.engine {
            Engine::Segmented => 0,
            Engine::Whole | Engine::Autodiff => self.kept(pass),
        }
    }

    /// What a layer's forward pass keeps besides its input: query, key, value, context, residual stream, gate, up, and the
    /// softmax's sums.
    fn kept(&self, pass: &Pass) -> usize {
        let (q, kv) = self.projections();
        let sums = match self.layout.memory {
            compute::Memory::Host => self.config.num_attention_heads,
            compute::Memory::Device => 0,
        };
        let per_token = 2 * q + 2 * kv + self.config.hidden_size + 2 * self.config.intermediate_size + sums;
        self.positions(pass) * per_token
    }

    /// Copies of the attention matrix that live together: where it is multiplied in parts, the parts, too, and one of them transposed.
    fn attention_copies(&self) -> usize {
        let split = self.layout.precision.products == Products::Split;
        ATTENTION_COPIES + usize::from(split) + usize::from(self.layout.kernels.is_some())
    }

    /// Copies in f32 of queries and of their gradient that live together while heads' norms go backward: hbat's kernel reads three and
    /// writes one.
    fn head_norm_copies(&self) -> usize {
        if self.layout.kernels.is_some() { 4 } else { 6 }
    }

    /// Bytes of the parts in which three matrices are multiplied, two at a time: of both factors what TF32 holds, of one what is left, and
    /// one more product. The product of the first two is the third, and each of the first is the product of the others.
    fn parts(&self, matrices: [usize; 3]) -> usize {
        let [left, right, product] = matrices;
        let of = |left: usize, right: usize, product: usize| left + right + left.max(right + product);
        match self.layout.precision.products {
            Products::Plain | Products::Library(_) => 0,
            Products::Split => F32 * of(left, right, product).max(of(product, right, left)).max(of(left, product, right)),
        }
    }

    /// Elements per token of queries, and of keys.
    fn projections(&self) -> (usize, usize) {
        let dim = self.config.head_dim;
        (self.config.num_attention_heads * dim, self.config.num_key_value_heads * dim)
    }

    /// Bytes that a layer's backward pass holds besides gradients and what was kept.
    fn within_layer(&self, pass: &Pass) -> usize {
        let (n, (q, kv)) = (self.positions(pass), self.projections());
        let (d, f) = (self.config.hidden_size, self.config.intermediate_size);
        match self.layout.memory {
            // A copy of one weight; then the activation's gradient, or attention's gradients before and after they are joined.
            compute::Memory::Host => {
                let normed = if self.config.norms_heads() { n * (3 * q + 2 * kv + d) } else { 0 };
                F32 * (n * f.max(2 * d) + self.largest).max(n * (3 * q + 4 * kv)).max(normed)
            }
            compute::Memory::Device => {
                let attention = self.attention_copies() * self.scores(pass);
                let feed_forward = self.narrow() * n * (4 * f + 2 * d) + self.parts([n * d, d * f, n * f]);
                let attention = F32 * attention + self.narrow() * n * (2 * q + 2 * kv);
                let normed = self.head_norm_copies() * F32 * n * q + self.narrow() * n * (2 * kv + d);
                feed_forward.max(attention).max(if self.config.norms_heads() { normed } else { 0 })
            }
        }
    }
}

fn bytes(dtype: FloatDType) -> usize {
    DType::from(dtype).size()
}

/// What is kept of a weight beyond what products compute with.
fn master_bytes(weights: compute::Weights) -> usize {
    match weights {
        compute::Weights::F32 => 0,
        compute::Weights::Bf16Master => F32,
        compute::Weights::Bf16Split => REMAINDER,
    }
}
