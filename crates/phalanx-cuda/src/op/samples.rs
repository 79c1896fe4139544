//! Lengths of the gradients of single samples.

use super::SPACE;
use super::conv::{Cause, Part};
use crate::grid::Grid;
use crate::{Cuda, CudaView, CudaViewMut};
use phalanx_tensor::Write;
use phalanx_tensor::op::{ConvSamples, Mat, MatmulSpec, SampleOps, SampleRows};

impl SampleOps for Cuda {
    fn row_dots(&self, d: usize, a: CudaView<'_, f32>, b: CudaView<'_, f32>, out: &mut [f64]) {
        let shared = b.len() == d && a.len() != d;
        assert!(a.len() == out.len() * d && (shared || b.len() == a.len()), "row_dots");
        self.add_row_dots(d, a.on(self), (b.on(self), if shared { 0 } else { d }), out);
    }

    /// # Numerics
    /// As the trait says; the products of more than one step are cuBLAS's, through memory.
    fn linear_norms(
        &self,
        rows: SampleRows,
        [n, k]: [usize; 2],
        x: CudaView<'_, f32>,
        dy: CudaView<'_, f32>,
        out: &mut [f64],
    ) {
        let steps = rows.steps;
        assert!(x.len() == rows.rows() * k && dy.len() == rows.rows() * n, "linear_norms");
        assert_eq!(out.len(), rows.samples, "linear_norms");
        let (x, dy) = (x.on(self), dy.on(self));
        if steps * n * k == 0 {
            return;
        }
        if steps == 1 {
            let (mut of_x, mut of_dy) = (vec![0.0; out.len()], vec![0.0; out.len()]);
            self.add_row_dots(k, x, (x, k), &mut of_x);
            self.add_row_dots(n, dy, (dy, n), &mut of_dy);
            return out.iter_mut().zip(of_x.iter().zip(of_dy)).for_each(|(out, (x, dy))| *out += x * dy);
        }
        let by_gram = steps * (n + k) < n * k;
        let len = if by_gram { steps * steps } else { n * k };
        let at_once = (SPACE / (8 * len)).max(1);
        for (i, out) in out.chunks_mut(at_once).enumerate() {
            let first = i * at_once;
            let (x, dy) = (x + 4 * (first * steps * k) as u64, dy + 4 * (first * steps * n) as u64);
            let of = |columns| Mat::dense(steps, columns);
            let product = |m, n, k, a, b| MatmulSpec { batch: out.len(), m, n, k, a, b, c: Mat::dense(m, n) };
            let Some(left) = self.scratch::<f32>(out.len() * len) else { return out.fill(f64::NAN) };
            if by_gram {
                let Some(right) = self.scratch::<f32>(out.len() * len) else { return out.fill(f64::NAN) };
                self.product(&product(steps, steps, k, of(k), of(k).t()), x, x, Write::Set, left.at());
                self.product(&product(steps, steps, n, of(n), of(n).t()), dy, dy, Write::Set, right.at());
                self.add_row_dots(len, left.at(), (right.at(), len), out);
            } else {
                self.product(&product(n, k, steps, of(n).t(), of(k)), dy, x, Write::Set, left.at());
                self.add_row_dots(len, left.at(), (left.at(), len), out);
            }
        }
    }

    fn conv2d_norms(&self, conv: &ConvSamples<'_, Self>, weight: &mut [f64], mut bias: Option<&mut [f64]>) {
        assert!(weight.len() == conv.spec.n && conv.x.len() == conv.spec.input_len(), "conv2d_norms");
        assert!(bias.as_ref().is_none_or(|bias| bias.len() == conv.spec.n), "conv2d_norms");
        let cause = Cause::new(&conv.spec, conv.act, conv.y, conv.argmax, conv.dy);
        for part in Part::all(self, &conv.spec) {
            let Some((dsums, _)) = self.spread(&part, &cause, false) else { return };
            let Some(grads) = self.image_weight_grads(&part, conv.x.on(self), dsums.at()) else { return };
            let len = part.og * part.taps;
            self.add_row_dots(len, grads.at(), (grads.at(), len), &mut weight[part.images.clone()]);
            if let Some(bias) = bias.as_deref_mut() {
                let Some(sums) = self.image_bias_grads(&part, dsums.at()) else { return };
                self.add_row_dots(part.og, sums.at(), (sums.at(), part.og), &mut bias[part.images.clone()]);
            }
        }
    }

