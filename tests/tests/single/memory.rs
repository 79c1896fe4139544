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
