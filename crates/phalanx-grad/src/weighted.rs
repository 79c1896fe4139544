//! Rules that need inner products only, and answer with weights.

use crate::reduce::grown;
use crate::{Axis, GradError, GradSet, Gram, Reduce, Scratch};
use phalanx_tensor::Backend;
use std::fmt::Debug;

/// A rule from inner products to weights.
///
/// Such a rule knows neither the gradients nor where they are, costs `n x n` numbers whatever `d`, and can be tested
/// on a matrix written by hand.
pub trait WeightRule<A: Axis>: Debug + Send {
    /// The name, as in a run file.
    fn name(&self) -> &'static str;

    /// Writes the weights of the sum that the rule makes.
    ///
    /// `step` counts from 1; what is random depends on it and not on the number of calls.
    ///
    /// # Shapes
    /// `gram`: `n x n`. `weights_n`: one a gradient, of any value before.
    ///
    /// # Errors
    /// [`GradError::TooFew`] when the rule is not defined for so few gradients.
    fn weights(&mut self, step: u64, gram: &Gram, weights_n: &mut [f64]) -> Result<(), GradError>;
}

/// Makes a [`Reduce`] of a [`WeightRule`]: Gram matrix, weights, weighted sum.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Weighted<R>(pub R);

impl<A: Axis, B: Backend, R: WeightRule<A>> Reduce<A, B> for Weighted<R> {
    fn name(&self) -> &'static str {
        self.0.name()
    }

    fn reduce(
        &mut self,
        step: u64,
        set: &dyn GradSet<A, B>,
        out_d: B::ViewMut<'_>,
        scratch: &mut Scratch,
    ) -> Result<(), GradError> {
        set.gram(&mut scratch.gram)?;
        let weights_n = grown(&mut scratch.weights, set.len());
        self.0.weights(step, &scratch.gram, weights_n)?;
        set.weighted_sum(weights_n, out_d)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{RowSet, Tasks};

    /// Weights by step and length, to see that both arrive.
    #[derive(Debug)]
    struct Probe;

    impl WeightRule<Tasks> for Probe {
        fn name(&self) -> &'static str {
            "probe"
        }
        fn weights(&mut self, step: u64, gram: &Gram, weights_n: &mut [f64]) -> Result<(), GradError> {
            for (i, weight) in weights_n.iter_mut().enumerate() {
                *weight = step as f64 * gram.norm_sq(i);
            }
            Ok(())
        }
    }

    #[test]
    fn products_become_weights_become_a_sum() {
        let mut scratch = Scratch::new();
        let mut rule: Box<dyn Reduce<Tasks>> = Box::new(Weighted(Probe));
        let mut out = [0.0; 2];
        // 2 (1 (1, 0) + 4 (0, 2)), then with a set of another size in the same scratch: 1 * 25 (3, 4)
        let two = RowSet::from_slices(&[&[1.0, 0.0], &[0.0, 2.0]]).unwrap();
        rule.reduce(2, &two, &mut out, &mut scratch).unwrap();
        assert_eq!(out, [2.0, 16.0]);
        let one = RowSet::from_slices(&[&[3.0, 4.0]]).unwrap();
        rule.reduce(1, &one, &mut out, &mut scratch).unwrap();
        assert_eq!(out, [75.0, 100.0]);
        assert_eq!((rule.name(), rule.is_mean()), ("probe", false));
    }
}
