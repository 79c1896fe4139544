//! What a rule may know of a round, measured when it is asked for.

use crate::Mixing;
use crate::vectors::Vectors;
use phalanx_grad::{Blocks, GradError, Gram, Senders};
use phalanx_tensor::rows;
use std::cell::OnceCell;
use std::ops::Range;

/// The valid vectors of a round, in the order of their senders' names, as a rule or pre-aggregator sees them.
///
/// A rule sees numbers about vectors (inner products, norms, distances to a vector of its own) and answers with
/// what to do to the vectors; it need not know where they lie. Behind a pre-aggregator, the numbers are those of the
/// vectors that the pre-aggregator makes, although nobody has written these down.
///
/// # Numerics
/// Everything is in `f64`, where products of `f32` are exact. A squared distance is a difference of products:
/// its relative error is some 1e-15 times `|x|^2 / |x - y|^2`. The bits depend neither on the number of threads nor on
/// that of the ranks over which coordinates are spread.
#[derive(Debug)]
pub struct Round<'a> {
    pub(crate) step: u64,
    pub(crate) hostile: usize,
    pub(crate) ids: Vec<u64>,
    pub(crate) samples: Vec<u64>,
    pub(crate) vectors: Vectors<'a>,
    pub(crate) reference: Option<&'a [f32]>,
    pub(crate) trusted: Option<&'a [f32]>,
    pub(crate) mixing: Option<Mixing>,
    /// Of the vectors before mixing.
    pub(crate) raw_gram: OnceCell<Gram>,
    pub(crate) gram: OnceCell<Gram>,
    pub(crate) norms_sq: OnceCell<Vec<f64>>,
}

impl<'a> Round<'a> {
    /// The step, from 1: what is random depends on it.
    #[must_use]
    pub fn step(&self) -> u64 {
        self.step
    }

    /// How many vectors there are.
    #[must_use]
    pub fn n(&self) -> usize {
        self.ids.len()
    }

    /// How many numbers each has.
    #[must_use]
    pub fn dim(&self) -> usize {
        self.vectors.dim
    }

    /// The coordinates that are here, where ranks hold a part of them each; else all.
    #[must_use]
    pub fn coordinates(&self) -> Range<usize> {
        let all = 0..self.vectors.dim;
        self.vectors.shard.map_or(all, |shard| Blocks::new(self.vectors.dim).coordinates(shard.blocks()))
    }

    /// Whether ranks hold a part of the coordinates each.
    #[must_use]
    pub fn is_spread(&self) -> bool {
        self.vectors.shard.is_some()
    }

