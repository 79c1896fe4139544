//! What a user sees while a command works: a bar on a terminal, plain lines elsewhere, log records
//! where logs are JSON, or nothing.

mod bar;
mod format;
mod lines;
mod records;
mod summary;
#[cfg(feature = "mpi")]
mod voice;

use std::time::Duration;

use phalanx_grad::Senders;

pub use bar::Bar;
pub use lines::Lines;
pub use records::Records;
pub use summary::summary;
#[cfg(feature = "mpi")]
pub(crate) use voice::Voice;

/// Shows how far a command is. Methods may be called from any thread, and change nothing.
pub trait Ui: Send + Sync {
    /// A step of training is done.
    fn progress(&self, now: &Progress);

    /// The model was scored on the validation set.
    fn evaluated(&self, score: &Evaluated);

    /// So many bytes of a file of a data set are here.
    fn transferred(&self, file: &str, done: u64, total: Option<u64>);

    /// Something worth a line of its own.
    fn note(&self, text: &str);

    /// Nothing more follows of what went on.
    fn finished(&self);
}

/// How far training is.
#[derive(Debug, Clone, PartialEq)]
pub struct Progress {
    /// Optimizer steps done.
    pub step: u64,
    /// Samples done.
    pub samples: u64,
    /// Samples of the whole run; `None` where only its steps are known.
    pub total_samples: Option<u64>,
    /// Steps of the whole run; `None` where only its samples are known.
    pub total_steps: Option<u64>,
    /// Loss of the last step.
    pub loss: f64,
    /// Share of the last validation that was right, 0 to 1, if there was one with classes.
    pub accuracy: Option<f64>,
    /// Samples a second of late, over all ranks.
    pub samples_per_second: f64,
    /// Samples of the last step, over all ranks.
    pub batch: u64,
    /// What a batch policy's statistics asked for, where they were asked.
    pub target: Option<f64>,
    /// Whom the rule over ranks left out of the last step.
    pub left_out: LeftOut,
}

/// Some ranks or nodes.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct LeftOut {
    /// What they are.
    pub senders: Senders,
    /// Their numbers.
    pub numbers: Vec<u64>,
}

/// A score on the validation set.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Evaluated {
    /// Optimizer steps done.
    pub step: u64,
    /// Mean loss.
    pub loss: f64,
    /// Share that was right, 0 to 1; `None` if the data have no classes.
    pub accuracy: Option<f64>,
}

impl Progress {
    /// The done share of the run, 0 to 1: of its samples, else of its steps; `None` if neither
    /// total is known.
    #[must_use]
    pub fn fraction(&self) -> Option<f64> {
        let share = |done: u64, total: Option<u64>| {
            total.filter(|total| *total > 0).map(|total| (float(done) / float(total)).min(1.0))
        };
        share(self.samples, self.total_samples).or_else(|| share(self.step, self.total_steps))
    }

    /// The time that is left at the speed of late.
    #[must_use]
    pub fn left(&self) -> Option<Duration> {
        let total = self.total_samples.or_else(|| {
            let steps_left = self.total_steps?.saturating_sub(self.step);
            Some(self.samples + steps_left.saturating_mul(self.batch))
        })?;
        let seconds = float(total.saturating_sub(self.samples)) / self.samples_per_second;
        Duration::try_from_secs_f64(seconds).ok()
    }
}

#[expect(clippy::cast_precision_loss, reason = "shown with few digits")]
fn float(count: u64) -> f64 {
    count as f64
}

/// Shows nothing.
#[derive(Debug, Clone, Copy)]
pub struct Silent;

impl Ui for Silent {
    fn progress(&self, _: &Progress) {}

    fn evaluated(&self, _: &Evaluated) {}

    fn transferred(&self, _: &str, _: u64, _: Option<u64>) {}

    fn note(&self, _: &str) {}

    fn finished(&self) {}
}

#[cfg(test)]
mod tests {
    use super::{LeftOut, Progress, Senders};
    use std::time::Duration;

    const HALF: Progress = Progress {
        step: 10,
        samples: 640,
        total_samples: Some(1280),
        total_steps: None,
        loss: 0.5,
        accuracy: None,
        samples_per_second: 64.0,
        batch: 64,
        target: None,
        left_out: LeftOut { senders: Senders::Ranks, numbers: Vec::new() },
    };

    #[test]
    fn the_share_is_that_of_samples() {
        assert_eq!(HALF.fraction(), Some(0.5));
        assert_eq!(HALF.left(), Some(Duration::from_secs(10)));
    }

    #[test]
    fn without_a_total_of_samples_steps_count() {
        let by_steps = Progress { total_samples: None, total_steps: Some(40), ..HALF };
        assert_eq!(by_steps.fraction(), Some(0.25));
        assert_eq!(by_steps.left(), Some(Duration::from_secs(30)));
    }

    #[test]
    fn an_unknown_end_or_speed_shows_no_time() {
        assert_eq!(Progress { total_samples: None, ..HALF }.fraction(), None);
        assert_eq!(Progress { samples_per_second: 0.0, ..HALF }.left(), None);
        assert_eq!(Progress { samples: 2000, ..HALF }.fraction(), Some(1.0));
    }
}
