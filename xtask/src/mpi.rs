//! `cargo xtask mpi`, and the tests that need an MPI: a build of their own, so that the plain one keeps starting on
//! machines without.

use anyhow::{Context as _, Result, bail};

use crate::shell::{cargo, command, root, run, succeeds};
use crate::skipped::{self, Skipped};
use crate::test::with_cases;

/// Where programs with MPI in them are built.
const PLACE: &str = "target/mpi";

/// Builds the program `phalanx` with MPI in it.
pub(crate) fn build() -> Result<()> {
    if let Some(reason) = missing() {
        bail!("{reason}: `cargo xtask setup` installs it");
    }
    let mut build = cargo(&["build", "--release", "--package", "phalanx-launch", "--features", "mpi"]);
    build.env("CARGO_TARGET_DIR", root().join(PLACE));
    run(build)?;
    println!("{PLACE}/release/phalanx: start it by mpirun or srun; by itself it has ranks as threads");
    Ok(())
}

/// The tests of the feature `mpi`; left out as one where it cannot be built.
pub(crate) fn test(has_nextest: bool) -> Result<Vec<Skipped>> {
    if let Some(reason) = missing() {
        return Ok(vec![Skipped { test: "all tests over MPI".to_owned(), reason }]);
    }
    let packages = ["--package", "phalanx-comm-mpi", "--package", "phalanx-launch", "--features", "mpi"];
    let mut command = match has_nextest {
        // ranks want the cores for themselves
        true => cargo(
            &[&["nextest", "run", "--no-fail-fast", "--profile", "xtask", "-j", "1"], &packages[..], &ONLY]
                .concat(),
        ),
        false => cargo(&[&["test"], &packages[..], &TARGETS].concat()),
    };
    command.env("CARGO_TARGET_DIR", root().join(PLACE));
    run(with_cases(command))?;
    if !has_nextest {
        return Ok(Vec::new());
    }
    let report = root().join(PLACE).join("nextest/xtask/junit.xml");
    let xml = std::fs::read_to_string(&report).with_context(|| format!("reading {}", report.display()))?;
    Ok(skipped::from_junit(&xml))
}

/// What the feature changes: the crate of the communicator, and the program under `mpirun`.
const ONLY: [&str; 2] = ["-E", "package(phalanx-comm-mpi) or binary(mpi)"];
const TARGETS: [&str; 5] = ["--lib", "--test", "conformance", "--test", "mpi"];

/// Why the feature `mpi` cannot be built here, if it cannot.
fn missing() -> Option<String> {
    if !succeeds(command("mpicc", &["--version"])) {
        return Some("no MPI: no `mpicc` on this machine".to_owned());
    }
    // where bindgen looks for it: LIBCLANG_PATH, the linker's directories, LLVM's own
    let find = "test -n \"$LIBCLANG_PATH\" || ldconfig -p | grep -q libclang || ls /usr/lib/llvm-*/lib/libclang*.so*";
    let has_clang = succeeds(command("sh", &["-c", find]));
    (!has_clang).then(|| "no libclang, which reads mpi.h".to_owned())
}
