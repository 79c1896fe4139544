//! The bridge from the command line to the engine: what commands ask of it, and what it answers.
//!
//! Commands name no part of the engine but this module.

pub mod watchdog;

mod curvature;
mod device;
mod federate;
#[cfg(feature = "cuda")]
mod gpus;
mod job;
mod over_ranks;
mod poisoned;
mod policy;
mod post_mortem;
mod refine;

pub use curvature::{Curvature, CurvatureOptions, curvature};
pub use device::{Device, DeviceError, UnknownDevice};
pub use federate::{FederationPlan, PreparedFederation, plan_federation, prepare_federation};
pub(crate) use federate::{evaluate_federated, federate};
pub use refine::{Refinement, refine};

use std::collections::BTreeSet;
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use anyhow::Context as _;

use phalanx_comm::control::{Board, Phase};
use phalanx_comm::{Rank, WorldError, WorldSize};
use phalanx_compress::Traffic;
use phalanx_data::fetch::{self, FetchError, FetchOptions, Fetched, Origin};
use phalanx_data::{CsvOptions, IdxOptions, Splits, TestPart, TextOptions};
use phalanx_grad::Senders;
use phalanx_nn::{Net, Task};
use phalanx_train::checkpoint::{Checkpoint, Checkpoints, Keep};
use phalanx_train::events::{self, Aggregated, EvalDone, StepDone};
use phalanx_train::rundir::RunPaths;
use phalanx_train::storage::Disk;
use phalanx_train::{Failure, Files, Over, Plan, Summary, TrainBackend, Watch};

use self::device::Devices;
use self::job::{Culprit, Parts};
use self::watchdog::Guarded;
use crate::aggregation::{OverRanks, UnfitError};
use crate::datasets;
use crate::exit::{Exit, WithExit};
use crate::faults::Injector;
use crate::runfile::{
    Aggregation, BatchPolicy, Bytes, Column, Data, Model, Registered, Rule, Run, Source, Stop, WhenRankLost,
    context_of,
};
use crate::stop::StopRequest;
use crate::ui::{Evaluated, LeftOut, Progress, Ui};
use crate::world::World;

/// On what the engine computes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Hardware {
    /// The device of the tensors.
    pub device: Device,
    /// Vector instructions of the CPU kernels.
    pub cpu: Cpu,
    /// Whether several ranks may have one device.
    pub shares_devices: bool,
}

/// Vector instructions of the CPU kernels. The width of vectors decides the last bits of sums.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
#[non_exhaustive]
pub enum Cpu {
    /// The widest that this CPU has.
    Auto,
    /// AVX-512.
    Avx512,
    /// AVX2 with FMA.
    Avx2,
    /// None beyond the target's own.
    Portable,
}

/// What a training run is told besides its run file.
#[derive(Debug, Clone)]
pub struct TrainOptions {
    /// Whether to go on from the last good checkpoint of the run's directory.
    pub is_resumed: bool,
    /// Asked for between steps.
    pub stop: StopRequest,
    /// What is worth a warning when it begins.
    pub notes: Vec<String>,
}

/// Ended by the death of another rank, without which the run is to go on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("a rank died in step {step}, in {phase}")]
pub struct RankDied {
    /// The step of this rank.
    pub step: u64,
    /// The part of the step.
    pub phase: Phase,
}

/// What a run would do, without a step done.
#[derive(Debug, Clone, PartialEq)]
pub struct PlanReport {
    /// Parameters of the model.
    pub parameters: u64,
    /// Samples of the training set.
    pub train_samples: u64,
    /// Samples of the validation set.
    pub validation_samples: u64,
    /// Samples of the test set.
    pub test_samples: u64,
    /// Samples that the rule trusts and nobody trains on.
    pub trusted_samples: u64,
    /// Optimizer steps of the run, if the batch is constant.
    pub steps: Option<u64>,
    /// The rule over ranks or nodes, unless it is the plain mean: what it is over, and how many hostile ones it bears.
    pub rule: Option<String>,
    /// What memory the job takes, by use.
    pub memory: Vec<(&'static str, Bytes)>,
    /// Gradient buckets in the order in which they leave: first and last parameter, and size.
    pub buckets: Vec<(String, String, Bytes)>,
    /// What a rank passes to collectives for each of them, once it compresses.
    pub traffic: Vec<Traffic>,
}

/// On which samples a model is scored.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum Split {
    /// The test set.
    Test,
    /// The samples kept aside from the training set.
    Validation,
}

