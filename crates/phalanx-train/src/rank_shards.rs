//! The gradients of all ranks, each rank with its part of the coordinates of all of them, for rules that the mean does
//! not cover.

use crate::host::HostBackend;
use phalanx_comm::{Agreed, CommError, Communicator, CommunicatorExt, Rank, tree_sum_f64};
use phalanx_grad::{Blocks, GradError, GradSet, Gram, Ranks, Shard};
use phalanx_tensor::Write;
use std::fmt;
use std::ops::Range;

/// One gradient a rank, spread over the ranks by blocks of coordinates.
///
/// What a rule costs follows what it asks for: a shard or inner products travel as a few numbers a pair of ranks, a
/// result once, a whole gradient once each time that it is asked for.
pub(crate) struct RankShards<'a, B> {
    comm: &'a dyn Communicator,
    backend: B,
    dim: usize,
    samples: Vec<u64>,
    /// Gradient after gradient, the coordinates here.
    parts: &'a [f32],
}

impl<'a, B: HostBackend> RankShards<'a, B> {
    /// Exchanges the ranks' gradients: each rank gives its own and keeps `parts` of all.
    ///
    /// # Collective
    /// Every rank, with gradients of one length.
    pub(crate) fn exchange(
        comm: &'a dyn Communicator,
        backend: B,
        own: &[f32],
        samples: Vec<u64>,
        parts: &'a mut Vec<f32>,
    ) -> Result<Self, CommError> {
        let (dim, size) = (own.len(), comm.size());
        let counts: Vec<usize> = size.ranks().map(|rank| coordinates(comm, dim, rank).len()).collect();
        let here = counts[comm.rank().index()];
        parts.resize(size.get() * here, 0.0);
        comm.all_to_all_into(own, &counts, parts, &vec![here; size.get()])?;
        Ok(RankShards { comm, backend, dim, samples, parts })
    }

    fn here(&self) -> Range<usize> {
        coordinates(self.comm, self.dim, self.comm.rank())
    }
}

fn blocks(comm: &dyn Communicator, dim: usize, rank: Rank) -> Range<usize> {
    Blocks::new(dim).tree().shards_of(rank, comm.size())
}

fn coordinates(comm: &dyn Communicator, dim: usize, rank: Rank) -> Range<usize> {
    Blocks::new(dim).coordinates(blocks(comm, dim, rank))
}

impl<B: HostBackend> GradSet<Ranks, B> for RankShards<'_, B> {
    fn backend(&self) -> &B {
        &self.backend
    }

    fn len(&self) -> usize {
        self.comm.size().get()
    }

    fn dim(&self) -> usize {
        self.dim
    }

    fn samples(&self, i: usize) -> u64 {
        self.samples[i]
    }

    fn shard(&self) -> Option<&dyn Shard> {
        Some(self)
    }

    fn weighted_sum(&self, weights_n: &[f64], out_d: &mut [f32]) -> Result<(), GradError> {
        let mut part = vec![0.0; self.here().len()];
        let mut write = Write::Set;
        // A gradient of weight 0 is not read: it may hold anything.
        for (i, weight) in weights_n.iter().enumerate().filter(|(_, weight)| **weight != 0.0) {
            self.backend.affine(*weight, 0.0, self.part(i), write, &mut part);
            write = Write::Add;
        }
        self.gather(&part, out_d)
    }

    fn row(&self, i: usize, out_d: &mut [f32]) -> Result<(), GradError> {
        self.gather(self.part(i), out_d)
    }

    fn gram(&self, gram: &mut Gram) -> Result<(), GradError> {
        let (n, blocks, first) = (self.len(), Blocks::new(self.dim), self.here().start);
        let nodes = blocks.fold(self.blocks(), |columns| {
            let part = |i: usize| &self.part(i)[columns.start - first..columns.end - first];
            let pairs = (0..n).flat_map(|i| (0..=i).map(move |j| (i, j)));
            pairs.map(|(i, j)| self.backend.dot(part(i), part(j))).collect()
        });
        let nodes: Vec<f64> = nodes.into_iter().flat_map(|(_, sums)| sums).collect();
        let sums = self.sum(&nodes, n * (n + 1) / 2)?;
        gram.reset(n);
        let mut sums = sums.iter();
        for i in 0..n {
            for (j, sum) in (0..=i).zip(&mut sums) {
                gram.set(i, j, *sum);
            }
        }
        Ok(())
    }
}

