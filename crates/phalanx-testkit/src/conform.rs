//! The conformance suites, one a kind of thing that has several implementations.

#[expect(clippy::panic_in_result_fn, reason = "an error is the world's; a check that does not hold panics")]
mod communicator;

pub use communicator::{Check, Disagreement, Trouble, communicator, communicator_checks, disagreements};
