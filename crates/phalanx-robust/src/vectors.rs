//! What rules measure of `n` vectors, on several threads and ranks, to bits that do not depend on how many.

use crate::mixing::Mixing;
use phalanx_comm::{NodeId, ShardTree};
use phalanx_grad::{Blocks, GradError, Gram, Shard};
use phalanx_tensor::Cpu;
use phalanx_tensor::op::ReduceOps;
use phalanx_tensor::rows::{self, Columns, Products, Statistic};
use std::borrow::Cow;
use std::ops::Range;
use std::panic::resume_unwind;
use std::thread;

/// Columns that are mixed at once.
const BLOCK: usize = 1024;

/// Numbers for which starting a thread pays.
const WORTH_A_THREAD: usize = 1 << 16;

/// Vectors of one length, or what this rank holds of them.
#[derive(Clone, Debug)]
pub(crate) struct Vectors<'a> {
    /// The numbers that are here.
    pub(crate) rows: Vec<&'a [f32]>,
    /// Numbers of a whole vector.
    pub(crate) dim: usize,
    pub(crate) threads: usize,
    /// Where the other numbers are, unless all are here.
    pub(crate) shard: Option<&'a dyn Shard>,
}

impl Vectors<'_> {
    /// All inner products, `n x n`.
    pub(crate) fn gram(&self) -> Result<Gram, GradError> {
        self.gram_by(|row, columns, _| Cow::Borrowed(&row[columns]))
    }

    /// All inner products of the vectors of some coordinates, rising, counted in whole vectors.
    pub(crate) fn gram_over(&self, coordinates: &[usize]) -> Result<Gram, GradError> {
        self.gram_by(|row, columns, first| {
            let place = |column: usize| coordinates.partition_point(|k| *k < first + column);
            let chosen = &coordinates[place(columns.start)..place(columns.end)];
            chosen.iter().map(|k| row[k - first]).collect()
        })
    }

    /// All inner products of what `part` takes of each vector from a range of columns, counted from the first one here,
    /// whose coordinate it is told.
    fn gram_by<'s>(
        &'s self,
        part: impl Fn(&'s [f32], Range<usize>, usize) -> Cow<'s, [f32]> + Sync,
    ) -> Result<Gram, GradError> {
        let n = self.rows.len();
        let first = self.shard.map_or(0, |shard| Blocks::new(self.dim).coordinates(shard.blocks()).start);
        let at = |i: usize, j: usize| i * (i + 1) / 2 + j;
        let start = || Ok((Products::new(n)?, vec![0.0; n * n]));
        let triangle = self.totals(at(n, 0), start, |(products, gram_nn), columns, sums| {
            let parts: Vec<Cow<'_, [f32]>> =
                self.rows.iter().map(|row| part(row, columns.clone(), first)).collect();
            let parts: Vec<&[f32]> = parts.iter().map(AsRef::as_ref).collect();
            products.add(&parts);
            products.take(gram_nn);
            for i in 0..n {
                sums[at(i, 0)..=at(i, i)].copy_from_slice(&gram_nn[i * n..=i * n + i]);
            }
        })?;
        Ok(Gram::from_fn(n, |i, j| triangle[at(i.max(j), i.min(j))]))
    }

    /// The squared length of each.
    pub(crate) fn norms_sq(&self) -> Result<Vec<f64>, GradError> {
        self.sums(|row, columns| Cpu::<f32>::new().moments(&row[columns]).sum_sq)
    }

    /// The inner product of each with `anchor`, of which this is the part here.
    pub(crate) fn products(&self, anchor: &[f32]) -> Result<Vec<f64>, GradError> {
        self.sums(|row, columns| Cpu::<f32>::new().dot(&row[columns.clone()], &anchor[columns]))
    }

    /// How many numbers of each are infinite or NaN.
    #[expect(clippy::cast_precision_loss, reason = "counts are far below 2^52")]
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "sums of counts are counts")]
    pub(crate) fn nonfinite(&self) -> Result<Vec<usize>, GradError> {
        let counts =
            self.sums(|row, columns| row[columns].iter().filter(|x| !x.is_finite()).count() as f64)?;
        Ok(counts.into_iter().map(|count| count as usize).collect())
    }

    /// A sum over columns for each vector.
    fn sums(&self, part: impl Fn(&[f32], Range<usize>) -> f64 + Sync) -> Result<Vec<f64>, GradError> {
        self.totals(
            self.rows.len(),
            || Ok(()),
            |(), columns, sums| {
                sums.iter_mut().zip(&self.rows).for_each(|(sum, row)| *sum = part(row, columns.clone()));
            },
        )
    }

    /// For each vector after mixing, sums over columns that need the mixed vectors themselves: `part` gets all of
    /// them, a block of columns at a time, and adds to one number a vector.
    pub(crate) fn sums_mixed(
        &self,
        mixing: Option<&Mixing>,
        part: impl Fn(&[&[f32]], &mut [f64]) + Sync,
    ) -> Result<Vec<f64>, GradError> {
        let n = mixing.map_or(self.rows.len(), Mixing::len);
        self.totals(
            n,
            || Ok(Mixer::new(self, mixing)),
            |mixer, columns, sums| {
                for at in columns.clone().step_by(BLOCK) {
                    mixer.read(at..columns.end.min(at + BLOCK), |rows| part(rows, sums));
                }
            },
        )
    }

    /// Sums over all columns, here and on other ranks, in the order of the tree of blocks: `leaf` adds those over the
    /// columns of a block, counted from the first one here, to zeros.
    pub(crate) fn totals<S>(
        &self,
        width: usize,
        start: impl Fn() -> Result<S, GradError> + Sync,
        leaf: impl Fn(&mut S, Range<usize>, &mut [f64]) + Sync,
    ) -> Result<Vec<f64>, GradError> {
        let blocks = Blocks::new(self.dim);
        let tree = blocks.tree();
        let here = self.shard.map_or(0..tree.shards(), Shard::blocks);
        let first = blocks.coordinates(here.clone()).start;
        let jobs = cut(here.len(), self.useful_threads(), 1);
        let parts = on_threads(jobs, |mine: Range<usize>| {
            let mut state = start()?;
            Ok::<_, GradError>(blocks.fold(here.start + mine.start..here.start + mine.end, |columns| {
                let mut sums = vec![0.0; width];
                leaf(&mut state, columns.start - first..columns.end - first, &mut sums);
                sums
            }))
        });
        let mut nodes = Vec::new();
        for part in parts {
            nodes.extend(part?);
        }
        let sums = joined(tree, nodes);
        match self.shard {
            Some(shard) => Ok(shard.sum(&sums, width)?.into_inner()),
            None => Ok(sums),
        }
    }

    /// Whether something holds on every rank.
    pub(crate) fn everywhere(&self, holds: bool) -> Result<bool, GradError> {
        let Some(shard) = self.shard else { return Ok(holds) };
        // a rank without coordinates has nothing that could fail
        let mut failures = vec![0.0; Blocks::new(self.dim).tree().cover(shard.blocks()).count()];
        failures.iter_mut().take(1).for_each(|first| *first = f64::from(u8::from(!holds)));
        Ok(shard.sum(&failures, 1)?[0] == 0.0)
    }

    /// `out = sum_i w_i x_i + sum_k v_k y_k`, and whether all of it is finite.
    pub(crate) fn weighted_sum(
        &self,
        weights_n: &[f64],
        anchors: &[(f64, &[f32])],
        out_d: &mut [f32],
    ) -> bool {
        let all: Vec<&[f32]> = self.rows.iter().copied().chain(anchors.iter().map(|(_, row)| *row)).collect();
        let weights: Vec<f64> =
            weights_n.iter().copied().chain(anchors.iter().map(|(weight, _)| *weight)).collect();
        let done = self.per_chunk(out_d, |columns, out| {
            let part: Vec<&[f32]> = all.iter().map(|row| &row[columns.clone()]).collect();
            rows::weighted_sum(&part, &weights, out);
            rows::all_finite(out)
        });
        done.into_iter().all(|finite| finite)
    }

    /// A statistic of each column of chosen vectors after mixing, and whether all numbers were finite.
    pub(crate) fn columns(
        &self,
        mixing: Option<&Mixing>,
        chosen: &[usize],
        statistic: Statistic,
        out_d: &mut [f32],
    ) -> bool {
        let done = self.per_chunk(out_d, |columns, out| {
            let mut of_column = Columns::new(chosen.len(), statistic);
            if mixing.is_none() {
                let part: Vec<&[f32]> = self.rows.iter().map(|row| &row[columns.clone()]).collect();
                return of_column.apply(&choose(&part, chosen), out);
            }
            let mut mixer = Mixer::new(self, mixing);
            out.chunks_mut(BLOCK).zip(columns.clone().step_by(BLOCK)).all(|(out, at)| {
                let mut finite = false;
                mixer.read(at..at + out.len(), |rows| finite = of_column.apply(&choose(rows, chosen), out));
                finite
            })
        });
        done.into_iter().all(|finite| finite)
    }

    /// Writes the mixed vectors.
    pub(crate) fn mix(&self, mixing: &Mixing, out: &mut [Vec<f32>]) {
        let m = out.len();
        let cuts = self.cuts(self.here());
        let mut rest: Vec<&mut [f32]> = out.iter_mut().map(Vec::as_mut_slice).collect();
        let mut jobs = Vec::new();
        for cut in &cuts {
            let (mine, others): (Vec<_>, Vec<_>) =
                rest.into_iter().map(|row| row.split_at_mut(cut.len())).unzip();
            jobs.push((cut.clone(), mine));
            rest = others;
        }
        on_threads(jobs, |(columns, mut mine): (Range<usize>, Vec<&mut [f32]>)| {
            let part: Vec<&[f32]> = self.rows.iter().map(|row| &row[columns.clone()]).collect();
            debug_assert_eq!(mine.len(), m);
            rows::mix(&part, mixing.weights(), &mut mine);
        });
    }

    /// Cuts the output and lets each thread write its chunk of columns.
    fn per_chunk<R: Send>(
        &self,
        out_d: &mut [f32],
        work: impl Fn(Range<usize>, &mut [f32]) -> R + Sync,
    ) -> Vec<R> {
        let mut rest = out_d;
        let mut jobs = Vec::new();
        for columns in self.cuts(rest.len()) {
            let (mine, others) = rest.split_at_mut(columns.len());
            jobs.push((columns, mine));
            rest = others;
        }
        on_threads(jobs, |(columns, mine)| work(columns, mine))
    }

    fn cuts(&self, dim: usize) -> Vec<Range<usize>> {
        cut(dim, self.useful_threads(), BLOCK)
    }

    fn useful_threads(&self) -> usize {
        self.threads.min(self.rows.len() * self.here() / WORTH_A_THREAD).max(1)
    }

    /// Numbers of a vector that are here.
    pub(crate) fn here(&self) -> usize {
        self.rows.first().map_or(0, |row| row.len())
    }
}

