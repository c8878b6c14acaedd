//! The arithmetic of a decoder layer, forward and backward in closed form.
//!
//! Each file holds one operation as Burn tensor operations. The forward functions are differentiable, so the same code
//! run under autodiff is the oracle for the closed-form backward functions beside them.

pub(crate) mod attention;
pub(crate) mod norm;
pub(crate) mod rotary;
pub(crate) mod swiglu;
pub(crate) mod vocabulary;
