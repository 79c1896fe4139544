//! Only the largest elements travel; what is left behind is remembered and added to the next gradient.

use crate::compressor::{BucketLayout, Compressor, Traffic};
use crate::error::CompressError;
use crate::memory::Memory;
use phalanx_comm::{CommError, Communicator, CommunicatorExt, Region};
use std::sync::Arc;

/// Sends the `k` largest elements by magnitude of each bucket of each rank, and keeps the rest for later.
///
/// ```text
/// a_r = e_r + g_r               what this rank owes
/// s_r = the k largest of a_r    k = fraction of the bucket, rounded up
/// e_r = a_r - s_r
/// g   = sum over ranks of s_r
/// ```
///
/// Nothing is lost but time: over any number of steps, what all ranks applied and what they still remember add up to the
/// sum of their gradients.
///
/// # Shapes
/// A rank sends 8 bytes for each of its elements, index and value, and receives those of all others.
///
/// # Numerics
/// The sum is made in rank order. Of elements of equal magnitude, those at the front go. A number that is not finite is
/// larger than any other, so that it reaches all ranks and the step is stopped or skipped.
///
/// # Reference
/// Stich, Cordonnier and Jaggi, "Sparsified SGD with memory", `NeurIPS` 2018; Lin et al., "Deep gradient compression", ICLR
/// 2018.
///
/// # Deviation
/// The largest of a bucket, not of a layer or of the whole gradient. No momentum correction or factor masking: momentum is
/// the optimizer's, on the reduced gradient.
#[derive(Debug)]
pub struct TopK {
    fraction: f64,
    comm: Option<Arc<dyn Communicator>>,
    memory: Memory,
    /// Elements of each bucket that travel.
    ks: Vec<usize>,
    held: Vec<Region<f32>>,
    /// Index in the bucket above, bits of the value below.
    chosen: Vec<u64>,
    gathered: Vec<u64>,
    magnitudes: Vec<u32>,
}

impl TopK {
    /// Sends this share of the elements of each bucket, at least one.
    ///
    /// # Errors
    /// [`CompressError::Setting`] unless the share is above 0 and at most 1.
    pub fn new(fraction: f64) -> Result<Self, CompressError> {
        if !(fraction > 0.0 && fraction <= 1.0) {
            let need = "above 0 and at most 1";
            return Err(CompressError::Setting { field: "compression.fraction", got: fraction, need });
        }
        Ok(Self {
            fraction,
            comm: None,
            memory: Memory::default(),
            ks: Vec::new(),
            held: Vec::new(),
            chosen: Vec::new(),
            gathered: Vec::new(),
            magnitudes: Vec::new(),
        })
    }

    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        clippy::cast_precision_loss,
        reason = "a share of a length lies between 0 and the length"
    )]
    fn k(&self, len: usize) -> usize {
        ((self.fraction * len as f64).ceil() as usize).clamp(1, len.max(1)).min(len)
    }
}

