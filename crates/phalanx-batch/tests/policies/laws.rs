//! What holds for any gradient.

use super::{agreed, at, expected, free, settled, two_ranks};
use phalanx_batch::{
    BatchError, Cabs, CabsConfig, CoordinateTest, Denominator, DiveBatch, DiveBatchConfig, Goodput,
    GoodputConfig, GradientTest, NoiseScale, NoiseScaleConfig, NormTest, Pace, Ramp, RampConfig, SimiGrad,
    SimiGradConfig, Stages, StagesConfig, TestConfig,
};
use phalanx_comm::{SoloComm, agree_sum};
use phalanx_grad::{BatchPolicy, Chunks, CoordinateRule, GradError, Needs, ScalarBlock, StepTime};
use proptest::prelude::{prop_assert, prop_assert_eq, proptest};

/// Growth ends at `(1 - eta^2) / eta^2` times the noise scale, the debiased test's at `1 / eta^2` times it.
#[test]
fn growth_ends_at_the_fixed_point() {
    let (variance, signal) = (300.0, 2.0);
    for eta in [0.2, 0.5] {
        let raw =
            settled(&mut free(NormTest { eta, denominator: Denominator::Raw }), 4, 200, variance, signal);
        let end = (1.0 - eta * eta) / (eta * eta) * variance / signal;
        assert!((raw as f64 - end).abs() <= 1.0, "{eta}: {raw}, want {end}");
        let debiased = NormTest { eta, denominator: Denominator::Debiased };
        let debiased = settled(&mut free(debiased), 4, 10, variance, signal);
        let end = variance / signal / (eta * eta);
        assert!((debiased as f64 - end).abs() <= 1.0, "{eta}: {debiased}, want {end}");
    }
}

proptest! {
    /// What the test is for: `E|g|^2 <= (1 + eta^2) |G|^2`.
    #[test]
    fn the_batch_that_passes_bounds_the_gradient(
        variance in 0.0_f64..1e4, signal in 0.1_f64..100.0, eta in 0.1_f64..0.9,
    ) {
        let test = NormTest { eta, denominator: Denominator::Debiased };
        let mut policy = free(test);
        let batch = settled(&mut policy, 2, 2, variance, signal);
        let squared = signal + variance / batch as f64;
        prop_assert!(batch == 10_000 || squared <= (1.0 + eta * eta) * signal * (1.0 + 1e-9), "{batch}");
    }

    #[test]
    fn a_test_never_shrinks_a_batch_nor_leaves_its_bounds(
        variance in 0.0_f64..1e6, signal in 0.0_f64..10.0, batch in 2_u64..400, max in 1_u64..5_000,
    ) {
        let config = TestConfig { pace: Pace { max, ..Pace::default() }, ..TestConfig::default() };
        let mut policy = GradientTest::new(NormTest::default(), config).unwrap();
        let next = settled(&mut policy, batch, 1, variance, signal);
        prop_assert!(batch <= next && next <= max.max(batch) && next <= 2 * batch, "{next}");
    }

    #[test]
    fn scaling_the_gradient_changes_no_decision(scale in 1e-2_f64..1e3, variance in 0.1_f64..1e3) {
        let one = expected(32, variance, 1.0);
        let scaled = ScalarBlock { q: one.q * scale, n: one.n * scale, ..one };
        let decide = |block: &ScalarBlock| {
            let target = free(NormTest { eta: 0.3, denominator: Denominator::Raw })
                .decide(&agreed(block), &at(1, 32)).unwrap().target.unwrap();
            (1e6 * target).round()
        };
        prop_assert_eq!(decide(&one), decide(&scaled));
    }
}

#[test]
fn nothing_is_measured_between_tests_nor_at_the_maximum() {
    let pace = Pace { interval: 5, max: 64, ..Pace::default() };
    let config = TestConfig { pace, ..TestConfig::default() };
    let policy = GradientTest::new(NormTest::default(), config).unwrap();
    assert_eq!(policy.needs(&at(4, 32)), Needs::default());
    assert_eq!(policy.needs(&at(5, 32)), Needs::of(Chunks::Samples));
    assert_eq!(policy.needs(&at(5, 64)), Needs::default());
    assert_eq!(policy.bounds().max_batch, 64);
}

