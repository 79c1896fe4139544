//! From a run file to a job of the training loop.

use std::error::Error;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use phalanx_comm::control::Board;
use phalanx_comm::{CommError, Communicator, Options, Rank, RankFailure, WorldError, WorldSize, run_ranks};
use phalanx_compress::CompressionConfig;
use phalanx_data::{Splits, shard_range};
use phalanx_grad::Mean;
use phalanx_nn::models::{ConfigValue, ModelConfig};
use phalanx_nn::{AnyNet, Net, ParamBuilder, Task};
use phalanx_optim::{
    AdaGradConfig, AdaGradNormConfig, AdamWConfig, Constant, Cosine, LinearDecay, OptimizerConfig, Refined,
    ScheduleConfig, SgdConfig,
};
use phalanx_tensor::{Cpu, CpuLevel};
use phalanx_train::{
    Device, Files, Job, Limit, Methods, OnNonFinite, Outcome, Over, Plan, Reduction, TrainBackend,
    TrainConfig, TrainError, Watch, check, check_policy, check_rule, never_stop, run_rank_on, task_of,
};

#[cfg(feature = "mpi")]
use phalanx_comm::cost::{Choice, Method};
#[cfg(feature = "mpi")]
use phalanx_comm_mpi::Progress as Advance;

use super::device::{Devices, Sums};
use super::over_ranks::OverRanks;
use super::poisoned::Poisoned;
use super::policy::{self, Policy};
use super::{Hardware, open_data};
use crate::aggregation::{AttackKind, UnfitError};
use crate::exit::{Exit, WithExit};
use crate::runfile::{self, Aggregation, Comm, Compression, Model, Registered, Rule, Run, Shape, Stop};
use crate::schedule_file;
use crate::world::World;

/// What a run works on.
pub(super) struct Parts {
    pub(super) data: Splits,
    pub(super) task: Task,
    pub(super) net: Arc<dyn AnyNet>,
    pub(super) config: TrainConfig,
    pub(super) plan: Plan,
    pub(super) policy: Policy,
    /// Where the ranks' gradients meet.
    pub(super) sums: Sums,
}

/// Opens the data, builds the model and plans a step: all that can fail before a rank starts.
///
/// A rank may fill `device_memory` of a device of its own.
pub(super) fn parts(
    run: &Run,
    registered: &Registered,
    hardware: Hardware,
    device_memory: Option<u64>,
) -> anyhow::Result<Parts> {
    pin(hardware)?;
    let data = with_trusted(open_data(&run.data, &run.model, run.seed)?, &run.aggregation, run.seed)?;
    let task = task_of(data.train.kind());
    let mut builder = ParamBuilder::new();
    let (kind, sizes) = model(&run.model);
    let net: Arc<dyn AnyNet> =
        Arc::from(registered.models().build(&kind, sizes, &task, &mut builder).map_err(bad_input)?);
    let params = builder.finish();
    let over = run.aggregation.over().ok_or(UnfitError::NodesUnknown).map_err(bad_input)?;
    let config = TrainConfig { device_memory, ..config(run, over) };
    check(&config, &data, run.train.ranks).map_err(bad_input)?;
    // what a rank will build is built once here, so that a run that cannot be leaves nothing behind
    schedule(run)?;
    let policy = policy::policy(run, data.train.len());
    let batch = policy.most_samples(run, data.train.len()).map_err(bad_input)?;
    let share = match config.reduction {
        Reduction::Fast => shard_range(batch, 0, run.train.ranks).len(),
        Reduction::Reproducible { shards } => shard_range(batch, 0, shards).len(),
    };
    let plan = Plan::new(&*net, &params, &task, &config, share).map_err(bad_input)?;
    let built = policy.build().map_err(bad_input)?;
    check_policy(&*built, &config, &plan, run.train.ranks).map_err(bad_input)?;
    let over_ranks = OverRanks::new(run)?.build().map_err(bad_input)?;
    check_rule(&*over_ranks, &*built, &config).map_err(bad_input)?;
    let is_plain = over_ranks.is_mean() && matches!(run.compression, Compression::None {});
    let sums = if is_plain && config.reduction == Reduction::Fast { Sums::OnDevices } else { Sums::OnHost };
    Ok(Parts { data, task, net, config, plan, policy, sums })
}

