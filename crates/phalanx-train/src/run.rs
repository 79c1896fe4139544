//! A whole run: ranks, steps, evaluations, checkpoints, and what is written about them.

use crate::checkpoint::{Checkpoint, Checkpoints, Meta, Snapshot};
use crate::compression;
use crate::config::{Limit, Reduction, TrainConfig};
use crate::device::Device;
use crate::error::TrainError;
use crate::evaluate::{Score, evaluate_telling};
use crate::events::{
    Aggregated, CheckpointSaved, ChunkStatistics, EvalDone, Event, EventWriter, GradientTraffic,
    PolicyDecided, RankLeftOut, RunFinished, RunStarted, Split, StepDone, WarningRaised,
};
use crate::host::TrainBackend;
use crate::methods::MakeMethods;
use crate::model_file::{self, ModelFile};
use crate::plan::Plan;
use crate::rundir::RunPaths;
use crate::split::BatchSplit;
use crate::state::{self, Place};
use crate::storage::Storage;
use crate::summary::{Summary, peak_rss_bytes};
use crate::tensorboard::TensorBoard;
use crate::trace::{self, Clock, Lane, Phase};
use crate::trusted::Trusted;
use crate::worker::{Batch, Done, Worker, can_measure};
use phalanx_comm::control::{self, Board};
use phalanx_comm::{Communicator, CommunicatorExt, Rank, verify_plan};
use phalanx_data::{Sampler, Splits};
use phalanx_grad::{BatchDecision, BatchPolicy, Chunks, Ranks, Reduce, ScalarBlock};
use phalanx_nn::{Net, Task};
use phalanx_tensor::Cpu;
use sha2::{Digest, Sha256};
use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

/// Spans of each rank that the trace holds.
const TRACE_SPANS: usize = 20_000;

/// Sees what a run does and changes nothing. Called on rank 0.
pub trait Watch: Send + Sync {
    /// A step is done, of `total` samples as far as they are known.
    fn step(&self, done: &StepDone, total: u64, accuracy: Option<f64>) {
        let _ = (done, total, accuracy);
    }
    /// The rule over ranks left some of them out of the step that is told next.
    fn aggregated(&self, round: &Aggregated) {
        let _ = round;
    }
    /// The model was scored.
    fn evaluated(&self, eval: &EvalDone) {
        let _ = eval;
    }
    /// Something worth a line.
    fn note(&self, text: &str) {
        let _ = text;
    }
}

/// A run, ready to be started on every rank.
pub struct Job<B: TrainBackend> {
    /// Name of the run.
    pub name: String,
    /// Name of the model.
    pub model: String,
    /// The loop's settings.
    pub config: TrainConfig,
    /// The model.
    pub net: Arc<dyn Net<B>>,
    /// What it is trained for.
    pub task: Task,
    /// What a step looks like.
    pub plan: Plan,
    /// The data.
    pub data: Splits,
    /// Makes the methods of a rank.
    pub methods: Box<MakeMethods<B>>,
    /// The device of every rank, unless [`run_rank_on`] is given others.
    pub backend: B,
    /// The files; without, nothing is written.
    pub files: Option<Files>,
    /// Who watches.
    pub watch: Arc<dyn Watch>,
    /// What is worth a warning when the run begins.
    pub notes: Vec<String>,
    /// Set from outside to end the run after the next step, with a checkpoint.
    pub stop: Arc<dyn Fn() -> bool + Send + Sync>,
    /// Where each rank is, readable from outside; a board of no ranks keeps nothing.
    pub board: Arc<Board>,
}

/// What a run writes, and where.
#[derive(Clone, Debug)]
pub struct Files {
    /// The run's directory.
    pub paths: RunPaths,
    /// The resolved run file.
    pub run_file: String,
    /// Checkpoints to keep.
    pub keep: crate::checkpoint::Keep,
    /// Whether TensorBoard files are written.
    pub tensorboard: bool,
    /// Whether a trace is written.
    pub trace: bool,
    /// Whether the run goes on from its last good checkpoint.
    pub resume: bool,
    /// Where checkpoints are written.
    pub storage: Arc<dyn Storage>,
}

