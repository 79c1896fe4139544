//! The gradients of all ranks, or of the clients that ranks play, each rank with its part of the coordinates of all of them, for rules that the mean does
//! not cover.

use crate::host::HostBackend;
use phalanx_comm::{Agreed, CommError, Communicator, CommunicatorExt, Rank, tree_sum_f64};
use phalanx_grad::{Blocks, GradError, GradSet, Gram, Ranks, Shard, StateTensor};
use phalanx_tensor::Write;
use std::fmt;
use std::ops::Range;

/// Vectors that ranks made, one or several each, spread over the ranks by blocks of coordinates.
///
/// What a rule costs follows what it asks for: a shard or inner products travel as a few numbers a pair of vectors, a
/// result once, a whole vector once each time that it is asked for.
pub struct RankShards<'a, B> {
    comm: &'a dyn Communicator,
    backend: B,
    dim: usize,
    names: Vec<Sender>,
    /// Vector after vector, the coordinates here.
    parts: &'a [f32],
    /// All of a vector made of data that are trusted.
    trusted: Option<&'a [f32]>,
}

/// Who sent a vector, and for how many samples it stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Sender {
    /// Its name: a rank's number, or a client's.
    pub id: u64,
    /// Samples behind the vector.
    pub samples: u64,
}

impl<'a, B: HostBackend> RankShards<'a, B> {
    /// Exchanges vectors of `dim` numbers that ranks hold in slices: each gives its own and keeps `parts` of all.
    ///
    /// # Shapes
    /// `own`: the coordinates `slices[rank]` of a vector. The slices of one vector after the other, in the order of ranks,
    /// are all of it. `samples`: one a vector.
    ///
    /// # Collective
    /// Every rank, with the same `dim`, `slices` and `samples`.
    pub(crate) fn exchange_slices(
        comm: &'a dyn Communicator,
        backend: B,
        dim: usize,
        own: &[f32],
        slices: &[Range<usize>],
        samples: Vec<u64>,
        parts: &'a mut Vec<f32>,
    ) -> Result<Self, CommError> {
        let names: Vec<Sender> = (0..).zip(samples).map(|(id, samples)| Sender { id, samples }).collect();
        let (rank, here) = (comm.rank(), coordinates(comm, dim, comm.rank()));
        let held = |slice: &Range<usize>, by: &Range<usize>| {
            slice.end.min(by.end).saturating_sub(slice.start.max(by.start))
        };
        // both cuts rise with the rank: what goes to each is in its place, and what comes makes up whole parts
        let of_each = comm.size().ranks().map(|to| coordinates(comm, dim, to));
        let counts: Vec<usize> = of_each.map(|to| held(&slices[rank.index()], &to)).collect();
        let expected: Vec<usize> = slices.iter().map(|slice| held(slice, &here)).collect();
        parts.resize(names.len() * here.len(), 0.0);
        comm.all_to_all_into(own, &counts, parts, &expected)?;
        Ok(RankShards { comm, backend, dim, names, parts, trusted: None })
    }

    /// The same set beside a vector that was made of data that are trusted, all of it.
    #[must_use]
    pub fn with_trusted(self, trusted: Option<&'a [f32]>) -> Self {
        RankShards { trusted, ..self }
    }

    /// Exchanges vectors of which each rank has made `rows[rank]`: each gives its own and keeps `parts` of all.
    ///
    /// # Shapes
    /// `own`: this rank's vectors of `dim`, one after the other. `names`: one a vector, those of rank 0 first.
    ///
    /// # Collective
    /// Every rank, with the same `dim`, `rows` and `names`.
    ///
    /// # Errors
    /// [`CommError::Length`] when `own` is not as long as `rows` says; another rank's failure.
    pub fn exchange_rows(
        comm: &'a dyn Communicator,
        backend: B,
        dim: usize,
        own: &[f32],
        rows: &[usize],
        names: Vec<Sender>,
        parts: &'a mut Vec<f32>,
    ) -> Result<Self, CommError> {
        let (rank, size) = (comm.rank(), comm.size());
        let ranges: Vec<Range<usize>> = size.ranks().map(|rank| coordinates(comm, dim, rank)).collect();
        let here = ranges[rank.index()].len();
        let mine = rows[rank.index()];
        let counts: Vec<usize> = ranges.iter().map(|range| mine * range.len()).collect();
        let expected: Vec<usize> = rows.iter().map(|rows| rows * here).collect();
        parts.resize(expected.iter().sum(), 0.0);
        if mine <= 1 || ranges.len() == 1 {
            comm.all_to_all_into(own, &counts, parts, &expected)?;
        } else {
            let mut packed = Vec::with_capacity(own.len());
            for range in &ranges {
                own.chunks_exact(dim.max(1)).for_each(|row| packed.extend_from_slice(&row[range.clone()]));
            }
            comm.all_to_all_into(&packed, &counts, parts, &expected)?;
        }
        Ok(RankShards { comm, backend, dim, names, parts, trusted: None })
    }

    fn here(&self) -> Range<usize> {
        coordinates(self.comm, self.dim, self.comm.rank())
    }
}

