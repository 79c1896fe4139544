//! `phalanx train`: a new run, or one that goes on.

use std::io::Write;
use std::path::{Path, PathBuf};

use anyhow::Context as _;
use phalanx_train::rundir::{Existing, RunDir, RunPaths};

use super::{Context, open_run, read_changed};
use crate::cli::{FaultArgs, TrainArgs};
use crate::engine::{self, PlanReport, TrainOptions};
use crate::exit::Exit;
use crate::runfile::{Bytes, RawRun, Registered, Run, differences};
use crate::stop::StopRequest;
use crate::usage::UsageError;
use crate::world::World;
use crate::{datasets, environment, ui};

/// Where runs are placed unless told otherwise.
const RUNS: &str = "runs";

pub(super) fn train(args: &TrainArgs, context: &mut Context<'_>) -> anyhow::Result<Exit> {
    let world = World::join(&args.place, &environment::lookup)?;
    world.conduct(context, |world, context| train_in(world, args, context))
}

/// A run whose files have their place.
struct Ready {
    run: Run,
    prepared: engine::Prepared,
    paths: RunPaths,
    /// Held by rank 0 while it trains.
    dir: Option<RunDir>,
    is_resumed: bool,
}

fn train_in(world: &World, args: &TrainArgs, context: &mut Context<'_>) -> anyhow::Result<Exit> {
    // what fails on one rank ends all of them
    let Some(ready) = world.together(|| ready(world, args, context))? else {
        return Ok(Exit::Done);
    };
    let Ready { run, prepared, paths, dir, is_resumed } = ready;
    let stop = StopRequest::on_signals().context("listening for signals")?;
    let options = TrainOptions { is_resumed, stop };
    let trained = engine::train(&run, prepared, &paths, &options, world, context.ui);
    // the directory is free for another run when training is over
    drop(dir);
    context.ui.finished();
    let Some(summary) = trained? else {
        return Ok(Exit::Done);
    };
    if !context.is_quiet {
        context.out.write_all(ui::summary(&summary, paths.root()).as_bytes())?;
    }
    Ok(if summary.stopped { Exit::Stopped } else { Exit::Done })
}

/// All that comes before the first step; `None` for a dry run, which ends here.
fn ready(world: &World, args: &TrainArgs, context: &mut Context<'_>) -> anyhow::Result<Option<Ready>> {
    world.check_ranks(args.ranks)?;
    // whether a run can be depends on its ranks, so that the launcher's number counts from the start
    let args = &TrainArgs { ranks: world.ranks().or(args.ranks), ..args.clone() };
    let earlier = earlier_run(args, context.registered)?;
    let run = match &earlier {
        Some(paths) => resumed(paths, args, context)?,
        None => read(args)?.resolve(context.registered)?,
    };
    // data that are not there must not leave a run directory behind
    datasets::locate(&run.data.source)?;
    for note in run.notes() {
        context.ui.note(&note);
    }
    if args.dry_run {
        if world.is_root() {
            context.out.write_all(run.to_toml().as_bytes())?;
            write_plan(&engine::plan(&run, context.registered, args.hardware.into())?, context.out)?;
        }
        return Ok(None);
    }
    let prepared = engine::prepare(&run, context.registered, args.hardware.into())?;
    // a rank that cannot start must not leave a run directory behind either
    world.meet()?;
    let dir = match (world.is_root(), &earlier) {
        (false, _) => None,
        (true, Some(paths)) => Some(RunDir::at(paths.root(), Existing::Resume)?),
        (true, None) => Some(place(args, &run)?),
    };
    let root = world.share_path(dir.as_ref().map(|dir| dir.paths().root()))?;
    Ok(Some(Ready { run, prepared, paths: RunPaths::new(&root), dir, is_resumed: earlier.is_some() }))
}

/// As [`train`], with a fault that the run file does not have.
pub(super) fn train_with_fault(args: &FaultArgs, context: &mut Context<'_>) -> anyhow::Result<Exit> {
    let mut train_args = args.train.clone();
    train_args.changes.set.push(format!("faults.inject=[\"{}\"]", args.fault));
    train(&train_args, context)
}

/// The run file of the arguments, with their changes.
fn read(args: &TrainArgs) -> anyhow::Result<RawRun> {
    let file = args.file.as_deref().ok_or(UsageError::NoRunFile)?;
    let mut raw = read_changed(file, &args.changes)?;
    set_ranks(&mut raw, args)?;
    Ok(raw)
}

/// A run file as typed, for the ranks that there are.
fn typed(file: &Path, args: &TrainArgs) -> anyhow::Result<RawRun> {
    let mut raw = RawRun::read(file)?;
    set_ranks(&mut raw, args)?;
    Ok(raw)
}

