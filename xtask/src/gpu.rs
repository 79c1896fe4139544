//! `cargo xtask test --gpu`: the tests of the device on a real one. Without the switch they run with all others, on stand-ins
//! for the libraries, which interpret the compiled kernels on the CPU.

use anyhow::{Context as _, Result};

use crate::shell::{cargo, command, run, succeeds};
use crate::test::with_cases;

/// Operators and collectives.
const PACKAGES: [&str; 6] = [
    "--package",
    "phalanx-cuda",
    "--package",
    "phalanx-comm-nccl",
    "--features",
    "phalanx-cuda/cuda,phalanx-comm-nccl/nccl",
];

/// Whole runs.
const RUNS: [&str; 6] = ["--package", "phalanx-launch", "--features", "phalanx-launch/nccl", "--test", "e2e"];

/// What tells the tests to take the libraries of the machine.
const REAL: &str = "PHALANX_GPU";

/// The suite on the machine's own libraries and devices; fails where there is none.
pub(crate) fn test_on_device() -> Result<()> {
    let has_nextest = succeeds(command("cargo-nextest", &["--version"]));
    // one process at a time has the device
    let suites: [Vec<&str>; 2] = match has_nextest {
        true => {
            let begin = ["nextest", "run", "--no-fail-fast", "-j", "1"];
            [[&begin[..], &PACKAGES].concat(), [&begin[..], &RUNS, &["devices::"]].concat()]
        }
        false => [
            [&["test"], &PACKAGES[..], &["--all-targets"]].concat(),
            [&["test"], &RUNS[..], &["devices::", "--", "--test-threads", "1"]].concat(),
        ],
    };
    for args in suites {
        let mut suite = cargo(&args);
        suite.env(REAL, "1");
        run(with_cases(suite))
            .context("the tests do not pass on the devices of this machine: the first failure says why")?;
    }
    Ok(())
}
