//! Values worked out apart, chosen so that neighbouring methods give others.

use super::{ROWS, agreed, assert_near, at, block, free, two_ranks};
use phalanx_batch::{
    AugmentedTest, Cabs, CabsConfig, CoordinateTest, Denominator, DiveBatch, DiveBatchConfig,
    InnerProductTest, Measured, NoiseScale, NoiseScaleConfig, NormTest, RateConfig, SimiGrad, SimiGradConfig,
};
use phalanx_grad::{BatchPolicy, Chunks, CoordinateRule, ScalarBlock};

/// The target that a policy sees in a block, and the batch it makes of it, from a batch of 4.
#[track_caller]
fn decided(policy: &mut dyn BatchPolicy, block: &ScalarBlock) -> (f64, u64) {
    let decision = policy.decide(&agreed(block), &at(1, 4)).unwrap();
    (decision.target.unwrap(), decision.batch)
}

#[track_caller]
fn assert_decides(policy: &mut dyn BatchPolicy, block: &ScalarBlock, target: f64, batch: u64) {
    let got = decided(policy, block);
    assert_near(got.0, target);
    assert_eq!(got.1, batch);
}

#[test]
fn four_samples() {
    let block = block(&ROWS, &[1; 4]);
    let norm = NormTest { eta: 0.5, denominator: Denominator::Raw };
    assert_decides(&mut free(norm), &block, 4.571_428_571_4, 5);
    let debiased = NormTest { denominator: Denominator::Debiased, ..norm };
    assert_decides(&mut free(debiased), &block, 6.4, 7);
    assert_decides(&mut free(InnerProductTest { theta: 0.5 }), &block, 0.489_795_918_4, 4);
    assert_decides(&mut free(AugmentedTest { theta: 0.5, nu: 1.0 }), &block, 1.020_408_163_3, 4);
    assert_decides(&mut free(AugmentedTest { theta: 0.1, nu: 1.0 }), &block, 12.244_897_959_2, 13);
}

#[test]
fn four_samples_coordinate_by_coordinate() {
    let block = block(&ROWS, &[1; 4]);
    let (sums_sq, mean) = ([14.0, 6.0, 6.0], [1.5, 1.0, 0.5]);
    for (rule, target, batch) in [
        (CoordinateRule::Max, 26.666_666_666_7, 27),
        (CoordinateRule::Quantile(0.6), 2.962_962_963_0, 4),
        (CoordinateRule::PerTensor, 26.666_666_666_7, 27),
    ] {
        let ratio = rule.ratio(&sums_sq, &mean, 4, 4, &[0..2, 2..3]);
        assert_decides(
            &mut free(CoordinateTest { eta: 0.5, rule }),
            &block.with_coordinate_ratio(ratio),
            target,
            batch,
        );
    }
}

#[test]
fn two_ranks_of_two_samples() {
    let block = two_ranks();
    let norm = NormTest { eta: 0.5, denominator: Denominator::Raw };
    assert_decides(&mut free(norm), &block, 1.142_857_142_9, 4);
    assert_decides(&mut free(NormTest { eta: 0.2, ..norm }), &block, 7.142_857_142_9, 8);
    let mut noise = NoiseScale::new(NoiseScaleConfig::default()).unwrap();
    // the batch is halved at most
    assert_decides(&mut noise, &block, 0.307_692_307_7, 2);
    let mut halves = SimiGrad::new(SimiGradConfig { cosine: 0.9, ..SimiGradConfig::default() }).unwrap();
    assert_decides(&mut halves, &block, 3.25 / 3.75, 5);
    let mut halves = SimiGrad::new(SimiGradConfig { cosine: 0.8, ..SimiGradConfig::default() }).unwrap();
    assert_decides(&mut halves, &block, 3.25 / 3.75, 3);
}

#[test]
fn cabs_of_four_samples() {
    // lr 0.1, loss 0.5, population variance 3
    let config = CabsConfig { min: 1, ..CabsConfig::default() };
    assert_decides(&mut Cabs::new(config).unwrap(), &block(&ROWS, &[1; 4]), 0.6, 1);
}

#[test]
fn divebatch_of_an_epoch_of_four_samples() {
    let config = DiveBatchConfig { delta: 10.0, ..DiveBatchConfig::of_epoch(4) };
    // diversity 0.4642857143
    assert_decides(&mut DiveBatch::new(config).unwrap(), &block(&ROWS, &[1; 4]), 18.571_428_571_4, 19);
}

#[test]
fn gain_of_twice_the_base_batch() {
    let measured = Measured { base: 2, chunks: Chunks::Ranks, ema: 0.99 };
    let mut rule = RateConfig::AdaScale(measured).build().unwrap().unwrap();
    assert_near(rule.factor(&agreed(&two_ranks()), &at(1, 4)).unwrap(), 1.071_428_571_4);
}
