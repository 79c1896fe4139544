//! ALIE and IPM with the factor that harms a known rule most.

use super::{Attack, Scene, check};
use crate::Robust;
use phalanx_grad::GradError;
use phalanx_tensor::Float;

/// Factors that are tried.
const TRIES: usize = 20;

/// The honest mean plus `z` deviations, with the `z` at which a rule is farthest from the honest mean.
///
/// The search starts at 0 with steps of 10 that double while they help, then shrink by a fifth: 20 tries.
///
/// # Reference
/// Baruch et al., NeurIPS 2019; the search in El Mhamdi et al., "Distributed Momentum for Byzantine-resilient
/// Stochastic Gradient Descent", ICLR 2021.
#[derive(Debug)]
pub struct OptAlie {
    rule: Robust,
}

/// Minus `epsilon` times the honest mean, with the `epsilon` at which a rule is farthest from the honest mean.
///
/// The search is that of [`OptAlie`].
///
/// # Reference
/// Xie et al., UAI 2019; the search in El Mhamdi et al., ICLR 2021.
#[derive(Debug)]
pub struct OptIpm {
    rule: Robust,
}

impl OptAlie {
    /// Against a rule; what it would remember from step to step is not known to the attacker.
    #[must_use]
    pub fn against(rule: Robust) -> Self {
        OptAlie { rule }
    }
}

impl OptIpm {
    /// Against a rule; what it would remember from step to step is not known to the attacker.
    #[must_use]
    pub fn against(rule: Robust) -> Self {
        OptIpm { rule }
    }
}

impl Attack for OptAlie {
    fn name(&self) -> &'static str {
        "opt-alie"
    }

    fn forge(&mut self, scene: &Scene<'_>, out_d: &mut [f32]) -> Result<(), GradError> {
        check(self.name(), scene, 1, out_d)?;
        let mean = scene.mean();
        let direction = scene.deviation(&mean, 1);
        harmful(&mut self.rule, scene, &mean, &direction, out_d)
    }

    fn is_shared(&self) -> bool {
        true
    }

    fn is_shardable(&self) -> bool {
        self.rule.is_shardable()
    }
}

impl Attack for OptIpm {
    fn name(&self) -> &'static str {
        "opt-ipm"
    }

    fn forge(&mut self, scene: &Scene<'_>, out_d: &mut [f32]) -> Result<(), GradError> {
        check(self.name(), scene, 1, out_d)?;
        let mean = scene.mean();
        let direction: Vec<f64> = mean.iter().map(|m| -m).collect();
        harmful(&mut self.rule, scene, &vec![0.0; mean.len()], &direction, out_d)
    }

    fn is_shared(&self) -> bool {
        true
    }

    fn is_shardable(&self) -> bool {
        self.rule.is_shardable()
    }
}

/// Writes `base + x direction` for the `x` that leads the rule farthest from the honest mean.
fn harmful(
    rule: &mut Robust,
    scene: &Scene<'_>,
    base: &[f64],
    direction: &[f64],
    out_d: &mut [f32],
) -> Result<(), GradError> {
    let mean = scene.mean();
    let mut result = vec![0.0; out_d.len()];
    let write =
        |x: f64, out_d: &mut [f32]| super::write(base.iter().zip(direction).map(|(b, p)| b + x * p), out_d);
    let mut harm = |x: f64| {
        write(x, out_d);
        match rule.attempt(scene.step, &scene.received(out_d), &mut result) {
            Ok(_) => {
                let away: Vec<f64> = result.iter().zip(&mean).map(|(x, m)| x.to_f64() - m).collect();
                scene.length(&away)
            }
            Err(error @ GradError::Comm(_)) => Err(error),
            // a rule that refuses is not harmed
            Err(_) => Ok(f64::NEG_INFINITY),
        }
    };
    let best = search(&mut harm)?;
    write(best, out_d);
    Ok(())
}

fn search(harm: &mut impl FnMut(f64) -> Result<f64, GradError>) -> Result<f64, GradError> {
    let (mut best, mut step) = ((0.0, harm(0.0)?), 10.0);
    let mut left = TRIES - 1;
    while left > 0 {
        let next = best.0 + step;
        let now = harm(next)?;
        left -= 1;
        if now <= best.1 {
            break;
        }
        best = (next, now);
        step *= 2.0;
    }
    let mut side = -1.0;
    while left > 0 {
        step *= 0.8;
        let next: f64 = best.0 + side * step;
        side = -side;
        if next >= 0.0 {
            let now = harm(next)?;
            if now > best.1 {
                best = (next, now);
            }
        }
        left -= 1;
    }
    Ok(best.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_search_finds_a_peak_near_and_far() {
        for peak in [0.7, 25.0, 900.0] {
            let found = search(&mut |x: f64| Ok(-(x - peak).abs())).unwrap();
            assert!((found - peak).abs() < 0.35 * peak.max(6.0), "{found}, want {peak}");
        }
    }
}
