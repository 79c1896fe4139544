//! `cargo xtask mpi`, a build of its own, so that the plain program keeps starting on machines without MPI; and the tests
//! that need one.

use anyhow::{Result, bail};

use crate::shell::{cargo, command, root, run, succeeds};
use crate::skipped::{self, Skipped};
use crate::test::with_cases;

/// Where the program with MPI in it is built.
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
    let command = match has_nextest {
        // ranks want the cores for themselves
        true => cargo(
            &[
                &["nextest", "run", "--no-fail-fast", "--profile", "xtask", "-j", "1"],
                &WORKSPACE[..],
                &TARGETS,
                &ONLY,
            ]
            .concat(),
        ),
        false => cargo(&[&["test"], &PACKAGES[..], &TARGETS].concat()),
    };
    run(with_cases(command))?;
    if !has_nextest {
        return Ok(Vec::new());
    }
    skipped::from_report()
}

/// Clippy on what the feature adds, where it can be built.
pub(crate) fn lint() -> Result<()> {
    if let Some(reason) = missing() {
        println!("{reason}: the feature `mpi` was not looked at");
        return Ok(());
    }
    run(cargo(&[&["clippy", "--quiet"], &WORKSPACE[..], &["--all-targets", "--", "-D", "warnings"]].concat()))
}

/// All that the other tests build, with the feature: what it does not change is not built again.
const WORKSPACE: [&str; 3] =
    ["--workspace", "--features", "phalanx-robust/laws,phalanx/nccl,phalanx-launch/nccl,phalanx-launch/mpi"];

/// What has the feature.
pub(crate) const PACKAGES: [&str; 6] =
    ["--package", "phalanx-comm-mpi", "--package", "phalanx-launch", "--features", "mpi"];

/// What the feature changes: the crate of the communicator, and the program under `mpirun`.
const ONLY: [&str; 2] = ["-E", "package(phalanx-comm-mpi) or binary(mpi)"];
const TARGETS: [&str; 5] = ["--lib", "--test", "conformance", "--test", "mpi"];

/// Why the feature `mpi` cannot be built here, if it cannot.
pub(crate) fn missing() -> Option<String> {
    if !succeeds(command("mpicc", &["--version"])) {
        return Some("no MPI: no `mpicc` on this machine".to_owned());
    }
    // where bindgen looks for it: LIBCLANG_PATH, the linker's directories, LLVM's own
    let find = "test -n \"$LIBCLANG_PATH\" || ldconfig -p | grep -q libclang || ls /usr/lib/llvm-*/lib/libclang*.so*";
    let has_clang = succeeds(command("sh", &["-c", find]));
    (!has_clang).then(|| "no libclang, which reads mpi.h".to_owned())
}
