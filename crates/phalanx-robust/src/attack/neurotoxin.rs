//! Neurotoxin: a backdoor in the coordinates that honest updates leave alone.

use super::{Attack, Scene, check};
use phalanx_grad::GradError;
use serde::{Deserialize, Serialize};

/// The attacker's own update, with 0 in the coordinates where the honest mean is greatest in magnitude.
///
/// # Reference
/// Zhang et al., "Neurotoxin: Durable Backdoors in Federated Learning", ICML 2022.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Neurotoxin {
    /// The share of coordinates that is left to the honest.
    pub top: f64,
}

impl Default for Neurotoxin {
    fn default() -> Self {
        Neurotoxin { top: 0.1 }
    }
}

impl Attack for Neurotoxin {
    fn name(&self) -> &'static str {
        "neurotoxin"
    }

    fn forge(&mut self, scene: &Scene<'_>, out_d: &mut [f32]) -> Result<(), GradError> {
        check(self.name(), scene, 1, out_d)?;
        let top = crate::rule::positive(self.name(), "top", self.top)?.min(1.0);
        let mean = scene.mean();
        let mut order: Vec<usize> = (0..mean.len()).collect();
        order.sort_by(|i, j| mean[*j].abs().total_cmp(&mean[*i].abs()).then(i.cmp(j)));
        #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "at most d, rounded up")]
        let count = (top * mean.len() as f64).ceil() as usize;
        out_d.copy_from_slice(scene.own);
        order.into_iter().take(count).for_each(|k| out_d[k] = 0.0);
        Ok(())
    }
}
