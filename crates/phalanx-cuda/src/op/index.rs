//! Lookups.

use super::adds;
use crate::grid::{Grid, MOST_OUTER};
use crate::{Cuda, CudaView, CudaViewMut};
use phalanx_tensor::op::IndexOps;
use phalanx_tensor::{Float as _, Write};

/// Rows of a table that a block looks for at a time, and blocks that keep a device busy.
const MOST_EACH: usize = 16;
const ROW_BLOCKS: usize = 1 << 10;

/// Rows of a table whose 32 columns fit into the shared memory of a block.
const FEW_ROWS: usize = 320;
/// Positions that make sums of a small table by parts worth while, and parts in all columns.
const LEAST_POSITIONS: usize = 1 << 11;
const PARTS: usize = 1 << 10;

/// In how many parts positions are summed: where they are many for a table of few rows. The sums of the parts take no more
/// than a third of the memory of what is summed. A function of the extents alone, and so are the bits.
fn parts(n: usize, rows: usize, d: usize) -> usize {
    if n < LEAST_POSITIONS || rows > FEW_ROWS {
        return 1;
    }
    (n / (3 * rows.max(1))).min(PARTS / d.div_ceil(32).max(1)).max(1)
}

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
    ///
    /// # Numerics
    /// The bits of the CPU, but for many positions of a table of few rows: these are summed in parts, in an order that does
    /// not change.
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
        let [ids, dy, table] = [ids.on(self), dy.on(self), table.on(self)];
        let parts = parts(n, rows, d);
        if parts == 1 {
            let each = (rows / ROW_BLOCKS).clamp(1, MOST_EACH);
            // blocks of 256 threads
            let grid = Grid { threads: (256, 1, 1), ..Grid::rows(rows.div_ceil(each), d) };
            let (n, rows, d) = (n as u64, rows as u64, d as u64);
            return self.device.scatter_rows(grid, n, rows, d, each as u32, ids, dy, adds(write), table);
        }
        let Some(sums) = self.scratch::<f32>(parts * rows * d) else { return };
        let outer = u32::from(u16::try_from(d.div_ceil(32)).unwrap_or(MOST_OUTER));
        let grid =
            Grid { blocks: (parts as u32, outer, 1), threads: (32, 1, 1), shared: (128 * rows) as u32 };
        self.device.scatter_parts(grid, n as u64, rows as u32, d as u64, parts as u64, ids, dy, sums.at());
        let (grid, inner) = (Grid::columns(rows * d, 1), (rows * d) as u64);
        self.device.sum_columns(grid, sums.at(), 1, parts as u64, inner, 1, adds(write), table);
    }

    fn one_hot(&self, d: usize, value: f64, ids: CudaView<'_, u32>, out: CudaViewMut<'_, f32>) {
        assert_eq!(out.len(), ids.len() * d, "one_hot");
        let (n, value) = (ids.len(), f32::from_f64(value));
        self.device.one_hot(Grid::rows(n, d), n as u64, d as u64, value, ids.on(self), out.on(self));
    }
}

#[cfg(test)]
mod tests {
    use super::parts;

    #[test]
    fn positions_are_summed_in_parts_where_the_table_is_small() {
        // bytes, characters, a vocabulary
        assert_eq!(
            [parts(131_072, 256, 128), parts(16_384, 65, 384), parts(16_384, 50_257, 768)],
            [170, 84, 1]
        );
        assert_eq!([parts(2047, 2, 8), parts(2048, 2, 8), parts(2048, 321, 8)], [1, 341, 1]);
        assert_eq!([parts(0, 0, 0), parts(1 << 20, 2, 1 << 20)], [1, 1]);
    }
}
