//! The tests of adaptive sampling as a policy: measure, average, compare, grow.

use crate::cut::is_cut_to_one_chunk;
use crate::error::Check;
use crate::pace::Pace;
use crate::running_mean::RunningMean;
use crate::{BatchError, words};
use phalanx_comm::Agreed;
use phalanx_grad::{
    BatchContext, BatchDecision, BatchPolicy, Chunks, GradError, Needs, PolicyBounds, PolicyState,
    ScalarBlock,
};
use std::fmt::Debug;

const VERSION: u32 = 1;

/// A batch size that a test asks for, as a quotient whose parts are averaged over steps one by one.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Quotient {
    /// The variance.
    pub over: f64,
    /// What it may be of the signal, for one sample.
    pub under: f64,
}

impl Quotient {
    /// The quotient that asks for nothing.
    pub const NOTHING: Self = Quotient { over: 0.0, under: 1.0 };
}

/// A test of a batch: what [`GradientTest`] asks each step.
pub trait Criterion: Debug + Send {
    /// The name, as in a run file.
    fn name(&self) -> &'static str;

    /// What is measured besides the chunks that the policy was told to take.
    fn needs(&self) -> Needs;

    /// The batch size that would pass is the greater of the two quotients.
    ///
    /// # Errors
    /// What the estimators of [`ScalarBlock`] give. [`GradError::Undefined`] leaves the step out, all others end the run.
    fn quotients(&self, block: &ScalarBlock) -> Result<[Quotient; 2], GradError>;

    /// Checks that every setting is in range.
    ///
    /// # Errors
    /// [`BatchError::Field`] names the first that is not.
    fn validate(&self) -> Result<(), BatchError>;
}

/// Settings of [`GradientTest`].
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct TestConfig {
    /// Whose gradients are compared: those of single samples, or of ranks (then the norm test is DDP-Norm).
    /// Default samples.
    pub chunks: Chunks,
    /// How often, how far, how large.
    pub pace: Pace,
    /// Decay of the running means of variance and signal. Default 0: each step by itself, as in the papers.
    pub ema: f64,
}

impl Default for TestConfig {
    fn default() -> Self {
        TestConfig { chunks: Chunks::Samples, pace: Pace::default(), ema: 0.0 }
    }
}

/// Grows the batch to the size at which a test would hold: `B = min(max(B, ceil(target)), max)`.
///
/// It never shrinks, measures nothing between two tests, and nothing more once the batch is at its maximum. A step
/// whose signal is too short to divide by leaves the batch as it is.
///
/// # Examples
/// ```
/// use phalanx_batch::{GradientTest, NormTest, Pace, TestConfig};
/// use phalanx_comm::{SoloComm, agree_sum};
/// use phalanx_grad::{BatchContext, BatchPolicy, Chunks, ChunkSums};
/// use phalanx_tensor::op::Moments;
///
/// // a batch of 4 in 2 ranks with mean gradients (2, 1, 0.5) and (1, 1, 0.5), mean (1.5, 1, 0.5): a variance of 1 a sample
/// let moments = |sum_sq| Moments { sum_sq, sum_abs: 0.0, nonfinite: 0 };
/// let mut sums = ChunkSums::default();
/// sums.add(2, &moments(5.25), 1.0);
/// sums.add(2, &moments(2.25), 1.0);
/// let sums = agree_sum(&SoloComm::new(), &sums.pack())?.map(|packed| ChunkSums::unpack(&packed));
/// let block = sums.map(|sums| sums.block(&Moments { sum_sq: 3.5, sum_abs: 0.0, nonfinite: 0 }));
///
/// let config = TestConfig { chunks: Chunks::Ranks, ..TestConfig::default() };
/// let context = BatchContext { step: 1, samples: 0, total: 100, batch: 4, max_batch: 100, ranks: 2, lr: 0.1 };
/// // the noise may be half, or a fifth, of the gradient's length
/// let mut coarse = GradientTest::new(NormTest { eta: 0.5, ..NormTest::default() }, config)?;
/// assert_eq!(coarse.decide(&block, &context)?.batch, 4);
/// let mut fine = GradientTest::new(NormTest { eta: 0.2, ..NormTest::default() }, config)?;
/// assert_eq!(fine.decide(&block, &context)?.batch, 8);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
///
/// # Reference
/// Byrd et al. 2012 and Bollapragada, Byrd and Nocedal 2018 for the tests; Lau, Liu and Kolar, "`AdAdaGrad`", arXiv 2402.11215,
/// for the rule that grows; Lau et al., "DDP-Norm", arXiv 2412.21124, for ranks as chunks.
///
/// # Deviation
/// Variances are over the whole gradient and unbiased for chunks of any sizes; published code sums those of
/// parameter tensors, or of chunks, which drops covariances or adds a bias. `growth` and `ema` are ours.
#[derive(Debug)]
pub struct GradientTest<T> {
    criterion: T,
    config: TestConfig,
    means: [[RunningMean; 2]; 2],
}

