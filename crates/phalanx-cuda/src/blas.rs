//! Matrix products by cuBLAS.

use crate::CudaError;
use crate::device::Device;
use crate::kernels::Ptr;
use cudarc::cublas::result::{self, CublasError};
use cudarc::cublas::sys::{
    self, cublasComputeType_t, cublasGemmAlgo_t, cublasHandle_t, cublasOperation_t, cudaDataType_t,
};
use cudarc::driver::CudaStream;
use phalanx_tensor::op::{Mat, MatmulSpec};
use std::ffi::c_void;
use std::sync::{Mutex, PoisonError};

const F32: cudaDataType_t = cudaDataType_t::CUDA_R_32F;

/// Matrices of a call: versions of cuBLAS have failed beyond 65535.
const MOST_BATCH: i32 = 1 << 15;

/// To what operands of matrix products are rounded before they are multiplied. Sums are in `f32`, and so is all that is kept.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Products {
    /// They are not.
    #[default]
    F32,
    /// To ten bits of mantissa.
    Tf32,
}

impl Products {
    fn compute(self) -> cublasComputeType_t {
        match self {
            Products::F32 => cublasComputeType_t::CUBLAS_COMPUTE_32F,
            Products::Tf32 => cublasComputeType_t::CUBLAS_COMPUTE_32F_FAST_TF32,
        }
    }
}

/// A handle of cuBLAS, whose work goes to one stream.
pub(crate) struct Blas {
    handle: Mutex<cublasHandle_t>,
    products: Products,
}

/// An operand as cuBLAS reads it: columns are contiguous, `transposed` if rows are ours.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Operand {
    op: cublasOperation_t,
    ld: i32,
}

/// A product that cuBLAS takes. Its columns are our rows, so that it computes the transposed product, `b` first.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Gemm {
    a: Operand,
    b: Operand,
    ldc: i32,
    mnk: [i32; 3],
    strides: [i64; 3],
    batch: i32,
}

impl Gemm {
    /// None for a layout or an extent that cuBLAS does not take.
    pub(crate) fn new(spec: &MatmulSpec) -> Option<Self> {
        let int = |n: usize| i32::try_from(n).ok();
        let stride = |mat: &Mat| i64::try_from(mat.batch).ok();
        // one row may lie anywhere
        let ldc = if spec.m == 1 { spec.c.rows.max(spec.n) } else { spec.c.rows };
        if ldc < spec.n || spec.k == 0 {
            return None;
        }
        Some(Gemm {
            a: Operand::new(&spec.a, spec.m, spec.k)?,
            b: Operand::new(&spec.b, spec.k, spec.n)?,
            ldc: int(ldc)?,
            mnk: [int(spec.m)?, int(spec.n)?, int(spec.k)?],
            strides: [stride(&spec.a)?, stride(&spec.b)?, stride(&spec.c)?],
            batch: int(spec.batch)?,
        })
    }
}

impl Operand {
    /// A matrix of `rows x columns`; a step between rows or columns of which there is one does not matter.
    fn new(mat: &Mat, rows: usize, columns: usize) -> Option<Self> {
        let by_rows = mat.cols == 1 || columns == 1;
        let by_columns = mat.rows == 1 || rows == 1;
        let row_step = if rows == 1 { mat.rows.max(columns) } else { mat.rows };
        let column_step = if columns == 1 { mat.cols.max(rows) } else { mat.cols };
        let (op, ld) = if by_rows && row_step >= columns {
            (cublasOperation_t::CUBLAS_OP_N, row_step)
        } else if by_columns && column_step >= rows {
            (cublasOperation_t::CUBLAS_OP_T, column_step)
        } else {
            return None;
        };
        Some(Operand { op, ld: i32::try_from(ld).ok()? })
    }
}

impl Blas {
    pub(crate) fn new(ordinal: usize, stream: &CudaStream, products: Products) -> Result<Self, CudaError> {
        let failed = |call| move |error| failure(ordinal, call, error);
        let handle = result::create_handle().map_err(failed("cublasCreate"))?;
        // held from here on, so that it is destroyed if the stream is refused
        let blas = Blas { handle: Mutex::new(handle), products };
        // SAFETY: the handle is of the device that is bound, and so is the stream, which outlives it: `Device` drops this first.
        unsafe { result::set_stream(handle, stream.cu_stream().cast()) }
            .map_err(failed("cublasSetStream"))?;
        Ok(blas)
    }

