//! A federated run on one rank, from the first round to the summary.

mod aggregate;
mod files;
mod forge;
mod round;
mod tally;
mod trust;

use crate::algorithm::Algorithm;
use crate::attack::{Assault, Backdoor, Poisoner};
use crate::error::FederatedError;
use crate::job::{FederatedJob, Server};
use crate::local::Trainer;
use crate::population::Population;
use crate::store::ClientStore;
use files::{Open, Place};
use phalanx_comm::control::{self, Board};
use phalanx_comm::{Communicator, Rank, verify_plan};
use phalanx_data::Dataset;
use phalanx_grad::Senders;
use phalanx_robust::Robust;
use phalanx_robust::attack::Attack;
use phalanx_train::events::{EvalDone, Event, RunFinished, RunStarted, Split, WarningRaised};
use phalanx_train::{FederatedFigures, HostBackend, Score, Summary, evaluate_telling, peak_rss_bytes};
use sha2::{Digest, Sha256};
use std::sync::Arc;
use std::time::{Duration, Instant};
use tally::Tally;

/// What a run gave, from rank 0.
#[derive(Clone, Debug)]
pub struct FederatedOutcome {
    /// What `summary.json` says.
    pub summary: Summary,
    /// The final model, statistics last.
    pub model: Vec<f32>,
}

/// Trains on this rank.
///
/// # Collective
/// Every rank of `comm`, with equal jobs; a job that differs is an error on all before the first round.
///
/// # Numerics
/// The same bits for every number of ranks, for threads and processes, and after a resume, on CPUs of one vector width.
///
/// # Errors
/// This rank's own error; another's comes as [`FederatedError::Comm`].
pub fn run_rank<B: HostBackend>(
    job: &FederatedJob<B>,
    comm: &Arc<dyn Communicator>,
) -> Result<Option<FederatedOutcome>, FederatedError> {
    let mut run = Run::start(job, comm)?;
    run.rounds()?;
    run.finish()
}

/// Checks what can be known before any rank starts.
///
/// # Errors
/// [`FederatedError::TooFewClients`] when fewer clients than a round asks for have samples, and whatever is wrong with
/// attackers.
pub fn check<B: HostBackend>(job: &FederatedJob<B>) -> Result<(), FederatedError> {
    let poisoner = Poisoner::new(Arc::clone(&job.data.train), &job.attackers, job.config.seed)?;
    Backdoor::of(&job.data.test, &job.attackers, &poisoner)?;
    population(job, &poisoner).map(drop)
}

/// The clients, without samples that only attackers hold.
fn population<B: HostBackend>(
    job: &FederatedJob<B>,
    poisoner: &Poisoner,
) -> Result<Population, FederatedError> {
    let tails = poisoner.tails();
    let mut samples = job.clients.clone();
    samples.iter_mut().for_each(|samples| samples.retain(|i| !tails.contains(i)));
    let clients = samples.iter().filter(|samples| !samples.is_empty()).count();
    let per_round = job.config.cohort.per_round;
    if per_round == 0 || clients < per_round {
        return Err(FederatedError::TooFewClients { per_round, clients });
    }
    Population::new(samples, &job.attackers)
}

struct Run<'a, B: HostBackend> {
    job: &'a FederatedJob<B>,
    comm: Arc<dyn Communicator>,
    population: Population,
    sizes: Vec<u64>,
    poisoner: Poisoner,
    backdoor: Option<Backdoor>,
    trainer: Trainer<B>,
    /// The server's model, statistics last.
    model: Vec<f32>,
    /// Its trainable parameters.
    trainable: usize,
    algorithm: Box<dyn Algorithm>,
    rule: Robust,
    /// One for each attacker that forges.
    forgers: Vec<Option<Box<dyn Attack>>>,
    controls: Option<ClientStore>,
    momenta: Option<ClientStore>,
    /// This rank's coordinates of all updates.
    parts: Vec<f32>,
    place: Place,
    tally: Tally,
    open: Option<Open>,
    started: Instant,
    times: Times,
    last_loss: Option<f64>,
    last_validation: Option<(u64, Score)>,
    last_saved: Option<u64>,
    best: Option<(u64, f64)>,
    stopped: bool,
}

/// How long this process took.
#[derive(Clone, Copy, Debug, Default)]
struct Times {
    rounds: u64,
    samples: u64,
    whole: Duration,
    training: Duration,
}

