//! `phalanx inspect`: the tensors of a file, the state of a run.

use std::io::Write;
use std::path::Path;

use phalanx_train::rundir::RunPaths;
use phalanx_train::{Failure, NamedTensor, Summary, Values, model_file};

use super::{Context, open_run, write_rows};
use crate::cli::InspectArgs;
use crate::engine::{self, CurvatureOptions};
use crate::runfile::RawRun;

pub(super) fn inspect(path: &Path, out: &mut dyn Write) -> anyhow::Result<()> {
    if !path.is_dir() {
        return write_tensors(path, out);
    }
    let paths = open_run(path)?;
    write_rows(out, &[("run", path.display().to_string()), ("state", state(&paths))])?;
    let checkpoints = engine::checkpoints(&paths)?;
    for checkpoint in &checkpoints {
        let health =
            checkpoint.fault.as_ref().map_or_else(|| "whole".to_owned(), |fault| format!("{fault:#}"));
        let best = if checkpoint.is_best { ", best by validation loss" } else { "" };
        writeln!(out, "checkpoint {}: {health}{best}", checkpoint.step)?;
    }
    if checkpoints.is_empty() {
        writeln!(out, "no checkpoints")?;
    }
    if paths.model().is_file() {
        writeln!(out)?;
        write_tensors(&paths.model(), out)?;
    }
    Ok(())
}

/// The ends of the Hessian's spectrum, and the rates that follow.
pub(super) fn curvature(args: &InspectArgs, context: &mut Context<'_>) -> anyhow::Result<()> {
    let paths = open_run(&args.path)?;
    let run = RawRun::read(&paths.run_file())?.resolve(context.registered)?;
    let options = CurvatureOptions { which: args.checkpoint, samples: args.samples, steps: args.steps };
    let found = engine::curvature(&run, &paths, options, context.registered, args.hardware.into())?;
    let spectrum = &found.spectrum;
    let value = |i: usize| format!("{:.4e} within {:.0e}", spectrum.values[i], spectrum.residuals[i]);
    let count = spectrum.values.len();
    let largest: Vec<String> = (0..count).rev().take(5).map(value).collect();
    let mut rows = vec![
        ("checkpoint", found.step.to_string()),
        ("loss over", format!("{} training samples", found.samples)),
        ("largest", largest.join(", ")),
        ("smallest", (0..count.min(1)).map(value).collect()),
    ];
    rows.extend(spectrum.learning_rate().map(|lr| {
        let edge = 2.0 * lr;
        (
            "gradient descent",
            format!("lr {lr:.3e}, unstable from {edge:.3e}; the run's is {:.3e}", run.optimizer.lr),
        )
    }));
    rows.extend(
        spectrum
            .heavy_ball()
            .map(|(lr, momentum)| ("heavy ball", format!("lr {lr:.3e}, momentum {momentum:.4}"))),
    );
    Ok(write_rows(context.out, &rows)?)
}

/// In one sentence, from what the run left.
fn state(paths: &RunPaths) -> String {
    let failed = || Failure::read(&paths.failure()).ok();
    let ended = || Summary::read(&paths.summary()).ok();
    if let Some(failure) = failed() {
        let rank = failure.rank.map(|rank| format!(" on rank {rank}")).unwrap_or_default();
        let cause = failure.causes.first().cloned().unwrap_or_default();
        format!("failed in step {}{rank}: {cause}", failure.step)
    } else if let Some(summary) = ended() {
        let how = if summary.stopped { "stopped on request" } else { "done" };
        format!("{how} after {} steps", summary.steps)
    } else {
        "running, or ended without a word".to_owned()
    }
}

fn write_tensors(file: &Path, out: &mut dyn Write) -> anyhow::Result<()> {
    let tensors = model_file::read(file)?;
    let name_width = tensors.iter().map(|tensor| tensor.name().len()).max().unwrap_or(0).max(4);
    writeln!(out, "{:<name_width$}  type  {:<20}  {:>12}  {:>12}", "name", "shape", "norm", "largest")?;
    let mut parameters = 0_usize;
    for tensor in &tensors {
        let Figures { dtype, norm, largest, non_finite } = Figures::of(tensor);
        let shape = format!("{:?}", tensor.shape());
        let warning = if non_finite > 0 { format!("  {non_finite} not finite") } else { String::new() };
        writeln!(
            out,
            "{:<name_width$}  {dtype:<4}  {shape:<20}  {norm:>12.6}  {largest:>12.6}{warning}",
            tensor.name()
        )?;
        parameters += tensor.values().len();
    }
    writeln!(out, "{} tensors, {parameters} values", tensors.len())?;
    Ok(())
}

/// What one asks about a tensor first; of its finite values.
struct Figures {
    dtype: &'static str,
    norm: f64,
    largest: f64,
    non_finite: usize,
}

impl Figures {
    fn of(tensor: &NamedTensor<'_>) -> Self {
        match tensor.values() {
            Values::F32(values) => Self::over("f32", values.iter().map(|value| f64::from(*value))),
            Values::F64(values) => Self::over("f64", values.iter().copied()),
            #[expect(clippy::cast_precision_loss, reason = "shown with few digits")]
            Values::U64(values) => Self::over("u64", values.iter().map(|value| *value as f64)),
        }
    }

    fn over(dtype: &'static str, values: impl Iterator<Item = f64>) -> Self {
        let mut figures = Self { dtype, norm: 0.0, largest: 0.0, non_finite: 0 };
        for value in values {
            if value.is_finite() {
                figures.norm += value * value;
                figures.largest = figures.largest.max(value.abs());
            } else {
                figures.non_finite += 1;
            }
        }
        figures.norm = figures.norm.sqrt();
        figures
    }
}

#[cfg(test)]
mod tests {
    use super::inspect;
    use phalanx_train::{NamedTensor, model_file};

    #[test]
    fn tensors_are_told_with_norm_and_what_is_not_finite() {
        let dir = tempfile::tempdir().expect("a directory");
        let file = dir.path().join("model.safetensors");
        let values = [3.0_f32, -4.0, f32::NAN];
        let tensor = NamedTensor::new("fc.weight", &[3, 1], values.as_slice()).expect("a tensor");
        model_file::write(&file, &[tensor]).expect("written");
        let mut out = Vec::new();
        inspect(&file, &mut out).expect("readable");
        assert_eq!(
            String::from_utf8(out).expect("text"),
            "\
name       type  shape                         norm       largest
fc.weight  f32   [3, 1]                    5.000000      4.000000  1 not finite
1 tensors, 3 values
"
        );
    }

    #[test]
    fn a_directory_without_a_run_is_no_run() {
        let dir = tempfile::tempdir().expect("a directory");
        let error = inspect(dir.path(), &mut Vec::new()).expect_err("empty").to_string();
        assert!(error.contains("no run directory"), "{error}");
    }
}
