//! The commands: thin, each asks the engine and prints its answer.

mod cluster;
mod config;
mod data;
mod env;
mod eval;
mod experiment;
mod federate;
mod inspect;
mod launch;
mod plan;
mod schedule;
mod train;

pub(crate) use plan::{Nodes, net};

use std::io::Write;
use std::path::Path;

use clap::CommandFactory as _;
use phalanx_train::rundir::RunPaths;

use crate::cli::{ChangeArgs, Cli, ClusterCommand, Command, DataCommand, HardwareArgs, RunArgs};
use crate::engine;
use crate::environment;
use crate::exit::Exit;
use crate::launcher::{self, Explicit};
use crate::report;
use crate::runfile::{FederatedRun, RawRun, Registered, Run, RunFileError};
use crate::ui::Ui;
use crate::usage::UsageError;
use crate::world::World;
use std::sync::Arc;

/// What every command is given.
pub(crate) struct Context<'a> {
    pub(crate) registered: &'a Registered,
    pub(crate) ui: &'a Arc<dyn Ui>,
    pub(crate) out: &'a mut (dyn Write + Send),
    pub(crate) is_quiet: bool,
    pub(crate) is_colored: bool,
}

/// Runs a command to its end.
pub(crate) fn run(command: &Command, context: &mut Context<'_>) -> anyhow::Result<Exit> {
    if let Some(name) = once_only(command) {
        launcher::once_only(name, &launcher::detect(&Explicit::default(), &environment::lookup))?;
    }
    match command {
        Command::Train(args) => return train::train::<Run>(args, context),
        Command::Federate(args) => return train::train::<FederatedRun>(args, context),
        Command::Fault(args) => return train::train_with_fault(args, context),
        Command::Experiment(args) => return experiment::experiment(args, context),
        Command::Eval(args) => eval::eval(args, context)?,
        Command::Data(command) => data::data(command, context)?,
        Command::Inspect(args) if args.curvature => inspect::curvature(args, context)?,
        Command::Inspect(args) => inspect::inspect(&args.path, context.out)?,
        Command::Schedule(command) => schedule::schedule(command, context)?,
        Command::Config(command) => config::config(command, context)?,
        Command::Report { runs, output } => {
            let written = report::write(runs, output)?;
            for note in &written.notes {
                context.ui.note(note);
            }
            writeln!(context.out, "{}: {} bytes", output.display(), written.bytes)?;
        }
        Command::Cluster(args) => cluster::cluster(args, context)?,
        Command::Launch(args) => return launch::launch(args, context),
        Command::HostIdentity => launch::host_identity(context.out)?,
        Command::Plan(args) => plan::plan(args, context)?,
        Command::Env(explicit) => env::env(explicit, &environment::lookup, context.out)?,
        Command::Completions { shell } => {
            // clap_complete panics on a pipe that is closed; a buffer never is
            let mut script = Vec::new();
            clap_complete::generate(*shell, &mut Cli::command(), "phalanx", &mut script);
            context.out.write_all(&script)?;
        }
        Command::BenchStep { run, steps, hardware } => {
            let world = World::join(&Explicit::default(), &environment::lookup)?;
            return world
                .conduct(context, |world, context| bench_step(world, run, *steps, *hardware, context));
        }
    }
    Ok(Exit::Done)
}

/// The name of a command of which each copy would write the same to the same place.
fn once_only(command: &Command) -> Option<&'static str> {
    match command {
        Command::Experiment(_) => Some("experiment"),
        Command::Launch(_) => Some("launch"),
        Command::Report { .. } => Some("report"),
        Command::Schedule(_) => Some("schedule"),
        Command::Data(DataCommand::Fetch { .. }) => Some("data fetch"),
        Command::Cluster(args) => match args.command {
            ClusterCommand::On { .. } | ClusterCommand::Status => None,
            _ => Some("cluster"),
        },
        _ => None,
    }
}

/// Reads a run file with its changes, as meant.
fn read_run(args: &RunArgs, registered: &Registered) -> Result<Run, RunFileError> {
    read_changed(&args.file, &args.changes)?.resolve(registered)
}

fn read_changed(file: &Path, changes: &ChangeArgs) -> Result<RawRun, RunFileError> {
    let mut raw = RawRun::read(file)?;
    changes.set.iter().try_for_each(|assignment| raw.set(assignment))?;
    Ok(raw)
}

/// The files of an earlier run.
fn open_run(dir: &Path) -> Result<RunPaths, UsageError> {
    let paths = RunPaths::new(dir);
    match paths.run_file().is_file() {
        true => Ok(paths),
        false => Err(UsageError::NotARun { dir: dir.to_owned() }),
    }
}

/// Writes names and values, the values in one column.
fn write_rows(out: &mut dyn Write, rows: &[(&str, String)]) -> std::io::Result<()> {
    let width = rows.iter().map(|(name, _)| name.chars().count()).max().unwrap_or(0);
    rows.iter().try_for_each(|(name, value)| writeln!(out, "{name:<width$}  {value}"))
}

fn bench_step(
    world: &World,
    run: &RunArgs,
    steps: u64,
    hardware: HardwareArgs,
    context: &mut Context<'_>,
) -> anyhow::Result<Exit> {
    let mut raw = read_changed(&run.file, &run.changes)?;
    world.ranks().map_or(Ok(()), |ranks| raw.set(&format!("train.ranks={ranks}")))?;
    let run = raw.resolve(context.registered)?;
    if let Some(times) = engine::bench_step(&run, steps, context.registered, hardware.into(), world)? {
        writeln!(context.out, "{}", serde_json::to_string(&times)?)?;
    }
    Ok(Exit::Done)
}
