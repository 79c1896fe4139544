//! The laws as a proptest library: strategies for honest and hostile sets, and properties to check a rule by.
//!
//! The rule is anything that is a [`Reduce<Ranks>`] and made for a number of hostile vectors. [`assert_keeps`] and
//! [`assert_breaks`] run proptest by themselves; [`holds`] and [`bears`] check one [`Set`], for tests that draw their
//! own.
//!
//! ```
//! use phalanx_robust::laws::{self, Shape};
//! use phalanx_robust::{Law, Laws, Robust, TrimmedMean};
//!
//! let make = |f| Robust::new(f, TrimmedMean);
//! laws::assert_keeps(Laws::none().and(Law::Box).and(Law::Translation), &Shape::default(), make);
//! laws::assert_breaks(Law::Rotation, &Shape::default(), make);
//! laws::assert_bears(|n, f| f as f64 / (n - 2 * f) as f64, &Shape::default(), make);
//! ```
//!
//! Coordinates of drawn vectors are multiples of 2^-16 below 2^6, so that moving, turning round and scaling by powers
//! of two are exact and a law is not blamed for rounding.

mod check;
mod set;

pub use check::{Broken, bears, holds, worst_ratio};
pub use set::{Set, Shape, sets};

use crate::{Law, Laws};
use phalanx_grad::{Ranks, Reduce};
use proptest::strategy::{Strategy, ValueTree};
use proptest::test_runner::{Config, TestCaseError, TestRng, TestRunner};

/// Sets that are tried for a counter-example.
const TRIES: usize = 2000;

/// Checks that a rule keeps laws.
///
/// # Panics
/// When it breaks one, with the smallest set found and what the rule made of it.
#[track_caller]
pub fn assert_keeps<R: Reduce<Ranks>>(laws: Laws, shape: &Shape, make: impl Fn(usize) -> R) {
    for law in laws.iter() {
        run(shape, |set| holds(law, &make, set));
    }
}

/// Checks that a rule does **not** keep a law, so that its list of laws claims no less than is true.
///
/// # Panics
/// When no counter-example is found.
#[track_caller]
pub fn assert_breaks<R: Reduce<Ranks>>(law: Law, shape: &Shape, make: impl Fn(usize) -> R) {
    let found = counterexample(law, shape, make);
    assert!(found.is_some(), "no set of {TRIES} breaks {}", law.name());
}

/// A set on which a rule breaks a law.
pub fn counterexample<R: Reduce<Ranks>>(
    law: Law,
    shape: &Shape,
    make: impl Fn(usize) -> R,
) -> Option<Broken> {
    let mut runner = TestRunner::deterministic();
    let strategy = sets(shape);
    (0..TRIES).find_map(|_| {
        let set = strategy.new_tree(&mut runner).ok()?.current();
        holds(law, &make, &set).err().map(|broken| *broken)
    })
}

/// Checks `|F - mean|^2 <= kappa(n, f) / (n - f) * sum |x_i - mean|^2` over the honest vectors, also after the hostile
/// ones climbed towards what hurts most.
///
/// # Panics
/// When a set is worse.
///
/// # Reference
/// Allouah et al., "Fixing by Mixing: A Recipe for Optimal Byzantine ML under Heterogeneity", AISTATS 2023,
/// definition 2.
#[track_caller]
pub fn assert_bears<R: Reduce<Ranks>>(
    kappa: impl Fn(usize, usize) -> f64,
    shape: &Shape,
    make: impl Fn(usize) -> R,
) {
    run(shape, |set| bears(kappa(set.n(), set.hostile.len()), &make, set));
}

#[track_caller]
fn run(shape: &Shape, property: impl Fn(&Set) -> Result<(), Box<Broken>>) {
    // the same sets each time; PROPTEST_CASES says how many
    let config = Config { failure_persistence: None, ..Config::default() };
    let rng = TestRng::deterministic_rng(config.rng_algorithm);
    let mut runner = TestRunner::new_with_rng(config, rng);
    let failed = runner
        .run(&sets(shape), |set| property(&set).map_err(|broken| TestCaseError::fail(broken.to_string())));
    if let Err(error) = failed {
        panic!("{error}");
    }
}
