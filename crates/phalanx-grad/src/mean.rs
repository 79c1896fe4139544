//! The mean over all samples: the rule that ordinary training uses along every axis.

use crate::reduce::grown;
use crate::{Axis, GradError, GradSet, Reduce, Scratch};
use phalanx_tensor::Backend;

/// The mean of a set, each gradient weighted by its [`samples`](GradSet::samples).
///
/// # Examples
/// ```
/// use phalanx_grad::{GradError, Mean, Ranks, Reduce, RowSet, Scratch};
/// // the second rank had three samples, the first one
/// let ranks = RowSet::<Ranks>::from_slices(&[&[4.0], &[8.0]])?.with_samples(vec![1, 3])?;
/// let mut out = [0.0];
/// Mean.reduce(1, &ranks, &mut out, &mut Scratch::new())?;
/// assert_eq!(out, [7.0]);
/// # Ok::<(), GradError>(())
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Mean;

impl<A: Axis, B: Backend> Reduce<A, B> for Mean {
    fn name(&self) -> &'static str {
        "mean"
    }

    fn is_mean(&self) -> bool {
        true
    }

    fn reduce(
        &mut self,
        _step: u64,
        set: &dyn GradSet<A, B>,
        out_d: B::ViewMut<'_>,
        scratch: &mut Scratch,
    ) -> Result<(), GradError> {
        let total: u64 = (0..set.len()).map(|i| set.samples(i)).sum();
        if total == 0 {
            return Err(GradError::NoSamples { axis: A::NAME });
        }
        let weights_n = grown(&mut scratch.weights, set.len());
        for (i, weight) in weights_n.iter_mut().enumerate() {
            *weight = set.samples(i) as f64 / total as f64;
        }
        set.weighted_sum(weights_n, out_d)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Ranks, RowSet};

    #[test]
    fn no_sample_has_no_mean() {
        let mut out = [3.0];
        let mut mean = |set: &RowSet<'_, Ranks>| Mean.reduce(1, set, &mut out, &mut Scratch::new());
        let empty = RowSet::from_slices(&[]).unwrap();
        assert_eq!(mean(&empty), Err(GradError::NoSamples { axis: "ranks" }));
        let idle = RowSet::from_slices(&[&[1.0]]).unwrap().with_samples(vec![0]).unwrap();
        assert_eq!(mean(&idle), Err(GradError::NoSamples { axis: "ranks" }));
    }

    #[test]
    fn a_rank_without_samples_is_not_read() {
        let set = RowSet::<Ranks>::from_slices(&[&[f32::NAN], &[2.0]]).unwrap();
        let mut out = [0.0];
        Mean.reduce(1, &set.with_samples(vec![0, 5]).unwrap(), &mut out, &mut Scratch::new()).unwrap();
        assert_eq!(out, [2.0]);
    }
}
