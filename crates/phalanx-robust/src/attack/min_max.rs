//! As far from the honest mean as two honest vectors are apart.

use super::{Attack, Scene, check, write};
use phalanx_grad::GradError;
use serde::{Deserialize, Serialize};

/// The honest mean plus `gamma` times a direction, with the largest `gamma` at which the farthest honest vector is no
/// farther than the two honest ones farthest apart.
///
/// # Reference
/// Shejwalkar and Houmansadr, "Manipulating the Byzantine: Optimizing Model Poisoning Attacks and Defenses for
/// Federated Learning", NDSS 2021.
///
/// # Deviation
/// `gamma` is the root of a quadratic, not the end of a bisection.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct MinMax {
    /// Where to.
    pub direction: Direction,
}

/// The direction in which an attacker leaves the honest mean.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Direction {
    /// Against the mean, of length 1.
    Unit,
    /// Against the sign of the mean.
    Sign,
    /// Minus the standard deviation in each coordinate.
    #[default]
    Deviation,
}

impl Direction {
    pub(super) fn of(self, scene: &Scene<'_>, mean: &[f64]) -> Result<Vec<f64>, GradError> {
        Ok(match self {
            Direction::Unit => {
                let norm = scene.length(mean)?;
                mean.iter().map(|m| if norm > 0.0 { -m / norm } else { 0.0 }).collect()
            }
            Direction::Sign => mean.iter().map(|m| if *m == 0.0 { 0.0 } else { -m.signum() }).collect(),
            Direction::Deviation => scene.deviation(mean, 0).into_iter().map(|s| -s).collect(),
        })
    }
}

impl Attack for MinMax {
    fn name(&self) -> &'static str {
        "min-max"
    }

    fn forge(&mut self, scene: &Scene<'_>, out_d: &mut [f32]) -> Result<(), GradError> {
        check(self.name(), scene, 1, out_d)?;
        let mean = scene.mean();
        let direction = self.direction.of(scene, &mean)?;
        let spread = Spread::of(scene, &mean, &direction)?;
        let widest = spread.widest();
        let roots = spread
            .from_mean
            .iter()
            .zip(&spread.along)
            .map(|(from_mean, along)| root(spread.direction_sq, 2.0 * along, from_mean - widest));
        let gamma = roots.fold(f64::INFINITY, f64::min);
        write(mean.iter().zip(&direction).map(|(m, p)| m + gamma * p), out_d);
        Ok(())
    }

    fn is_shared(&self) -> bool {
        true
    }

    fn is_shardable(&self) -> bool {
        true
    }
}

/// How the honest lie to each other and to a ray from their mean.
pub(super) struct Spread {
    /// `|a - b|^2`, pair by pair, each once.
    pairs: Vec<f64>,
    /// `|mean - a|^2`.
    pub(super) from_mean: Vec<f64>,
    /// `<direction, mean - a>`.
    pub(super) along: Vec<f64>,
    /// `|direction|^2`.
    pub(super) direction_sq: f64,
}

impl Spread {
    pub(super) fn of(scene: &Scene<'_>, mean: &[f64], direction: &[f64]) -> Result<Self, GradError> {
        let (honest, n) = (scene.honest, scene.honest.len());
        let count = pair(n, 0);
        let mut sums = scene.sums(count + 2 * n + 1, |columns, sums| {
            let (pairs, rest) = sums.split_at_mut(count);
            let (from_mean, rest) = rest.split_at_mut(n);
            let (along, direction_sq) = rest.split_at_mut(n);
            let (mean, direction) = (&mean[columns.clone()], &direction[columns.clone()]);
            for i in 0..n {
                let row = &honest[i][columns.clone()];
                for j in 0..i {
                    pairs[pair(i, j)] = distance_sq(row, &honest[j][columns.clone()]);
                }
                for ((x, m), p) in row.iter().zip(mean).zip(direction) {
                    let difference = m - f64::from(*x);
                    from_mean[i] += difference * difference;
                    along[i] += p * difference;
                }
            }
            direction_sq[0] = direction.iter().map(|p| p * p).sum();
        })?;
        let direction_sq = sums.pop().unwrap_or_default();
        let along = sums.split_off(count + n);
        let from_mean = sums.split_off(count);
        Ok(Spread { pairs: sums, from_mean, along, direction_sq })
    }

    /// The greatest squared distance between two.
    fn widest(&self) -> f64 {
        self.pairs.iter().copied().fold(0.0, f64::max)
    }

    /// The greatest sum of squared distances from one to all.
    pub(super) fn worst_sum(&self) -> f64 {
        let n = self.along.len();
        let from = |i: usize| -> f64 {
            (0..n).filter(|j| *j != i).map(|j| self.pairs[pair(i.max(j), i.min(j))]).sum()
        };
        (0..n).map(from).fold(0.0, f64::max)
    }
}

/// Where the pair of `i` and a smaller `j` stands.
fn pair(i: usize, j: usize) -> usize {
    i * i.saturating_sub(1) / 2 + j
}

fn distance_sq(a: &[f32], b: &[f32]) -> f64 {
    a.iter().zip(b).map(|(x, y)| (f64::from(*x) - f64::from(*y)).powi(2)).sum()
}

/// The greater root of `a x^2 + b x + c` with `a > 0` and `c <= 0`; 0 where there is no direction to go.
pub(super) fn root(a: f64, b: f64, c: f64) -> f64 {
    if a == 0.0 {
        return 0.0;
    }
    ((-b + (b * b - 4.0 * a * c).max(0.0).sqrt()) / (2.0 * a)).max(0.0)
}
