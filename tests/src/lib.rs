//! A small job on the handwritten digits, which tests change in the one respect that they are about.
//!
//! Tests that start the program stand beside it, in `crates/phalanx-launch/tests`.
#![forbid(unsafe_code)]
#![expect(clippy::expect_used, clippy::missing_panics_doc, reason = "a helper that fails, fails its test")]

mod apart;

pub use apart::{Apart, HostExchange};

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use phalanx::batch::Constant;
use phalanx::comm::{Options, WorldError, WorldSize, run_ranks};
use phalanx::data::{Source, shard_range};
use phalanx::grad::Mean;
use phalanx::nn::ParamBuilder;
use phalanx::nn::models::{ConfigValue, Mlp, ModelConfig};
use phalanx::optim::{OptimizerConfig, ScheduleConfig, SgdConfig};
use phalanx::prelude::{TrainBackend, Watch};
use phalanx::tensor::Cpu;
use phalanx::train::events::StepDone;
use phalanx::train::{
    Job, Limit, Methods, Outcome, Plan, Reduction, TrainConfig, TrainError, check, never_stop, run_rank,
    task_of,
};

/// The device of the tests.
pub type Device = Cpu<f32>;

/// Settings of a short run: 12 steps of 48 samples.
#[must_use]
pub fn config() -> TrainConfig {
    TrainConfig {
        seed: 7,
        first_bucket_bytes: 1 << 10,
        bucket_bytes: 4 << 10,
        log_every: 1,
        ..TrainConfig::new(48, Limit::Steps(12))
    }
}

/// The mean everywhere, SGD with momentum at the rate `lr`, a constant batch.
#[must_use]
pub fn methods(lr: f64) -> Methods<Device> {
    methods_on(lr)
}

/// As [`methods`], on any device.
#[must_use]
pub fn methods_on<B: TrainBackend>(lr: f64) -> Methods<B> {
    let sgd = OptimizerConfig::Sgd(SgdConfig { lr, momentum: 0.9, ..SgdConfig::default() });
    Methods {
        over_samples: Box::new(Mean),
        over_ranks: Box::new(Mean),
        over_tasks: Box::new(Mean),
        compression: None,
        over_time: sgd.build().expect("good settings"),
        lr,
        schedule: ScheduleConfig::from_name("constant").and_then(|s| s.build()).expect("a known schedule"),
        policy: Box::new(Constant),
    }
}

/// A job of a small `mlp` for `ranks` ranks, at the rate 0.05.
#[must_use]
pub fn job(ranks: usize, config: TrainConfig) -> Job<Device> {
    job_on(ranks, config, Device::new())
}

/// As [`job`], on any device.
#[must_use]
pub fn job_on<B: TrainBackend>(ranks: usize, config: TrainConfig, backend: B) -> Job<B> {
    let data = Source::Digits.open().and_then(|d| d.hold_out(0.1, 1)).expect("they come with the crate");
    let task = task_of(data.train.kind());
    let mut params = ParamBuilder::new();
    let mut sizes = ModelConfig::new().with("hidden", ConfigValue::List(vec![32, 24]));
    let net = Mlp::from_config(&mut sizes, &task, &mut params).expect("good sizes");
    check(&config, &data, ranks).expect("settings that fit");
    let parts = match config.reduction {
        Reduction::Fast => ranks,
        Reduction::Reproducible { shards } => shards,
    };
    let batch = usize::try_from(config.batch).expect("a small batch");
    let share = shard_range(batch, 0, parts).len();
    let plan = Plan::new(&net, &params.finish(), &task, &config, share).expect("a plan");
    Job {
        name: "test".to_owned(),
        model: "mlp".to_owned(),
        config,
        net: Arc::new(net),
        task,
        plan,
        data,
        methods: Box::new(|| methods_on(0.05)),
        backend,
        files: None,
        watch: Arc::new(Steps::default()),
        notes: Vec::new(),
        stop: never_stop(),
        board: Arc::default(),
    }
}

/// Trains and returns what rank 0 has to say.
///
/// # Errors
/// The first failure of the world.
pub fn train<B: TrainBackend>(ranks: usize, job: Job<B>) -> Result<Outcome, WorldError<TrainError>> {
    let options = Options { timeout: Duration::from_secs(20), grace: Duration::from_secs(5) };
    let outcomes = run_ranks(WorldSize(ranks), &options, move |comm| run_rank(&job, &comm))?;
    Ok(outcomes.into_iter().flatten().next().expect("rank 0 has an outcome"))
}

/// Keeps every step that it sees.
#[derive(Debug, Default)]
pub struct Steps(Mutex<Vec<StepDone>>);

impl Steps {
    /// The steps so far.
    #[must_use]
    pub fn seen(&self) -> Vec<StepDone> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// The bits of each step's loss.
    #[must_use]
    pub fn loss_bits(&self) -> Vec<u64> {
        self.seen().iter().map(|step| step.loss.to_bits()).collect()
    }
}

impl Watch for Steps {
    fn step(&self, done: &StepDone, _total: u64, _accuracy: Option<f64>) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).push(*done);
    }
}

/// The bits of a model's parameters.
#[must_use]
pub fn bits(outcome: &Outcome) -> Vec<u32> {
    outcome.params.iter().map(|p| p.to_bits()).collect()
}

/// The largest difference of two models' parameters.
#[must_use]
pub fn distance(a: &Outcome, b: &Outcome) -> f32 {
    a.params.iter().zip(&b.params).map(|(a, b)| (a - b).abs()).fold(0.0, f32::max)
}
