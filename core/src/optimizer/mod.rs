//! AdamW with the consolidation term, in two passes over memory.
//!
//! 1. g ← g + λF(θ − θ*), summing ‖g‖², the penalty Σ(λ/2)F‖θ − θ*‖² and ‖λF(θ − θ*)‖².
//! 2. g ← g·min(1, c / (‖g‖ + 1e-6)), then AdamW (Loshchilov and Hutter 2019; arithmetic in the order of `torch.optim.AdamW`).
//!
//! Moments, anchors and exact weights lie unit by unit in [`Slab`](crate::slab::Slab)s: in ordinary memory the passes are fused loops, on a device they are
//! tensor operations that Burn fuses.

mod adamw;
mod change;
mod consolidate;
mod device;
mod host;
mod in_backward;
mod schedule;

pub use adamw::{AdamW, AdamWSettings, Pull, StepNorms, Strength};
pub(crate) use change::squared_distances;
pub(crate) use consolidate::LAYERS_AHEAD;
pub use consolidate::{Consolidate, Consolidated};
pub(crate) use in_backward::{Hold, Measure, Update};
pub use schedule::{Decay, LearningRate};
