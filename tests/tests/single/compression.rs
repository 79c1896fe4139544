//! Training on compressed gradients: ranks agree, models learn, the loop says what was saved.

use std::sync::Arc;

use phalanx::batch::{CoordinateTest, Pace, PolicyConfig, TestConfig};
use phalanx::compress::CompressionConfig;
use phalanx::grad::{Chunks, CoordinateRule};
use phalanx::train::{Job, Limit, Methods, Outcome, Reduction, TrainConfig, TrainError};
use phalanx_tests::{Device, Steps, bits, config, distance, job, methods, train};

const HALVES: [CompressionConfig; 2] = [CompressionConfig::Fp16, CompressionConfig::Bf16];

const LOSSY: [CompressionConfig; 4] = [
    CompressionConfig::Fp16,
    CompressionConfig::Bf16,
    CompressionConfig::PowerSgd { rank: 2, start_step: 10, seed: 7 },
    CompressionConfig::TopK { fraction: 0.05, start_step: 10 },
];

fn compressed(ranks: usize, config: TrainConfig, compression: CompressionConfig) -> Job<Device> {
    let methods =
        move || Methods { compression: compression.build().expect("good settings"), ..methods(0.05) };
    Job { methods: Box::new(methods), ..job(ranks, config) }
}

fn outcome(ranks: usize, config: TrainConfig, compression: CompressionConfig) -> Outcome {
    train(ranks, compressed(ranks, config, compression)).expect("no rank fails")
}

#[test]
fn the_digits_are_learned_on_two_and_three_ranks() {
    for compression in LOSSY {
        for ranks in [2, 3] {
            let config = TrainConfig { limit: Limit::Epochs(25), ..config() };
            let learned = outcome(ranks, config, compression).summary;
            let accuracy = learned.test_accuracy.expect("a classifier");
            assert!(accuracy >= 0.95, "{compression:?} on {ranks} ranks: {accuracy}");
        }
    }
}

#[test]
fn runs_repeat_bit_by_bit_and_differ_from_plain_ones() {
    let plain = outcome(3, config(), CompressionConfig::None);
    for compression in LOSSY {
        let once = outcome(3, config(), compression);
        assert_eq!(bits(&once), bits(&outcome(3, config(), compression)), "{compression:?}");
        let apart = distance(&once, &plain);
        assert!(apart > 0.0 && apart < 0.05, "{compression:?}: {apart}");
    }
}

#[test]
fn sixteen_bits_are_half_the_bytes() {
    for compression in HALVES {
        let steps = Arc::new(Steps::default());
        let watched = Job { watch: Arc::clone(&steps) as _, ..compressed(2, config(), compression) };
        let total = train(2, watched).expect("no rank fails").summary.traffic.expect("it is compressed");
        let step = steps.seen()[0].traffic.expect("it is compressed");
        assert_eq!((total.sent_bytes, total.plain_bytes), (12 * step.sent_bytes, 12 * step.plain_bytes));
        let rounded_up = 4 * 8;
        assert!(2 * step.sent_bytes >= step.plain_bytes);
        assert!(2 * step.sent_bytes <= step.plain_bytes + rounded_up, "{step:?}");
    }
    assert_eq!(outcome(2, config(), CompressionConfig::None).summary.traffic, None);
}

#[test]
fn the_reproducible_mode_refuses() {
    let reduction = Reduction::Reproducible { shards: 4 };
    let error = train(2, compressed(2, TrainConfig { reduction, ..config() }, CompressionConfig::Bf16));
    let error = error.expect_err("not with compression");
    let message = "compression bf16 cannot go with train.reduction = \"reproducible\"";
    assert!(format!("{error:?}").contains("Compression"), "{error:?}");
    let refused = TrainError::Compression { compressor: "bf16", with: "train.reduction = \"reproducible\"" };
    assert_eq!(refused.to_string(), message);
}

#[test]
fn thin_factors_and_large_elements_send_less() {
    for (compression, most) in [
        (CompressionConfig::PowerSgd { rank: 1, start_step: 0, seed: 7 }, 0.25),
        (CompressionConfig::TopK { fraction: 0.05, start_step: 0 }, 0.11),
    ] {
        let traffic = outcome(2, config(), compression).summary.traffic.expect("it is compressed");
        let share = traffic.sent_bytes as f64 / traffic.plain_bytes as f64;
        assert!(share < most, "{compression:?}: {share}");
    }
}

/// Statistics are of a rank's own gradient, before it is compressed.
#[test]
fn what_is_measured_of_the_gradient_changes_nothing() {
    let coordinates = PolicyConfig::CoordinateTest(
        CoordinateTest { eta: 0.9, rule: CoordinateRule::Quantile(0.2) },
        TestConfig { chunks: Chunks::Ranks, pace: Pace { interval: 1, growth: 4.0, max: 48 }, ema: 0.0 },
    );
    for compression in LOSSY {
        let coordinates = coordinates.clone();
        let build = move || Methods {
            compression: compression.build().expect("good settings"),
            policy: coordinates.build().expect("good settings"),
            ..methods(0.05)
        };
        let held = train(2, Job { methods: Box::new(build), ..job(2, config()) }).expect("no rank fails");
        assert_eq!(bits(&held), bits(&outcome(2, config(), compression)), "{compression:?}");
    }
}
