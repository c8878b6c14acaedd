//! The parts of a step, for whoever measures them: core has no clock.

use std::fmt::Debug;
use std::sync::Arc;

/// A part of a step. One may lie within another: recomputation within the backward pass, transfers within the update.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Part {
    /// Embedding and layers, forward.
    Forward,
    /// The vocabulary head and the objective, forward and backward.
    Head,
    /// Layers forward once more, on the way back.
    Recompute,
    /// Layers and embedding, backward.
    Backward,
    /// Norms, penalty, clipping and AdamW.
    Optimizer,
    /// Between a device's memory and the host's: gradients, weights and anchors that are not kept where they are used.
    Transfer,
    /// The policy's writing of answers, of which no parts are told apart.
    Answers,
    /// What models say about answers before they are trained on; likewise.
    Verdicts,
}

impl Part {
    /// Every part, in the order of a step.
    pub const ALL: [Self; 8] = [
        Self::Answers,
        Self::Verdicts,
        Self::Forward,
        Self::Head,
        Self::Recompute,
        Self::Backward,
        Self::Optimizer,
        Self::Transfer,
    ];

    /// Whether what lies within it belongs to it.
    pub fn is_whole(self) -> bool {
        matches!(self, Self::Answers | Self::Verdicts)
    }

    /// The name that reports use.
    pub fn name(self) -> &'static str {
        match self {
            Self::Forward => "forward",
            Self::Head => "head",
            Self::Recompute => "recompute",
            Self::Backward => "backward",
            Self::Optimizer => "optimizer",
            Self::Transfer => "transfer",
            Self::Answers => "answers",
            Self::Verdicts => "verdicts",
        }
    }
}

/// Is told when a part begins and ends. A device may then still have to do what it was told: whoever wants its time waits for it.
pub trait Watch: Debug + Send + Sync {
    /// The part begins.
    fn begin(&self, part: Part);

    /// The part that began last and has not ended, ends.
    fn end(&self, part: Part);
}

/// A part for as long as it lives.
#[must_use]
#[derive(Debug)]
pub(crate) struct Under(Option<(Arc<dyn Watch>, Part)>);

impl Under {
    pub(crate) fn new(watch: Option<&Arc<dyn Watch>>, part: Part) -> Self {
        Self(watch.map(|watch| {
            watch.begin(part);
            (watch.clone(), part)
        }))
    }
}

impl Drop for Under {
    fn drop(&mut self) {
        if let Some((watch, part)) = &self.0 {
            watch.end(*part);
        }
    }
}
