//! The loop on a device with memory of its own: the same bits as on the CPU, wherever the numbers have to go.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use phalanx::batch::{AugmentedTest, CoordinateTest, Pace, PolicyConfig, TestConfig};
use phalanx::comm::{Options, Rank, WorldError, WorldSize, run_ranks};
use phalanx::compress::CompressionConfig;
use phalanx::grad::{Chunks, CoordinateRule};
use phalanx::nn::layers::BatchNorm2d;
use phalanx::nn::{Graph, Mode, ParamBuilder};
use phalanx::prelude::{BatchPolicy, Communicator, TrainBackend};
use phalanx::robust::{Krum, Median, Robust};
use phalanx::tensor::Shape;
use phalanx::train::checkpoint::Keep;
use phalanx::train::rundir::{Existing, RunDir};
use phalanx::train::storage::Disk;
use phalanx::train::{
    Device, Files, Job, Limit, Methods, Outcome, Reduction, TrainConfig, TrainError, run_rank_on,
};
use phalanx_tests::{Apart, HostExchange, bits, config, job_on, methods_on, train};

type OnCpu = phalanx_tests::Device;

/// Trains with the same methods on both devices, and compares the parameters bit by bit.
fn assert_same(
    what: &str,
    ranks: usize,
    config: &TrainConfig,
    cpu: fn() -> Methods<OnCpu>,
    apart: fn() -> Methods<Apart>,
) {
    let cpu = Job { methods: Box::new(cpu), ..job_on(ranks, config.clone(), OnCpu::new()) };
    let apart = Job { methods: Box::new(apart), ..job_on(ranks, config.clone(), Apart::default()) };
    let want = train(ranks, cpu).expect("no rank fails");
    let got = train(ranks, apart).expect("no rank fails");
    assert_eq!(bits(&got), bits(&want), "{what} on {ranks} ranks");
    assert_eq!(got.summary.train_loss, want.summary.train_loss, "{what} on {ranks} ranks");
    assert_eq!(got.summary.test_accuracy, want.summary.test_accuracy, "{what} on {ranks} ranks");
}

/// Compares on 1, 2 and 3 ranks.
macro_rules! assert_same_with {
    ($what:literal, $config:expr, $($field:ident: $value:expr),*) => {
        for ranks in 1..=3 {
            let (cpu, apart) = (
                || Methods { $($field: $value,)* ..methods_on(0.05) },
                || Methods { $($field: $value,)* ..methods_on(0.05) },
            );
            assert_same($what, ranks, &$config, cpu, apart);
        }
    };
}

const PACE: Pace = Pace { interval: 1, growth: 4.0, max: 400 };

/// Needs squares of coordinates.
fn coordinates(chunks: Chunks) -> Box<dyn BatchPolicy> {
    let rule = CoordinateTest { eta: 0.9, rule: CoordinateRule::PerTensor };
    let test = TestConfig { chunks, pace: PACE, ema: 0.5 };
    PolicyConfig::CoordinateTest(rule, test).build().expect("good settings")
}

/// Needs inner products with the mean gradient.
fn products(chunks: Chunks) -> Box<dyn BatchPolicy> {
    let test = TestConfig { chunks, pace: PACE, ema: 0.5 };
    let rule = AugmentedTest { theta: 0.9, nu: 5.0 };
    PolicyConfig::AugmentedTest(rule, test).build().expect("good settings")
}

#[test]
fn the_mean_is_the_same() {
    assert_same_with!("the mean", config(),);
    let tiled = TrainConfig { tile: 3, micro_batch: 7, clip_norm: Some(0.5), ..config() };
    assert_same_with!("the mean of tiles", tiled,);
}

#[test]
fn the_reproducible_sum_is_the_same() {
    let config = TrainConfig { reduction: Reduction::Reproducible { shards: 4 }, ..config() };
    assert_same_with!("the tree", config,);
}

