//! Benchmarks of phalanx
#![forbid(unsafe_code)]
