//! One rank: its share of each step, from samples to updated parameters.

mod statistics;

pub(crate) use statistics::can_measure;

use crate::buckets::{Buckets, Launch};
use crate::chunks::{ChunkGradients, Measure};
use crate::config::{OnNonFinite, Reduction, TrainConfig};
use crate::device::Device;
use crate::error::TrainError;
use crate::events::GradientTraffic;
use crate::host::TrainBackend;
use crate::methods::Methods;
use crate::momentum::RankMomentum;
use crate::node_mean::NodeMean;
use crate::plan::{Plan, Tile, losses, losses_of, tiles};
use crate::rank_memory::Keeper;
use crate::rank_shards::RankShards;
use crate::resident::Resident;
use crate::samples::SampleStatistics;
use crate::trace::{Clock, Lane, Phase};
use crate::trusted::Trusted;
use phalanx_comm::control::{self, Board};
use phalanx_comm::{
    Agreed, Communicator, CommunicatorExt, Region, ShardTree, TreeAccumulator, agree_max, agree_sum,
    tree_all_reduce_f64,
};
use phalanx_data::{BatchBuffers, Dataset, shard_range};
use phalanx_grad::{
    BatchContext, BatchDecision, ChunkSums, Chunks, GradError, GradLayout, Progress, ScalarBlock, Scratch,
    StepTime, UpdateStep,
};
use phalanx_nn::{Features, Graph, Mode, Net, Task};
use phalanx_tensor::Cpu;
use phalanx_tensor::op::Moments;
use std::collections::BTreeSet;
use std::ops::Range;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// What a step did, the same on every rank but for the times.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Done {
    pub(crate) samples: u64,
    pub(crate) loss: f64,
    pub(crate) lr: f64,
    pub(crate) grad_norm: f64,
    pub(crate) grad_norm_l1: f64,
    pub(crate) skipped: bool,
    pub(crate) stop: bool,
    pub(crate) exposed: Duration,
    pub(crate) data: Duration,
    /// The policy's word on the next batch, where it was asked.
    pub(crate) decision: Option<BatchDecision>,
    /// The scalars of the step, where chunks were compared.
    pub(crate) measured: Option<ScalarBlock>,
    /// Bytes of the gradient, where it was compressed.
    pub(crate) traffic: Option<GradientTraffic>,
}

/// A batch of a step: which samples, which step.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Batch<'a> {
    /// Counted from 1.
    pub(crate) step: u64,
    /// Samples trained on before.
    pub(crate) before: u64,
    /// Samples of the whole run.
    pub(crate) total: u64,
    pub(crate) indices: &'a [usize],
    /// The batch that the policy decided on; the last of an epoch may be shorter.
    pub(crate) size: u64,
    /// The greatest batch that the data allow.
    pub(crate) max: u64,
    /// Whether this rank asks for a stop.
    pub(crate) stop: bool,
    /// Whether the samples are those that [`Worker::keep`] may have on the device.
    pub(crate) is_resident: bool,
}

pub(crate) struct Worker<'a, B: TrainBackend> {
    pub(crate) comm: Arc<dyn Communicator>,
    pub(crate) graph: Graph<B>,
    pub(crate) methods: Methods<B>,
    pub(crate) lane: Option<Lane>,
    /// Updates done; skipped steps do not count.
    pub(crate) updates: u64,
    net: &'a dyn Net<B>,
    task: Task,
    config: &'a TrainConfig,
    plan: &'a Plan,
    board: &'a Board,
    pub(crate) buckets: Buckets<B>,
    /// The flat gradient between steps.
    flat: Option<Region<f32>>,
    accumulator: Option<TreeAccumulator>,
    tree: Option<ShardTree>,
    data: BatchBuffers,
    /// What of the batch was filled in while the device worked on.
    filled: Option<Range<usize>>,
    /// The training set on the device, where it fits.
    resident: Option<Resident<B>>,
    rows: Vec<f32>,
    /// Losses of a tile on a device with memory of its own, until the host asks, and how many there is room for.
    losses: Option<(B::Buf, usize)>,
    shard_sums: Vec<f64>,
    /// This rank's coordinates of the gradients of all ranks or nodes.
    parts: Vec<f32>,
    /// The ranks of its node, where a rule compares nodes.
    node: Option<NodeMean>,
    /// What a rule trusts.
    pub(crate) trusted: Option<Trusted>,
    /// Sums of squares of each coordinate over the chunks, where a policy asked for them.
    squares: Option<Region<f32>>,
    scratch: Scratch,
    /// Of this rank's gradients, where the rule over ranks asks for it.
    pub(crate) momentum: Option<RankMomentum>,
    /// Made when a policy first asks.
    samples: Option<SampleStatistics<B>>,
    /// Whether the step at hand measures its samples.
    measures_samples: bool,
    /// The shards of the step, in the reproducible mode.
    shards: ChunkGradients,
    /// The lengths of batches so far, where devices add up gradients.
    lengths: BTreeSet<usize>,
}

