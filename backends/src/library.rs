//! Matrix products that a device's maker offers beside Burn's.

use burn::tensor::{FloatDType, Int, Tensor, TensorData};

use crate::{DeviceError, DeviceName};

/// Multiplies `[.., M, K]` and `[.., K, N]` into elements of a type. Both factors are bf16, and the type bf16 or f32, or all are f32.
pub type Multiply<const D: usize> = fn(Tensor<D>, Tensor<D>, FloatDType) -> Tensor<D>;

/// What factors of f32 are multiplied in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Full {
    /// All of their 24 bits.
    F32,
    /// Their first 11 bits, where that is faster.
    Tf32,
}

/// The products of cuBLASLt. They take part in Burn's fusion and its order of work, not in its autodiff.
#[derive(Debug, Clone, Copy)]
pub struct Cublas {
    /// `[M, K]` · `[K, N]`.
    pub matrices: Multiply<2>,
    /// `[.., M, K]` · `[.., K, N]`.
    pub batches: Multiply<4>,
    /// `[M, K]` · `[K, N]` into memory of just its size: what stays for long does not hold up a page of what comes and goes.
    pub lasting: Multiply<2>,
    /// `[M, K]` · `[K, N]` added to a sum before it is rounded, in its type, and in its place where nobody else holds it.
    pub added: fn(Tensor<2>, Tensor<2>, Tensor<2>) -> Tensor<2>,
    /// Heads side by side: `[B, KV, G·T, K]` · `[B, KV, K, hd]`, G, into the `B`·`T` rows of a tensor `[N, KV·G·hd]` from one on, in its place
    /// where nobody else holds it.
    pub joined: fn(Tensor<4>, Tensor<4>, usize, Tensor<2>, usize) -> Tensor<2>,
}

/// cuBLASLt on NVIDIA's cards, for a device on which [`start_cublas`] has succeeded. `None` where CUDA was not compiled in.
///
/// cuBLASLt chooses kernels by rules of its own and times nothing: a shape has the same kernel in every run.
pub fn cublas(full: Full) -> Option<Cublas> {
    #[cfg(feature = "cuda")]
    return Some(crate::cuda::products(full));
    #[cfg(not(feature = "cuda"))]
    {
        let _ = full;
        None
    }
}

/// Whether the library is there. It may still not start.
pub fn has_cublas() -> bool {
    #[cfg(feature = "cuda")]
    return crate::cuda::has_cublas();
    #[cfg(not(feature = "cuda"))]
    false
}

/// Kernels for what Burn computes in many passes over memory. They compute in f32 whatever they read and write, and take part in Burn's
/// fusion and its order of work, not in its autodiff.
#[derive(Debug, Clone, Copy)]
pub struct Kernels {
    /// x / √(mean(x²) + ε) · w for the rows of x `[N, D]`: x, w `[1, D]`, ε.
    pub rms_norm: fn(Tensor<2>, Tensor<2>, f32) -> Tensor<2>,
    /// Its gradients: x, w, dy of that type or f32, what is to be added to dx, ε; (dx + that, dw).
    pub rms_norm_backward: fn(Tensor<2>, Tensor<2>, Tensor<2>, Tensor<2>, f32) -> (Tensor<2>, Tensor<2>),
    /// Heads turned by tables, rotate-half convention: x `[B·T, heads · head_dim]`, cos and sin `[T, head_dim / 2]` of f32,
    /// into a type.
    pub turn: fn(Tensor<2>, Tensor<2>, Tensor<2>, FloatDType) -> Tensor<2>,
    /// Causal attention, softmax(Q·Kᵀ/√hd)·V, without a matrix of scores in memory: `[B·T, H·hd]`, twice `[B·T, KV·hd]`, of one type, hd a
    /// multiple of 16; the first position that each position sees, up to itself, `[1 or B, T]`; H and KV.
    pub attention: fn([Tensor<2>; 3], Tensor<2, Int>, [usize; 2]) -> Tensor<2>,
    /// Its gradients: the same, and dy before the firsts. Those of query and key are f32.
    pub attention_backward: AttentionBackward,
    /// Probabilities of attention, softmax(scores·scale) row by row, in the type asked for: scores `[B, KV, G·T, T]` of f32, the first
    /// position that each position sees, up to itself, `[1 or B, T]`, scale.
    pub softmax: fn(Tensor<4>, Tensor<2, Int>, f32, FloatDType) -> Tensor<4>,
    /// P, the same, and P ∘ (dP − rowsum(dP ∘ P))·scale: scores and dP, firsts, scale, type.
    pub softmax_backward: fn([Tensor<4>; 2], Tensor<2, Int>, f32, FloatDType) -> [Tensor<4>; 2],
    /// silu(gate)·up, element by element.
    pub swiglu: fn(Tensor<2>, Tensor<2>) -> Tensor<2>,
    /// Its gradients, and itself again: gate, up, da; (dgate, dup, silu(gate)·up).
    pub swiglu_backward: fn(Tensor<2>, Tensor<2>, Tensor<2>) -> [Tensor<2>; 3],
    /// log π of targets, and log Σ exp of each row: logits `[R, V]` of f32, targets `[R]`.
    pub log_probs: fn(Tensor<2>, Tensor<1, Int>) -> (Tensor<1>, Tensor<1>),
    /// The gradient of the logits: those, log Σ exp, targets, gradients of log π, type.
    pub logits_gradient: fn(Tensor<2>, Tensor<1>, Tensor<1, Int>, Tensor<1>, FloatDType) -> Tensor<2>,
    /// The gradient of an embedding: a table `[V, D]`, gradients `[N, D]`, their order by tokens, where in it each token's begin and the last
    /// one's end `[V + 1]`; the table with each token's gradients added.
    pub embedded_backward: fn(Tensor<2>, Tensor<2>, Tensor<1, Int>, Tensor<1, Int>) -> Tensor<2>,
    /// Σ g², and two zeros, `[3]`.
    pub measured: fn(Tensor<2>) -> Tensor<1>,
    /// A gradient g + λF·(θ − θ*) in the type of g, and Σ of its square, (λF/2)·Σ(θ − θ*)², and Σ of the pull's square, `[3]`: g, θ, θ*
    /// of f32, λF.
    pub pulled: fn(Tensor<2>, Split, Tensor<2>, f32) -> (Tensor<2>, Tensor<1>),
    /// Weights and moments after a step of AdamW: g, those before, numbers.
    pub adamw: fn(Tensor<2>, AdamWState, Update) -> AdamWState,
}

