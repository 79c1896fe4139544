//! Projected gradient descent: a poisoned update that stays near the global model.

use super::{Attack, Scene, check};
use phalanx_grad::GradError;
use phalanx_tensor::Float;
use serde::{Deserialize, Serialize};

/// The attacker's own update, projected into a ball around 0.
///
/// Call [`project`](Self::project) every few local batches as well, and on the last: what is sent then is the end of a
/// path that never left the ball.
///
/// # Reference
/// Wang et al., "Attack of the Tails: Yes, You Really Can Backdoor Federated Learning", NeurIPS 2020.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Pgd {
    /// The ball's radius.
    pub radius: f64,
    /// Its norm.
    pub projection: Projection,
}

/// The norm of a ball.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Projection {
    /// Euclidean: the update is scaled down.
    #[default]
    L2,
    /// Greatest coordinate: each is cut.
    Linf,
}

impl Default for Pgd {
    fn default() -> Self {
        Pgd { radius: 2.0, projection: Projection::L2 }
    }
}

impl Pgd {
    /// Moves an update to the nearest point of the ball.
    pub fn project(&self, update_d: &mut [f32]) {
        match self.projection {
            Projection::L2 => {
                let norm = update_d.iter().map(|x| x.to_f64().powi(2)).sum::<f64>().sqrt();
                self.shorten(norm, update_d);
            }
            Projection::Linf => {
                let radius = f32::from_f64(self.radius);
                update_d.iter_mut().for_each(|x| *x = x.clamp(-radius, radius));
            }
        }
    }

    /// Scales an update of length `norm` down, or a part of it.
    fn shorten(&self, norm: f64, update_d: &mut [f32]) {
        if norm > self.radius {
            update_d.iter_mut().for_each(|x| *x = f32::from_f64(x.to_f64() * self.radius / norm));
        }
    }
}

impl Attack for Pgd {
    fn name(&self) -> &'static str {
        "pgd"
    }

    fn forge(&mut self, scene: &Scene<'_>, out_d: &mut [f32]) -> Result<(), GradError> {
        check(self.name(), scene, 0, out_d)?;
        crate::rule::positive(self.name(), "radius", self.radius)?;
        out_d.copy_from_slice(scene.own);
        match self.projection {
            Projection::L2 => {
                let own: Vec<f64> = scene.own.iter().map(|x| x.to_f64()).collect();
                self.shorten(scene.length(&own)?, out_d);
            }
            Projection::Linf => self.project(out_d),
        }
        Ok(())
    }

    fn is_shardable(&self) -> bool {
        true
    }
}