#[test]
fn a_rule_over_ranks_is_the_same() {
    assert_same_with!("the median", config(), over_ranks: Box::new(Robust::new(0, Median)));
    for ranks in [3, 4] {
        assert_same(
            "krum",
            ranks,
            &config(),
            || Methods { over_ranks: Box::new(Robust::new(0, Krum::default())), ..methods_on(0.05) },
            || Methods { over_ranks: Box::new(Robust::new(0, Krum::default())), ..methods_on(0.05) },
        );
    }
}

#[test]
fn a_compressed_gradient_is_the_same() {
    assert_same_with!("bf16", config(), compression: CompressionConfig::Bf16.build().expect("good settings"));
}

#[test]
fn what_policies_measure_is_the_same() {
    let reproducible = TrainConfig { reduction: Reduction::Reproducible { shards: 4 }, ..config() };
    assert_same_with!("products of samples", config(), policy: products(Chunks::Samples));
    assert_same_with!("squares of samples", config(), policy: coordinates(Chunks::Samples));
    assert_same_with!("products of samples of shards", reproducible, policy: products(Chunks::Samples));
    assert_same_with!("squares of samples of shards", reproducible, policy: coordinates(Chunks::Samples));
    assert_same_with!("products of shards", reproducible, policy: products(Chunks::Ranks));
    assert_same_with!("squares of shards", reproducible, policy: coordinates(Chunks::Ranks));
}

#[test]
fn what_policies_measure_of_ranks_is_the_same() {
    let tiled = TrainConfig { tile: 3, micro_batch: 7, ..config() };
    for ranks in [2, 3] {
        assert_same(
            "products",
            ranks,
            &tiled,
            || Methods { policy: products(Chunks::Ranks), ..methods_on(0.05) },
            || Methods { policy: products(Chunks::Ranks), ..methods_on(0.05) },
        );
        assert_same(
            "squares",
            ranks,
            &tiled,
            || Methods { policy: coordinates(Chunks::Ranks), ..methods_on(0.05) },
            || Methods { policy: coordinates(Chunks::Ranks), ..methods_on(0.05) },
        );
    }
}

/// Trains each rank on a device of its own that exchanges gradients there.
fn exchanging(
    ranks: usize,
    config: &TrainConfig,
    methods: fn() -> Methods<Apart>,
    make: impl Fn(&Arc<dyn Communicator>) -> HostExchange + Send + Sync + 'static,
) -> Result<Outcome, WorldError<TrainError>> {
    let job = Job { methods: Box::new(methods), ..job_on(ranks, config.clone(), Apart::default()) };
    let options = Options { timeout: Duration::from_secs(20), grace: Duration::from_secs(5) };
    let outcomes = run_ranks(WorldSize(ranks), &options, move |comm| {
        let device = Device::new(Apart::default()).with_exchange(Box::new(make(&comm)));
        run_rank_on(&job, &comm, device)
    })?;
    Ok(outcomes.into_iter().flatten().next().expect("rank 0 has an outcome"))
}

#[test]
fn an_exchange_on_the_device_sums_what_the_host_would() {
    for ranks in [2, 3] {
        let want = train(ranks, job_on(ranks, config(), OnCpu::new())).expect("no rank fails");
        let got =
            exchanging(ranks, &config(), || methods_on(0.05), HostExchange::new).expect("no rank fails");
        assert_eq!(bits(&got), bits(&want), "{ranks} ranks");
    }
}

#[test]
fn an_exchange_is_not_asked_where_the_sum_is_made_elsewhere() {
    let failing = |comm: &Arc<dyn Communicator>| HostExchange::failing_after(comm, 0);
    let reproducible = TrainConfig { reduction: Reduction::Reproducible { shards: 4 }, ..config() };
    exchanging(2, &reproducible, || methods_on(0.05), failing).expect("the tree is of the host");
    let median = || Methods { over_ranks: Box::new(Robust::new(0, Median)), ..methods_on(0.05) };
    exchanging(2, &config(), median, failing).expect("the rule is of the host");
    let compressed = || Methods {
        compression: CompressionConfig::Fp16.build().expect("good settings"),
        ..methods_on(0.05)
    };
    exchanging(2, &config(), compressed, failing).expect("compressors are of the host");
}