/// The data without the samples that the rule trusts, which are a part of their own.
pub(super) fn with_trusted(data: Splits, aggregation: &Aggregation, seed: u64) -> anyhow::Result<Splits> {
    match aggregation.trusted_samples {
        Some(samples) => Ok(data.hold_out_trusted(samples, seed).map_err(|error| {
            WithExit::new(Exit::BadInput, anyhow::Error::new(error).context("aggregation.trusted_samples"))
        })?),
        None => Ok(data),
    }
}

pub(super) fn bad_input(error: impl std::error::Error + Send + Sync + 'static) -> WithExit {
    WithExit::new(Exit::BadInput, error.into())
}

pub(super) fn pin(hardware: Hardware) -> anyhow::Result<()> {
    let level = match hardware.cpu {
        super::Cpu::Auto => return Ok(()),
        super::Cpu::Avx512 => CpuLevel::Avx512,
        super::Cpu::Avx2 => CpuLevel::Avx2,
        super::Cpu::Portable => CpuLevel::Portable,
    };
    Ok(level.pin().map_err(bad_input)?)
}

pub(super) fn model(model: &Model) -> (String, ModelConfig) {
    let list = |values: &[usize]| ConfigValue::List(values.iter().map(|v| int(*v)).collect());
    let size = |value: usize| ConfigValue::Int(int(value));
    let sizes = ModelConfig::new();
    match model {
        Model::Mlp { hidden } => ("mlp".to_owned(), sizes.with("hidden", list(hidden))),
        Model::LeNet5 {} => ("lenet5".to_owned(), sizes),
        Model::Cnn { channels, hidden } => {
            ("cnn".to_owned(), sizes.with("channels", list(channels)).with("hidden", size(*hidden)))
        }
        Model::Gpt { layers, width, heads, context, dropout } => {
            let sizes =
                sizes.with("layers", size(*layers)).with("width", size(*width)).with("heads", size(*heads));
            let sizes = sizes.with("context", size(*context)).with("dropout", ConfigValue::Float(*dropout));
            ("gpt".to_owned(), sizes)
        }
        Model::Registered { kind, keys } => {
            let sizes = keys.iter().fold(sizes, |sizes, (key, value)| sizes.with(key, value_of(value)));
            (kind.clone(), sizes)
        }
    }
}

fn int(value: usize) -> i64 {
    i64::try_from(value).unwrap_or(i64::MAX)
}

fn value_of(value: &toml::Value) -> ConfigValue {
    match value {
        toml::Value::Integer(v) => ConfigValue::Int(*v),
        toml::Value::Float(v) => ConfigValue::Float(*v),
        toml::Value::Boolean(v) => ConfigValue::Bool(*v),
        toml::Value::Array(values) => {
            ConfigValue::List(values.iter().filter_map(toml::Value::as_integer).collect())
        }
        other => ConfigValue::Text(other.as_str().map_or_else(|| other.to_string(), str::to_owned)),
    }
}

fn config(run: &Run, over: Over) -> TrainConfig {
    let train = &run.train;
    TrainConfig {
        seed: run.seed,
        batch: train.batch as u64,
        micro_batch: train.micro_batch,
        tile: train.tile,
        limit: match train.stop {
            Stop::Epochs(n) => Limit::Epochs(n),
            Stop::Samples(n) => Limit::Samples(n),
            Stop::Steps(n) => Limit::Steps(n),
        },
        reduction: match train.reduction {
            runfile::Reduction::Fast => Reduction::Fast,
            runfile::Reduction::Reproducible => Reduction::Reproducible { shards: train.shards },
        },
        first_bucket_bytes: usize::try_from(train.first_bucket_bytes.0).unwrap_or(usize::MAX),
        bucket_bytes: usize::try_from(train.bucket_bytes.0).unwrap_or(usize::MAX),
        on_nonfinite: match train.on_nonfinite {
            runfile::OnNonfinite::Stop => OnNonFinite::Stop,
            runfile::OnNonfinite::Skip => OnNonFinite::Skip,
        },
        clip_norm: run.optimizer.clip_norm,
        eval_every: train.eval_every_steps,
        eval_every_samples: train.eval_every_samples,
        log_every: train.log_every_steps.max(1),
        checkpoint_every: run.checkpoint.every_steps,
        drop_last: train.drop_last,
        memory_limit: train.memory_limit.map(|bytes| bytes.0),
        over,
        device_memory: None,
    }
}

