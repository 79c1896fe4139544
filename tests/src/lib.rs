//! Tests that cross the crates of phalanx
#![forbid(unsafe_code)]