impl<B: TrainBackend> fmt::Debug for Job<B> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Job").field("name", &self.name).field("model", &self.model).finish_non_exhaustive()
    }
}

/// What a run gave, from rank 0.
#[derive(Clone, Debug)]
pub struct Outcome {
    /// What `summary.json` says.
    pub summary: Summary,
    /// The final parameters, in the plan's flat layout.
    pub params: Vec<f32>,
    /// Median seconds of a step, leaving out the first few.
    pub median_step_seconds: f64,
    /// Fewest seconds a step that any stretch of half a second reached.
    pub calm_step_seconds: f64,
    /// Bytes that this rank's arena took.
    pub arena_bytes: usize,
}

/// Trains on this rank.
///
/// # Collective
/// Every rank of `comm`, with equal jobs; a job that differs is an error on all before the first step.
///
/// # Errors
/// This rank's own error; another's comes as [`TrainError::Comm`].
pub fn run_rank<B: TrainBackend>(
    job: &Job<B>,
    comm: &Arc<dyn Communicator>,
) -> Result<Option<Outcome>, TrainError> {
    run_rank_on(job, comm, Device::new(job.backend.clone()))
}

/// Trains on this rank, on a device of its own.
///
/// # Collective
/// As [`run_rank`].
///
/// # Errors
/// As [`run_rank`]; [`TrainError::Device`] for the device's.
pub fn run_rank_on<B: TrainBackend>(
    job: &Job<B>,
    comm: &Arc<dyn Communicator>,
    device: Device<B>,
) -> Result<Option<Outcome>, TrainError> {
    let mut run = Run::start(job, comm, device)?;
    run.train()?;
    run.finish()
}

/// [`run_rank`] on the CPU.
///
/// What `run_rank` is on the CPU is compiled once, here, and not again in every program and test that calls it.
///
/// # Collective
/// As [`run_rank`].
///
/// # Errors
/// As [`run_rank`].
pub fn run_rank_on_cpu(
    job: &Job<Cpu<f32>>,
    comm: &Arc<dyn Communicator>,
) -> Result<Option<Outcome>, TrainError> {
    run_rank(job, comm)
}

/// The files that rank 0 has open.
struct Open {
    events: EventWriter,
    board: Option<TensorBoard>,
    checkpoints: Checkpoints,
}

struct Run<'a, B: TrainBackend> {
    job: &'a Job<B>,
    comm: Arc<dyn Communicator>,
    worker: Worker<'a, B>,
    open: Option<Open>,
    place: Place,
    started: Instant,
    /// Samples and exposed time since this process began.
    trained: u64,
    exposed: Duration,
    /// What its gradients sent, where they are compressed.
    traffic: Option<GradientTraffic>,
    step_seconds: Vec<f32>,
    last_loss: Option<f64>,
    last_saved: Option<u64>,
    last_eval: Option<(u64, Score)>,
    /// Steps that each rank was left out of.
    steps_left_out: Vec<u64>,
    best: Option<(u64, f64)>,
    stopped: bool,
}

