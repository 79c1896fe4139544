//! Attacks made for Krum and for the trimmed mean.

use super::{Attack, Scene, check, write};
use crate::{Krum, Robust};
use phalanx_grad::GradError;
use phalanx_tensor::rng::{Purpose, Stream};
use serde::{Deserialize, Serialize};

/// `-lambda` times the sign of the honest mean, with the largest `lambda`, halved from above, that Krum selects.
///
/// # Reference
/// Fang et al., "Local Model Poisoning Attacks to Byzantine-Robust Federated Learning", USENIX Security 2020.
///
/// # Deviation
/// All attackers send one vector, and the search starts at twice the longest honest vector's root mean square.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct FangKrum;

/// In each coordinate beyond the honest extreme on the side where the mean is not: up to twice as far out.
///
/// # Reference
/// Fang et al., "Local Model Poisoning Attacks to Byzantine-Robust Federated Learning", USENIX Security 2020.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct FangTrimmedMean;

impl Attack for FangKrum {
    fn name(&self) -> &'static str {
        "fang-krum"
    }

    fn forge(&mut self, scene: &Scene<'_>, out_d: &mut [f32]) -> Result<(), GradError> {
        check(self.name(), scene, 1, out_d)?;
        let mean = scene.mean();
        let squares = scene.sums(scene.honest.len(), |columns, sums| {
            let of_row = |row: &&[f32]| row[columns.clone()].iter().map(|x| f64::from(*x).powi(2)).sum();
            sums.iter_mut().zip(scene.honest).for_each(|(sum, row)| *sum = of_row(row));
        })?;
        let longest = (squares.into_iter().fold(0.0, f64::max) / scene.dim().max(1) as f64).sqrt();
        let mut lambda = 2.0 * longest;
        let mut result = vec![0.0; mean.len()];
        let mut krum = Robust::new(scene.attackers, Krum::default());
        loop {
            write(mean.iter().map(|m| if *m == 0.0 { 0.0 } else { -lambda * m.signum() }), out_d);
            let report = krum.attempt(scene.step, &scene.received(out_d), &mut result)?;
            let is_selected =
                report.weights.iter().any(|(id, weight)| *weight > 0.0 && *id >= scene.honest.len() as u64);
            if is_selected || lambda <= 1e-5 * longest {
                return Ok(());
            }
            lambda /= 2.0;
        }
    }

    fn is_shared(&self) -> bool {
        true
    }

    fn is_shardable(&self) -> bool {
        true
    }
}

impl Attack for FangTrimmedMean {
    fn name(&self) -> &'static str {
        "fang-trimmed-mean"
    }

    fn forge(&mut self, scene: &Scene<'_>, out_d: &mut [f32]) -> Result<(), GradError> {
        check(self.name(), scene, 1, out_d)?;
        let step = scene.step * scene.attackers.max(1) as u64 + scene.index as u64;
        let draw = Stream::new(scene.seed, Purpose::Attack, step);
        let first = scene.coordinates().start;
        let beyond = scene.mean().into_iter().enumerate().map(|(k, mean)| {
            let column = || scene.honest.iter().map(|row| f64::from(row[k]));
            let extreme = if mean > 0.0 {
                column().fold(f64::INFINITY, f64::min)
            } else {
                column().fold(f64::NEG_INFINITY, f64::max)
            };
            let outwards = if mean > 0.0 { -1.0 } else { 1.0 };
            extreme + outwards * extreme.abs() * f64::from(draw.uniform_f32((first + k) as u64))
        });
        write(beyond, out_d);
        Ok(())
    }

    fn is_shardable(&self) -> bool {
        true
    }
}
