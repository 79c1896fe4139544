//! `phalanx schedule`: learning-rate schedules made from runs.

use phalanx_optim::Weighting;

use super::{Context, open_run};
use crate::cli::{Norm, ScheduleCommand};
use crate::runfile::RawRun;
use crate::{engine, schedule_file};

pub(super) fn schedule(command: &ScheduleCommand, context: &mut Context<'_>) -> anyhow::Result<()> {
    let ScheduleCommand::Refine { run_dir, norm, window, output } = command;
    let paths = open_run(run_dir)?;
    let run = RawRun::read(&paths.run_file())?.resolve(context.registered)?;
    let weighting = norm.map(|norm| match norm {
        Norm::L2 => Weighting::Euclidean,
        Norm::L1 => Weighting::Absolute,
    });
    let refined = engine::refine(&run, &paths, weighting, *window)?;
    let norm = match refined.weighting {
        Weighting::Euclidean => "l2",
        Weighting::Absolute => "l1",
    };
    let origin = format!("refined from {} steps of {} by the {norm} norm", refined.steps, run.name);
    schedule_file::write(output, &origin, &refined.points)?;
    let peak = refined.points.iter().max_by(|a, b| a.factor.total_cmp(&b.factor));
    let peak = peak.map_or(0.0, |point| 100.0 * point.position);
    writeln!(context.out, "{}: {origin}; greatest at {peak:.1} % of the run", output.display())?;
    Ok(writeln!(
        context.out,
        "next  phalanx train RUN.toml --set schedule.kind=refined --set schedule.path={}",
        output.display()
    )?)
}
