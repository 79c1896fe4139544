//! A base learning rate and how it moves.

use phalanx_grad::{Progress, Schedule};

/// The learning rate of a run: a base rate times a schedule.
///
/// # Examples
/// ```
/// use phalanx_grad::Progress;
/// use phalanx_optim::{Cosine, Scheduled};
/// let rate = Scheduled::new(0.5, Box::new(Cosine::default()));
/// assert_eq!(rate.lr(Progress { samples: 0, total: 1000 }), 0.5);
/// assert_eq!(rate.lr(Progress { samples: 500, total: 1000 }), 0.25);
/// ```
#[derive(Debug)]
pub struct Scheduled {
    base: f64,
    schedule: Box<dyn Schedule>,
}

impl Scheduled {
    /// The rate `base` under a schedule.
    #[must_use]
    pub fn new(base: f64, schedule: Box<dyn Schedule>) -> Self {
        Scheduled { base, schedule }
    }

    /// The learning rate of the step that begins at `progress`.
    #[must_use]
    pub fn lr(&self, progress: Progress) -> f64 {
        self.base * self.schedule.factor(progress)
    }

    /// The base rate.
    #[must_use]
    pub fn base(&self) -> f64 {
        self.base
    }

    /// The schedule.
    #[must_use]
    pub fn schedule(&self) -> &dyn Schedule {
        &*self.schedule
    }
}
