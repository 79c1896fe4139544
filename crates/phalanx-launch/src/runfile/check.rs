//! Whether the values of a run file fit together.

use crate::aggregation::{OverRanks, UnfitError};

use super::error::{Fault, Problem};
use super::raw::RawRun;
use super::run::{Head, Parts, attacks};
use super::sections::{
    Aggregation, AggregationRule, Batch, BatchPolicy, Compression, Model, Optimizer, OverWhat, Reduction,
    Rule, Shape, Source, Statistic, Stop, Train,
};

/// Reports each pair of values that does not fit, as far as they could be read.
pub(super) fn check(raw: &RawRun, parts: &Parts, problems: &mut Vec<Problem>) {
    let mut report = |key: &str, fault| problems.push(Problem::new(key, fault).at(raw.at_value(key)));
    if let Some(head) = &parts.head {
        check_name(&head.name, &mut report);
    }
    if let Some(model) = &parts.model {
        check_model(model, &mut report);
    }
    if let Some(train) = &parts.train {
        check_train(train, &mut report);
    }
    if let Some(Optimizer { rule: Rule::Sgd { momentum, nesterov: true }, .. }) = &parts.optimizer
        && *momentum <= 0.0
    {
        report("optimizer.nesterov", Fault::NesterovWithoutMomentum);
    }
    if let (Some(model), Some(data)) = (&parts.model, &parts.data) {
        check_data_fits(model, &data.source, &mut report);
    }
    if let (Some(batch), Some(train)) = (&parts.batch, &parts.train) {
        check_batch(batch, train, &mut report);
    }
    if let (Some(head), Some(aggregation), Some(train)) = (&parts.head, &parts.aggregation, &parts.train) {
        check_aggregation(head, aggregation, train, parts, &mut report);
    }
    if let (Some(compression), Some(Train { reduction: Reduction::Reproducible, .. })) =
        (&parts.compression, &parts.train)
        && !matches!(compression, Compression::None {})
    {
        report("compression.kind", Fault::LossyReproducible { kind: compression.kind().to_owned() });
    }
    if let (Some(schedule), Some(Train { stop: Stop::Steps(_), .. }), Some(batch)) =
        (&parts.schedule, &parts.train, &parts.batch)
        && !matches!(schedule.shape, Shape::Constant {})
        && !matches!(batch.policy, BatchPolicy::Constant {})
    {
        report("train.steps", Fault::EndUnknown { schedule: schedule.shape.kind().to_owned() });
    }
    if let (Some(schedule), Some(Train { stop: Stop::Samples(samples), .. })) =
        (&parts.schedule, &parts.train)
        && schedule.warmup_samples > *samples
    {
        let fault = Fault::WarmupPastEnd { warmup: schedule.warmup_samples, samples: *samples };
        report("schedule.warmup_samples", fault);
    }
}

fn check_batch(batch: &Batch, train: &Train, report: &mut impl FnMut(&str, Fault)) {
    if let Some(max) = batch.policy.max().filter(|max| *max < train.batch) {
        report("batch.max", Fault::MaxUnderBatch { max, batch: train.batch });
    }
    if let (Some(max), Some(min)) = (batch.policy.max(), batch.policy.min())
        && max < min
    {
        report("batch.min", Fault::MinOverMax { min, max });
    }
    let is_one_chunk = match train.reduction {
        Reduction::Fast => train.ranks == 1,
        Reduction::Reproducible => train.shards == 1,
    };
    if batch.statistic() == Some(Statistic::Ranks) && is_one_chunk {
        let by_samples = batch.policy.statistic().is_some();
        let key = if by_samples { "batch.statistic" } else { "batch.lr_scaling" };
        report(key, Fault::OneChunk { by_samples });
    }
}