/// Which state of a run.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Which {
    /// The checkpoint of this step.
    Step(u64),
    /// The one of least validation loss.
    Best,
    /// The last.
    Last,
}

/// How good a model is.
#[derive(Debug, Clone, PartialEq)]
pub struct Score {
    /// Step of the checkpoint that was scored.
    pub step: u64,
    /// Samples it was scored on.
    pub samples: u64,
    /// Mean loss.
    pub loss: f64,
    /// Share that was right, 0 to 1; `None` if the data have no classes.
    pub accuracy: Option<f64>,
}

/// One checkpoint of a run.
#[derive(Debug)]
pub struct CheckpointHealth {
    /// Optimizer steps done.
    pub step: u64,
    /// Whether it is the best by validation loss.
    pub is_best: bool,
    /// Why it cannot be used; `None` if it is whole.
    pub fault: Option<anyhow::Error>,
}

/// How fast steps are, and what they take. Megabytes are 1e6 bytes.
#[derive(Debug, Clone, PartialEq, serde::Serialize)]
pub struct StepTimes {
    /// Samples a second of the median step, over all ranks.
    pub samples_s_median: f64,
    /// Samples a second of the fastest half second.
    pub samples_s_calm: f64,
    /// Milliseconds of the median step.
    pub step_ms_median: f64,
    /// Share of the time that communication took and nothing hid.
    pub exposed_share: f64,
    /// Peak memory of the process.
    pub peak_rss_mb: Option<f64>,
    /// What the arenas of all ranks took.
    pub arena_mb: f64,
    /// What the plan said they would.
    pub arena_predicted_mb: f64,
    /// Loss of the last step.
    pub train_loss: Option<f64>,
}

/// A run whose data are open, whose model is built and whose devices are there.
pub struct Prepared(Parts, Devices);

impl std::fmt::Debug for Prepared {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Prepared").field("plan", &self.0.plan).finish_non_exhaustive()
    }
}

/// Does all that can fail before a rank starts, so that a run that cannot be leaves nothing behind.
///
/// # Errors
/// When the data cannot be read, or the run does not fit them; when there are no such devices.
///
/// # Collective
/// Every process of `world`.
pub(crate) fn prepare(
    run: &Run,
    registered: &Registered,
    hardware: Hardware,
    world: &World,
) -> anyhow::Result<Prepared> {
    let memory = device::least_memory(hardware, run.train.ranks, world)?;
    let parts = job::parts(run, registered, hardware, memory)?;
    let devices = Devices::open(hardware, &run.train, parts.sums, world)?;
    Ok(Prepared(parts, devices))
}

/// Trains in the directory of `paths`, which holds the resolved run file. A run that was stopped on request says so in
/// its summary, which rank 0 has.
///
/// # Errors
/// Whatever ends the run; a lost rank as [`WithExit`] of
/// [`Exit::RankLost`].
pub(crate) fn train(
    run: &Run,
    prepared: Prepared,
    paths: &RunPaths,
    options: &TrainOptions,
    world: &World,
    ui: &Arc<dyn Ui>,
) -> anyhow::Result<Option<Summary>> {
    let Prepared(parts, devices) = prepared;
    let injector = Injector::new(&run.faults.inject);
    let board = board(run.train.ranks, &injector);
    let files = Files {
        paths: paths.clone(),
        run_file: run.to_toml(),
        keep: Keep { last: run.checkpoint.keep, best: true },
        tensorboard: run.output.tensorboard,
        trace: run.output.trace,
        resume: options.is_resumed,
        storage: injector.storage(),
    };
    let (stop, notes) = (options.stop_of(), options.notes.clone());
    let bound = Duration::from_secs_f64(run.train.lost_after_seconds);
    let loss = run.train.when_rank_lost;
    let outcome = guarded(world, paths, bound, loss, &injector, &board, || {
        let (files, stop, board) = (Some(files), Some(stop), Arc::clone(&board));
        job::launch(run, parts, devices, files, watcher(ui), notes, stop, board, world)
    })?;
    Ok(outcome.map(|outcome| outcome.summary))
}