    /// What is here of a vector that this rank has all of.
    ///
    /// # Panics
    /// When it is shorter than the round's vectors.
    #[must_use]
    pub fn part<'s>(&self, whole_d: &'s [f32]) -> &'s [f32] {
        &whole_d[self.coordinates()]
    }

    /// How many of them may be hostile, beyond those that were dropped already.
    #[must_use]
    pub fn hostile(&self) -> usize {
        self.hostile
    }

    /// The names of the senders, rising.
    #[must_use]
    pub fn ids(&self) -> &[u64] {
        &self.ids
    }

    /// How many samples each says it is the mean of.
    #[must_use]
    pub fn samples(&self) -> &[u64] {
        &self.samples
    }

    /// The parameters that the vectors are updates of.
    #[must_use]
    pub fn reference(&self) -> Option<&'a [f32]> {
        self.reference
    }

    /// The update that the server made itself.
    #[must_use]
    pub fn trusted(&self) -> Option<&'a [f32]> {
        self.trusted
    }

    /// All inner products.
    ///
    /// # Errors
    /// [`GradError::NonFinite`] when a vector has numbers that are not finite; [`GradError::Tensor`] without memory.
    pub fn gram(&self) -> Result<&Gram, GradError> {
        if let Some(gram) = self.gram.get() {
            return Ok(gram);
        }
        let raw = self.raw_gram()?;
        let gram = self.mixing.as_ref().map_or_else(|| raw.clone(), |mixing| mixing.gram(raw));
        Ok(self.gram.get_or_init(|| gram))
    }

    fn raw_gram(&self) -> Result<&Gram, GradError> {
        if let Some(gram) = self.raw_gram.get() {
            return Ok(gram);
        }
        let gram = self.vectors.gram()?;
        finite((0..gram.n()).map(|i| gram.norm_sq(i)))?;
        Ok(self.raw_gram.get_or_init(|| gram))
    }

    /// The squared length of each vector: one pass, where [`gram`](Self::gram) needs more.
    ///
    /// # Errors
    /// As [`gram`](Self::gram).
    pub fn norms_sq(&self) -> Result<&[f64], GradError> {
        if let Some(norms_sq) = self.norms_sq.get() {
            return Ok(norms_sq);
        }
        let norms_sq: Vec<f64> = if self.mixing.is_some() || self.raw_gram.get().is_some() {
            let gram = self.gram()?;
            (0..gram.n()).map(|i| gram.norm_sq(i).max(0.0)).collect()
        } else {
            self.vectors.norms_sq()?
        };
        finite(norms_sq.iter().copied())?;
        Ok(self.norms_sq.get_or_init(|| norms_sq))
    }

    /// The inner product of each vector with `anchor`, and the squared length of `anchor`.
    ///
    /// # Errors
    /// As [`gram`](Self::gram), and [`GradError::Length`] for an anchor of another length.
    pub fn products_with(&self, anchor: &[f32]) -> Result<(Vec<f64>, f64), GradError> {
        crate::updates::check_length("a vector beside the updates", anchor.len(), self.vectors.here())?;
        let raw = self.vectors.products(anchor)?;
        finite(raw.iter().copied())?;
        let products = self.mixing.as_ref().map_or_else(|| raw.clone(), |mixing| mixing.products(&raw));
        let own = Vectors { rows: vec![anchor], ..self.vectors.clone() }.norms_sq()?;
        Ok((products, own[0]))
    }

    /// The squared distance of each vector to `anchor`.
    ///
    /// # Errors
    /// As [`products_with`](Self::products_with).
    pub fn distances_sq_to(&self, anchor: &[f32]) -> Result<Vec<f64>, GradError> {
        let (products, own) = self.products_with(anchor)?;
        let norms_sq = self.norms_sq()?;
        Ok(norms_sq
            .iter()
            .zip(products)
            .map(|(norm, product)| (norm + own - 2.0 * product).max(0.0))
            .collect())
    }

    /// The sum of magnitudes of each vector.
    ///
    /// # Errors
    /// As [`gram`](Self::gram).
    pub fn norms_l1(&self) -> Result<Vec<f64>, GradError> {
        let sums = self.vectors.sums_mixed(self.mixing.as_ref(), |rows, sums| {
            let zeros = vec![0.0; rows.first().map_or(0, |row| row.len())];
            rows.iter().zip(sums).for_each(|(row, sum)| *sum += rows::absolute_distances(row, &zeros));
        })?;
        finite(sums.iter().copied())?;
        Ok(sums)
    }

    /// For each vector, the sum over the others of the sums of magnitudes of the differences.
    ///
    /// # Errors
    /// As [`gram`](Self::gram).
    pub fn distances_l1(&self) -> Result<Vec<f64>, GradError> {
        let sums = self.vectors.sums_mixed(self.mixing.as_ref(), |rows, sums| {
            for i in 0..rows.len() {
                for j in 0..i {
                    let distance = rows::absolute_distances(rows[i], rows[j]);
                    sums[i] += distance;
                    sums[j] += distance;
                }
            }
        })?;
        finite(sums.iter().copied())?;
        Ok(sums)
    }

    /// All inner products over some coordinates alone.
    ///
    /// # Errors
    /// As [`gram`](Self::gram).
    ///
    /// # Panics
    /// When a coordinate is not below [`dim`](Self::dim).
    pub fn gram_over(&self, coordinates: &[usize]) -> Result<Gram, GradError> {
        let gram = self.vectors.gram_over(coordinates)?;
        finite((0..gram.n()).map(|i| gram.norm_sq(i)))?;
        Ok(self.mixing.as_ref().map_or_else(|| gram.clone(), |mixing| mixing.gram(&gram)))
    }

    /// All inner products of other vectors, of which a rule keeps what is here.
    ///
    /// # Errors
    /// As [`gram`](Self::gram).
    pub(crate) fn gram_of(&self, rows: &[&[f32]]) -> Result<Gram, GradError> {
        let gram = Vectors { rows: rows.to_vec(), ..self.vectors.clone() }.gram()?;
        finite((0..gram.n()).map(|i| gram.norm_sq(i)))?;
        Ok(gram)
    }

    /// What is here of the vectors, for rules that keep it.
    pub(crate) fn to_rows(&self) -> Vec<Vec<f32>> {
        match &self.mixing {
            None => self.vectors.rows.iter().map(|row| row.to_vec()).collect(),
            Some(mixing) => {
                let mut out = vec![vec![0.0; self.vectors.here()]; mixing.len()];
                self.vectors.mix(mixing, &mut out);
                out
            }
        }
    }
}

/// An error when one of the sums says that there were numbers that are not finite.
fn finite(sums: impl Iterator<Item = f64>) -> Result<(), GradError> {
    match sums.filter(|sum| !sum.is_finite()).count() {
        0 => Ok(()),
        count => Err(GradError::NonFinite { what: Senders::Ranks.rule(), count: count as u64 }),
    }
}
