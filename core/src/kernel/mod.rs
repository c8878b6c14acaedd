//! The arithmetic of a decoder layer, forward and backward in closed form.
//!
//! Each file holds one operation as Burn tensor operations. The forward functions are differentiable, so the same code
//! run under autodiff is the oracle for the closed-form backward functions beside them.

pub(crate) mod attention;
pub(crate) mod latest;
pub(crate) mod norm;
pub(crate) mod product;
pub(crate) mod rotary;
pub(crate) mod swiglu;
pub(crate) mod vocabulary;

use burn::tensor::{FloatDType, Tensor};

/// In f32: what sums and exponentials are computed in, whatever products are.
pub(crate) fn wide<const D: usize>(x: Tensor<D>) -> Tensor<D> {
    x.cast(FloatDType::F32)
}

/// The type of a tensor's elements.
pub(crate) fn kind<const D: usize>(x: &Tensor<D>) -> FloatDType {
    x.dtype().into()
}
