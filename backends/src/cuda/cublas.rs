//! NVIDIA's own matrix products, cuBLASLt, in the memory and the streams of Burn's work.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::ffi::c_void;
use std::mem::size_of_val;
use std::ptr::from_ref;

use cudarc::cublaslt::{result as blas, sys as lt};
use cudarc::driver::{result, sys};

use super::stream::{context, text};
use crate::gemm::{Gemm, Matrix};

/// Bytes that cuBLASLt may add parts of sums up in; what NVIDIA advises for Hopper.
const WORKSPACE: usize = 32 << 20;

/// The most that a pointer is known to be a multiple of, as far as cuBLASLt cares.
const ALIGNMENT: usize = 256;

/// What is multiplied and what comes out; sums are f32's.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) enum Kind {
    /// bf16, rounded to bf16.
    Bf16,
    /// bf16, not rounded.
    Bf16ToF32,
    /// f32, all 24 bits of it.
    F32,
    /// f32 rounded to TF32's 11 bits.
    Tf32,
}

impl Kind {
    /// Of a factor, of the product, and how it is computed.
    fn types(self) -> (lt::cudaDataType, lt::cudaDataType, lt::cublasComputeType_t) {
        use lt::cublasComputeType_t::{CUBLAS_COMPUTE_32F as EXACT, CUBLAS_COMPUTE_32F_FAST_TF32 as FAST};
        use lt::cudaDataType_t::{CUDA_R_16BF as BF16, CUDA_R_32F as F32};
        match self {
            Self::Bf16 => (BF16, BF16, EXACT),
            Self::Bf16ToF32 => (BF16, F32, EXACT),
            Self::F32 => (F32, F32, EXACT),
            Self::Tf32 => (F32, F32, FAST),
        }
    }

    /// Bytes of an element of a factor, and of the product.
    fn sizes(self) -> (usize, usize) {
        match self {
            Self::Bf16 => (2, 2),
            Self::Bf16ToF32 => (2, 4),
            Self::F32 | Self::Tf32 => (4, 4),
        }
    }
}

/// What cuBLASLt was asked for, once per shape.
struct Prepared {
    description: lt::cublasLtMatmulDesc_t,
    layouts: [lt::cublasLtMatrixLayout_t; 3],
    algorithm: lt::cublasLtMatmulAlgo_t,
}

/// cuBLASLt on one card. It lives as long as the program.
pub(super) struct Library {
    context: sys::CUcontext,
    handle: lt::cublasLtHandle_t,
    /// One for every stream, whose products take turns at it.
    workspaces: HashMap<usize, sys::CUdeviceptr>,
    prepared: HashMap<(Gemm, Kind, [usize; 3]), Prepared>,
}

// SAFETY: CUDA's and cuBLASLt's handles may be used from any thread, and `&mut` lets one at a time.
#[allow(unsafe_code)]
unsafe impl Send for Library {}

impl Library {
    /// Starts cuBLASLt on the n-th card.
    ///
    /// # Errors
    /// If the library is missing or does not start.
    pub(super) fn start(index: usize) -> Result<Self, String> {
        present()?;
        let context = context(index)?;
        let handle = blas::create_handle().map_err(|error| format!("cuBLASLt does not start: {error}"))?;
        Ok(Self { context, handle, workspaces: HashMap::new(), prepared: HashMap::new() })
    }

    /// Queues a product of what lies at the first two addresses into the third, added to what lies at another one, if any, as the product
    /// lies: there, or elsewhere.
    ///
    /// # Errors
    /// What cuBLASLt or the driver says.
    ///
    /// # Safety
    /// The addresses are this card's, and hold at least what `gemm` reads and writes from the offsets on, when the stream, one of
    /// this card's, comes to the product.
    #[allow(unsafe_code)]
    pub(super) unsafe fn multiply(
        &mut self,
        (gemm, offsets): (&Gemm, &[[usize; 3]]),
        kind: Kind,
        (addresses, onto): ([u64; 3], Option<u64>),
        stream: sys::CUstream,
    ) -> Result<(), String> {
        // SAFETY: the context is never released.
        unsafe { result::ctx::set_current(self.context) }.map_err(text)?;
        let workspace = self.workspace(stream)?;
        let (factor, product) = kind.sizes();
        for offset in offsets {
            let at = |which: usize, size: usize| addresses[which] + (offset[which] * size) as u64;
            // SAFETY: the caller's.
            unsafe { self.call((gemm, kind), ([at(0, factor), at(1, factor), at(2, product)], onto), (stream, workspace)) }?;
        }
        Ok(())
    }