impl<'a, B: TrainBackend> Run<'a, B> {
    fn start(job: &'a Job<B>, comm: &Arc<dyn Communicator>, device: Device<B>) -> Result<Self, TrainError> {
        let methods = (job.methods)();
        let compression = methods.compression.as_ref().map_or("none", |compressor| compressor.name());
        let plan =
            format!("{}; {}; compression {compression}; {:?}", job.name, job.plan.describe(), job.config);
        let digest = Sha256::digest(plan.as_bytes());
        let hash = digest.iter().take(8).fold(0, |hash, byte| hash << 8 | u64::from(*byte));
        verify_plan(&**comm, hash, &plan)?;
        let root = comm.rank() == Rank(0);
        check_policy(&*methods.policy, &job.config, &job.plan, comm.size().get())?;
        check_rule(&*methods.over_ranks, &*methods.policy, &job.config)?;
        let clock = Clock::start();
        let spans = if job.files.as_ref().is_some_and(|f| f.trace) { TRACE_SPANS } else { 0 };
        let mut worker = Worker::new(
            device,
            Arc::clone(comm),
            &*job.net,
            job.task,
            &job.config,
            &job.plan,
            &job.board,
            methods,
            clock,
            spans,
        )?;
        worker.keep(&*job.data.train);
        worker.trusted = job.data.trusted.clone().map(Trusted::new);
        let mut place = Place { batch: job.config.batch, ..Place::default() };
        let mut best = None;
        if let Some(files) = job.files.as_ref().filter(|f| f.resume) {
            job.board.enter(comm.rank(), 0, control::Phase::Checkpoint);
            let held = load(job, files, comm)?;
            state::restore(&mut worker, &held)?;
            place = Place::of(&held.meta);
            place.resumes += 1;
            best = held.meta.best_validation_loss.map(|loss| (held.meta.step, loss));
        }
        let open = match (&job.files, root) {
            (Some(files), true) => Some(open(files, &place)?),
            _ => None,
        };
        let mut run = Run {
            job,
            comm: Arc::clone(comm),
            worker,
            open,
            place,
            started: Instant::now(),
            trained: 0,
            exposed: Duration::ZERO,
            traffic: None,
            step_seconds: Vec::with_capacity(4096),
            last_loss: None,
            last_saved: None,
            last_eval: None,
            steps_left_out: Vec::new(),
            best,
            stopped: false,
        };
        run.write(&Event::RunStarted(RunStarted {
            name: job.name.clone(),
            version: env!("CARGO_PKG_VERSION").to_owned(),
            step: place.step,
            samples: place.samples,
            ranks: comm.size().get() as u64,
            batch: place.batch,
            seed: job.config.seed,
            model: job.model.clone(),
            parameters: job.plan.params.count() as u64,
            train_samples: job.data.train.len() as u64,
            planned_steps: None,
            between_nodes: comm.tuning().map(Into::into),
        }))?;
        for note in &job.notes {
            run.warn(place.step, note.clone())?;
        }
        Ok(run)
    }

    /// Samples of the whole run; for a limit in steps, as many as a constant batch would take.
    fn total(&self) -> u64 {
        match self.job.config.limit {
            Limit::Epochs(epochs) => epochs.saturating_mul(self.job.data.train.len() as u64),
            Limit::Samples(samples) => samples,
            Limit::Steps(steps) => steps.saturating_mul(self.job.config.batch),
        }
    }

    fn train(&mut self) -> Result<(), TrainError> {
        let config = &self.job.config;
        let epoch_len = self.job.data.train.len() as u64;
        let mut sampler = Sampler::new(self.job.data.train.len(), config.seed)?;
        if config.drop_last {
            sampler = sampler.drop_last();
        }
        let total = self.total();
        loop {
            let left = match config.limit {
                Limit::Epochs(epochs) => epochs.saturating_mul(epoch_len).saturating_sub(self.place.cursor),
                Limit::Samples(samples) => samples.saturating_sub(self.place.samples),
                Limit::Steps(steps) => {
                    if self.place.step < steps {
                        u64::MAX
                    } else {
                        0
                    }
                }
            };
            let size = usize::try_from(self.place.batch.min(left)).unwrap_or(usize::MAX);
            if size == 0 {
                break;
            }
            let drawn = sampler.batch(self.place.cursor, size);
            if matches!(config.limit, Limit::Epochs(epochs) if drawn.epoch >= epochs) {
                break;
            }
            let batch = Batch {
                step: self.place.step + 1,
                before: self.place.samples,
                total,
                indices: drawn.indices,
                size: self.place.batch,
                max: epoch_len,
                stop: (self.job.stop)(),
                is_resident: true,
            };
            let began = Instant::now();
            let done = self.worker.step(&*self.job.data.train, &batch)?;
            let next = drawn.next;
            self.after(&done, next, began.elapsed())?;
            if done.stop {
                self.stopped = true;
                break;
            }
        }
        Ok(())
    }

