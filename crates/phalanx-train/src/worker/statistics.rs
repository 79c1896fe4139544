//! What a rank measures of the gradients that its step adds up.

use super::{Batch, Worker};
use crate::chunks::{ChunkGradients, Measure};
use crate::error::TrainError;
use crate::host::TrainBackend;
use crate::plan::{Plan, Tile, losses};
use crate::samples::{RECORDED_BYTES, SampleStatistics};
use phalanx_comm::{Agreed, Region, agree_max, agree_sum, tree_all_reduce_f64};
use phalanx_data::{Dataset, shard_range};
use phalanx_grad::{ChunkSums, Chunks, CoordinateRule, Needs, Projections, ScalarBlock};
use phalanx_nn::{Coverage, Mode};
use phalanx_tensor::Cpu;
use phalanx_tensor::op::Moments;
use std::collections::BTreeMap;
use std::ops::Range;

impl<B: TrainBackend> Worker<'_, B> {
    /// `m_c g_cj^2` of each coordinate `j`, added up over the samples at hand or over `chunks`.
    pub(super) fn squares_into(&self, chunks: &ChunkGradients, batch: &Batch<'_>, sums: &mut [f32]) {
        let of_samples = self.samples.as_ref().filter(|_| self.measures_samples);
        match of_samples.and_then(SampleStatistics::squares) {
            Some(squares) => self.graph.backend().download(squares, sums),
            None => sums.copy_from_slice(chunks.squares()),
        }
        // they are of what chunks added to the gradient of the batch, the mean over its samples
        #[expect(clippy::cast_precision_loss, reason = "batches are far below 2^24")]
        let size = batch.indices.len() as f32;
        sums.iter_mut().for_each(|sum| *sum *= size * size);
    }

    /// The ratio of the coordinates, from the sums of squares that the step left in `squares`.
    pub(super) fn coordinates(
        &mut self,
        rule: CoordinateRule,
        flat: &mut Region<f32>,
        block: Agreed<ScalarBlock>,
    ) -> Result<Agreed<ScalarBlock>, TrainError> {
        let trainable = self.plan.params.iter().filter(|(_, spec, _)| spec.trainable);
        let tensors: Vec<Range<usize>> =
            trainable.map(|(_, _, span)| span.offset..span.offset + span.len).collect();
        self.buckets.sync_host(flat);
        let ratio = match &self.squares {
            Some(squares) => rule.ratio(squares, flat, block.samples, block.chunks, &tensors),
            None => f64::INFINITY,
        };
        // all ranks have it already; agreeing on it is the proof
        let ratio = agree_max(&*self.comm, &[ratio])?;
        Ok(block.zip(ratio).map(|(block, ratio)| block.with_coordinate_ratio(ratio[0])))
    }

    /// Makes ready what a step must measure.
    pub(super) fn prepare(&mut self, needs: &Needs) -> Result<Measure, TrainError> {
        let policy = self.methods.policy.name();
        can_measure(policy, needs, self.plan)?;
        let (projections, squares) = (needs.projections, needs.coordinates.is_some());
        self.measures_samples = needs.chunks == Chunks::Samples;
        if !self.measures_samples {
            return Ok(Measure { moments: needs.chunks == Chunks::Ranks, copies: projections, squares });
        }
        let coverage = samples_apart(policy, self.plan)?;
        let made = || SampleStatistics::new(&self.plan.params, coverage);
        // The last recording begins in the room that is left: all inputs and all output gradients of a tile, of which
        // the arena holds the latter one after the other.
        let held = self.plan.rank_bytes() + 2 * self.plan.arena_bytes as u64;
        let room = self.config.memory_limit.map_or(RECORDED_BYTES, |limit| limit.saturating_sub(held));
        let samples = self.samples.get_or_insert_with(made);
        samples.begin(self.graph.backend(), projections, squares, room)?;
        Ok(Measure { squares, ..Measure::default() })
    }

    /// The chunk sums of a part of the batch: `moments` are of `samples / batch` times the mean gradient of each chunk.
    #[expect(clippy::cast_precision_loss, reason = "batches are far below 2^52")]
    pub(super) fn chunk_sums<'m>(
        batch: &Batch<'_>,
        loss: f64,
        chunks: impl Iterator<Item = (usize, &'m Moments)>,
    ) -> ChunkSums {
        let mut sums = ChunkSums::default();
        for (samples, moments) in chunks.filter(|(samples, _)| *samples > 0) {
            let weight = samples as f64 / batch.indices.len() as f64;
            let mean = Moments { sum_sq: moments.sum_sq / (weight * weight), ..*moments };
            sums.add(samples as u64, &mean, 0.0);
        }
        ChunkSums { loss_sum: loss, ..sums }
    }

    /// What this rank knows of the inner products of the chunks with the mean gradient, added up over the ranks.
    ///
    /// # Collective
    /// Every rank.
    pub(super) fn projections(
        &mut self,
        data: &dyn Dataset,
        batch: &Batch<'_>,
        mean: &mut Region<f32>,
    ) -> Result<Agreed<Projections>, TrainError> {
        let (rank, size) = (self.comm.rank(), self.comm.size());
        let share = |part, parts| shard_range(batch.indices.len(), part, parts);
        let shares: Vec<Range<usize>> = match self.tree {
            None => vec![share(rank.index(), size.get())],
            Some(tree) => tree.shards_of(rank, size).map(|shard| share(shard, tree.shards())).collect(),
        };
        let mut own = Vec::with_capacity(2 * shares.len());
        if self.measures_samples {
            let tiles = self.sample_projections(data, batch, mean)?;
            for share in shares {
                let of_share = tiles.range(share).map(|(_, p)| *p);
                let sum = of_share.fold([0.0; 2], |sum, p| [sum[0] + p.p1, sum[1] + p.p2]);
                own.extend(sum);
            }
        } else {
            self.buckets.sync_host(mean);
            for (shard, share) in shares.into_iter().enumerate() {
                let sum = self.chunk_projections(batch, mean, shard, share.len());
                own.extend([sum.p1, sum.p2]);
            }
        }
        let sums = match self.tree {
            None => agree_sum(&*self.comm, &own)?,
            Some(tree) => tree_all_reduce_f64(&*self.comm, tree, &own, 2)?,
        };
        Ok(sums.map(|p| Projections { p1: p[0], p2: p[1] }))
    }

    /// Of each tile of this rank, by its first sample: the recorded ones, then those for which there was no room.
    pub(super) fn sample_projections(
        &mut self,
        data: &dyn Dataset,
        batch: &Batch<'_>,
        mean: &Region<f32>,
    ) -> Result<BTreeMap<usize, Projections>, TrainError> {
        let Some(samples) = &mut self.samples else { return Ok(BTreeMap::new()) };
        let mean = self.buckets.view(mean);
        let size = batch.indices.len();
        let mut tiles = samples.project(self.graph.backend(), mean, size)?;
        #[expect(clippy::cast_precision_loss, reason = "batches are far below 2^52")]
        let seed = 1.0 / (size * self.task.labels_per_sample()) as f64;
        for range in samples.missed() {
            data.fill(&batch.indices[range.clone()], &mut self.data);
            self.graph.reset(Mode::Train, batch.step, range.start as u64);
            let (features, tokens, labels) = (self.data.features(), self.data.tokens(), self.data.labels());
            let held = Tile { features, tokens, labels, samples: range.len() };
            let (loss, _) = losses(self.net, &self.graph, &self.task, &held)?;
            let again = samples.project_again(&self.graph, (loss, seed), mean, &range, size)?;
            tiles.insert(range.start, again);
        }
        Ok(tiles)
    }

    /// Of the micro-batches of this rank's share, or of one of its shards.
    #[expect(clippy::cast_precision_loss, reason = "batches are far below 2^52")]
    pub(super) fn chunk_projections(
        &self,
        batch: &Batch<'_>,
        mean: &[f32],
        shard: usize,
        len: usize,
    ) -> Projections {
        let backend = &Cpu::<f32>::new();
        let mut sum = Projections::default();
        let mut add = |samples: usize, product: f64| {
            if samples > 0 {
                sum.add(samples as u64, product * batch.indices.len() as f64 / samples as f64);
            }
        };
        match self.tree {
            Some(_) => add(len, self.shards.product(backend, shard, mean)),
            None => {
                let chunks = self.buckets.chunks();
                for (chunk, micro) in self.micro_batches(len).enumerate() {
                    add(micro.len(), chunks.product(backend, chunk, mean));
                }
            }
        }
        sum
    }

    /// The chunk sums of a share whose gradient was just taken.
    pub(super) fn local_sums(&mut self, batch: &Batch<'_>, len: usize, loss: f64) -> ChunkSums {
        match self.samples.as_mut().filter(|_| self.measures_samples) {
            Some(samples) => samples.take(loss),
            None => {
                let moments = self.buckets.chunks().moments();
                let sizes = self.micro_batches(len).map(|micro| micro.len());
                Self::chunk_sums(batch, loss, sizes.zip(moments))
            }
        }
    }
}

/// Refuses statistics that the loop cannot take.
pub(crate) fn can_measure(policy: &'static str, needs: &Needs, plan: &Plan) -> Result<(), TrainError> {
    let refused = |what| Err(TrainError::Statistics { policy, what });
    match *needs {
        Needs { chunks: Chunks::None, projections: true, .. } => refused("inner products"),
        Needs { chunks: Chunks::None, coordinates: Some(_), .. } => refused("variances of coordinates"),
        Needs { chunks: Chunks::Samples, .. } => samples_apart(policy, plan).map(|_| ()),
        _ => Ok(()),
    }
}

/// How the gradients of samples are told apart.
fn samples_apart<'p>(policy: &'static str, plan: &'p Plan) -> Result<&'p Coverage, TrainError> {
    plan.coverage.as_ref().map_err(|cause| TrainError::Samples { policy, cause: cause.clone() })
}
