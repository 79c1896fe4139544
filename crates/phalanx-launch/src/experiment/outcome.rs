//! What one run of an experiment gave.

use anyhow::Context as _;
use phalanx_train::Summary;
use phalanx_train::events::{self, Event, Split, StepDone};
use phalanx_train::rundir::RunPaths;

/// What a method is to reach.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Goal {
    /// A share of right answers on the validation set, 0 to 1.
    Accuracy(f64),
    /// A mean loss on the validation set.
    Loss(f64),
}

/// A score on the validation set.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Scored {
    /// Samples trained on until then.
    pub samples: u64,
    /// Seconds of training until then, without evaluations and checkpoints.
    pub seconds: f64,
    /// Mean loss.
    pub loss: f64,
    /// Share of right answers, 0 to 1.
    pub accuracy: Option<f64>,
}

/// What one run gave.
#[derive(Debug, Clone)]
pub struct Outcome {
    /// Its figures.
    pub summary: Summary,
    /// Samples done and batch of each step, with the seconds it took.
    pub steps: Vec<(u64, u64, f64)>,
    /// Scores on the validation set.
    pub scores: Vec<Scored>,
}

impl Outcome {
    /// Reads the run in a directory.
    ///
    /// # Errors
    /// When it is not done, or its files cannot be read.
    pub fn read(paths: &RunPaths) -> anyhow::Result<Self> {
        let summary = Summary::read(&paths.summary())?;
        let log = events::read(&paths.events()).with_context(|| format!("run {}", paths.root().display()))?;
        Ok(Self::new(summary, &log.events))
    }

    pub(super) fn new(summary: Summary, events: &[Event]) -> Self {
        let (mut steps, mut scores, mut seconds) = (Vec::new(), Vec::new(), 0.0);
        for event in events {
            match event {
                Event::Step(step) => {
                    let took = took(step);
                    seconds += took;
                    steps.push((step.samples, step.batch, took));
                }
                Event::Eval(eval) if eval.split == Split::Validation => scores.push(Scored {
                    samples: eval.samples,
                    seconds,
                    loss: eval.loss,
                    accuracy: eval.accuracy,
                }),
                _ => {}
            }
        }
        Self { summary, steps, scores }
    }

    /// Seconds of all steps, without evaluations and checkpoints.
    #[must_use]
    pub fn seconds(&self) -> f64 {
        self.steps.iter().map(|(_, _, seconds)| seconds).sum()
    }

    /// Seconds of training after which a goal was reached first.
    #[must_use]
    pub fn seconds_to(&self, goal: Goal) -> Option<f64> {
        let is_reached = |score: &&Scored| match goal {
            Goal::Accuracy(least) => score.accuracy.is_some_and(|accuracy| accuracy >= least),
            Goal::Loss(most) => score.loss <= most,
        };
        self.scores.iter().find(is_reached).map(|score| score.seconds)
    }
}

fn took(step: &StepDone) -> f64 {
    if step.samples_per_second > 0.0 { step.batch as f64 / step.samples_per_second } else { 0.0 }
}

/// Mean and, of two values or more, standard deviation.
pub(super) fn spread(values: &[f64]) -> Option<(f64, Option<f64>)> {
    let n = values.len() as f64;
    let mean = values.iter().sum::<f64>() / n;
    let squares: f64 = values.iter().map(|value| (value - mean).powi(2)).sum();
    match values.len() {
        0 => None,
        1 => Some((mean, None)),
        _ => Some((mean, Some((squares / (n - 1.0)).sqrt()))),
    }
}

#[cfg(test)]
mod tests {
    use super::spread;

    #[test]
    fn one_value_has_no_spread() {
        assert_eq!(spread(&[]), None);
        assert_eq!(spread(&[3.0]), Some((3.0, None)));
        assert_eq!(spread(&[1.0, 3.0]), Some((2.0, Some(2.0_f64.sqrt()))));
    }
}
