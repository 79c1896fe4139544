//! Vectors made of vectors: what a pre-aggregator decides.

use phalanx_grad::Gram;

/// The weights of `m` new vectors over `n` old ones.
#[derive(Clone, Debug, PartialEq)]
pub struct Mixing {
    m: usize,
    n: usize,
    weights_mn: Vec<f64>,
}

impl Mixing {
    /// From the weights row by row.
    ///
    /// # Panics
    /// When there are not `m n`.
    #[track_caller]
    #[must_use]
    pub fn new(m: usize, n: usize, weights_mn: Vec<f64>) -> Self {
        assert_eq!(weights_mn.len(), m * n, "weights of {m} vectors over {n}");
        Mixing { m, n, weights_mn }
    }

    /// Each vector times a factor.
    #[must_use]
    pub fn scaled(factors_n: &[f64]) -> Self {
        let n = factors_n.len();
        let mut weights_mn = vec![0.0; n * n];
        factors_n.iter().enumerate().for_each(|(i, factor)| weights_mn[i * n + i] = *factor);
        Mixing { m: n, n, weights_mn }
    }

    /// The means of groups of vectors.
    ///
    /// # Panics
    /// When a group is empty or names a vector that is not there.
    #[track_caller]
    #[must_use]
    pub fn means(n: usize, groups: &[Vec<usize>]) -> Self {
        let mut weights_mn = vec![0.0; groups.len() * n];
        for (group, weights_n) in groups.iter().zip(weights_mn.chunks_exact_mut(n.max(1))) {
            assert!(!group.is_empty(), "a mean of nothing");
            group.iter().for_each(|i| weights_n[*i] = 1.0 / group.len() as f64);
        }
        Mixing { m: groups.len(), n, weights_mn }
    }

    /// How many vectors it makes.
    #[must_use]
    pub fn len(&self) -> usize {
        self.m
    }

    /// Whether it makes none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.m == 0
    }

    /// All weights, row by row.
    #[must_use]
    pub fn weights(&self) -> &[f64] {
        &self.weights_mn
    }

    /// The weights of new vector `i`.
    fn row(&self, i: usize) -> &[f64] {
        &self.weights_mn[i * self.n..][..self.n]
    }

    /// The mixing that does `first` and then this.
    pub(crate) fn after(&self, first: &Mixing) -> Mixing {
        let rows = (0..self.m).flat_map(|i| first.pulled_back(self.row(i)));
        Mixing { m: self.m, n: first.n, weights_mn: rows.collect() }
    }

    /// The weights over old vectors of a sum over new ones.
    pub(crate) fn pulled_back(&self, weights_m: &[f64]) -> Vec<f64> {
        let mut weights_n = vec![0.0; self.n];
        for (i, weight) in weights_m.iter().enumerate().filter(|(_, weight)| **weight != 0.0) {
            weights_n.iter_mut().zip(self.row(i)).for_each(|(sum, w)| *sum += weight * w);
        }
        weights_n
    }

    /// The products of the new vectors with what the old ones have products `products_n` with.
    pub(crate) fn products(&self, products_n: &[f64]) -> Vec<f64> {
        (0..self.m).map(|i| dot(self.row(i), products_n)).collect()
    }

    /// The inner products of the new vectors.
    pub(crate) fn gram(&self, gram: &Gram) -> Gram {
        let half: Vec<Vec<f64>> =
            (0..self.m).map(|i| (0..self.n).map(|j| dot(self.row(i), gram.row(j))).collect()).collect();
        Gram::from_fn(self.m, |i, j| dot(&half[i], self.row(j)))
    }
}

/// The sum of products; factors of weight 0 do not count, whatever they multiply.
fn dot(weights: &[f64], values: &[f64]) -> f64 {
    weights.iter().zip(values).filter(|(w, _)| **w != 0.0).map(|(w, x)| w * x).sum()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// x = (1, 0), (0, 2), (3, 1); means of the first two and of the last: (1/2, 1), (3, 1); then their difference.
    #[test]
    fn worked_by_hand() {
        let gram = Gram::from_fn(3, |i, j| [[1.0, 0.0, 3.0], [0.0, 4.0, 2.0], [3.0, 2.0, 10.0]][i][j]);
        let means = Mixing::means(3, &[vec![0, 1], vec![2]]);
        let mixed = means.gram(&gram);
        assert_eq!((mixed.get(0, 0), mixed.get(0, 1), mixed.get(1, 1)), (1.25, 2.5, 10.0));
        assert_eq!(means.pulled_back(&[1.0, -1.0]), [0.5, 0.5, -1.0]);
        assert_eq!(means.products(&[1.0, 2.0, 7.0]), [1.5, 7.0]);
        let both = Mixing::new(1, 2, vec![1.0, -1.0]).after(&means);
        assert_eq!(both, Mixing::new(1, 3, vec![0.5, 0.5, -1.0]));
        assert_eq!(Mixing::scaled(&[2.0, 0.5]).weights(), [2.0, 0.0, 0.0, 0.5]);
    }
}
