//! What must not change a model: the number of ranks, buckets, micro-batches, and who watches.

use std::sync::Arc;

use phalanx::train::{Limit, Outcome, Reduction, TrainConfig};
use phalanx_tests::{Steps, bits, config, distance, job, train};

fn outcome(ranks: usize, config: TrainConfig) -> Outcome {
    train(ranks, job(ranks, config)).expect("no rank fails")
}

#[test]
fn a_batch_that_ranks_share_unevenly_gives_the_gradient_of_the_whole() {
    // 50 samples are 17, 17 and 16 on three ranks; the epoch of 1,294 ends with a batch of 44
    let uneven = TrainConfig { batch: 50, limit: Limit::Epochs(1), ..config() };
    let one = outcome(1, uneven.clone());
    assert_eq!(one.summary.samples, 1294);
    for ranks in [2, 3, 4] {
        let many = outcome(ranks, uneven.clone());
        // the parameters are below 1; 26 steps of rounding in f32
        assert!(distance(&one, &many) < 2e-5, "{ranks} ranks: {}", distance(&one, &many));
    }
}

#[test]
fn more_ranks_than_samples_is_no_trouble() {
    let tiny = TrainConfig { batch: 2, ..config() };
    let (one, three) = (outcome(1, tiny.clone()), outcome(3, tiny));
    assert!(distance(&one, &three) < 2e-5, "{}", distance(&one, &three));
}

#[test]
fn micro_batches_add_up_to_the_batch() {
    let (whole, parts) = (outcome(2, config()), outcome(2, TrainConfig { micro_batch: 5, ..config() }));
    assert!(distance(&whole, &parts) < 2e-5, "{}", distance(&whole, &parts));
}

#[test]
fn reproducible_bits_depend_on_neither_ranks_nor_buckets_nor_micro_batches() {
    let reproducible =
        TrainConfig { batch: 50, reduction: Reduction::Reproducible { shards: 8 }, ..config() };
    let need = bits(&outcome(1, reproducible.clone()));
    for ranks in [2, 3, 4, 8] {
        assert_eq!(bits(&outcome(ranks, reproducible.clone())), need, "{ranks} ranks");
    }
    let one_bucket = TrainConfig { first_bucket_bytes: 1 << 20, ..reproducible.clone() };
    assert_eq!(bits(&outcome(3, one_bucket)), need, "one bucket");
    let parts = TrainConfig { micro_batch: 3, ..reproducible.clone() };
    assert_eq!(bits(&outcome(2, parts)), need, "micro-batches");
    assert_ne!(bits(&outcome(2, TrainConfig { seed: 8, ..reproducible })), need, "the seed matters");
}

#[test]
fn fast_bits_are_the_same_from_run_to_run() {
    for ranks in [2, 3] {
        assert_eq!(bits(&outcome(ranks, config())), bits(&outcome(ranks, config())), "{ranks} ranks");
    }
}

#[test]
fn a_watcher_changes_no_bit() {
    let (every, rare) = (Arc::new(Steps::default()), Arc::new(Steps::default()));
    let run = |watch: &Arc<Steps>, log_every| {
        let watched = job(2, TrainConfig { log_every, ..config() });
        let watch = Arc::clone(watch);
        train(2, phalanx::train::Job { watch, ..watched }).expect("no rank fails")
    };
    let (often, seldom) = (run(&every, 1), run(&rare, 6));
    assert_eq!(bits(&often), bits(&seldom));
    assert_eq!((every.seen().len(), rare.seen().len()), (12, 2));
    assert_eq!(every.loss_bits()[11], rare.loss_bits()[1]);
}
