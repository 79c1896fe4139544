//! Pollux's goodput: the batch at which samples per second, times what a sample is worth, is greatest.

mod step_model;

pub use step_model::{Observation, StepModel};

use crate::cut::is_cut_to_one_chunk;
use crate::error::Check;
use crate::noise_and_signal::NoiseAndSignal;
use crate::pace::{Pace, whole};
use crate::{BatchError, words};
use phalanx_comm::Agreed;
use phalanx_grad::{
    BatchContext, BatchDecision, BatchPolicy, Chunks, GradError, Needs, PolicyBounds, PolicyState,
    ScalarBlock, StepTime,
};
use std::collections::BTreeMap;

const NAME: &str = "goodput";
const VERSION: u32 = 1;

/// Batch sizes that are compared at a decision.
const CANDIDATES: u32 = 50;

/// A change must be worth this much: below it lies the noise of the clock.
const LEAST_GAIN: f64 = 1.05;

/// Settings of [`Goodput`].
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct GoodputConfig {
    /// Whose gradients are compared. Default ranks.
    pub chunks: Chunks,
    /// How often it decides, how far the batch goes at once, how large it gets. It measures in every step.
    pub pace: Pace,
    /// The batch at which a sample is worth one, in samples: that of the run's beginning.
    pub base: u64,
    /// Decay of the running means of variance and signal. Default 0.95.
    pub ema: f64,
}

impl GoodputConfig {
    /// The default settings for a run that begins with a batch of `base` samples.
    #[must_use]
    pub fn of_base(base: u64) -> Self {
        let pace = Pace { interval: 20, ..Pace::default() };
        GoodputConfig { chunks: Chunks::Ranks, pace, base, ema: 0.95 }
    }
}

/// Takes the batch of the greatest goodput, `throughput(B) efficiency(B)` with `efficiency(B) = (phi + base) / (phi + B)`.
///
/// `phi` is the noise scale. Throughput is that of a [`StepModel`] fitted to the run's own step times. It chooses among 50 batch sizes
/// from `base` on, not beyond the growth of one decision, and stays where the best is not worth a twentieth more.
///
/// # Numerics
/// Decides by the clock: two equal runs may differ, also in the reproducible mode. All ranks of a run decide the same.
///
/// # Reference
/// Qiao et al., "Pollux: Co-adaptive Cluster Scheduling for Goodput-Optimized Deep Learning", OSDI 2021.
///
/// # Deviation
/// The number of ranks does not change within a run, so that the model has one term for communication; it is fitted in
/// closed form and by a line search instead of L-BFGS-B.
#[derive(Debug)]
pub struct Goodput {
    config: GoodputConfig,
    means: NoiseAndSignal,
    /// By samples and accumulation: steps, their seconds, the exposed ones.
    times: BTreeMap<(u64, u64), (u64, f64, f64)>,
}

impl Goodput {
    /// The policy with these settings.
    ///
    /// # Errors
    /// [`BatchError::Field`] or [`BatchError::Below`] names the first that is out of range.
    pub fn new(config: GoodputConfig) -> Result<Self, BatchError> {
        let check = Check(NAME);
        config.pace.validate(NAME)?;
        check.at_least_one("base", config.base)?;
        check.reaches(("max", config.pace.max), ("base", config.base))?;
        check.decay("ema", config.ema)?;
        Ok(Goodput { config, means: NoiseAndSignal::new(config.ema), times: BTreeMap::new() })
    }

    fn observations(&self, ranks: u64) -> Vec<Observation> {
        let mean =
            |(&(samples, accumulation), &(steps, seconds, exposed)): (&(u64, u64), &(u64, f64, f64))| {
                let (ranks, steps) = (ranks as f64, steps as f64);
                Observation {
                    micro: samples as f64 / (ranks * accumulation as f64),
                    accumulation: accumulation as f64,
                    seconds: seconds / steps,
                    exposed: exposed / steps,
                }
            };
        self.times.iter().map(mean).collect()
    }

