//! What a step will look like, known before the first: parameter order, buckets, tiles, memory.

use crate::config::{Reduction, TrainConfig};
use crate::error::TrainError;
use phalanx_compress::{BucketLayout, Matrix};
use phalanx_data::shard_range;
use phalanx_nn::{AnyNet, Coverage, Features, Graph, Hits, Mode, Net, NnError, ParamId, Params, Task, Var};
use phalanx_tensor::{Backend, Meta, Shape};
use std::ops::Range;

/// Parameters whose gradients travel together: a contiguous part of the flat buffer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Bucket {
    /// Elements of the flat buffer.
    pub range: Range<usize>,
    /// Its parameters, in the order of the flat buffer.
    pub params: Vec<ParamId>,
}

impl Bucket {
    /// The bucket as compressors know it.
    pub fn layout(&self, params: &Params) -> BucketLayout {
        let matrices =
            params.iter().filter(|(id, ..)| self.params.contains(id)).filter_map(|(_, spec, span)| {
                let [rows, rest @ ..] = spec.shape.dims() else { return None };
                let offset = span.offset - self.range.start;
                (!rest.is_empty()).then(|| Matrix { offset, rows: *rows, cols: rest.iter().product() })
            });
        let mut matrices: Vec<_> = matrices.collect();
        matrices.sort_by_key(|matrix| matrix.offset);
        BucketLayout { len: self.range.len(), matrices }
    }
}

/// The plan of a run, the same on every rank.
#[derive(Clone, Debug)]
pub struct Plan {
    /// Parameters in the order in which the backward pass finishes them.
    pub params: Params,
    /// Gradient buckets in the order in which they leave.
    pub buckets: Vec<Bucket>,
    /// Most samples run through the network at once.
    pub tile: usize,
    /// Most samples between two additions to the gradient, where the run file or the memory sets a bound.
    pub most_micro: Option<usize>,
    /// Bytes of activations, their gradients and indices that a rank will hold.
    pub arena_bytes: usize,
    /// Floating-point operations of forward and backward pass of one sample.
    pub flops_per_sample: u64,
    /// How operators use the parameters, or why the gradients of samples cannot be told apart.
    pub coverage: Result<Coverage, NnError>,
    /// Most samples scored at once, whatever the tile.
    most_scored: usize,
}

impl Plan {
    /// Runs the model on a device that only counts.
    ///
    /// `share` is the largest number of samples that a rank will have in a batch. Where neither `train.tile` nor
    /// `train.micro_batch` is given, tiles, and micro-batches where they must be whole, are made small enough for
    /// [`TrainConfig::memory_limit`] and [`TrainConfig::device_memory`].
    ///
    /// # Errors
    /// When the model does not fit the data, or the plan not the lesser of these.
    pub fn new(
        net: &dyn AnyNet,
        params: &Params,
        task: &Task,
        config: &TrainConfig,
        share: usize,
    ) -> Result<Self, TrainError> {
        let Counted { arena_bytes: one, order, flops: flops_per_sample, coverage } =
            count(net, params, task, &[1])?;
        let params = params.reordered(&order);
        let keeps_statistics = params.iter().any(|(_, spec, _)| !spec.trainable);
        let micro = config.micro_of(share);
        let automatic = match config.device_memory {
            Some(_) => usize::MAX,
            None => (TrainConfig::TILE_BYTES / one.max(1)).max(1),
        };
        let tile = match config.tile {
            // Batch norm takes its statistics over a tile, which is then the whole micro-batch.
            _ if keeps_statistics => micro,
            0 => automatic.min(micro),
            samples => samples.min(micro),
        };
        let may_shrink = match keeps_statistics {
            // the reproducible mode adds up whole shards
            true => config.micro_batch == 0 && config.reduction == Reduction::Fast,
            false => config.tile == 0,
        };
        let arena = |tile: usize| -> Result<usize, TrainError> {
            let mut distinct: Vec<usize> = tiles(share.max(1), tile).map(|r| r.len()).collect();
            distinct.dedup();
            Ok(count(net, &params, task, &distinct)?.arena_bytes)
        };
        let mut tile = tile.max(1);
        let mut arena_bytes = arena(tile)?;
        let limit = config.memory_limit.into_iter().chain(config.device_memory).min();
        let is_over = |arena_bytes| limit.is_some_and(|limit| rank_bytes(&params, arena_bytes) > limit);
        let mut shrunk = false;
        while may_shrink && tile > 1 && is_over(arena_bytes) {
            (tile, shrunk) = (tile / 2, true);
            arena_bytes = arena(tile)?;
        }
        if let (true, Some(limit)) = (is_over(arena_bytes), limit) {
            return Err(TrainError::Memory { need: rank_bytes(&params, arena_bytes), limit, samples: tile });
        }
        let most_micro = match config.reduction {
            // whole shards are added up, whatever the micro-batch
            Reduction::Reproducible { .. } => None,
            Reduction::Fast if keeps_statistics && shrunk => Some(tile),
            Reduction::Fast => (config.micro_batch > 0).then_some(config.micro_batch),
        };
        let buckets = buckets(&params, config);
        let most_scored = if config.device_memory.is_some() { usize::MAX } else { 256 };
        Ok(Plan { params, buckets, tile, most_micro, arena_bytes, flops_per_sample, coverage, most_scored })
    }

    /// Bytes of a rank: arena, parameters and gradients; optimizer state comes on top.
    #[must_use]
    pub fn rank_bytes(&self) -> u64 {
        rank_bytes(&self.params, self.arena_bytes)
    }