impl<'a, B: TrainBackend> Worker<'a, B> {
    #[expect(clippy::too_many_arguments, reason = "what a rank is made of")]
    pub(crate) fn new(
        device: Device<B>,
        comm: Arc<dyn Communicator>,
        net: &'a dyn Net<B>,
        task: Task,
        config: &'a TrainConfig,
        plan: &'a Plan,
        board: &'a Board,
        mut methods: Methods<B>,
        clock: Clock,
        trace_len: usize,
    ) -> Result<Self, TrainError> {
        let rank = comm.rank();
        let backend = device.backend.clone();
        let graph = Graph::new(backend.clone(), plan.params.clone(), config.seed)?;
        let layout = GradLayout::flat(plan.params.grad_len());
        methods.over_time.prepare(&backend, &layout)?;
        let (tree, accumulator) = match config.reduction {
            Reduction::Fast => (None, None),
            Reduction::Reproducible { shards } => {
                let tree = ShardTree::new(shards);
                (Some(tree), Some(TreeAccumulator::new(tree, tree.shards_of(rank, comm.size()))))
            }
        };
        let (size, len) = (comm.size().get(), plan.params.grad_len());
        let keeper = Keeper { over: config.over, rank, size, len };
        let momentum = RankMomentum::new(methods.over_ranks.momentum(), keeper);
        let node = match methods.over_ranks.is_mean() {
            true => None,
            false => NodeMean::new(config.over, &*comm, len)?,
        };
        let flat = Some(comm.alloc(plan.params.grad_len())?);
        let compression = methods.compression.take();
        if let Some(compressor) = &compression {
            can_compress(compressor.name(), config.reduction, methods.over_ranks.is_mean())?;
        }
        let (params, cut) = (plan.params.clone(), plan.buckets.clone());
        let buckets = Buckets::new(device, Arc::clone(&comm), params, cut, clock, compression)?;
        let lane = (trace_len > 0).then(|| Lane::with_capacity(rank.index() as u64, clock, trace_len));
        Ok(Worker {
            comm,
            graph,
            methods,
            lane,
            updates: 0,
            net,
            task,
            config,
            plan,
            board,
            buckets,
            flat,
            accumulator,
            tree,
            data: BatchBuffers::default(),
            filled: None,
            resident: None,
            rows: Vec::new(),
            losses: None,
            shard_sums: Vec::new(),
            parts: Vec::new(),
            node,
            trusted: None,
            squares: None,
            scratch: Scratch::new(),
            momentum,
            samples: None,
            measures_samples: false,
            shards: ChunkGradients::default(),
            lengths: BTreeSet::new(),
        })
    }

    /// Keeps the training set on the device, if it has room.
    pub(crate) fn keep(&mut self, data: &dyn Dataset) {
        self.resident = Resident::new(self.graph.backend(), data, self.config);
    }

    pub(crate) fn without_gradient(&self) -> Vec<String> {
        self.buckets.without_gradient()
    }

