//! Records of CIFAR's binary version: no input may panic, and each record has its pixels.
#![no_main]

use std::path::Path;

use libfuzzer_sys::fuzz_target;
use phalanx_data::cifar;

fuzz_target!(|bytes: &[u8]| {
    if let Ok(records) = cifar::parse(bytes, Path::new("fuzz")) {
        assert_eq!(records.pixels.len(), records.labels.len() * 3072);
    }
});
