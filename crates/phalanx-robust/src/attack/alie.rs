//! A little is enough.

use super::{Attack, Scene, check, write};
use phalanx_grad::GradError;
use phalanx_tensor::Float;
use serde::{Deserialize, Serialize};

/// The honest mean plus `z` standard deviations in each coordinate: near enough that a majority lies farther out.
///
/// # Reference
/// Baruch et al., "A Little Is Enough: Circumventing Defenses For Distributed Learning", NeurIPS 2019.
///
/// # Deviation
/// The deviation divides by one less than the number of honest; the sign is a setting, as libraries differ in it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Alie {
    /// How many deviations, of either sign; not given, [`z_max`] of the numbers at hand.
    pub z: Option<f64>,
}

impl Attack for Alie {
    fn name(&self) -> &'static str {
        "alie"
    }

    fn forge(&mut self, scene: &Scene<'_>, out_d: &mut [f32]) -> Result<(), GradError> {
        check(self.name(), scene, 1, out_d)?;
        let z = self.z.unwrap_or_else(|| z_max(scene.n(), scene.attackers));
        let mean = scene.mean();
        let deviation = scene.deviation(&mean, 1);
        write(mean.iter().zip(deviation).map(|(m, s)| m + z * s), out_d);
        Ok(())
    }

    fn is_shared(&self) -> bool {
        true
    }

    fn is_shardable(&self) -> bool {
        true
    }
}

/// The most deviations at which, with `m` of `n` hostile, enough honest vectors are expected farther out to make a
/// majority with the attackers.
///
/// # Examples
/// ```
/// use phalanx_robust::attack::z_max;
/// assert_eq!(z_max(10, 2), 0.0);
/// assert!((z_max(20, 4) - 0.1573106846).abs() < 1e-9);
/// assert!((z_max(50, 12) - 0.3360381404).abs() < 1e-9);
/// assert!((z_max(50, 24) - 1.4260768723).abs() < 1e-9);
/// ```
#[must_use]
pub fn z_max(n: usize, m: usize) -> f64 {
    let honest = n.saturating_sub(m).max(1);
    let supporters = (n / 2 + 1).saturating_sub(m).min(honest);
    normal_quantile((honest - supporters) as f64 / honest as f64)
}

/// Where the normal distribution function has a value, between -8 and 8.
fn normal_quantile(p: f64) -> f64 {
    let below = |z: f64| 0.5 * (1.0 + Float::erf(z / std::f64::consts::SQRT_2));
    let (mut low, mut high) = (-8.0, 8.0);
    if p == 0.5 {
        return 0.0;
    }
    for _ in 0..100 {
        let middle = f64::midpoint(low, high);
        if below(middle) < p { low = middle } else { high = middle }
    }
    f64::midpoint(low, high)
}