    /// Everything between two steps.
    fn after(&mut self, done: &Done, next: u64, took: Duration) -> Result<(), TrainError> {
        let config = &self.job.config;
        let epoch_len = self.job.data.train.len() as u64;
        let ends_epoch = next / epoch_len > self.place.cursor / epoch_len;
        self.place.step += 1;
        self.place.samples += done.samples;
        self.place.cursor = next;
        self.place.updates = self.worker.updates;
        self.place.skipped += u64::from(done.skipped);
        self.trained += done.samples;
        self.exposed += done.exposed;
        if let Some(traffic) = done.traffic {
            self.traffic = Some(self.traffic.unwrap_or_default().plus(traffic));
        }
        self.last_loss = Some(done.loss);
        if self.step_seconds.len() < 1 << 20 {
            self.step_seconds.push(took.as_secs_f32());
        }
        let step = self.place.step;
        // a skipped step has no result that anyone could be left out of
        let round = if done.skipped { None } else { self.left_out(step) };
        if self.open.is_some() || (self.comm.rank() == Rank(0) && step.is_multiple_of(config.log_every)) {
            let event = StepDone {
                step,
                samples: self.place.samples,
                loss: done.loss,
                lr: done.lr,
                batch: done.samples,
                target: done.decision.and_then(|decision| decision.target),
                statistics: done.measured.as_ref().map(statistics),
                grad_norm: Some(done.grad_norm),
                grad_norm_l1: Some(done.grad_norm_l1),
                samples_per_second: float(done.samples) / took.as_secs_f64().max(1e-9),
                seconds: self.started.elapsed().as_secs_f64(),
                exposed_comm_seconds: done.exposed.as_secs_f64(),
                data_seconds: done.data.as_secs_f64(),
                traffic: done.traffic,
                skipped: done.skipped,
            };
            if step.is_multiple_of(config.log_every) {
                let accuracy = self.last_eval.map(|(_, score)| score.accuracy);
                if let Some(round) = &round {
                    self.job.watch.aggregated(round);
                }
                self.job.watch.step(&event, self.total(), accuracy);
            }
            self.write(&Event::Step(event))?;
        }
        if let Some(round) = round {
            self.write(&Event::Aggregated(round))?;
        }
        if done.skipped {
            let message = format!(
                "step {step}: a loss or gradient was not finite, its update and what the batch policy makes of it were skipped"
            );
            self.warn(step, message)?;
        }
        if let Some(decision) = done.decision {
            self.follow(step, &decision)?;
        }
        let due = |every: u64| every > 0 && step.is_multiple_of(every);
        let evaluates = match (config.eval_every_samples, config.eval_every) {
            (0, 0) => ends_epoch && self.job.files.is_some(),
            (0, every) => due(every),
            (every, _) => self.place.samples / every > (self.place.samples - done.samples) / every,
        };
        if evaluates {
            self.validate()?;
        }
        if due(config.checkpoint_every) && self.job.files.is_some() {
            self.save()?;
        }
        Ok(())
    }

    /// Whom the rule over ranks or nodes left out of the step, if anyone.
    fn left_out(&mut self, step: u64) -> Option<Aggregated> {
        let rule = &self.worker.methods.over_ranks;
        let left_out = rule.rejected();
        if rule.is_mean() || left_out.is_empty() {
            return None;
        }
        let over = self.job.config.over;
        self.steps_left_out.resize(over.senders(self.comm.size().get()), 0);
        for rejected in left_out {
            let of_sender =
                usize::try_from(rejected.id).ok().and_then(|sender| self.steps_left_out.get_mut(sender));
            of_sender.into_iter().for_each(|steps| *steps += 1);
        }
        let left_out = left_out.iter().map(RankLeftOut::from).collect();
        Some(Aggregated { step, rule: rule.name().to_owned(), over: over.named(), left_out })
    }

    /// Takes the next batch to what was decided, in parts that all ranks can share evenly.
    fn follow(&mut self, step: u64, decision: &BatchDecision) -> Result<(), TrainError> {
        let policy = self.worker.methods.policy.name();
        if decision.batch == 0 {
            return Err(TrainError::Decision { policy, step });
        }
        if decision.batch == self.place.batch {
            return Ok(());
        }
        let split = self.split(decision.batch);
        if split.batch() == self.place.batch {
            return Ok(());
        }
        self.place.batch = split.batch();
        // tiles of other lengths ask for other buffers: those of the old ones would only stay
        self.worker.graph.trim();
        self.write(&Event::Policy(PolicyDecided {
            step,
            policy: policy.to_owned(),
            batch: split.batch(),
            micro_batch: split.micro,
            accumulation: split.accumulation,
            statistic: decision.target,
            reason: String::new(),
        }))
    }