    /// Samples a second that count, at a batch.
    fn goodput(&self, model: &StepModel, most_micro: Option<f64>, batch: f64, ranks: u64, phi: f64) -> f64 {
        let share = batch / ranks as f64;
        let accumulation = most_micro.map_or(1.0, |most| (share / most).ceil().max(1.0));
        let efficiency = (phi + self.config.base as f64) / (phi + batch);
        batch / model.seconds(share / accumulation, accumulation) * efficiency
    }

    /// The batch of the greatest goodput, and whether it is worth the change.
    fn best(&self, context: &BatchContext, phi: f64) -> Option<u64> {
        let observations = self.observations(context.ranks);
        let model = StepModel::fit(&observations)?;
        let cut = observations.iter().filter(|o| o.accumulation > 1.0).map(|o| o.micro);
        let most_micro = cut.reduce(f64::max);
        let of = |batch: u64| self.goodput(&model, most_micro, batch as f64, context.ranks, phi);
        let limit = self.config.pace.limit(context).max(context.batch);
        let most = self.config.pace.grown(f64::INFINITY, context.batch, limit);
        let base = self.config.base as f64;
        let ratio = (most as f64 / base).max(1.0);
        let candidates = (0..CANDIDATES)
            .map(|i| whole((base * ratio.powf(f64::from(i) / f64::from(CANDIDATES - 1))).round()));
        let best = candidates.max_by(|a, b| of(*a).total_cmp(&of(*b)))?;
        Some(if of(best) > LEAST_GAIN * of(context.batch) { best.min(limit) } else { context.batch })
    }
}

impl BatchPolicy for Goodput {
    fn name(&self) -> &'static str {
        NAME
    }

    fn bounds(&self) -> PolicyBounds {
        let needs = Needs { time: true, ..Needs::of(self.config.chunks) };
        PolicyBounds { needs, max_batch: self.config.pace.max }
    }

    fn needs(&self, _: &BatchContext) -> Needs {
        self.bounds().needs
    }

    fn timed(&mut self, time: &Agreed<StepTime>) {
        let place = self.times.entry((time.samples, time.accumulation)).or_default();
        *place = (place.0 + 1, place.1 + time.seconds, place.2 + time.exposed);
    }

    fn decide(
        &mut self,
        statistics: &Agreed<ScalarBlock>,
        context: &BatchContext,
    ) -> Result<BatchDecision, GradError> {
        if is_cut_to_one_chunk(statistics, context) {
            return Ok(BatchDecision::of(context.batch));
        }
        let (noise, signal) = self.means.push(statistics)?;
        if !self.config.pace.is_due(context.step) || signal <= 0.0 {
            return Ok(BatchDecision::of(context.batch));
        }
        let phi = noise / signal;
        let batch = self.best(context, phi).unwrap_or(context.batch);
        Ok(BatchDecision { batch, target: Some(phi) })
    }

    fn state(&self) -> PolicyState {
        let mut all = self.means.words().to_vec();
        for (&(samples, accumulation), &(steps, seconds, exposed)) in &self.times {
            all.extend([samples, accumulation, steps, seconds.to_bits(), exposed.to_bits()]);
        }
        words::write(VERSION, &all)
    }

    fn restore(&mut self, state: &PolicyState) -> Result<(), GradError> {
        let all = words::read(NAME, VERSION, state)?;
        let refused = || words::refused(NAME, VERSION, state);
        let Some((means, rest)) = all.split_first_chunk() else { return Err(refused()) };
        let (rows, []) = rest.as_chunks::<5>() else { return Err(refused()) };
        self.means.restore(*means);
        let row = |[samples, accumulation, steps, seconds, exposed]: &[u64; 5]| {
            ((*samples, *accumulation), (*steps, f64::from_bits(*seconds), f64::from_bits(*exposed)))
        };
        self.times = rows.iter().map(row).collect();
        Ok(())
    }
}
