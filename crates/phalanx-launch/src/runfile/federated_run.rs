//! A run file of federated training as meant: every key resolved and checked.

use phalanx_federated::Attacker;

use crate::aggregation::Attacks;
use crate::federation::attackers;

use super::check_federated;
use super::described::{Described, described};
use super::key::keys;
use super::range::Range;
use super::raw::RawRun;
use super::run::context_of;
use super::sections::{
    Aggregation, Checkpoint, Data, Faults, Federated, FederatedOutput, Local, Model, Optimizer, Partition,
};

described! {
    /// A federated run, as meant.
    ///
    /// The fields are the sections of the file. [`to_toml`](Self::to_toml) writes the file
    /// that resolves to an equal run.
    pub struct FederatedRun of FederatedParts, FederatedHead, checked by check_federated::check {
    /// Which network is trained.
    model: Model,
    /// What all clients together learn from.
    data: Data,
    /// Which samples belong to which client.
    partition: Partition,
    /// The rounds: who takes part, and what the server does.
    federated: Federated,
    /// How a client trains in a round.
    local: Local,
    /// How a client's gradient becomes an update of its model.
    optimizer: Optimizer,
    /// How the clients' updates become one.
    aggregation: Aggregation,
    /// What is kept to go on from; a round is a step.
    checkpoint: Checkpoint,
    /// What is written for other tools.
    output: FederatedOutput,
    /// What is made to go wrong; a round is a step.
    faults: Faults,
    }
}

keys! {
    /// The keys above all sections.
    pub(super) struct FederatedHead {
        /// Name of the run; its directory is `runs/NAME`.
        name: String, "", Range::Any, Fixed;
        /// Seed of everything that is random: weights, partition, cohorts, order of samples, dropout.
        seed: u64 = 0, "", Range::AtLeast(0.0), Fixed;
        /// Attacks on the run, for experiments: [[attack]] tables with `kind`, the hostile `clients` or their `count`, and
        /// settings; docs/federated.md lists them.
        attack: Attacks = Attacks::default(), "", Range::Any, Fixed;
    }
}

impl FederatedRun {
    /// The resolved run file: every key that applies, in one order, so that equal runs have equal text.
    ///
    /// # Examples
    /// ```
    /// use phalanx_launch::runfile::{Described, FederatedRun, RawRun, Registered};
    /// let text = "name = 'a'\n[model]\nkind = 'mlp'\n[data]\nkind = 'digits'\n\
    ///             [federated]\nclients = 20\nper_round = 5\nrounds = 3\n[optimizer]\nlr = 0.1\n";
    /// let run = FederatedRun::read(&RawRun::parse("a.toml", text)?, &Registered::default())?;
    /// let again = FederatedRun::read(&RawRun::parse("b.toml", &run.to_toml())?, &Registered::default())?;
    /// assert_eq!(run, again);
    /// # Ok::<(), phalanx_launch::runfile::RunFileError>(())
    /// ```
    #[must_use]
    pub fn to_toml(&self) -> String {
        Described::to_toml(self)
    }

    /// Tokens of a sample of text, as [`Run::context`](super::Run::context).
    #[must_use]
    pub fn context(&self) -> Option<usize> {
        context_of(&self.data, &self.model)
    }

    /// What is worth saying about the run before it begins.
    #[must_use]
    pub fn notes(&self) -> Vec<String> {
        let hostile = attackers(&self.attack, self.federated.clients, self.seed).unwrap_or_default();
        let told = |one: &Attacker| {
            let clients: Vec<String> = one.clients.iter().map(ToString::to_string).collect();
            let when =
                one.every.map_or_else(String::new, |every| format!(", in each round that {every} divides"));
            format!("the run is under attack: {} by client {}{when}", one.conduct.name(), clients.join(", "))
        };
        hostile.iter().map(told).collect()
    }
}

impl RawRun {
    /// Whether the file describes federated training: whether it has a section `[federated]`.
    #[must_use]
    pub fn is_federated(&self) -> bool {
        self.root().contains_key("federated")
    }
}
