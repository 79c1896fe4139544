//! The binary `phalanx`.
fn main() {}
