//! The rule over ranks of a run, with what acts before it and how much it bears.

use phalanx_grad::{GradError, Senders};
use phalanx_robust::registry::{PreConfig, RuleConfig};
use phalanx_robust::{Robust, Updates};
use phalanx_tensor::rng::{Purpose, Stream};
use std::time::Instant;

use super::named::NamedError;
use crate::runfile::Aggregation;

/// A rule that is not the plain mean, for a number of ranks, nodes or clients.
#[derive(Debug, Clone, PartialEq)]
pub struct OverRanks {
    rule: RuleConfig,
    before: Vec<PreConfig>,
    hostile: usize,
    momentum: f64,
    senders: Senders,
    /// Whether it needs a gradient that is trusted.
    trusts: bool,
}

/// Why a rule cannot be used.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum UnfitError {
    /// A pre-aggregator or a setting of it that is none.
    #[error(transparent)]
    Before(#[from] NamedError),
    /// The rule is not defined for these numbers.
    #[error("{hostile} hostile of {got} {senders}: {cause}")]
    Rule {
        /// How many it should bear.
        hostile: usize,
        /// The ranks or nodes, or the clients of a round.
        got: usize,
        /// What they are.
        senders: Senders,
        /// What it needs.
        cause: GradError,
    },
    /// Nodes of which nobody knows the ranks.
    #[error(
        "the rule is over nodes, and which ranks make one is known only of processes that MPI puts on nodes block by block: \
         need aggregation.ranks_per_node"
    )]
    NodesUnknown,
}

impl UnfitError {
    /// The key of the run file to look at.
    pub(crate) fn key(&self, aggregation: &Aggregation) -> &'static str {
        match self {
            UnfitError::Before(_) => "aggregation.before",
            UnfitError::NodesUnknown => "aggregation.over",
            _ if aggregation.hostile.is_some() => "aggregation.hostile",
            _ => "aggregation.rule",
        }
    }
}

impl OverRanks {
    /// The rule that `aggregation` asks for on `ranks` ranks; `None` for the plain mean.
    ///
    /// # Errors
    /// [`UnfitError`] when it cannot be used there.
    pub fn of(aggregation: &Aggregation, ranks: usize, seed: u64) -> Result<Option<Self>, UnfitError> {
        let over = aggregation.over().ok_or(UnfitError::NodesUnknown)?;
        Self::of_senders(aggregation, over.senders(ranks), seed)
    }

    /// The rule that `aggregation` asks for over so many ranks or nodes; `None` for the plain mean.
    ///
    /// # Errors
    /// [`UnfitError`] when it cannot be used there.
    pub(crate) fn of_senders(
        aggregation: &Aggregation,
        got: usize,
        seed: u64,
    ) -> Result<Option<Self>, UnfitError> {
        let senders = aggregation.senders();
        if aggregation.is_plain_mean() {
            return Ok(None);
        }
        let over = Self::unbound(aggregation, senders, seed)?;
        let unfit = |(hostile, cause)| UnfitError::Rule { hostile, got, senders, cause };
        over.bearing(aggregation.hostile, got, None).map(Some).map_err(unfit)
    }

    /// The same for a number of senders that is not known yet.
    fn unbound(aggregation: &Aggregation, senders: Senders, seed: u64) -> Result<Self, UnfitError> {
        let (rule, before) = (aggregation.rule.config(seed), aggregation.before.configs()?);
        let (momentum, trusts) = (aggregation.momentum, aggregation.rule.trusts());
        Ok(OverRanks { rule, before, hostile: 0, momentum, senders, trusts })
    }

    /// The rule that `aggregation` asks for over the updates of `clients` clients, whose server model it knows. The mean is
    /// one too: it bears updates that are not finite.
    ///
    /// # Errors
    /// [`UnfitError`] when it cannot be used there.
    pub fn of_clients(aggregation: &Aggregation, clients: usize, seed: u64) -> Result<Self, UnfitError> {
        let senders = Senders::Clients;
        let over = Self::unbound(aggregation, senders, seed)?;
        let unfit = |(hostile, cause)| UnfitError::Rule { hostile, got: clients, senders, cause };
        over.bearing(aggregation.hostile, clients, Some(&made_up(clients as u64))).map_err(unfit)
    }

