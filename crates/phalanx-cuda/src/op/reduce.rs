//! Sums and maxima along an axis, and the scalars of a flat buffer.

use super::adds;
use crate::grid::Grid;
use crate::kernels::Ptr;
use crate::{Cuda, CudaView, CudaViewMut};
use phalanx_tensor::Write;
use phalanx_tensor::op::{Moments, ReduceOps};

/// Elements whose sums a group of sixteen threads makes: `RUN` in `moments.cu`.
const RUN: usize = 4096;
const LANES: usize = 16;

impl ReduceOps for Cuda {
    fn sum_axis(
        &self,
        x: CudaView<'_, f32>,
        outer: usize,
        len: usize,
        inner: usize,
        write: Write,
        out: CudaViewMut<'_, f32>,
    ) {
        assert!(x.len() == outer * len * inner && out.len() == outer * inner, "sum_axis");
        let (x, out) = (x.on(self), out.on(self));
        if inner == 1 {
            self.add_up_rows([outer, len], x, write, out);
        } else {
            self.in_parts([outer, len, inner], write, out, |parts, grid, add, out| {
                self.device.sum_columns(grid, x, outer as u64, len as u64, inner as u64, parts, add, out);
            });
        }
    }

    fn max_axis(
        &self,
        x: CudaView<'_, f32>,
        outer: usize,
        len: usize,
        inner: usize,
        out: CudaViewMut<'_, f32>,
    ) {
        assert!(x.len() == outer * len * inner && out.len() == outer * inner && len > 0, "max_axis");
        let grid = Grid::over(out.len());
        self.device.max_axis(grid, x.on(self), outer as u64, len as u64, inner as u64, out.on(self));
    }

    /// Sums are NaN where the device failed.
    fn moments(&self, x: CudaView<'_, f32>) -> Moments {
        let n = x.len();
        let runs = n.div_ceil(RUN);
        let mut sums = vec![[0.0_f64; 3]; runs];
        let Some(out) = self.scratch::<[f64; 3]>(runs) else { return FAILED };
        self.device.moments(Grid::groups(runs, LANES), x.on(self), n as u64, runs as u64, out.at());
        if !self.device.read(out.at(), &mut sums) {
            return FAILED;
        }
        let mut total = Moments::default();
        for [sum_sq, sum_abs, nonfinite] in sums {
            total.sum_sq += sum_sq;
            total.sum_abs += sum_abs;
            #[expect(clippy::cast_sign_loss, reason = "a count, at most RUN")]
            {
                total.nonfinite += nonfinite as u64;
            }
        }
        total
    }

    /// NaN where the device failed.
    fn dot(&self, x: CudaView<'_, f32>, y: CudaView<'_, f32>) -> f64 {
        assert_eq!(x.len(), y.len(), "dot");
        let mut dots = [0.0];
        self.add_row_dots(x.len(), x.on(self), (y.on(self), x.len()), &mut dots);
        dots[0]
    }
}

const FAILED: Moments = Moments { sum_sq: f64::NAN, sum_abs: f64::NAN, nonfinite: 0 };

/// Rows that make a part of a sum worth while, and blocks that keep a device busy.
const LEAST_ROWS: usize = 128;
const ENOUGH_BLOCKS: usize = 512;

/// In how many parts rows are summed: many where columns are few. A function of the extents alone, and so are the bits.
fn parts(outer: usize, len: usize, inner: usize) -> usize {
    let blocks = (inner.div_ceil(32) * outer).max(1);
    (ENOUGH_BLOCKS / blocks).min(len / LEAST_ROWS).max(1)
}

/// Numbers of a row that make a part worth while, and blocks that keep a device busy with them.
const LEAST_NUMBERS: usize = 1 << 12;
const ROW_BLOCKS: usize = 1 << 11;

/// In how many parts a row is summed: many where rows are few and long. As above, a function of the extents alone.
fn row_parts(rows: usize, len: usize) -> usize {
    (ROW_BLOCKS / rows.max(1)).min(len / LEAST_NUMBERS).max(1)
}

impl Cuda {
    /// Sums of `rows` rows of `len` numbers.
    pub(super) fn add_up_rows(&self, [rows, len]: [usize; 2], x: Ptr, write: Write, out: Ptr) {
        let parts = row_parts(rows, len);
        let sum = |len: usize, parts: usize, x, add, out| {
            let grid = Grid::rows(rows * parts, len / parts);
            self.device.sum_rows(grid, x, rows as u64, len as u64, parts as u64, add, out);
        };
        if parts == 1 {
            return sum(len, 1, x, adds(write), out);
        }
        let Some(sums) = self.scratch::<f32>(rows * parts) else { return };
        sum(len, parts, x, 0, sums.at());
        sum(parts, 1, sums.at(), adds(write), out);
    }

    /// Sums over the middle extent of `outer x len x inner` by `sum`, which is given the number of parts, a grid, whether to
    /// add, and where `outer x parts x inner` sums go; these are then added up in order.
    pub(super) fn in_parts(
        &self,
        [outer, len, inner]: [usize; 3],
        write: Write,
        out: Ptr,
        sum: impl Fn(u64, Grid, u32, Ptr),
    ) {
        let parts = parts(outer, len, inner);
        if parts == 1 {
            return sum(1, Grid::columns(inner, outer), adds(write), out);
        }
        let Some(sums) = self.scratch::<f32>(outer * parts * inner) else { return };
        let (grid, parts) = (Grid::columns(inner, outer * parts), parts as u64);
        sum(parts, grid, 0, sums.at());
        let grid = Grid::columns(inner, outer);
        self.device.sum_columns(grid, sums.at(), outer as u64, parts, inner as u64, 1, adds(write), out);
    }

    /// Adds the inner product of each row of `d` elements of `a` with that of `b`, whose rows lie `step_b` apart: `d`, or 0
    /// where one serves all. NaN where the device failed.
    pub(super) fn add_row_dots(&self, d: usize, a: Ptr, (b, step_b): (Ptr, usize), out: &mut [f64]) {
        let (rows, runs) = (out.len(), d.div_ceil(RUN));
        if rows * runs == 0 {
            return;
        }
        let mut parts = vec![0.0_f64; rows * runs];
        let sums = self.scratch::<f64>(parts.len());
        let is_read = sums.is_some_and(|sums| {
            let grid = Grid::groups(parts.len(), LANES);
            let (rows, d, step_b, runs) = (rows as u64, d as u64, step_b as u64, runs as u64);
            self.device.row_dots(grid, a, b, rows, d, step_b, runs, sums.at());
            self.device.read(sums.at(), &mut parts)
        });
        for (out, parts) in out.iter_mut().zip(parts.chunks_exact(runs)) {
            *out += if is_read { parts.iter().sum::<f64>() } else { f64::NAN };
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{parts, row_parts};

    #[test]
    fn rows_are_summed_in_parts_where_columns_are_few() {
        // the gradient of a bias of 768 outputs, and of one of 10
        assert_eq!([parts(1, 32_768, 768), parts(1, 32_768, 10)], [21, 256]);
        assert_eq!([parts(1, 255, 10), parts(1, 256, 10), parts(600, 32_768, 32)], [1, 2, 1]);
        assert_eq!(parts(0, 0, 0), 1);
        // a flat buffer, long rows, short rows
        assert_eq!([row_parts(1, 1 << 20), row_parts(64, 589_824), row_parts(8192, 50_257)], [256, 32, 1]);
        assert_eq!([row_parts(1, 8191), row_parts(3, 8192), row_parts(0, 0)], [1, 2, 1]);
    }
}
