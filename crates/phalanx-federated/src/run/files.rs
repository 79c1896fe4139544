//! What a federated run writes and goes on from: events, checkpoints, the model.

use super::{Run, Tally};
use crate::error::FederatedError;
use phalanx_comm::control;
use phalanx_grad::StateTensor;
use phalanx_train::checkpoint::{Checkpoint, Checkpoints, EpochCursor, Meta, Snapshot};
use phalanx_train::events::{CheckpointSaved, Event, EventWriter};
use phalanx_train::tensorboard::TensorBoard;
use phalanx_train::{
    Files, HostBackend, TrainError, flat_from, gather_parts, model_file, model_tensors, state_of,
    state_tensors,
};
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// The files that rank 0 has open.
pub(super) struct Open {
    events: EventWriter,
    board: Option<TensorBoard>,
    checkpoints: Checkpoints,
}

/// How far a run is: what every rank holds besides model and methods.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(super) struct Place {
    pub(super) round: u64,
    /// Samples that clients trained on.
    pub(super) samples: u64,
    /// The local batch.
    pub(super) batch: u64,
    pub(super) resumes: u64,
}

const ALGORITHM: &str = "algorithm.";
const RULE: &str = "rule.";

fn of_attacker(i: usize) -> String {
    format!("attacker {i}.")
}

fn named<'s>(prefix: &'s str, state: Vec<StateTensor>) -> impl Iterator<Item = StateTensor> + use<'s> {
    state.into_iter().map(move |tensor| StateTensor { name: format!("{prefix}{}", tensor.name), ..tensor })
}

/// The tensors whose names begin with a prefix, without it.
fn under(prefix: &str, state: &[StateTensor]) -> Vec<StateTensor> {
    let tensors = state.iter().filter_map(|tensor| Some((tensor.name.strip_prefix(prefix)?, tensor)));
    tensors.map(|(name, tensor)| StateTensor { name: name.to_owned(), data: tensor.data.clone() }).collect()
}

