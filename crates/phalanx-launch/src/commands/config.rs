//! `phalanx config`: run files, without a run.

mod rules;

use super::{Context, read_changed, read_run};
use crate::cli::ConfigCommand;
use crate::exit::{Exit, WithExit};
use crate::runfile;

pub(super) fn config(command: &ConfigCommand, context: &mut Context<'_>) -> anyhow::Result<()> {
    match command {
        ConfigCommand::Show(args) => {
            let run = read_run(args, context.registered)?;
            context.out.write_all(run.to_toml().as_bytes())?;
        }
        ConfigCommand::Rules => rules::write(context.out)?,
        ConfigCommand::Keys => context.out.write_all(runfile::table().as_bytes())?,
        ConfigCommand::Check { files, changes } => {
            let mut complaints = Vec::new();
            for file in files {
                match read_changed(file, changes).and_then(|raw| raw.resolve(context.registered)) {
                    Ok(_) => writeln!(context.out, "{}: ok", file.display())?,
                    Err(error) => complaints.push(error.to_string()),
                }
            }
            if !complaints.is_empty() {
                let error = anyhow::anyhow!(complaints.join("\n"));
                return Err(WithExit::new(Exit::BadInput, error).into());
            }
        }
    }
    Ok(())
}