impl<T: Criterion> GradientTest<T> {
    /// The policy of a test.
    ///
    /// # Errors
    /// [`BatchError::Field`] names the first setting out of range.
    pub fn new(criterion: T, config: TestConfig) -> Result<Self, BatchError> {
        criterion.validate()?;
        config.pace.validate(criterion.name())?;
        Check(criterion.name()).decay("ema", config.ema)?;
        Ok(GradientTest { criterion, config, means: [[RunningMean::new(config.ema); 2]; 2] })
    }

    /// The batch size that passes by all that was measured so far; none while the signal is not positive.
    fn target(&mut self, quotients: [Quotient; 2]) -> Option<f64> {
        let mut target = 0.0_f64;
        for ([over, under], quotient) in self.means.iter_mut().zip(quotients) {
            let (over, under) = (over.push(quotient.over), under.push(quotient.under));
            if under <= 0.0 {
                return None;
            }
            target = target.max(over / under);
        }
        Some(target)
    }

    fn measured(&self) -> Needs {
        self.criterion.needs().and(Needs::of(self.config.chunks))
    }
}

impl<T: Criterion> BatchPolicy for GradientTest<T> {
    fn name(&self) -> &'static str {
        self.criterion.name()
    }

    fn bounds(&self) -> PolicyBounds {
        PolicyBounds { needs: self.measured(), max_batch: self.config.pace.max }
    }

    fn needs(&self, context: &BatchContext) -> Needs {
        if self.config.pace.may_grow(context) { self.measured() } else { Needs::default() }
    }

    fn decide(
        &mut self,
        statistics: &Agreed<ScalarBlock>,
        context: &BatchContext,
    ) -> Result<BatchDecision, GradError> {
        let stay = BatchDecision::of(context.batch);
        if !self.config.pace.may_grow(context) || is_cut_to_one_chunk(statistics, context) {
            return Ok(stay);
        }
        let quotients = match self.criterion.quotients(statistics) {
            Err(GradError::Undefined { .. }) => return Ok(stay),
            quotients => quotients?,
        };
        let Some(target) = self.target(quotients) else { return Ok(stay) };
        let limit = self.config.pace.limit(context);
        let batch = self.config.pace.grown(target, context.batch, limit);
        Ok(BatchDecision { batch, target: Some(target) })
    }

    fn state(&self) -> PolicyState {
        let all: Vec<u64> = self.means.iter().flatten().flat_map(RunningMean::words).collect();
        words::write(VERSION, &all)
    }

    fn restore(&mut self, state: &PolicyState) -> Result<(), GradError> {
        let all = words::read_exactly::<8>(self.name(), VERSION, state)?;
        let (pairs, _) = all.as_chunks::<{ RunningMean::WORDS }>();
        for (mean, pair) in self.means.iter_mut().flatten().zip(pairs) {
            mean.restore(*pair);
        }
        Ok(())
    }
}
