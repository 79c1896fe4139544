//! One round: who takes part, what they send, and what is told of it.

use super::Run;
use super::aggregate::{Outcome, is_rejected};
use crate::algorithm::Work;
use crate::attack::Conduct;
use crate::cohort::Cohort;
use crate::config::{Length, LocalConfig};
use crate::error::FederatedError;
use crate::local::Local;
use crate::store::share;
use phalanx_comm::{Communicator, CommunicatorExt, control};
use phalanx_grad::Rejected;
use phalanx_robust::Report;
use phalanx_train::HostBackend;
use phalanx_train::events::{ClientDone, Event, RankLeftOut, RoundDone, StepDone};
use std::ops::Range;
use std::time::Instant;

/// What the clients of a round sent: vectors of this rank's share of them, figures of all.
#[derive(Debug, Default)]
pub(super) struct Sent {
    /// Updates, one after the other.
    pub(super) rows: Vec<f32>,
    /// Control variates, as they were before.
    pub(super) controls: Vec<f32>,
    /// Last local gradients, where the batch follows them.
    pub(super) gradients: Vec<f32>,
    /// Of all clients.
    pub(super) work: Vec<Work>,
    /// Of all clients.
    figures: Vec<Figures>,
}

/// What a client tells of its training.
#[derive(Clone, Copy, Debug, Default)]
struct Figures {
    steps: f64,
    seen: f64,
    loss: f64,
    accuracy: f64,
    is_finite: f64,
}

impl Figures {
    const LEN: usize = 5;

    fn pack(self) -> [f64; Self::LEN] {
        [self.steps, self.seen, self.loss, self.accuracy, self.is_finite]
    }

    fn unpack(packed: &[f64]) -> Self {
        Figures {
            steps: packed[0],
            seen: packed[1],
            loss: packed[2],
            accuracy: packed[3],
            is_finite: packed[4],
        }
    }
}

/// Where a rank's share of the clients stands among all.
pub(super) fn places(clients: &[u64], comm: &dyn Communicator) -> Range<usize> {
    let (ranks, me) = (comm.size().get(), comm.rank().index());
    let first = (0..me).map(|rank| share(clients, rank, ranks).len()).sum();
    first..first + share(clients, me, ranks).len()
}

