//! Normalisation over features or over a batch.

use super::Var;
use crate::NnError;
use crate::graph::Op;
use phalanx_tensor::{Backend, Float, Write};

#[expect(clippy::missing_errors_doc, reason = "stated on the type")]
impl<'g, B: Backend> Var<'g, B> {
    /// Layer normalisation over the last dim.
    pub fn layer_norm(self, gain: Self, bias: Self, eps: f64) -> Result<Self, NnError> {
        let s = self.shape();
        let d = s.last();
        if s.rank() == 0 || d == 0 || gain.shape().dims() != [d] || bias.shape().dims() != [d] {
            return Err(Self::err(
                "layer_norm",
                "x[.., d], gain[d], bias[d]",
                &[s, gain.shape(), bias.shape()],
            ));
        }
        if self.forward_mode() {
            return self.composed_norm(gain, Some(bias), eps);
        }
        let mut inner = self.graph.inner.borrow_mut();
        let rows = s.len() / d;
        let (mut out, mut stats) = (inner.take(s.len())?, inner.take(2 * rows)?);
        let b = &inner.backend;
        b.layer_norm(
            d,
            eps,
            inner.view(self.id),
            inner.view(gain.id),
            inner.view(bias.id),
            b.view_mut(&mut out.buf, 0..s.len()),
            b.view_mut(&mut stats.buf, 0..2 * rows),
        );
        let stats = inner.keep(2 * rows, stats);
        let grad = [self.id, gain.id, bias.id].into_iter().any(|id| inner.needs_grad(id));
        let op = Op::LayerNorm { x: self.id, gain: gain.id, bias: bias.id, stats };
        let id = inner.push(op, s, Some(out), None, grad);
        drop(inner);
        Ok(self.with(id))
    }

    /// Root-mean-square normalisation over the last dim.
    pub fn rms_norm(self, gain: Self, eps: f64) -> Result<Self, NnError> {
        let s = self.shape();
        let d = s.last();
        if s.rank() == 0 || d == 0 || gain.shape().dims() != [d] {
            return Err(Self::err("rms_norm", "x[.., d], gain[d]", &[s, gain.shape()]));
        }
        if self.forward_mode() {
            return self.composed_norm(gain, None, eps);
        }
        let mut inner = self.graph.inner.borrow_mut();
        let rows = s.len() / d;
        let (mut out, mut stats) = (inner.take(s.len())?, inner.take(rows)?);
        let b = &inner.backend;
        b.rms_norm(
            d,
            eps,
            inner.view(self.id),
            inner.view(gain.id),
            b.view_mut(&mut out.buf, 0..s.len()),
            b.view_mut(&mut stats.buf, 0..rows),
        );
        let stats = inner.keep(rows, stats);
        let grad = inner.needs_grad(self.id) || inner.needs_grad(gain.id);
        let id = inner.push(Op::RmsNorm { x: self.id, gain: gain.id, stats }, s, Some(out), None, grad);
        drop(inner);
        Ok(self.with(id))
    }

    /// Batch normalisation of `x[n, c, ..]` by the batch's statistics, over all ranks where the graph has a
    /// [`crate::StatsSync`]. Returns the output and, per channel, mean and (biased) variance.
    ///
    /// # Collective
    /// Every rank, when the graph has a [`crate::StatsSync`]: once here, once in the backward pass.
    pub fn batch_norm(self, gain: Self, bias: Self, eps: f64) -> Result<(Self, Vec<f64>, Vec<f64>), NnError> {
        let s = self.shape();
        let c = s.dims().get(1).copied().unwrap_or(0);
        if s.rank() < 2 || s.is_empty() || gain.shape().dims() != [c] || bias.shape().dims() != [c] {
            return Err(Self::err(
                "batch_norm",
                "x[n, c, ..], gain[c], bias[c]",
                &[s, gain.shape(), bias.shape()],
            ));
        }
        if self.forward_mode() {
            return self.composed_batch_norm(gain, bias, eps);
        }
        let hw = s.product(2..s.rank());
        let mut inner = self.graph.inner.borrow_mut();
        let mut sums = vec![0.0; 2 * c + 1];
        let x = inner.view(self.id);
        inner.backend.channel_sums(s[0], c, hw, x, x, &mut sums[..2 * c]);
        #[expect(clippy::cast_precision_loss, reason = "batches are far below 2^52")]
        {
            sums[2 * c] = (s[0] * hw) as f64;
        }
        let mut ranks = 1;
        if let Some(sync) = &self.graph.sync {
            ranks = sync.sum(&mut sums)?;
            self.graph.sync_used.set(true);
        }
        let count = sums[2 * c];
        let mean: Vec<f64> = (0..c).map(|i| sums[2 * i] / count).collect();
        let variance: Vec<f64> =
            (0..c).map(|i| (sums[2 * i + 1] / count - mean[i] * mean[i]).max(0.0)).collect();
        let (mut g, mut b) = (vec![B::Elem::default(); c], vec![B::Elem::default(); c]);
        inner.backend.download(inner.view(gain.id), &mut g);
        inner.backend.download(inner.view(bias.id), &mut b);
        let mut coefficients = Vec::with_capacity(3 * c);
        let mut stats = Vec::with_capacity(2 * c + 1);
        for i in 0..c {
            let rstd = 1.0 / (variance[i] + eps).sqrt();
            let scale = g[i].to_f64() * rstd;
            coefficients.extend([scale, 0.0, b[i].to_f64() - mean[i] * scale]);
            stats.extend([mean[i], rstd]);
        }
        stats.push(count);
        let mut out = inner.take(s.len())?;
        let d = &inner.backend;
        let x = inner.view(self.id);
        d.channel_affine(s[0], c, hw, &coefficients, x, x, Write::Set, d.view_mut(&mut out.buf, 0..s.len()));
        inner.channel_stats.push((stats, ranks));
        let stats = inner.channel_stats.len() - 1;
        let grad = [self.id, gain.id, bias.id].into_iter().any(|id| inner.needs_grad(id));
        let op = Op::BatchNorm { x: self.id, gain: gain.id, bias: bias.id, stats };
        let id = inner.push(op, s, Some(out), None, grad);
        drop(inner);
        Ok((self.with(id), mean, variance))
    }
}
