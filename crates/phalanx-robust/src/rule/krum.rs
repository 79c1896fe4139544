//! Krum: the vector with the nearest neighbours.

use crate::{Decision, Law, Laws, Round, Rule};
use phalanx_grad::{GradError, Gram};
use serde::{Deserialize, Serialize};

/// How many neighbours a score sums over.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Neighbours {
    /// `n - f - 2`, as published; needs `n >= 2f + 3`.
    #[default]
    Original,
    /// `n - f - 1`, for which the constant `kappa` is known; needs `n >= 2f + 1`.
    Epfl,
}

impl Neighbours {
    pub(crate) fn count(self, n: usize, f: usize) -> usize {
        match self {
            Neighbours::Original => n.saturating_sub(f + 2).max(1),
            Neighbours::Epfl => n.saturating_sub(f + 1),
        }
    }

    pub(crate) fn min_n(self, f: usize) -> usize {
        match self {
            Neighbours::Original => 2 * f + 3,
            Neighbours::Epfl => 2 * f + 1,
        }
    }
}

/// The vector with the least sum of squared distances to its nearest neighbours.
///
/// The score of vector `i` is the sum over its `n - f - 2` nearest others of `|x_i - x_j|^2`; the first of the least
/// score is the result. With one neighbour (`n = f + 3`), two nearest to each other always tie.
///
/// # Reference
/// Blanchard et al., "Machine Learning with Adversaries: Byzantine Tolerant Gradient Descent", NeurIPS 2017; the
/// constant in Allouah et al., "Fixing by Mixing", AISTATS 2023.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Krum {
    /// How many neighbours count.
    pub neighbours: Neighbours,
}

impl Rule for Krum {
    fn name(&self) -> &'static str {
        "krum"
    }

    fn min_n(&self, f: usize) -> usize {
        self.neighbours.min_n(f)
    }

    fn laws(&self) -> Laws {
        Laws::of_distances().without(Law::MeanWithoutHostile)
    }

    fn kappa(&self, n: usize, f: usize) -> Option<f64> {
        (2 * f < n).then(|| 6.0 * (1.0 + f as f64 / (n - 2 * f) as f64))
    }

    fn is_shardable(&self) -> bool {
        true
    }

    fn decide(&mut self, round: &Round<'_>) -> Result<Decision, GradError> {
        let n = round.n();
        let near = Neighbourhoods::new(round.gram()?);
        let all: Vec<bool> = vec![true; n];
        let scores = near.scores(&all, self.neighbours.count(n, round.hostile()));
        Ok(Decision::mean_of(n, &least(&scores, 1)).with_scores(scores))
    }
}

/// For each vector the others by distance.
#[derive(Debug)]
pub(crate) struct Neighbourhoods {
    /// By distance, then index.
    others: Vec<Vec<(f64, usize)>>,
}

impl Neighbourhoods {
    pub(crate) fn new(gram: &Gram) -> Self {
        let n = gram.n();
        let others = (0..n).map(|i| {
            let mut others: Vec<_> =
                (0..n).filter(|j| *j != i).map(|j| (gram.distance_sq(i, j), j)).collect();
            others.sort_by(|(d, i), (e, j)| d.total_cmp(e).then(i.cmp(j)));
            others
        });
        Neighbourhoods { others: others.collect() }
    }

    /// The nearest of `i`, itself first.
    pub(crate) fn nearest(&self, i: usize, count: usize) -> Vec<usize> {
        [i].into_iter().chain(self.others[i].iter().map(|(_, j)| *j)).take(count).collect()
    }

    /// Sums of squared distances to the nearest `count` others among those that are `left`; infinite for the rest.
    pub(crate) fn scores(&self, left: &[bool], count: usize) -> Vec<f64> {
        let score = |i: usize| -> f64 {
            let others = self.others[i].iter().filter(|(_, j)| left[*j]);
            others.take(count).map(|(distance_sq, _)| distance_sq).sum()
        };
        (0..left.len()).map(|i| if left[i] { score(i) } else { f64::INFINITY }).collect()
    }
}

/// The `count` of least score, of equals the first, in the order of their indices.
pub(crate) fn least(scores: &[f64], count: usize) -> Vec<usize> {
    let mut order: Vec<usize> = (0..scores.len()).collect();
    order.sort_by(|i, j| scores[*i].total_cmp(&scores[*j]).then(i.cmp(j)));
    order.truncate(count);
    order.sort_unstable();
    order
}
