//! From the section `[batch]` to a policy of the batch and a rule of the learning rate.

use phalanx_batch::{
    AugmentedTest, BatchError, CabsConfig, CoordinateTest, Denominator, DiveBatchConfig, GoodputConfig,
    InnerProductTest, Measured, NoiseScaleConfig, NormTest, Pace, PolicyConfig, RampConfig, RateConfig,
    Rated, SimiGradConfig, StagesConfig, TestConfig,
};
use phalanx_grad::{BatchPolicy, Chunks, CoordinateRule};

use crate::runfile::{self, BatchPolicy as Kind, Coordinates, LrScaling, Run, Statistic};

/// Decay of the running means behind a learning rate that follows the gradient.
const RATE_EMA: f64 = 0.99;

/// What decides the batch, and what the learning rate makes of it.
#[derive(Debug, Clone)]
pub(super) struct Policy {
    batch: PolicyConfig,
    rate: RateConfig,
}

impl Policy {
    /// Both as one.
    pub(super) fn build(&self) -> Result<Box<dyn BatchPolicy>, BatchError> {
        let policy = self.batch.build()?;
        Ok(match self.rate.build()? {
            None => policy,
            Some(rule) => Box::new(Rated::new(policy, rule)),
        })
    }

    /// The greatest batch that the run can come to, for which memory is planned.
    pub(super) fn most_samples(&self, run: &Run, epoch: usize) -> Result<usize, BatchError> {
        let first = run.train.batch.min(epoch);
        if self.batch == PolicyConfig::Constant {
            return Ok(first);
        }
        let most = usize::try_from(self.build()?.bounds().max_batch).unwrap_or(usize::MAX);
        Ok(most.min(epoch).max(first))
    }
}

/// The policy of a run whose epochs have `epoch` samples.
pub(super) fn policy(run: &Run, epoch: usize) -> Policy {
    let base = run.train.batch as u64;
    let measured =
        Measured { base, chunks: run.batch.statistic().map_or(Chunks::Ranks, chunks), ema: RATE_EMA };
    let rate = match run.batch.lr_scaling {
        LrScaling::None => RateConfig::None,
        LrScaling::Linear => RateConfig::Linear { base },
        LrScaling::SquareRoot => RateConfig::SquareRoot { base },
        LrScaling::Saturating => RateConfig::Saturating(measured),
        LrScaling::AdaScale => RateConfig::AdaScale(measured),
    };
    Policy { batch: batch(&run.batch.policy, base, epoch as u64), rate }
}

fn batch(policy: &Kind, base: u64, epoch: u64) -> PolicyConfig {
    let pace = |interval: &u64, growth: &f64, max: &Option<usize>| Pace {
        interval: *interval,
        growth: *growth,
        max: samples(max),
    };
    let test =
        |statistic: &Statistic, pace, ema: &f64| TestConfig { chunks: chunks(*statistic), pace, ema: *ema };
    match policy {
        Kind::Constant {} => PolicyConfig::Constant,
        Kind::AdAdaGrad { eta, max, interval, growth, statistic, denominator, ema }
        | Kind::AdAdaGradNorm { eta, max, interval, growth, statistic, denominator, ema }
        | Kind::NormTest { eta, max, interval, growth, statistic, denominator, ema } => {
            let denominator = match denominator {
                runfile::Denominator::Raw => Denominator::Raw,
                runfile::Denominator::Debiased => Denominator::Debiased,
            };
            let config = test(statistic, pace(interval, growth, max), ema);
            PolicyConfig::NormTest(NormTest { eta: *eta, denominator }, config)
        }
        Kind::InnerProductTest { theta, max, interval, growth, statistic, ema } => {
            let config = test(statistic, pace(interval, growth, max), ema);
            PolicyConfig::InnerProductTest(InnerProductTest { theta: *theta }, config)
        }
        Kind::AugmentedTest { theta, nu, max, interval, growth, statistic, ema } => {
            let config = test(statistic, pace(interval, growth, max), ema);
            PolicyConfig::AugmentedTest(AugmentedTest { theta: *theta, nu: *nu }, config)
        }
        Kind::CoordinateTest { eta, coordinates, quantile, max, interval, growth, statistic, ema } => {
            let rule = match coordinates {
                Coordinates::Max => CoordinateRule::Max,
                Coordinates::Quantile => CoordinateRule::Quantile(*quantile),
                Coordinates::PerTensor => CoordinateRule::PerTensor,
            };
            let config = test(statistic, pace(interval, growth, max), ema);
            PolicyConfig::CoordinateTest(CoordinateTest { eta: *eta, rule }, config)
        }
        Kind::NoiseScale { min, max, interval, growth, hysteresis, statistic, ema } => {
            PolicyConfig::NoiseScale(NoiseScaleConfig {
                chunks: chunks(*statistic),
                pace: pace(interval, growth, max),
                min: *min as u64,
                ema: *ema,
                hysteresis: *hysteresis,
            })
        }
        Kind::Goodput { max, interval, growth, statistic, ema } => PolicyConfig::Goodput(GoodputConfig {
            chunks: chunks(*statistic),
            pace: pace(interval, growth, max),
            base,
            ema: *ema,
        }),
        Kind::Cabs { min, max, interval, scale, statistic, ema } => PolicyConfig::Cabs(CabsConfig {
            chunks: chunks(*statistic),
            interval: *interval,
            min: *min as u64,
            max: samples(max),
            scale: *scale,
            ema: *ema,
        }),
        Kind::SimiGrad { cosine, min, max, interval, statistic } => PolicyConfig::SimiGrad(SimiGradConfig {
            chunks: chunks(*statistic),
            interval: *interval,
            min: *min as u64,
            max: samples(max),
            cosine: *cosine,
        }),
        Kind::DiveBatch { delta, max, statistic } => PolicyConfig::DiveBatch(DiveBatchConfig {
            chunks: chunks(*statistic),
            period: epoch,
            delta: *delta,
            max: samples(max),
        }),
        Kind::Stages { sizes } => {
            let sizes = std::iter::once(base).chain(sizes.iter().map(|size| *size as u64)).collect();
            PolicyConfig::Stages(StagesConfig { sizes })
        }
        Kind::Ramp { increment, max } => {
            PolicyConfig::Ramp(RampConfig { increment: *increment as u64, max: samples(max) })
        }
    }
}

fn chunks(statistic: Statistic) -> Chunks {
    match statistic {
        Statistic::Samples => Chunks::Samples,
        Statistic::Ranks => Chunks::Ranks,
    }
}

/// A bound in samples; none is as many as there are.
fn samples(max: &Option<usize>) -> u64 {
    max.map_or(u64::MAX, |max| max as u64)
}