fn set_ranks(raw: &mut RawRun, args: &TrainArgs) -> anyhow::Result<()> {
    Ok(args.ranks.map_or(Ok(()), |ranks| raw.set(&format!("train.ranks={ranks}")))?)
}

/// The run that `--resume` means; `None` without it.
fn earlier_run(args: &TrainArgs, registered: &Registered) -> anyhow::Result<Option<RunPaths>> {
    let Some(resume) = &args.resume else { return Ok(None) };
    // `train --resume RUN.toml` reads as a value of --resume, and means the run file
    let (file, dir) = match resume {
        Some(path) if path.is_file() => (Some(path), None),
        Some(path) => (None, Some(path)),
        None => (args.file.as_ref(), args.run_dir.as_ref()),
    };
    let dir = match (dir, file) {
        (Some(dir), _) => dir.clone(),
        (None, Some(file)) => last_named(Path::new(RUNS), &typed(file, args)?.resolve(registered)?.name)?,
        (None, None) => return Err(UsageError::NothingToResume.into()),
    };
    Ok(Some(open_run(&dir)?))
}

/// The last of the numbered directories of runs of one name.
fn last_named(runs: &Path, name: &str) -> Result<PathBuf, UsageError> {
    let numbered = (2_u64..).map(|number| runs.join(format!("{name}-{number}")));
    let all = std::iter::once(runs.join(name)).chain(numbered).take_while(|dir| dir.exists());
    let none = || UsageError::NoRunNamed { name: name.to_owned(), runs: runs.to_owned() };
    all.filter(|dir| RunPaths::new(dir).run_file().is_file()).last().ok_or_else(none)
}

/// The resolved run file of a run, with the changes that a resumed run may have.
fn resumed(paths: &RunPaths, args: &TrainArgs, context: &Context<'_>) -> anyhow::Result<Run> {
    let mut raw = RawRun::read(&paths.run_file())?;
    args.changes.set.iter().try_for_each(|assignment| raw.set(assignment))?;
    set_ranks(&mut raw, args)?;
    let run = raw.resolve_resumed(context.registered)?;
    if let Some(file) = &args.file {
        let typed = typed(file, args)?.resolve(context.registered)?;
        for (key, kept, other) in differences(&run, &typed) {
            let file = file.display();
            tracing::warn!("the run goes on with {key} = {kept}; {file} says {other}");
        }
    }
    Ok(run)
}

fn place(args: &TrainArgs, run: &Run) -> anyhow::Result<RunDir> {
    let dir = match &args.run_dir {
        None => RunDir::create(Path::new(RUNS), &run.name)?,
        Some(dir) if args.overwrite => RunDir::at(dir, Existing::Overwrite)?,
        Some(dir) => RunDir::at(dir, Existing::Refuse)?,
    };
    dir.write_run_file(&run.to_toml())?;
    Ok(dir)
}

fn write_plan(plan: &PlanReport, out: &mut dyn Write) -> std::io::Result<()> {
    let steps =
        plan.steps.map_or_else(|| "as the batch policy decides".to_owned(), |steps| steps.to_string());
    let total = Bytes(plan.memory.iter().map(|(_, bytes)| bytes.0).sum());
    writeln!(out, "\n# plan")?;
    writeln!(out, "# parameters  {}", plan.parameters)?;
    writeln!(
        out,
        "# samples     {} training, {} validation, {} test",
        plan.train_samples, plan.validation_samples, plan.test_samples
    )?;
    writeln!(out, "# steps       {steps}")?;
    for (what, bytes) in plan.memory.iter().map(|(what, bytes)| (*what, *bytes)).chain([("memory", total)]) {
        writeln!(out, "# {what:<10}  {} bytes", bytes.0)?;
    }
    for (idx, (first, last, bytes)) in plan.buckets.iter().enumerate() {
        writeln!(out, "# bucket {idx:<3}  {} bytes, {first} to {last}", bytes.0)?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::last_named;
    use std::fs;

    #[test]
    fn the_last_run_of_a_name_has_the_highest_number() {
        let runs = tempfile::tempdir().expect("a directory");
        for name in ["a", "a-2", "a-10", "a-3", "ab"] {
            fs::create_dir(runs.path().join(name)).expect("a directory");
            fs::write(runs.path().join(name).join("run.toml"), "").expect("a file");
        }
        let last = last_named(runs.path(), "a").expect("a run");
        assert!(last.ends_with("a-3"), "numbers have no gaps: {}", last.display());
        assert!(last_named(runs.path(), "c").is_err());
    }
}