impl TrainOptions {
    /// The request to stop, as the loop asks for it.
    fn stop_of(&self) -> Arc<dyn Fn() -> bool + Send + Sync> {
        let stop = self.stop.clone();
        Arc::new(move || stop.is_made())
    }
}

/// Runs ranks that watch over each other, and leaves a report of what failed.
fn guarded<T, E: Culprit>(
    world: &World,
    paths: &RunPaths,
    bound: Duration,
    loss: WhenRankLost,
    injector: &Arc<Injector>,
    board: &Arc<Board>,
    launch: impl FnOnce() -> anyhow::Result<Result<T, WorldError<E>>>,
) -> anyhow::Result<T> {
    if world.is_root() {
        remove_old(&paths.failure())?;
    }
    let goes_on = loss == WhenRankLost::Shrink;
    let died = || {
        let status = board.of(world.first());
        RankDied { step: status.step, phase: status.phase }
    };
    // gone, and with a goodbye to the other ranks, when this one has said why it failed
    let control = world.watch(|flight| Guarded {
        board: Arc::clone(board),
        flight,
        paths: paths.clone(),
        bound,
        injector: Arc::clone(injector),
        goes_on,
    });
    let _control = match control {
        Err(_) if goes_on && world.has_lost_a_rank() => return Err(died().into()),
        control => control?,
    };
    let error = match launch()? {
        Ok(outcome) => return Ok(outcome),
        Err(error) => error,
    };
    if goes_on && world.has_lost_a_rank() {
        return Err(died().into());
    }
    let (rank, exit) = job::blame(&error);
    let culprit = rank.and_then(|rank| usize::try_from(rank).ok()).map(Rank);
    let first = world.first();
    // of ranks in other processes, this one knows no more than where itself is
    let at = culprit.filter(|rank| world.holds(Some(*rank))).unwrap_or(first);
    let status = board.of(at);
    let operation = job::operation(&error, at.index() - first.index());
    for (rank, flight) in (first.index()..).zip(error.flights()) {
        post_mortem::write_flight(rank, flight, paths);
    }
    let error = job::told(error);
    let failure = Failure {
        rank,
        host: phalanx_train::host(),
        step: status.step,
        phase: status.phase.to_string(),
        operation,
        causes: error.chain().map(ToString::to_string).collect(),
        exit_code: exit.code(),
    };
    if world.holds(culprit) {
        post_mortem::write_failure(&failure, paths);
    } else if world.is_root() {
        post_mortem::write_failure_of_another(&failure, paths);
    }
    Err(WithExit::new(exit, error).into())
}

fn remove_old(file: &Path) -> anyhow::Result<()> {
    match std::fs::remove_file(file) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
            Err(error).with_context(|| format!("removing {}", file.display()))
        }
        _ => Ok(()),
    }
}

/// A board whose ranks meet the run's faults.
fn board(ranks: usize, injector: &Arc<Injector>) -> Arc<Board> {
    let injector = Arc::clone(injector);
    Arc::new(
        Board::new(WorldSize(ranks)).on_enter(move |rank, step, phase| injector.enter(rank, step, phase)),
    )
}

