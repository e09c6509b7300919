//! cuBLASLt beside our own matrix product, for the benchmark alone: NVIDIA's library is loaded on request.

use crate::device::cuda::{Context, CudaBuffer};
use crate::device::{Buffer, Device};
use crate::error::{Error, Result};
use crate::ops::matmul::Layout;
use crate::tensor::{DType, Tensor};
use cudarc::cublaslt::{result, sys};
use std::ffi::c_void;
use std::sync::Arc;

/// Bytes of working memory that it may use: what NVIDIA recommends for Hopper.
const WORKSPACE: usize = 32 << 20;

/// The library, opened in a GPU's context.
pub(crate) struct Cublas {
    handle: sys::cublasLtHandle_t,
    context: Arc<Context>,
    workspace: CudaBuffer,
    version: usize,
}

/// A product that it has chosen an algorithm for.
pub(crate) struct Product<'a> {
    library: &'a Cublas,
    description: sys::cublasLtMatmulDesc_t,
    preference: sys::cublasLtMatmulPreference_t,
    /// Of B, A and C as it sees them.
    layouts: [sys::cublasLtMatrixLayout_t; 3],
    algorithm: sys::cublasLtMatmulAlgo_t,
    accumulate: f32,
}

fn fail(context: &Context, doing: &str) -> impl Fn(result::CublasError) -> Error {
    let (device, doing) = (context.name().to_string(), doing.to_string());
    move |e| Error::Device { device: device.clone(), what: format!("cuBLASLt: {e} while {doing}") }
}

impl Cublas {
    /// Loads the library.
    ///
    /// # Errors
    /// [`Error::Device`] where it is not on this machine, or does not start.
    pub(crate) fn open(context: &Arc<Context>) -> Result<Cublas> {
        // SAFETY: only tries to load the library, which has no other requirement than to be NVIDIA's.
        if !unsafe { sys::is_culib_present() } {
            let what = "cuBLASLt is not on this machine (libcublasLt.so / cublasLt64_12.dll cannot be loaded): it comes with the CUDA toolkit, \
                        or with `pip install nvidia-cublas-cu12` and its folder in LD_LIBRARY_PATH";
            return Err(Error::Device { device: context.name().into(), what: what.into() });
        }
        context.enter()?;
        let handle = result::create_handle().map_err(fail(context, "starting"))?;
        let workspace = context.allocate(WORKSPACE, DType::U8)?;
        // SAFETY: a function without arguments of the loaded library.
        let version = unsafe { sys::cublasLtGetVersion() };
        Ok(Cublas { handle, context: context.clone(), workspace, version })
    }

    /// `cuBLASLt 12.4.5`.
    pub(crate) fn name(&self) -> String {
        let v = self.version;
        format!("cuBLASLt {}.{}.{}", v / 10_000, v / 100 % 100, v % 100)
    }

