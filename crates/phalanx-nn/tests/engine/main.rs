//! The engine's tests; one binary, because each binary compiles every kernel again.
#![expect(clippy::unwrap_used, reason = "a test ends where its inputs are wrong")]

mod allocation;
mod convolutions;
mod curvature;
mod gradients;
mod losses;
mod models;
mod observer;
mod reference;
mod samples;
mod support;