    /// In the context that is current.
    fn workspace(&mut self, stream: sys::CUstream) -> Result<sys::CUdeviceptr, String> {
        Ok(match self.workspaces.entry(stream as usize) {
            Entry::Occupied(there) => *there.get(),
            // SAFETY: a context is current.
            #[allow(unsafe_code)]
            Entry::Vacant(free) => *free.insert(unsafe { result::malloc_sync(WORKSPACE) }.map_err(text)?),
        })
    }

    #[allow(unsafe_code)]
    unsafe fn call(
        &mut self,
        (gemm, kind): (&Gemm, Kind),
        (addresses, onto): ([u64; 3], Option<u64>),
        (stream, workspace): (sys::CUstream, sys::CUdeviceptr),
    ) -> Result<(), String> {
        let key = (*gemm, kind, alignments(gemm, kind, addresses, onto));
        let prepared = match self.prepared.entry(key) {
            Entry::Occupied(prepared) => prepared.into_mut(),
            Entry::Vacant(free) => {
                let none = |error| format!("cuBLASLt has no product for {key:?}: {error}");
                free.insert(prepare(self.handle, key).map_err(none)?)
            }
        };
        let Prepared { description, layouts: [first, second, product], algorithm } = *prepared;
        let [a, b, d] = addresses.map(|address| address as *mut c_void);
        let (one, times) = (1.0f32, if onto.is_some() { 1.0f32 } else { 0.0 });
        let c = onto.map_or(d, |address| address as *mut c_void);
        // SAFETY: descriptors live as long as `self`; the factors of the sum are f32, as the description says; of the memory the
        // caller vouches for.
        let done = unsafe {
            blas::matmul(
                self.handle,
                description,
                from_ref(&one).cast(),
                from_ref(&times).cast(),
                a,
                first,
                b,
                second,
                c,
                product,
                d,
                product,
                &algorithm,
                workspace as *mut c_void,
                WORKSPACE,
                stream.cast(),
            )
        };
        done.map_err(|error| format!("cuBLASLt failed at {key:?}: {error}"))
    }
}

pub(super) fn present() -> Result<(), String> {
    // SAFETY: it only tries to load the library by its usual names.
    #[allow(unsafe_code)]
    let present = unsafe { lt::is_culib_present() };
    if present { Ok(()) } else { Err("NVIDIA's library libcublasLt was not found".into()) }
}

fn prepare(
    handle: lt::cublasLtHandle_t,
    (gemm, kind, alignments): (Gemm, Kind, [usize; 3]),
) -> Result<Prepared, blas::CublasError> {
    use lt::cublasLtMatmulDescAttributes_t::{CUBLASLT_MATMUL_DESC_TRANSA, CUBLASLT_MATMUL_DESC_TRANSB};
    let (factor, product, compute) = kind.types();
    let description = blas::create_matmul_desc(compute, lt::cudaDataType::CUDA_R_32F)?;
    for (attribute, matrix) in [(CUBLASLT_MATMUL_DESC_TRANSA, gemm.first), (CUBLASLT_MATMUL_DESC_TRANSB, gemm.second)] {
        // CUBLAS_OP_N and CUBLAS_OP_T.
        let operation = i32::from(matrix.transposed);
        // SAFETY: the description was just made; the attribute is an `i32`.
        #[allow(unsafe_code)]
        unsafe {
            blas::set_matmul_desc_attribute(description, attribute, from_ref(&operation).cast(), size_of_val(&operation))?;
        }
    }
    let layouts = [
        layout(gemm.first, factor, gemm.batch)?,
        layout(gemm.second, factor, gemm.batch)?,
        layout(gemm.product, product, gemm.batch)?,
    ];
    let algorithm = algorithm(handle, description, layouts, alignments)?;
    Ok(Prepared { description, layouts, algorithm })
}