/// The sums of consecutive nodes, added up as far as the tree has nodes for them, one after the other.
fn joined(tree: ShardTree, mut nodes: Vec<(NodeId, Vec<f64>)>) -> Vec<f64> {
    let mut merges = Vec::new();
    tree.merges(nodes.iter().map(|(node, _)| *node), &mut merges);
    let mut is_left = vec![true; nodes.len()];
    for (left, right) in merges {
        let (head, tail) = nodes.split_at_mut(right);
        head[left].1.iter_mut().zip(&tail[0].1).for_each(|(sum, x)| *sum += x);
        is_left[right] = false;
    }
    nodes.into_iter().zip(is_left).filter(|(_, is_left)| *is_left).flat_map(|((_, sums), _)| sums).collect()
}

fn choose<'r>(rows: &[&'r [f32]], chosen: &[usize]) -> Vec<&'r [f32]> {
    chosen.iter().map(|i| rows[*i]).collect()
}

/// Blocks of mixed vectors, one after the other in the same memory.
struct Mixer<'a, 'v> {
    vectors: &'a Vectors<'v>,
    mixing: Option<&'a Mixing>,
    tile: Vec<f32>,
}

impl<'a, 'v> Mixer<'a, 'v> {
    fn new(vectors: &'a Vectors<'v>, mixing: Option<&'a Mixing>) -> Self {
        Mixer { vectors, mixing, tile: vec![0.0; mixing.map_or(0, Mixing::len) * BLOCK] }
    }