    /// Does one step.
    ///
    /// # Collective
    /// Every rank, with the same batch.
    pub(crate) fn step(&mut self, data: &dyn Dataset, batch: &Batch<'_>) -> Result<Done, TrainError> {
        let (before, began) = (self.comm.stats().exposed, Instant::now());
        let scheduled = self.methods.lr
            * self.methods.schedule.factor(Progress { samples: batch.before, total: batch.total });
        let context = self.context(batch, scheduled);
        let needs = self.methods.policy.needs(&context);
        let measure = self.prepare(&needs)?;
        let mut data_time = Duration::ZERO;
        let (mut flat, sums, hits_and_stop, moments) = match self.tree {
            None => self.fast(data, batch, measure, &mut data_time)?,
            Some(tree) => self.reproducible(data, batch, measure, tree, &mut data_time)?,
        };
        self.buckets.check()?;
        let stop = hits_and_stop[1] > 0.0;
        let start = self.now();
        let mut block = sums.zip(moments).map(|(sums, moments)| sums.block(&moments));
        if needs.projections {
            let projections = self.projections(data, batch, &mut flat)?;
            block = block.zip(projections).map(|(block, projections)| block.with_projections(projections));
        }
        self.enter(batch.step, control::Phase::Update);
        let finite = block.loss.is_finite() && block.nonfinite == 0 && block.n.is_finite();
        if let (true, Some(rule)) = (finite, needs.coordinates) {
            block = self.coordinates(rule, &mut flat, block)?;
        }
        let mut lr = scheduled;
        if finite {
            lr *= self.methods.policy.lr_factor(&block, &context)?;
            let grad_scale = match self.config.clip_norm {
                Some(max) => phalanx_optim::clip_by_global_norm(block.n, max),
                None => 1.0,
            };
            self.updates += 1;
            let update = UpdateStep {
                step: self.updates,
                samples: batch.before,
                lr,
                grad_scale,
                grad_norm_sq: block.n,
                grad_norm_l1: block.norm_l1,
            };
            let backend = self.graph.backend().clone();
            let gradient = self.buckets.view(&flat);
            self.methods.over_time.update(&backend, &update, self.graph.params_mut(), gradient)?;
        }
        if let (false, Some(compressor)) = (finite, self.buckets.compressor_mut()) {
            compressor.forget();
        }
        self.flat = Some(flat);
        self.record(Phase::Optimizer, batch.step, start);
        if !finite && self.config.on_nonfinite == OnNonFinite::Stop {
            return Err(self.culprit(data, batch)?);
        }
        let exposed = self.comm.stats().exposed.saturating_sub(before);
        if needs.time {
            let time = self.step_time(batch, began.elapsed(), exposed)?;
            self.methods.policy.timed(&time);
        }
        let mut decision = None;
        if finite {
            decision = Some(self.methods.policy.decide(&block, &context)?);
        }
        Ok(Done {
            samples: batch.indices.len() as u64,
            loss: block.loss,
            lr,
            grad_norm: block.n.sqrt(),
            grad_norm_l1: block.norm_l1,
            skipped: !finite,
            stop,
            exposed,
            data: data_time,
            decision,
            measured: (needs.chunks != Chunks::None && finite).then(|| block.into_inner()),
            traffic: self.buckets.traffic(),
        })
    }

    /// How long the step took where it took longest.
    ///
    /// # Collective
    /// Every rank.
    #[expect(clippy::cast_precision_loss, reason = "counts are far below 2^52")]
    fn step_time(
        &self,
        batch: &Batch<'_>,
        took: Duration,
        exposed: Duration,
    ) -> Result<Agreed<StepTime>, TrainError> {
        let parts = match self.tree {
            None => self.comm.size().get(),
            Some(tree) => tree.shards(),
        };
        let share = batch.indices.len().div_ceil(parts);
        let passes = share.div_ceil(self.micro_of(share)) * parts.div_ceil(self.comm.size().get());
        let own = [took.as_secs_f64(), exposed.as_secs_f64(), batch.indices.len() as f64, passes as f64];
        Ok(agree_max(&*self.comm, &own)?.map(|t| StepTime {
            seconds: t[0],
            exposed: t[1],
            samples: whole(t[2]),
            accumulation: whole(t[3]),
        }))
    }

    fn context(&self, batch: &Batch<'_>, lr: f64) -> BatchContext {
        BatchContext {
            step: batch.step,
            samples: batch.before,
            total: batch.total,
            batch: batch.size,
            max_batch: batch.max,
            ranks: self.comm.size().get() as u64,
            lr,
        }
    }

