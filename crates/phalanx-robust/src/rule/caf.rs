//! Covariance-bound agnostic filter: turns down the weight of what spreads most.

use crate::eigen::{centered, top};
use crate::{Decision, Laws, Round, Rule};
use phalanx_grad::GradError;
use serde::{Deserialize, Serialize};

/// Lowers weights along the direction of greatest spread until `n - 2f` are left, and takes the weighted mean that
/// spread least on the way.
///
/// With weights `c` (all 1 at first), mean `m` and top eigenvector `v` of the weighted covariance: `t_i` is
/// `((x_i - m) v)^2`, and `c_i` becomes `c_i (1 - t_i / max t)`. One weight falls to 0 each time, so that it ends
/// after `2f` passes at most.
///
/// # Numerics
/// The eigenvector is that of the centred Gram matrix by Jacobi rotations: the same for every call.
///
/// # Reference
/// Allouah et al., "Towards Trustworthy Federated Learning with Untrusted Participants", ICML 2025.
///
/// # Deviation
/// Exact eigenvectors where ByzFL takes a power step from a random vector; equal vectors end it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Caf;

impl Rule for Caf {
    fn name(&self) -> &'static str {
        "caf"
    }

    fn min_n(&self, f: usize) -> usize {
        2 * f + 1
    }

    fn laws(&self) -> Laws {
        Laws::of_distances()
    }

    fn is_shardable(&self) -> bool {
        true
    }

    fn decide(&mut self, round: &Round<'_>) -> Result<Decision, GradError> {
        let (n, f, gram) = (round.n(), round.hostile(), round.gram()?);
        let all: Vec<usize> = (0..n).collect();
        let mut weights = vec![1.0; n];
        let mut best = (f64::INFINITY, weights.clone());
        while weights.iter().sum::<f64>() > (n - 2 * f) as f64 {
            // A weight of 0 spoils the square roots of the covariance's rows: those vectors stay out of it.
            let inside: Vec<usize> = all.iter().copied().filter(|i| weights[*i] > 0.0).collect();
            let of_inside: Vec<f64> = inside.iter().map(|i| weights[*i]).collect();
            let covariance = centered(gram, &inside, &of_inside);
            let (value, vector) = top(covariance, inside.len());
            if value < best.0 {
                best = (value, weights.clone());
            }
            // (x_i - m) v is the eigenvector's entry over the square root of the weight, up to one factor
            let spread: Vec<f64> = vector.iter().zip(&of_inside).map(|(v, c)| v * v / c).collect();
            let widest = spread.iter().copied().fold(0.0, f64::max);
            if value <= 0.0 || widest <= 0.0 {
                break;
            }
            for (i, t) in inside.iter().zip(&spread) {
                // vectors as far out as the farthest go with it, whatever rounding says of them
                let left = 1.0 - t / widest;
                weights[*i] *= if left > 1e-9 { left } else { 0.0 };
            }
        }
        let total: f64 = best.1.iter().sum();
        Ok(Decision::sum(best.1.into_iter().map(|w| w / total).collect()))
    }
}