    /// Samples scored at once. Training cuts a share evenly, so that its tiles have at least half of [`Plan::tile`], and
    /// half of it fits the buffers that training holds anyway.
    pub(crate) fn score_tile(&self) -> usize {
        self.tile.div_ceil(2).clamp(1, self.most_scored)
    }

    /// What ranks compare before the first step.
    #[must_use]
    pub fn describe(&self) -> String {
        let buckets = self.buckets.iter().map(|bucket| format!("bucket {:?}", bucket.range));
        let params = self
            .params
            .iter()
            .map(|(_, spec, span)| format!("{} {} at {}", spec.name, spec.shape, span.offset));
        let parts: Vec<String> = [format!("tile {} micro {:?}", self.tile, self.most_micro)]
            .into_iter()
            .chain(buckets)
            .chain(params)
            .collect();
        parts.join("; ")
    }
}

fn rank_bytes(params: &Params, arena_bytes: usize) -> u64 {
    (arena_bytes + 4 * (params.flat_len() + params.grad_len())) as u64
}

/// Cuts a share into tiles as equal as can be: a function of the share alone, so that it is the same everywhere.
pub fn tiles(share: usize, tile: usize) -> impl Iterator<Item = Range<usize>> + Clone {
    let parts = share.div_ceil(tile.max(1));
    (0..parts).map(move |part| shard_range(share, part, parts))
}

/// What passes over tiles of some sizes show.
struct Counted {
    arena_bytes: usize,
    /// The order in which gradients are finished.
    order: Vec<ParamId>,
    /// Of one sample.
    flops: u64,
    coverage: Result<Coverage, NnError>,
}

/// Runs the model on a device that only counts.
fn count(net: &dyn AnyNet, params: &Params, task: &Task, sizes: &[usize]) -> Result<Counted, TrainError> {
    let meta = Meta::<f32>::new();
    let mut graph = Graph::new(meta.clone(), params.clone(), 0)?;
    let mut order = Vec::new();
    let mut coverage = Coverage::of(&graph);
    let mut samples = 0;
    for size in sizes {
        graph.reset(Mode::Train, 0, 0);
        let mut sink = phalanx_nn::FlatSink::new(&graph)?;
        let features = match task {
            Task::Classify { features, .. } => vec![0.0; size * features.len()],
            Task::Predict { .. } => Vec::new(),
        };
        let indices = vec![0; size * task.labels_per_sample()];
        let batch = Tile { features: &features, tokens: &indices, labels: &indices, samples: *size };
        let (loss, _) = losses::<Meta<f32>>(net, &graph, task, &batch)?;
        order = graph.completion_order();
        coverage = Coverage::of(&graph);
        graph.backward(loss, 1.0, &mut sink)?;
        samples += size;
    }
    let flops = meta.flops() / samples.max(1) as u64;
    Ok(Counted { arena_bytes: graph.arena_bytes(), order, flops, coverage })
}

/// The samples of a tile on the host.
#[derive(Clone, Copy, Debug)]
pub struct Tile<'a> {
    /// Features, sample after sample; empty for text.
    pub features: &'a [f32],
    /// Tokens, sample after sample; empty but for text.
    pub tokens: &'a [u32],
    /// Labels, sample after sample.
    pub labels: &'a [u32],
    /// How many samples there are.
    pub samples: usize,
}

/// Losses of a tile, one a label, and how many labels were the most likely, both on the device.
///
/// # Errors
/// Those of the model.
pub fn losses<'g, B: Backend<Elem = f32>>(
    net: &(impl Net<B> + ?Sized),
    graph: &'g Graph<B>,
    task: &Task,
    tile: &Tile<'_>,
) -> Result<(Var<'g, B>, Hits<'g, B>), NnError> {
    let features = match *task {
        Task::Classify { features, .. } => {
            let mut dims = vec![tile.samples];
            dims.extend_from_slice(features.dims());
            Features::Dense(graph.input(tile.features, Shape::new(&dims))?)
        }
        Task::Predict { vocab, context } => {
            Features::Tokens { ids: graph.ids(tile.tokens, vocab)?, samples: tile.samples, time: context }
        }
    };
    losses_of(net, graph, task, features, tile.labels)
}

/// [`losses`] of features that are on the device.
pub(crate) fn losses_of<'g, B: Backend<Elem = f32>>(
    net: &(impl Net<B> + ?Sized),
    graph: &'g Graph<B>,
    task: &Task,
    features: Features<'g, B>,
    labels: &[u32],
) -> Result<(Var<'g, B>, Hits<'g, B>), NnError> {
    let labels = graph.ids(labels, task.outputs())?;
    net.logits(graph, features)?.cross_entropy(labels)
}

/// Cuts the flat buffer: the first bucket small, so that communication begins early, the others large.
fn buckets(params: &Params, config: &TrainConfig) -> Vec<Bucket> {
    let mut buckets: Vec<Bucket> = Vec::new();
    let mut now = Bucket { range: 0..0, params: Vec::new() };
    let order = params.order();
    for (i, id) in order.iter().enumerate() {
        let end = order.get(i + 1).map_or(params.grad_len(), |next| params.span(*next).offset);
        now.params.push(*id);
        now.range.end = end;
        let room = if buckets.is_empty() { config.first_bucket_bytes } else { config.bucket_bytes };
        if 4 * now.range.len() >= room || i + 1 == order.len() {
            buckets.push(std::mem::replace(&mut now, Bucket { range: end..end, params: Vec::new() }));
        }
    }
    buckets
}
