//! Normal noise in place of the gradient.

use super::{Attack, Scene, check, write};
use phalanx_grad::GradError;
use phalanx_tensor::Float;
use phalanx_tensor::rng::{Purpose, Stream};
use serde::{Deserialize, Serialize};

/// Normal numbers of a standard deviation, different for each attacker and step.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Gaussian {
    /// The standard deviation.
    pub sigma: f64,
}

impl Default for Gaussian {
    fn default() -> Self {
        Gaussian { sigma: 200.0 }
    }
}

impl Attack for Gaussian {
    fn name(&self) -> &'static str {
        "gaussian"
    }

    fn forge(&mut self, scene: &Scene<'_>, out_d: &mut [f32]) -> Result<(), GradError> {
        check(self.name(), scene, 0, out_d)?;
        let step = scene.step * scene.attackers.max(1) as u64 + scene.index as u64;
        let noise = Stream::new(scene.seed, Purpose::Attack, step);
        let normal = scene.coordinates().map(|k| self.sigma * noise.normal_f32(k as u64).to_f64());
        write(normal, out_d);
        Ok(())
    }

    fn is_shardable(&self) -> bool {
        true
    }
}
