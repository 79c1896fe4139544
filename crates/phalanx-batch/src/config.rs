//! Every policy by its name.

use crate::{
    AugmentedTest, BatchError, Cabs, CabsConfig, Constant, CoordinateTest, DiveBatch, DiveBatchConfig,
    Goodput, GoodputConfig, GradientTest, InnerProductTest, NoiseScale, NoiseScaleConfig, NormTest, Ramp,
    RampConfig, SimiGrad, SimiGradConfig, Stages, StagesConfig, TestConfig,
};
use phalanx_grad::BatchPolicy;

/// The settings of any policy.
///
/// # Examples
/// ```
/// use phalanx_batch::{BatchError, PolicyConfig, Run};
/// let run = Run { batch: 64, epoch: 50_000 };
/// for name in PolicyConfig::NAMES {
///     assert_eq!(PolicyConfig::from_name(name, &run)?.build()?.name(), *name);
/// }
/// let unknown = PolicyConfig::from_name("growing", &run).unwrap_err().to_string();
/// assert!(unknown.starts_with("no batch policy is named growing, there are constant, norm-test"), "{unknown}");
/// # Ok::<(), BatchError>(())
/// ```
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub enum PolicyConfig {
    /// The batch keeps its size.
    Constant,
    /// Norm test.
    NormTest(NormTest, TestConfig),
    /// Inner-product test.
    InnerProductTest(InnerProductTest, TestConfig),
    /// Augmented inner-product test.
    AugmentedTest(AugmentedTest, TestConfig),
    /// Coordinate-wise norm test.
    CoordinateTest(CoordinateTest, TestConfig),
    /// The noise scale, with hysteresis.
    NoiseScale(NoiseScaleConfig),
    /// Pollux's goodput.
    Goodput(GoodputConfig),
    /// CABS.
    Cabs(CabsConfig),
    /// `SimiGrad`.
    SimiGrad(SimiGradConfig),
    /// `DiveBatch`.
    DiveBatch(DiveBatchConfig),
    /// A list of sizes.
    Stages(StagesConfig),
    /// The same increment after every step.
    Ramp(RampConfig),
}

/// What the defaults of some policies follow from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Run {
    /// The batch that the run begins with, in samples.
    pub batch: u64,
    /// Samples of an epoch.
    pub epoch: u64,
}

impl PolicyConfig {
    /// The names of all policies.
    pub const NAMES: &[&str] = &[
        "constant",
        "norm-test",
        "inner-product-test",
        "augmented-test",
        "coordinate-test",
        "noise-scale",
        "goodput",
        "cabs",
        "simigrad",
        "divebatch",
        "stages",
        "ramp",
    ];

    /// The default settings of the policy of a name.
    ///
    /// # Errors
    /// [`BatchError::UnknownPolicy`] lists the names there are.
    pub fn from_name(name: &str, run: &Run) -> Result<Self, BatchError> {
        let test = TestConfig::default();
        Ok(match name {
            "constant" => Self::Constant,
            "norm-test" => Self::NormTest(NormTest::default(), test),
            "inner-product-test" => Self::InnerProductTest(InnerProductTest::default(), test),
            "augmented-test" => Self::AugmentedTest(AugmentedTest::default(), test),
            "coordinate-test" => Self::CoordinateTest(CoordinateTest::default(), test),
            "noise-scale" => Self::NoiseScale(NoiseScaleConfig::default()),
            "goodput" => Self::Goodput(GoodputConfig::of_base(run.batch)),
            "cabs" => Self::Cabs(CabsConfig::default()),
            "simigrad" => Self::SimiGrad(SimiGradConfig::default()),
            "divebatch" => Self::DiveBatch(DiveBatchConfig::of_epoch(run.epoch)),
            "stages" => Self::Stages(StagesConfig { sizes: vec![run.batch] }),
            "ramp" => Self::Ramp(RampConfig::default()),
            _ => return Err(BatchError::UnknownPolicy { name: name.to_owned(), known: Self::NAMES }),
        })
    }

    /// The policy with these settings.
    ///
    /// # Errors
    /// [`BatchError::Field`] or [`BatchError::Below`] names the first setting out of range.
    pub fn build(&self) -> Result<Box<dyn BatchPolicy>, BatchError> {
        Ok(match self {
            Self::Constant => Box::new(Constant),
            Self::NormTest(test, config) => Box::new(GradientTest::new(*test, *config)?),
            Self::InnerProductTest(test, config) => Box::new(GradientTest::new(*test, *config)?),
            Self::AugmentedTest(test, config) => Box::new(GradientTest::new(*test, *config)?),
            Self::CoordinateTest(test, config) => Box::new(GradientTest::new(*test, *config)?),
            Self::NoiseScale(config) => Box::new(NoiseScale::new(*config)?),
            Self::Goodput(config) => Box::new(Goodput::new(*config)?),
            Self::Cabs(config) => Box::new(Cabs::new(*config)?),
            Self::SimiGrad(config) => Box::new(SimiGrad::new(*config)?),
            Self::DiveBatch(config) => Box::new(DiveBatch::new(*config)?),
            Self::Stages(config) => Box::new(Stages::new(config.clone())?),
            Self::Ramp(config) => Box::new(Ramp::new(*config)?),
        })
    }
}
