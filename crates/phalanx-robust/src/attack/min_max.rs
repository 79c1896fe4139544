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
    pub(super) fn of(self, scene: &Scene<'_>, mean: &[f64]) -> Vec<f64> {
        match self {
            Direction::Unit => {
                let norm = mean.iter().map(|m| m * m).sum::<f64>().sqrt();
                mean.iter().map(|m| if norm > 0.0 { -m / norm } else { 0.0 }).collect()
            }
            Direction::Sign => mean.iter().map(|m| if *m == 0.0 { 0.0 } else { -m.signum() }).collect(),
            Direction::Deviation => scene.deviation(mean, 0).into_iter().map(|s| -s).collect(),
        }
    }
}

impl Attack for MinMax {
    fn name(&self) -> &'static str {
        "min-max"
    }

    fn forge(&mut self, scene: &Scene<'_>, out_d: &mut [f32]) -> Result<(), GradError> {
        check(self.name(), scene, 1, out_d)?;
        let mean = scene.mean();
        let direction = self.direction.of(scene, &mean);
        let pairs = scene.honest.iter().flat_map(|a| scene.honest.iter().map(|b| distance_sq(a, b)));
        let widest = pairs.fold(0.0, f64::max);
        let roots = scene.honest.iter().map(|row| {
            let (from_mean, along) = away(row, &mean, &direction);
            root(direction.iter().map(|p| p * p).sum(), 2.0 * along, from_mean - widest)
        });
        let gamma = roots.fold(f64::INFINITY, f64::min);
        write(mean.iter().zip(&direction).map(|(m, p)| m + gamma * p), out_d);
        Ok(())
    }
}

/// `|mean - row|^2` and `<direction, mean - row>`.
pub(super) fn away(row: &[f32], mean: &[f64], direction: &[f64]) -> (f64, f64) {
    let mut sums = (0.0, 0.0);
    for ((x, m), p) in row.iter().zip(mean).zip(direction) {
        let difference = m - f64::from(*x);
        sums = (sums.0 + difference * difference, sums.1 + p * difference);
    }
    sums
}

pub(super) fn distance_sq(a: &[f32], b: &[f32]) -> f64 {
    a.iter().zip(b).map(|(x, y)| (f64::from(*x) - f64::from(*y)).powi(2)).sum()
}

/// The greater root of `a x^2 + b x + c` with `a > 0` and `c <= 0`; 0 where there is no direction to go.
pub(super) fn root(a: f64, b: f64, c: f64) -> f64 {
    if a == 0.0 {
        return 0.0;
    }
    ((-b + (b * b - 4.0 * a * c).max(0.0).sqrt()) / (2.0 * a)).max(0.0)
}