/// What is over the gradients of ranks needs them, and enough of them.
fn check_aggregation(
    head: &Head,
    aggregation: &Aggregation,
    train: &Train,
    parts: &Parts,
    report: &mut impl FnMut(&str, Fault),
) {
    check_trust(aggregation, report);
    if let (OverWhat::Ranks, Some(ranks)) = (aggregation.over, aggregation.ranks_per_node) {
        report("aggregation.ranks_per_node", Fault::NodesNotCompared { ranks });
    }
    let rule = match OverRanks::of(aggregation, train.ranks, head.seed) {
        Ok(over) => over.map(|_| not_the_mean(aggregation)),
        // the launcher may know
        Err(UnfitError::NodesUnknown) => (!aggregation.is_plain_mean()).then(|| not_the_mean(aggregation)),
        Err(unfit) => return report(unfit.key(aggregation), Fault::Unfit(unfit)),
    };
    let attack = match attacks(&head.attack, aggregation, train) {
        Ok(attacks) => attacks.first().map(|attack| format!("attack \"{}\"", attack.kind.name())),
        Err(error) => return report("attack", Fault::Attack(error)),
    };
    let Some(over) = rule.or(attack) else { return };
    if train.reduction == Reduction::Reproducible {
        report("train.reduction", Fault::OverShards { over: over.clone() });
    }
    if parts.compression.as_ref().is_some_and(|kind| !matches!(kind, Compression::None {})) {
        report("compression.kind", Fault::CompressedRule { over: over.clone() });
    }
    if let Some(batch) = parts.batch.as_ref().filter(|batch| batch.statistic().is_some()) {
        let key = if batch.policy.statistic().is_some() { "batch.policy" } else { "batch.lr_scaling" };
        report(key, Fault::NeedsMean { over });
    }
}

/// A rule that trusts needs samples to do so, and others have no use for them.
pub(super) fn check_trust(aggregation: &Aggregation, report: &mut impl FnMut(&str, Fault)) {
    let rule = || aggregation.rule.kind().to_owned();
    match (aggregation.rule.trusts(), aggregation.trusted_samples) {
        (true, None) => report("aggregation.rule", Fault::NothingTrusted { rule: rule() }),
        (false, Some(_)) => report("aggregation.trusted_samples", Fault::TrustsNothing { rule: rule() }),
        _ => {}
    }
}

/// What keeps the step from taking the mean of the gradients.
fn not_the_mean(aggregation: &Aggregation) -> String {
    match aggregation.rule {
        AggregationRule::Mean {} if aggregation.before.is_empty() => {
            format!("aggregation.momentum = {}", aggregation.momentum)
        }
        AggregationRule::Mean {} => "aggregation.before".to_owned(),
        ref rule => format!("aggregation.rule = \"{}\"", rule.kind()),
    }
}

/// The name becomes that of a directory.
pub(super) fn check_name(name: &str, report: &mut impl FnMut(&str, Fault)) {
    let is_plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.');
    let starts_well = name.starts_with(|c: char| c.is_ascii_alphanumeric());
    if !starts_well || !name.chars().all(is_plain) || name.len() > 100 {
        report("name", Fault::Name { got: name.to_owned() });
    }
}

pub(super) fn check_model(model: &Model, report: &mut impl FnMut(&str, Fault)) {
    if let Model::Gpt { width, heads, .. } = *model
        && !width.is_multiple_of(heads)
    {
        report("model.heads", Fault::HeadsDoNotDivide { heads, width });
    }
}

fn check_train(train: &Train, report: &mut impl FnMut(&str, Fault)) {
    let Train { ranks, batch, shards, .. } = *train;
    if train.reduction == Reduction::Reproducible && ranks > shards {
        report("train.ranks", Fault::RanksOverShards { ranks, shards });
    }
    if batch < ranks {
        report("train.batch", Fault::BatchUnderRanks { batch, ranks });
    }
}

pub(super) fn check_data_fits(model: &Model, source: &Source, report: &mut impl FnMut(&str, Fault)) {
    const IMAGES: &[&str] = &["digits", "idx"];
    let (model, takes): (&'static str, &[&'static str]) = match model {
        Model::Mlp { .. } => ("mlp", &["digits", "idx", "csv"]),
        Model::LeNet5 { .. } => ("lenet5", IMAGES),
        Model::Cnn { .. } => ("cnn", IMAGES),
        Model::Gpt { context, .. } => {
            if let Source::Text { context: Some(got), .. } = *source
                && got > *context
            {
                report("data.context", Fault::ContextOverModel { got, most: *context });
            }
            ("gpt", &["text"])
        }
        Model::Registered { .. } => return,
    };
    let data = match source {
        Source::Digits { .. } => "digits",
        Source::Idx { .. } => "idx",
        Source::Csv { .. } => "csv",
        Source::Text { .. } => "text",
    };
    if !takes.contains(&data) {
        report("data.kind", Fault::DataUnfit { model, data, takes: takes.to_vec() });
    }
}