impl<B: HostBackend> Shard for RankShards<'_, B> {
    fn blocks(&self) -> Range<usize> {
        blocks(self.comm, self.dim, self.comm.rank())
    }

    fn part(&self, i: usize) -> &[f32] {
        let here = self.here().len();
        &self.parts[i * here..][..here]
    }

    fn sum(&self, nodes: &[f64], width: usize) -> Result<Agreed<Vec<f64>>, GradError> {
        Ok(tree_sum_f64(self.comm, Blocks::new(self.dim).tree(), nodes, width)?)
    }

    fn gather(&self, part: &[f32], out_d: &mut [f32]) -> Result<(), GradError> {
        let ranks = self.comm.size().ranks();
        let counts: Vec<usize> = ranks.map(|rank| coordinates(self.comm, self.dim, rank).len()).collect();
        Ok(self.comm.all_gather_into(part, &counts, out_d)?)
    }
}

impl<B> fmt::Debug for RankShards<'_, B> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RankShards")
            .field("dim", &self.dim)
            .field("samples", &self.samples)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use phalanx_comm::{Options, WorldSize, run_ranks};
    use phalanx_grad::RowSet;
    use phalanx_tensor::Cpu;

    /// Small integers: every order of summation gives the same bits.
    fn row(rank: usize, dim: usize) -> Vec<f32> {
        (0..dim).map(|k| ((k * (rank + 2) + 3 * rank) % 11) as f32 - 5.0).collect()
    }

    /// As whole rows, for lengths that ranks cannot share evenly and fewer blocks than ranks.
    #[test]
    fn a_set_in_shards_is_the_set_of_rows() {
        for (ranks, dim) in
            (1..=5).flat_map(|ranks| [1, Blocks::LEN + 3, 7 * Blocks::LEN - 1].map(|dim| (ranks, dim)))
        {
            let rows: Vec<Vec<f32>> = (0..ranks).map(|rank| row(rank, dim)).collect();
            let slices: Vec<&[f32]> = rows.iter().map(Vec::as_slice).collect();
            let whole = RowSet::<Ranks>::from_slices(&slices).expect("one length");
            let weights: Vec<f64> = (0..ranks).map(|rank| rank as f64 - 1.0).collect();
            let (mut sum, mut gram) = (vec![0.0; dim], Gram::default());
            whole.weighted_sum(&weights, &mut sum).expect("as many weights");
            whole.gram(&mut gram).expect("memory");
            let got = run_ranks(WorldSize(ranks), &Options::default(), move |comm| {
                let (own, mut parts) = (row(comm.rank().index(), dim), Vec::new());
                let samples = vec![1; comm.size().get()];
                let set = RankShards::exchange(&*comm, Cpu::<f32>::new(), &own, samples, &mut parts)?;
                let (mut sum, mut last, mut gram) = (vec![0.0; dim], vec![0.0; dim], Gram::default());
                set.weighted_sum(&weights, &mut sum)?;
                set.row(set.len() - 1, &mut last)?;
                set.gram(&mut gram)?;
                Ok::<_, GradError>((sum, last, gram))
            });
            for (rank, (got_sum, last, got_gram)) in got.expect("no rank fails").into_iter().enumerate() {
                assert_eq!(got_sum, sum, "rank {rank} of {ranks}, {dim}");
                assert_eq!(last, rows[ranks - 1], "rank {rank} of {ranks}, {dim}");
                assert_eq!(got_gram, gram, "rank {rank} of {ranks}, {dim}");
            }
        }
    }
}