    /// How a batch is shared, by what is the same for any number of ranks in the reproducible mode.
    fn split(&self, target: u64) -> BatchSplit {
        let limit = self.worker.methods.policy.bounds().max_batch.min(self.job.data.train.len() as u64);
        let (parts, most_micro) = match self.job.config.reduction {
            Reduction::Fast => (self.comm.size().get(), self.job.plan.most_micro.map(|most| most as u64)),
            Reduction::Reproducible { shards } => (shards, None),
        };
        BatchSplit::towards(target, parts as u64, most_micro, limit)
    }

    /// Scores the validation set, once a step.
    fn validate(&mut self) -> Result<Option<Score>, TrainError> {
        let Some(data) = &self.job.data.validation else { return Ok(None) };
        if let Some((step, score)) = self.last_eval
            && step == self.place.step
        {
            return Ok(Some(score));
        }
        let score = self.score(&**data, Split::Validation)?;
        self.last_eval = Some((self.place.step, score));
        if self.best.is_none_or(|(_, loss)| score.loss < loss) {
            self.best = Some((self.place.step, score.loss));
        }
        Ok(Some(score))
    }

    fn score(&mut self, data: &dyn phalanx_data::Dataset, split: Split) -> Result<Score, TrainError> {
        let start = self.worker.lane.as_ref().map_or(0, Lane::now);
        let tile = self.job.plan.score_tile();
        self.enter(control::Phase::Evaluate);
        let worker = &mut self.worker;
        let Job { net, task, board, .. } = self.job;
        let tick = || board.tick(self.comm.rank());
        let score = evaluate_telling(&*self.comm, &mut worker.graph, &**net, task, data, tile, &tick)?;
        if let Some(lane) = &mut worker.lane {
            lane.record(Phase::Eval, self.place.step, start);
        }
        let event = EvalDone {
            step: self.place.step,
            samples: self.place.samples,
            split,
            loss: score.loss,
            accuracy: Some(score.accuracy),
        };
        if self.comm.rank() == Rank(0) {
            self.job.watch.evaluated(&event);
        }
        self.write(&Event::Eval(event))?;
        Ok(score)
    }

    /// Writes a checkpoint, once a step, with the validation loss of its parameters.
    fn save(&mut self) -> Result<(), TrainError> {
        if self.last_saved == Some(self.place.step) {
            return Ok(());
        }
        let score = self.validate()?;
        self.enter(control::Phase::Checkpoint);
        self.average_statistics()?;
        let compression = match self.worker.buckets.compressor() {
            Some(compressor) => compression::state(compressor, &*self.comm)?,
            None => Vec::new(),
        };
        let momentum = match &self.worker.momentum {
            Some(momentum) => momentum.state(&*self.comm)?,
            None => Vec::new(),
        };
        let of_rule =
            state::of_rule(&*self.worker.methods.over_ranks, self.job.plan.params.grad_len(), &*self.comm)?;
        self.last_saved = Some(self.place.step);
        let Some(open) = &self.open else { return Ok(()) };
        let began = Instant::now();
        let worker = &self.worker;
        let flat = worker.graph.params_to_vec();
        let mut state = worker.methods.over_time.state(worker.graph.backend());
        // what the device cannot vouch for is not kept
        worker.graph.backend().check()?;
        state.extend(of_rule);
        state.extend(compression);
        state.extend(momentum);
        let policy = worker.methods.policy.state();
        let mut counters: std::collections::BTreeMap<String, u64> =
            self.place.counters().map(|(name, value)| (name.to_owned(), value)).into();
        counters.insert("policy_version".to_owned(), u64::from(policy.version));
        let meta = Meta {
            step: self.place.step,
            samples: self.place.samples,
            cursor: self.place.epoch(self.job.data.train.len() as u64),
            seed: self.job.config.seed,
            ranks: self.comm.size().get() as u64,
            run_file: self.job.files.as_ref().map(|f| f.run_file.clone()).unwrap_or_default(),
            counters,
            policy: policy.bytes,
            validation_loss: score.map(|s| s.loss),
            best_validation_loss: self.best.map(|(_, loss)| loss),
            ..Meta::default()
        };
        let model = state::model_tensors(worker.graph.params(), &flat)?;
        let optimizer = state::state_tensors(&state)?;
        let saved = open.checkpoints.save(&Snapshot { meta: &meta, model: &model, optimizer: &optimizer })?;
        let best = self.best.is_some_and(|(step, _)| step == self.place.step);
        let event = CheckpointSaved {
            step: self.place.step,
            bytes: saved.bytes,
            seconds: began.elapsed().as_secs_f64(),
            best,
        };
        self.write(&Event::Checkpoint(event))?;
        if let Some(open) = &mut self.open {
            open.events.flush()?;
        }
        Ok(())
    }

