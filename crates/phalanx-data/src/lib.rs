//! Data sets, deterministic sharding and shuffling, and fetching with checksums
#![forbid(unsafe_code)]