pub(super) fn optimizer(optimizer: &runfile::Optimizer) -> OptimizerConfig {
    let (lr, weight_decay) = (optimizer.lr, optimizer.weight_decay);
    match optimizer.rule {
        Rule::Sgd { momentum, nesterov } => {
            OptimizerConfig::Sgd(SgdConfig { lr, momentum, nesterov, weight_decay })
        }
        Rule::AdamW { beta1, beta2, eps } => {
            OptimizerConfig::AdamW(AdamWConfig { lr, beta1, beta2, eps, weight_decay })
        }
        Rule::AdaGrad { eps } => {
            OptimizerConfig::AdaGrad(AdaGradConfig { lr, eps, weight_decay, ..AdaGradConfig::default() })
        }
        Rule::AdaGradNorm { b0 } => {
            OptimizerConfig::AdaGradNorm(AdaGradNormConfig { lr, initial_sum: b0 * b0, weight_decay })
        }
    }
}

pub(super) fn compression(run: &Run) -> CompressionConfig {
    match run.compression {
        Compression::None {} => CompressionConfig::None,
        Compression::Fp16 {} => CompressionConfig::Fp16,
        Compression::Bf16 {} => CompressionConfig::Bf16,
        Compression::PowerSgd { rank, start_step } => {
            CompressionConfig::PowerSgd { rank, start_step, seed: run.seed }
        }
        Compression::TopK { fraction, start_step } => CompressionConfig::TopK { fraction, start_step },
    }
}

fn schedule(run: &Run) -> anyhow::Result<ScheduleConfig> {
    let warmup_samples = run.schedule.warmup_samples;
    Ok(match run.schedule.shape {
        Shape::Constant {} => ScheduleConfig::Constant(Constant { warmup_samples }),
        Shape::Refined { ref path } => {
            let points =
                schedule_file::read(Path::new(path)).map_err(|error| WithExit::new(Exit::BadInput, error))?;
            ScheduleConfig::Refined(Refined::new(points, warmup_samples).map_err(bad_input)?)
        }
        Shape::Linear { final_factor } => {
            ScheduleConfig::Linear(LinearDecay { warmup_samples, final_factor })
        }
        Shape::Cosine { final_factor } => ScheduleConfig::Cosine(Cosine { warmup_samples, final_factor }),
    })
}

/// Makes the methods that the run file names, checked once here so that making them cannot fail later.
fn methods<B: TrainBackend>(
    run: &Run,
    policy: Policy,
) -> anyhow::Result<impl Fn() -> Methods<B> + Send + Sync + 'static> {
    let (optimizer, schedule, compression) = (optimizer(&run.optimizer), schedule(run)?, compression(run));
    optimizer.build::<B>().map_err(bad_input)?;
    schedule.build().map_err(bad_input)?;
    policy.build().map_err(bad_input)?;
    compression.build().map_err(bad_input)?;
    let over_ranks = OverRanks::new(run)?;
    Ok(move || {
        let (Ok(over_time), Ok(schedule), Ok(policy), Ok(compression), Ok(over_ranks)) =
            (optimizer.build(), schedule.build(), policy.build(), compression.build(), over_ranks.build())
        else {
            unreachable!("the same configuration was built before")
        };
        Methods {
            over_samples: Box::new(Mean),
            over_ranks,
            over_tasks: Box::new(Mean),
            compression,
            over_time,
            lr: optimizer.lr(),
            schedule,
            policy,
        }
    })
}

/// What each rank works on: the same but for the data of ranks that flip labels.
struct Jobs<B: TrainBackend> {
    honest: Job<B>,
    /// Of ranks, or of the ranks of nodes.
    poisoned: Vec<(Vec<usize>, Job<B>)>,
}

impl<B: TrainBackend> Jobs<B> {
    fn of(&self, rank: Rank) -> &Job<B> {
        let sender = self.honest.config.over.sender(rank.index());
        let poisoned = self.poisoned.iter().find(|(senders, _)| senders.contains(&sender));
        poisoned.map_or(&self.honest, |(_, job)| job)
    }
}