/// State of which each rank has the coordinates that it holds of vectors of `dim`, joined on rank 0; nothing on the others.
///
/// # Collective
/// Every rank, with tensors of the same names.
///
/// # Errors
/// [`CommError::Length`] for a tensor that is not as long as the part of a vector; another rank's failure.
pub fn gather_parts(
    comm: &dyn Communicator,
    dim: usize,
    parts: Vec<StateTensor>,
) -> Result<Vec<StateTensor>, CommError> {
    let is_root = comm.rank() == Rank::ZERO;
    let size = comm.size();
    let mut to_root = vec![0; size.get()];
    to_root[0] = coordinates(comm, dim, comm.rank()).len();
    let expected: Vec<usize> = match is_root {
        true => size.ranks().map(|rank| coordinates(comm, dim, rank).len()).collect(),
        false => vec![0; size.get()],
    };
    let mut whole = Vec::new();
    for tensor in parts {
        let mut all = vec![0.0; expected.iter().sum()];
        comm.all_to_all_into(tensor.data.elems::<f32>().unwrap_or_default(), &to_root, &mut all, &expected)?;
        whole.extend(is_root.then(|| StateTensor::new(tensor.name, &all)));
    }
    Ok(whole)
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
        self.names.len()
    }

    fn dim(&self) -> usize {
        self.dim
    }

    fn id(&self, i: usize) -> u64 {
        self.names[i].id
    }

    fn samples(&self, i: usize) -> u64 {
        self.names[i].samples
    }

    fn shard(&self) -> Option<&dyn Shard> {
        Some(self)
    }

    fn trusted(&self) -> Option<&[f32]> {
        self.trusted
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
            .field("names", &self.names)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Over;
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
                let (slices, samples) = (vec![0..dim; ranks], vec![1; ranks]);
                let backend = Cpu::<f32>::new();
                let set =
                    RankShards::exchange_slices(&*comm, backend, dim, &own, &slices, samples, &mut parts)?;
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

    /// Vectors that two ranks hold in slices, or one alone, for lengths that neither they nor blocks cut evenly.
    #[test]
    fn slices_are_put_together() {
        let over = Over::Nodes { ranks_per_node: 2 };
        for (ranks, dim) in [(2, 5), (3, Blocks::LEN + 3), (4, 5 * Blocks::LEN + 1), (5, 3)] {
            let got = run_ranks(WorldSize(ranks), &Options::default(), move |comm| {
                let slices = over.slices(ranks, dim);
                let (n, rank) = (over.senders(ranks), comm.rank().index());
                let own = row(over.sender(rank), dim)[slices[rank].clone()].to_vec();
                let (samples, backend, mut parts) = (vec![1; n], Cpu::<f32>::new(), Vec::new());
                let set =
                    RankShards::exchange_slices(&*comm, backend, dim, &own, &slices, samples, &mut parts)?;
                let mut all = vec![vec![0.0; dim]; n];
                for (i, row) in all.iter_mut().enumerate() {
                    set.row(i, row)?;
                }
                let part = StateTensor::new("part", set.part(n - 1));
                Ok::<_, GradError>((all, gather_parts(&*comm, dim, vec![part])?))
            });
            let need: Vec<Vec<f32>> = (0..over.senders(ranks)).map(|node| row(node, dim)).collect();
            for (rank, (all, gathered)) in got.expect("no rank fails").into_iter().enumerate() {
                assert_eq!(all, need, "rank {rank} of {ranks}, {dim}");
                let last = StateTensor::new("part", &need[need.len() - 1]);
                assert_eq!(gathered, if rank == 0 { vec![last] } else { Vec::new() });
            }
        }
    }

    /// Ranks that play no, one or several clients.
    #[test]
    fn rows_of_several_clients_a_rank_are_the_set_of_rows() {
        let dim = 2 * Blocks::LEN + 5;
        for rows in [vec![3], vec![1, 2], vec![0, 2, 1], vec![2, 0, 0, 1]] {
            let need: Vec<Vec<f32>> = (0..3).map(|client| row(client, dim)).collect();
            let (ranks, expected) = (rows.len(), need.clone());
            let got = run_ranks(WorldSize(ranks), &Options::default(), move |comm| {
                let first: usize = rows[..comm.rank().index()].iter().sum();
                let own = need[first..first + rows[comm.rank().index()]].concat();
                let names = (0..3).map(|client| Sender { id: 10 + client, samples: client }).collect();
                let mut parts = Vec::new();
                let set = RankShards::exchange_rows(
                    &*comm,
                    Cpu::<f32>::new(),
                    dim,
                    &own,
                    &rows,
                    names,
                    &mut parts,
                )?;
                assert_eq!((set.len(), set.id(2), set.samples(2)), (3, 12, 2));
                let mut all = vec![vec![0.0; dim]; 3];
                for (i, row) in all.iter_mut().enumerate() {
                    set.row(i, row)?;
                }
                Ok::<_, GradError>(all)
            });
            assert_eq!(got.expect("no rank fails"), vec![expected; ranks]);
        }
    }
}
