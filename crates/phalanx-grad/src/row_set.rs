//! The plainest set: gradients that lie in the memory of the host.

use crate::{Axis, GradError, GradSet, Gram};
use phalanx_tensor::op::{ElementwiseOps, ReduceOps};
use phalanx_tensor::{Cpu, Float, Write};
use std::marker::PhantomData;

/// Coordinates that are worked on at once: the rows' parts stay in cache, and the sums are those of
/// [`ReduceOps::dot`] over whole rows.
const BLOCK: usize = 4096;

/// A set over gradients held elsewhere; none is copied.
///
/// # Examples
/// ```
/// use phalanx_grad::{GradError, GradSet, RowSet, Samples};
/// let set = RowSet::<Samples>::from_slices(&[&[1.0, 2.0], &[3.0, 0.0]])?;
/// let mut difference = [0.0; 2];
/// set.weighted_sum(&[1.0, -1.0], &mut difference)?;
/// assert_eq!(difference, [-2.0, 2.0]);
/// # Ok::<(), GradError>(())
/// ```
#[derive(Clone, Debug)]
pub struct RowSet<'a, A: Axis, T: Float = f32> {
    backend: Cpu<T>,
    rows_n: Vec<&'a [T]>,
    samples_n: Vec<u64>,
    ids_n: Vec<u64>,
    dim: usize,
    axis: PhantomData<A>,
}

impl<'a, A: Axis, T: Float> RowSet<'a, A, T> {
    /// Gradients that are each the mean of one sample.
    ///
    /// # Errors
    /// [`GradError::Length`] when their lengths differ.
    pub fn from_slices(rows_n: &[&'a [T]]) -> Result<Self, GradError> {
        let dim = rows_n.first().map_or(0, |row| row.len());
        for row in rows_n {
            check_length("a gradient of the set", row.len(), dim)?;
        }
        let samples_n = vec![1; rows_n.len()];
        let ids_n = (0..rows_n.len() as u64).collect();
        Ok(RowSet { backend: Cpu::new(), rows_n: rows_n.to_vec(), samples_n, ids_n, dim, axis: PhantomData })
    }

    /// The same gradients as means of `samples_n` samples.
    ///
    /// # Errors
    /// [`GradError::Length`] when there is not one number a gradient.
    pub fn with_samples(self, samples_n: Vec<u64>) -> Result<Self, GradError> {
        check_length("the sample counts of a set", samples_n.len(), self.rows_n.len())?;
        Ok(RowSet { samples_n, ..self })
    }

    /// The same gradients under names of their own; without, the index is the name.
    ///
    /// # Errors
    /// [`GradError::Length`] when there is not one name a gradient.
    pub fn with_ids(self, ids_n: Vec<u64>) -> Result<Self, GradError> {
        check_length("the names of a set", ids_n.len(), self.rows_n.len())?;
        Ok(RowSet { ids_n, ..self })
    }

    /// The gradients.
    #[must_use]
    pub fn rows(&self) -> &[&'a [T]] {
        &self.rows_n
    }
}

impl<A: Axis, T: Float> GradSet<A, Cpu<T>> for RowSet<'_, A, T> {
    fn backend(&self) -> &Cpu<T> {
        &self.backend
    }

    fn len(&self) -> usize {
        self.rows_n.len()
    }

    fn dim(&self) -> usize {
        self.dim
    }

    fn weighted_sum(&self, weights_n: &[f64], out_d: &mut [T]) -> Result<(), GradError> {
        check_length("the weights of a set", weights_n.len(), self.len())?;
        check_length("the sum over a set", out_d.len(), self.dim)?;
        for (out_k, at) in out_d.chunks_mut(BLOCK).zip((0..).step_by(BLOCK)) {
            let mut write = Write::Set;
            for (weight, row_d) in weights_n.iter().zip(&self.rows_n).filter(|(weight, _)| **weight != 0.0) {
                self.backend.affine(*weight, 0.0, &row_d[at..at + out_k.len()], write, out_k);
                write = Write::Add;
            }
            if write == Write::Set {
                self.backend.fill(0.0, out_k);
            }
        }
        Ok(())
    }

