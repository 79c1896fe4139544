//! Batch policies in the loop: what they see, what they decide, and what they are refused.

use std::sync::Arc;

use phalanx::batch::{
    CoordinateTest, Denominator, DiveBatchConfig, GoodputConfig, Measured, NoiseScaleConfig, NormTest, Pace,
    PolicyConfig, RateConfig, Rated, SimiGradConfig, TestConfig,
};
use phalanx::comm::RankFailure;
use phalanx::data::{Dataset, InputsMut, SampleKind};
use phalanx::grad::{BatchPolicy, Chunks, CoordinateRule};
use phalanx::prelude::Watch;
use phalanx::train::events::StepDone;
use phalanx::train::{Job, Limit, Methods, OnNonFinite, Reduction, TrainConfig, TrainError};

use phalanx_tests::{Device, Steps, config, job, methods, train};

const TEST: TestConfig =
    TestConfig { chunks: Chunks::Ranks, pace: Pace { interval: 1, growth: 4.0, max: 400 }, ema: 0.5 };

/// A job under a policy of the library, which its learning rate follows if `rate` says so.
fn under(
    ranks: usize,
    config: TrainConfig,
    policy: PolicyConfig,
    rate: RateConfig,
) -> (Job<Device>, Arc<Steps>) {
    let watch = Arc::new(Steps::default());
    let build = move || -> Box<dyn BatchPolicy> {
        let policy = policy.build().expect("good settings");
        match rate.build().expect("good settings") {
            Some(rule) => Box::new(Rated::new(policy, rule)),
            None => policy,
        }
    };
    let job = Job {
        methods: Box::new(move || Methods { policy: build(), ..methods(0.02) }),
        watch: Arc::clone(&watch) as Arc<dyn Watch>,
        ..job(ranks, config)
    };
    (job, watch)
}

fn steps(ranks: usize, config: TrainConfig, policy: PolicyConfig, rate: RateConfig) -> Vec<StepDone> {
    let (job, watch) = under(ranks, config, policy, rate);
    train(ranks, job).expect("no rank fails");
    watch.seen()
}

fn norm_test(eta: f64) -> PolicyConfig {
    PolicyConfig::NormTest(NormTest { eta, denominator: Denominator::Raw }, TEST)
}

fn samples(samples: u64) -> TrainConfig {
    TrainConfig { limit: Limit::Samples(samples), batch: 16, ..config() }
}

/// All that a step shows but its times.
fn bits(step: &StepDone) -> (u64, u64, Option<u64>, u64, u64, String) {
    let target = step.target.map(f64::to_bits);
    (step.step, step.batch, target, step.lr.to_bits(), step.loss.to_bits(), format!("{:?}", step.statistics))
}

#[test]
fn decisions_do_not_depend_on_the_number_of_ranks() {
    let policies = [
        norm_test(0.3),
        PolicyConfig::CoordinateTest(CoordinateTest { eta: 0.5, rule: CoordinateRule::Quantile(0.2) }, TEST),
        PolicyConfig::NoiseScale(NoiseScaleConfig { ema: 0.8, ..NoiseScaleConfig::default() }),
        PolicyConfig::SimiGrad(SimiGradConfig { cosine: 0.5, ..SimiGradConfig::default() }),
        PolicyConfig::DiveBatch(DiveBatchConfig {
            chunks: Chunks::Ranks,
            delta: 1.0,
            ..DiveBatchConfig::of_epoch(600)
        }),
    ];
    let rate = RateConfig::AdaScale(Measured { base: 16, chunks: Chunks::Ranks, ema: 0.9 });
    let config = TrainConfig { reduction: Reduction::Reproducible { shards: 4 }, ..samples(2000) };
    for policy in policies {
        let of = |ranks| steps(ranks, config.clone(), policy.clone(), rate);
        let need: Vec<_> = of(1).iter().map(bits).collect();
        let batches: Vec<u64> = need.iter().map(|step| step.1).collect();
        assert!(batches.iter().any(|batch| *batch != 16), "{policy:?}: {batches:?}");
        for ranks in [2, 4] {
            let got: Vec<_> = of(ranks).iter().map(bits).collect();
            assert_eq!(got, need, "{policy:?} on {ranks} ranks");
        }
    }
}

#[test]
fn a_batch_is_shared_evenly_and_cut_into_micro_batches() {
    let config = TrainConfig { micro_batch: 10, ..samples(3000) };
    let seen = steps(3, TrainConfig { batch: 18, ..config }, norm_test(0.2), RateConfig::None);
    let grown: Vec<u64> = seen.iter().map(|step| step.batch).filter(|batch| *batch != 18).collect();
    assert!(!grown.is_empty(), "the batch grows");
    // before the end of the first epoch cuts one short
    for batch in grown.iter().take(3) {
        let share = batch / 3;
        assert!(batch.is_multiple_of(3) && share.is_multiple_of(share.div_ceil(10)), "{grown:?}");
    }
    assert!(grown.iter().all(|batch| *batch <= 400), "{grown:?}");
}

