//! Setup, tests, lints, documents and examples of phalanx from one command: `cargo xtask PART`.
#![deny(unsafe_code)]
#![expect(clippy::print_stdout, reason = "the program reports to its user")]

mod conformance;
mod examples;
mod faults;
mod fuzz;
mod gpu;
mod kernels;
mod licence;
mod lint;
mod mpi;
#[expect(unsafe_code, reason = "the calls of NVRTC")]
mod nvrtc;
mod packages;
mod setup;
mod shell;
mod skipped;
mod test;

use anyhow::{Context as _, Result, bail};

const USAGE: &str = "usage: cargo xtask PART

  setup [--yes]   list what the full tests need and install what is missing
  test            run everything that can run, then tell what was left out and why
  test --gpu      the tests of the feature `cuda` on this machine's device 0
  lint            format, clippy, documentation, rules of the tree, licences and sources
  mpi             build the program with MPI in it into target/mpi, beside the plain one
  kernels         compile the CUDA kernels to what is checked in
  kernels --check compare what is checked in with what the kernels compile to
  docs            build the documentation of every crate
  examples        run every example
  conformance     the communicator over MPICH and Open MPI 5, where they are installed
  survivors       training that goes on when ranks die, over Open MPI 5
  faults          make runs fail in every way and at every moment, and go on from what is left
  faults draw [SEED]
                  one fault of ranks over MPI, drawn by a seed
  fuzz [TARGET [SECONDS]]
                  the readers of files under libFuzzer, each for a minute";

fn main() -> Result<()> {
    let args: Vec<String> = std::env::args().skip(1).collect();
    match args.iter().map(String::as_str).collect::<Vec<_>>()[..] {
        ["setup"] => setup::setup(setup::Consent::Ask),
        ["setup", "--yes"] => setup::setup(setup::Consent::Given),
        ["test"] => test::test(),
        ["test", "--gpu"] => gpu::test_on_device(),
        ["lint"] => lint::lint(),
        ["mpi"] => mpi::build(),
        ["kernels"] => kernels::kernels(kernels::Kernels::Write),
        ["kernels", "--check"] => kernels::kernels(kernels::Kernels::Check),
        ["docs"] => lint::docs(),
        ["examples"] => examples::examples(),
        ["conformance"] => conformance::conformance(),
        ["survivors"] => conformance::survivors(),
        ["faults"] => faults::faults(),
        ["faults", "draw"] => faults::draw(None),
        ["faults", "draw", seed] => faults::draw(Some(seed.parse().context("a seed is a whole number")?)),
        ["fuzz"] => fuzz::fuzz(None, fuzz::SECONDS),
        ["fuzz", name] => fuzz::fuzz(Some(name), fuzz::SECONDS),
        ["fuzz", name, seconds] => {
            fuzz::fuzz(Some(name), seconds.parse().context("the seconds are a whole number")?)
        }
        [] | ["help" | "--help" | "-h"] => {
            println!("{USAGE}");
            Ok(())
        }
        _ => bail!("unknown arguments: {}\n\n{USAGE}", args.join(" ")),
    }
}