impl<B: HostBackend> Run<'_, B> {
    /// Makes one round; whether some rank asks for a stop after it.
    ///
    /// # Collective
    /// Every rank.
    pub(super) fn round(&mut self) -> Result<bool, FederatedError> {
        let (began, round) = (Instant::now(), self.place.round + 1);
        self.enter(control::Phase::Data);
        let (forced, away) = self.assault().timed(round);
        let config = &self.job.config;
        let cohort = config.cohort.draw(&self.sizes, &forced, &away, config.seed, round);
        let clients = &cohort.clients[..];
        let lr = self.lr(round);
        let mut sent = self.train(round, clients, lr)?;
        self.enter(control::Phase::Reduce);
        let stop = self.share_figures(clients, &mut sent, lr)?;
        self.average_over_time(clients, &mut sent)?;
        self.forge(clients, &mut sent.rows)?;
        let norms = self.norms(clients, &sent)?;
        self.enter(control::Phase::Update);
        let result = self.aggregate(clients, &mut sent)?;
        self.grow(clients, &sent)?;
        let samples = sent.figures.iter().map(|figures| whole(figures.seen)).sum::<u64>();
        (self.place.round, self.place.samples) = (round, self.place.samples + samples);
        self.times.samples += samples;
        self.tell(&cohort, &sent, &norms, result, (lr, samples, began))?;
        Ok(stop)
    }

    /// The local learning rate of a round.
    pub(super) fn lr(&self, round: u64) -> f64 {
        let LocalConfig { lr, lr_decay, .. } = self.job.config.local;
        let rounds = i32::try_from(round - 1).unwrap_or(i32::MAX);
        lr * lr_decay.powi(rounds)
    }

    /// How a client trains; attackers may train longer.
    pub(super) fn local(&self, client: u64) -> LocalConfig {
        let config = LocalConfig {
            batch: usize::try_from(self.place.batch).unwrap_or(usize::MAX),
            ..self.job.config.local
        };
        let longer = self.assault().poison(client).and_then(|(i, _)| match self.job.attackers[i].conduct {
            Conduct::Poison { epochs, .. } => epochs,
            Conduct::Forge(_) => None,
        });
        longer.map_or(config, |epochs| LocalConfig { length: Length::Epochs(epochs), ..config })
    }

    /// Trains this rank's share of the clients.
    fn train(&mut self, round: u64, clients: &[u64], lr: f64) -> Result<Sent, FederatedError> {
        let mut sent = Sent { figures: vec![Figures::default(); clients.len()], ..Sent::default() };
        if let Some(store) = &self.controls {
            sent.controls = store.fetch(&*self.comm, clients)?;
        }
        let began = Instant::now();
        let places = places(clients, &*self.comm);
        for (at, client) in places.clone().zip(&clients[places]) {
            self.enter(control::Phase::Backward);
            let data = self.poisoner.data(*client, self.population.samples(*client), &self.job.attackers)?;
            let first = sent.rows.len() / self.model.len().max(1);
            let own = sent.controls.chunks_exact(self.trainable.max(1)).nth(first);
            let local = Local {
                seed: self.job.config.seed,
                round,
                client: *client,
                config: self.local(*client),
                lr,
                proximal: self.algorithm.proximal(),
                control: self.algorithm.control().zip(own),
                ball: self.assault().ball(*client),
            };
            let mut optimizer = (self.job.optimizer)();
            let trained = self.trainer.train(&self.model, &data, &local, &mut *optimizer)?;
            sent.figures[at] = Figures {
                steps: trained.steps as f64,
                seen: trained.seen as f64,
                loss: trained.loss,
                accuracy: trained.accuracy,
                is_finite: f64::from(u8::from(trained.update.iter().all(|x| x.is_finite()))),
            };
            sent.rows.extend(trained.update);
            if self.job.config.local.growth.is_some() {
                sent.gradients.extend(trained.last_gradient);
            }
        }
        self.times.training += began.elapsed();
        Ok(sent)
    }

    /// Tells all ranks the figures of all clients; whether some rank asks for a stop.
    fn share_figures(&mut self, clients: &[u64], sent: &mut Sent, lr: f64) -> Result<bool, FederatedError> {
        // one rank has a figure and the others 0, so that the sum is the figure, bit by bit
        let mut packed: Vec<f64> = sent.figures.iter().flat_map(|figures| figures.pack()).collect();
        packed.push(f64::from(u8::from((self.job.stop)())));
        self.comm.all_reduce_sum(&mut packed)?;
        let stop = packed.pop().unwrap_or(0.0) > 0.0;
        sent.figures = packed.chunks_exact(Figures::LEN).map(Figures::unpack).collect();
        let momentum = self.job.config.local.momentum;
        sent.work = sent.figures.iter().map(|f| Work { steps: whole(f.steps), lr, momentum }).collect();
        debug_assert_eq!(sent.work.len(), clients.len(), "one a client");
        Ok(stop)
    }

    /// Replaces updates by their running means over the rounds of each client.
    fn average_over_time(&mut self, clients: &[u64], sent: &mut Sent) -> Result<(), FederatedError> {
        let (Some(store), Some(beta)) = (&mut self.momenta, self.job.config.client_momentum) else {
            return Ok(());
        };
        let before = store.fetch(&*self.comm, clients)?;
        for (row, before) in sent.rows.iter_mut().zip(before) {
            #[expect(clippy::cast_possible_truncation, reason = "rounded once")]
            let mean = (beta * f64::from(before) + (1.0 - beta) * f64::from(*row)) as f32;
            *row = mean;
        }
        let figures = &sent.figures;
        let is_finite = |client: u64| {
            let at = clients.iter().position(|other| *other == client);
            at.is_some_and(|at| figures[at].is_finite > 0.0)
        };
        Ok(store.put(&*self.comm, clients, is_finite, &sent.rows)?)
    }

    /// The norm of what each client sent.
    fn norms(&self, clients: &[u64], sent: &Sent) -> Result<Vec<f64>, FederatedError> {
        let mut norms = vec![0.0; clients.len()];
        let rows = sent.rows.chunks_exact(self.model.len().max(1));
        for (norm, row) in norms[places(clients, &*self.comm)].iter_mut().zip(rows) {
            *norm = self.job.backend.moments(row).sum_sq.sqrt();
        }
        self.comm.all_reduce_sum(&mut norms)?;
        Ok(norms)
    }

    /// Counts and tells what became of the round.
    fn tell(
        &mut self,
        cohort: &Cohort,
        sent: &Sent,
        norms: &[f64],
        result: Outcome,
        (lr, samples, began): (f64, u64, Instant),
    ) -> Result<(), FederatedError> {
        let (round, clients) = (self.place.round, &cohort.clients);
        let (report, norm, unusable) = match result {
            Outcome::Moved { norm, report } => (report, Some(norm), None),
            Outcome::Unusable(cause) => (Report::default(), None, Some(cause.to_string())),
        };
        let mut event = RoundDone {
            step: round,
            absent: cohort.absent.iter().map(|absent| absent.client).collect(),
            unusable,
            ..RoundDone::default()
        };
        for ((client, figures), norm) in clients.iter().zip(&sent.figures).zip(norms) {
            let is_hostile = self.population.is_hostile(*client);
            let is_left_out = is_rejected(&report.rejected, *client);
            if event.unusable.is_none() {
                self.tally.count(is_hostile, is_left_out);
                event.caught += u64::from(is_hostile && is_left_out);
                event.wronged += u64::from(!is_hostile && is_left_out);
            }
            event.clients.push(ClientDone {
                client: *client,
                samples: self.population.samples(*client).len() as u64,
                steps: whole(figures.steps),
                loss: figures.loss,
                accuracy: figures.accuracy,
                norm: *norm,
                hostile: is_hostile,
                left_out: reason(&report.rejected, *client),
                score: score(&report, *client),
            });
        }
        let trained: f64 = sent.figures.iter().map(|figures| figures.seen).sum();
        let loss =
            sent.figures.iter().map(|figures| figures.loss * figures.seen).sum::<f64>() / trained.max(1.0);
        self.last_loss = Some(loss);
        let seconds = began.elapsed().as_secs_f64();
        let done = StepDone {
            step: round,
            samples: self.place.samples,
            loss,
            lr,
            batch: self.place.batch * clients.len() as u64,
            grad_norm: norm,
            samples_per_second: samples as f64 / seconds.max(1e-9),
            seconds: self.started.elapsed().as_secs_f64(),
            skipped: event.unusable.is_some(),
            ..StepDone::default()
        };
        if let Some(cause) = &event.unusable {
            self.tally.unusable += 1;
            self.warn(format!("round {round} leaves the model as it was: {cause}"))?;
        }
        if self.is_root() {
            let total = self.place.samples / round * self.job.config.rounds;
            let accuracy = self.last_validation.map(|(_, score)| score.accuracy);
            self.job.watch.step(&done, total.max(1), accuracy);
        }
        self.write(&Event::Step(done))?;
        self.write(&Event::Round(event))
    }
}

/// Why a client was left out, as events tell it.
fn reason(rejected: &[Rejected], client: u64) -> Option<String> {
    rejected.iter().find(|rejected| rejected.id == client).map(|rejected| RankLeftOut::from(rejected).reason)
}

/// The score that the last filter or rule that saw a client gave it.
fn score(report: &Report, client: u64) -> Option<f64> {
    let of_stage = |ids: &[u64], scores: &[f64]| {
        let at = ids.iter().position(|id| *id == client)?;
        scores.get(at).copied()
    };
    report.stages.iter().rev().find_map(|stage| of_stage(&stage.ids, &stage.scores))
}

#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "a count that was summed as a float"
)]
fn whole(packed: f64) -> u64 {
    packed as u64
}