#[test]
fn an_exchange_that_fails_ends_the_run_on_all_ranks() {
    let failing = |comm: &Arc<dyn Communicator>| {
        HostExchange::failing_after(comm, if comm.rank() == Rank(1) { 5 } else { usize::MAX })
    };
    let error = exchanging(3, &config(), || methods_on(0.05), failing).expect_err("rank 1 fails");
    let told = error.to_string();
    assert!(
        told.contains("ncclAllReduce failed with code 6") || format!("{error:?}").contains("code: 6"),
        "{told}"
    );
}

/// Trains in a directory, from where it stopped if it was begun.
fn in_dir<B: TrainBackend>(dir: &std::path::Path, backend: B, steps: u64) -> Outcome {
    let resume = dir.exists();
    let existing = if resume { Existing::Resume } else { Existing::Refuse };
    let held = RunDir::at(dir, existing).expect("a directory");
    if !resume {
        held.write_run_file("").expect("a file");
    }
    let files = Files {
        paths: held.paths().clone(),
        run_file: String::new(),
        keep: Keep { last: 2, best: false },
        tensorboard: false,
        trace: false,
        resume,
        storage: Arc::new(Disk),
    };
    let stop_at = Arc::new(Mutex::new(0));
    let config = TrainConfig { limit: Limit::Steps(12), checkpoint_every: 4, ..config() };
    let job = Job {
        files: Some(files),
        stop: Arc::new(move || {
            let mut asked = stop_at.lock().unwrap_or_else(PoisonError::into_inner);
            *asked += 1;
            *asked >= steps
        }),
        ..job_on(1, config, backend)
    };
    train(1, job).expect("no rank fails")
}

#[test]
fn a_checkpoint_moves_between_devices() {
    let root = std::env::temp_dir().join(format!("phalanx-devices-{}", std::process::id()));
    let straight = train(1, job_on(1, config(), OnCpu::new())).expect("no rank fails");
    for (name, from_cpu) in [("to", true), ("from", false)] {
        let dir = root.join(name);
        let stopped =
            if from_cpu { in_dir(&dir, OnCpu::new(), 5) } else { in_dir(&dir, Apart::default(), 5) };
        assert!(stopped.summary.stopped && stopped.summary.steps == 5);
        let resumed =
            if from_cpu { in_dir(&dir, Apart::default(), 99) } else { in_dir(&dir, OnCpu::new(), 99) };
        assert_eq!(bits(&resumed), bits(&straight), "{name} the device");
    }
    std::fs::remove_dir_all(&root).expect("a directory of ours");
}

/// Batch norm as it is evaluated, after one step of training.
fn frozen<B: TrainBackend>(backend: B) -> Vec<f32> {
    let mut builder = ParamBuilder::new();
    let norm = BatchNorm2d::new(&mut builder, 3);
    let mut graph = Graph::new(backend, builder.finish(), 1).expect("memory");
    let shape = Shape::new(&[2, 3, 4, 5]);
    let x: Vec<f32> = (0..120_u16).map(|i| f32::from(i * 7 % 31) / 10.0 - 1.0).collect();
    graph.reset(Mode::Train, 1, 0);
    norm.forward(graph.input(&x, shape).expect("memory")).expect("shapes fit");
    graph.reset(Mode::Eval, 0, 0);
    norm.forward(graph.input(&x, shape).expect("memory")).expect("shapes fit").to_vec()
}

/// By other operators, which need no kernel for each channel.
#[test]
fn batch_norm_is_evaluated_as_on_the_cpu() {
    let (want, got) = (frozen(OnCpu::new()), frozen(Apart::default()));
    assert!(want.iter().zip(&got).all(|(want, got)| (want - got).abs() <= 1e-6 * (1.0 + want.abs())));
    assert!(want.iter().any(|y| y.abs() > 1.0));
}
