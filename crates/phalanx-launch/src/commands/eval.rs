//! `phalanx eval`: scores the model of a run.

use super::{Context, open_run, write_rows};
use crate::cli::EvalArgs;
use crate::engine;
use crate::runfile::RawRun;

pub(super) fn eval(args: &EvalArgs, context: &mut Context<'_>) -> anyhow::Result<()> {
    let paths = open_run(&args.run_dir)?;
    let run = RawRun::read(&paths.run_file())?.resolve(context.registered)?;
    let score = engine::evaluate(
        &run,
        &paths,
        args.split,
        args.checkpoint,
        context.registered,
        args.hardware.into(),
    )?;
    let mut rows = vec![
        ("step", score.step.to_string()),
        ("samples", score.samples.to_string()),
        ("loss", format!("{:.4}", score.loss)),
    ];
    rows.extend(score.accuracy.map(|share| ("accuracy", format!("{:.2} %", share * 100.0))));
    Ok(write_rows(context.out, &rows)?)
}