/// Runs on all ranks, or on this one of them, and returns what rank 0 has to say, on rank 0.
#[expect(clippy::too_many_arguments, reason = "what a job is launched with")]
pub(super) fn launch(
    run: &Run,
    parts: Parts,
    devices: Devices,
    files: Option<Files>,
    watch: Arc<dyn Watch>,
    notes: Vec<String>,
    stop: Option<Arc<dyn Fn() -> bool + Send + Sync>>,
    board: Arc<Board>,
    world: &World,
) -> anyhow::Result<Result<Option<Outcome>, WorldError<TrainError>>> {
    let outside = Outside { files, watch, notes, stop: stop.unwrap_or_else(never_stop), board };
    match devices {
        Devices::Cpu => {
            let (net, cpu) = (Arc::clone(&parts.net) as Arc<dyn Net<Cpu<f32>>>, Cpu::<f32>::new());
            launch_on(run, &parts, &outside, world, (net, cpu), move |_| Ok(Device::new(cpu)))
        }
        #[cfg(feature = "cuda")]
        Devices::Cuda(gpus) => {
            let net = Arc::clone(&parts.net) as Arc<dyn Net<phalanx_cuda::Cuda>>;
            let timeout = Duration::from_secs_f64(run.train.timeout_seconds);
            let any = gpus.any();
            launch_on(run, &parts, &outside, world, (net, any), move |comm| gpus.of(comm, timeout))
        }
    }
}

/// What a job has to do with besides its run.
struct Outside {
    files: Option<Files>,
    watch: Arc<dyn Watch>,
    notes: Vec<String>,
    stop: Arc<dyn Fn() -> bool + Send + Sync>,
    board: Arc<Board>,
}

/// As [`launch`], each rank on the device that `device` opens for it.
fn launch_on<B: TrainBackend>(
    run: &Run,
    parts: &Parts,
    outside: &Outside,
    world: &World,
    (net, backend): (Arc<dyn Net<B>>, B),
    device: impl Fn(&Arc<dyn Communicator>) -> Result<Device<B>, TrainError> + Send + Sync + 'static,
) -> anyhow::Result<Result<Option<Outcome>, WorldError<TrainError>>> {
    let (model, _) = model(&run.model);
    let job = |data: Splits| -> anyhow::Result<Job<B>> {
        Ok(Job {
            name: run.name.clone(),
            model: model.clone(),
            config: parts.config.clone(),
            net: Arc::clone(&net),
            task: parts.task,
            plan: parts.plan.clone(),
            data,
            methods: Box::new(methods::<B>(run, parts.policy.clone())?),
            backend: backend.clone(),
            files: outside.files.clone(),
            watch: Arc::clone(&outside.watch),
            notes: outside.notes.clone(),
            stop: Arc::clone(&outside.stop),
            board: Arc::clone(&outside.board),
        })
    };
    let mut poisoned = Vec::new();
    for attack in run.attacks().map_err(bad_input)? {
        if let AttackKind::Labels(flip) = attack.kind {
            let train = Arc::new(Poisoned::new(Arc::clone(&parts.data.train), flip));
            poisoned.push((attack.ranks, job(Splits { train, ..parts.data.clone() })?));
        }
    }
    let jobs = Arc::new(Jobs { honest: job(parts.data.clone())?, poisoned });
    let timeout = Duration::from_secs_f64(run.train.timeout_seconds);
    Ok(on_ranks(world, run.train.ranks, timeout, &run.comm, move |comm| {
        run_rank_on(jobs.of(comm.rank()), &comm, device(&comm)?)
    }))
}

/// Runs `rank` on all ranks of threads, or on this one of processes; what rank 0 gives is returned there.
pub(super) fn on_ranks<T, E>(
    world: &World,
    ranks: usize,
    timeout: Duration,
    #[cfg_attr(not(feature = "mpi"), expect(unused_variables, reason = "threads have one way"))] of: &Comm,
    rank: impl Fn(Arc<dyn Communicator>) -> Result<Option<T>, E> + Send + Sync + 'static,
) -> Result<Option<T>, WorldError<E>>
where
    T: Send + 'static,
    E: Error + From<CommError> + Send + 'static,
{
    match world {
        World::Threads => {
            let options = Options { timeout, ..Options::default() };
            let outcomes = run_ranks(WorldSize(ranks), &options, rank);
            outcomes.map(|outcomes| outcomes.into_iter().flatten().next())
        }
        #[cfg(feature = "mpi")]
        World::Mpi { mpi, .. } => {
            mpi.set_timeout(timeout);
            let (choice, wanted) = (choice(of.algorithm), advance(of.progress));
            mpi.run(|comm| {
                let by = mpi.advance_by(wanted)?;
                let tuning = mpi.tune(choice)?;
                if world.is_root() && ranks > 1 {
                    let by = if by == Advance::Thread {
                        "communication threads"
                    } else {
                        "calls between operators"
                    };
                    tracing::info!("sums advance by {by} while ranks compute");
                }
                if world.is_root() && comm.tuning().is_some() {
                    tracing::info!("{tuning}");
                }
                rank(comm)
            })
        }
    }
}

