//! Pooling.

use super::adds;
use crate::grid::Grid;
use crate::kernels::Pool;
use crate::{Cuda, CudaView, CudaViewMut};
use phalanx_tensor::op::{PoolOps, PoolSpec};
use phalanx_tensor::{Float as _, Write};

impl PoolOps for Cuda {
    fn max_pool2d(
        &self,
        spec: &PoolSpec,
        x: CudaView<'_, f32>,
        y: CudaViewMut<'_, f32>,
        argmax: CudaViewMut<'_, u32>,
    ) {
        let Some(pool) = self.pool_extents(spec) else { return };
        let (len, [x, y, argmax]) = (y.len(), [x.address(), y.address(), argmax.address()]);
        self.device.max_pool(Grid::over(len), pool, len as u64, x, y, argmax);
    }

    fn max_pool2d_grad(
        &self,
        spec: &PoolSpec,
        argmax: CudaView<'_, u32>,
        dy: CudaView<'_, f32>,
        dx: CudaViewMut<'_, f32>,
    ) {
        let Some(pool) = self.pool_extents(spec) else { return };
        let (len, [dy, dx]) = (dx.len(), [dy.address(), dx.address()]);
        self.device.max_pool_grad(Grid::over(len), pool, len as u64, argmax.address(), dy, dx);
    }

    fn max_pool2d_tangent(
        &self,
        spec: &PoolSpec,
        argmax: CudaView<'_, u32>,
        x: CudaView<'_, f32>,
        y: CudaViewMut<'_, f32>,
    ) {
        let Some(pool) = self.pool_extents(spec) else { return };
        let (len, [x, y]) = (y.len(), [x.address(), y.address()]);
        self.device.max_pool_tangent(Grid::over(len), pool, len as u64, argmax.address(), x, y);
    }

    fn avg_pool2d(&self, spec: &PoolSpec, x: CudaView<'_, f32>, y: CudaViewMut<'_, f32>) {
        let Some(pool) = self.pool_extents(spec) else { return };
        let (len, [x, y]) = (y.len(), [x.address(), y.address()]);
        self.device.avg_pool(Grid::over(len), pool, len as u64, scale(spec), x, y);
    }

    fn avg_pool2d_grad(
        &self,
        spec: &PoolSpec,
        dy: CudaView<'_, f32>,
        write: Write,
        dx: CudaViewMut<'_, f32>,
    ) {
        let Some(pool) = self.pool_extents(spec) else { return };
        let (len, [dy, dx]) = (dx.len(), [dy.address(), dx.address()]);
        self.device.avg_pool_grad(Grid::over(len), pool, len as u64, scale(spec), dy, adds(write), dx);
    }
}

impl Cuda {
    fn pool_extents(&self, spec: &PoolSpec) -> Option<Pool> {
        self.small(
            "pooling of planes",
            (spec.hw[0] + 2 * spec.padding[0]) * (spec.hw[1] + 2 * spec.padding[1]),
        )?;
        let pair = |[a, b]: [usize; 2]| Some([self.small("pooling", a)?, self.small("pooling", b)?]);
        Some(Pool {
            hw: pair(spec.hw)?,
            out_hw: pair(spec.out_hw())?,
            kernel: pair(spec.kernel)?,
            stride: pair(spec.stride)?,
            padding: pair(spec.padding)?,
        })
    }
}

fn scale(spec: &PoolSpec) -> f32 {
    1.0 / f32::from_f64((spec.kernel[0] * spec.kernel[1]) as f64)
}
