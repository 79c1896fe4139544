//! A schedule from the gradient norms that a run recorded.

use anyhow::ensure;
use phalanx_optim::{NormAt, Point, Weighting, refine as refined, resampled};
use phalanx_train::events::{self, Event, StepDone};
use phalanx_train::rundir::RunPaths;

use crate::runfile::{Rule, Run};

/// Points that a schedule file holds at most; more than a curve has bends.
const MOST_POINTS: usize = 1001;

/// A refined schedule.
#[derive(Debug, Clone)]
pub struct Refinement {
    /// Steps that were looked at.
    pub steps: usize,
    /// The norm that was used.
    pub weighting: Weighting,
    /// The schedule.
    pub points: Vec<Point>,
}

/// Refines the schedule of a run by the norms of its gradients: the Euclidean one for SGD and AdaGrad-Norm, the sum of magnitudes for
/// methods with a rate a coordinate, unless `weighting` says which.
///
/// # Errors
/// When the run left no events, or none with a norm.
pub fn refine(
    run: &Run,
    paths: &RunPaths,
    weighting: Option<Weighting>,
    window: f64,
) -> anyhow::Result<Refinement> {
    let log = events::read(&paths.events())?;
    let steps: Vec<StepDone> = log
        .events
        .into_iter()
        .filter_map(|event| match event {
            Event::Step(step) => Some(step),
            _ => None,
        })
        .collect();
    ensure!(!steps.is_empty(), "{} tells of no step", paths.events().display());
    let weighting = weighting.unwrap_or(match run.optimizer.rule {
        Rule::Sgd { .. } | Rule::AdaGradNorm { .. } => Weighting::Euclidean,
        Rule::AdamW { .. } | Rule::AdaGrad { .. } => Weighting::Absolute,
    });
    let points = resampled(&refined(&norms(&steps, weighting), weighting, window)?, MOST_POINTS);
    Ok(Refinement { steps: steps.len(), weighting, points })
}

/// Where each step began, as a share of the samples of the run so far, and its norm.
fn norms(steps: &[StepDone], weighting: Weighting) -> Vec<NormAt> {
    let total = steps.last().map_or(1, |step| step.samples.max(1)) as f64;
    let at = |step: &StepDone| {
        let norm = match weighting {
            Weighting::Euclidean => step.grad_norm,
            Weighting::Absolute => step.grad_norm_l1,
        };
        let before = step.samples.saturating_sub(step.batch) as f64;
        NormAt { position: before / total, norm: norm.unwrap_or(f64::NAN) }
    };
    steps.iter().map(at).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_step_stands_where_it_began() {
        let step = |samples, batch, norm| StepDone {
            samples,
            batch,
            grad_norm: Some(norm),
            grad_norm_l1: Some(10.0 * norm),
            ..StepDone::default()
        };
        let steps = [step(10, 10, 2.0), step(40, 30, 1.0), step(100, 60, 0.5)];
        let positions: Vec<f64> = norms(&steps, Weighting::Euclidean).iter().map(|at| at.position).collect();
        assert_eq!(positions, [0.0, 0.1, 0.4]);
        assert_eq!(norms(&steps, Weighting::Absolute)[1].norm, 10.0);
    }
}
