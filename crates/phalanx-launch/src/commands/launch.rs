//! `phalanx launch`: starts the ranks of a job on its hosts and keeps them running.

use std::ffi::OsString;
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::Context as _;
use clap::Parser as _;
use phalanx_train::Failure;
use phalanx_train::rundir::RunPaths;

use super::Context;
use super::train::is_federated;
use crate::cli::{Cli, Command, LaunchArgs};
use crate::exit::{Exit, WithExit};
use crate::faults::Injection;
use crate::hosts::{Checked, Hosts, Identity, RemoteShell, check, table};
use crate::stop::StopRequest;
use crate::supervise::{
    Backoff, Ended, Job, RankCommand, Show, Starter, Supervisor, absolute, ended, is_crowded, own_program,
    shown,
};
use crate::usage::UsageError;
use crate::{engine, environment};

pub(super) fn launch(args: &LaunchArgs, context: &mut Context<'_>) -> anyhow::Result<Exit> {
    let starter = starter(args)?;
    let all = args.hosts.as_deref().map(Hosts::read).transpose()?;
    let of_hosts = || all.as_ref().map(Hosts::slots);
    let of_slurm = || environment::lookup("SLURM_NTASKS").filter(|_| starter.is_slurm())?.parse().ok();
    let ranks = args.ranks.or_else(of_hosts).or_else(of_slurm).ok_or(UsageError::NoRanks)?;
    if let Some(hosts) = &all {
        hosts.check_room(ranks)?;
    }
    let wanted = Wanted::of(&args.command)?;
    if args.max_restarts > 0 && wanted.run_dir.is_none() {
        return Err(UsageError::RestartsNeedRunDir.into());
    }
    let job = Job {
        starter,
        ranks,
        hosts: None,
        agent: args.ssh.iter().flat_map(|agent| agent.split_whitespace().map(str::to_owned)).collect(),
        is_crowded: false,
        is_root: rustix::process::geteuid().is_root(),
        extra: args.mpi_args.clone(),
    };
    let program = own_program().context("looking for this program's file")?;
    let mut attempts = Attempts { args, job, all, program, wanted, restarts: 0 };
    if args.dry_run {
        let hosts = args.hosts.as_deref().zip(attempts.all.clone());
        attempts.job.hosts = hosts.map(|(file, hosts)| (hosts, absolute(file)));
        writeln!(context.out, "{}", shown(&attempts.command()))?;
        return Ok(Exit::Done);
    }
    attempts.run(context)
}

fn starter(args: &LaunchArgs) -> anyhow::Result<Starter> {
    if args.hosts.is_none() && args.mpirun.is_none() && environment::lookup("SLURM_JOB_ID").is_some() {
        return Ok(Starter::slurm());
    }
    Ok(Starter::mpirun(args.mpirun.clone().unwrap_or_else(|| "mpirun".into()))?)
}

/// What the ranks are asked to do, and in which directory.
#[derive(Debug)]
struct Wanted {
    words: Vec<OsString>,
    run_dir: Option<PathBuf>,
    /// Whether `--resume` says what the run goes on with, so that a restart is the same command again.
    goes_on: bool,
}

impl Wanted {
    fn of(words: &[OsString]) -> Result<Self, UsageError> {
        let typed = std::iter::once(OsString::from("phalanx")).chain(words.iter().cloned());
        let cli = Cli::try_parse_from(typed).map_err(|source| UsageError::RankCommand { source })?;
        let mut words = words.to_vec();
        let args = match cli.command {
            Command::Train(args) | Command::Federate(args) => args,
            Command::Fault(args) => {
                // a restart is one of the run and not of the fault
                let kind = if is_federated(&args.train) { "federate" } else { "train" };
                let is_fault =
                    |word: &OsString| word.to_str().is_some_and(|word| word.parse::<Injection>().is_ok());
                words.retain(|word| !is_fault(word));
                words.iter_mut().filter(|word| *word == "fault").for_each(|word| *word = kind.into());
                let fault = format!("faults.inject=[\"{}\"]", args.fault);
                words.extend(["--set".into(), fault.into()]);
                args.train
            }
            Command::Env(_) => return Ok(Self { words, run_dir: None, goes_on: false }),
            _ => {
                let got = words.first().map(|word| word.to_string_lossy().into_owned()).unwrap_or_default();
                return Err(UsageError::NotForRanks { got });
            }
        };
        let resumed = args.resume.flatten();
        let goes_on = resumed.is_some();
        // it may name a run file
        Ok(Self { words, run_dir: resumed.filter(|path| !path.is_file()).or(args.run_dir), goes_on })
    }

