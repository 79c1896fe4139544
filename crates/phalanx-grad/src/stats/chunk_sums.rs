//! What a rank adds up over its chunks, in the form in which ranks add it up.

use super::ScalarBlock;
use phalanx_tensor::op::Moments;

/// Sums over the chunks of a batch, each a number that ranks simply add.
///
/// # Collective
/// No; but made for one: [`pack`](Self::pack), all-reduce (sum) the five numbers together with the last bucket,
/// [`unpack`](Self::unpack), and [`block`](Self::block) with the moments of the reduced gradient.
///
/// # Numerics
/// Counts are exact in `f64` up to `2^53`.
///
/// # Examples
/// ```
/// use phalanx_grad::ChunkSums;
/// use phalanx_tensor::op::Moments;
///
/// // two ranks with two samples each and mean gradients (2, 1, 0.5) and (1, 1, 0.5)
/// let moments = |sum_sq, sum_abs| Moments { sum_sq, sum_abs, nonfinite: 0 };
/// let (mut first, mut second) = (ChunkSums::default(), ChunkSums::default());
/// first.add(2, &moments(5.25, 3.5), 1.0);
/// second.add(2, &moments(2.25, 2.5), 3.0);
///
/// let reduced: Vec<f64> = first.pack().iter().zip(second.pack()).map(|(a, b)| a + b).collect();
/// let all = ChunkSums::unpack(&reduced);
/// let block = all.block(&moments(3.5, 3.0));
/// assert_eq!((block.samples, block.chunks, block.loss), (4, 2, 1.0));
/// assert_eq!(block.tr_s()?, 1.0);
/// # Ok::<(), phalanx_grad::GradError>(())
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct ChunkSums {
    /// `Q = sum m_c |g_c|^2`.
    pub q: f64,
    /// Sum of the losses of all samples.
    pub loss_sum: f64,
    /// Samples, `B`.
    pub samples: u64,
    /// Chunks that have samples, `C`.
    pub chunks: u64,
    /// Gradient elements that are infinite or NaN.
    pub nonfinite: u64,
}

impl ChunkSums {
    /// How many numbers [`pack`](Self::pack) gives.
    pub const LEN: usize = 5;

    /// Adds a chunk of `samples` samples: the moments of its *mean* gradient, the sum of its losses.
    ///
    /// A chunk without samples is no chunk.
    pub fn add(&mut self, samples: u64, moments: &Moments, loss_sum: f64) {
        if samples == 0 {
            return;
        }
        self.q += samples as f64 * moments.sum_sq;
        self.loss_sum += loss_sum;
        self.samples += samples;
        self.chunks += 1;
        self.nonfinite += moments.nonfinite;
    }

    /// The sums as numbers to all-reduce.
    #[must_use]
    pub fn pack(&self) -> [f64; Self::LEN] {
        [self.q, self.loss_sum, self.samples as f64, self.chunks as f64, self.nonfinite as f64]
    }

    /// The sums from reduced numbers.
    ///
    /// # Panics
    /// With another number of them than [`LEN`](Self::LEN).
    #[must_use]
    #[track_caller]
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "sums of counts")]
    pub fn unpack(packed: &[f64]) -> Self {
        assert_eq!(packed.len(), Self::LEN, "packed chunk sums");
        ChunkSums {
            q: packed[0],
            loss_sum: packed[1],
            samples: packed[2] as u64,
            chunks: packed[3] as u64,
            nonfinite: packed[4] as u64,
        }
    }

    /// The block of the step, with the moments of the reduced mean gradient `g`.
    #[must_use]
    pub fn block(&self, mean: &Moments) -> ScalarBlock {
        ScalarBlock {
            q: self.q,
            n: mean.sum_sq,
            norm_l1: mean.sum_abs,
            projections: None,
            coordinate_ratio: None,
            samples: self.samples,
            chunks: self.chunks,
            loss: self.loss_sum / self.samples as f64,
            nonfinite: self.nonfinite + mean.nonfinite,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn packing_loses_nothing() {
        let sums = ChunkSums { q: 0.1, loss_sum: -3.5, samples: 1 << 52, chunks: 7, nonfinite: 2 };
        assert_eq!(ChunkSums::unpack(&sums.pack()), sums);
    }

    #[test]
    fn a_chunk_without_samples_is_no_chunk() {
        let mut sums = ChunkSums::default();
        let idle = Moments { sum_sq: f64::NAN, sum_abs: f64::NAN, nonfinite: 3 };
        sums.add(0, &idle, f64::NAN);
        assert_eq!(sums, ChunkSums::default());
    }

    #[test]
    fn non_finite_elements_are_counted_on_both_sides_of_the_sum() {
        let mut sums = ChunkSums::default();
        sums.add(1, &Moments { sum_sq: f64::NAN, sum_abs: 0.0, nonfinite: 2 }, 0.0);
        // finite on every rank, but their sum overflowed
        let block = sums.block(&Moments { sum_sq: f64::INFINITY, sum_abs: f64::INFINITY, nonfinite: 1 });
        assert_eq!(block.nonfinite, 3);
    }
}