    fn read(&mut self, columns: Range<usize>, then: impl FnOnce(&[&[f32]])) {
        let part: Vec<&[f32]> = self.vectors.rows.iter().map(|row| &row[columns.clone()]).collect();
        let Some(mixing) = self.mixing else { return then(&part) };
        let mut mixed: Vec<&mut [f32]> =
            self.tile.chunks_exact_mut(BLOCK).map(|row| &mut row[..columns.len()]).collect();
        rows::mix(&part, mixing.weights(), &mut mixed);
        let mixed: Vec<&[f32]> = mixed.into_iter().map(|row| &*row).collect();
        then(&mixed);
    }
}

/// `count` ranges of `0..len` at multiples of `grain`, the last ones empty when there is too little.
fn cut(len: usize, count: usize, grain: usize) -> Vec<Range<usize>> {
    let each = len.div_ceil(count).next_multiple_of(grain);
    (0..count).map(|i| (i * each).min(len)..((i + 1) * each).min(len)).collect()
}

/// Does each job on a thread of its own, the last on this one; results in order.
fn on_threads<J: Send, R: Send>(mut jobs: Vec<J>, work: impl Fn(J) -> R + Sync) -> Vec<R> {
    let Some(last) = jobs.pop() else { return Vec::new() };
    thread::scope(|scope| {
        let work = &work;
        let started: Vec<_> = jobs.into_iter().map(|job| scope.spawn(move || work(job))).collect();
        let own = work(last);
        let join = |thread: thread::ScopedJoinHandle<'_, R>| {
            thread.join().unwrap_or_else(|panic| resume_unwind(panic))
        };
        started.into_iter().map(join).collect::<Vec<R>>().into_iter().chain([own]).collect()
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use phalanx_tensor::rng::{Purpose, Stream};

    #[test]
    fn the_bits_do_not_depend_on_the_threads() {
        let dim = 70_001;
        let rows: Vec<Vec<f32>> = (0..5)
            .map(|i| {
                let mut row = vec![0.0; dim];
                Stream::new(2, Purpose::User(3), i).fill_normal(&mut row);
                row
            })
            .collect();
        let rows: Vec<&[f32]> = rows.iter().map(Vec::as_slice).collect();
        let mixing = Mixing::new(3, 5, (0..15).map(|i| f64::from(i % 4) / 7.0).collect());
        let on = |threads| {
            let vectors = Vectors { rows: rows.clone(), dim, threads, shard: None };
            let mut sum = vec![0.0; dim];
            assert!(vectors.weighted_sum(&[0.3, 0.2, 0.1, 0.0, 0.7], &[(0.5, rows[1])], &mut sum));
            let mut median = vec![0.0; dim];
            assert!(vectors.columns(None, &[0, 2, 4], Statistic::Median, &mut median));
            let mut of_mixed = vec![0.0; dim];
            assert!(vectors.columns(Some(&mixing), &[0, 1, 2], Statistic::Median, &mut of_mixed));
            let mut mixed = vec![vec![0.0; dim]; 3];
            vectors.mix(&mixing, &mut mixed);
            let l1 = vectors.sums_mixed(Some(&mixing), |rows, sums| {
                rows.iter()
                    .zip(sums)
                    .for_each(|(row, sum)| *sum += f64::from(row.iter().map(|x| x.abs()).sum::<f32>()));
            });
            let (norms, products) = (vectors.norms_sq().unwrap(), vectors.products(rows[3]).unwrap());
            let products = (vectors.gram().unwrap(), norms, products, l1.unwrap());
            (products, sum, median, of_mixed, mixed)
        };
        let one = on(1);
        assert_eq!(one, on(2));
        assert_eq!(one, on(3));
        let ((gram, norms, products, _), _, _, of_mixed, mixed) = one;
        // three passes over the same numbers, in three orders
        for i in 0..5 {
            assert!(
                (gram.norm_sq(i) / norms[i] - 1.0).abs() < 1e-12
                    && (gram.get(i, 3) - products[i]).abs() < 1e-8
            );
        }
        for k in [0, 1023, 1024, dim - 1] {
            let mut column = [mixed[0][k], mixed[1][k], mixed[2][k]];
            column.sort_by(f32::total_cmp);
            assert_eq!(of_mixed[k], column[1]);
        }
    }

    #[test]
    fn cuts_cover_everything_once() {
        for (len, count, grain) in [(0, 3, 4), (1, 2, 512), (1025, 2, 1024), (10_000, 3, 1), (5, 1, 512)] {
            let cuts = cut(len, count, grain);
            assert_eq!(
                cuts.iter().flat_map(|range| range.clone()).collect::<Vec<_>>(),
                (0..len).collect::<Vec<_>>()
            );
        }
    }
}
