//! `phalanx train`: a new run, or one that goes on.

use std::io::Write;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::Context as _;
use phalanx_train::rundir::{Existing, RunDir, RunPaths};
use phalanx_train::{ArtefactError, Summary};

use super::{Context, open_run, read_changed};
use crate::cli::{ChangeArgs, FaultArgs, TrainArgs};
use crate::engine::{self, Hardware, PlanReport, RankDied, TrainOptions};
use crate::exit::Exit;
use crate::runfile::{
    Bytes, Described, FederatedRun, RawRun, Registered, Run, Source, WhenRankLost, differences,
};
use crate::stop::StopRequest;
use crate::ui::Ui;
use crate::usage::UsageError;
use crate::world::World;
use crate::{datasets, environment, ui};

/// How long the directory of a process that has died may stay locked.
const TAKE_OVER: Duration = Duration::from_secs(10);

/// Where runs are placed unless told otherwise.
const RUNS: &str = "runs";

/// A kind of run that has a command to start it and go on with it.
pub(super) trait Startable: Described {
    /// The key that says how many ranks there are.
    const RANKS: &'static str;
    /// What is done before the first rank starts.
    type Prepared;

    /// The name of the run.
    fn name(&self) -> &str;

    /// Where its data come from.
    fn source(&self) -> &Source;

    /// What is worth saying before it begins.
    fn notes(&self) -> Vec<String>;

    /// Whether it goes on without ranks whose processes have died.
    fn outlives_ranks(&self) -> bool {
        false
    }

    /// Refuses a file of another kind of run.
    fn check_kind(raw: &RawRun) -> Result<(), UsageError>;

    /// All that can fail before a rank starts.
    fn prepare(
        &self,
        registered: &Registered,
        hardware: Hardware,
        world: &World,
    ) -> anyhow::Result<Self::Prepared>;

    /// Writes what it would do.
    fn write_plan(
        &self,
        registered: &Registered,
        hardware: Hardware,
        out: &mut dyn Write,
    ) -> anyhow::Result<()>;

    /// Trains; rank 0 has the summary.
    fn train(
        &self,
        prepared: Self::Prepared,
        paths: &RunPaths,
        options: &TrainOptions,
        world: &World,
        ui: &Arc<dyn Ui>,
    ) -> anyhow::Result<Option<Summary>>;
}

impl Startable for Run {
    const RANKS: &'static str = "train.ranks";
    type Prepared = engine::Prepared;

    fn name(&self) -> &str {
        &self.name
    }

    fn source(&self) -> &Source {
        &self.data.source
    }

    fn notes(&self) -> Vec<String> {
        Run::notes(self)
    }

    fn outlives_ranks(&self) -> bool {
        self.train.when_rank_lost == WhenRankLost::Shrink
    }

    fn check_kind(raw: &RawRun) -> Result<(), UsageError> {
        let other = || UsageError::OtherCommand { file: raw.file().to_owned(), command: "federate" };
        if raw.is_federated() { Err(other()) } else { Ok(()) }
    }

    fn prepare(
        &self,
        registered: &Registered,
        hardware: Hardware,
        world: &World,
    ) -> anyhow::Result<engine::Prepared> {
        engine::prepare(self, registered, hardware, world)
    }

    fn write_plan(
        &self,
        registered: &Registered,
        hardware: Hardware,
        out: &mut dyn Write,
    ) -> anyhow::Result<()> {
        Ok(write_plan(&engine::plan(self, registered, hardware)?, out)?)
    }

    fn train(
        &self,
        prepared: engine::Prepared,
        paths: &RunPaths,
        options: &TrainOptions,
        world: &World,
        ui: &Arc<dyn Ui>,
    ) -> anyhow::Result<Option<Summary>> {
        engine::train(self, prepared, paths, options, world, ui)
    }
}

pub(super) fn train<R: Startable>(args: &TrainArgs, context: &mut Context<'_>) -> anyhow::Result<Exit> {
    let world = World::join(&args.place, &environment::lookup)?;
    world.conduct(context, |world, context| train_in::<R>(world, args, context))
}

/// A run whose files have their place.
struct Ready<R: Startable> {
    run: R,
    prepared: R::Prepared,
    paths: RunPaths,
    /// Held by rank 0 while it trains.
    dir: Option<RunDir>,
    is_resumed: bool,
}

