//! Matrix products.

use super::adds;
use super::elementwise::code;
use crate::blas::Gemm;
use crate::grid::{Grid, MOST_OUTER};
use crate::kernels::{Layout, Ptr};
use crate::{Cuda, CudaView, CudaViewMut};
use phalanx_tensor::Write;
use phalanx_tensor::op::{Mat, MatmulOps, MatmulSpec, UnaryKind};

/// Rows and columns of a block of `matmul_any`.
const TILE: u32 = 16;
/// No activation, as `bias_act` has it.
const NO_ACT: u32 = u32::MAX;

impl MatmulOps for Cuda {
    /// # Numerics
    /// By cuBLAS in `f32`; layouts in which neither rows nor columns are contiguous, by a kernel of our own.
    fn matmul(
        &self,
        spec: &MatmulSpec,
        a: CudaView<'_, f32>,
        b: CudaView<'_, f32>,
        write: Write,
        c: CudaViewMut<'_, f32>,
    ) {
        let MatmulSpec { batch, m, n, k, .. } = *spec;
        assert!(spec.a.end(m, k, batch) <= a.len() && spec.b.end(k, n, batch) <= b.len(), "matmul operands");
        assert!(spec.c.end(m, n, batch) <= c.len(), "matmul output");
        self.product(spec, a.on(self), b.on(self), write, c.on(self));
    }

    fn linear(
        &self,
        m: usize,
        n: usize,
        k: usize,
        x: CudaView<'_, f32>,
        w: CudaView<'_, f32>,
        bias: Option<CudaView<'_, f32>>,
        act: Option<UnaryKind>,
        pre: Option<CudaViewMut<'_, f32>>,
        y: CudaViewMut<'_, f32>,
    ) {
        assert!(x.len() == m * k && w.len() == n * k && y.len() == m * n, "linear");
        assert!(bias.is_none_or(|b| b.len() == n), "a bias an output");
        assert!(pre.as_ref().is_none_or(|pre| pre.len() == y.len()), "linear");
        let spec = MatmulSpec {
            batch: 1,
            m,
            n,
            k,
            a: Mat::dense(m, k),
            b: Mat::dense(n, k).t(),
            c: Mat::dense(m, n),
        };
        let y = y.on(self);
        let sums = match (&pre, act) {
            (_, None | Some(UnaryKind::Relu)) => y,
            (Some(pre), Some(_)) => pre.on(self),
            (None, Some(_)) => unreachable!("an activation other than ReLU keeps its input"),
        };
        self.product(&spec, x.on(self), w.on(self), Write::Set, sums);
        if bias.is_some() || act.is_some() {
            let bias = bias.map_or(0, |bias| bias.on(self));
            let act = act.map_or(NO_ACT, |kind| code(&UnaryKind::ALL, &kind));
            self.device.bias_act(Grid::row_groups(m), m as u64, n as u64, bias, act, sums, y);
        }
    }
}

impl Cuda {
    /// A batch of products of matrices at addresses.
    pub(super) fn product(&self, spec: &MatmulSpec, a: Ptr, b: Ptr, write: Write, c: Ptr) {
        if spec.batch == 0 || spec.m == 0 || spec.n == 0 {
            return;
        }
        assert_eq!(spec.c.cols, 1, "the rows of a product are contiguous");
        let Some(gemm) = Gemm::new(spec) else { return self.product_any(spec, a, b, write, c) };
        let at = |mat: &Mat, base: Ptr, i: usize| base + 4 * (mat.offset + i * mat.batch) as u64;
        if spec.batch == 1 || spec.c.batch != 0 {
            let [a, b, c] = [at(&spec.a, a, 0), at(&spec.b, b, 0), at(&spec.c, c, 0)];
            self.device.blas().multiply(&self.device, &gemm, a, b, write == Write::Add, c);
            return;
        }
        // a batch that adds up into one matrix, in order
        let Some(one) = Gemm::new(&MatmulSpec { batch: 1, ..*spec }) else { return };
        for i in 0..spec.batch {
            let [a, b, c] = [at(&spec.a, a, i), at(&spec.b, b, i), at(&spec.c, c, 0)];
            self.device.blas().multiply(&self.device, &one, a, b, i > 0 || write == Write::Add, c);
        }
    }

    /// By the kernel for any layout.
    fn product_any(&self, spec: &MatmulSpec, a: Ptr, b: Ptr, write: Write, c: Ptr) {
        let extents = [spec.batch, spec.m, spec.n, spec.k].map(|n| self.small("a matrix product", n));
        let [Some(batch), Some(m), Some(n), Some(k)] = extents else { return };
        let sums = spec.batch > 1 && spec.c.batch == 0;
        let [of_a, of_b, of_c] = [spec.a, spec.b, spec.c].map(|mat| Layout {
            offset: mat.offset as u64,
            row: mat.rows as u64,
            column: mat.cols as u64,
            batch: mat.batch as u64,
        });
        let deep = if sums { 1 } else { batch.min(MOST_OUTER.into()) };
        let tall = m.div_ceil(TILE);
        if tall > MOST_OUTER.into() {
            let most = usize::from(MOST_OUTER) * TILE as usize;
            let (operator, got) = ("rows of a matrix product of such a layout", spec.m);
            return self.device.fail(crate::CudaError::TooLarge {
                ordinal: self.ordinal(),
                operator,
                got,
                most,
            });
        }
        let grid = Grid { blocks: (n.div_ceil(TILE), tall, deep), threads: (TILE, TILE, 1), shared: 0 };
        let sums = u32::from(sums);
        self.device.matmul_any(grid, batch, m, n, k, a, b, c, of_a, of_b, of_c, adds(write), sums);
    }
}

#[cfg(test)]
mod tests {
    use crate::op::u32_of;

    #[test]
    fn counts_beyond_32_bits_are_none() {
        assert_eq!(u32_of(7), Some(7));
        assert_eq!(u32_of(1 << 32), None);
    }
}