impl<B: HostBackend> Run<'_, B> {
    /// Goes on from a checkpoint if the run is one that goes on, and opens the files on rank 0.
    pub(super) fn open_files(&mut self) -> Result<(), FederatedError> {
        let Some(files) = &self.job.files else { return Ok(()) };
        if files.resume {
            self.enter(control::Phase::Checkpoint);
            let held = self.load(files)?;
            self.restore(&held)?;
        }
        if self.is_root() {
            self.open = Some(open(files, self.place.round)?);
        }
        Ok(())
    }

    /// The newest good checkpoint. Rank 0 moves refused ones out of the way once all ranks have read theirs.
    fn load(&self, files: &Files) -> Result<Checkpoint, FederatedError> {
        let checkpoints = checkpoints(files);
        if checkpoints.steps()?.is_empty() {
            let dir = files.paths.checkpoints().display().to_string();
            return Err(TrainError::NoCheckpoint { dir }.into());
        }
        let loaded = checkpoints.latest_good()?;
        self.comm.barrier()?;
        if self.is_root() {
            for refused in &loaded.refused {
                let told = format!("checkpoint of round {} is refused: {}", refused.step, refused.cause);
                self.job.watch.note(&told);
                checkpoints.set_aside(refused.step)?;
            }
        }
        Ok(loaded.checkpoint)
    }

    fn restore(&mut self, held: &Checkpoint) -> Result<(), FederatedError> {
        let counter = |name: &str| held.meta.counters.get(name).copied().unwrap_or_default();
        #[expect(
            clippy::cast_possible_truncation,
            reason = "they were single precision when they were saved"
        )]
        let model = flat_from(&self.job.plan.params, &held.model)?.into_iter().map(|x| x as f32).collect();
        self.model = model;
        let state = state_of(held);
        self.algorithm.restore(&under(ALGORITHM, &state))?;
        self.rule.restore(&under(RULE, &state))?;
        for (i, forger) in self.forgers.iter_mut().enumerate() {
            if let Some(forger) = forger {
                forger.restore(&under(&of_attacker(i), &state))?;
            }
        }
        for store in self.controls.iter_mut().chain(&mut self.momenta) {
            store.restore(&*self.comm, &state)?;
        }
        self.place = Place {
            round: held.meta.step,
            samples: held.meta.samples,
            batch: counter("batch"),
            resumes: counter("resumes") + 1,
        };
        self.tally = Tally::of(counter);
        self.best = held.meta.best_validation_loss.map(|loss| (counter("best_round"), loss));
        Ok(())
    }

    /// Writes a checkpoint, once a round, with the validation loss of its model.
    ///
    /// # Collective
    /// Every rank: clients' vectors are gathered.
    pub(super) fn save(&mut self) -> Result<(), FederatedError> {
        if self.last_saved == Some(self.place.round) || self.job.files.is_none() {
            return Ok(());
        }
        self.evaluate()?;
        self.enter(control::Phase::Checkpoint);
        let mut state: Vec<StateTensor> = named(ALGORITHM, self.algorithm.state()).collect();
        let in_parts = gather_parts(&*self.comm, self.model.len(), self.rule.state_in_parts())?;
        state.extend(named(RULE, self.rule.state().into_iter().chain(in_parts).collect()));
        for (i, forger) in self.forgers.iter().enumerate() {
            state.extend(named(
                &of_attacker(i),
                forger.as_ref().map_or_else(Vec::new, |forger| forger.state()),
            ));
        }
        for store in self.controls.iter().chain(&self.momenta) {
            state.extend(store.state(&*self.comm)?);
        }
        self.last_saved = Some(self.place.round);
        let Some(open) = &mut self.open else { return Ok(()) };
        // a run that goes on from the checkpoint finds what came before it told
        open.events.flush()?;
        let began = Instant::now();
        let best_round = self.best.map_or(0, |(round, _)| round);
        let of_place =
            [("batch", self.place.batch), ("resumes", self.place.resumes), ("best_round", best_round)];
        let counters = self.tally.counters().into_iter().chain(of_place);
        let counters: BTreeMap<String, u64> =
            counters.map(|(name, value)| (name.to_owned(), value)).collect();
        let validation = self.last_validation.filter(|(round, _)| *round == self.place.round);
        let meta = Meta {
            step: self.place.round,
            samples: self.place.samples,
            cursor: EpochCursor::default(),
            seed: self.job.config.seed,
            ranks: self.comm.size().get() as u64,
            run_file: self.job.files.as_ref().map(|files| files.run_file.clone()).unwrap_or_default(),
            counters,
            validation_loss: validation.map(|(_, score)| score.loss),
            best_validation_loss: self.best.map(|(_, loss)| loss),
            ..Meta::default()
        };
        let model = model_tensors(&self.job.plan.params, &self.model)?;
        let optimizer = state_tensors(&state)?;
        let saved = open.checkpoints.save(&Snapshot { meta: &meta, model: &model, optimizer: &optimizer })?;
        let event = CheckpointSaved {
            step: self.place.round,
            bytes: saved.bytes,
            seconds: began.elapsed().as_secs_f64(),
            best: self.best.is_some_and(|(round, _)| round == self.place.round),
        };
        self.write(&Event::Checkpoint(event))?;
        if let Some(open) = &mut self.open {
            open.events.flush()?;
        }
        Ok(())
    }

    pub(super) fn write(&mut self, event: &Event) -> Result<(), FederatedError> {
        if let Some(open) = &mut self.open {
            open.events.write(event)?;
            if let Some(board) = &mut open.board {
                board.event(event)?;
            }
        }
        Ok(())
    }

    /// Writes the final model and what is still buffered; returns the model file's checksum.
    pub(super) fn write_model(&mut self) -> Result<String, FederatedError> {
        let Some(files) = &self.job.files else { return Ok(String::new()) };
        let tensors = model_tensors(&self.job.plan.params, &self.model)?;
        let written = model_file::write(&files.paths.model(), &tensors)?;
        if let Some(open) = &mut self.open {
            open.events.flush()?;
            if let Some(board) = &mut open.board {
                board.flush()?;
            }
        }
        Ok(written.sha256)
    }
}

fn checkpoints(files: &Files) -> Checkpoints {
    Checkpoints::new(files.paths.checkpoints(), files.keep, Arc::clone(&files.storage))
}

/// Opens the files of rank 0; those of a run that goes on lose what came after its checkpoint.
fn open(files: &Files, round: u64) -> Result<Open, FederatedError> {
    let flush = Duration::from_secs(1);
    let checkpoints = checkpoints(files);
    checkpoints.prepare()?;
    let events = match files.resume {
        true => EventWriter::resume(&files.paths.events(), round, flush)?,
        false => EventWriter::create(&files.paths.events(), flush)?,
    };
    let mut board = match files.tensorboard {
        true => Some(TensorBoard::create(&files.paths.tensorboard())?),
        false => None,
    };
    if let (Some(board), true) = (&mut board, files.resume) {
        board.resume(round)?;
    }
    Ok(Open { events, board, checkpoints })
}