#[test]
fn the_statistics_of_a_step_stand_in_its_event() {
    let seen = steps(2, samples(200), norm_test(0.5), RateConfig::None);
    let first = seen[0];
    let statistics = first.statistics.expect("they were measured");
    let (variance, norm_sq) =
        (statistics.variance.expect("two ranks"), first.grad_norm.expect("always").powi(2));
    assert_eq!(statistics.chunks, 2);
    let target = first.target.expect("the test was asked");
    assert!((target - variance / (0.25 * norm_sq)).abs() < 1e-9 * target, "{target}");
    let signal = statistics.signal.expect("two ranks");
    assert!((signal - (norm_sq - variance / 16.0)).abs() < 1e-9 * norm_sq, "{signal}");
}

/// One tensor's ratio is at least that of all tensors together, and two shards measure what two ranks do.
#[test]
fn coordinates_are_measured_alike_in_both_modes() {
    let policy =
        PolicyConfig::CoordinateTest(CoordinateTest { eta: 0.5, rule: CoordinateRule::PerTensor }, TEST);
    let fast = steps(2, samples(64), policy.clone(), RateConfig::None)[0];
    let config = TrainConfig { reduction: Reduction::Reproducible { shards: 2 }, ..samples(64) };
    let reproducible = steps(1, config, policy, RateConfig::None)[0];
    let ratio = |step: &StepDone| step.statistics.expect("measured").coordinate_ratio.expect("asked for");
    let (a, b) = (ratio(&fast), ratio(&reproducible));
    assert!((a - b).abs() < 1e-3 * a, "{a} and {b}");
    let statistics = fast.statistics.expect("measured");
    let all = statistics.variance.expect("two ranks") / fast.grad_norm.expect("always").powi(2);
    assert!(a >= all * (1.0 - 1e-3), "{a} below {all}");
}

#[test]
fn the_learning_rate_follows_the_batch() {
    let rate = RateConfig::Linear { base: 16 };
    for step in steps(2, samples(600), norm_test(0.3), rate).iter().filter(|step| step.batch >= 16) {
        let factor = step.lr / 0.02 * 16.0;
        // the last batch of the run is shorter than the one decided on
        assert!((factor - step.batch as f64).abs() < 1e-9 || step.samples == 600, "{step:?}");
    }
}

#[test]
fn goodput_learns_how_long_steps_take() {
    let config_of = GoodputConfig {
        pace: Pace { interval: 2, max: 64, ..Pace::default() },
        ..GoodputConfig::of_base(16)
    };
    let seen = steps(2, samples(1000), PolicyConfig::Goodput(config_of), RateConfig::None);
    assert_eq!(seen.last().expect("steps").samples, 1000);
    assert!(seen.iter().all(|step| step.batch <= 64));
}

/// Samples of which one is not finite.
struct Poisoned {
    inner: Arc<dyn Dataset>,
    index: usize,
}

impl Dataset for Poisoned {
    fn len(&self) -> usize {
        self.inner.len()
    }

    fn kind(&self) -> &SampleKind {
        self.inner.kind()
    }

    fn write(&self, indices: &[usize], inputs: InputsMut<'_>, labels: &mut [u32]) {
        let features = inputs.expect_features();
        self.inner.write(indices, InputsMut::Features(features), labels);
        let len = self.kind().inputs_per_sample();
        for (index, sample) in indices.iter().zip(features.chunks_exact_mut(len)) {
            if *index == self.index {
                sample.fill(f32::NAN);
            }
        }
    }
}

/// One rank meets the sample; no rank's policy sees the step, and all go on alike.
#[test]
fn statistics_that_are_not_finite_on_one_rank_leave_the_test_out_on_all() {
    let config = TrainConfig { on_nonfinite: OnNonFinite::Skip, ..samples(1200) };
    let (mut job, watch) = under(2, config, norm_test(0.3), RateConfig::None);
    job.data.train = Arc::new(Poisoned { inner: Arc::clone(&job.data.train), index: 17 });
    let outcome = train(2, job).expect("no rank fails");
    let seen = watch.seen();
    let bad: Vec<usize> = (0..seen.len()).filter(|i| seen[*i].skipped).collect();
    let [bad] = bad[..] else { panic!("one step has the sample: {bad:?}") };
    assert_eq!((seen[bad].target, seen[bad].statistics), (None, None));
    assert!(bad + 1 == seen.len() || seen[bad + 1].batch <= seen[bad].batch, "the batch does not grow");
    assert!(seen.iter().filter(|step| !step.skipped).any(|step| step.target.is_some()));
    assert_eq!((outcome.summary.samples, outcome.summary.skipped_steps), (1200, 1));
}

/// Why a job is refused, before its first step.
#[track_caller]
fn refused(ranks: usize, config: TrainConfig, policy: PolicyConfig) -> TrainError {
    let (job, watch) = under(ranks, config, policy, RateConfig::None);
    let error = train(ranks, job).expect_err("it cannot be");
    assert!(watch.seen().is_empty(), "a step was done");
    match error.into_failure() {
        RankFailure::Failed { error, .. } => error,
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_variance_over_one_rank_is_refused_before_the_first_step() {
    let error = refused(1, samples(100), norm_test(0.3));
    assert!(matches!(error, TrainError::OneChunk { policy: "norm-test" }), "{error}");
}

#[test]
fn a_greatest_batch_below_the_first_is_refused_before_the_first_step() {
    let error = refused(2, TrainConfig { batch: 500, ..samples(1000) }, norm_test(0.3));
    assert!(matches!(error, TrainError::Setting { field: "batch.max", got: 400, .. }), "{error}");
}
