//! Which samples make the next batch, as a function of the seed and of how many were drawn before.

use phalanx_tensor::rng::{Purpose, Stream};

use crate::error::DataError;

/// Draws batches from shuffled epochs.
///
/// The order of an epoch is a function of (seed, epoch) alone, and the only state is a cursor kept
/// by the caller: the number of samples passed since the start of the run. So a run may go on with
/// another batch size or number of ranks, and every rank asks its own sampler.
///
/// Epochs follow one another without a gap. A batch never reaches into the next epoch: the last of
/// an epoch is short, unless [`drop_last`](Self::drop_last) is set.
///
/// # Examples
/// ```
/// use phalanx_data::Sampler;
///
/// # fn main() -> Result<(), phalanx_data::DataError> {
/// let mut sampler = Sampler::new(10, 1)?;
/// let mut cursor = 0;
/// let mut lens = Vec::new();
/// for _ in 0..4 {
///     let batch = sampler.batch(cursor, 4);
///     lens.push((batch.epoch, batch.indices.len()));
///     cursor = batch.next;
/// }
/// assert_eq!(lens, [(0, 4), (0, 4), (0, 2), (1, 4)]);
/// # Ok(())
/// # }
/// ```
///
/// # Reference
/// Fisher and Yates' shuffle, driven by [`Stream`] for [`Purpose::Shuffle`].
#[derive(Clone, Debug)]
pub struct Sampler {
    seed: u64,
    drop_last: bool,
    order: Vec<usize>,
    ordered_for: Option<u64>,
}

/// What [`Sampler::batch`] drew.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Batch<'a> {
    /// The epoch that the samples belong to, from 0.
    pub epoch: u64,
    /// Cursor of the first sample: the one asked for, or the start of the next epoch where the
    /// rest of this one was dropped.
    pub start: u64,
    /// Cursor to ask with next.
    pub next: u64,
    /// The samples, in order.
    pub indices: &'a [usize],
}

impl Sampler {
    /// A sampler over `0..len`.
    ///
    /// # Errors
    /// [`DataError::NoSamples`] when `len` is 0.
    pub fn new(len: usize, seed: u64) -> Result<Self, DataError> {
        if len == 0 {
            return Err(DataError::NoSamples { part: "training" });
        }
        Ok(Self { seed, drop_last: false, order: vec![0; len], ordered_for: None })
    }

    /// The same, but batches that the end of the epoch would cut short are passed over.
    ///
    /// The cursor counts the samples passed over. A batch longer than the epoch is the whole epoch.
    #[must_use]
    pub fn drop_last(self) -> Self {
        Self { drop_last: true, ..self }
    }

    /// Number of samples of an epoch.
    pub fn epoch_len(&self) -> usize {
        self.order.len()
    }

    /// Whether an epoch has `batch_len` samples: to be asked before a run, since
    /// [`batch`](Self::batch) takes any length and gives what there is.
    ///
    /// # Errors
    /// [`DataError::Batch`].
    pub fn check(&self, batch_len: usize) -> Result<(), DataError> {
        if batch_len > self.order.len() {
            return Err(DataError::Batch { batch: batch_len, samples: self.order.len() });
        }
        Ok(())
    }

    /// The batch that starts at `cursor` with up to `batch_len` samples.
    ///
    /// Shuffles when `cursor` is in another epoch than the last one asked for; never allocates.
    ///
    /// # Panics
    /// When `batch_len` is 0.
    #[track_caller]
    pub fn batch(&mut self, cursor: u64, batch_len: usize) -> Batch<'_> {
        assert!(batch_len > 0, "a batch has at least one sample");
        let epoch_len = self.order.len() as u64;
        let (mut epoch, mut offset) = (cursor / epoch_len, (cursor % epoch_len) as usize);
        let left = self.order.len() - offset;
        if self.drop_last && offset > 0 && left < batch_len {
            (epoch, offset) = (epoch + 1, 0);
        }
        self.order_for(epoch);
        let end = self.order.len().min(offset.saturating_add(batch_len));
        let start = epoch * epoch_len + offset as u64;
        let indices = &self.order[offset..end];
        Batch { epoch, start, next: start + indices.len() as u64, indices }
    }

    fn order_for(&mut self, epoch: u64) {
        if self.ordered_for == Some(epoch) {
            return;
        }
        for (index, slot) in self.order.iter_mut().enumerate() {
            *slot = index;
        }
        Stream::new(self.seed, Purpose::Shuffle, epoch).shuffle(&mut self.order);
        self.ordered_for = Some(epoch);
    }
}

