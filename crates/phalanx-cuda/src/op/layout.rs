//! Strided copies.

use super::adds;
use crate::grid::Grid;
use crate::strided::Walk;
use crate::{Cuda, CudaView, CudaViewMut};
use phalanx_tensor::Write;
use phalanx_tensor::op::{LayoutOps, Strided};

impl LayoutOps for Cuda {
    fn copy_strided(
        &self,
        (x, from): (CudaView<'_, f32>, Strided),
        write: Write,
        (out, to): (CudaViewMut<'_, f32>, Strided),
    ) {
        assert_eq!(from.shape, to.shape, "copy_strided");
        assert!(from.end() <= x.len() && to.end() <= out.len(), "copy_strided");
        let n = from.shape.len();
        if n == 0 || self.small("a strided copy", n).is_none() {
            return;
        }
        let Some(Walk { len, extents, a, b }) = Walk::new(&from, &to) else { return };
        self.device.copy_strided(Grid::over(n), x.on(self), extents, a, b, adds(write), out.on(self), len);
    }
}
