//! The gradients of all ranks side by side, for rules that the mean does not cover.

use crate::host::HostBackend;
use phalanx_grad::{GradError, GradSet, Ranks};
use phalanx_tensor::Write;

/// One gradient a rank, in host memory.
pub(crate) struct RankRows<'a, B> {
    pub(crate) backend: B,
    pub(crate) rows: Vec<&'a [f32]>,
    pub(crate) samples: Vec<u64>,
}

impl<B: HostBackend> GradSet<Ranks, B> for RankRows<'_, B> {
    fn backend(&self) -> &B {
        &self.backend
    }

    fn len(&self) -> usize {
        self.rows.len()
    }

    fn dim(&self) -> usize {
        self.rows.first().map_or(0, |row| row.len())
    }

    fn samples(&self, i: usize) -> u64 {
        self.samples[i]
    }

    fn view(&self, i: usize) -> Option<&[f32]> {
        Some(self.rows[i])
    }

    fn weighted_sum(&self, weights_n: &[f64], out_d: &mut [f32]) -> Result<(), GradError> {
        let mut write = Write::Set;
        // A gradient of weight 0 is not read: it may hold anything.
        for (row, weight) in self.rows.iter().zip(weights_n).filter(|(_, w)| **w != 0.0) {
            self.backend.affine(*weight, 0.0, row, write, out_d);
            write = Write::Add;
        }
        if write == Write::Set {
            out_d.fill(0.0);
        }
        Ok(())
    }
}