    /// The same rule that bears as many as it should, or else as many as it can; if it cannot, of how many and why.
    fn bearing(
        self,
        hostile: Option<usize>,
        senders: usize,
        reference: Option<&[f32]>,
    ) -> Result<Self, (usize, GradError)> {
        let bearing = |hostile: usize| OverRanks { hostile, ..self.clone() };
        if let Some(hostile) = hostile {
            let over = bearing(hostile);
            return over.rehearse(senders, reference).map(|()| over).map_err(|cause| (hostile, cause));
        }
        let mut most = (0..=senders.saturating_sub(1) / 2).rev().map(bearing);
        match most.find(|over| over.rehearse(senders, reference).is_ok()) {
            Some(over) => Ok(over),
            None => bearing(0).rehearse(senders, reference).map(|()| bearing(0)).map_err(|cause| (0, cause)),
        }
    }

    /// How many hostile ones it bears.
    #[must_use]
    pub fn hostile(&self) -> usize {
        self.hostile
    }

    /// The rule for one rank.
    ///
    /// # Errors
    /// [`GradError::Setting`] names the setting that is out of range.
    pub fn build(&self) -> Result<Robust, GradError> {
        let rule = Robust::new(self.hostile, self.rule.build()?).with_momentum(self.momentum);
        let rule = rule.over(self.senders);
        Ok(self.before.iter().fold(rule, |rule, pre| rule.behind(pre.build())))
    }

    /// Seconds of one rank's work on its `part` coordinates of `senders` made-up gradients, here and now.
    ///
    /// # Errors
    /// Those of the rule on so many.
    pub(crate) fn seconds(&self, senders: usize, part: usize) -> Result<f64, GradError> {
        let rows: Vec<Vec<f32>> = (0..senders as u64)
            .map(|sender| {
                let mut row = vec![0.0; part];
                Stream::new(0, Purpose::User(0), sender).fill_normal(&mut row);
                row
            })
            .collect();
        let rows: Vec<&[f32]> = rows.iter().map(Vec::as_slice).collect();
        let mut updates = Updates::new(part, &rows);
        if let Some(trusted) = rows.first().filter(|_| self.trusts) {
            updates = updates.with_trusted(trusted)?;
        }
        let (mut rule, mut out) = (self.build()?, vec![0.0; part]);
        let mut least = f64::INFINITY;
        for step in 1..=3 {
            let began = Instant::now();
            rule.aggregate(step, &updates, &mut out)?;
            least = least.min(began.elapsed().as_secs_f64());
        }
        Ok(least)
    }

    /// Tries it on made-up gradients: what it needs, with all that acts before it, shows best in a round.
    fn rehearse(&self, senders: usize, reference: Option<&[f32]>) -> Result<(), GradError> {
        let rows: Vec<[f32; DIM]> = (0..senders as u64).map(made_up).collect();
        let rows: Vec<&[f32]> = rows.iter().map(|row| &row[..]).collect();
        let mut updates = Updates::new(DIM, &rows);
        if let Some(reference) = reference {
            updates = updates.with_reference(reference)?;
        }
        if let Some(trusted) = rows.first().filter(|_| self.trusts) {
            updates = updates.with_trusted(trusted)?;
        }
        match self.build()?.aggregate(1, &updates, &mut [0.0; DIM]).map(drop) {
            // what only these gradients bring about
            Ok(()) | Err(GradError::NonFinite { .. } | GradError::NoWeight { .. }) => Ok(()),
            Err(error) => Err(error),
        }
    }
}

/// Length of made-up gradients.
const DIM: usize = 16;