fn layout(matrix: Matrix, kind: lt::cudaDataType, batch: usize) -> Result<lt::cublasLtMatrixLayout_t, blas::CublasError> {
    use lt::cublasLtMatrixLayoutAttribute_t as Attribute;
    let layout = blas::create_matrix_layout(kind, matrix.rows as u64, matrix.columns as u64, matrix.leading as i64)?;
    let (count, stride) = (batch as i32, matrix.batch_stride as i64);
    // SAFETY: the layout was just made; the count is an `i32`, the stride an `i64`.
    #[allow(unsafe_code)]
    unsafe {
        let count_at = Attribute::CUBLASLT_MATRIX_LAYOUT_BATCH_COUNT;
        blas::set_matrix_layout_attribute(layout, count_at, from_ref(&count).cast(), size_of_val(&count))?;
        let stride_at = Attribute::CUBLASLT_MATRIX_LAYOUT_STRIDED_BATCH_OFFSET;
        blas::set_matrix_layout_attribute(layout, stride_at, from_ref(&stride).cast(), size_of_val(&stride))?;
    }
    Ok(layout)
}

/// What cuBLASLt expects to be fastest. It times nothing, so that a shape has the same kernel in every run.
fn algorithm(
    handle: lt::cublasLtHandle_t,
    description: lt::cublasLtMatmulDesc_t,
    [first, second, product]: [lt::cublasLtMatrixLayout_t; 3],
    [a, b, c]: [usize; 3],
) -> Result<lt::cublasLtMatmulAlgo_t, blas::CublasError> {
    use lt::cublasLtMatmulPreferenceAttributes_t as Attribute;
    let preference = blas::create_matmul_pref()?;
    let set = |attribute, bytes: *const c_void, size| {
        // SAFETY: the preference was just made, and the callers below point to what the attribute is.
        #[allow(unsafe_code)]
        unsafe {
            blas::set_matmul_pref_attribute(preference, attribute, bytes, size)
        }
    };
    set(Attribute::CUBLASLT_MATMUL_PREF_MAX_WORKSPACE_BYTES, from_ref(&WORKSPACE).cast(), size_of_val(&WORKSPACE))?;
    // Parts of a sum are added up in f32, not in what the product is rounded to.
    let reduction = lt::cublasLtReductionScheme_t::CUBLASLT_REDUCTION_SCHEME_COMPUTE_TYPE as u32;
    set(Attribute::CUBLASLT_MATMUL_PREF_REDUCTION_SCHEME_MASK, from_ref(&reduction).cast(), size_of_val(&reduction))?;
    for (attribute, alignment) in [
        (Attribute::CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_A_BYTES, a as u32),
        (Attribute::CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_B_BYTES, b as u32),
        (Attribute::CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_C_BYTES, c as u32),
        (Attribute::CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_D_BYTES, c as u32),
    ] {
        set(attribute, from_ref(&alignment).cast(), size_of_val(&alignment))?;
    }
    // SAFETY: all of these were made by the library and not destroyed.
    #[allow(unsafe_code)]
    let found = unsafe {
        let found = blas::get_matmul_algo_heuristic(handle, description, first, second, product, product, preference);
        blas::destroy_matmul_pref(preference)?;
        found
    };
    Ok(found?.algo)
}

/// What the addresses of all matrices of a call are multiples of.
fn alignments(gemm: &Gemm, kind: Kind, [a, b, d]: [u64; 3], onto: Option<u64>) -> [usize; 3] {
    let (factor, product) = kind.sizes();
    let aligned = |matrix: Matrix, size: usize, address: u64| {
        let bits = address as usize | (matrix.batch_stride * size) | ALIGNMENT;
        1 << bits.trailing_zeros()
    };
    [aligned(gemm.first, factor, a), aligned(gemm.second, factor, b), aligned(gemm.product, product, d | onto.unwrap_or(0))]
}