    /// Running statistics that ranks kept apart become one: their mean.
    fn average_statistics(&mut self) -> Result<(), TrainError> {
        let graph = &mut self.worker.graph;
        let mut statistics = graph.statistics_to_vec();
        if statistics.is_empty() || self.comm.size().get() == 1 {
            return Ok(());
        }
        self.comm.all_reduce_sum(&mut statistics)?;
        #[expect(clippy::cast_precision_loss, reason = "there are few ranks")]
        let scale = 1.0 / self.comm.size().get() as f32;
        statistics.iter_mut().for_each(|s| *s *= scale);
        let backend = graph.backend().clone();
        backend.upload(&statistics, graph.statistics_mut());
        Ok(())
    }

    fn finish(mut self) -> Result<Option<Outcome>, TrainError> {
        let seconds = self.started.elapsed().as_secs_f64();
        if self.job.files.is_some() {
            self.save()?;
        } else {
            self.average_statistics()?;
        }
        let test = match self.stopped {
            true => None,
            false => Some(self.score(&*self.job.data.test, Split::Test)?),
        };
        self.enter(control::Phase::Finish);
        let lanes = self.gather_lanes()?;
        if self.comm.rank() != Rank(0) {
            return Ok(None);
        }
        self.write(&Event::Finished(RunFinished {
            step: self.place.step,
            samples: self.place.samples,
            seconds,
            stopped: self.stopped,
        }))?;
        let params = self.worker.graph.params_to_vec();
        let mut sha256 = String::new();
        if let Some(files) = &self.job.files {
            let tensors = state::model_tensors(self.worker.graph.params(), &params)?;
            let ModelFile { sha256: hash, .. } = model_file::write(&files.paths.model(), &tensors)?;
            sha256 = hash;
            if files.trace {
                trace::write(&files.paths.trace(), &self.job.name, &lanes)?;
            }
        }
        if let Some(open) = &mut self.open {
            open.events.flush()?;
            if let Some(board) = &mut open.board {
                board.flush()?;
            }
        }
        let (median_step_seconds, calm_step_seconds) = step_times(&self.step_seconds);
        let mean_batch = float(self.trained) / float(self.step_seconds.len().max(1) as u64);
        let summary = Summary {
            name: self.job.name.clone(),
            version: env!("CARGO_PKG_VERSION").to_owned(),
            model: self.job.model.clone(),
            parameters: self.job.plan.params.count() as u64,
            test_accuracy: test.map(|t| t.accuracy),
            test_loss: test.map(|t| t.loss),
            train_loss: self.last_loss,
            best_validation_loss: self.best.map(|(_, loss)| loss),
            best_validation_step: self.best.map(|(step, _)| step),
            samples_per_second: if median_step_seconds > 0.0 {
                mean_batch / median_step_seconds
            } else {
                0.0
            },
            seconds,
            steps: self.place.step,
            samples: self.place.samples,
            epochs: self.place.cursor / self.job.data.train.len().max(1) as u64,
            ranks: self.comm.size().get() as u64,
            peak_rss_bytes: peak_rss_bytes(),
            final_batch: self.place.batch,
            exposed_comm_share: self.exposed.as_secs_f64() / seconds.max(1e-9),
            traffic: self.traffic,
            skipped_steps: self.place.skipped,
            over: self.job.config.over.named().filter(|_| !self.steps_left_out.is_empty()),
            steps_left_out: self.steps_left_out.clone(),
            federated: None,
            parameters_without_gradient: if self.trained > 0 {
                self.worker.without_gradient()
            } else {
                Vec::new()
            },
            resumes: self.place.resumes,
            stopped: self.stopped,
            model_sha256: sha256,
        };
        if let Some(files) = &self.job.files {
            summary.write(&files.paths.summary())?;
        }
        let arena_bytes = self.worker.graph.arena_bytes();
        Ok(Some(Outcome { summary, params, median_step_seconds, calm_step_seconds, arena_bytes }))
    }

