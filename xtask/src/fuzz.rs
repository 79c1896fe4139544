//! `cargo xtask fuzz`: the readers of files under libFuzzer, built by the stable compiler.
//!
//! Coverage counters come from LLVM's own pass, which needs no nightly compiler; address sanitizing does, and is left to
//! `cargo fuzz run --fuzz-dir tests/fuzz`.

use std::fs;
use std::path::Path;

use anyhow::{Context as _, Result, bail};

use crate::shell::{cargo, command, root, run, target};

/// The programs of `tests/fuzz`, and directories of their first inputs.
const TARGETS: [(&str, &[&str]); 5] = [
    ("idx", &["tests/fuzz/seeds/idx"]),
    ("csv", &["tests/fuzz/seeds/csv"]),
    ("cifar", &[]),
    ("run-file", &["launch", "launch/byzantine", "launch/adadagrad-fashion-mnist"]),
    ("checkpoint", &[]),
];

/// LLVM's counters of edges, with the comparisons that let the fuzzer find magic numbers.
const INSTRUMENTED: &str = "-Cpasses=sancov-module -Cllvm-args=-sanitizer-coverage-level=4 \
     -Cllvm-args=-sanitizer-coverage-inline-8bit-counters -Cllvm-args=-sanitizer-coverage-pc-table \
     -Cllvm-args=-sanitizer-coverage-trace-compares -Ccodegen-units=1 --cfg fuzzing";

/// How long each program runs where nothing is said, in seconds.
pub(crate) const SECONDS: u32 = 60;

/// Runs one program, or each of them, for `seconds`; ends with an error at the first input that a reader does not bear.
pub(crate) fn fuzz(only: Option<&str>, seconds: u32) -> Result<()> {
    let names: Vec<&str> = TARGETS.iter().map(|(name, _)| *name).collect();
    if let Some(name) = only.filter(|name| !names.contains(name)) {
        bail!("no fuzz target `{name}`: there are {}", names.join(", "));
    }
    let place = target().join("fuzz");
    for (name, seeds) in TARGETS {
        if only.is_some_and(|only| only != name) {
            continue;
        }
        let mut build =
            cargo(&["build", "--release", "--manifest-path", "tests/fuzz/Cargo.toml", "--bin", name]);
        // for another platform than the host's, though the same: build scripts stay as they are
        let host = host()?;
        build.args(["--target", &host]).env("CARGO_TARGET_DIR", &place).env("RUSTFLAGS", INSTRUMENTED);
        run(build)?;

        let corpus = place.join("corpus").join(name);
        let found = place.join("found").join(name);
        fs::create_dir_all(&corpus)?;
        fs::create_dir_all(&found)?;
        for dir in seeds {
            plant(&root().join(dir), &corpus)?;
        }
        let program = place.join(&host).join("release").join(name);
        let mut fuzzer = command(program, &["-timeout=10", "-rss_limit_mb=2048", "-print_final_stats=1"]);
        fuzzer.arg(format!("-max_total_time={seconds}"));
        fuzzer.arg(format!("-artifact_prefix={}/", found.display())).arg(&corpus);
        run(fuzzer)?;
    }
    Ok(())
}

/// Copies the files of a directory.
fn plant(dir: &Path, corpus: &Path) -> Result<()> {
    for entry in fs::read_dir(dir).with_context(|| format!("reading {}", dir.display()))? {
        let entry = entry?;
        if entry.file_type()?.is_file() {
            fs::copy(entry.path(), corpus.join(entry.file_name()))?;
        }
    }
    Ok(())
}

/// The platform of the compiler, as cargo names it.
fn host() -> Result<String> {
    let version = crate::shell::output(command("rustc", &["--version", "--verbose"]))?;
    let host = version.lines().find_map(|line| line.strip_prefix("host: ")).context("rustc names no host")?;
    Ok(host.to_owned())
}
