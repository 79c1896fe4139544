//! The list of keys, and the page that is written from it.

use std::fs;
use std::path::Path;

use phalanx_launch::runfile::{Described, FederatedRun, keys, markdown};

/// Run files in the wild hold these: a key may join, none may go or change its name.
const KEYS: &[&str] = &[
    "name",
    "seed",
    "attack",
    "model.kind",
    "model.hidden",
    "model.channels",
    "model.layers",
    "model.width",
    "model.heads",
    "model.context",
    "model.dropout",
    "data.kind",
    "data.path",
    "data.mean",
    "data.std",
    "data.test",
    "data.split",
    "data.label",
    "data.header",
    "data.context",
    "data.validation",
    "train.epochs",
    "train.samples",
    "train.steps",
    "train.ranks",
    "train.batch",
    "train.micro_batch",
    "train.tile",
    "train.reduction",
    "train.precision",
    "train.shards",
    "train.first_bucket_bytes",
    "train.bucket_bytes",
    "train.timeout_seconds",
    "train.lost_after_seconds",
    "train.when_rank_lost",
    "train.on_nonfinite",
    "train.eval_every_steps",
    "train.eval_every_samples",
    "train.log_every_steps",
    "train.memory_limit",
    "train.drop_last",
    "optimizer.kind",
    "optimizer.momentum",
    "optimizer.nesterov",
    "optimizer.beta1",
    "optimizer.beta2",
    "optimizer.eps",
    "optimizer.b0",
    "optimizer.lr",
    "optimizer.weight_decay",
    "optimizer.clip_norm",
    "schedule.kind",
    "schedule.final_factor",
    "schedule.path",
    "schedule.warmup_samples",
    "batch.policy",
    "batch.eta",
    "batch.max",
    "batch.interval",
    "batch.growth",
    "batch.statistic",
    "batch.denominator",
    "batch.ema",
    "batch.theta",
    "batch.nu",
    "batch.coordinates",
    "batch.quantile",
    "batch.min",
    "batch.hysteresis",
    "batch.scale",
    "batch.cosine",
    "batch.delta",
    "batch.sizes",
    "batch.increment",
    "batch.lr_scaling",
    "aggregation.rule",
    "aggregation.neighbours",
    "aggregation.keep",
    "aggregation.steps",
    "aggregation.tolerance",
    "aggregation.smoothing",
    "aggregation.pivot",
    "aggregation.tau",
    "aggregation.norm",
    "aggregation.cut",
    "aggregation.share",
    "aggregation.times",
    "aggregation.noise",
    "aggregation.threshold",
    "aggregation.base",
    "aggregation.hostile",
    "aggregation.over",
    "aggregation.ranks_per_node",
    "aggregation.trusted_samples",
    "aggregation.momentum",
    "aggregation.before",
    "compression.kind",
    "compression.rank",
    "compression.start_step",
    "compression.fraction",
    "comm.algorithm",
    "comm.progress",
    "checkpoint.every_steps",
    "checkpoint.keep",
    "output.tensorboard",
    "output.trace",
    "faults.inject",
];

#[test]
fn the_list_of_keys_is_pinned() {
    let mut paths: Vec<String> = Vec::new();
    for key in keys() {
        if !paths.contains(&key.path()) {
            paths.push(key.path());
        }
    }
    assert_eq!(paths, KEYS);
}

/// Those of federated runs that training runs do not have.
const OF_FEDERATED: &[&str] = &[
    "partition.kind",
    "partition.alpha",
    "partition.least",
    "partition.gamma",
    "partition.labels_each",
    "federated.algorithm",
    "federated.mu",
    "federated.server_momentum",
    "federated.beta1",
    "federated.beta2",
    "federated.tau",
    "federated.clients",
    "federated.per_round",
    "federated.rounds",
    "federated.sampling",
    "federated.over_select",
    "federated.dropout",
    "federated.spread",
    "federated.server_lr",
    "federated.on_unusable",
    "federated.eval_every_rounds",
    "federated.ranks",
    "federated.tile",
    "federated.timeout_seconds",
    "federated.lost_after_seconds",
    "local.epochs",
    "local.steps",
    "local.batch",
    "local.lr_decay",
    "local.growth_eta",
    "local.max_batch",
];

#[test]
fn the_list_of_keys_of_federated_runs_is_pinned() {
    let mut paths: Vec<String> = FederatedRun::keys().iter().map(|key| key.path()).collect();
    paths.retain(|path| !KEYS.contains(&path.as_str()));
    paths.dedup();
    let mut seen = Vec::new();
    paths.retain(|path| {
        !seen.contains(path) && {
            seen.push(path.clone());
            true
        }
    });
    assert_eq!(paths, OF_FEDERATED);
}

#[test]
fn every_key_says_what_it_means() {
    for key in keys().into_iter().chain(FederatedRun::keys()) {
        assert!(key.doc.len() > 5 && key.doc.ends_with('.'), "{}: {:?}", key.path(), key.doc);
        assert!(!key.need.is_empty(), "{}", key.path());
    }
}

/// `UPDATE_DOCS=1` writes the page.
#[test]
fn the_page_on_run_files_is_up_to_date() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/run-file.md");
    let page = markdown();
    if std::env::var_os("UPDATE_DOCS").is_some() {
        fs::write(&path, &page).expect("docs/ is writable");
    }
    let kept = fs::read_to_string(&path).expect("docs/run-file.md");
    assert!(kept == page, "docs/run-file.md is out of date: run this test with UPDATE_DOCS=1");
}
