//! `phalanx eval`: scores the model of a run.

use super::{Context, open_run, write_rows};
use crate::cli::EvalArgs;
use crate::engine;
use crate::runfile::{Described, FederatedRun, RawRun};

pub(super) fn eval(args: &EvalArgs, context: &mut Context<'_>) -> anyhow::Result<()> {
    let paths = open_run(&args.run_dir)?;
    let raw = RawRun::read(&paths.run_file())?;
    let (split, which, hardware) = (args.split, args.checkpoint, args.hardware.into());
    let score = match raw.is_federated() {
        true => {
            let run = FederatedRun::read(&raw, context.registered)?;
            engine::evaluate_federated(&run, &paths, split, which, context.registered, hardware)?
        }
        false => {
            let run = raw.resolve(context.registered)?;
            engine::evaluate(&run, &paths, split, which, context.registered, hardware)?
        }
    };
    let mut rows = vec![
        ("step", score.step.to_string()),
        ("samples", score.samples.to_string()),
        ("loss", format!("{:.4}", score.loss)),
    ];
    rows.extend(score.accuracy.map(|share| ("accuracy", format!("{:.2} %", share * 100.0))));
    Ok(write_rows(context.out, &rows)?)
}