    /// The words of a restart: from the last checkpoint, or from the start if there is none yet.
    fn again(&self) -> Vec<OsString> {
        let has_checkpoint = |dir: &PathBuf| engine::has_checkpoint(&RunPaths::new(dir));
        let mut words = self.words.clone();
        if !self.goes_on {
            words.retain(|word| word != "--overwrite" && word != "--resume");
            let how =
                if self.run_dir.as_ref().is_some_and(has_checkpoint) { "--resume" } else { "--overwrite" };
            words.push(how.into());
        }
        // a fault that is injected once must not come back with the run that it ended
        words.extend(["--set", "faults.inject=[]"].map(OsString::from));
        words
    }

    fn failure(&self) -> Option<Failure> {
        Failure::read(&RunPaths::new(self.run_dir.as_ref()?).failure()).ok()
    }
}

/// A job over its restarts.
struct Attempts<'a> {
    args: &'a LaunchArgs,
    job: Job,
    /// The hosts of the file; fewer may be left later.
    all: Option<Hosts>,
    program: PathBuf,
    wanted: Wanted,
    restarts: u32,
}

impl Attempts<'_> {
    fn run(&mut self, context: &mut Context<'_>) -> anyhow::Result<Exit> {
        let stop = StopRequest::on_signals().context("listening for signals")?;
        let backoff = Backoff { first: Duration::from_secs_f64(self.args.backoff_seconds) };
        // what mpirun reads; gone with this process
        let place = tempdir().context("making a directory for the hosts file")?;
        loop {
            self.choose_hosts(place.path(), context)?;
            let show = Show {
                only: self.args.only.clone(),
                is_colored: context.is_colored,
                logs: self.args.logs.clone(),
            };
            let grace = Duration::from_secs_f64(self.args.grace_seconds);
            let supervisor = Supervisor { stop: &stop, show, ranks: self.job.ranks, grace };
            let words = self.command();
            tracing::info!("{}", shown(&words));
            let code = supervisor.run(&words, context.out).context("running the ranks")?;
            let exit = match ended(code) {
                Ended::For(exit) => return Ok(exit),
                Ended::Fault(exit) => exit,
            };
            self.tell_failure(code, context);
            if self.restarts >= self.args.max_restarts || stop.is_made() {
                return Ok(exit);
            }
            self.restarts += 1;
            let pause = backoff.pause(self.restarts);
            context.ui.note(&format!(
                "restart {} of {} in {:.1} s",
                self.restarts,
                self.args.max_restarts,
                pause.as_secs_f64()
            ));
            std::thread::sleep(pause);
        }
    }

    /// Checks the hosts; after a fault, those that are left are enough if the ranks may be fewer.
    fn choose_hosts(&mut self, place: &Path, context: &Context<'_>) -> anyhow::Result<()> {
        let Some(all) = &self.all else { return Ok(()) };
        let mut left = all.clone();
        if !self.args.no_check {
            let own = Identity::own().context("reading this program's file")?;
            let shell = RemoteShell { agent: &self.job.agent, program: &self.program };
            let checked = check(all, &own, &shell);
            let is_fit = |name: &str| checked.iter().any(|row| row.host.name == name && row.result.is_ok());
            if checked.iter().any(|row| row.result.is_err()) {
                context.ui.note(&format!("some hosts are not fit for the job:\n{}", table(&checked)));
                left = self.remaining(all.only(|host| is_fit(&host.name)), &checked)?;
            }
            let ranks = self.args.ranks.unwrap_or_else(|| all.slots()).min(left.slots());
            if ranks < self.job.ranks {
                context
                    .ui
                    .note(&format!("{ranks} ranks instead of {} on the hosts that are left", self.job.ranks));
            }
            self.job.ranks = ranks;
            let cpus = |name: &str| {
                let row = checked.iter().find(|row| row.host.name == name)?;
                row.result.as_ref().ok().map(|identity| identity.cpus)
            };
            self.job.is_crowded = is_crowded(&left, ranks, cpus);
        }
        let file = place.join("hosts");
        std::fs::write(&file, left.to_text()).context("writing the hosts file")?;
        self.job.hosts = Some((left, file));
        Ok(())
    }

    /// The hosts that are left, if they are enough.
    fn remaining(&self, left: Option<Hosts>, checked: &[Checked]) -> anyhow::Result<Hosts> {
        let least = self.args.min_ranks.filter(|_| self.restarts > 0).unwrap_or(self.job.ranks);
        let unfit =
            checked.iter().filter(|row| row.result.is_err()).map(|row| row.host.name.clone()).collect();
        match left {
            Some(left) if left.slots() >= least => Ok(left),
            _ => {
                Err(WithExit::new(Exit::BadInput, UsageError::UnfitHosts { unfit, need: least }.into())
                    .into())
            }
        }
    }

    fn command(&self) -> Vec<OsString> {
        let args = if self.restarts == 0 { self.wanted.words.clone() } else { self.wanted.again() };
        self.job.command(&RankCommand { program: self.program.clone(), args })
    }

    fn tell_failure(&self, code: i32, context: &Context<'_>) {
        let why = self.wanted.failure().map(|failure| {
            let cause = failure.causes.first().cloned().unwrap_or_default();
            match failure.rank.map(|rank| format!("rank {rank} on {}", failure.host)) {
                // a verdict of the control channel says all by itself
                Some(rank) if cause.starts_with(&rank) => format!(": {cause}"),
                rank => {
                    let rank = rank.map(|rank| format!("{rank}: ")).unwrap_or_default();
                    format!(": {rank}{cause} (step {}, {})", failure.step, failure.phase)
                }
            }
        });
        context.ui.note(&format!("the ranks ended with {code}{}", why.unwrap_or_default()));
    }
}