    /// Prepares `c (+)= a · b` for tensors of these dtypes, as [`crate::ops::matmul::forward`] computes it.
    ///
    /// # Errors
    /// [`Error::Device`] for what it has no algorithm for.
    pub(crate) fn product(&self, layout: Layout, [m, n, k]: [usize; 3], [a, b, c]: [DType; 3], accumulate: bool) -> Result<Product<'_>> {
        let fail = fail(&self.context, "preparing a product");
        let kind = |dtype| if dtype == DType::Bf16 { sys::cudaDataType_t::CUDA_R_16BF } else { sys::cudaDataType_t::CUDA_R_32F };
        // It counts by columns: our row-major C [M, N] is its C [N, M] = Bᵀ · Aᵀ, with our B as its A.
        let (b_shape, b_transposed) = if layout == Layout::Nt { ([k, n], true) } else { ([n, k], false) };
        let (a_shape, a_transposed) = if layout == Layout::Tn { ([m, k], true) } else { ([k, m], false) };
        let description = result::create_matmul_desc(sys::cublasComputeType_t::CUBLAS_COMPUTE_32F, sys::cudaDataType_t::CUDA_R_32F).map_err(&fail)?;
        let preference = result::create_matmul_pref().map_err(&fail)?;
        let of = |[rows, columns]: [usize; 2], dtype| result::create_matrix_layout(kind(dtype), rows as u64, columns as u64, rows as i64).map_err(&fail);
        let layouts = [of(b_shape, b)?, of(a_shape, a)?, of([n, m], c)?];
        use sys::cublasLtMatmulDescAttributes_t as Attribute;
        for (which, transposed) in [(Attribute::CUBLASLT_MATMUL_DESC_TRANSA, b_transposed), (Attribute::CUBLASLT_MATMUL_DESC_TRANSB, a_transposed)] {
            let operation = transposed as i32; // CUBLAS_OP_N is 0, CUBLAS_OP_T is 1
            // SAFETY: the description was just made; the attribute takes an i32, which is read before the call returns.
            unsafe { result::set_matmul_desc_attribute(description, which, (&raw const operation).cast(), size_of::<i32>()) }.map_err(&fail)?;
        }
        let most = WORKSPACE as u64;
        let which = sys::cublasLtMatmulPreferenceAttributes_t::CUBLASLT_MATMUL_PREF_MAX_WORKSPACE_BYTES;
        // SAFETY: as above, with a u64.
        unsafe { result::set_matmul_pref_attribute(preference, which, (&raw const most).cast(), size_of::<u64>()) }.map_err(&fail)?;
        // SAFETY: all of them were just made.
        let chosen = unsafe { result::get_matmul_algo_heuristic(self.handle, description, layouts[0], layouts[1], layouts[2], layouts[2], preference) };
        let algorithm = chosen.map_err(&fail)?.algo;
        Ok(Product { library: self, description, preference, layouts, algorithm, accumulate: accumulate as u8 as f32 })
    }
}

impl Drop for Cublas {
    fn drop(&mut self) {
        // SAFETY: created once, destroyed once. An error leaks it.
        let _ = unsafe { result::destroy_handle(self.handle) };
    }
}

impl Product<'_> {
    /// Launches it on the stream that our own kernels are launched on.
    ///
    /// # Errors
    /// [`Error::Device`] for what the library reports.
    pub(crate) fn run(&self, a: &Tensor, b: &Tensor, c: &mut Tensor) -> Result<()> {
        let context = &self.library.context;
        context.enter()?;
        let address = |tensor: &Tensor| match tensor.view().buffer {
            Buffer::Cuda(buffer) => buffer.settle().map(|()| buffer.address as *mut c_void),
            _ => Err(Error::mismatch("cuBLASLt", "a tensor", "one on CUDA", Device::clone(tensor.device()))),
        };
        let (a, b, c) = (address(a)?, address(b)?, address(c)?);
        let (one, beta) = (1f32, self.accumulate);
        // SAFETY: the layouts were made from the sizes that the operation has checked its tensors against; the workspace is as long as
        // it was told; alpha and beta are read before the call returns; everything lives until the stream has passed.
        unsafe {
            result::matmul(
                self.library.handle,
                self.description,
                (&raw const one).cast(),
                (&raw const beta).cast(),
                b,
                self.layouts[0],
                a,
                self.layouts[1],
                c,
                self.layouts[2],
                c,
                self.layouts[2],
                &raw const self.algorithm,
                self.library.workspace.address as *mut c_void,
                WORKSPACE,
                context.stream.cast(),
            )
        }
        .map_err(fail(context, "multiplying"))
    }
}

impl Drop for Product<'_> {
    fn drop(&mut self) {
        // SAFETY: created once, destroyed once; the library keeps what is under way. An error leaks them.
        unsafe {
            for layout in self.layouts {
                let _ = result::destroy_matrix_layout(layout);
            }
            let _ = result::destroy_matmul_pref(self.preference);
            let _ = result::destroy_matmul_desc(self.description);
        }
    }
}
