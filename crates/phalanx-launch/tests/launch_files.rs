//! The run files that come with phalanx.

use std::fs;
use std::path::Path;

use phalanx_launch::runfile::{
    Described, FederatedRun, Model, RawRun, Registered, Run, Stop, differences, keys,
};

fn launch(name: &str) -> Run {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../launch").join(name);
    let raw = RawRun::read(&path).unwrap_or_else(|error| panic!("{error}"));
    raw.resolve(&Registered::default()).unwrap_or_else(|error| panic!("{error}"))
}

fn federated(name: &str) -> FederatedRun {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../launch").join(name);
    let raw = RawRun::read(&path).unwrap_or_else(|error| panic!("{error}"));
    FederatedRun::read(&raw, &Registered::default()).unwrap_or_else(|error| panic!("{error}"))
}

/// Defenses are compared on the same clients.
#[test]
fn every_federated_run_file_differs_in_its_defense_alone() {
    let names = ["krum", "multi-krum", "rfa", "flame", "multi-metrics", "multi-metrics-rfa"];
    let plain = federated("fl-fedavg.toml");
    for name in names {
        let run = federated(&format!("fl-{name}.toml"));
        for (key, ..) in differences(&plain, &run) {
            assert!(key == "name" || key.starts_with("aggregation."), "fl-{name}.toml: {key}");
        }
    }
}

#[test]
fn every_run_file_resolves_to_a_run_of_its_name() {
    let dir = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../launch");
    let files = fs::read_dir(dir).expect("launch/").map(|entry| entry.expect("an entry").path());
    let names: Vec<String> = files
        .filter(|path| path.extension().is_some_and(|end| end == "toml"))
        .map(|path| path.file_name().expect("a name").to_string_lossy().into_owned())
        .collect();
    assert!(names.len() >= 6, "{names:?}");
    for name in names {
        let of = if name.starts_with("fl-") { federated(&name).name } else { launch(&name).name };
        assert_eq!(format!("{of}.toml"), name);
    }
}

/// Methods that are compared differ in what they are compared in, and in nothing else.
#[test]
fn every_experiment_compares_like_with_like() {
    let of_batch = ["name", "train.batch", "checkpoint.every_steps", "batch."];
    let of_compression = ["name", "train.batch", "checkpoint.every_steps", "compression."];
    let of_rule = ["name", "aggregation.", "optimizer.lr"];
    for (folder, least, may) in [
        ("adadagrad-fashion-mnist", 8, &of_batch[..]),
        ("adadagrad-gpt", 6, &of_batch),
        ("byzantine", 21, &of_rule),
        ("compression-fashion-mnist", 7, &of_compression),
    ] {
        let dir = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../launch").join(folder);
        let files = phalanx_launch::experiment::run_files(&dir).expect("run files");
        assert!(files.len() >= least, "{files:?}");
        let runs: Vec<Run> = files.iter().map(|file| launch(&file.to_string_lossy())).collect();
        for (run, file) in runs.iter().zip(&files) {
            assert!(file.ends_with(format!("{}.toml", run.name)), "{}", file.display());
            for (key, ..) in differences(&runs[0], run) {
                let section = |may: &&str| may.ends_with('.') && key.starts_with(*may);
                let is_compared = may.contains(&&*key) || may.iter().any(section);
                assert!(is_compared, "{}: {key}", file.display());
            }
        }
    }
}

#[test]
fn the_digits_are_as_documented() {
    let run = launch("digits.toml");
    assert_eq!(run.model, Model::Cnn { channels: vec![32, 64], hidden: 128 });
    assert_eq!((run.train.ranks, run.train.batch, run.train.stop), (2, 64, Stop::Epochs(20)));
    assert_eq!(run.micro_batch(run.train.batch, run.train.ranks), 32);
    assert_eq!(run.total_samples(1294), Some(25_880));
}

#[test]
fn the_transformer_reads_windows_of_its_context() {
    assert_eq!(launch("gpt.toml").context(), Some(128));
    assert_eq!(launch("digits.toml").context(), None);
}

/// The first run file of the documents is the whole of `launch/digits.toml`, key by key.
#[test]
fn the_example_of_the_page_resolves_to_the_digits() {
    let page = phalanx_launch::runfile::markdown();
    let example =
        page.split("```toml\n").nth(1).and_then(|rest| rest.split("```").next()).expect("an example");
    let run = RawRun::parse("example", example).and_then(|raw| raw.resolve(&Registered::default()));
    assert_eq!(run.unwrap_or_else(|error| panic!("{error}")), launch("digits.toml"));
    assert!(keys().len() > 50);
}
