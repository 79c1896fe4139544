//! What the learning rate makes of a batch that is not the one it was tuned for.

mod adascale;
mod linear;
mod saturating;
mod square_root;

pub use adascale::AdaScale;
pub use linear::Linear;
pub use saturating::Saturating;
pub use square_root::SquareRoot;

use crate::BatchError;
use crate::error::Check;
use phalanx_comm::Agreed;
use phalanx_grad::{BatchContext, Chunks, GradError, Needs, PolicyState, ScalarBlock};
use std::fmt::Debug;

/// The factor on the learning rate of a step: 1 at the batch that the rate was tuned for.
///
/// # Collective
/// No: a function of what all ranks agreed on.
pub trait RateRule: Debug + Send {
    /// The name, as in a run file.
    fn name(&self) -> &'static str;

    /// What every step must measure.
    fn needs(&self) -> Needs;

    /// The factor for the step of these statistics.
    ///
    /// # Errors
    /// What the estimators of [`ScalarBlock`] give, but for [`GradError::Undefined`].
    fn factor(&mut self, statistics: &Agreed<ScalarBlock>, context: &BatchContext) -> Result<f64, GradError>;

    /// Everything that later factors depend on.
    fn state(&self) -> PolicyState;

    /// Takes back what [`state`](Self::state) gave.
    ///
    /// # Errors
    /// [`GradError::PolicyState`] when the state is of another version or damaged.
    fn restore(&mut self, state: &PolicyState) -> Result<(), GradError>;
}

/// The settings of any rule of the learning rate.
///
/// # Examples
/// ```
/// use phalanx_batch::{BatchError, RateConfig};
/// for name in RateConfig::NAMES {
///     let rule = RateConfig::from_name(name, 64)?.build()?;
///     assert_eq!(rule.map_or("none", |rule| rule.name()), *name);
/// }
/// # Ok::<(), BatchError>(())
/// ```
#[derive(Clone, Copy, Debug, PartialEq)]
#[non_exhaustive]
pub enum RateConfig {
    /// The rate does not follow the batch.
    None,
    /// In proportion to the batch.
    Linear {
        /// The batch that the rate was tuned for, in samples.
        base: u64,
    },
    /// In proportion to the root of the batch.
    SquareRoot {
        /// The batch that the rate was tuned for, in samples.
        base: u64,
    },
    /// In proportion to small batches, level above the noise scale.
    Saturating(Measured),
    /// By `AdaScale`'s gain.
    AdaScale(Measured),
}

/// Settings of a rule that measures.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Measured {
    /// The batch that the rate was tuned for, in samples.
    pub base: u64,
    /// Whose gradients are compared.
    pub chunks: Chunks,
    /// Decay of the running means of variance and signal, from 0 to below 1.
    pub ema: f64,
}

impl RateConfig {
    /// The names of all rules, as in a run file.
    pub const NAMES: &[&str] = &["none", "linear", "square-root", "saturating", "adascale"];

    /// The default settings of the rule of a name, for a rate that was tuned for a batch of `base` samples.
    ///
    /// # Errors
    /// [`BatchError::UnknownRate`] lists the names there are.
    pub fn from_name(name: &str, base: u64) -> Result<Self, BatchError> {
        let measured = Measured { base, chunks: Chunks::Ranks, ema: 0.99 };
        match name {
            "none" => Ok(Self::None),
            "linear" => Ok(Self::Linear { base }),
            "square-root" => Ok(Self::SquareRoot { base }),
            "saturating" => Ok(Self::Saturating(measured)),
            "adascale" => Ok(Self::AdaScale(measured)),
            _ => Err(BatchError::UnknownRate { name: name.to_owned(), known: Self::NAMES }),
        }
    }

    /// The rule with these settings; none where the rate does not follow the batch.
    ///
    /// # Errors
    /// [`BatchError::Field`] names the first setting out of range.
    pub fn build(&self) -> Result<Option<Box<dyn RateRule>>, BatchError> {
        let check = |owner, base| Check(owner).at_least_one("base", base);
        Ok(match *self {
            Self::None => None,
            Self::Linear { base } => {
                check("linear", base)?;
                Some(Box::new(Linear { base }))
            }
            Self::SquareRoot { base } => {
                check("square-root", base)?;
                Some(Box::new(SquareRoot { base }))
            }
            Self::Saturating(measured) => {
                measured.validate("saturating")?;
                Some(Box::new(Saturating::new(measured)))
            }
            Self::AdaScale(measured) => {
                measured.validate("adascale")?;
                Some(Box::new(AdaScale::new(measured)))
            }
        })
    }
}

impl Measured {
    fn validate(&self, owner: &'static str) -> Result<(), BatchError> {
        let check = Check(owner);
        check.at_least_one("base", self.base)?;
        check.decay("ema", self.ema)
    }
}
