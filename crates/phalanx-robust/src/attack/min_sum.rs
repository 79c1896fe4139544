//! No farther from all honest vectors together than the worst placed honest one is.

use super::min_max::{Spread, root};
use super::{Attack, Direction, Scene, check, write};
use phalanx_grad::GradError;
use serde::{Deserialize, Serialize};

/// The honest mean plus `gamma` times a direction, with the largest `gamma` at which the sum of squared distances to
/// the honest is no more than the greatest such sum of an honest vector.
///
/// # Reference
/// Shejwalkar and Houmansadr, "Manipulating the Byzantine: Optimizing Model Poisoning Attacks and Defenses for
/// Federated Learning", NDSS 2021.
///
/// # Deviation
/// `gamma` is the root of a quadratic, not the end of a bisection.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct MinSum {
    /// Where to.
    pub direction: Direction,
}

impl Attack for MinSum {
    fn name(&self) -> &'static str {
        "min-sum"
    }

    fn forge(&mut self, scene: &Scene<'_>, out_d: &mut [f32]) -> Result<(), GradError> {
        check(self.name(), scene, 1, out_d)?;
        let mean = scene.mean();
        let direction = self.direction.of(scene, &mean)?;
        let spread = Spread::of(scene, &mean, &direction)?;
        let (from_mean, along): (f64, f64) = (spread.from_mean.iter().sum(), spread.along.iter().sum());
        let count = scene.honest.len() as f64;
        let gamma = root(count * spread.direction_sq, 2.0 * along, from_mean - spread.worst_sum());
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
