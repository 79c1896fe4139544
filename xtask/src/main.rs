//! Setup, tests, lints and docs of phalanx from one command
fn main() {}
