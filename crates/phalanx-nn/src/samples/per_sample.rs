//! One number a parameter and sample.

use crate::params::ParamId;

/// A table of numbers, a row a parameter, and the sums of its columns.
#[derive(Clone, Debug)]
pub(super) struct PerSample {
    params: usize,
    samples: usize,
    values: Vec<f64>,
    totals: Vec<f64>,
}

impl PerSample {
    pub(super) fn new(params: usize) -> Self {
        PerSample { params, samples: 0, values: Vec::new(), totals: Vec::new() }
    }

    /// Zeros for a pass over `samples`.
    pub(super) fn begin(&mut self, samples: usize) {
        self.samples = samples;
        self.values.clear();
        self.values.resize(self.params * samples, 0.0);
        self.totals.clear();
        self.totals.resize(samples, 0.0);
    }

    pub(super) fn samples(&self) -> usize {
        self.samples
    }

    pub(super) fn of(&self, param: ParamId) -> &[f64] {
        &self.values[param.index() * self.samples..][..self.samples]
    }

    pub(super) fn of_mut(&mut self, param: ParamId) -> &mut [f64] {
        &mut self.values[param.index() * self.samples..][..self.samples]
    }

    /// The rows of a parameter and, if there is one, of another.
    pub(super) fn both_mut(
        &mut self,
        first: ParamId,
        other: Option<ParamId>,
    ) -> (&mut [f64], Option<&mut [f64]>) {
        let n = self.samples;
        let Some(other) = other else { return (self.of_mut(first), None) };
        let (low, high) = (first.index().min(other.index()), first.index().max(other.index()));
        let (head, tail) = self.values.split_at_mut(high * n);
        let (low_row, high_row) = (&mut head[low * n..(low + 1) * n], &mut tail[..n]);
        if first.index() < other.index() { (low_row, Some(high_row)) } else { (high_row, Some(low_row)) }
    }

    /// Multiplies everything by `scale` and adds up the columns.
    pub(super) fn finish(&mut self, scale: f64) {
        self.values.iter_mut().for_each(|v| *v *= scale);
        for row in self.values.chunks_exact(self.samples.max(1)) {
            self.totals.iter_mut().zip(row).for_each(|(total, v)| *total += v);
        }
    }

    pub(super) fn totals(&self) -> &[f64] {
        &self.totals
    }
}
