//! Inner product manipulation.

use super::{Attack, Scene, check, write};
use phalanx_grad::GradError;
use serde::{Deserialize, Serialize};

/// `-epsilon` times the honest mean: a small one passes distance rules, a large one shifts medians.
///
/// # Reference
/// Xie et al., "Fall of Empires: Breaking Byzantine-tolerant SGD by Inner Product Manipulation", UAI 2019.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Ipm {
    /// The factor.
    pub epsilon: f64,
}

impl Default for Ipm {
    fn default() -> Self {
        Ipm { epsilon: 0.1 }
    }
}

impl Attack for Ipm {
    fn name(&self) -> &'static str {
        "ipm"
    }

    fn forge(&mut self, scene: &Scene<'_>, out_d: &mut [f32]) -> Result<(), GradError> {
        check(self.name(), scene, 1, out_d)?;
        write(scene.mean().into_iter().map(|m| -self.epsilon * m), out_d);
        Ok(())
    }

    fn is_shared(&self) -> bool {
        true
    }

    fn is_shardable(&self) -> bool {
        true
    }
}
