//! The conformance suites, one a kind of thing that has several implementations.

mod communicator;

pub use communicator::{Check, Disagreement, Trouble, communicator, communicator_checks, disagreements};
