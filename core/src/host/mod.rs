//! The arithmetic of [`kernel`](crate::kernel) once more, as loops over ordinary memory.
//!
//! On a CPU a pass over memory costs as much as the arithmetic in it. Here every operation of a layer is one pass,
//! matrix products accumulate where they can, masked halves and padding are never computed, and temporaries are reused.
//! Vector instructions are chosen at run time ([`pulp`]). The tensor operations in `kernel` say the same in fewer lines
//! and are what these functions are tested against.

mod attention;
mod continued;
mod exponential;
mod few;
mod halves;
mod head;
mod latest;
mod layer;
mod layers;
mod logits;
mod matrix;
mod norm;
mod rotary;
mod simd;
mod swiglu;
#[cfg(test)]
mod tests;
mod threads;
mod tile;
mod vocabulary;
mod weight;

pub(crate) use continued::HostContinued;
pub(crate) use halves::{halved, joined, narrow, repulled, widen};
pub(crate) use head::Vocabulary;
pub(crate) use layers::HostLayers;
pub(crate) use logits::Logits;
pub(crate) use simd::dispatch;
