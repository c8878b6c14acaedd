//! Choosing vector instructions at run time.

use pulp::{Arch, WithSimd};

/// Runs `op`, compiled for the widest vector instructions of this machine.
///
/// On x86, [`Arch`] knows only what pulp was compiled with, which is AVX-512 as Burn has it; this knows AVX2 too.
#[inline(always)]
pub(crate) fn dispatch<Op: WithSimd>(op: Op) -> Op::Output {
    #[cfg(target_arch = "x86_64")]
    if !matches!(Arch::new(), Arch::V4(_))
        && let Some(simd) = pulp::x86::V3::try_new()
    {
        return pulp::Simd::vectorize(simd, op);
    }
    Arch::new().dispatch(op)
}
