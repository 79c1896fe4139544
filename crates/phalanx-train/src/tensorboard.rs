//! TensorBoard event files: scalars of a run, readable while it trains and after a crash.
//!
//! Written by hand, since no maintained crate does: a file is a sequence of framed protobuf messages, of
//! which scalars need four fields.
//!
//! # Reference
//! `tensorflow/core/util/event.proto`, `tensorflow/core/framework/summary.proto`, and
//! `tensorflow/core/lib/io/record_writer.h` of TensorFlow.
use std::fs::{self, File};
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::time::{SystemTime, UNIX_EPOCH};

use crate::ArtefactError;
use crate::events::{Event, Split};

mod proto;
mod record;

/// Bytes after which the buffer is written out.
const BUFFER_LEN: usize = 1 << 14;

/// Writes the scalars of one process's part of a run.
#[derive(Debug)]
pub struct TensorBoard {
    path: PathBuf,
    file: File,
    message: Vec<u8>,
    buffer: Vec<u8>,
}

impl TensorBoard {
    /// Begins a file in `dir`, which is made if need be. A resumed run begins a file of its own and says
    /// so with [`resume`](Self::resume).
    ///
    /// # Errors
    /// [`ArtefactError::Io`].
    pub fn create(dir: &Path) -> Result<Self, ArtefactError> {
        fs::create_dir_all(dir).map_err(ArtefactError::io("make", dir))?;
        let now = now();
        let (path, file) = new_file(dir, now).map_err(ArtefactError::io("make a file in", dir))?;
        let mut this = Self { path, file, message: Vec::new(), buffer: Vec::with_capacity(2 * BUFFER_LEN) };
        proto::version(&mut this.message, now);
        this.push()?;
        this.flush()?;
        Ok(this)
    }

    /// Makes TensorBoard forget what an earlier process wrote for the steps after `step`.
    ///
    /// # Errors
    /// [`ArtefactError::Io`].
    pub fn resume(&mut self, step: u64) -> Result<(), ArtefactError> {
        proto::session_start(&mut self.message, now(), step.saturating_add(1));
        self.push()?;
        self.flush()
    }

    /// Writes named values of a step.
    ///
    /// # Numerics
    /// TensorBoard stores scalars as `f32`.
    ///
    /// # Errors
    /// [`ArtefactError::Io`] if it was time to write, and that failed.
    pub fn scalars(&mut self, step: u64, scalars: &[(&str, f64)]) -> Result<(), ArtefactError> {
        proto::scalars(&mut self.message, now(), step, scalars);
        self.push()?;
        if self.buffer.len() < BUFFER_LEN { Ok(()) } else { self.flush() }
    }

    /// Writes the numbers of an event under TensorBoard's usual names: `train/loss`, `validation/accuracy`.
    ///
    /// # Errors
    /// As [`scalars`](Self::scalars).
    pub fn event(&mut self, event: &Event) -> Result<(), ArtefactError> {
        match event {
            Event::Step(step) => {
                let always = [
                    ("train/loss", step.loss),
                    ("train/learning_rate", step.lr),
                    ("train/batch", step.batch as f64),
                    ("speed/samples_per_second", step.samples_per_second),
                    ("speed/exposed_comm_seconds", step.exposed_comm_seconds),
                ];
                self.scalars(step.step, &always)?;
                let statistics = step.statistics.as_ref();
                let measured = [
                    ("train/grad_norm", step.grad_norm),
                    ("train/grad_norm_l1", step.grad_norm_l1),
                    ("batch/target", step.target),
                    ("gradient/variance", statistics.and_then(|s| s.variance)),
                    ("gradient/signal", statistics.and_then(|s| s.signal)),
                    ("gradient/noise_scale", statistics.and_then(|s| s.noise_scale)),
                    ("gradient/coherence", statistics.and_then(|s| s.coherence)),
                    ("gradient/variance_along", statistics.and_then(|s| s.variance_along)),
                    ("gradient/variance_across", statistics.and_then(|s| s.variance_across)),
                    ("gradient/coordinate_ratio", statistics.and_then(|s| s.coordinate_ratio)),
                ];
                let measured = measured.into_iter().filter_map(|(name, value)| Some((name, value?)));
                self.scalars(step.step, &measured.collect::<Vec<_>>())
            }
            Event::Aggregated(round) => {
                self.scalars(round.step, &[("aggregation/left_out", round.left_out.len() as f64)])?;
                let of = if round.over.is_some() { "node" } else { "rank" };
                let scores = round
                    .left_out
                    .iter()
                    .filter_map(|one| Some((format!("aggregation/score_of_{of}_{}", one.rank), one.score?)));
                let scores: Vec<(String, f64)> = scores.collect();
                let scores: Vec<(&str, f64)> =
                    scores.iter().map(|(name, score)| (name.as_str(), *score)).collect();
                self.scalars(round.step, &scores)
            }
            Event::Round(round) => {
                let norms = round.clients.iter().map(|client| client.norm);
                let counts = [
                    ("round/clients", round.clients.len() as f64),
                    ("round/absent", round.absent.len() as f64),
                    ("round/caught", round.caught as f64),
                    ("round/wronged", round.wronged as f64),
                    ("round/greatest_norm", norms.fold(0.0, f64::max)),
                ];
                self.scalars(round.step, &counts)
            }
            Event::Eval(eval) => {
                let (loss, accuracy) = eval_tags(eval.split);
                self.scalars(eval.step, &[(loss, eval.loss)])?;
                let accuracy = eval.accuracy.map(|value| (accuracy, value));
                self.scalars(eval.step, accuracy.as_slice())?;
                // evaluations are rare, and what a user waits for
                self.flush()
            }
            Event::Finished(_) | Event::Failure(_) => self.flush(),
            _ => Ok(()),
        }
    }

    /// Writes out what is buffered.
    ///
    /// # Errors
    /// [`ArtefactError::Io`]; the buffered scalars are then lost.
    pub fn flush(&mut self) -> Result<(), ArtefactError> {
        let result = self.file.write_all(&self.buffer);
        self.buffer.clear();
        result.map_err(ArtefactError::io("write", &self.path))
    }

    /// The file.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Frames the message into the buffer.
    fn push(&mut self) -> Result<(), ArtefactError> {
        record::frame(&mut self.buffer, &self.message);
        self.message.clear();
        Ok(())
    }
}

impl Drop for TensorBoard {
    fn drop(&mut self) {
        if let Err(error) = self.flush() {
            tracing::warn!(%error, "the last scalars for TensorBoard are lost");
        }
    }
}

fn eval_tags(split: Split) -> (&'static str, &'static str) {
    match split {
        Split::Train => ("train_eval/loss", "train_eval/accuracy"),
        Split::Validation => ("validation/loss", "validation/accuracy"),
        Split::Test => ("test/loss", "test/accuracy"),
        Split::Backdoor => ("backdoor/loss", "backdoor/accuracy"),
    }
}

/// Seconds since 1970: TensorBoard orders the files of a run by it.
fn now() -> f64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0.0, |since| since.as_secs_f64())
}

/// A file of a name that is free and sorts after those of earlier processes.
fn new_file(dir: &Path, now: f64) -> io::Result<(PathBuf, File)> {
    let pid = std::process::id();
    for number in 0..u32::MAX {
        let path = dir.join(format!("events.out.tfevents.{:010}.phalanx.{pid}.{number}", now.trunc()));
        match File::create_new(&path) {
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
            result => return result.map(|file| (path, file)),
        }
    }
    Err(io::ErrorKind::AlreadyExists.into())
}
