//! `phalanx federate`: rounds of many clients, new or gone on with.

use std::io::Write;
use std::sync::Arc;

use phalanx_train::Summary;
use phalanx_train::rundir::RunPaths;

use super::train::Startable;
use crate::engine::{self, Hardware, TrainOptions};
use crate::runfile::{Bytes, FederatedRun, RawRun, Registered, Source};
use crate::ui::Ui;
use crate::usage::UsageError;
use crate::world::World;

impl Startable for FederatedRun {
    const RANKS: &'static str = "federated.ranks";
    type Prepared = engine::PreparedFederation;

    fn name(&self) -> &str {
        &self.name
    }

    fn source(&self) -> &Source {
        &self.data.source
    }

    fn notes(&self) -> Vec<String> {
        FederatedRun::notes(self)
    }

    fn check_kind(raw: &RawRun) -> Result<(), UsageError> {
        let other = || UsageError::OtherCommand { file: raw.file().to_owned(), command: "train" };
        if raw.is_federated() { Ok(()) } else { Err(other()) }
    }

    fn prepare(
        &self,
        registered: &Registered,
        hardware: Hardware,
        _world: &World,
    ) -> anyhow::Result<Self::Prepared> {
        engine::prepare_federation(self, registered, hardware)
    }

    fn write_plan(
        &self,
        registered: &Registered,
        hardware: Hardware,
        out: &mut dyn Write,
    ) -> anyhow::Result<()> {
        let plan = engine::plan_federation(self, registered, hardware)?;
        let [least, median, most] = plan.client_samples;
        writeln!(out, "\n# plan")?;
        writeln!(out, "# parameters  {}", plan.parameters)?;
        writeln!(
            out,
            "# samples     {} of all clients, {least} to {most} a client, half have {median}",
            plan.train_samples
        )?;
        if plan.trusted_samples > 0 {
            writeln!(out, "# trusted     {} samples", plan.trusted_samples)?;
        }
        writeln!(
            out,
            "# clients     {}, {} hostile, {} without samples",
            self.federated.clients, plan.hostile_clients, plan.empty_clients
        )?;
        writeln!(
            out,
            "# rounds      {} of {} clients, of which the rule bears {}",
            self.federated.rounds, self.federated.per_round, plan.bears
        )?;
        writeln!(out, "# memory      {} bytes a rank", Bytes(plan.rank_bytes).0)?;
        Ok(())
    }

    fn train(
        &self,
        prepared: Self::Prepared,
        paths: &RunPaths,
        options: &TrainOptions,
        world: &World,
        ui: &Arc<dyn Ui>,
    ) -> anyhow::Result<Option<Summary>> {
        engine::federate(self, prepared, paths, options, world, ui)
    }
}
