//! Tests that need loom instead of `std`: `RUSTFLAGS="--cfg loom" cargo test -p phalanx-comm --lib --release loom`.

mod loom_exchange;
mod loom_failure;
mod loom_started;

use crate::error::CommError;
use crate::event::Patience;
use crate::rank::WorldSize;
use crate::thread::{Options, ThreadComm, ThreadWorld};
use loom::thread;

/// Looks for sleepers after a poll, as where every rank has a core.
fn lazy(_: usize) -> Patience {
    Patience { polls: 1, yields: 0, polls_first: true }
}

/// Looks for sleepers at once, as where ranks share cores.
fn eager(_: usize) -> Patience {
    Patience { polls: 0, yields: 0, polls_first: false }
}

/// Runs `f` on two ranks under every interleaving with at most two preemptions, and returns both results to `check`.
///
/// The communicators live until both have ended, so that no rank is woken by another's leaving.
fn on_two_ranks<R: 'static>(
    patience: fn(usize) -> Patience,
    f: fn(&ThreadComm) -> Result<R, CommError>,
    check: fn(Result<R, CommError>),
) {
    let mut model = loom::model::Builder::new();
    model.preemption_bound = Some(2);
    model.check(move || {
        let world = ThreadWorld::with_patience(WorldSize(2), &Options::default(), patience);
        let comms = world.expect("two ranks").into_comms();
        let ranks = comms.iter().cloned().map(|comm| thread::spawn(move || f(&comm)));
        for rank in ranks.collect::<Vec<_>>() {
            check(rank.join().expect("no panic"));
        }
    });
}
