//! Learning-rate schedules by their names, and the warm-up that they share.

mod constant;
mod cosine;
mod linear;
mod refined;

pub use constant::Constant;
pub use cosine::Cosine;
pub use linear::LinearDecay;
pub use refined::{Point, Refined, resampled};

use crate::OptimError;
use crate::error::Check;
use phalanx_grad::{Progress, Schedule};

/// The settings of any schedule.
///
/// # Examples
/// ```
/// use phalanx_optim::{OptimError, ScheduleConfig};
/// for name in ScheduleConfig::NAMES {
///     assert_eq!(ScheduleConfig::from_name(name)?.build()?.name(), *name);
/// }
/// assert!(ScheduleConfig::from_name("step").is_err());
/// # Ok::<(), OptimError>(())
/// ```
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub enum ScheduleConfig {
    /// The base rate throughout.
    Constant(Constant),
    /// Down along a line.
    Linear(LinearDecay),
    /// Down along half a cosine.
    Cosine(Cosine),
    /// Along points, as the norms of an earlier run's gradients ask for.
    Refined(Refined),
}

impl ScheduleConfig {
    /// The names of all schedules, as in a run file.
    pub const NAMES: &[&str] = &["constant", "linear", "cosine", "refined"];

    /// The default settings of the schedule of a name.
    ///
    /// # Errors
    /// [`OptimError::UnknownSchedule`] lists the names there are.
    pub fn from_name(name: &str) -> Result<Self, OptimError> {
        match name {
            "constant" => Ok(Self::Constant(Constant::default())),
            "linear" => Ok(Self::Linear(LinearDecay::default())),
            "cosine" => Ok(Self::Cosine(Cosine::default())),
            "refined" => Ok(Self::Refined(Refined::default())),
            _ => Err(OptimError::UnknownSchedule { name: name.to_owned(), known: Self::NAMES }),
        }
    }

    /// Checks that every setting is in range.
    ///
    /// # Errors
    /// [`OptimError::Field`] names the first that is not.
    pub fn validate(&self) -> Result<(), OptimError> {
        match self {
            Self::Constant(_) | Self::Refined(_) => Ok(()),
            Self::Linear(schedule) => schedule.validate(),
            Self::Cosine(schedule) => schedule.validate(),
        }
    }

    /// The schedule with these settings.
    ///
    /// # Errors
    /// As [`validate`](Self::validate).
    pub fn build(&self) -> Result<Box<dyn Schedule>, OptimError> {
        self.validate()?;
        Ok(match self {
            Self::Constant(schedule) => Box::new(*schedule),
            Self::Linear(schedule) => Box::new(*schedule),
            Self::Cosine(schedule) => Box::new(*schedule),
            Self::Refined(schedule) => Box::new(schedule.clone()),
        })
    }
}

/// `samples / warmup` while fewer samples than `warmup` were seen.
fn warmup_factor(progress: Progress, warmup: u64) -> Option<f64> {
    (progress.samples < warmup).then(|| progress.samples as f64 / warmup as f64)
}

/// The share done of what follows the warm-up, from 0 to 1.
fn decay_position(progress: Progress, warmup: u64) -> f64 {
    let done = progress.samples.saturating_sub(warmup) as f64;
    match progress.total.saturating_sub(warmup) {
        0 => 1.0,
        rest => (done / rest as f64).min(1.0),
    }
}

/// A shape that falls from 1 to 0, made to end at `final_factor`.
fn towards(final_factor: f64, shape: f64) -> f64 {
    final_factor + (1.0 - final_factor) * shape
}

fn check_final_factor(owner: &'static str, got: f64) -> Result<(), OptimError> {
    Check(owner).that((0.0..=1.0).contains(&got), "final_factor", got, "a number from 0 to 1")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn factors(schedule: &dyn Schedule, samples: &[u64]) -> Vec<f64> {
        samples.iter().map(|samples| schedule.factor(Progress { samples: *samples, total: 1000 })).collect()
    }

    const AT: [u64; 7] = [0, 100, 199, 200, 400, 600, 1000];

    #[test]
    fn all_rise_alike() {
        let constant = Constant { warmup_samples: 200 };
        assert_eq!(factors(&constant, &AT), [0.0, 0.5, 0.995, 1.0, 1.0, 1.0, 1.0]);
        let linear = LinearDecay { warmup_samples: 200, final_factor: 0.0 };
        assert_eq!(factors(&linear, &AT), [0.0, 0.5, 0.995, 1.0, 0.75, 0.5, 0.0]);
        let cosine = Cosine { warmup_samples: 200, final_factor: 0.0 };
        let got = factors(&cosine, &AT);
        assert_eq!(got[..4], [0.0, 0.5, 0.995, 1.0]);
        // (1 + cos(pi / 4)) / 2, (1 + cos(pi / 2)) / 2, 0
        for (got, want) in got[4..].iter().zip([0.853_553_390_6, 0.5, 0.0]) {
            assert!((got - want).abs() < 1e-10, "{got}, want {want}");
        }
    }

    #[test]
    fn decays_end_where_they_are_told_and_stay_there() {
        let linear = LinearDecay { warmup_samples: 0, final_factor: 0.25 };
        assert_eq!(factors(&linear, &[0, 500, 1000, 5000]), [1.0, 0.625, 0.25, 0.25]);
        let cosine = Cosine { warmup_samples: 0, final_factor: 0.25 };
        let got = factors(&cosine, &[0, 500, 1000, 5000]);
        for (got, want) in got.iter().zip([1.0, 0.625, 0.25, 0.25]) {
            assert!((got - want).abs() < 1e-15, "{got}, want {want}");
        }
    }

    #[test]
    fn a_warmup_longer_than_the_run_never_decays() {
        let linear = LinearDecay { warmup_samples: 2000, final_factor: 0.0 };
        assert_eq!(factors(&linear, &[0, 1000, 2000]), [0.0, 0.5, 0.0]);
    }

    #[test]
    fn the_size_of_steps_does_not_move_a_schedule() {
        // the same run in steps of 10 and of 250 samples: equal rates where both have a step
        let cosine = Cosine { warmup_samples: 100, final_factor: 0.1 };
        let fine = factors(&cosine, &(0..100).map(|k| 10 * k).collect::<Vec<_>>());
        let coarse = factors(&cosine, &[0, 250, 500, 750]);
        assert_eq!([fine[0], fine[25], fine[50], fine[75]], coarse[..]);
    }

    #[test]
    fn a_final_factor_out_of_range_is_named() {
        for final_factor in [-0.1, 1.5, f64::NAN] {
            let linear = ScheduleConfig::Linear(LinearDecay { final_factor, warmup_samples: 0 });
            let cosine = ScheduleConfig::Cosine(Cosine { final_factor, warmup_samples: 0 });
            for (schedule, name) in [(linear, "linear"), (cosine, "cosine")] {
                match schedule.build().unwrap_err() {
                    OptimError::Field { owner, field: "final_factor", .. } => assert_eq!(owner, name),
                    other => panic!("{other:?}"),
                }
            }
        }
    }
}
