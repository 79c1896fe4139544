//! Made-up samples: each is a function of its number, so that tiles cut one sequence wherever they begin.

use super::splitmix::{hash, symmetric};
use super::tiles::Tile;
use phalanx_nn::Task;

/// The samples `first..first + samples`.
pub(crate) fn made_up(task: Task, first: usize, samples: usize) -> Tile {
    let range = |len: usize| (first * len) as u64..((first + samples) * len) as u64;
    let below = |stream, n: usize, len| range(len).map(|i| (hash(7, stream, i) % n as u64) as u32).collect();
    let labels = below(0, task.outputs(), task.labels_per_sample());
    let (features, tokens) = match task {
        Task::Classify { features, .. } => {
            (range(features.len()).map(|i| symmetric(7, 1, i) as f32).collect(), Vec::new())
        }
        Task::Predict { vocab, context } => (Vec::new(), below(2, vocab, context)),
    };
    Tile { task, samples, features, tokens, labels }
}
