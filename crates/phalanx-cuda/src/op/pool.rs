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
        check(spec, x.len(), [y.len(), argmax.len()]);
        let Some((pool, [_, outs])) = self.pool_extents(spec) else { return };
        let [x, y, argmax] = [x.on(self), y.on(self), argmax.on(self)];
        self.device.max_pool(Grid::over(outs as usize), pool, outs, x, y, argmax);
    }

    fn max_pool2d_grad(
        &self,
        spec: &PoolSpec,
        argmax: CudaView<'_, u32>,
        dy: CudaView<'_, f32>,
        dx: CudaViewMut<'_, f32>,
    ) {
        check(spec, dx.len(), [argmax.len(), dy.len()]);
        let Some((pool, [cells, _])) = self.pool_extents(spec) else { return };
        let [dy, dx] = [dy.on(self), dx.on(self)];
        self.device.max_pool_grad(Grid::over(cells as usize), pool, cells, argmax.on(self), dy, dx);
    }

    fn max_pool2d_tangent(
        &self,
        spec: &PoolSpec,
        argmax: CudaView<'_, u32>,
        x: CudaView<'_, f32>,
        y: CudaViewMut<'_, f32>,
    ) {
        check(spec, x.len(), [argmax.len(), y.len()]);
        let Some((pool, [_, outs])) = self.pool_extents(spec) else { return };
        let [x, y] = [x.on(self), y.on(self)];
        self.device.max_pool_tangent(Grid::over(outs as usize), pool, outs, argmax.on(self), x, y);
    }

    fn avg_pool2d(&self, spec: &PoolSpec, x: CudaView<'_, f32>, y: CudaViewMut<'_, f32>) {
        check(spec, x.len(), [y.len()]);
        let Some((pool, [_, outs])) = self.pool_extents(spec) else { return };
        let [x, y] = [x.on(self), y.on(self)];
        self.device.avg_pool(Grid::over(outs as usize), pool, outs, scale(spec), x, y);
    }

    fn avg_pool2d_grad(
        &self,
        spec: &PoolSpec,
        dy: CudaView<'_, f32>,
        write: Write,
        dx: CudaViewMut<'_, f32>,
    ) {
        check(spec, dx.len(), [dy.len()]);
        let Some((pool, [cells, _])) = self.pool_extents(spec) else { return };
        let [dy, dx] = [dy.on(self), dx.on(self)];
        self.device.avg_pool_grad(Grid::over(cells as usize), pool, cells, scale(spec), dy, adds(write), dx);
    }
}

impl Cuda {
    /// What kernels take, and the cells of all planes before and after the pooling.
    fn pool_extents(&self, spec: &PoolSpec) -> Option<(Pool, [u32; 2])> {
        let small = |n: usize| self.small("pooling", n);
        let pair = |[a, b]: [usize; 2]| Some([small(a)?, small(b)?]);
        let counts = [spec.hw, spec.out_hw()].map(|[h, w]| spec.planes * h * w);
        let pool = Pool {
            hw: pair(spec.hw)?,
            out_hw: pair(spec.out_hw())?,
            kernel: pair(spec.kernel)?,
            stride: pair(spec.stride)?,
            padding: pair(spec.padding)?,
        };
        Some((pool, pair(counts)?))
    }
}

/// The lengths before and after the pooling.
#[track_caller]
fn check<const N: usize>(spec: &PoolSpec, before: usize, after: [usize; N]) {
    let [cells, outs] = [spec.hw, spec.out_hw()].map(|[h, w]| spec.planes * h * w);
    assert!(before == cells && after.iter().all(|len| *len == outs), "the operands of a pooling");
}

fn scale(spec: &PoolSpec) -> f32 {
    1.0 / f32::from_f64((spec.kernel[0] * spec.kernel[1]) as f64)
}