    fn enter(&self, step: u64, phase: control::Phase) {
        self.board.enter(self.comm.rank(), step, phase);
    }

    fn now(&self) -> u64 {
        self.lane.as_ref().map_or(0, Lane::now)
    }

    fn record(&mut self, phase: Phase, step: u64, start: u64) {
        if let Some(lane) = &mut self.lane {
            lane.record(phase, step, start);
        }
    }

    /// Samples of a micro-batch of a share.
    fn micro_of(&self, share: usize) -> usize {
        self.config.micro_of(share).min(self.plan.most_micro.unwrap_or(usize::MAX)).max(1)
    }

    /// The micro-batches of a share of `len` samples: its chunks.
    fn micro_batches(&self, len: usize) -> impl Iterator<Item = Range<usize>> + Clone + use<B> {
        tiles(len, self.micro_of(len))
    }

    /// The tiles of a share of `len` samples: micro-batches, each cut into tiles. With each, whether a micro-batch ends.
    fn cut(&self, len: usize) -> impl Iterator<Item = (Range<usize>, bool)> + Clone + use<B> {
        let tile = self.plan.tile;
        self.micro_batches(len).flat_map(move |micro| {
            tiles(micro.len(), tile)
                .map(move |t| (t.start + micro.start..t.end + micro.start, t.end == micro.len()))
        })
    }

    /// Forward and backward pass over one tile; returns the sum of the losses and the hits.
    ///
    /// A device with memory of its own works on while the samples of the `next` tile are filled in: the host waits for it
    /// once, when all is launched.
    fn pass(
        &mut self,
        data: &dyn Dataset,
        batch: &Batch<'_>,
        (tile, next): (Range<usize>, Option<Range<usize>>),
        data_time: &mut Duration,
    ) -> Result<(f64, usize), TrainError> {
        let is_resident = batch.is_resident && self.resident.is_some();
        if self.filled.take().as_ref() != Some(&tile) {
            let (began, start) = (Instant::now(), self.now());
            self.enter(batch.step, control::Phase::Data);
            let drawn = &batch.indices[tile.clone()];
            match &mut self.resident {
                Some(resident) if is_resident => resident.draw(drawn),
                _ => data.fill(drawn, &mut self.data),
            }
            *data_time += began.elapsed();
            self.record(Phase::Data, batch.step, start);
        }
        let start = self.now();
        self.enter(batch.step, control::Phase::Forward);
        self.graph.reset(Mode::Train, batch.step, tile.start as u64);
        let (net, graph, task) = (self.net, &self.graph, &self.task);
        let (loss, hits) = match (&self.resident, task) {
            (Some(resident), Task::Classify { features, .. }) if is_resident => {
                let features = Features::Dense(resident.input(graph, features.dims())?);
                losses_of(net, graph, task, features, resident.drawn_labels())?
            }
            _ => {
                let held = Tile {
                    features: self.data.features(),
                    tokens: self.data.tokens(),
                    labels: self.data.labels(),
                    samples: tile.len(),
                };
                losses(net, graph, task, &held)?
            }
        };
        let len = loss.shape().len();
        self.rows.resize(len, 0.0);
        let backend = self.graph.backend();
        let is_apart = backend.host_view(&[]).is_none();
        if is_apart && self.losses.as_ref().is_none_or(|(_, room)| *room < len) {
            self.losses = Some((backend.alloc(len)?, len));
        }
        match &mut self.losses {
            // what the backward pass has walked over is used again
            Some((kept, _)) => loss.copy_to(backend.view_mut(kept, 0..len)),
            None => loss.read(&mut self.rows),
        }
        if let Some(lane) = &mut self.lane {
            lane.record(Phase::Forward, batch.step, start);
        }
        let start = self.now();
        self.enter(batch.step, control::Phase::Backward);
        let labels = batch.indices.len() * self.task.labels_per_sample();
        #[expect(clippy::cast_precision_loss, reason = "batches are far below 2^52")]
        let seed = 1.0 / labels as f64;
        match self.samples.as_mut().filter(|_| self.measures_samples) {
            None => self.graph.backward(loss, seed, &mut self.buckets)?,
            Some(samples) => {
                let of = (loss, seed);
                samples.backward(&self.graph, of, &mut self.buckets, &tile, batch.indices.len())?;
            }
        }
        if let Some((kept, _)) = &self.losses {
            if let Some(next) = next.filter(|_| !is_resident) {
                let began = Instant::now();
                data.fill(&batch.indices[next.clone()], &mut self.data);
                *data_time += began.elapsed();
                self.filled = Some(next);
            }
            backend.download(backend.view(kept, 0..len), &mut self.rows);
        }
        let (sum, hits) = (self.rows.iter().map(|l| f64::from(*l)).sum::<f64>(), hits.count());
        self.record(Phase::Backward, batch.step, start);
        #[expect(clippy::cast_precision_loss, reason = "contexts are far below 2^52")]
        Ok((sum / self.task.labels_per_sample() as f64, hits))
    }

