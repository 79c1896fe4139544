//! Training on compressed gradients: ranks agree, models learn, the loop says what was saved.

use std::sync::Arc;

use phalanx::compress::CompressionConfig;
use phalanx::train::{Job, Limit, Methods, Outcome, Reduction, TrainConfig, TrainError};
use phalanx_tests::{Device, Steps, bits, config, distance, job, methods, train};

const LOSSY: [CompressionConfig; 2] = [CompressionConfig::Fp16, CompressionConfig::Bf16];

fn compressed(ranks: usize, config: TrainConfig, compression: CompressionConfig) -> Job<Device> {
    let methods = move || Methods { compression: compression.build(), ..methods(0.05) };
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
        assert!(apart > 0.0 && apart < 0.02, "{compression:?}: {apart}");
    }
}

#[test]
fn sixteen_bits_are_half_the_bytes() {
    for compression in LOSSY {
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
