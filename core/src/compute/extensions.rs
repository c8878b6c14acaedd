//! What computes beside Burn's operations: functions on tensors, handed in by whoever opened the device. They take part in Burn's order of
//! work, and need not in its autodiff.

use std::fmt;

use burn::tensor::{FloatDType, Int, Tensor, TensorData};

/// Matrix products beside Burn's, such as those of a device's maker.
#[derive(Clone, Copy)]
pub struct Library {
    /// By which two are told apart.
    pub name: &'static str,
    /// `[M, K]` · `[K, N]`.
    pub matrices: Multiply<2>,
    /// `[.., M, K]` · `[.., K, N]`, as many of one as of the other.
    pub batches: Multiply<4>,
    /// `[M, K]` · `[K, N]`, into memory of just its size where there are pages for what comes and goes.
    pub lasting: Multiply<2>,
    /// `[M, K]` · `[K, N]` added to a sum before it is rounded, in its type; the sum may be changed in place.
    pub added: fn(Tensor<2>, Tensor<2>, Tensor<2>) -> Tensor<2>,
    /// Heads side by side: `[B, KV, G·T, K]` · `[B, KV, K, hd]`, G, into the `B`·`T` rows of a tensor `[N, KV·G·hd]` from one on, which may be
    /// changed in place.
    pub joined: fn(Tensor<4>, Tensor<4>, usize, Tensor<2>, usize) -> Tensor<2>,
}

/// Multiplies two tensors of the weights' type into one of that type or f32.
pub type Multiply<const D: usize> = fn(Tensor<D>, Tensor<D>, FloatDType) -> Tensor<D>;

/// Kernels for what Burn computes in many passes over memory. What they compute is f32, whatever they read and write.
#[derive(Clone, Copy)]
pub struct Kernels {
    /// By which two sets are told apart.
    pub name: &'static str,
    /// RMSNorm of rows: `x` `[N, D]`, weight `[1, D]` of f32, ε.
    pub rms_norm: fn(Tensor<2>, Tensor<2>, f32) -> Tensor<2>,
    /// Its gradients: x, weight, dy of that type or f32, what is to be added to dx, ε; (dx + that, dw).
    pub rms_norm_backward: fn(Tensor<2>, Tensor<2>, Tensor<2>, Tensor<2>, f32) -> (Tensor<2>, Tensor<2>),
    /// Heads turned by tables, rotate-half convention: x `[B·T, heads · head_dim]`, cos and sin `[T, head_dim / 2]` of f32, into a type.
    pub turn: fn(Tensor<2>, Tensor<2>, Tensor<2>, FloatDType) -> Tensor<2>,
    /// The type of products whose attention is computed by the next two; of others by a library's products and the two after them.
    pub one_go: FloatDType,
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
    /// The halves of f32 weights, the first as numbers of a type that holds bf16's.
    pub halved: fn(Tensor<2>, FloatDType) -> Split,
    /// The weights whose halves these are.
    pub joined: fn(Split) -> Tensor<2>,
    /// The shape of the running sums that the next three add to, in f32: as many rows as they like, whose sum counts, of three numbers.
    pub sums: [usize; 2],
    /// Running sums, Σ g² added to the first numbers: g, sums.
    pub measured: fn(Tensor<2>, Tensor<2>) -> Tensor<2>,
    /// A gradient g + λF·(θ − θ*) in the type of g, and running sums, Σ of its square, (λF/2)·Σ(θ − θ*)², and Σ of the pull's square added:
    /// g, θ, θ* of f32, sums, λF.
    pub pulled: Pulled<Split>,
    /// The same with θ of f32.
    pub pulled_whole: Pulled<Tensor<2>>,
    /// Weights and moments after a step of AdamW: g, those before, numbers.
    pub adamw: Stepped<Split>,
    /// The same of weights of f32.
    pub adamw_whole: Stepped<Tensor<2>>,
}

/// Gradients of attention: those of query, key and value.
pub type AttentionBackward = fn([Tensor<2>; 3], Tensor<2>, Tensor<2, Int>, [usize; 2]) -> [Tensor<2>; 3];

/// f32 weights in two halves, a bf16 and the lower 16 bits: [`Weights::Bf16Split`](super::Weights::Bf16Split). The bf16 is rounded up where the lower bits and
/// a threshold make more than 16 bits; that of the i-th element is i·0x9E3779B1 mod 2³², of which the upper 16 bits. What is no number is cut.
pub type Split = (Tensor<2>, Tensor<2, Int>);

/// Pulls on a gradient by weights that are kept so.
pub type Pulled<W> = fn(Tensor<2>, W, Tensor<2>, Tensor<2>, f32) -> (Tensor<2>, Tensor<2>);

/// Weights, and their first and second moments.
pub type AdamWState<W> = (W, [Tensor<2>; 2]);

/// A step on weights that are kept so.
pub type Stepped<W> = fn(Tensor<2>, AdamWState<W>, AdamWNumbers) -> AdamWState<W>;

/// The numbers of a step of AdamW: the factor on the gradient, the learning rate, 1 − rate · weight decay, β₁, β₂, ε (outside the square
/// root), 1 − β₁^t and √(1 − β₂^t).
pub type AdamWNumbers = [f32; 8];

/// Brings what ordinary memory holds to a device that computes meanwhile.
#[derive(Clone, Copy)]
pub struct Carrier {
    /// By which two are told apart.
    pub name: &'static str,
    /// A tensor that will hold the data once it has arrived, and lies where another one does. Nothing may read it before. The copy begins
    /// when all that was queued before is done.
    pub departed: fn(TensorData, Tensor<2>) -> Tensor<2>,
    /// That tensor, for whatever is queued from now on.
    pub arrived: fn(Tensor<2>) -> Tensor<2>,
}

/// Two are the same if their names are: functions have no identity.
macro_rules! told_apart_by_name {
    ($($kind:ident),*) => { $(
        impl PartialEq for $kind {
            fn eq(&self, other: &Self) -> bool {
                self.name == other.name
            }
        }

        impl Eq for $kind {}

        impl fmt::Debug for $kind {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(self.name)
            }
        }
    )* };
}

told_apart_by_name!(Library, Kernels, Carrier);
