//! Run files: no text may panic, and a run that is accepted is written as a file that resolves to the same run.
#![no_main]

use libfuzzer_sys::fuzz_target;
use phalanx_launch::runfile::{RawRun, Registered};

fuzz_target!(|text: &str| {
    let registered = Registered::default();
    let Ok(run) = RawRun::parse("fuzz", text).and_then(|raw| raw.resolve(&registered)) else { return };
    let written = run.to_toml();
    match RawRun::parse("written", &written).and_then(|raw| raw.resolve(&registered)) {
        Ok(again) => assert_eq!(again.digest(), run.digest()),
        Err(error) => panic!("{error}\n{written}"),
    }
});
