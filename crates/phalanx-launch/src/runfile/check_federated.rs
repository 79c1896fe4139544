//! Whether the values of a run file of federated training fit together.

use crate::aggregation::OverRanks;
use crate::federation::attackers;

use super::check::{check_data_fits, check_model, check_name, check_trust};
use super::error::{Fault, Problem};
use super::federated_run::FederatedParts;
use super::raw::RawRun;
use super::sections::{Aggregation, LENGTHS, Local, Optimizer, OverWhat, Rule};

/// Reports each pair of values that does not fit, as far as they could be read.
pub(super) fn check(raw: &RawRun, parts: &FederatedParts, problems: &mut Vec<Problem>) {
    let mut report = |key: &str, fault| problems.push(Problem::new(key, fault).at(raw.at_value(key)));
    if let Some(head) = &parts.head {
        check_name(&head.name, &mut report);
    }
    if let Some(model) = &parts.model {
        check_model(model, &mut report);
    }
    if let Some(Optimizer { rule: Rule::Sgd { momentum, nesterov: true }, .. }) = &parts.optimizer
        && *momentum <= 0.0
    {
        report("optimizer.nesterov", Fault::NesterovWithoutMomentum);
    }
    if let (Some(model), Some(data)) = (&parts.model, &parts.data) {
        check_data_fits(model, &data.source, &mut report);
    }
    if let Some(local) = &parts.local {
        check_local(local, &mut report);
    }
    let Some(federated) = &parts.federated else { return };
    if federated.per_round > federated.clients {
        let (per_round, clients) = (federated.per_round, federated.clients);
        report("federated.per_round", Fault::CohortOverClients { per_round, clients });
    }
    let Some(head) = &parts.head else { return };
    if let Err(error) = attackers(&head.attack, federated.clients, head.seed) {
        report("attack", Fault::Attack(error));
    }
    if let Some(aggregation) = &parts.aggregation {
        check_aggregation(aggregation, federated.per_round, head.seed, &mut report);
    }
}

fn check_aggregation(
    aggregation: &Aggregation,
    per_round: usize,
    seed: u64,
    report: &mut impl FnMut(&str, Fault),
) {
    check_trust(aggregation, report);
    match (aggregation.over, aggregation.ranks_per_node) {
        (OverWhat::Nodes, _) => report("aggregation.over", Fault::ClientsNotNodes),
        (OverWhat::Ranks, Some(ranks)) => {
            report("aggregation.ranks_per_node", Fault::NodesNotCompared { ranks })
        }
        (OverWhat::Ranks, None) => {}
    }
    if let Err(unfit) = OverRanks::of_clients(aggregation, per_round, seed) {
        report(unfit.key(aggregation), Fault::Unfit(unfit));
    }
}

fn check_local(local: &Local, report: &mut impl FnMut(&str, Fault)) {
    if local.epochs.is_some() && local.steps.is_some() {
        report("local.steps", Fault::NotOne { of: LENGTHS.to_vec(), got: LENGTHS.to_vec() });
    }
    if local.growth_eta.is_some() && local.max_batch < local.batch {
        let (max, batch) = (local.max_batch, local.batch);
        report("local.max_batch", Fault::MaxUnderLocalBatch { max, batch });
    }
}