    /// The gradient of a range of the batch, into `flat`.
    fn gradient(
        &mut self,
        data: &dyn Dataset,
        batch: &Batch<'_>,
        range: &Range<usize>,
        flat: Region<f32>,
        how: (Launch, Measure),
        data_time: &mut Duration,
    ) -> Result<(Region<f32>, f64, usize), TrainError> {
        let (launch, measure) = how;
        let mut chunks = self.micro_batches(range.len()).map(|micro| micro.len());
        self.buckets.begin(batch.step, flat, measure, chunks.next().unwrap_or(0));
        let (mut loss, mut hits) = (0.0, 0);
        let mut cut = self.cut(range.len()).peekable();
        if cut.peek().is_none() {
            self.buckets.set_launch(launch);
        }
        while let Some((tile, ends_chunk)) = cut.next() {
            let is_last = cut.peek().is_none();
            if is_last {
                self.buckets.set_launch(launch);
            }
            let place = |tile: &Range<usize>| range.start + tile.start..range.start + tile.end;
            let next = cut.peek().map(|(next, _)| place(next));
            let (l, h) = self.pass(data, batch, (place(&tile), next), data_time)?;
            loss += l;
            hits += h;
            if ends_chunk && !is_last {
                self.buckets.next_chunk(chunks.next().unwrap_or(0));
            }
        }
        if launch == Launch::Together {
            self.comm.barrier()?;
            self.buckets.set_launch(Launch::Reduce);
        }
        let start = self.now();
        self.enter(batch.step, control::Phase::Reduce);
        let flat = self.buckets.finish(self.lane.as_mut())?;
        self.record(Phase::Wait, batch.step, start);
        Ok((flat, loss, hits))
    }

    fn take_flat(&mut self) -> Result<Region<f32>, TrainError> {
        match self.flat.take() {
            Some(flat) => Ok(flat),
            None => Ok(self.comm.alloc(self.plan.params.grad_len())?),
        }
    }

