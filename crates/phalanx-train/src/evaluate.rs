//! Scoring a model on a data set, shared over the ranks.

use crate::checkpoint::Checkpoint;
use crate::error::TrainError;
use crate::host::TrainBackend;
use crate::plan::{Plan, Tile, losses};
use crate::state::flat_from;
use phalanx_comm::{Communicator, CommunicatorExt, SoloComm};
use phalanx_data::{BatchBuffers, Dataset, SampleKind, shard_range};
use phalanx_nn::{Graph, Mode, Net, Task};

/// How good a model is on a data set.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Score {
    /// Samples scored.
    pub samples: u64,
    /// Mean loss of a label, in nats.
    pub loss: f64,
    /// Share of labels that were the most likely, 0 to 1.
    pub accuracy: f64,
}

/// Scores the graph's parameters.
///
/// # Collective
/// Every rank; the set is divided tile by tile.
///
/// # Numerics
/// Tiles are cut by `tile` alone and their sums are added in order, in `f64`: the same bits for every number of ranks.
///
/// # Errors
/// Those of the model and of the communicator.
pub fn evaluate<B: TrainBackend>(
    comm: &dyn Communicator,
    graph: &mut Graph<B>,
    net: &dyn Net<B>,
    task: &Task,
    data: &dyn Dataset,
    tile: usize,
) -> Result<Score, TrainError> {
    evaluate_telling(comm, graph, net, task, data, tile, &|| {})
}

/// As [`evaluate`], and calls `tile_done` after each tile.
///
/// # Collective
/// As [`evaluate`].
///
/// # Errors
/// As [`evaluate`].
pub fn evaluate_telling<B: TrainBackend>(
    comm: &dyn Communicator,
    graph: &mut Graph<B>,
    net: &dyn Net<B>,
    task: &Task,
    data: &dyn Dataset,
    tile: usize,
    tile_done: &dyn Fn(),
) -> Result<Score, TrainError> {
    let tiles = data.len().div_ceil(tile.max(1));
    let mut sums = vec![0.0; 2 * tiles];
    let (mut buffers, mut indices, mut rows) = (BatchBuffers::default(), Vec::new(), Vec::new());
    for t in shard_range(tiles, comm.rank().index(), comm.size().get()) {
        indices.clear();
        indices.extend(t * tile..((t + 1) * tile).min(data.len()));
        data.fill(&indices, &mut buffers);
        graph.reset(Mode::Eval, 0, 0);
        let held = Tile {
            features: buffers.features(),
            tokens: buffers.tokens(),
            labels: buffers.labels(),
            samples: indices.len(),
        };
        let (loss, hits) = losses(net, graph, task, &held)?;
        rows.resize(loss.shape().len(), 0.0_f32);
        loss.read(&mut rows);
        sums[2 * t] = rows.iter().map(|l| f64::from(*l)).sum();
        #[expect(clippy::cast_precision_loss, reason = "counts are far below 2^52")]
        {
            sums[2 * t + 1] = hits.count() as f64;
        }
        tile_done();
    }
    graph.reset(Mode::Train, 0, 0);
    graph.backend().check()?;
    comm.all_reduce_sum(&mut sums)?;
    #[expect(clippy::cast_precision_loss, reason = "counts are far below 2^52")]
    let labels = (data.len() * task.labels_per_sample()).max(1) as f64;
    let total = |which: usize| sums.iter().skip(which).step_by(2).sum::<f64>() / labels;
    Ok(Score { samples: data.len() as u64, loss: total(0), accuracy: total(1) })
}

/// What a data set's samples are to a model.
#[must_use]
pub fn task_of(kind: &SampleKind) -> Task {
    match kind {
        SampleKind::Classification { features, classes } => {
            Task::Classify { features: phalanx_tensor::Shape::new(features), classes: *classes }
        }
        SampleKind::Language { vocab, context } => Task::Predict { vocab: *vocab, context: *context },
    }
}

/// Scores a checkpoint on this process alone.
///
/// # Errors
/// [`TrainError::Resume`] when the checkpoint is of another model, and those of the model.
pub fn score_checkpoint<B: TrainBackend>(
    backend: B,
    plan: &Plan,
    net: &dyn Net<B>,
    task: &Task,
    held: &Checkpoint,
    data: &dyn Dataset,
) -> Result<Score, TrainError> {
    let mut graph = Graph::new(backend, plan.params.clone(), 0)?;
    graph.set_params(&flat_from(&plan.params, &held.model)?);
    evaluate(&SoloComm::new(), &mut graph, net, task, data, plan.score_tile())
}
