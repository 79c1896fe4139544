//! Records of CIFAR's binary version: no input may panic, and each record has its pixels.
#![no_main]

use std::path::Path;

use libfuzzer_sys::fuzz_target;
use phalanx_data::cifar;

/// A label and three planes of 32 x 32.
const RECORD: usize = 3073;

fuzz_target!(|bytes: &[u8]| {
    read(bytes);
    let mut whole = bytes.to_vec();
    whole.resize(bytes.len().next_multiple_of(RECORD).max(RECORD), 0);
    read(&whole);
});

fn read(bytes: &[u8]) {
    if let Ok(records) = cifar::parse(bytes, Path::new("fuzz")) {
        assert_eq!(records.pixels.len(), records.labels.len() * (RECORD - 1));
    }
}