    fn enter(&self, phase: control::Phase) {
        self.job.board.enter(self.comm.rank(), self.place.step, phase);
    }

    /// The lanes of all ranks, on rank 0.
    fn gather_lanes(&mut self) -> Result<Vec<Lane>, TrainError> {
        let Some(lane) = &self.worker.lane else { return Ok(Vec::new()) };
        let own = lane.encode().unwrap_or_default();
        let all = self.comm.all_gather_bytes(&own)?;
        Ok(all.iter().filter_map(|bytes| Lane::decode(bytes).ok()).collect())
    }

    fn write(&mut self, event: &Event) -> Result<(), TrainError> {
        if let Some(open) = &mut self.open {
            open.events.write(event)?;
            if let Some(board) = &mut open.board {
                board.event(event)?;
            }
        }
        Ok(())
    }

    fn warn(&mut self, step: u64, message: String) -> Result<(), TrainError> {
        if self.comm.rank() == Rank(0) {
            self.job.watch.note(&message);
        }
        self.write(&Event::Warning(WarningRaised { step, message }))
    }
}

/// Opens the files of rank 0; those of a run that goes on lose what came after its checkpoint.
fn open(files: &Files, place: &Place) -> Result<Open, TrainError> {
    let flush = Duration::from_secs(1);
    let checkpoints = Checkpoints::new(files.paths.checkpoints(), files.keep, Arc::clone(&files.storage));
    checkpoints.prepare()?;
    let events = match files.resume {
        true => EventWriter::resume(&files.paths.events(), place.step, flush)?,
        false => EventWriter::create(&files.paths.events(), flush)?,
    };
    let mut board = match files.tensorboard {
        true => Some(TensorBoard::create(&files.paths.tensorboard())?),
        false => None,
    };
    if let (Some(board), true) = (&mut board, files.resume) {
        board.resume(place.step)?;
    }
    Ok(Open { events, board, checkpoints })
}

/// The newest good checkpoint. Rank 0 moves refused ones out of the way once all ranks have read theirs.
fn load<B: TrainBackend>(
    job: &Job<B>,
    files: &Files,
    comm: &Arc<dyn Communicator>,
) -> Result<Checkpoint, TrainError> {
    let checkpoints = Checkpoints::new(files.paths.checkpoints(), files.keep, Arc::clone(&files.storage));
    if checkpoints.steps()?.is_empty() {
        return Err(TrainError::NoCheckpoint { dir: files.paths.checkpoints().display().to_string() });
    }
    let loaded = checkpoints.latest_good()?;
    comm.barrier()?;
    if comm.rank() == Rank(0) {
        for refused in &loaded.refused {
            job.watch.note(&format!("checkpoint of step {} is refused: {}", refused.step, refused.cause));
            checkpoints.set_aside(refused.step)?;
        }
    }
    Ok(loaded.checkpoint)
}

/// Median, and the mean over the fastest half second, leaving out the first steps.
fn step_times(seconds: &[f32]) -> (f64, f64) {
    let warm = &seconds[(seconds.len() / 4).min(5)..];
    if warm.is_empty() {
        return (f64::NAN, f64::NAN);
    }
    let mut sorted = warm.to_vec();
    sorted.sort_by(f32::total_cmp);
    let median = f64::from(sorted[sorted.len() / 2]);
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "a small positive count")]
    let window = ((0.5 / median).ceil() as usize).clamp(1, warm.len());
    let means =
        warm.windows(window).map(|w| w.iter().map(|s| f64::from(*s)).sum::<f64>() / float(window as u64));
    (median, means.fold(f64::INFINITY, f64::min))
}

#[expect(clippy::cast_precision_loss, reason = "counts are far below 2^52")]
fn float(x: u64) -> f64 {
    x as f64
}

