//! The rules of the learning rate.

use super::{agreed, assert_near, at, expected};
use phalanx_batch::{Constant, Measured, RateConfig, RateRule, Rated};
use phalanx_grad::{BatchPolicy, Chunks, Needs};
use proptest::prelude::{prop_assert, proptest};

fn rule(config: RateConfig) -> Box<dyn RateRule> {
    config.build().unwrap().unwrap()
}

fn measured(base: u64) -> Measured {
    Measured { base, chunks: Chunks::Ranks, ema: 0.9 }
}

/// The factor of a first step of this batch, with a noise scale of 100.
fn factor(config: RateConfig, batch: u64) -> f64 {
    rule(config).factor(&agreed(&expected(batch, 100.0, 1.0)), &at(1, batch)).unwrap()
}

#[test]
fn every_rule_is_one_at_its_base() {
    for name in &RateConfig::NAMES[1..] {
        assert_near(factor(RateConfig::from_name(name, 64).unwrap(), 64), 1.0);
    }
    assert!(RateConfig::from_name("none", 64).unwrap().build().unwrap().is_none());
}

#[test]
fn rules_at_four_times_the_base() {
    assert_near(factor(RateConfig::Linear { base: 25 }, 100), 4.0);
    assert_near(factor(RateConfig::SquareRoot { base: 25 }, 100), 2.0);
    // (1 + 100 / 25) / (1 + 100 / 100)
    assert_near(factor(RateConfig::Saturating(measured(25)), 100), 2.5);
    // (4 + 1) / (1 + 1): the same, seen as a gain
    assert_near(factor(RateConfig::AdaScale(measured(25)), 100), 2.5);
    // a batch below the base
    assert_near(factor(RateConfig::Saturating(measured(100)), 25), 0.4);
}

#[test]
fn without_a_signal_the_saturating_rule_is_linear() {
    let block = agreed(&expected(64, 100.0, -1.0));
    assert_near(rule(RateConfig::Saturating(measured(16))).factor(&block, &at(1, 64)).unwrap(), 4.0);
}

proptest! {
    #[test]
    fn a_gain_lies_between_one_and_the_scale(variance in 0.0_f64..1e6, signal in -10.0_f64..10.0, times in 1_u64..64) {
        let block = agreed(&expected(16 * times, variance, signal));
        let gain = rule(RateConfig::AdaScale(measured(16))).factor(&block, &at(1, 16 * times)).unwrap();
        prop_assert!((1.0..=times as f64).contains(&gain), "{gain}");
    }
}

#[test]
fn a_policy_with_a_rule_measures_for_both() {
    let rated = Rated::new(Box::new(Constant), rule(RateConfig::AdaScale(measured(16))));
    assert_eq!(rated.name(), "constant");
    assert_eq!(rated.needs(&at(1, 64)), Needs::of(Chunks::Ranks));
    assert_eq!(rated.bounds().needs, Needs::of(Chunks::Ranks));
}

#[test]
fn settings_out_of_range_are_named() {
    let fault = |config: RateConfig| config.build().map(|_| ()).unwrap_err().to_string();
    assert_eq!(fault(RateConfig::Linear { base: 0 }), "linear: base is 0, need at least 1");
    let ema = Measured { ema: 1.0, ..measured(8) };
    assert_eq!(fault(RateConfig::AdaScale(ema)), "adascale: ema is 1, need a number from 0 to below 1");
    let unknown = RateConfig::from_name("cubic", 8).unwrap_err().to_string();
    assert!(
        unknown.starts_with("no rule for the learning rate is named cubic, there are none, linear"),
        "{unknown}"
    );
}
