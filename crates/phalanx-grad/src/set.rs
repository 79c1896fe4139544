//! A set of gradients along an axis, which promises no memory.

use crate::{Axis, GradError, Gram, Shard};
use phalanx_tensor::{Backend, Cpu};

/// `n` gradients of dimension `d` along the axis `A`.
///
/// Only sums with weights are required: that is what a set can give that never holds its gradients side by side
/// (per-sample gradients by a second backward pass), that holds a part of the coordinates on each rank, or that
/// lies on a device. What it can do faster it overrides; the rules do not notice.
///
/// Object-safe: rules take `&dyn GradSet<A, B>`.
///
/// # Shapes
/// `n` = [`len`](Self::len), `d` = [`dim`](Self::dim).
///
/// # Collective
/// Sets spread over ranks may communicate in [`weighted_sum`](Self::weighted_sum), [`row`](Self::row) and
/// [`gram`](Self::gram): call them on every rank in the same order.
///
/// # Panics
/// Methods that take the index of a gradient may panic when it is not below `n`.
pub trait GradSet<A: Axis, B: Backend = Cpu<f32>> {
    /// Where the gradients live.
    fn backend(&self) -> &B;

    /// How many gradients there are.
    fn len(&self) -> usize;

    /// How many numbers each has.
    fn dim(&self) -> usize;

    /// `out = sum_i w_i g_i`. Gradients of weight 0 are not read: they may hold NaN.
    ///
    /// # Shapes
    /// `weights_n`: one a gradient. `out_d`: one number a coordinate.
    ///
    /// # Errors
    /// [`GradError::Length`] for another number of weights; what reading the set may bring.
    fn weighted_sum(&self, weights_n: &[f64], out_d: B::ViewMut<'_>) -> Result<(), GradError>;

    /// Whether there is no gradient.
    fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// How many samples gradient `i` is the mean of: its weight in the [`Mean`](crate::Mean).
    fn samples(&self, i: usize) -> u64 {
        let _ = i;
        1
    }

    /// Whose gradient `i` is: a name that stays when the set is in another order. Ties go to the least.
    fn id(&self, i: usize) -> u64 {
        i as u64
    }

    /// Gradient `i` where it lies, if the set holds it.
    fn view(&self, i: usize) -> Option<B::View<'_>> {
        let _ = i;
        None
    }

    /// The part that this rank holds, if the coordinates are spread over ranks.
    fn shard(&self) -> Option<&dyn Shard> {
        None
    }

    /// All of a gradient made of data that are trusted, for rules that compare the others with it.
    fn trusted(&self) -> Option<&[f32]> {
        None
    }

    /// Copies gradient `i`.
    ///
    /// # Errors
    /// As [`weighted_sum`](Self::weighted_sum).
    fn row(&self, i: usize, out_d: B::ViewMut<'_>) -> Result<(), GradError> {
        let mut weights_n = vec![0.0; self.len()];
        weights_n[i] = 1.0;
        self.weighted_sum(&weights_n, out_d)
    }

    /// All inner products.
    ///
    /// # Numerics
    /// In the arithmetic of [`ReduceOps::dot`](phalanx_tensor::op::ReduceOps::dot).
    ///
    /// # Errors
    /// As [`weighted_sum`](Self::weighted_sum), and when two gradients do not fit in memory.
    fn gram(&self, gram: &mut Gram) -> Result<(), GradError> {
        let (n, d, backend) = (self.len(), self.dim(), self.backend());
        gram.reset(n);
        let mut left_d = backend.alloc(d)?;
        let mut right_d = backend.alloc(d)?;
        for i in 0..n {
            self.row(i, backend.view_mut(&mut left_d, 0..d))?;
            let left_d = backend.view(&left_d, 0..d);
            gram.set(i, i, backend.dot(left_d, left_d));
            for j in 0..i {
                self.row(j, backend.view_mut(&mut right_d, 0..d))?;
                gram.set(i, j, backend.dot(left_d, backend.view(&right_d, 0..d)));
            }
        }
        Ok(())
    }
}