/// A directory that goes with its value.
struct Scratch(PathBuf);

impl Scratch {
    fn path(&self) -> &Path {
        &self.0
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        // what is left behind is two lines in the system's temporary directory
        std::fs::remove_dir_all(&self.0).unwrap_or_default();
    }
}

fn tempdir() -> io::Result<Scratch> {
    let dir = std::env::temp_dir().join(format!("phalanx-launch-{}", std::process::id()));
    std::fs::create_dir_all(&dir)?;
    Ok(Scratch(dir))
}

/// What `phalanx host-identity` says: what a launcher on another host asks for.
pub(super) fn host_identity(out: &mut dyn Write) -> anyhow::Result<()> {
    let identity = Identity::own().context("reading this program's file")?;
    Ok(writeln!(out, "{}", serde_json::to_string(&identity)?)?)
}

#[cfg(test)]
mod tests {
    use super::Wanted;
    use crate::usage::UsageError;
    use std::ffi::OsString;

    fn wanted(words: &[&str]) -> Wanted {
        Wanted::of(&words.iter().map(Into::into).collect::<Vec<OsString>>()).expect("a training run")
    }

    #[test]
    fn a_restart_resumes_once_there_is_a_checkpoint() {
        let dir = tempfile::tempdir().expect("a directory");
        let run = dir.path().to_str().expect("text");
        let first = wanted(&["train", "run.toml", "--run-dir", run, "--overwrite"]);
        assert_eq!(first.run_dir.as_deref(), Some(dir.path()));
        assert_eq!(
            first.again(),
            ["train", "run.toml", "--run-dir", run, "--overwrite", "--set", "faults.inject=[]"]
        );
        std::fs::create_dir_all(dir.path().join("checkpoints/step-00000010")).expect("a checkpoint");
        assert_eq!(
            first.again(),
            ["train", "run.toml", "--run-dir", run, "--resume", "--set", "faults.inject=[]"]
        );
        let joined = wanted(&["train", "run.toml", &format!("--run-dir={run}")]);
        assert_eq!(joined.run_dir.as_deref(), Some(dir.path()));
    }

    #[test]
    fn a_run_that_goes_on_is_named_by_its_directory_and_restarted_by_the_same_words() {
        let words = ["federate", "--resume", "runs/first", "--ranks", "2"];
        let resumed = wanted(&words);
        assert_eq!(resumed.run_dir.as_deref(), Some("runs/first".as_ref()));
        assert_eq!(resumed.again(), [&words[..], &["--set", "faults.inject=[]"]].concat());
    }

    #[test]
    fn a_fault_is_one_of_the_run_and_gone_after_it() {
        let fault = "kill rank 1 at step 3 in backward";
        let first = wanted(&["fault", fault, "run.toml", "--run-dir", "run"]);
        let inject = format!("faults.inject=[\"{fault}\"]");
        assert_eq!(first.words, ["train", "run.toml", "--run-dir", "run", "--set", &*inject]);
        let again = first.again();
        assert_eq!(again[6..], ["--overwrite", "--set", "faults.inject=[]"], "the last assignment counts");
    }

    #[test]
    fn what_is_no_command_of_ranks_is_refused_before_any_starts() {
        let refused = |words: &[&str]| {
            let words: Vec<OsString> = words.iter().map(Into::into).collect();
            Wanted::of(&words).expect_err("refused")
        };
        let error = refused(&["eval", "run"]).to_string();
        assert!(error.contains("\"eval\""), "{error}");
        let UsageError::RankCommand { source } = refused(&["train", "run.toml", "--rnaks", "2"]) else {
            panic!("an argument that train does not have")
        };
        assert!(source.to_string().contains("--rnaks"), "{source}");
        assert!(wanted(&["env"]).run_dir.is_none());
    }
}