/// An error of a rank that may name another as its cause.
pub(super) trait Culprit: Error + Send + Sync + 'static {
    /// The rank that it names, if it is an error that all ranks report; inside, none where nobody is known.
    fn culprit(&self) -> Option<Option<usize>> {
        None
    }
}

impl Culprit for TrainError {
    fn culprit(&self) -> Option<Option<usize>> {
        match self {
            TrainError::NonFinite { rank, .. } => Some(*rank),
            _ => None,
        }
    }
}

/// Who chooses how sums go between nodes.
#[cfg(feature = "mpi")]
fn choice(algorithm: runfile::Algorithm) -> Choice {
    match algorithm {
        runfile::Algorithm::Auto => Choice::Auto,
        runfile::Algorithm::Flat => Choice::Fixed(Method::Flat),
        runfile::Algorithm::Hierarchical => Choice::Fixed(Method::Hierarchical),
        runfile::Algorithm::Mpi => Choice::Fixed(Method::Library),
    }
}

/// What advances sums while a rank computes.
#[cfg(feature = "mpi")]
fn advance(progress: runfile::Progress) -> Advance {
    match progress {
        runfile::Progress::Auto => Advance::Auto,
        runfile::Progress::Thread => Advance::Thread,
        runfile::Progress::Calls => Advance::Calls,
    }
}

/// The rank that failed, and the exit code for it.
pub(super) fn blame<E: Culprit>(error: &WorldError<E>) -> (Option<u64>, Exit) {
    match error.failure() {
        RankFailure::Failed { rank, error } => {
            let rank = error.culprit().unwrap_or(Some(rank.index()));
            (rank.map(|rank| rank as u64), Exit::Failed)
        }
        RankFailure::Comm(CommError::Panicked { rank, .. } | CommError::Left { rank, .. }) => {
            (Some(rank.index() as u64), Exit::RankLost)
        }
        RankFailure::Comm(CommError::Aborted { by, .. }) => (Some(by.index() as u64), Exit::Failed),
        RankFailure::Comm(CommError::Timeout { missing, .. }) => {
            (missing.first().map(|m| m.rank.index() as u64), Exit::RankLost)
        }
        _ => (None, Exit::Failed),
    }
}

/// The collective that a rank was in or had left last.
pub(super) fn operation<E: Culprit>(error: &WorldError<E>, rank: usize) -> Option<String> {
    error.flights().get(rank)?.last().map(ToString::to_string)
}

/// The error as it is told: one that all ranks report names its rank itself, whichever rank reported it first.
pub(super) fn told<E: Culprit>(error: WorldError<E>) -> anyhow::Error {
    let names_its_own = |error: &E| error.culprit().is_some();
    if !matches!(error.failure(), RankFailure::Failed { error, .. } if names_its_own(error)) {
        return error.into();
    }
    match error.into_failure() {
        RankFailure::Failed { error, .. } => error.into(),
        RankFailure::Comm(error) => error.into(),
        other => anyhow::anyhow!("{other:?}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::runfile::RawRun;

    #[test]
    fn a_program_begins_with_what_a_run_file_leaves_out() {
        let text = "name = 'a'\n[model]\nkind = 'mlp'\n[data]\nkind = 'digits'\n[train]\nsteps = 3\n[optimizer]\nlr = 0.1\n";
        let run = RawRun::parse("a.toml", text).and_then(|raw| raw.resolve(&Registered::default()));
        let run = run.expect("a run file");
        let (seed, checkpoint_every) = (run.seed, run.checkpoint.every_steps);
        let own = TrainConfig { seed, checkpoint_every, ..TrainConfig::new(64, Limit::Steps(3)) };
        assert_eq!(config(&run, Over::Ranks), own);
    }
}