#[test]
fn a_gradient_too_short_to_compare_with_leaves_the_batch() {
    let block = ScalarBlock { q: 1.0, n: 1e-13, ..two_ranks() };
    let decision = free(NormTest::default()).decide(&agreed(&block), &at(1, 4)).unwrap();
    assert_eq!((decision.batch, decision.target), (4, None));
    // noise hides the signal
    let hidden = ScalarBlock { q: 100.0, n: 0.5, ..two_ranks() };
    let debiased = NormTest { denominator: Denominator::Debiased, ..NormTest::default() };
    assert_eq!(free(debiased).decide(&agreed(&hidden), &at(1, 4)).unwrap().batch, 4);
    let mut noise = NoiseScale::new(NoiseScaleConfig::default()).unwrap();
    assert_eq!(noise.decide(&agreed(&hidden), &at(1, 4)).unwrap().batch, 4);
}

#[test]
fn one_chunk_has_no_variance_and_is_an_error() {
    let one = agreed(&ScalarBlock { chunks: 1, ..two_ranks() });
    let got = free(NormTest::default()).decide(&one, &at(1, 4));
    assert!(matches!(got, Err(GradError::TooFewChunks { got: 1, .. })), "{got:?}");
    // but the last batch of an epoch may be cut to one
    let cut = free(NormTest::default()).decide(&one, &at(1, 64)).unwrap();
    assert_eq!((cut.batch, cut.target), (64, None));
    let got = free(CoordinateTest::default()).decide(&agreed(&two_ranks()), &at(1, 4));
    assert_eq!(got, Err(GradError::NoCoordinates { statistic: "coordinate_target" }));
}

#[test]
fn running_means_are_of_variance_and_signal_one_by_one() {
    let config = TestConfig {
        ema: 0.5,
        pace: Pace { growth: f64::INFINITY, ..Pace::default() },
        ..TestConfig::default()
    };
    let mut policy =
        GradientTest::new(NormTest { eta: 0.5, denominator: Denominator::Debiased }, config).unwrap();
    policy.decide(&agreed(&expected(4, 8.0, 1.0)), &at(1, 4)).unwrap();
    let target = policy.decide(&agreed(&expected(4, 2.0, 4.0)), &at(2, 4)).unwrap().target.unwrap();
    // (8 / 2 + 2) / (1 / 2 + 4) / 0.25, and not the mean of 8 / 1 and 2 / 4
    super::assert_near(target, (6.0 / 4.5) / 0.25);
}

#[test]
fn the_noise_scale_is_followed_up_and_down_but_not_for_little() {
    let policy = || NoiseScale::new(NoiseScaleConfig { ema: 0.0, ..NoiseScaleConfig::default() }).unwrap();
    // a noise scale of 100
    assert_eq!(settled(&mut policy(), 8, 20, 200.0, 2.0), 64, "100 over 64 is less than twice");
    assert_eq!(settled(&mut policy(), 1000, 20, 200.0, 2.0), 125, "100 over 125 is more than half");
    assert_eq!(settled(&mut policy(), 60, 20, 200.0, 2.0), 60);
    let floor = NoiseScaleConfig { ema: 0.0, min: 300, ..NoiseScaleConfig::default() };
    assert_eq!(settled(&mut NoiseScale::new(floor).unwrap(), 1000, 20, 200.0, 2.0), 300);
}

#[test]
fn halves_agree_as_asked_where_the_batch_comes_to_rest() {
    let mut policy = SimiGrad::new(SimiGradConfig { cosine: 0.5, ..SimiGradConfig::default() }).unwrap();
    // g2 / (g2 + 2 tr_s / B) is a half at B = 2 tr_s / g2 = 200
    let end = settled(&mut policy, 10, 100, 200.0, 2.0);
    assert!((180..=220).contains(&end), "{end}");
}

#[test]
fn cabs_comes_to_rest_at_once() {
    let mut policy = Cabs::new(CabsConfig { scale: 100.0, max: 300, ..CabsConfig::default() }).unwrap();
    // 100 * 0.1 * 20 * (1 - 1 / B) / 0.5
    assert_eq!(settled(&mut policy, 1000, 1, 20.0, 2.0), 300);
    let mut policy = Cabs::new(CabsConfig::default()).unwrap();
    assert_eq!(settled(&mut policy, 1000, 1, 20.0, 2.0), 16);
}