impl<'a, B: HostBackend> Run<'a, B> {
    fn start(job: &'a FederatedJob<B>, comm: &Arc<dyn Communicator>) -> Result<Self, FederatedError> {
        let Server { mut algorithm, rule } = (job.server)();
        let rule = rule.over(Senders::Clients);
        let described = format!(
            "{}; {}; {}; {}; {:?}; {:?}",
            job.name,
            job.plan.describe(),
            algorithm.name(),
            rule.rule().name(),
            job.config,
            job.attackers
        );
        let digest = Sha256::digest(described.as_bytes());
        let hash = digest.iter().take(8).fold(0, |hash, byte| hash << 8 | u64::from(*byte));
        verify_plan(&**comm, hash, &described)?;
        let poisoner = Poisoner::new(Arc::clone(&job.data.train), &job.attackers, job.config.seed)?;
        let backdoor = Backdoor::of(&job.data.test, &job.attackers, &poisoner)?;
        let population = population(job, &poisoner)?;
        let trainer =
            Trainer::new(job.backend.clone(), Arc::clone(&job.net), job.task, &job.plan, job.config.seed)?;
        let (model, trainable) = (trainer.model(), job.plan.params.grad_len());
        algorithm.prepare(trainable);
        let controls = algorithm.control().map(|_| ClientStore::new("controls", trainable));
        let momenta = job.config.client_momentum.map(|_| ClientStore::new("momenta", model.len()));
        let mut run = Run {
            job,
            comm: Arc::clone(comm),
            sizes: population.sizes(),
            population,
            forgers: forge::forgers(job),
            poisoner,
            backdoor,
            trainer,
            model,
            trainable,
            algorithm,
            rule,
            controls,
            momenta,
            parts: Vec::new(),
            place: Place { batch: job.config.local.batch as u64, ..Place::default() },
            tally: Tally::default(),
            open: None,
            started: Instant::now(),
            times: Times::default(),
            last_loss: None,
            last_validation: None,
            last_saved: None,
            best: None,
            stopped: false,
        };
        run.open_files()?;
        run.tell_start()?;
        Ok(run)
    }

    fn is_root(&self) -> bool {
        self.comm.rank() == Rank::ZERO
    }

    fn board(&self) -> &Board {
        &self.job.board
    }

    fn enter(&self, phase: control::Phase) {
        self.board().enter(self.comm.rank(), self.place.round + 1, phase);
    }

