//! `cargo xtask lint`: format, clippy, documentation, the rules of the tree, licences and sources.

use anyhow::Result;

use crate::kernels::{self, Kernels};
use crate::mpi;
use crate::packages;
use crate::shell::{FEATURES, cargo, command, run, succeeds};

pub(crate) fn lint() -> Result<()> {
    let parts = [
        run(cargo(&["fmt", "--all", "--check"])),
        run(cargo(&[
            "clippy",
            "--quiet",
            "--workspace",
            "--features",
            FEATURES,
            "--all-targets",
            "--",
            "-D",
            "warnings",
        ])),
        mpi::lint(),
        compiled_kernels(),
        docs(),
        run(cargo(&["test", "--quiet", "--workspace", "--features", FEATURES, "--test", "tidy"])),
        packages::check(),
        deny(),
    ];
    // all parts run, so that one failure does not hide another
    parts.into_iter().collect()
}

/// Builds the documentation; a broken link is an error.
pub(crate) fn docs() -> Result<()> {
    let mut doc = cargo(&["doc", "--quiet", "--workspace", "--features", FEATURES, "--no-deps"]);
    doc.env("RUSTDOCFLAGS", "-D warnings");
    run(doc)
}

/// Whether the compiled kernels are those of the sources, where the compiler is here.
fn compiled_kernels() -> Result<()> {
    if kernels::has_compiler() {
        return kernels::kernels(Kernels::Check);
    }
    println!("NVRTC is not here: the compiled kernels were not compared with their sources");
    Ok(())
}

/// Advisories need a database from the network, which only cargo-deny fetches.
fn deny() -> Result<()> {
    if succeeds(command("cargo-deny", &["--version"])) {
        return run(cargo(&["deny", "check"]));
    }
    println!("cargo-deny is not here: licences and sources were checked, advisories were not");
    Ok(())
}
