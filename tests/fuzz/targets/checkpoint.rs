//! The state of a checkpoint, as it comes and behind a frame whose length and checksum are right: no input may panic.
#![no_main]

use std::path::Path;

use libfuzzer_sys::fuzz_target;
use phalanx_train::checkpoint::{FORMAT_VERSION, state_file};

fuzz_target!(|payload: &[u8]| {
    let file = Path::new("state.bin");
    let _ = state_file::decode(file, payload);

    let mut framed = b"PHLXCKPT".to_vec();
    framed.extend(FORMAT_VERSION.to_le_bytes());
    framed.extend((payload.len() as u64).to_le_bytes());
    let mut sum = crc32fast::Hasher::new();
    sum.update(&framed);
    sum.update(payload);
    framed.extend(sum.finalize().to_le_bytes());
    framed.extend(payload);
    let _ = state_file::decode(file, &framed);
});
