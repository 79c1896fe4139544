//! Lookups.

use super::adds;
use crate::grid::Grid;
use crate::{Cuda, CudaView, CudaViewMut};
use phalanx_tensor::op::IndexOps;
use phalanx_tensor::{Float as _, Write};

impl IndexOps for Cuda {
    /// Rows beyond the table are NaN.
    fn gather_rows(
        &self,
        d: usize,
        table: CudaView<'_, f32>,
        ids: CudaView<'_, u32>,
        y: CudaViewMut<'_, f32>,
    ) {
        assert_eq!(y.len(), ids.len() * d, "gather_rows");
        let (n, rows, grid) = (ids.len() as u64, (table.len() / d.max(1)) as u64, Grid::rows(ids.len(), d));
        self.device.gather_rows(grid, n, d as u64, rows, table.on(self), ids.on(self), y.on(self));
    }

    /// Rows beyond the table go nowhere.
    fn scatter_rows(
        &self,
        d: usize,
        ids: CudaView<'_, u32>,
        dy: CudaView<'_, f32>,
        write: Write,
        table: CudaViewMut<'_, f32>,
    ) {
        assert_eq!(dy.len(), ids.len() * d, "scatter_rows");
        let (n, rows) = (ids.len(), table.len() / d.max(1));
        // blocks of 128 threads, a row of the table each
        let grid = Grid { threads: (128, 1, 1), ..Grid::rows(rows, d) };
        let (n, rows, d) = (n as u64, rows as u64, d as u64);
        let [ids, dy, table] = [ids.on(self), dy.on(self), table.on(self)];
        self.device.scatter_rows(grid, n, rows, d, ids, dy, adds(write), table);
    }

    fn one_hot(&self, d: usize, value: f64, ids: CudaView<'_, u32>, out: CudaViewMut<'_, f32>) {
        assert_eq!(out.len(), ids.len() * d, "one_hot");
        let (n, value) = (ids.len(), f32::from_f64(value));
        self.device.one_hot(Grid::rows(n, d), n as u64, d as u64, value, ids.on(self), out.on(self));
    }
}
