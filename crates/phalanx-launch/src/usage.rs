//! What is wrong with the arguments, the environment or the directories that they name.

use std::path::PathBuf;

/// A request that cannot be met as it was made.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum UsageError {
    /// Started once a rank by a launcher, without the feature that joins the ranks.
    #[error(
        "started by {launcher} with {ranks} ranks, but this phalanx is built without the feature `mpi`: \
         {ranks} ranks would each train alone; use --ranks {ranks} without {launcher} for ranks as threads"
    )]
    UnderLauncher {
        /// The launcher.
        launcher: &'static str,
        /// The ranks that it started.
        ranks: usize,
    },
    /// Started once a rank by a launcher, a command whose copies would write to one place.
    #[error(
        "{launcher} started {ranks} ranks, and each would write all that `{command}` writes: start it without {launcher}"
    )]
    OnceOnly {
        /// The command.
        command: &'static str,
        /// The launcher.
        launcher: &'static str,
        /// The ranks that it started.
        ranks: usize,
    },
    /// A number of ranks that is not the launcher's.
    #[error("--ranks {given}, but {launcher} started {ranks}: under a launcher, leave --ranks out")]
    RanksUnderLauncher {
        /// What `--ranks` says.
        given: usize,
        /// The launcher.
        launcher: &'static str,
        /// The ranks that it started.
        ranks: usize,
    },
    /// A launcher that is not of the MPI that this program was linked with.
    #[error(
        "{launcher} says that there are {ranks} ranks, but {library} sees {seen}: \
         start them by the launcher of the MPI that this phalanx is linked with"
    )]
    OtherMpi {
        /// The launcher.
        launcher: &'static str,
        /// The ranks that it started.
        ranks: usize,
        /// The library that this program was linked with.
        library: String,
        /// The ranks that it sees.
        seen: usize,
    },
    /// Ranks that are to go on without one that dies, over an MPI that cannot.
    #[error(
        "train.when_rank_lost = \"shrink\" takes Open MPI 5, and ranks that `mpirun --with-ft ulfm` has started: this is \
         {library}, started without; \"end\" goes with every MPI"
    )]
    CannotShrink {
        /// The library that this program was linked with.
        library: String,
    },
    /// A run file of another command.
    #[error("{file} is a run file of `phalanx {command}`")]
    OtherCommand {
        /// The file.
        file: String,
        /// The command.
        command: &'static str,
    },
    /// `--resume` with neither a run file nor a run directory.
    #[error("--resume needs a run directory, or a run file whose last run is meant")]
    NothingToResume,
    /// `train` with neither a run file nor `--resume`.
    #[error("train needs a run file")]
    NoRunFile,
    /// A run whose speed was not measured.
    #[error("the run in {} was too short to have a speed", dir.display())]
    NoSpeed {
        /// Its directory.
        dir: PathBuf,
    },
    /// `launch` without a number of ranks.
    #[error(
        "launch needs -n, a hosts file whose slots say how many ranks there are, or an allocation of Slurm with tasks"
    )]
    NoRanks,
    /// `launch` with a command that is none of ranks.
    #[error("launch runs `train`, `federate`, `fault` or `env` on all ranks, got {got:?}")]
    NotForRanks {
        /// What was to be run.
        got: String,
    },
    /// `launch` with a command that no rank would understand.
    #[error("no rank can run this command")]
    RankCommand {
        /// What is wrong with it.
        #[source]
        source: clap::Error,
    },
    /// Restarts of a run whose directory is not known.
    #[error(
        "--max-restarts needs a command with --run-dir DIR: a restart goes on with the run in that directory"
    )]
    RestartsNeedRunDir,
    /// Hosts that cannot take part.
    #[error("{} not fit for the job: the other hosts have slots for fewer than {need} ranks", unfit.join(", "))]
    UnfitHosts {
        /// Their names.
        unfit: Vec<String>,
        /// The ranks that are needed.
        need: usize,
    },
    /// No run of that name.
    #[error("no run named {name} in {} to resume", runs.display())]
    NoRunNamed {
        /// The name.
        name: String,
        /// Where it was looked for.
        runs: PathBuf,
    },
    /// A directory without `run.toml`.
    #[error("{} is no run directory: it has no run.toml", dir.display())]
    NotARun {
        /// The directory.
        dir: PathBuf,
    },
    /// A data set that is not on this machine.
    #[error("data {path:?} not found, looked at {}{}", looked(at), fetch(name.as_deref()))]
    NoData {
        /// `data.path` of the run file.
        path: String,
        /// The places that were tried.
        at: Vec<PathBuf>,
        /// The data set that it names, or nearly names.
        name: Option<String>,
    },
}

fn looked(at: &[PathBuf]) -> String {
    at.iter().map(|path| path.display().to_string()).collect::<Vec<_>>().join(", ")
}

fn fetch(name: Option<&str>) -> String {
    name.map(|name| format!("; `phalanx data fetch {name}` brings {name}")).unwrap_or_default()
}
