//! The gradients of the parts of a rank's share, seen in the buffer in which they add up.

use crate::host::HostBackend;
use phalanx_tensor::Write;
use phalanx_tensor::op::Moments;

/// What a step measures of the chunks of a share.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Measure {
    /// Their moments.
    pub(crate) moments: bool,
    /// With the moments, a copy of each for inner products.
    pub(crate) copies: bool,
    /// With the moments, the squares of each coordinate.
    pub(crate) squares: bool,
}

/// Tells the gradient of a chunk from the sum of those before it.
///
/// The sum is left as it is, so that measuring changes no bit of it: what a chunk added is what the buffer holds more than
/// before.
#[derive(Debug, Default)]
pub(crate) struct ChunkGradients {
    measure: Measure,
    len: usize,
    /// The sum of the chunks before the one at hand, where there are any.
    before: Vec<f32>,
    moments: Vec<Moments>,
    copies: Vec<Vec<f32>>,
    /// Samples of the chunk at hand.
    samples: usize,
    squares: Vec<f32>,
}

impl ChunkGradients {
    /// Forgets all chunks; gradients have `len` elements.
    pub(crate) fn begin(&mut self, measure: Measure, len: usize) {
        (self.measure, self.len) = (measure, len);
        self.moments.clear();
        self.squares.resize(if measure.moments && measure.squares { len } else { 0 }, 0.0);
        self.clear_squares();
    }

    /// Squares of what comes from now on are summed by themselves.
    pub(crate) fn clear_squares(&mut self) {
        self.squares.fill(0.0);
    }

    pub(crate) fn is_measured(&self) -> bool {
        self.measure.moments
    }

    /// Begins the next chunk.
    pub(crate) fn open(&mut self, samples: usize) {
        self.samples = samples;
        self.moments.push(Moments::default());
        if self.measure.copies && self.copies.len() < self.moments.len() {
            self.copies.push(Vec::new());
        }
    }

    /// Keeps a part of the sum, from element `at` on, as it is before the next chunk.
    pub(crate) fn keep(&mut self, at: usize, part: &[f32]) {
        self.before.resize(self.len, 0.0);
        self.before[at..at + part.len()].copy_from_slice(part);
    }

    /// Looks at a finished part of the sum, from element `at` on.
    pub(crate) fn part<B: HostBackend>(&mut self, backend: &B, at: usize, part: &[f32]) {
        if !self.is_measured() {
            return;
        }
        if self.moments.len() == 1 {
            self.add(backend, at, part);
        } else {
            let mut own = std::mem::take(&mut self.before);
            let difference = &mut own[at..at + part.len()];
            difference.iter_mut().for_each(|g| *g = -*g);
            backend.affine(1.0, 0.0, part, Write::Add, difference);
            self.add(backend, at, difference);
            self.before = own;
        }
    }

    /// A chunk whose gradient is alone in its buffer.
    pub(crate) fn whole<B: HostBackend>(&mut self, backend: &B, samples: usize, gradient: &[f32]) {
        self.open(samples);
        if self.is_measured() {
            self.add(backend, 0, gradient);
        }
    }

    fn add<B: HostBackend>(&mut self, backend: &B, at: usize, gradient: &[f32]) {
        let moments = backend.moments(gradient);
        if let Some(sum) = self.moments.last_mut() {
            sum.sum_sq += moments.sum_sq;
            sum.sum_abs += moments.sum_abs;
            sum.nonfinite += moments.nonfinite;
        }
        if self.measure.squares && self.samples > 0 {
            #[expect(clippy::cast_precision_loss, reason = "batches are far below 2^24")]
            let weight = 1.0 / self.samples as f32;
            let sums = &mut self.squares[at..at + gradient.len()];
            sums.iter_mut().zip(gradient).for_each(|(sum, g)| *sum += weight * g * g);
        }
        if self.measure.copies {
            let copy = &mut self.copies[self.moments.len() - 1];
            copy.resize(self.len, 0.0);
            copy[at..at + gradient.len()].copy_from_slice(gradient);
        }
    }

    /// Of each chunk, in order; zeros where nothing was measured.
    pub(crate) fn moments(&self) -> &[Moments] {
        &self.moments
    }

    /// `sum g_j^2 / m` over the chunks of `m` samples, for each coordinate `j`; empty where squares were not asked for.
    pub(crate) fn squares(&self) -> &[f32] {
        &self.squares
    }

    /// The inner product of a chunk with `mean`.
    pub(crate) fn product<B: HostBackend>(&self, backend: &B, chunk: usize, mean: &[f32]) -> f64 {
        backend.dot(&self.copies[chunk], mean)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use phalanx_tensor::Cpu;

    #[test]
    fn a_chunk_is_what_it_added() {
        let cpu = Cpu::<f32>::new();
        let mut chunks = ChunkGradients::default();
        chunks.begin(Measure { moments: true, copies: true, squares: true }, 3);
        chunks.open(1);
        chunks.part(&cpu, 0, &[1.0, 2.0]);
        chunks.part(&cpu, 2, &[-1.0]);
        [(0, &[1.0, 2.0][..]), (2, &[-1.0])].iter().for_each(|(at, part)| chunks.keep(*at, part));
        chunks.open(2);
        // (1, 2, -1) and then (0, 3, 2) more
        chunks.part(&cpu, 0, &[1.0, 5.0]);
        chunks.part(&cpu, 2, &[1.0]);
        let squares: Vec<f64> = chunks.moments().iter().map(|m| m.sum_sq).collect();
        assert_eq!(squares, [6.0, 13.0]);
        assert_eq!([0, 1].map(|c| chunks.product(&cpu, c, &[1.0, 1.0, 4.0])), [-1.0, 11.0]);
        // 1 + 0, 4 + 9 / 2, 1 + 4 / 2
        assert_eq!(chunks.squares(), [1.0, 8.5, 3.0]);
        chunks.begin(Measure::default(), 3);
        chunks.open(1);
        chunks.part(&cpu, 0, &[1.0, 5.0, 1.0]);
        assert_eq!(chunks.moments(), [Moments::default()]);
    }
}
