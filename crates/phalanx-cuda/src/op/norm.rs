//! Normalisations.

use super::adds;
use crate::grid::Grid;
use crate::kernels::Ptr;
use crate::{Cuda, CudaView, CudaViewMut};
use phalanx_tensor::op::{NormOps, ReduceOps as _};
use phalanx_tensor::{Float as _, Write};

/// Numbers of a row that `layer_norm_held` takes: 4 x 32 x FOURS.
const MOST_HELD: usize = 512;

impl NormOps for Cuda {
    fn layer_norm(
        &self,
        d: usize,
        eps: f64,
        x: CudaView<'_, f32>,
        gain: CudaView<'_, f32>,
        bias: CudaView<'_, f32>,
        y: CudaViewMut<'_, f32>,
        stats: CudaViewMut<'_, f32>,
    ) {
        assert!(x.len() == y.len() && gain.len() == d && bias.len() == d, "layer_norm");
        assert_eq!(stats.len() * d, 2 * x.len(), "layer_norm");
        let rows = x.len() / d.max(1);
        let eps = f32::from_f64(eps);
        let operands = [x.on(self), gain.on(self), bias.on(self), y.on(self)];
        let ([x, gain, bias, y], stats) = (operands, stats.on(self));
        let (grid, extents) = (Grid::rows(rows, d), [rows as u64, d as u64]);
        if d <= MOST_HELD && d.is_multiple_of(4) && operands.iter().all(|at| at.is_multiple_of(16)) {
            let grid = Grid::groups(rows, 32);
            return self.device.layer_norm_held(grid, extents[0], extents[1], eps, x, gain, bias, y, stats);
        }
        self.device.layer_norm(grid, extents[0], extents[1], eps, x, gain, bias, y, stats);
    }

    fn layer_norm_grad(
        &self,
        d: usize,
        x: CudaView<'_, f32>,
        gain: CudaView<'_, f32>,
        stats: CudaView<'_, f32>,
        dy: CudaView<'_, f32>,
        dgain: (Write, CudaViewMut<'_, f32>),
        dbias: (Write, CudaViewMut<'_, f32>),
        dx: (Write, CudaViewMut<'_, f32>),
    ) {
        let rows = x.len() / d.max(1);
        self.norm_grad(d, 2, x, gain, stats, dy, dgain, dx);
        self.sum_axis(dy, 1, rows, d, dbias.0, dbias.1);
    }

    fn rms_norm(
        &self,
        d: usize,
        eps: f64,
        x: CudaView<'_, f32>,
        gain: CudaView<'_, f32>,
        y: CudaViewMut<'_, f32>,
        stats: CudaViewMut<'_, f32>,
    ) {
        assert!(x.len() == y.len() && gain.len() == d && stats.len() * d == x.len(), "rms_norm");
        let rows = x.len() / d.max(1);
        let (grid, eps) = (Grid::rows(rows, d), f32::from_f64(eps));
        let [x, gain, y, stats] = [x.on(self), gain.on(self), y.on(self), stats.on(self)];
        self.device.rms_norm(grid, rows as u64, d as u64, eps, x, gain, y, stats);
    }

    fn rms_norm_grad(
        &self,
        d: usize,
        x: CudaView<'_, f32>,
        gain: CudaView<'_, f32>,
        stats: CudaView<'_, f32>,
        dy: CudaView<'_, f32>,
        dgain: (Write, CudaViewMut<'_, f32>),
        dx: (Write, CudaViewMut<'_, f32>),
    ) {
        self.norm_grad(d, 1, x, gain, stats, dy, dgain, dx);
    }

    /// NaN where the device failed.
    fn channel_sums(
        &self,
        n: usize,
        c: usize,
        hw: usize,
        x: CudaView<'_, f32>,
        y: CudaView<'_, f32>,
        sums: &mut [f64],
    ) {
        assert!(x.len() == n * c * hw && y.len() == x.len() && sums.len() == 2 * c, "channel_sums");
        let Some(out) = self.scratch::<f64>(sums.len()) else { return sums.fill(f64::NAN) };
        // the cells of a channel are counted in 32 bits as well
        let extents = [n, c, hw, n * hw].map(|n| self.small("sums over channels", n));
        let [Some(images), Some(channels), Some(cells), Some(_)] = extents else {
            return sums.fill(f64::NAN);
        };
        let (grid, [x, y]) = (Grid::rows(c, n * hw), [x.on(self), y.on(self)]);
        self.device.channel_sums(grid, images, channels, cells, x, y, out.at());
        if !self.device.read(out.at(), sums) {
            sums.fill(f64::NAN);
        }
    }

    fn channel_affine(
        &self,
        n: usize,
        c: usize,
        hw: usize,
        coefficients: &[f64],
        x: CudaView<'_, f32>,
        y: CudaView<'_, f32>,
        write: Write,
        out: CudaViewMut<'_, f32>,
    ) {
        assert!(x.len() == n * c * hw && y.len() == x.len() && coefficients.len() == 3 * c, "channel_affine");
        let narrow: Vec<f32> = coefficients.iter().map(|k| f32::from_f64(*k)).collect();
        let Some(k) = self.uploaded(&narrow) else { return };
        let (grid, [x, y, out]) = (Grid::rows(n * c, hw), [x.on(self), y.on(self), out.on(self)]);
        let (planes, c, hw) = ((n * c) as u64, c as u64, hw as u64);
        self.device.channel_affine(grid, planes, c, hw, k.at(), x, y, adds(write), out);
    }
}

impl Cuda {
    /// Gradients of gain and input, with `per_row` numbers of `stats` a row.
    #[expect(clippy::too_many_arguments, reason = "the operands of the formula")]
    fn norm_grad(
        &self,
        d: usize,
        per_row: u32,
        x: CudaView<'_, f32>,
        gain: CudaView<'_, f32>,
        stats: CudaView<'_, f32>,
        dy: CudaView<'_, f32>,
        dgain: (Write, CudaViewMut<'_, f32>),
        dx: (Write, CudaViewMut<'_, f32>),
    ) {
        assert!(x.len() == dy.len() && dx.1.len() == x.len() && dgain.1.len() == d, "the gradient of a norm");
        assert_eq!(stats.len() * d, per_row as usize * x.len(), "the gradient of a norm");
        let rows = x.len() / d.max(1);
        let [x, stats, dy] = [x.on(self), stats.on(self), dy.on(self)];
        self.add_norm_gains([1, rows, d], per_row, x, stats, dy, (dgain.0, dgain.1.on(self)));
        let (grid, add, gain, dx) = (Grid::rows(rows, d), adds(dx.0), gain.on(self), dx.1.on(self));
        self.device.norm_grad(grid, rows as u64, d as u64, per_row, x, gain, stats, dy, add, dx);
    }

    /// The gradient of the gain of each sample: samples, steps and columns.
    pub(super) fn add_norm_gains(
        &self,
        [samples, steps, d]: [usize; 3],
        per_row: u32,
        x: Ptr,
        stats: Ptr,
        dy: Ptr,
        (write, gains): (Write, Ptr),
    ) {
        let extents = [samples, steps, d];
        let [samples, steps, d] = extents.map(|n| n as u64);
        self.in_parts(extents, write, gains, |parts, grid, add, gains| {
            self.device.norm_gains(grid, samples, steps, d, parts, per_row, x, stats, dy, add, gains);
        });
    }
}