/// The loop's watcher that tells the user interface.
struct Shown {
    ui: Arc<dyn Ui>,
    /// Ranks or nodes left out of the step that comes next.
    left_out: Mutex<LeftOut>,
}

fn watcher(ui: &Arc<dyn Ui>) -> Arc<dyn Watch> {
    Arc::new(Shown { ui: Arc::clone(ui), left_out: Mutex::default() })
}

impl Watch for Shown {
    fn step(&self, done: &StepDone, total: u64, accuracy: Option<f64>) {
        let left_out = std::mem::take(&mut *self.left_out.lock().unwrap_or_else(PoisonError::into_inner));
        self.ui.progress(&Progress {
            step: done.step,
            samples: done.samples,
            total_samples: Some(total),
            total_steps: None,
            loss: done.loss,
            accuracy,
            samples_per_second: done.samples_per_second,
            batch: done.batch,
            target: done.target,
            left_out,
        });
    }

    fn aggregated(&self, round: &Aggregated) {
        let senders = if round.over.is_some() { Senders::Nodes } else { Senders::Ranks };
        let left_out = LeftOut { senders, numbers: round.left_out.iter().map(|one| one.rank).collect() };
        *self.left_out.lock().unwrap_or_else(PoisonError::into_inner) = left_out;
    }

    fn evaluated(&self, eval: &EvalDone) {
        if eval.split == events::Split::Validation {
            self.ui.evaluated(&Evaluated { step: eval.step, loss: eval.loss, accuracy: eval.accuracy });
        }
    }

    fn note(&self, text: &str) {
        self.ui.note(text);
    }
}

/// Numbers of ranks on whose gradients rules are timed.
const TIMED_ON: [usize; 4] = [4, 8, 16, 32];

/// Seconds from which on a rule is not timed on more ranks.
const LONG: f64 = 0.05;

/// How long one rank's part of the rule over ranks or nodes takes, by the number of these, timed here on made-up gradients
/// of `dim` numbers; `None` for the plain mean. The share of hostile ones is that of the run. A node has `ranks_per_node`.
///
/// # Errors
/// When the rule does not fit the run's own ranks.
pub(crate) fn rule_times(
    run: &Run,
    dim: usize,
    ranks_per_node: u32,
) -> anyhow::Result<Option<Vec<(u64, f64)>>> {
    let over = run.aggregation.over().ok_or(UnfitError::NodesUnknown).map_err(job::bad_input)?;
    let own = over.senders(run.train.ranks);
    if OverRanks::of_senders(&run.aggregation, own, run.seed).map_err(job::bad_input)?.is_none() {
        return Ok(None);
    }
    let each = match over {
        Over::Ranks => 1,
        Over::Nodes { .. } => ranks_per_node as usize,
    };
    let mut times = Vec::new();
    for senders in TIMED_ON.into_iter().chain([own]).collect::<BTreeSet<_>>() {
        let hostile = run.aggregation.hostile.map(|hostile| hostile * senders / own.max(1));
        let aggregation = Aggregation { hostile, ..run.aggregation.clone() };
        // a rule may need more than a few
        let Ok(Some(rule)) = OverRanks::of_senders(&aggregation, senders, run.seed) else { continue };
        let part = dim.div_ceil((senders * each).max(1));
        let Ok(seconds) = rule.seconds(senders, part) else { continue };
        times.push((senders as u64, seconds));
        if seconds > LONG {
            break;
        }
    }
    Ok(Some(times))
}