    fn assault(&self) -> Assault<'a> {
        Assault(&self.job.attackers)
    }

    fn tell_start(&mut self) -> Result<(), FederatedError> {
        let job = self.job;
        self.write(&Event::RunStarted(RunStarted {
            name: job.name.clone(),
            version: env!("CARGO_PKG_VERSION").to_owned(),
            step: self.place.round,
            samples: self.place.samples,
            ranks: self.comm.size().get() as u64,
            batch: self.place.batch,
            seed: job.config.seed,
            model: job.model.clone(),
            parameters: job.plan.params.count() as u64,
            train_samples: job.data.train.len() as u64,
            planned_steps: Some(job.config.rounds),
            between_nodes: self.comm.tuning().map(Into::into),
        }))?;
        let empty = self.sizes.iter().filter(|samples| **samples == 0).count();
        if empty > 0 {
            self.warn(format!(
                "{empty} of {} clients have no samples and are never asked",
                self.sizes.len()
            ))?;
        }
        Ok(())
    }

    fn rounds(&mut self) -> Result<(), FederatedError> {
        let config = &self.job.config;
        while self.place.round < config.rounds && !self.stopped {
            let began = Instant::now();
            self.stopped = self.round()?;
            self.times.whole += began.elapsed();
            self.times.rounds += 1;
            let round = self.place.round;
            if config.eval_every > 0 && round.is_multiple_of(config.eval_every) {
                self.evaluate()?;
            }
            if config.checkpoint_every > 0 && round.is_multiple_of(config.checkpoint_every) {
                self.save()?;
            }
        }
        Ok(())
    }

    /// Scores the model on the validation set and the backdoor, once a round.
    fn evaluate(&mut self) -> Result<(), FederatedError> {
        if self.last_validation.is_some_and(|(round, _)| round == self.place.round) {
            return Ok(());
        }
        if let Some(data) = self.job.data.validation.clone() {
            let score = self.score(&*data, Split::Validation)?;
            self.last_validation = Some((self.place.round, score));
            if self.best.is_none_or(|(_, least)| score.loss < least) {
                self.best = Some((self.place.round, score.loss));
            }
        }
        self.score_backdoor().map(drop)
    }

    fn score_backdoor(&mut self) -> Result<Option<Score>, FederatedError> {
        let Some(backdoor) = self.backdoor.clone() else { return Ok(None) };
        self.score(&backdoor, Split::Backdoor).map(Some)
    }

    fn score(&mut self, data: &dyn Dataset, split: Split) -> Result<Score, FederatedError> {
        self.enter(control::Phase::Evaluate);
        self.trainer.load(&self.model);
        let job = self.job;
        let tick = || job.board.tick(self.comm.rank());
        let tile = job.plan.tile.clamp(1, 256);
        let graph = self.trainer.graph_mut();
        let score = evaluate_telling(&*self.comm, graph, &*job.net, &job.task, data, tile, &tick)?;
        let event = EvalDone {
            step: self.place.round,
            samples: self.place.samples,
            split,
            loss: score.loss,
            accuracy: Some(score.accuracy),
        };
        if self.is_root() {
            job.watch.evaluated(&event);
        }
        self.write(&Event::Eval(event))?;
        Ok(score)
    }

    fn warn(&mut self, message: String) -> Result<(), FederatedError> {
        if self.is_root() {
            self.job.watch.note(&message);
        }
        self.write(&Event::Warning(WarningRaised { step: self.place.round, message }))
    }

    fn finish(mut self) -> Result<Option<FederatedOutcome>, FederatedError> {
        if self.job.files.is_some() {
            self.save()?;
        }
        let (test, backdoor) = match self.stopped {
            true => (None, None),
            false => {
                let test = Arc::clone(&self.job.data.test);
                (Some(self.score(&*test, Split::Test)?), self.score_backdoor()?)
            }
        };
        self.enter(control::Phase::Finish);
        if !self.is_root() {
            return Ok(None);
        }
        let seconds = self.started.elapsed().as_secs_f64();
        self.write(&Event::Finished(RunFinished {
            step: self.place.round,
            samples: self.place.samples,
            seconds,
            stopped: self.stopped,
        }))?;
        let model_sha256 = self.write_model()?;
        let each = |time: Duration| time.as_secs_f64() / self.times.rounds.max(1) as f64;
        let beyond = self.times.whole.saturating_sub(self.times.training);
        let summary = Summary {
            name: self.job.name.clone(),
            version: env!("CARGO_PKG_VERSION").to_owned(),
            model: self.job.model.clone(),
            parameters: self.job.plan.params.count() as u64,
            test_accuracy: test.map(|t| t.accuracy),
            test_loss: test.map(|t| t.loss),
            train_loss: self.last_loss,
            best_validation_loss: self.best.map(|(_, loss)| loss),
            best_validation_step: self.best.map(|(round, _)| round),
            samples_per_second: self.times.samples as f64 / self.times.whole.as_secs_f64().max(1e-9),
            seconds,
            steps: self.place.round,
            samples: self.place.samples,
            epochs: self.place.samples / self.job.data.train.len().max(1) as u64,
            ranks: self.comm.size().get() as u64,
            peak_rss_bytes: peak_rss_bytes(),
            final_batch: self.place.batch,
            exposed_comm_share: self.comm.stats().exposed.as_secs_f64() / seconds.max(1e-9),
            skipped_steps: self.tally.unusable,
            federated: Some(FederatedFigures {
                clients: self.population.len() as u64,
                unusable_rounds: self.tally.unusable,
                updates: self.tally.honest + self.tally.hostile,
                hostile_updates: self.tally.hostile,
                caught: self.tally.caught(),
                wronged: self.tally.wronged(),
                backdoor_accuracy: backdoor.map(|score| score.accuracy),
                round_seconds: each(self.times.whole),
                server_seconds: each(beyond),
            }),
            resumes: self.place.resumes,
            stopped: self.stopped,
            model_sha256,
            ..Summary::default()
        };
        if let Some(files) = &self.job.files {
            summary.write(&files.paths.summary())?;
        }
        Ok(Some(FederatedOutcome { summary, model: self.model }))
    }
}