#[test]
fn divebatch_decides_where_an_epoch_ends() {
    let config = DiveBatchConfig { delta: 2.0, ..DiveBatchConfig::of_epoch(64) };
    let mut policy = DiveBatch::new(config).unwrap();
    let mut batches = Vec::new();
    let mut batch = 16;
    for step in 1..=5 {
        batch = policy.decide(&agreed(&expected(batch, 64.0, 1.0)), &at(step, 16)).unwrap().batch;
        batches.push(batch);
        batch = 16;
    }
    // 2 * 64 * 65 / (64 + 64)
    assert_eq!(batches, [16, 16, 16, 65, 16]);
}

#[test]
fn stages_take_equal_shares_and_a_ramp_equal_steps() {
    let mut stages = Stages::new(StagesConfig { sizes: vec![10, 20, 40] }).unwrap();
    let block = agreed(&expected(10, 1.0, 1.0));
    let mut at_samples = |samples| {
        let context = phalanx_grad::BatchContext { samples, total: 300, ..at(1, 10) };
        stages.decide(&block, &context).unwrap().batch
    };
    // the statistics are of ten samples, so that the next step begins ten later
    assert_eq!([0, 80, 90, 190, 289, 5000].map(&mut at_samples), [10, 10, 20, 40, 40, 40]);
    let mut ramp = Ramp::new(RampConfig { increment: 7, max: 30 }).unwrap();
    let batches: Vec<u64> = (1..6)
        .scan(10, |batch, step| {
            *batch = ramp.decide(&block, &at(step, *batch)).unwrap().batch;
            Some(*batch)
        })
        .collect();
    assert_eq!(batches, [17, 24, 30, 30, 30]);
}

/// Ends where the goodput of a run whose steps take `fixed + per_sample B / 2` seconds is greatest.
fn goodput_of(fixed: f64, per_sample: f64, variance: f64) -> u64 {
    let config =
        GoodputConfig { pace: Pace { interval: 1, ..Pace::default() }, ..GoodputConfig::of_base(16) };
    let mut policy = Goodput::new(config).unwrap();
    (1..=100).fold(16, |batch, step| {
        let seconds = fixed + per_sample * batch as f64 / 2.0;
        let time = agree_sum(&SoloComm::new(), &[seconds, batch as f64]).unwrap();
        policy.timed(&time.map(|t| StepTime {
            seconds: t[0],
            exposed: 0.0,
            samples: super::count(t[1]),
            accumulation: 1,
        }));
        policy.decide(&agreed(&expected(batch, variance, 1.0)), &at(step, batch)).unwrap().batch
    })
}

#[test]
fn goodput_weighs_time_against_worth() {
    // no signal in a sample, most of the time fixed: larger is better
    let large = goodput_of(10e-3, 1e-6, 1e5);
    assert!(large > 2000, "{large}");
    // every sample says the same: the base batch is best
    assert_eq!(goodput_of(1e-6, 1e-3, 1e-3), 16);
    // B / (fixed + B / 2 c) (phi + 16) / (phi + B) is greatest at the root of phi fixed 2 / c
    let between = goodput_of(1e-3, 1e-4, 500.0);
    assert!((60..=160).contains(&between), "{between}, want about 100");
}

#[test]
fn settings_out_of_range_are_named() {
    let fault = |result: Result<(), BatchError>| result.unwrap_err().to_string();
    let test =
        |eta| GradientTest::new(NormTest { eta, ..NormTest::default() }, TestConfig::default()).map(|_| ());
    assert_eq!(fault(test(1.0)), "norm-test: eta is 1, need a number above 0 and below 1");
    assert_eq!(fault(test(f64::NAN)), "norm-test: eta is NaN, need a number above 0 and below 1");
    let quantile = CoordinateTest { rule: CoordinateRule::Quantile(1.5), ..CoordinateTest::default() };
    let fault_of = fault(GradientTest::new(quantile, TestConfig::default()).map(|_| ()));
    assert_eq!(fault_of, "coordinate-test: quantile is 1.5, need a number above 0 and at most 1");
    let noise = NoiseScaleConfig {
        min: 100,
        pace: Pace { max: 64, ..Pace::default() },
        ..NoiseScaleConfig::default()
    };
    assert_eq!(fault(NoiseScale::new(noise).map(|_| ())), "noise-scale: max is 64, need at least min (100)");
    let goodput = GoodputConfig { pace: Pace { max: 8, ..Pace::default() }, ..GoodputConfig::of_base(16) };
    assert_eq!(fault(Goodput::new(goodput).map(|_| ())), "goodput: max is 8, need at least base (16)");
    assert_eq!(
        fault(Stages::new(StagesConfig { sizes: vec![] }).map(|_| ())),
        "stages: sizes is 0, need at least one"
    );
}
