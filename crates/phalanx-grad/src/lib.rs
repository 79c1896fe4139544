//! Axes, gradient sets, statistics and the traits that every method of phalanx implements
#![forbid(unsafe_code)]
