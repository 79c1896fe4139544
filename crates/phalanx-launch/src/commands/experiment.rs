//! `phalanx experiment`: every run file of a folder with every seed, and the page that compares them.

use std::path::{Path, PathBuf};

use anyhow::Context as _;
use phalanx_train::Summary;
use phalanx_train::rundir::{Existing, RunDir, RunPaths};

use super::Context;
use crate::cli::ExperimentArgs;
use crate::engine::{self, TrainOptions};
use crate::exit::Exit;
use crate::experiment::{self, Goal, Method, Network, Outcome};
use crate::runfile::RawRun;
use crate::stop::StopRequest;
use crate::world::World;

pub(super) fn experiment(args: &ExperimentArgs, context: &mut Context<'_>) -> anyhow::Result<Exit> {
    let files = experiment::run_files(&args.folder)?;
    let stop = StopRequest::on_signals().context("listening for signals")?;
    let mut methods = Vec::new();
    for file in &files {
        let name = file.file_stem().map_or_else(String::new, |stem| stem.to_string_lossy().into_owned());
        let mut outcomes = Vec::new();
        for seed in &args.seeds {
            let dir = args.runs.join(format!("{name}-seed-{seed}"));
            if !is_done(&dir) {
                let summary = one(file, *seed, &dir, args, &stop, context)?;
                if summary.stopped {
                    context.ui.note("stopped; the same command goes on");
                    return Ok(Exit::Stopped);
                }
            }
            outcomes.push(Outcome::read(&RunPaths::new(&dir))?);
        }
        methods.push(Method { name, outcomes });
    }
    let goal = match (args.accuracy, args.loss) {
        (_, Some(loss)) => Goal::Loss(loss),
        (accuracy, None) => Goal::Accuracy(accuracy.unwrap_or(0.9)),
    };
    experiment::write(&args.title, &methods, goal, Network::default(), &args.output)?;
    writeln!(
        context.out,
        "{}: {} methods, {} seeds",
        args.output.display(),
        methods.len(),
        args.seeds.len()
    )?;
    Ok(Exit::Done)
}

fn is_done(dir: &Path) -> bool {
    Summary::read(&RunPaths::new(dir).summary()).is_ok_and(|summary| !summary.stopped)
}

/// Runs a file with a seed, or goes on with it.
fn one(
    file: &Path,
    seed: u64,
    dir: &PathBuf,
    args: &ExperimentArgs,
    stop: &StopRequest,
    context: &Context<'_>,
) -> anyhow::Result<Summary> {
    let paths = RunPaths::new(dir);
    let is_resumed = paths.run_file().is_file() && paths.checkpoints().is_dir();
    let run = if is_resumed {
        RawRun::read(&paths.run_file())?.resolve(context.registered)?
    } else {
        let mut raw = RawRun::read(file)?;
        args.changes.set.iter().try_for_each(|assignment| raw.set(assignment))?;
        raw.set(&format!("seed={seed}"))?;
        raw.resolve(context.registered)?
    };
    context.ui.note(&format!("{}", dir.display()));
    for note in run.notes() {
        context.ui.note(&note);
    }
    let prepared = engine::prepare(&run, context.registered, args.hardware.into(), &World::Threads)?;
    let run_dir = match is_resumed {
        true => RunDir::at(dir, Existing::Resume)?,
        false => {
            let fresh = RunDir::at(dir, Existing::Overwrite)?;
            fresh.write_run_file(&run.to_toml())?;
            fresh
        }
    };
    let options = TrainOptions { is_resumed, stop: stop.clone(), notes: Vec::new() };
    let trained = engine::train(&run, prepared, run_dir.paths(), &options, &World::Threads, context.ui);
    context.ui.finished();
    let Some(summary) = trained.with_context(|| format!("run {}", dir.display()))? else {
        unreachable!("rank 0 is a thread of this process")
    };
    Ok(summary)
}
