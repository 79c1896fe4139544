//! `cargo xtask faults`: makes a run fail in every way and at every moment, and goes on from what is left.
//!
//! Each run has to end within its limit, has to name the rank, and has to reach, when it goes on, bitwise the model of a run
//! that nothing happened to.

mod cluster;
mod fault;
mod job;
mod over_mpi;
mod watched;

use std::time::SystemTime;

use anyhow::{Result, ensure};

use crate::mpi;
use crate::shell::{cargo, run};
use cluster::Cluster;
use fault::{Fault, Launcher};
use job::Job;

/// The fault that is not tried.
const OUT_OF_MEMORY: &str = "left out: a rank that runs out of memory. To limit one rank alone takes a memory cgroup that is this \
    job's to divide, and none is taken from who runs it; the kernel ends such a rank by SIGKILL, as `kill` does";

/// Everything that can go wrong here.
pub(crate) fn faults() -> Result<()> {
    let over_mpi = build()?;
    let job = Job::new()?;
    let (cluster, faults) = over_mpi.then(available).transpose()?.unwrap_or_default();
    println!("{:<62} {:>9}  {:<22} model", "fault", "ended in", "and");
    let mut wrong = Vec::new();
    for fault in job::OF_THREADS {
        wrong.extend(job.survives(fault).map_err(|error| format!("{fault}: {error:#}")).err());
    }
    for fault in faults {
        let survived = over_mpi::survives(&job, fault, cluster.as_ref());
        wrong.extend(survived.map_err(|error| format!("{fault}: {error:#}")).err());
    }
    println!("{OUT_OF_MEMORY}");
    ensure!(wrong.is_empty(), "{} faults were not survived:\n  {}", wrong.len(), wrong.join("\n  "));
    Ok(())
}

/// One fault of ranks over MPI, drawn by `seed`, or by the clock.
pub(crate) fn draw(seed: Option<u64>) -> Result<()> {
    ensure!(build()?, "without MPI there is nothing to draw from: `cargo xtask setup` installs it");
    draw_as_built(seed)
}

/// As [`draw`], with the program that the tests over MPI have built.
pub(crate) fn draw_as_built(seed: Option<u64>) -> Result<()> {
    let since = SystemTime::UNIX_EPOCH.elapsed().unwrap_or_default();
    let seed = seed.unwrap_or(since.as_secs());
    let (cluster, faults) = available()?;
    let fault = Fault::drawn(&faults, seed);
    println!("drawn by the seed {seed}, as again by `cargo xtask faults draw {seed}`: {fault}");
    over_mpi::survives(&Job::new()?, fault, cluster.as_ref())
}

/// Builds the program, with MPI in it where that is here; whether it is.
fn build() -> Result<bool> {
    if let Some(reason) = mpi::missing() {
        println!("left out: ranks over MPI, {reason}");
        run(cargo(&["build", "--quiet", "--package", "phalanx-launch"]))?;
        return Ok(false);
    }
    run(cargo(&[&["build", "--quiet"], &mpi::PACKAGES[..]].concat()))?;
    Ok(true)
}

/// The faults over MPI that can be had here, and the cluster for those that need one.
fn available() -> Result<(Option<Cluster>, Vec<Fault>)> {
    let cluster = Cluster::up()?;
    let is_here = |fault: &Fault| fault.launcher == Launcher::Mpirun || cluster.is_some();
    let faults = Fault::all().filter(is_here).collect();
    Ok((cluster, faults))
}
