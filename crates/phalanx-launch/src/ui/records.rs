//! Progress as log records, where logs are read by programs.

use super::{Evaluated, Progress, Ui};

/// Emits `tracing` events of target `phalanx::progress`.
#[derive(Debug, Clone, Copy)]
pub struct Records;

impl Ui for Records {
    fn progress(&self, now: &Progress) {
        tracing::info!(
            target: "phalanx::progress",
            step = now.step,
            samples = now.samples,
            total_samples = now.total_samples,
            loss = now.loss,
            accuracy = now.accuracy,
            samples_per_second = now.samples_per_second,
            batch = now.batch,
            left_out = (!now.left_out.numbers.is_empty()).then(|| tracing::field::debug(&now.left_out.numbers)),
            "progress"
        );
    }

    fn evaluated(&self, score: &Evaluated) {
        tracing::info!(
            target: "phalanx::progress",
            step = score.step,
            validation_loss = score.loss,
            accuracy = score.accuracy,
            "evaluated"
        );
    }

    fn transferred(&self, file: &str, done: u64, total: Option<u64>) {
        tracing::debug!(target: "phalanx::progress", file, done, total, "transferred");
    }

    fn note(&self, text: &str) {
        tracing::info!(target: "phalanx::progress", "{text}");
    }

    fn finished(&self) {}
}