/// A request to stop that nobody makes.
#[must_use]
pub fn never_stop() -> Arc<dyn Fn() -> bool + Send + Sync> {
    let never = AtomicBool::new(false);
    Arc::new(move || never.load(Ordering::Relaxed))
}

/// The statistics of a step as its event tells them.
fn statistics(block: &ScalarBlock) -> ChunkStatistics {
    ChunkStatistics {
        chunks: block.chunks,
        q: block.q,
        variance: block.tr_s().ok(),
        signal: block.g2().ok(),
        noise_scale: block.b_simple().ok(),
        coherence: block.m_coherence().ok(),
        variance_along: block.v_ip().ok(),
        variance_across: block.v_or().ok(),
        coordinate_ratio: block.coordinate_ratio,
    }
}

/// Checks that a run can take the statistics that a policy needs, and reach its batch.
///
/// # Errors
/// [`TrainError::Statistics`] for a statistic of no chunks, [`TrainError::Samples`] for those of samples where the model does not
/// tell them apart, [`TrainError::OneChunk`] where a batch is one chunk, [`TrainError::Setting`] for one sample
/// where samples are compared, and for a greatest batch below the first.
pub fn check_policy(
    policy: &dyn BatchPolicy,
    config: &TrainConfig,
    plan: &Plan,
    ranks: usize,
) -> Result<(), TrainError> {
    let bounds = policy.bounds();
    can_measure(policy.name(), &bounds.needs, plan)?;
    let chunks = match config.reduction {
        Reduction::Fast => ranks,
        Reduction::Reproducible { shards } => shards,
    };
    if bounds.needs.chunks == Chunks::Ranks && chunks < 2 {
        return Err(TrainError::OneChunk { policy: policy.name() });
    }
    if bounds.needs.chunks == Chunks::Samples && config.batch < 2 {
        let need = format!("at least 2, whose gradients batch policy {} compares", policy.name());
        return Err(TrainError::Setting { field: "train.batch", got: config.batch, need });
    }
    if bounds.max_batch < config.batch {
        let need = format!("at least train.batch = {}", config.batch);
        return Err(TrainError::Setting { field: "batch.max", got: bounds.max_batch, need });
    }
    Ok(())
}

/// Checks that a run has the gradients that a rule over ranks compares, and that its result is what the policy takes it for.
///
/// # Errors
/// [`TrainError::RuleOverShards`] and [`TrainError::PolicyNeedsMean`], for rules other than the mean.
pub fn check_rule(
    rule: &dyn Reduce<Ranks>,
    policy: &dyn BatchPolicy,
    config: &TrainConfig,
) -> Result<(), TrainError> {
    if rule.is_mean() {
        return Ok(());
    }
    if matches!(config.reduction, Reduction::Reproducible { .. }) {
        return Err(TrainError::RuleOverShards { rule: rule.name() });
    }
    let needs = policy.bounds().needs;
    if needs.chunks != Chunks::None || needs.coordinates.is_some() {
        return Err(TrainError::PolicyNeedsMean { policy: policy.name(), rule: rule.name() });
    }
    Ok(())
}

/// Checks what can be known before any rank starts.
///
/// # Errors
/// [`TrainError::Setting`] for no ranks, more ranks than shards, a batch of 0 or larger than the training set;
/// [`TrainError::Data`] for empty sets.
pub fn check(config: &TrainConfig, data: &Splits, ranks: usize) -> Result<(), TrainError> {
    let setting = |field, got: u64, need: String| Err(TrainError::Setting { field, got, need });
    if ranks == 0 {
        return setting("train.ranks", 0, "at least 1".to_owned());
    }
    if let Reduction::Reproducible { shards } = config.reduction
        && ranks > shards
    {
        return setting(
            "train.ranks",
            ranks as u64,
            format!("at most train.shards = {shards} in the reproducible mode"),
        );
    }
    let len = data.train.len() as u64;
    if config.batch == 0 || config.batch > len {
        return setting("train.batch", config.batch, format!("1 to the {len} samples of the training set"));
    }
    Sampler::new(data.train.len(), config.seed)?;
    if data.test.is_empty() {
        return Err(TrainError::Data(phalanx_data::DataError::NoSamples { part: "test" }));
    }
    Ok(())
}