    fn conv2d_products(
        &self,
        conv: &ConvSamples<'_, Self>,
        (w, weight): (CudaView<'_, f32>, &mut [f64]),
        mut b: Option<(CudaView<'_, f32>, &mut [f64])>,
    ) {
        assert!(weight.len() == conv.spec.n && w.len() == conv.spec.weight_len(), "conv2d_products");
        assert_eq!(conv.x.len(), conv.spec.input_len(), "conv2d_products");
        let fits =
            |(w, out): &(CudaView<'_, f32>, &mut [f64])| w.len() == conv.spec.o && out.len() == conv.spec.n;
        assert!(b.as_ref().is_none_or(fits), "conv2d_products");
        let cause = Cause::new(&conv.spec, conv.act, conv.y, conv.argmax, conv.dy);
        for part in Part::all(self, &conv.spec) {
            let Some((dsums, _)) = self.spread(&part, &cause, false) else { return };
            let Some(grads) = self.image_weight_grads(&part, conv.x.on(self), dsums.at()) else { return };
            let (len, w) = (part.og * part.taps, part.weight(w.on(self)));
            self.add_row_dots(len, grads.at(), (w, 0), &mut weight[part.images.clone()]);
            if let Some((b, bias)) = &mut b {
                let Some(sums) = self.image_bias_grads(&part, dsums.at()) else { return };
                let b = part.bias(b.on(self));
                self.add_row_dots(part.og, sums.at(), (b, 0), &mut bias[part.images.clone()]);
            }
        }
    }

    fn gather_norms(
        &self,
        rows: SampleRows,
        d: usize,
        ids: CudaView<'_, u32>,
        dy: CudaView<'_, f32>,
        out: &mut [f64],
    ) {
        let (steps, positions) = (rows.steps, rows.rows());
        assert!(
            ids.len() == positions && dy.len() == positions * d && out.len() == rows.samples,
            "gather_norms"
        );
        if steps * d == 0 {
            return;
        }
        let mut parts = vec![0.0_f64; positions];
        let Some(norms) = self.scratch::<f64>(positions) else { return out.fill(f64::NAN) };
        let [ids, dy] = [ids.on(self), dy.on(self)];
        let grid = Grid::rows(positions, d);
        self.device.gather_norms(grid, positions as u64, steps as u64, d as u64, ids, dy, norms.at());
        let is_read = self.device.read(norms.at(), &mut parts);
        for (out, parts) in out.iter_mut().zip(parts.chunks_exact(steps)) {
            *out += if is_read { parts.iter().sum::<f64>() } else { f64::NAN };
        }
    }

    fn norm_gains(
        &self,
        rows: SampleRows,
        d: usize,
        x: CudaView<'_, f32>,
        stats: CudaView<'_, f32>,
        dy: CudaView<'_, f32>,
        gains: CudaViewMut<'_, f32>,
    ) {
        let count = rows.rows();
        assert!(x.len() == count * d && dy.len() == x.len() && gains.len() == rows.samples * d, "norm_gains");
        let per_row = if stats.len() == 2 * count { 2 } else { 1 };
        assert_eq!(stats.len(), count * per_row as usize, "norm_gains");
        let [x, stats, dy, gains] = [x.on(self), stats.on(self), dy.on(self), gains.on(self)];
        self.add_norm_gains([rows.samples, rows.steps, d], per_row, x, stats, dy, (Write::Set, gains));
    }
}

impl Cuda {
    /// The gradient of the bias of each image of a part, `images x og`.
    fn image_bias_grads(&self, part: &Part, dsums: u64) -> Option<crate::CudaBuf<f32>> {
        let sums = self.scratch::<f32>(part.images.len() * part.og)?;
        let (channels, images, cells) = (part.og as u64, part.images.len() as u64, part.cells as u64);
        let grid = Grid::groups(part.images.len() * part.og, 32);
        self.device.plane_sums(grid, channels, images, cells, dsums, part.width as u64, sums.at());
        Some(sums)
    }
}