    fn samples(&self, i: usize) -> u64 {
        self.samples_n[i]
    }

    fn id(&self, i: usize) -> u64 {
        self.ids_n[i]
    }

    fn view(&self, i: usize) -> Option<&[T]> {
        Some(self.rows_n[i])
    }

    fn gram(&self, gram: &mut Gram) -> Result<(), GradError> {
        gram.reset(self.len());
        for at in (0..self.dim).step_by(BLOCK) {
            let block = at..self.dim.min(at + BLOCK);
            for (i, left_d) in self.rows_n.iter().enumerate() {
                for (j, right_d) in self.rows_n[..=i].iter().enumerate() {
                    let part = self.backend.dot(&left_d[block.clone()], &right_d[block.clone()]);
                    gram.set(i, j, gram.get(i, j) + part);
                }
            }
        }
        Ok(())
    }
}

fn check_length(what: &'static str, got: usize, need: usize) -> Result<(), GradError> {
    if got == need { Ok(()) } else { Err(GradError::Length { what, got, need }) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Ranks;

    /// A set that gives nothing but sums: the defaults must make the rest of them.
    struct SumsOnly<'a>(RowSet<'a, Ranks>);

    impl GradSet<Ranks> for SumsOnly<'_> {
        fn backend(&self) -> &Cpu<f32> {
            self.0.backend()
        }
        fn len(&self) -> usize {
            self.0.len()
        }
        fn dim(&self) -> usize {
            self.0.dim()
        }
        fn weighted_sum(&self, weights_n: &[f64], out_d: &mut [f32]) -> Result<(), GradError> {
            self.0.weighted_sum(weights_n, out_d)
        }
    }

    fn rows(dim: usize) -> Vec<Vec<f32>> {
        // small integers: every order of summation gives the same bits
        (0..3).map(|n| (0..dim).map(|k| ((k * (n + 2) + n) % 9) as f32 - 4.0).collect()).collect()
    }

    #[test]
    fn the_defaults_agree_with_the_rows() {
        for dim in [1, 5, BLOCK - 1, BLOCK + 3, 3 * BLOCK] {
            let rows = rows(dim);
            let slices: Vec<&[f32]> = rows.iter().map(Vec::as_slice).collect();
            let set = RowSet::<Ranks>::from_slices(&slices).unwrap();
            let (mut own, mut default) = (Gram::default(), Gram::default());
            set.gram(&mut own).unwrap();
            let sums = SumsOnly(set);
            sums.gram(&mut default).unwrap();
            assert_eq!(own, default, "{dim}");
            let want: f32 = rows[2].iter().zip(&rows[1]).map(|(a, b)| a * b).sum();
            assert_eq!(own.get(2, 1), f64::from(want), "{dim}");
            let mut row = vec![9.0; dim];
            sums.row(1, &mut row).unwrap();
            assert_eq!(row, rows[1], "{dim}");
        }
    }

    #[test]
    fn gradients_of_weight_zero_are_not_read() {
        let set = RowSet::<Ranks>::from_slices(&[&[f32::NAN], &[2.0]]).unwrap();
        let mut out = [7.0];
        set.weighted_sum(&[0.0, 3.0], &mut out).unwrap();
        assert_eq!(out, [6.0]);
        set.weighted_sum(&[0.0, 0.0], &mut out).unwrap();
        assert_eq!(out, [0.0]);
    }

    #[test]
    fn lengths_that_differ_are_refused() {
        let ragged = RowSet::<Ranks>::from_slices(&[&[1.0, 2.0], &[1.0]]).unwrap_err();
        assert_eq!(ragged, GradError::Length { what: "a gradient of the set", got: 1, need: 2 });
        let set = RowSet::<Ranks>::from_slices(&[&[1.0], &[2.0]]).unwrap();
        assert!(set.weighted_sum(&[1.0], &mut [0.0]).is_err());
        assert!(set.weighted_sum(&[1.0, 1.0], &mut [0.0; 2]).is_err());
        assert!(set.clone().with_ids(vec![1]).is_err());
        assert!(set.with_samples(vec![1]).is_err());
    }
}
