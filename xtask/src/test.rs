//! `cargo xtask test`: all tests, the documentation's programs, the interleavings, and what was left out.

use std::process::{Command, Stdio};
use std::thread;

use anyhow::{Context as _, Result, bail};

use crate::faults;
use crate::mpi;
use crate::shell::{FEATURES, cargo, command, root, run, shown, succeeds};
use crate::skipped::{self, Skipped};

/// Cases of a property test; its own default is for a longer wait.
const PROPTEST_CASES: &str = "32";

pub(crate) fn test() -> Result<()> {
    let required = std::env::var_os("PHALANX_REQUIRE").unwrap_or_default();
    let is_all_required = required.to_string_lossy().split(',').any(|name| name.trim() == "all");
    // all parts run, so that one failure does not hide another
    let has_nextest = succeeds(command("cargo-nextest", &["--version"]));
    let unit = if has_nextest { nextest() } else { libtest() };
    let over_mpi = mpi::test(has_nextest);
    let fault = mpi::missing().map_or_else(|| faults::draw_as_built(None), |_| Ok(()));
    // both compile much and one crate after the other, in directories of their own
    let (docs, interleavings) = thread::scope(|scope| {
        let interleavings = scope.spawn(loom);
        let docs = run(cargo(&["test", "--quiet", "--doc", "--workspace", "--features", FEATURES]));
        (docs, interleavings.join())
    });
    let interleavings = interleavings.unwrap_or_else(|panic| std::panic::resume_unwind(panic));
    let left_out: Vec<_> = [&unit, &over_mpi].into_iter().flatten().flatten().cloned().collect();
    let report = skipped::report(&left_out, is_all_required);
    unit.and(over_mpi).and(fault).and(docs).and(interleavings).and(report)
}

/// Property tests get few cases, unless the caller says how many.
pub(crate) fn with_cases(mut command: Command) -> Command {
    if std::env::var_os("PROPTEST_CASES").is_none() {
        command.env("PROPTEST_CASES", PROPTEST_CASES);
    }
    command
}

/// By nextest, whose report (.config/nextest.toml) has what each test printed.
fn nextest() -> Result<Vec<Skipped>> {
    let args =
        ["nextest", "run", "--workspace", "--features", FEATURES, "--no-fail-fast", "--profile", "xtask"];
    run(with_cases(cargo(&args)))?;
    skipped::from_report()
}

/// By `cargo test`, one test program after the other.
fn libtest() -> Result<Vec<Skipped>> {
    let args = [
        "test",
        "--workspace",
        "--features",
        FEATURES,
        "--all-targets",
        "--no-fail-fast",
        "--",
        "--show-output",
    ];
    let mut command = with_cases(cargo(&args));
    println!("$ {}", shown(&command));
    let output = command.stderr(Stdio::inherit()).output().context("starting cargo")?;
    let text = String::from_utf8_lossy(&output.stdout);
    text.lines().filter(|line| line.starts_with("test ")).for_each(|line| println!("{line}"));
    if !output.status.success() {
        println!("{text}");
        bail!("{} ended with {}", shown(&command), output.status);
    }
    Ok(skipped::from_shown(&text))
}

/// Every interleaving of the thread backend's waits, by loom; another build of one crate.
fn loom() -> Result<()> {
    let place = root().join("target/loom");
    let args = ["test", "--quiet", "--package", "phalanx-comm", "--lib", "--release", "loom"];
    let mut command = cargo(&args);
    command.env("RUSTFLAGS", "--cfg loom").env("CARGO_TARGET_DIR", place);
    // what the program itself is built with takes longer to build than these tests to run
    command.env("CARGO_PROFILE_RELEASE_LTO", "off").env("CARGO_PROFILE_RELEASE_DEBUG", "false");
    run(command)
}
