//! `phalanx config`: run files, without a run.

mod rules;

use super::{Context, read_changed};
use crate::cli::ConfigCommand;
use crate::exit::{Exit, WithExit};
use crate::runfile::{self, Described, FederatedRun};

pub(super) fn config(command: &ConfigCommand, context: &mut Context<'_>) -> anyhow::Result<()> {
    match command {
        ConfigCommand::Show(args) => {
            let raw = read_changed(&args.file, &args.changes)?;
            let text = match raw.is_federated() {
                true => FederatedRun::read(&raw, context.registered)?.to_toml(),
                false => raw.resolve(context.registered)?.to_toml(),
            };
            context.out.write_all(text.as_bytes())?;
        }
        ConfigCommand::Rules => rules::write(context.out)?,
        ConfigCommand::Keys => context.out.write_all(runfile::table().as_bytes())?,
        ConfigCommand::Check { files, changes } => {
            let mut complaints = Vec::new();
            for file in files {
                let checked = read_changed(file, changes).and_then(|raw| match raw.is_federated() {
                    true => FederatedRun::read(&raw, context.registered).map(drop),
                    false => raw.resolve(context.registered).map(drop),
                });
                match checked {
                    Ok(()) => writeln!(context.out, "{}: ok", file.display())?,
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
