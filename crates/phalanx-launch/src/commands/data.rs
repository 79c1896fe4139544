//! `phalanx data`: data sets, without a run.

use super::{Context, read_run, write_rows};
use crate::cli::DataCommand;
use crate::{datasets, engine};

pub(super) fn data(command: &DataCommand, context: &mut Context<'_>) -> anyhow::Result<()> {
    let rows = match command {
        DataCommand::Fetch { name, dir, mirror } => {
            let dir = dir.clone().unwrap_or_else(datasets::home);
            let fetched = engine::fetch(name, &dir, mirror.as_deref(), &**context.ui)?;
            vec![
                ("path", fetched.path.display().to_string()),
                ("from", engine::origin(&fetched.origin)),
                ("licence", fetched.licence.to_owned()),
            ]
        }
        DataCommand::Info(args) => engine::describe_data(&read_run(args, context.registered)?)?,
    };
    Ok(write_rows(context.out, &rows)?)
}