    /// Puts a batch of products on the stream; with `add` they are added to `c`.
    pub(crate) fn multiply(&self, device: &Device, gemm: &Gemm, a: Ptr, b: Ptr, add: bool, c: Ptr) {
        if !device.is_ready() {
            return;
        }
        let handle = self.handle.lock().unwrap_or_else(PoisonError::into_inner);
        let (one, beta) = (1.0_f32, if add { 1.0_f32 } else { 0.0 });
        let [m, n, k] = gemm.mnk;
        let [step_a, step_b, step_c] = gemm.strides;
        for first in (0..gemm.batch).step_by(MOST_BATCH.unsigned_abs() as usize) {
            let from =
                |base: Ptr, step: i64| base + 4 * i64::from(first).unsigned_abs() * step.unsigned_abs();
            // SAFETY: `Gemm::new` checked extents and steps; the operators have asserted that matrices lie in their buffers,
            // or have made those as long as they are.
            let status = unsafe {
                sys::cublasGemmStridedBatchedEx(
                    *handle,
                    gemm.b.op,
                    gemm.a.op,
                    n,
                    m,
                    k,
                    (&raw const one).cast(),
                    from(b, step_b) as *const c_void,
                    F32,
                    gemm.b.ld,
                    step_b,
                    from(a, step_a) as *const c_void,
                    F32,
                    gemm.a.ld,
                    step_a,
                    (&raw const beta).cast(),
                    from(c, step_c) as *mut c_void,
                    F32,
                    gemm.ldc,
                    step_c,
                    (gemm.batch - first).min(MOST_BATCH),
                    self.products.compute(),
                    cublasGemmAlgo_t::CUBLAS_GEMM_DEFAULT,
                )
            };
            if let Err(error) = status.result() {
                return device.fail(failure(device.ordinal(), "cublasGemmStridedBatchedEx", error));
            }
        }
    }
}

impl Drop for Blas {
    fn drop(&mut self) {
        let handle = *self.handle.get_mut().unwrap_or_else(PoisonError::into_inner);
        // SAFETY: the handle was made in `new` and is used by nobody any more. What fails here has nobody to tell it to.
        unsafe { result::destroy_handle(handle) }.unwrap_or_default();
    }
}

fn failure(ordinal: usize, call: &'static str, error: CublasError) -> CudaError {
    CudaError::Call { ordinal, call, code: error.0 as u32, text: format!("{:?}", error.0) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn spec(m: usize, n: usize, k: usize) -> MatmulSpec {
        MatmulSpec { batch: 1, m, n, k, a: Mat::dense(m, k), b: Mat::dense(k, n), c: Mat::dense(m, n) }
    }

    #[test]
    fn rows_and_columns_that_are_contiguous_are_taken() {
        let (n, t) = (cublasOperation_t::CUBLAS_OP_N, cublasOperation_t::CUBLAS_OP_T);
        let dense = Gemm::new(&spec(2, 3, 4)).unwrap();
        assert_eq!((dense.a, dense.b), (Operand { op: n, ld: 4 }, Operand { op: n, ld: 3 }));
        let turned = MatmulSpec { a: Mat::dense(4, 2).t(), b: Mat::dense(3, 4).t(), ..spec(2, 3, 4) };
        let turned = Gemm::new(&turned).unwrap();
        assert_eq!((turned.a, turned.b), (Operand { op: t, ld: 2 }, Operand { op: t, ld: 4 }));
    }

    #[test]
    fn a_step_that_is_never_taken_does_not_matter() {
        // one row of two that lies anywhere, one column whose elements are seven apart
        let row = Mat { offset: 0, rows: 0, cols: 1, batch: 0 };
        let column = Mat { offset: 0, rows: 7, cols: 5, batch: 0 };
        let gemm = Gemm::new(&MatmulSpec { a: row, b: column, ..spec(1, 1, 2) }).unwrap();
        assert_eq!((gemm.a.ld, gemm.b.ld), (2, 7));
    }

    #[test]
    fn other_layouts_are_not() {
        let every_other = Mat { offset: 0, rows: 8, cols: 2, batch: 0 };
        assert_eq!(Gemm::new(&MatmulSpec { a: every_other, ..spec(2, 3, 4) }), None);
        let broadcast = Mat { offset: 0, rows: 0, cols: 1, batch: 0 };
        assert_eq!(Gemm::new(&MatmulSpec { a: broadcast, ..spec(2, 3, 4) }), None);
        assert_eq!(Gemm::new(&spec(2, 3, 0)), None);
    }
}
