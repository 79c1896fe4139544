//! `cargo xtask test --gpu`: the tests of the device on a real one. Without the switch they run with all others, on stand-ins
//! for the libraries, which interpret the compiled kernels on the CPU.

use anyhow::{Context as _, Result};

use crate::shell::{cargo, command, run, succeeds};
use crate::test::with_cases;

/// What has the feature.
const PACKAGES: [&str; 4] = ["--package", "phalanx-cuda", "--features", "phalanx-cuda/cuda"];

/// What tells the tests to take the libraries of the machine.
const REAL: &str = "PHALANX_GPU";

/// The suite on the machine's own libraries and device 0; fails where there is none.
pub(crate) fn test_on_device() -> Result<()> {
    let mut suite = match succeeds(command("cargo-nextest", &["--version"])) {
        // one process at a time has the device
        true => cargo(&[&["nextest", "run", "--no-fail-fast", "-j", "1"], &PACKAGES[..]].concat()),
        false => cargo(&[&["test"], &PACKAGES[..], &["--all-targets"]].concat()),
    };
    suite.env(REAL, "1");
    run(with_cases(suite))
        .context("the tests do not pass on device 0 of this machine: the first failure says why")
}
