//! The parts of a data set: to train on, to choose by, and to report.

use std::sync::Arc;

use phalanx_tensor::rng::{Purpose, Stream};

use crate::dataset::Dataset;
use crate::error::DataError;
use crate::subset::Subset;

/// The parts of a data set; no sample is in two of them.
#[derive(Clone)]
pub struct Splits {
    /// What gradients are taken of.
    pub train: Arc<dyn Dataset>,
    /// What checkpoints are chosen by; none until [`hold_out`](Self::hold_out) makes one.
    pub validation: Option<Arc<dyn Dataset>>,
    /// What is reported at the end and decides nothing.
    pub test: Arc<dyn Dataset>,
    /// What rules that compare gradients with one from good data make that of; none until
    /// [`hold_out_trusted`](Self::hold_out_trusted) makes one.
    pub trusted: Option<Arc<dyn Dataset>>,
}

impl Splits {
    /// Parts without a validation part.
    pub fn new(train: Arc<dyn Dataset>, test: Arc<dyn Dataset>) -> Self {
        Self { train, validation: None, test, trusted: None }
    }

    /// Moves a share of the training samples, chosen by `seed`, to the validation part.
    ///
    /// A share of 0 holds out nothing; any other holds out at least one sample.
    ///
    /// # Errors
    /// [`DataError::Fraction`] when `fraction` is not in `0..1`; [`DataError::NoSamples`] when
    /// nothing would be left to train on.
    ///
    /// # Examples
    /// ```
    /// use phalanx_data::{Dataset, Source};
    ///
    /// # fn main() -> Result<(), phalanx_data::DataError> {
    /// let parts = Source::Digits.open()?.hold_out(0.1, 7)?;
    /// assert_eq!((parts.train.len(), parts.test.len()), (1294, 359));
    /// assert_eq!(parts.validation.map(|held_out| held_out.len()), Some(144));
    /// # Ok(())
    /// # }
    /// ```
    pub fn hold_out(self, fraction: f64, seed: u64) -> Result<Self, DataError> {
        let held_out = share("data.validation", self.train.len(), fraction)?;
        if held_out == 0 {
            return Ok(self);
        }
        let stream = Stream::new(seed, Purpose::Split, VALIDATION);
        let (train, validation) = split_at_random(self.train, held_out, stream);
        Ok(Self { train: Arc::new(train), validation: Some(Arc::new(validation)), ..self })
    }

    /// Moves `samples` training samples, chosen by `seed`, to the trusted part.
    ///
    /// # Errors
    /// [`DataError::Trusted`] when that would be none, or all.
    ///
    /// # Examples
    /// ```
    /// use phalanx_data::{Dataset, Source};
    ///
    /// # fn main() -> Result<(), phalanx_data::DataError> {
    /// let parts = Source::Digits.open()?.hold_out(0.1, 7)?.hold_out_trusted(100, 7)?;
    /// assert_eq!((parts.train.len(), parts.test.len()), (1194, 359));
    /// assert_eq!(parts.trusted.map(|trusted| trusted.len()), Some(100));
    /// # Ok(())
    /// # }
    /// ```
    pub fn hold_out_trusted(self, samples: usize, seed: u64) -> Result<Self, DataError> {
        let most = self.train.len().saturating_sub(1);
        if samples == 0 || samples > most {
            return Err(DataError::Trusted { got: samples, most });
        }
        let stream = Stream::new(seed, Purpose::Split, TRUSTED);
        let (train, trusted) = split_at_random(self.train, samples, stream);
        Ok(Self { train: Arc::new(train), trusted: Some(Arc::new(trusted)), ..self })
    }
}

impl std::fmt::Debug for Splits {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Splits")
            .field("kind", self.train.kind())
            .field("train", &self.train.len())
            .field("validation", &self.validation.as_ref().map(|part| part.len()))
            .field("test", &self.test.len())
            .field("trusted", &self.trusted.as_ref().map(|part| part.len()))
            .finish()
    }
}

// the steps of the streams for Purpose::Split: the parts of one seed are unrelated
pub(crate) const TEST: u64 = 0;
const VALIDATION: u64 = 1;
const TRUSTED: u64 = 2;

/// How many of `len` samples a fraction is: rounded, at least 1 where the fraction is above 0.
pub(crate) fn share(field: &'static str, len: usize, fraction: f64) -> Result<usize, DataError> {
    if !(0.0..1.0).contains(&fraction) {
        return Err(DataError::Fraction { field, got: fraction });
    }
    let share = if fraction > 0.0 { rounded_share(len, fraction).max(1) } else { 0 };
    if share >= len { Err(DataError::NoSamples { part: "training" }) } else { Ok(share) }
}

/// A fraction in `0..1` of `len`, to the nearest whole number.
#[expect(clippy::cast_sign_loss, reason = "callers have checked that the fraction is not negative")]
pub(crate) fn rounded_share(len: usize, fraction: f64) -> usize {
    (len as f64 * fraction).round() as usize
}

/// Cuts `second_len` samples off a set; both parts keep the order of the whole.
pub(crate) fn split_at_random(
    whole: Arc<dyn Dataset>,
    second_len: usize,
    stream: Stream,
) -> (Subset, Subset) {
    let (first, second) = choose(whole.len(), second_len, stream);
    (Subset::new(Arc::clone(&whole), first), Subset::new(whole, second))
}

/// Indices of two parts of `0..len`, the second with `second_len` of them, each ascending.
pub(crate) fn choose(len: usize, second_len: usize, stream: Stream) -> (Vec<usize>, Vec<usize>) {
    let mut first: Vec<usize> = (0..len).collect();
    stream.shuffle(&mut first);
    let mut second = first.split_off(len - second_len);
    first.sort_unstable();
    second.sort_unstable();
    (first, second)
}

#[cfg(test)]
mod tests {
    use super::{TEST, choose, share};
    use crate::error::DataError;
    use phalanx_tensor::rng::{Purpose, Stream};
    use proptest::prelude::{prop_assert_eq, prop_assert_ne, proptest};

    fn stream(seed: u64) -> Stream {
        Stream::new(seed, Purpose::Split, TEST)
    }

    #[test]
    fn shares_are_rounded_and_leave_something() {
        assert_eq!(share("f", 1797, 0.2).unwrap(), 359);
        assert_eq!(share("f", 10, 0.0).unwrap(), 0);
        assert_eq!(share("f", 10, 1e-9).unwrap(), 1);
        assert!(matches!(share("f", 10, 0.99), Err(DataError::NoSamples { .. })));
        assert!(matches!(share("f", 1, 0.1), Err(DataError::NoSamples { .. })));
        for got in [1.0, -0.1, f64::NAN] {
            assert!(matches!(share("f", 10, got), Err(DataError::Fraction { field: "f", .. })));
        }
    }

    proptest! {
        #[test]
        fn parts_never_overlap_and_lose_nothing(len in 0_usize..500, second in 0_usize..500, seed: u64) {
            let second = second.min(len);
            let (first, second_part) = choose(len, second, stream(seed));
            prop_assert_eq!(second_part.len(), second);
            let mut all = [first, second_part].concat();
            all.sort_unstable();
            prop_assert_eq!(all, (0..len).collect::<Vec<_>>());
        }

        #[test]
        fn another_seed_chooses_others(seed: u64) {
            prop_assert_ne!(choose(1000, 100, stream(seed)), choose(1000, 100, stream(seed.wrapping_add(1))));
        }
    }
}
