//! What rules over gradients cost, for `n` vectors of `d` numbers on a device: `phalanx_tensor::rows` for memory there.

use crate::grid::Grid;
use crate::{Cuda, CudaError, CudaView, CudaViewMut};
use phalanx_tensor::rows::{Network, Statistic};

/// Columns whose products a block sums: `RUN_G` in `rows.cu`.
const RUN: usize = 4096;
/// Shared memory that every device gives a block.
const SHARED: usize = 48 << 10;

impl Cuda {
    /// All inner products of some rows: `gram_nn` is `n x n`.
    ///
    /// # Numerics
    /// In `f64`, where the product of two `f32` is exact, by runs of 4096 columns in a fixed order. NaN where the device
    /// failed, which [`Backend::check`](phalanx_tensor::Backend::check) tells.
    ///
    /// # Panics
    /// When a shape is wrong.
    #[track_caller]
    pub fn gram(&self, rows: &[CudaView<'_, f32>], gram_nn: &mut [f64]) {
        let (n, d) = (rows.len(), rows.first().map_or(0, CudaView::len));
        assert_eq!(gram_nn.len(), n * n, "products of {n} rows");
        assert!(rows.iter().all(|row| row.len() == d), "rows of one length");
        gram_nn.fill(0.0);
        let (pairs, runs) = (n * (n + 1) / 2, d.div_ceil(RUN));
        let mut parts = vec![0.0_f64; pairs * runs];
        if parts.is_empty() {
            return;
        }
        let mut read = || {
            let (out, addresses) = (self.scratch::<f64>(parts.len())?, self.addresses(rows)?);
            let grid = Grid { threads: (256, 1, 1), ..Grid::rows(parts.len(), RUN) };
            let n = self.small("inner products of rows", n)?;
            self.device.gram(grid, addresses.at(), n, d as u64, runs as u64, out.at());
            self.device.read(out.at(), &mut parts).then_some(())
        };
        if read().is_none() {
            return gram_nn.fill(f64::NAN);
        }
        let mut parts = parts.chunks_exact(runs);
        for i in 0..n {
            for j in 0..=i {
                let sum = parts.next().map_or(0.0, |parts| parts.iter().sum());
                gram_nn[i * n + j] = sum;
                gram_nn[j * n + i] = sum;
            }
        }
    }

    /// `out = sum_i w_i x_i`. Rows of weight 0 are not read.
    ///
    /// # Numerics
    /// The bits of [`phalanx_tensor::rows::weighted_sum`]: in `f64`, the rows in order, rounded once.
    ///
    /// # Panics
    /// With another number of weights, or another length of a row.
    #[track_caller]
    pub fn weighted_sum(&self, rows: &[CudaView<'_, f32>], weights_n: &[f64], out_d: CudaViewMut<'_, f32>) {
        assert_eq!(rows.len(), weights_n.len(), "a weight for each row");
        assert!(rows.iter().all(|row| row.len() == out_d.len()), "rows as long as their sum");
        let d = out_d.len();
        let Some(n) = self.small("a weighted sum of rows", rows.len()) else { return };
        let (Some(addresses), Some(weights)) = (self.addresses(rows), self.uploaded(weights_n)) else {
            return;
        };
        self.device.weighted_sum(Grid::over(d), addresses.at(), weights.at(), n, d as u64, out_d.on(self));
    }

    /// Writes a statistic of each column and says whether all numbers were finite; if not, `out_d` has no meaning. Where
    /// the device failed it says that they were not.
    ///
    /// A block's columns must fit into its shared memory: 384 rows at most, else the device keeps
    /// [`CudaError::TooLarge`].
    ///
    /// # Numerics
    /// The bits of [`phalanx_tensor::rows::Columns`]: ranks are exact, means are summed in `f64` in the order of ranks.
    ///
    /// # Panics
    /// When nothing is left: no row, `2 cut >= n`, `keep` is 0 or above `n`; with a row of another length than `out_d`.
    #[track_caller]
    pub fn columns(
        &self,
        rows: &[CudaView<'_, f32>],
        statistic: Statistic,
        out_d: CudaViewMut<'_, f32>,
    ) -> bool {
        assert!(rows.iter().all(|row| row.len() == out_d.len()), "rows as long as their statistic");
        let (n, d) = (rows.len(), out_d.len());
        assert!(n > 0, "a statistic of no number");
        let middle = n.saturating_sub(1) / 2..n / 2 + 1;
        let (code, count, network) = match statistic {
            Statistic::Median => (0, 0, Network::ranks(n, middle)),
            Statistic::TrimmedMean { cut } => {
                assert!(2 * cut < n, "{cut} on each side of {n} leave nothing");
                (1, cut, Network::ranks(n, cut..n - cut))
            }
            Statistic::MeanAroundMedian { keep } => {
                assert!(0 < keep && keep <= n, "{keep} of {n}");
                (2, keep, Network::sorting(n))
            }
            Statistic::SignSum => (3, 0, Network::ranks(n, 0..0)),
            _ => {
                let (ordinal, operator) = (self.ordinal(), "such a statistic of columns");
                self.device.fail(CudaError::NoKernel { ordinal, operator });
                return false;
            }
        };
        let most = SHARED / (4 * 32);
        if n > most {
            let (ordinal, operator) = (self.ordinal(), "a statistic of columns with rows");
            self.device.fail(CudaError::TooLarge { ordinal, operator, got: n, most });
            return false;
        }
        if d == 0 {
            return true;
        }
        // whole warps, as many as the shared memory holds columns for
        let threads = (SHARED / (4 * n) / 32 * 32).min(128);
        let as_u32 = |n: usize| u32::try_from(n).unwrap_or(u32::MAX);
        let comparators: Vec<[u32; 2]> =
            network.comparators().iter().map(|(low, high)| [as_u32(*low), as_u32(*high)]).collect();
        let blocks = as_u32(d.div_ceil(threads).min(1 << 16));
        let grid = Grid {
            blocks: (blocks, 1, 1),
            threads: (as_u32(threads), 1, 1),
            shared: as_u32(4 * n * threads),
        };
        let (Some(addresses), Some(held), Some(beyond)) =
            (self.addresses(rows), self.uploaded(&comparators), self.uploaded(&[0_u32]))
        else {
            return false;
        };
        let steps = as_u32(comparators.len());
        let (at, to) = (addresses.at(), out_d.on(self));
        let (n, count) = (as_u32(n), as_u32(count));
        self.device.columns(grid, at, n, d as u64, code, count, held.at(), steps, to, beyond.at());
        let mut told = [1_u32];
        self.device.read(beyond.at(), &mut told) && told == [0]
    }

    /// The addresses of rows, on the device.
    fn addresses(&self, rows: &[CudaView<'_, f32>]) -> Option<crate::CudaBuf<u64>> {
        let addresses: Vec<u64> = rows.iter().map(|row| row.on(self)).collect();
        self.uploaded(&addresses)
    }
}