impl Compressor for TopK {
    fn name(&self) -> &'static str {
        "topk"
    }

    fn prepare(&mut self, comm: &Arc<dyn Communicator>, buckets: &[BucketLayout]) -> Result<(), CommError> {
        self.memory = Memory::new(buckets);
        self.ks = buckets.iter().map(|bucket| self.k(bucket.len)).collect();
        self.held = Vec::with_capacity(buckets.len());
        self.comm = Some(Arc::clone(comm));
        Ok(())
    }

    fn start(&mut self, _step: u64, bucket: usize, part: Region<f32>) -> Result<(), CommError> {
        if bucket == 0 {
            self.chosen.clear();
            self.held.clear();
        }
        let owed = self.memory.bucket(bucket);
        owed.iter_mut().zip(&*part).for_each(|(owed, new)| *owed += new);
        take_largest(owed, self.ks[bucket], &mut self.magnitudes, &mut self.chosen);
        self.held.push(part);
        Ok(())
    }

    fn finish(&mut self, parts: &mut [Region<f32>]) -> Result<(), CommError> {
        let Some(comm) = &self.comm else { return Ok(()) };
        let (size, sent) = (comm.size().get(), self.chosen.len());
        self.gathered.resize(size * sent, 0);
        comm.all_gather_into(&self.chosen, &vec![sent; size], &mut self.gathered)?;
        let mut from = 0;
        for ((mut part, k), whole) in self.held.drain(..).zip(&self.ks).zip(parts) {
            part.fill(0.0);
            for rank in self.gathered.chunks_exact(sent.max(1)) {
                rank[from..from + k].iter().for_each(|packed| add(*packed, &mut part));
            }
            from += k;
            *whole = part;
        }
        Ok(())
    }

    fn sent_bytes(&self) -> u64 {
        size_of_val(&*self.chosen) as u64
    }

    fn traffic(&self, bucket: &BucketLayout) -> Traffic {
        Traffic { gathered: (self.k(bucket.len) * size_of::<u64>()) as u64, ..Traffic::default() }
    }

    fn memory(&self) -> &[f32] {
        self.memory.all()
    }

    fn memory_mut(&mut self) -> &mut [f32] {
        self.memory.all_mut()
    }
}

/// Moves the `k` largest of `owed` to the end of `chosen`, and leaves zeros.
fn take_largest(owed: &mut [f32], k: usize, magnitudes: &mut Vec<u32>, chosen: &mut Vec<u64>) {
    if k == 0 {
        return;
    }
    // the bits of magnitudes are in the order of the magnitudes, NaN above infinity
    let magnitude = |x: f32| x.to_bits() & !(1 << 31);
    magnitudes.clear();
    magnitudes.extend(owed.iter().map(|x| magnitude(*x)));
    let (_, threshold, above) = magnitudes.select_nth_unstable(owed.len() - k);
    let threshold = *threshold;
    let mut ties = k - above.iter().filter(|x| **x > threshold).count();
    for (index, x) in (0_u64..).zip(owed) {
        let is_tie = magnitude(*x) == threshold;
        if magnitude(*x) > threshold || (is_tie && ties > 0) {
            ties -= usize::from(is_tie);
            chosen.push(index << 32 | u64::from(x.to_bits()));
            *x = 0.0;
        }
    }
}

#[expect(clippy::cast_possible_truncation, reason = "index and bits are 32 bits each")]
fn add(packed: u64, part: &mut [f32]) {
    if let Some(place) = part.get_mut((packed >> 32) as usize) {
        *place += f32::from_bits(packed as u32);
    }
}

#[cfg(test)]
mod tests {
    use super::take_largest;

    fn taken(owed: &mut [f32], k: usize) -> Vec<(u64, f32)> {
        let mut chosen = Vec::new();
        take_largest(owed, k, &mut Vec::new(), &mut chosen);
        chosen.iter().map(|packed| (packed >> 32, f32::from_bits((packed & 0xffff_ffff) as u32))).collect()
    }

    #[test]
    fn the_largest_go_by_magnitude_and_of_equals_the_first() {
        let mut owed = [1.0, -3.0, 2.0, -2.0, 2.0, 0.5];
        assert_eq!(taken(&mut owed, 3), [(1, -3.0), (2, 2.0), (3, -2.0)]);
        assert_eq!(owed, [1.0, 0.0, 0.0, 0.0, 2.0, 0.5]);
        assert_eq!(taken(&mut owed, 6).len(), 6);
        assert_eq!(taken(&mut [], 0), []);
    }

    #[test]
    fn what_is_not_finite_is_larger_than_all() {
        let taken = taken(&mut [f32::MAX, f32::NAN, f32::NEG_INFINITY], 2);
        assert_eq!(taken[1], (2, f32::NEG_INFINITY));
        assert!(taken[0].0 == 1 && taken[0].1.is_nan());
    }
}
