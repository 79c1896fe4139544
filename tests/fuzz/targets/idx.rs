//! IDX files, plain or compressed: no input may panic, and the values are as many as the dimensions say.
#![no_main]

use std::path::Path;

use libfuzzer_sys::fuzz_target;
use phalanx_data::idx;

fuzz_target!(|bytes: &[u8]| {
    if let Ok(array) = idx::parse(bytes, Path::new("fuzz"), &[1, 2, 3, 4]) {
        assert_eq!(array.values.len(), array.dims.iter().product::<usize>());
    }
});
