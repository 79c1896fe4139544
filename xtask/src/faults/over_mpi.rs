//! A fault that happens to ranks over MPI: under mpirun here, or under `phalanx launch` on virtual nodes.

use std::fs;
use std::process::Command;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};

use super::cluster::Cluster;
use super::fault::{Fault, Kind, Launcher, RANKS};
use super::job::{Job, LIMIT};
use super::watched::{Watched, watch};

/// How long a cable is out that is put back: less than `lost_after_seconds`.
const OUT: Duration = Duration::from_millis(1500);

/// Whether a job that `fault` happens to ends in time, names the rank, and reaches the model when it goes on.
pub(crate) fn survives(job: &Job, fault: Fault, cluster: Option<&Cluster>) -> Result<()> {
    let dir = fault.to_string().replace([' ', ':'], "-");
    match (fault.launcher, cluster) {
        (Launcher::Launch, Some(cluster)) => under_launch(job, fault, &dir, cluster),
        _ => under_mpirun(job, fault, &dir),
    }
}

fn under_mpirun(job: &Job, fault: Fault, dir: &str) -> Result<()> {
    let file = job.place.join(dir).join("failure.json");
    let inject = inject(fault);
    let Watched { text, has_succeeded, took } =
        watch(mpirun(job).args(["train", "run.toml", "--run-dir", dir, "--set", &inject]), || Ok(()))?;
    ensure!(!has_succeeded, "the job did not fail:\n{text}");
    ensure!(took < LIMIT, "took {took:?} to end:\n{text}");
    let failure = fs::read_to_string(&file).with_context(|| format!("the ranks left no report:\n{text}"))?;
    let named = format!("\"rank\": {},", fault.rank);
    ensure!(failure.contains(&named), "rank {} is not named: {failure}\n{text}", fault.rank);
    let (how, and) = match job.has_checkpoint(dir) {
        true => ("--resume", "went on"),
        false => ("--overwrite", "began again"),
    };
    let again = ["train", "run.toml", "--run-dir", dir, "--set", "faults.inject=[]", how];
    let again = watch(mpirun(job).args(again), || Ok(()))?;
    ensure!(again.has_succeeded, "did not go on:\n{}", again.text);
    job.reached(&fault.to_string(), dir, took, and)
}

fn under_launch(job: &Job, fault: Fault, dir: &str, cluster: &Cluster) -> Result<()> {
    let node = (fault.rank + 1).to_string();
    let strike = || match fault.kind {
        Kind::Cut => cluster.tell(&["cut", &node]),
        Kind::Heal => {
            cluster.tell(&["cut", &node])?;
            std::thread::sleep(OUT);
            cluster.tell(&["heal", &node])
        }
        Kind::Kill | Kind::Stop | Kind::FullDisk => Ok(()),
    };
    let mut command = cluster.on_first();
    command.arg(&job.program).args(["launch", "--hosts", &cluster.hosts(), "--ssh", &cluster.ssh()]);
    // two of three ranks are enough, so that a node that is out of reach is done without
    command.args(["--max-restarts", "1", "--min-ranks", "2", "--backoff-seconds", "0.1", "train"]);
    command.arg(job.place.join("run.toml")).arg("--run-dir").arg(job.place.join(dir));
    let watched = watch(command.args(["--set", &inject(fault)]), strike);
    if fault.kind == Kind::Cut {
        cluster.tell(&["heal", &node])?;
    }
    let Watched { text, has_succeeded, took } = watched?;
    ensure!(has_succeeded, "the job was not brought to its end:\n{text}");
    if fault.kind == Kind::Heal {
        ensure!(!text.contains("the ranks ended with"), "a link that healed in time ended the job:\n{text}");
        return job.reached(&fault.to_string(), dir, took, "trained on");
    }
    ensure!(took < LIMIT, "took {took:?} to end:\n{text}");
    let report = text.lines().find(|line| line.contains("the ranks ended with")).unwrap_or_default();
    ensure!(report.contains(&format!("rank {}", fault.rank)), "rank {} is not named:\n{text}", fault.rank);
    job.reached(&fault.to_string(), dir, took, "was started again")
}

fn inject(fault: Fault) -> String {
    format!("faults.inject=[\"{}\"]", fault.injection())
}

/// The program on ranks of this machine, whatever its cores.
fn mpirun(job: &Job) -> Command {
    let mut mpirun = Command::new("mpirun");
    mpirun.args(["-n", &RANKS.to_string(), "--oversubscribe", "--bind-to", "none", "--allow-run-as-root"]);
    // the others of a rank that has died get the time to say so
    mpirun.args(["--mca", "mpi_yield_when_idle", "1", "--mca", "odls_base_sigkill_timeout", "3"]);
    mpirun.arg(&job.program).current_dir(&job.place);
    mpirun
}