    /// Each rank sums its share; buckets leave while the backward pass runs.
    #[expect(
        clippy::type_complexity,
        reason = "the four results of a reduction, named where they are taken apart"
    )]
    fn fast(
        &mut self,
        data: &dyn Dataset,
        batch: &Batch<'_>,
        measure: Measure,
        data_time: &mut Duration,
    ) -> Result<(Region<f32>, Agreed<ChunkSums>, Agreed2, Agreed<Moments>), TrainError> {
        let (rank, size) = (self.comm.rank().index(), self.comm.size().get());
        let range = shard_range(batch.indices.len(), rank, size);
        let flat = self.take_flat()?;
        let mean = self.methods.over_ranks.is_mean();
        let launch = if mean && self.buckets.exchanges() && self.lengths.insert(batch.indices.len()) {
            // what a device does for the first time may wait for all others, and so for a sum that waits for this rank
            Launch::Together
        } else if mean {
            Launch::Reduce
        } else {
            Launch::Hold
        };
        if !mean {
            self.trust(batch, data_time)?;
        }
        let (mut flat, loss, hits) =
            self.gradient(data, batch, &range, flat, (launch, measure), data_time)?;
        let start = self.now();
        if measure.squares {
            let mut sums = match self.squares.take() {
                Some(sums) => sums,
                None => self.comm.alloc(flat.len())?,
            };
            self.squares_into(self.buckets.chunks(), batch, &mut sums);
            self.comm.all_reduce_sum(&mut sums)?;
            self.squares = Some(sums);
        }
        if !mean {
            self.buckets.sync_host(&mut flat);
            self.aggregate(batch, &mut flat)?;
            self.buckets.replaced_by(&flat);
        }
        let local = self.local_sums(batch, range.len(), loss);
        // Each rank looks at its part of the reduced gradient, in blocks as `moments` sums them.
        let part = shard_range(flat.len().div_ceil(BLOCK), rank, size);
        let part = part.start * BLOCK..(part.end * BLOCK).min(flat.len());
        let m = self.buckets.moments(&flat, part.start.min(part.end)..part.end);
        // before the others are met: a device that failed has sums that they would wait for
        self.buckets.check()?;
        let mut packed = [0.0; PACKED];
        packed[..ChunkSums::LEN].copy_from_slice(&local.pack());
        #[expect(clippy::cast_precision_loss, reason = "counts are far below 2^52")]
        packed[ChunkSums::LEN..].copy_from_slice(&[
            hits as f64,
            f64::from(u8::from(batch.stop)),
            m.sum_sq,
            m.sum_abs,
            m.nonfinite as f64,
        ]);
        let agreed = agree_sum(&*self.comm, &packed)?;
        self.record(Phase::Wait, batch.step, start);
        let extra = [agreed[ChunkSums::LEN], agreed[ChunkSums::LEN + 1]];
        let sums = agreed.clone().map(|p| ChunkSums::unpack(&p[..ChunkSums::LEN]));
        let moments = agreed.map(|p| unpack_moments(&p[ChunkSums::LEN + 2..]));
        Ok((flat, sums, extra, moments))
    }

    /// The mean gradient of the samples that the rule trusts, at the parameters of the step, on every rank.
    ///
    /// # Collective
    /// Every rank.
    fn trust(&mut self, batch: &Batch<'_>, data_time: &mut Duration) -> Result<(), TrainError> {
        let Some(mut trusted) = self.trusted.take() else { return Ok(()) };
        let range = shard_range(trusted.indices.len(), self.comm.rank().index(), self.comm.size().get());
        let flat = match trusted.gradient.take() {
            Some(flat) => flat,
            None => self.comm.alloc(self.plan.params.grad_len())?,
        };
        // nobody trains on these samples, running statistics of the model included
        let statistics = self.graph.statistics_to_vec();
        let (data, how) = (Arc::clone(&trusted.data), (Launch::Hold, Measure::default()));
        let of_trusted = Batch { indices: &trusted.indices, is_resident: false, ..*batch };
        let (mut flat, _, _) = self.gradient(&*data, &of_trusted, &range, flat, how, data_time)?;
        self.buckets.sync_host(&mut flat);
        if !statistics.is_empty() {
            let backend = self.graph.backend().clone();
            backend.upload(&statistics, self.graph.statistics_mut());
        }
        self.comm.all_reduce_sum(&mut flat)?;
        trusted.gradient = Some(flat);
        self.trusted = Some(trusted);
        Ok(())
    }

    /// Samples of a batch of `samples` behind the vector of each rank or node.
    fn samples_of_senders(&self, samples: usize) -> Vec<u64> {
        let (over, ranks) = (self.config.over, self.comm.size().get());
        let of_rank = |rank| shard_range(samples, rank, ranks).len() as u64;
        (0..over.senders(ranks)).map(|sender| over.ranks_of(sender, ranks).map(of_rank).sum()).collect()
    }

    /// A rule other than the mean: each rank holds its part of the coordinates of all gradients, or of the means of nodes.
    fn aggregate(&mut self, batch: &Batch<'_>, flat: &mut Region<f32>) -> Result<(), TrainError> {
        let (samples, over, ranks) = (batch.indices.len(), self.config.over, self.comm.size().get());
        let of_senders = self.samples_of_senders(samples);
        if of_senders.contains(&0) {
            let (step, senders, called) = (batch.step, of_senders.len(), over.called());
            return Err(TrainError::SendersWithoutSamples { step, samples, senders, called });
        }
        // The buffer holds the share's part of the batch's mean; rules compare the senders' own means.
        let own = of_senders[over.sender(self.comm.rank().index())];
        #[expect(clippy::cast_precision_loss, reason = "batches are far below 2^52")]
        #[expect(clippy::cast_possible_truncation, reason = "a ratio of small whole numbers")]
        let scale = (samples as f64 / own as f64) as f32;
        let (vector, is_finite) = match &mut self.node {
            Some(node) => node.of(flat, scale)?,
            None => {
                flat.iter_mut().for_each(|g| *g *= scale);
                let is_finite = flat.iter().all(|g| g.is_finite());
                (&mut flat[..], is_finite)
            }
        };
        if let Some(momentum) = &mut self.momentum {
            momentum.apply(vector, is_finite);
        }
        let (comm, cpu, dim) = (&*self.comm, Cpu::<f32>::new(), self.plan.params.grad_len());
        let slices = over.slices(ranks, dim);
        let trusted = self.trusted.as_ref().and_then(|trusted| trusted.gradient.as_deref());
        let set = RankShards::exchange_slices(comm, cpu, dim, vector, &slices, of_senders, &mut self.parts)?
            .with_trusted(trusted);
        match self.methods.over_ranks.reduce(batch.step, &set, flat, &mut self.scratch) {
            // every rank has found the same, and takes the step for one that gave no number
            Err(
                GradError::TooManyInvalid { .. } | GradError::NonFinite { .. } | GradError::NoWeight { .. },
            ) if self.config.on_nonfinite == OnNonFinite::Skip => {
                flat.fill(f32::NAN);
            }
            reduced => reduced?,
        }
        // a rule may write where no parameter lies, and the backward pass of the next step does not
        let len = flat.len();
        self.plan.params.gaps().filter(|gap| gap.end <= len).for_each(|gap| flat[gap].fill(0.0));
        Ok(())
    }

    /// Shard by shard in a fixed tree.
    #[expect(clippy::type_complexity, reason = "as fast")]
    fn reproducible(
        &mut self,
        data: &dyn Dataset,
        batch: &Batch<'_>,
        measure: Measure,
        tree: ShardTree,
        data_time: &mut Duration,
    ) -> Result<(Region<f32>, Agreed<ChunkSums>, Agreed2, Agreed<Moments>), TrainError> {
        let shards = tree.shards_of(self.comm.rank(), self.comm.size());
        let mut squares = measure.squares.then(|| TreeAccumulator::new(tree, shards.clone()));
        let mut accumulator = match self.accumulator.take() {
            Some(accumulator) => accumulator,
            None => TreeAccumulator::new(tree, shards.clone()),
        };
        if let Some(flat) = self.flat.take() {
            accumulator.recycle(flat);
        }
        let mut own = std::mem::take(&mut self.shard_sums);
        own.clear();
        self.shards.begin(measure, self.plan.params.grad_len());
        for shard in shards {
            let range = shard_range(batch.indices.len(), shard, tree.shards());
            let leaf = match accumulator.spare() {
                Some(leaf) => leaf,
                None => self.comm.alloc(self.plan.params.grad_len())?,
            };
            let (mut leaf, loss, hits) =
                self.gradient(data, batch, &range, leaf, (Launch::Hold, Measure::default()), data_time)?;
            self.buckets.sync_host(&mut leaf);
            self.shards.whole(&Cpu::<f32>::new(), range.len(), &leaf);
            let local = match self.samples.as_mut().filter(|_| self.measures_samples) {
                Some(samples) => samples.take(loss),
                None => {
                    let moments = self.shards.moments().last().into_iter();
                    Self::chunk_sums(batch, loss, moments.map(|m| (range.len(), m)))
                }
            };
            own.extend(local.pack());
            #[expect(clippy::cast_precision_loss, reason = "counts are far below 2^52")]
            own.push(hits as f64);
            if let Some(squares) = &mut squares {
                let mut sums = match squares.spare() {
                    Some(sums) => sums,
                    None => self.comm.alloc(leaf.len())?,
                };
                self.squares_into(&self.shards, batch, &mut sums);
                squares.push(sums);
                // the tree adds up the shards
                self.shards.clear_squares();
                if let Some(samples) = &mut self.samples {
                    samples.clear_squares();
                }
            }
            accumulator.push(leaf);
        }
        let start = self.now();
        let nodes = accumulator.finish();
        let mut nodes = self.comm.start_tree_reduce(tree, nodes)?.wait()?.into_iter();
        let flat = match nodes.next() {
            Some((_, flat)) => flat,
            None => self.comm.alloc(self.plan.params.grad_len())?,
        };
        nodes.for_each(|(_, spare)| accumulator.recycle(spare));
        if let Some(mut squares) = squares {
            let sums = self.comm.start_tree_reduce(tree, squares.finish())?.wait()?;
            self.squares = sums.into_iter().next().map(|(_, sums)| sums);
        }
        let sums = tree_all_reduce_f64(&*self.comm, tree, &own, ChunkSums::LEN + 1)?;
        self.buckets.replaced_by(&flat);
        let m = self.buckets.moments(&flat, 0..flat.len());
        #[expect(clippy::cast_precision_loss, reason = "counts are far below 2^52")]
        let held = [m.sum_sq, m.sum_abs, m.nonfinite as f64, f64::from(u8::from(batch.stop))];
        // The same numbers on every rank already, but for the request to stop.
        let held = agree_max(&*self.comm, &held)?;
        self.record(Phase::Wait, batch.step, start);
        self.accumulator = Some(accumulator);
        self.shard_sums = own;
        let extra = [sums[ChunkSums::LEN], held[3]];
        let sums = sums.map(|p| ChunkSums::unpack(&p[..ChunkSums::LEN]));
        Ok((flat, sums, extra, held.map(|p| unpack_moments(&p))))
    }

    /// Which rank, and which parameter, gave a number that is not finite: each looks at its own share again.
    fn culprit(&mut self, data: &dyn Dataset, batch: &Batch<'_>) -> Result<TrainError, TrainError> {
        let range = shard_range(batch.indices.len(), self.comm.rank().index(), self.comm.size().get());
        let flat = self.take_flat()?;
        self.measures_samples = false;
        let mut time = Duration::ZERO;
        let (mut flat, loss, _) =
            self.gradient(data, batch, &range, flat, (Launch::Hold, Measure::default()), &mut time)?;
        self.buckets.sync_host(&mut flat);
        let guilty = if loss.is_finite() {
            let params = self.plan.params.iter().filter(|(_, spec, _)| spec.trainable);
            let found = params.into_iter().find(|(_, _, span)| {
                flat[span.offset..span.offset + span.len].iter().any(|g| !g.is_finite())
            });
            found.map(|(_, spec, _)| spec.name.clone())
        } else {
            Some(String::new())
        };
        self.flat = Some(flat);
        // A byte before the name tells "the loss" from "nothing".
        let message = guilty.map_or_else(Vec::new, |name| [b"!", name.as_bytes()].concat());
        let all = self.comm.all_gather_bytes(&message)?;
        let found =
            all.iter().enumerate().find_map(|(rank, m)| m.strip_prefix(b"!").map(|name| (rank, name)));
        let parameter = found
            .and_then(|(_, name)| (!name.is_empty()).then(|| String::from_utf8_lossy(name).into_owned()));
        Ok(TrainError::NonFinite { step: batch.step, rank: found.map(|(rank, _)| rank), parameter })
    }
}

/// Hits, and how many ranks ask for a stop.
type Agreed2 = [f64; 2];

const BLOCK: usize = 4096;
const PACKED: usize = ChunkSums::LEN + 5;

fn unpack_moments(packed: &[f64]) -> Moments {
    Moments { sum_sq: packed[0], sum_abs: packed[1], nonfinite: whole(packed[2]) }
}

#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "a count that was summed as a float"
)]
fn whole(packed: f64) -> u64 {
    packed as u64
}

/// Refuses compression where the loop does not sum buckets.
fn can_compress(compressor: &'static str, reduction: Reduction, is_mean: bool) -> Result<(), TrainError> {
    let refused = |with| Err(TrainError::Compression { compressor, with });
    match reduction {
        Reduction::Reproducible { .. } => refused("train.reduction = \"reproducible\""),
        Reduction::Fast if !is_mean => refused("a rule over ranks other than the mean"),
        Reduction::Fast => Ok(()),
    }
}