fn made_up(sender: u64) -> [f32; DIM] {
    let mut row = [0.0; DIM];
    Stream::new(0, Purpose::User(0), sender).fill_normal(&mut row);
    row
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::runfile::{RawRun, Registered};

    fn over(section: &str, ranks: usize) -> Result<Option<OverRanks>, String> {
        let text = format!(
            "name = 'a'\n[model]\nkind = 'mlp'\n[data]\nkind = 'digits'\n[train]\nepochs = 1\n\
             ranks = 20\n[optimizer]\nlr = 0.1\n[aggregation]\n{section}\n"
        );
        let run = RawRun::parse("a.toml", &text).and_then(|raw| raw.resolve(&Registered::default()));
        let run = run.map_err(|error| error.to_string())?;
        OverRanks::of(&run.aggregation, ranks, run.seed).map_err(|error| error.to_string())
    }

    #[test]
    fn the_mean_is_no_rule_unless_something_acts_before_it() {
        assert_eq!(over("rule = 'mean'", 1), Ok(None));
        assert!(over("rule = 'mean'\nbefore = ['nnm']", 5).is_ok_and(|over| over.is_some()));
        assert!(over("rule = 'mean'\nmomentum = 0.9", 5).is_ok_and(|over| over.is_some()));
    }

    #[test]
    fn it_bears_as_many_as_it_can_unless_told() {
        let hostile = |section: &str, ranks| over(section, ranks).map(|over| over.map(|over| over.hostile()));
        assert_eq!(hostile("rule = 'krum'", 5), Ok(Some(1)));
        assert_eq!(hostile("rule = 'krum'", 20), Ok(Some(8)));
        assert_eq!(hostile("rule = 'median'", 5), Ok(Some(2)));
        assert_eq!(hostile("rule = 'bulyan'", 11), Ok(Some(2)));
        assert_eq!(hostile("rule = 'median'\nhostile = 1", 5), Ok(Some(1)));
        // groups of two: five vectors of ten, of which Krum bears one
        assert_eq!(hostile("rule = 'krum'\nbefore = ['bucketing']", 10), Ok(Some(1)));
    }

    #[test]
    fn nodes_are_counted_where_the_rule_is_over_nodes() {
        let nodes = |section: &str| over(&format!("over = 'nodes'\nranks_per_node = 2\n{section}"), 10);
        let hostile = |section: &str| nodes(section).map(|over| over.map(|over| over.hostile()));
        assert_eq!(hostile("rule = 'krum'"), Ok(Some(1)));
        assert_eq!(
            hostile("rule = 'krum'\nhostile = 2"),
            Err("2 hostile of 5 nodes: krum needs 7 gradients over nodes, got 5".to_owned())
        );
        let unknown = over("over = 'nodes'\nrule = 'krum'", 10).expect_err("which ranks make a node");
        assert!(unknown.contains("need aggregation.ranks_per_node"), "{unknown}");
    }

    #[test]
    fn a_rule_that_trusts_is_tried_with_something_to_trust() {
        let fltrust = over("rule = 'fltrust'\ntrusted_samples = 9", 3).expect("it fits").expect("a rule");
        assert_eq!(fltrust.hostile(), 1);
        assert!(fltrust.seconds(3, 100).is_ok_and(|seconds| seconds > 0.0));
    }

    #[test]
    fn too_few_ranks_are_an_error_with_the_numbers() {
        assert_eq!(
            over("rule = 'krum'\nhostile = 2", 5),
            Err("2 hostile of 5 ranks: krum needs 7 gradients over ranks, got 5".to_owned())
        );
        assert_eq!(
            over("rule = 'krum'", 2),
            Err("0 hostile of 2 ranks: krum needs 3 gradients over ranks, got 2".to_owned())
        );
        assert!(
            over("rule = 'median'\nbefore = ['multi-metrics']", 9).is_err_and(|e| e.contains("not given"))
        );
    }
}