/// Plans a run without a step.
///
/// # Errors
/// When the data cannot be read or the run does not fit them.
pub fn plan(run: &Run, registered: &Registered, hardware: Hardware) -> anyhow::Result<PlanReport> {
    // a plan is made where the devices of the run are not, as well
    let memory = device::memory(hardware, run.train.ranks).unwrap_or_default();
    let parts = job::parts(run, registered, hardware, memory)?;
    let Parts { data, plan, config, .. } = &parts;
    let floats = |n: usize| Bytes(4 * n as u64 * run.train.ranks as u64);
    let states = match run.optimizer.rule {
        Rule::AdamW { .. } => 2,
        Rule::Sgd { momentum, .. } => usize::from(momentum > 0.0),
        Rule::AdaGrad { .. } => 1,
        Rule::AdaGradNorm { .. } => 0,
    };
    let name = |id: phalanx_nn::ParamId| plan.params.spec(id).name.clone();
    let bucket = |b: &phalanx_train::Bucket| {
        let (first, last) = (b.params.first().map(|id| name(*id)), b.params.last().map(|id| name(*id)));
        (first.unwrap_or_default(), last.unwrap_or_default(), Bytes(4 * b.range.len() as u64))
    };
    let compressor = job::compression(run).build().map_err(job::bad_input)?;
    let traffic = |b: &phalanx_train::Bucket| {
        let plain = || Traffic::plain(b.range.len());
        compressor.as_ref().map_or_else(plain, |compressor| compressor.traffic(&b.layout(&plan.params)))
    };
    let samples = run.total_samples(data.train.len() as u64);
    let is_constant = matches!(run.batch.policy, BatchPolicy::Constant {});
    let steps = match run.train.stop {
        Stop::Epochs(_) | Stop::Samples(_) if !is_constant => None,
        Stop::Steps(steps) => Some(steps),
        Stop::Epochs(epochs) => {
            let len = data.train.len() as u64;
            let whole = if config.drop_last { len / config.batch } else { len.div_ceil(config.batch) };
            Some(epochs * whole)
        }
        Stop::Samples(_) => samples.map(|samples| samples.div_ceil(config.batch)),
    };
    Ok(PlanReport {
        parameters: plan.params.count() as u64,
        train_samples: data.train.len() as u64,
        validation_samples: data.validation.as_ref().map_or(0, |part| part.len() as u64),
        test_samples: data.test.len() as u64,
        trusted_samples: data.trusted.as_ref().map_or(0, |part| part.len() as u64),
        steps,
        rule: OverRanks::of(&run.aggregation, run.train.ranks, run.seed)
            .map_err(job::bad_input)?
            .map(|rule| described_rule(run, config.over, &rule)),
        memory: vec![
            ("parameters", floats(plan.params.flat_len())),
            ("gradients", floats(plan.params.grad_len())),
            ("optimizer", floats(states * plan.params.grad_len())),
            ("arena", Bytes(plan.arena_bytes as u64 * run.train.ranks as u64)),
        ],
        buckets: plan.buckets.iter().map(bucket).collect(),
        traffic: plan.buckets.iter().map(traffic).collect(),
    })
}

/// A rule, what it is over, and what it bears.
fn described_rule(run: &Run, over: Over, rule: &OverRanks) -> String {
    let of = match over {
        Over::Ranks => String::new(),
        Over::Nodes { ranks_per_node } => format!(" of {ranks_per_node} ranks"),
    };
    let (kind, count) = (run.aggregation.rule.kind(), over.senders(run.train.ranks));
    format!("{kind} over {count} {}{of}, bears {}", over.called(), rule.hostile())
}

/// Scores a state of a run.
///
/// # Errors
/// When the checkpoint or the data cannot be read.
pub fn evaluate(
    run: &Run,
    paths: &RunPaths,
    split: Split,
    which: Which,
    registered: &Registered,
    hardware: Hardware,
) -> anyhow::Result<Score> {
    let memory = device::memory(hardware, 1)?;
    let Parts { data, plan, net, task, .. } = job::parts(run, registered, hardware, memory)?;
    match hardware.device {
        Device::Cpu => {
            score(paths, split, which, &data, &plan, (&*net as &dyn Net<Cpu32>, Cpu32::new()), &task)
        }
        #[cfg(feature = "cuda")]
        device => {
            let on = (&*net as &dyn Net<phalanx_cuda::Cuda>, gpus::first(device)?);
            score(paths, split, which, &data, &plan, on, &task)
        }
        // `memory` has refused it
        #[cfg(not(feature = "cuda"))]
        device => Err(DeviceError::NotBuilt(device).into()),
    }
}

