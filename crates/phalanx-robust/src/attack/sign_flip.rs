//! The opposite of what is right.

use super::{Attack, Scene, check, write};
use phalanx_grad::GradError;
use serde::{Deserialize, Serialize};

/// `-scale` times the honest mean.
///
/// # Reference
/// Allen-Zhu et al., "Byzantine-Resilient Non-Convex Stochastic Gradient Descent", ICLR 2021.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct SignFlip {
    /// The factor.
    pub scale: f64,
}

impl Default for SignFlip {
    fn default() -> Self {
        SignFlip { scale: 1.0 }
    }
}

impl Attack for SignFlip {
    fn name(&self) -> &'static str {
        "sign-flip"
    }

    fn forge(&mut self, scene: &Scene<'_>, out_d: &mut [f32]) -> Result<(), GradError> {
        check(self.name(), scene, 1, out_d)?;
        write(scene.mean().into_iter().map(|m| -self.scale * m), out_d);
        Ok(())
    }

    fn is_shared(&self) -> bool {
        true
    }

    fn is_shardable(&self) -> bool {
        true
    }
}