fn train_in<R: Startable>(
    world: &mut World,
    args: &TrainArgs,
    context: &mut Context<'_>,
) -> anyhow::Result<Exit> {
    // what fails on one rank ends all of them
    let Some(ready) = world.together(|| ready::<R>(world, args, context))? else {
        return Ok(Exit::Done);
    };
    let Ready { mut run, mut prepared, paths, mut dir, is_resumed } = ready;
    let stop = StopRequest::on_signals().context("listening for signals")?;
    let mut options = TrainOptions { is_resumed, stop, notes: Vec::new() };
    let trained = loop {
        let trained = run.train(prepared, &paths, &options, world, context.ui);
        let died = trained.as_ref().err().and_then(|error| error.downcast_ref::<RankDied>());
        let Some(died) = died else { break trained };
        options.notes.clear();
        (run, prepared, options.is_resumed) = loop {
            let note = format!("{} (in step {}, {})", world.survive()?, died.step, died.phase);
            tracing::info!("{note}");
            options.notes.push(note);
            let again = world.together(|| again::<R>(world, args, is_resumed, &paths, &mut dir, context));
            match again {
                // another one since
                Err(_) if world.has_lost_a_rank() => {}
                again => break again?,
            }
        };
    };
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
fn ready<R: Startable>(
    world: &World,
    args: &TrainArgs,
    context: &mut Context<'_>,
) -> anyhow::Result<Option<Ready<R>>> {
    world.check_ranks(args.ranks)?;
    // whether a run can be depends on its ranks, so that the launcher's number counts from the start
    let (ranks, ranks_per_node) = (world.ranks().or(args.ranks), world.ranks_per_node());
    let args = &TrainArgs { ranks, ranks_per_node, ..args.clone() };
    let earlier = earlier_run::<R>(args, context.registered)?;
    let run = match &earlier {
        Some(paths) => resumed::<R>(paths, args, context)?,
        None => R::read(&read::<R>(args)?, context.registered)?,
    };
    // data that are not there must not leave a run directory behind
    datasets::locate(run.source())?;
    if run.outlives_ranks() {
        world.check_survival()?;
    }
    for note in run.notes() {
        context.ui.note(&note);
    }
    if args.dry_run {
        if world.is_root() {
            context.out.write_all(run.to_toml().as_bytes())?;
            run.write_plan(context.registered, args.hardware.into(), context.out)?;
        }
        return Ok(None);
    }
    let prepared = run.prepare(context.registered, args.hardware.into(), world)?;
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

/// The run for the ranks that are left, and whether it goes on from a checkpoint, or from the start as there is none yet.
fn again<R: Startable>(
    world: &World,
    args: &TrainArgs,
    was_resumed: bool,
    paths: &RunPaths,
    dir: &mut Option<RunDir>,
    context: &Context<'_>,
) -> anyhow::Result<(R, R::Prepared, bool)> {
    // the changes of a new run stand in its directory; a fault that happens once must not come back
    let mut changes = if was_resumed { args.changes.clone() } else { ChangeArgs { set: Vec::new() } };
    changes.set.push("faults.inject=[]".to_owned());
    let (ranks, ranks_per_node) = (world.ranks(), world.ranks_per_node());
    let args = &TrainArgs { ranks, ranks_per_node, changes, file: None, ..args.clone() };
    let run: R = resumed(paths, args, context)?;
    let is_resumed = world.agree(engine::has_checkpoint(paths))?;
    if world.is_root() && !is_resumed {
        // let go before it is taken again
        drop(dir.take());
        let fresh = taken_over(paths.root(), Existing::Overwrite)?;
        fresh.write_run_file(&run.to_toml())?;
        *dir = Some(fresh);
    } else if world.is_root() && dir.is_none() {
        *dir = Some(taken_over(paths.root(), Existing::Resume)?);
    }
    let prepared = run.prepare(context.registered, args.hardware.into(), world)?;
    world.meet()?;
    Ok((run, prepared, is_resumed))
}

/// The directory of a process that has died, once the system has noticed.
fn taken_over(root: &Path, existing: Existing) -> Result<RunDir, ArtefactError> {
    let begun = Instant::now();
    loop {
        match RunDir::at(root, existing) {
            Err(ArtefactError::Locked { .. }) if begun.elapsed() < TAKE_OVER => {
                std::thread::sleep(Duration::from_millis(10));
            }
            taken => return taken,
        }
    }
}

/// As [`train`], with a fault that the run file does not have.
pub(super) fn train_with_fault(args: &FaultArgs, context: &mut Context<'_>) -> anyhow::Result<Exit> {
    let mut train_args = args.train.clone();
    train_args.changes.set.push(format!("faults.inject=[\"{}\"]", args.fault));
    match is_federated(&train_args) {
        true => train::<FederatedRun>(&train_args, context),
        false => train::<Run>(&train_args, context),
    }
}

/// Whether the run file, or that of the run that goes on, is one of `federate`. A file that cannot be read is one of
/// `train`, which says what is wrong with it.
pub(super) fn is_federated(args: &TrainArgs) -> bool {
    let resumed = args.resume.as_ref().and_then(|of| of.as_ref().or(args.run_dir.as_ref()));
    let of_run = |path: &PathBuf| match path.is_file() {
        true => path.clone(),
        false => RunPaths::new(path).run_file(),
    };
    let file = args.file.clone().or_else(|| resumed.map(of_run));
    file.is_some_and(|file| RawRun::read(&file).is_ok_and(|raw| raw.is_federated()))
}

/// The run file of the arguments, with their changes.
fn read<R: Startable>(args: &TrainArgs) -> anyhow::Result<RawRun> {
    let file = args.file.as_deref().ok_or(UsageError::NoRunFile)?;
    let mut raw = read_changed(file, &args.changes)?;
    set_ranks::<R>(&mut raw, args)?;
    Ok(raw)
}

/// A run file as typed, for the ranks that there are.
fn typed<R: Startable>(file: &Path, args: &TrainArgs, registered: &Registered) -> anyhow::Result<R> {
    let mut raw = RawRun::read(file)?;
    set_ranks::<R>(&mut raw, args)?;
    Ok(R::read(&raw, registered)?)
}

/// Sets the ranks of a file that is of the right kind.
fn set_ranks<R: Startable>(raw: &mut RawRun, args: &TrainArgs) -> anyhow::Result<()> {
    R::check_kind(raw)?;
    if let Some(ranks) = args.ranks {
        raw.set(&format!("{}={ranks}", R::RANKS))?;
    }
    match args.ranks_per_node.filter(|_| raw.lacks_ranks_per_node()) {
        Some(ranks) => Ok(raw.set(&format!("aggregation.ranks_per_node={ranks}"))?),
        None => Ok(()),
    }
}

/// The run that `--resume` means; `None` without it.
fn earlier_run<R: Startable>(args: &TrainArgs, registered: &Registered) -> anyhow::Result<Option<RunPaths>> {
    let Some(resume) = &args.resume else { return Ok(None) };
    // `train --resume RUN.toml` reads as a value of --resume, and means the run file
    let (file, dir) = match resume {
        Some(path) if path.is_file() => (Some(path), None),
        Some(path) => (None, Some(path)),
        None => (args.file.as_ref(), args.run_dir.as_ref()),
    };
    let dir = match (dir, file) {
        (Some(dir), _) => dir.clone(),
        (None, Some(file)) => last_named(Path::new(RUNS), typed::<R>(file, args, registered)?.name())?,
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
fn resumed<R: Startable>(paths: &RunPaths, args: &TrainArgs, context: &Context<'_>) -> anyhow::Result<R> {
    let mut raw = RawRun::read(&paths.run_file())?;
    args.changes.set.iter().try_for_each(|assignment| raw.set(assignment))?;
    set_ranks::<R>(&mut raw, args)?;
    let run: R = raw.resolve_resumed(context.registered)?;
    if let Some(file) = &args.file {
        let typed: R = typed(file, args, context.registered)?;
        for (key, kept, other) in differences(&run, &typed) {
            let file = file.display();
            tracing::warn!("the run goes on with {key} = {kept}; {file} says {other}");
        }
    }
    Ok(run)
}

fn place<R: Startable>(args: &TrainArgs, run: &R) -> anyhow::Result<RunDir> {
    let dir = match &args.run_dir {
        None => RunDir::create(Path::new(RUNS), run.name())?,
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
    if plan.trusted_samples > 0 {
        writeln!(out, "# trusted     {} samples", plan.trusted_samples)?;
    }
    writeln!(out, "# steps       {steps}")?;
    if let Some(rule) = &plan.rule {
        writeln!(out, "# rule        {rule}")?;
    }
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