#[cfg(test)]
mod tests {
    use super::Sampler;
    use crate::error::DataError;
    use proptest::prelude::{prop_assert_eq, proptest};

    fn take(sampler: &mut Sampler, cursor: &mut u64, batch_len: usize) -> Vec<usize> {
        let batch = sampler.batch(*cursor, batch_len);
        *cursor = batch.next;
        batch.indices.to_vec()
    }

    /// Stored checkpoints rest on this order. Computed apart, from the paper's definition of Philox:
    /// swap the item at `last` with `(w (last + 1)) >> 64`, `w` the first two words of block `last`.
    #[test]
    fn the_first_orders_of_seed_1() {
        let mut sampler = Sampler::new(8, 1).unwrap();
        let first = sampler.batch(0, 8).indices.to_vec();
        let second = sampler.batch(8, 8).indices.to_vec();
        assert_eq!(first, [0, 3, 7, 2, 1, 4, 6, 5]);
        assert_eq!(second, [6, 3, 5, 2, 4, 1, 7, 0]);
    }

    #[test]
    fn drop_last_passes_over_the_rest_of_the_epoch() {
        let mut sampler = Sampler::new(10, 1).unwrap().drop_last();
        let batch = sampler.batch(8, 4);
        assert_eq!((batch.epoch, batch.start, batch.next, batch.indices.len()), (1, 10, 14, 4));
        // exactly to the end is not short
        let batch = sampler.batch(6, 4);
        assert_eq!((batch.epoch, batch.start, batch.next), (0, 6, 10));
    }

    #[test]
    fn a_batch_longer_than_the_epoch_is_the_epoch() {
        for mut sampler in [Sampler::new(3, 1).unwrap(), Sampler::new(3, 1).unwrap().drop_last()] {
            let batch = sampler.batch(3, usize::MAX);
            assert_eq!((batch.epoch, batch.next, batch.indices.len()), (1, 6, 3));
        }
    }

    #[test]
    fn a_batch_longer_than_the_epoch_can_be_refused() {
        let sampler = Sampler::new(3, 1).unwrap();
        assert!(sampler.check(3).is_ok());
        assert!(matches!(sampler.check(4), Err(DataError::Batch { batch: 4, samples: 3 })));
    }

    #[test]
    fn no_samples_is_an_error() {
        assert!(matches!(Sampler::new(0, 1), Err(DataError::NoSamples { part: "training" })));
    }

    #[test]
    #[should_panic(expected = "at least one sample")]
    fn an_empty_batch_is_refused() {
        Sampler::new(3, 1).unwrap().batch(0, 0);
    }

    proptest! {
        #[test]
        fn an_epoch_holds_every_sample_once(len in 1_usize..300, batch_len in 1_usize..400, seed: u64, epoch in 0_u64..5) {
            let mut sampler = Sampler::new(len, seed).unwrap();
            let mut cursor = epoch * len as u64;
            let mut seen = Vec::new();
            while seen.len() < len {
                seen.extend(take(&mut sampler, &mut cursor, batch_len));
            }
            prop_assert_eq!(cursor, (epoch + 1) * len as u64);
            seen.sort_unstable();
            prop_assert_eq!(seen, (0..len).collect::<Vec<_>>());
        }

        #[test]
        fn the_batch_size_may_change_on_the_way(len in 1_usize..200, sizes in proptest::collection::vec(1_usize..50, 1..20), seed: u64) {
            let mut sampler = Sampler::new(len, seed).unwrap();
            let mut cursor = 0;
            let mut drawn = Vec::new();
            for size in sizes {
                // a fresh sampler each time, as after a resume
                drawn.extend(take(&mut sampler.clone(), &mut cursor, size));
            }
            let mut cursor = 0;
            let mut expected = Vec::new();
            while expected.len() < drawn.len() {
                expected.extend(take(&mut sampler, &mut cursor, 1));
            }
            prop_assert_eq!(drawn, expected);
        }
    }
}
