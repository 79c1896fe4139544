//! Model replacement: an update so long that it outweighs the others.

use super::{Attack, Scene, check, write};
use phalanx_grad::GradError;
use serde::{Deserialize, Serialize};

/// The attacker's own update times a factor: with `n` over the server's learning rate, the mean becomes its model.
///
/// # Reference
/// Bagdasaryan et al., "How To Backdoor Federated Learning", AISTATS 2020.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct ModelReplacement {
    /// The factor; not given, the number of vectors over that of attackers.
    pub factor: Option<f64>,
}

impl Attack for ModelReplacement {
    fn name(&self) -> &'static str {
        "model-replacement"
    }

    fn forge(&mut self, scene: &Scene<'_>, out_d: &mut [f32]) -> Result<(), GradError> {
        check(self.name(), scene, 0, out_d)?;
        let factor = self.factor.unwrap_or(scene.n() as f64 / scene.attackers.max(1) as f64);
        write(scene.own.iter().map(|x| factor * f64::from(*x)), out_d);
        Ok(())
    }

    fn is_shardable(&self) -> bool {
        true
    }
}
