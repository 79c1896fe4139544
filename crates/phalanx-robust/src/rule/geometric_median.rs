//! The geometric median: the point with the least sum of distances.

use super::positive;
use crate::{Decision, Law, Laws, Round, Rule};
use phalanx_grad::{GradError, Gram};
use serde::{Deserialize, Serialize};

/// The point whose distances to the vectors have the least sum, by Weiszfeld's iteration.
///
/// `z <- sum b_i x_i / sum b_i` with `b_i = 1 / max(nu, |z - x_i|)`. Every `z` is a weighted sum of the vectors, so
/// that one step costs `n^2` whatever `d`. With the default start and smoothing, a vector that is the minimum itself
/// is found exactly, by the subgradient there.
///
/// # Numerics
/// Weights converge in `f64`; `smoothing` keeps them finite where `z` meets a vector.
///
/// # Reference
/// Weiszfeld and Plastria, "On the point for which the sum of the distances to n given points is minimum", Annals
/// of Operations Research 167, 2009.
///
/// # Deviation
/// The default start weighs each vector by its inverse median distance to the others, which is near the result and
/// moves with the vectors; ByzFL starts at 0 with a fixed `nu` and three steps, which [`Start::Zero`] and
/// [`Smoothing::Absolute`] reproduce.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct GeometricMedian {
    /// Where the iteration begins.
    pub start: Start,
    /// Steps at most.
    pub steps: usize,
    /// It ends when no weight moves by more than this.
    pub tolerance: f64,
    /// The least distance that is divided by.
    pub smoothing: Smoothing,
}

/// Where Weiszfeld's iteration begins.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Start {
    /// Near the middle: vectors by their inverse median distance to the others.
    #[default]
    Middle,
    /// The mean.
    Mean,
    /// The origin.
    Zero,
}

/// The least distance that Weiszfeld's iteration divides by.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Smoothing {
    /// A share of the median distance between vectors: scales with them.
    Relative(f64),
    /// The same for vectors of any scale.
    Absolute(f64),
}

impl Default for GeometricMedian {
    fn default() -> Self {
        let smoothing = Smoothing::Relative(1e-6);
        GeometricMedian { start: Start::Middle, steps: 1000, tolerance: 1e-12, smoothing }
    }
}

impl Rule for GeometricMedian {
    fn name(&self) -> &'static str {
        "geometric-median"
    }

    fn min_n(&self, f: usize) -> usize {
        2 * f + 1
    }

    fn laws(&self) -> Laws {
        let laws = Laws::of_distances().without(Law::MeanWithoutHostile);
        match (self.start, self.smoothing) {
            (Start::Middle, Smoothing::Relative(_)) => laws,
            (Start::Middle, Smoothing::Absolute(_)) => laws.without(Law::Scale),
            (Start::Mean, Smoothing::Relative(_)) => laws.without(Law::Majority),
            (Start::Mean, Smoothing::Absolute(_)) => laws.without(Law::Scale).without(Law::Majority),
            (Start::Zero, _) => laws.without(Law::Translation).without(Law::Scale).without(Law::Majority),
        }
    }

    fn kappa(&self, n: usize, f: usize) -> Option<f64> {
        let converges = self.start == Start::Middle && self.steps >= 1000;
        (converges && 2 * f < n).then(|| 4.0 * (1.0 + f as f64 / (n - 2 * f) as f64).powi(2))
    }

    fn is_shardable(&self) -> bool {
        true
    }

    fn decide(&mut self, round: &Round<'_>) -> Result<Decision, GradError> {
        let gram = round.gram()?;
        let n = gram.n();
        let share = match self.smoothing {
            Smoothing::Relative(share) | Smoothing::Absolute(share) => share,
        };
        positive(self.name(), "smoothing", share)?;
        let weights_n = match self.start {
            Start::Middle => match vertex(gram) {
                Some(i) => return Ok(Decision::mean_of(n, &[i])),
                None => normalized(middle_distances(gram).into_iter().map(|d| 1.0 / d).collect()),
            },
            Start::Mean => vec![1.0 / n as f64; n],
            Start::Zero => vec![0.0; n],
        };
        let floor = match self.smoothing {
            Smoothing::Absolute(floor) => floor,
            Smoothing::Relative(share) => share * median(middle_distances(gram)),
        };
        let weights_n = weiszfeld(gram, &vec![1.0; n], weights_n, self.steps, self.tolerance, floor);
        let distances = distances_to_sum(gram, &weights_n);
        Ok(Decision::sum(weights_n).with_scores(distances))
    }
}

/// Weiszfeld's steps on the weights of the vectors.
pub(super) fn weiszfeld(
    gram: &Gram,
    masses_n: &[f64],
    mut weights_n: Vec<f64>,
    steps: usize,
    tolerance: f64,
    floor: f64,
) -> Vec<f64> {
    for _ in 0..steps {
        let pulls = distances_to_sum(gram, &weights_n).into_iter().zip(masses_n);
        let next = normalized(
            pulls.map(|(distance, mass)| mass / distance.max(floor).max(f64::MIN_POSITIVE)).collect(),
        );
        let moved = next.iter().zip(&weights_n).map(|(a, b)| (a - b).abs()).fold(0.0, f64::max);
        weights_n = next;
        if moved <= tolerance {
            break;
        }
    }
    weights_n
}

/// The distance of each vector to the weighted sum.
pub(super) fn distances_to_sum(gram: &Gram, weights_n: &[f64]) -> Vec<f64> {
    let products: Vec<f64> = (0..gram.n()).map(|i| gram.product_with_sum(i, weights_n)).collect();
    let own: f64 = weights_n.iter().zip(&products).map(|(w, p)| w * p).sum();
    (0..gram.n()).map(|i| (own - 2.0 * products[i] + gram.norm_sq(i)).max(0.0).sqrt()).collect()
}

/// A vector that is the geometric median: the pulls of the others have no longer sum than those at the same place.
fn vertex(gram: &Gram) -> Option<usize> {
    let n = gram.n();
    (0..n).find(|k| {
        let distances: Vec<f64> = (0..n).map(|i| gram.distance_sq(*k, i).sqrt()).collect();
        let here = distances.iter().filter(|d| **d == 0.0).count();
        let mut pulls: Vec<f64> = distances.iter().map(|d| if *d > 0.0 { 1.0 / d } else { 0.0 }).collect();
        pulls[*k] = -pulls.iter().sum::<f64>();
        gram.sum_norm_sq(&pulls) <= (here as f64).powi(2)
    })
}

/// For each vector the median of its distances to the others; never 0 unless all are.
fn middle_distances(gram: &Gram) -> Vec<f64> {
    let n = gram.n();
    let of = |i: usize| median((0..n).filter(|j| *j != i).map(|j| gram.distance_sq(i, j).sqrt()).collect());
    let distances: Vec<f64> = (0..n).map(of).collect();
    let least = distances.iter().copied().filter(|d| *d > 0.0).fold(f64::INFINITY, f64::min);
    let least = if least.is_finite() { least } else { 1.0 };
    distances.into_iter().map(|d| d.max(least)).collect()
}

pub(crate) fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    match values.len() {
        0 => 0.0,
        n => (values[(n - 1) / 2] + values[n / 2]) / 2.0,
    }
}

pub(super) fn normalized(weights: Vec<f64>) -> Vec<f64> {
    let total: f64 = weights.iter().sum();
    weights.into_iter().map(|w| w / total).collect()
}