/// The CPU with numbers of 32 bits.
type Cpu32 = phalanx_tensor::Cpu<f32>;

/// Scores a checkpoint on a part of the data, on a device.
fn score<B: TrainBackend>(
    paths: &RunPaths,
    split: Split,
    which: Which,
    data: &Splits,
    plan: &Plan,
    (net, backend): (&dyn Net<B>, B),
    task: &Task,
) -> anyhow::Result<Score> {
    let held = load(paths, which)?;
    let data = match split {
        Split::Test => Arc::clone(&data.test),
        Split::Validation => data.validation.clone().context("the run keeps no samples for validation")?,
    };
    let score = phalanx_train::score_checkpoint(backend, plan, net, task, &held, &*data)?;
    let accuracy = Some(score.accuracy);
    Ok(Score { step: held.meta.step, samples: score.samples, loss: score.loss, accuracy })
}

/// A checkpoint of a run.
fn load(paths: &RunPaths, which: Which) -> anyhow::Result<Checkpoint> {
    let store = Checkpoints::new(paths.checkpoints(), Keep::default(), Arc::new(Disk));
    Ok(match which {
        Which::Step(step) => store.load(step)?,
        Which::Last => store.latest_good()?.checkpoint,
        Which::Best => {
            let best = store.best()?.context("the run has no best checkpoint: it has no validation set")?;
            store.load(best.step)?
        }
    })
}

/// Looks at every checkpoint of a run, oldest first.
///
/// # Errors
/// When the directory cannot be read; a checkpoint that cannot be is a fault of its own.
pub fn checkpoints(paths: &RunPaths) -> anyhow::Result<Vec<CheckpointHealth>> {
    let checkpoints = Checkpoints::new(paths.checkpoints(), Keep::default(), Arc::new(Disk));
    let best = checkpoints.best()?.map(|best| best.step);
    let health = |step| CheckpointHealth {
        step,
        is_best: best == Some(step),
        fault: checkpoints.load(step).err().map(Into::into),
    };
    Ok(checkpoints.steps()?.into_iter().map(health).collect())
}

/// Whether a run has a state to go on from, whole or not.
#[must_use]
pub fn has_checkpoint(paths: &RunPaths) -> bool {
    let checkpoints = Checkpoints::new(paths.checkpoints(), Keep::default(), Arc::new(Disk));
    checkpoints.steps().is_ok_and(|steps| !steps.is_empty())
}

/// Brings a data set to `dir`, from `mirror` if one is given.
///
/// # Errors
/// When it cannot be had, or is not what it should be.
pub fn fetch(name: &str, dir: &Path, mirror: Option<&str>, ui: &dyn Ui) -> anyhow::Result<Fetched> {
    let options = FetchOptions { mirror: mirror.map(str::to_owned), ..FetchOptions::new(dir) };
    let mut progress = |now: fetch::Progress<'_>| ui.transferred(now.file, now.done, now.total);
    let fetched = fetch::fetch(name, &options, &mut progress);
    ui.finished();
    match fetched {
        Err(error @ FetchError::UnknownSet { .. }) => Err(WithExit::new(Exit::BadInput, error.into()).into()),
        fetched => Ok(fetched?),
    }
}

/// Where a data set came from, in words.
#[must_use]
pub fn origin(origin: &Origin) -> String {
    match origin {
        Origin::Present => "here already".to_owned(),
        Origin::Installed(path) => path.display().to_string(),
        Origin::Downloaded(url) => url.clone(),
        _ => "elsewhere".to_owned(),
    }
}

