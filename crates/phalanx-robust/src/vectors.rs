//! What rules measure of `n` vectors in memory, on several threads, to bits that do not depend on how many.

use crate::mixing::Mixing;
use phalanx_grad::GradError;
use phalanx_tensor::op::ReduceOps;
use phalanx_tensor::rows::{self, Columns, Products, Statistic};
use phalanx_tensor::{Cpu, TensorError};
use std::ops::Range;
use std::panic::resume_unwind;
use std::thread;

/// Columns whose sums are kept apart, at least; sums over all are added in the order of these segments.
const SEGMENT: usize = 8192;

/// Segments at most, so that their `n x n` products stay a small part of the input.
const SEGMENTS: usize = 32;

/// Columns that are mixed at once.
const BLOCK: usize = 1024;

/// Numbers for which starting a thread pays.
const WORTH_A_THREAD: usize = 1 << 16;

/// Vectors of one length, all to be read from memory.
#[derive(Clone, Debug)]
pub(crate) struct Vectors<'a> {
    pub(crate) rows: Vec<&'a [f32]>,
    pub(crate) dim: usize,
    pub(crate) threads: usize,
}

impl Vectors<'_> {
    /// All inner products, `n x n`.
    pub(crate) fn gram(&self) -> Result<Vec<f64>, GradError> {
        gram_of(&self.rows, self.dim, self.threads)
    }

    /// The squared length of each.
    pub(crate) fn norms_sq(&self) -> Vec<f64> {
        self.sums(|row, columns| Cpu::<f32>::new().moments(&row[columns]).sum_sq)
    }

    /// The inner product of each with `anchor`.
    pub(crate) fn products(&self, anchor: &[f32]) -> Vec<f64> {
        self.sums(|row, columns| Cpu::<f32>::new().dot(&row[columns.clone()], &anchor[columns]))
    }

    /// A sum over columns for each vector, in the order of segments.
    fn sums(&self, part: impl Fn(&[f32], Range<usize>) -> f64 + Sync) -> Vec<f64> {
        let segments = segments(self.dim);
        let parts = self.per_thread(segments.len(), |mine| {
            let of_segment = |s: usize| self.rows.iter().map(|row| part(row, segments[s].clone())).collect();
            mine.map(of_segment).collect::<Vec<Vec<f64>>>()
        });
        let mut sums = vec![0.0; self.rows.len()];
        for segment in parts.into_iter().flatten() {
            sums.iter_mut().zip(segment).for_each(|(sum, part)| *sum += part);
        }
        sums
    }

    /// For each vector after mixing, sums over columns that need the mixed vectors themselves: `part` gets all of
    /// them, a block of columns at a time, and adds to one number a vector.
    pub(crate) fn sums_mixed(
        &self,
        mixing: Option<&Mixing>,
        part: impl Fn(&[&[f32]], &mut [f64]) + Sync,
    ) -> Vec<f64> {
        let n = mixing.map_or(self.rows.len(), Mixing::len);
        let segments = segments(self.dim);
        let parts = self.per_thread(segments.len(), |mine| {
            let mut mixer = Mixer::new(self, mixing);
            mine.map(|s| {
                let mut sums = vec![0.0; n];
                for at in segments[s].clone().step_by(BLOCK) {
                    mixer.read(at..segments[s].end.min(at + BLOCK), |rows| part(rows, &mut sums));
                }
                sums
            })
            .collect::<Vec<_>>()
        });
        let mut sums = vec![0.0; n];
        for segment in parts.into_iter().flatten() {
            sums.iter_mut().zip(segment).for_each(|(sum, part)| *sum += part);
        }
        sums
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
        let cuts = self.cuts(self.dim);
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

    /// Cuts `0..count` into a range a thread, at multiples of 1.
    fn per_thread<R: Send>(&self, count: usize, work: impl Fn(Range<usize>) -> R + Sync) -> Vec<R> {
        on_threads(cut(count, self.useful_threads(), 1), work)
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
        self.threads.min(self.rows.len() * self.dim / WORTH_A_THREAD).max(1)
    }
}

/// All inner products of rows of one length.
pub(crate) fn gram_of(all: &[&[f32]], dim: usize, threads: usize) -> Result<Vec<f64>, GradError> {
    let n = all.len();
    let segments = segments(dim);
    let threads = threads.min(n * dim / WORTH_A_THREAD).max(1);
    let parts = on_threads(cut(segments.len(), threads, 1), |mine: Range<usize>| {
        let mut products = Products::new(n)?;
        let mut grams = vec![0.0; mine.len() * n * n];
        for (gram_nn, columns) in grams.chunks_exact_mut((n * n).max(1)).zip(&segments[mine]) {
            let part: Vec<&[f32]> = all.iter().map(|row| &row[columns.clone()]).collect();
            products.add(&part);
            products.take(gram_nn);
        }
        Ok::<_, TensorError>(grams)
    });
    let mut sum_nn = vec![0.0; n * n];
    for grams in parts {
        for gram_nn in grams?.chunks_exact((n * n).max(1)) {
            sum_nn.iter_mut().zip(gram_nn).for_each(|(sum, part)| *sum += part);
        }
    }
    Ok(sum_nn)
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

/// Cuts columns by their number alone, so that sums do not depend on the threads.
fn segments(dim: usize) -> Vec<Range<usize>> {
    cut(dim, (dim / SEGMENT).clamp(1, SEGMENTS), 512)
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
            let vectors = Vectors { rows: rows.clone(), dim, threads };
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
            let products = (vectors.gram().unwrap(), vectors.norms_sq(), vectors.products(rows[3]), l1);
            (products, sum, median, of_mixed, mixed)
        };
        let one = on(1);
        assert_eq!(one, on(2));
        assert_eq!(one, on(3));
        let ((gram, norms, products, _), _, _, of_mixed, mixed) = one;
        // three passes over the same numbers, in three orders
        for i in 0..5 {
            assert!(
                (gram[i * 6] / norms[i] - 1.0).abs() < 1e-12 && (gram[i * 5 + 3] - products[i]).abs() < 1e-8
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
