//! A step holds what the plan said, scoring included.

use phalanx::train::TrainConfig;
use phalanx_tests::{config, job, train};

#[test]
fn a_run_takes_the_arena_that_was_planned() {
    // a share of 24 or 25: whole, in halves that are cut evenly, in small tiles with a short one
    for (batch, tile) in [(48, 0), (48, 16), (48, 23), (50, 7)] {
        let job = job(2, TrainConfig { batch, tile, eval_every: 3, ..config() });
        let planned = job.plan.arena_bytes;
        let taken = train(2, job).expect("a good run").arena_bytes;
        assert!((planned..=planned + planned / 10).contains(&taken), "{taken} of {planned}, tile {tile}");
    }
}

/// A device is given its whole share, or what of it fits.
#[test]
fn a_device_takes_what_fits_its_memory() {
    let bytes = |share: usize| 2 * share as u64 * TrainConfig::TILE_BYTES as u64;
    let whole = job(2, TrainConfig { device_memory: Some(bytes(24)), ..config() }).plan;
    assert_eq!(whole.tile, 24);
    let half = TrainConfig { device_memory: Some(whole.rank_bytes() - 1), ..config() };
    assert_eq!(job(2, half.clone()).plan.tile, 12);
    // the lesser of both
    let one = job(2, TrainConfig { tile: 1, ..config() }).plan;
    let tight = TrainConfig { memory_limit: Some(one.rank_bytes()), device_memory: Some(u64::MAX), ..half };
    assert_eq!(job(2, tight).plan.tile, 1);
}