/// Reads the data of a run and keeps its share for validation aside.
///
/// # Errors
/// When the data are not there or cannot be read.
pub fn open_data(data: &Data, model: &Model, seed: u64) -> anyhow::Result<Splits> {
    let place = datasets::locate(&data.source)?.unwrap_or_default();
    let source = match &data.source {
        Source::Digits {} => phalanx_data::Source::Digits,
        Source::Idx { mean, std, .. } => {
            let mut options = IdxOptions::in_folder(&place)?;
            (options.mean, options.std) = (mean.map(narrow), std.map(narrow));
            phalanx_data::Source::Idx(options)
        }
        Source::Csv { test, split, label, header, .. } => {
            let mut options = CsvOptions::new(place);
            (options.header, options.seed) = (*header, seed);
            options.label = match label.clone() {
                None => phalanx_data::Column::Last,
                Some(Column::Name(name)) => phalanx_data::Column::Named(name),
                Some(Column::Index(idx)) => phalanx_data::Column::At(idx),
            };
            options.test = match test {
                Some(file) => TestPart::File(file.into()),
                None => TestPart::Share(1.0 - split),
            };
            phalanx_data::Source::Csv(options)
        }
        Source::Text { split, .. } => {
            let mut options = TextOptions::new(place);
            options.test = 1.0 - split;
            options.context = context_of(data, model).unwrap_or(options.context);
            phalanx_data::Source::Text(options)
        }
    };
    Ok(source.open()?.hold_out(data.validation, seed)?)
}

/// Reads the data of a run and tells their facts, a name and a value each.
///
/// # Errors
/// As [`open_data`].
pub fn describe_data(run: &Run) -> anyhow::Result<Vec<(&'static str, String)>> {
    let splits = open_data(&run.data, &run.model, run.seed)?;
    let kind = splits.train.kind();
    let validation = splits.validation.as_ref().map_or(0, |part| part.len());
    Ok(vec![
        ("training samples", splits.train.len().to_string()),
        ("validation samples", validation.to_string()),
        ("test samples", splits.test.len().to_string()),
        ("inputs of a sample", kind.inputs_per_sample().to_string()),
        ("labels of a sample", kind.labels_per_sample().to_string()),
        ("classes", kind.outputs().to_string()),
    ])
}

#[expect(clippy::cast_possible_truncation, reason = "pixels are f32")]
fn narrow(value: f64) -> f32 {
    value as f32
}

/// Times steps of a run on made-up weights; rank 0 has the times.
///
/// # Errors
/// As [`train`].
pub(crate) fn bench_step(
    run: &Run,
    steps: u64,
    registered: &Registered,
    hardware: Hardware,
    world: &World,
) -> anyhow::Result<Option<StepTimes>> {
    let mut run = run.clone();
    run.train.stop = Stop::Steps(steps);
    (run.train.eval_every_steps, run.train.eval_every_samples, run.train.log_every_steps) = (0, 0, u64::MAX);
    let Prepared(parts, devices) = world.together(|| prepare(&run, registered, hardware, world))?;
    let predicted = parts.plan.arena_bytes;
    let ui: Arc<dyn Ui> = Arc::new(crate::ui::Silent);
    let launched =
        job::launch(&run, parts, devices, None, watcher(&ui), Vec::new(), None, Arc::default(), world)?;
    let Some(outcome) = launched? else {
        return Ok(None);
    };
    let batch = run.train.batch as f64;
    let summary = &outcome.summary;
    let mb = |bytes: u64| bytes as f64 / 1e6;
    let ranks = run.train.ranks as u64;
    Ok(Some(StepTimes {
        samples_s_median: batch / outcome.median_step_seconds,
        samples_s_calm: batch / outcome.calm_step_seconds,
        step_ms_median: 1e3 * outcome.median_step_seconds,
        exposed_share: summary.exposed_comm_share,
        peak_rss_mb: summary.peak_rss_bytes.map(mb),
        arena_mb: mb(ranks * outcome.arena_bytes as u64),
        arena_predicted_mb: mb(ranks * predicted as u64),
        train_loss: summary.train_loss,
    }))
}