/// Gradients of attention: those of query, key and value.
pub type AttentionBackward = fn([Tensor<2>; 3], Tensor<2>, Tensor<2, Int>, [usize; 2]) -> [Tensor<2>; 3];

/// Weights as bf16, and how many 2⁻²² of that are missing to their f32.
pub type Split = (Tensor<2>, Tensor<2, Int>);

/// Weights, and their first and second moments.
pub type AdamWState = (Split, [Tensor<2>; 2]);

/// The numbers of a step of AdamW: the factor on the gradient, the learning rate, 1 − rate · weight decay, β₁, β₂, ε (outside the square
/// root), 1 − β₁^t and √(1 − β₂^t).
pub type Update = [f32; 8];

/// Our own, for cards and other GPUs. `None` where neither CUDA nor wgpu was compiled in.
pub fn kernels() -> Option<Kernels> {
    #[cfg(feature = "kernels")]
    return Some(crate::kernels::ALL);
    #[cfg(not(feature = "kernels"))]
    None
}

/// Whether a device runs them: its units must work in planes, also called warps, waves or subgroups.
pub fn has_planes(name: DeviceName) -> bool {
    match name {
        DeviceName::Cpu => false,
        DeviceName::Cuda(_) => true,
        #[cfg(feature = "wgpu")]
        DeviceName::Wgpu(index) => crate::graphics::has_planes(index),
        #[cfg(not(feature = "wgpu"))]
        DeviceName::Wgpu(_) => false,
    }
}

/// Brings what ordinary memory holds to a device that computes meanwhile.
#[derive(Debug, Clone, Copy)]
pub struct Carrier {
    /// A tensor that will hold the data once it has arrived, and lies where another one does. Nothing may read it before. The copy begins
    /// when all that was queued before is done.
    pub departed: fn(TensorData, Tensor<2>) -> Tensor<2>,
    /// That tensor, for whatever is queued from now on.
    pub arrived: fn(Tensor<2>) -> Tensor<2>,
}

/// For cards, whose copies from page-locked memory go on beside computation; what a card was read out into is page-locked. `None` elsewhere.
pub fn carrier(name: DeviceName) -> Option<Carrier> {
    match name {
        #[cfg(feature = "cuda")]
        DeviceName::Cuda(_) => Some(Carrier { departed: crate::cuda::departed, arrived: crate::cuda::arrived }),
        _ => None,
    }
}

/// Starts cuBLASLt on a card, which takes 32 MiB of its memory.
///
/// # Errors
/// If the device is no card of NVIDIA's, CUDA was not compiled in, or the library is missing or does not start.
pub fn start_cublas(name: DeviceName) -> Result<(), DeviceError> {
    match name {
        #[cfg(feature = "cuda")]
        DeviceName::Cuda(index) => crate::cuda::start_cublas(index),
        #[cfg(not(feature = "cuda"))]
        DeviceName::Cuda(_) => Err(DeviceError::NotCompiled { name }),
        DeviceName::Cpu | DeviceName::Wgpu(_) => {
            let (reason, remedy) = ("cuBLASLt multiplies on NVIDIA's cards only", "take `cuda`, or Burn's own products");
            Err(DeviceError::Missing { name, reason: reason.into(), remedy: remedy.into() })
        }
    }
}
