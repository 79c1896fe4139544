//! Statistics of each column of some rows: the coordinate-wise rules.

use super::network::Network;
use crate::cpu::simd::simd;

/// Columns that are worked on at once, each row's part a few registers.
const WIDTH: usize = 128;

/// What is made of the `n` numbers of a column.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Statistic {
    /// The middle one, or the mean of the two middle ones.
    Median,
    /// The mean without the `cut` least and the `cut` greatest.
    TrimmedMean {
        /// How many go on each side.
        cut: usize,
    },
    /// The mean of the `keep` nearest to the median; of two at one distance, the lesser.
    MeanAroundMedian {
        /// How many stay.
        keep: usize,
    },
    /// How many are positive, less how many are negative.
    SignSum,
}

/// A statistic of columns, ready for `n` rows.
///
/// # Numerics
/// Ranks are exact; means are summed in `f64` in the order of ranks and rounded once.
///
/// # Examples
/// ```
/// use phalanx_tensor::rows::{Columns, Statistic};
/// let mut median = Columns::new(3, Statistic::Median);
/// let mut out = [0.0; 2];
/// assert!(median.apply(&[&[1.0, 5.0], &[9.0, 4.0], &[2.0, 6.0]], &mut out));
/// assert_eq!(out, [2.0, 5.0]);
/// assert!(!median.apply(&[&[1.0, 5.0], &[f32::NAN, 4.0], &[2.0, 6.0]], &mut out));
/// ```
#[derive(Clone, Debug)]
pub struct Columns {
    statistic: Statistic,
    network: Network,
    tile: Vec<[f32; WIDTH]>,
    sums: [f64; WIDTH],
}

impl Columns {
    /// Prepares the statistic of `n` numbers.
    ///
    /// # Panics
    /// When nothing is left: `n` is 0, `2 cut >= n`, `keep` is 0 or above `n`.
    #[track_caller]
    #[must_use]
    pub fn new(n: usize, statistic: Statistic) -> Self {
        let middle = n.saturating_sub(1) / 2..n / 2 + 1;
        let network = match statistic {
            Statistic::Median => Network::ranks(n, middle),
            Statistic::TrimmedMean { cut } => {
                assert!(2 * cut < n, "{cut} on each side of {n} leave nothing");
                Network::ranks(n, cut..n - cut)
            }
            Statistic::MeanAroundMedian { keep } => {
                assert!(0 < keep && keep <= n, "{keep} of {n}");
                Network::sorting(n)
            }
            Statistic::SignSum => Network::ranks(n, 0..0),
        };
        assert!(n > 0, "a statistic of no number");
        Columns { statistic, network, tile: vec![[0.0; WIDTH]; n], sums: [0.0; WIDTH] }
    }

    /// Writes the statistic of each column and says whether all numbers were finite; if not, `out_d` has no meaning.
    ///
    /// # Panics
    /// With another number of rows, or rows of another length than `out_d`.
    #[track_caller]
    pub fn apply(&mut self, rows: &[&[f32]], out_d: &mut [f32]) -> bool {
        assert_eq!(rows.len(), self.network.n(), "rows of a statistic");
        assert!(rows.iter().all(|row| row.len() == out_d.len()), "rows as long as their statistic");
        for (out, at) in out_d.chunks_mut(WIDTH).zip((0..).step_by(WIDTH)) {
            if !super::is_finite_sum(copied(rows, at, out.len(), &mut self.tile)) {
                return false;
            }
            sort(self.network.comparators(), &mut self.tile);
            match self.statistic {
                Statistic::Median => median(&self.tile, &mut self.sums),
                Statistic::TrimmedMean { cut } => {
                    mean(&self.tile[cut..self.tile.len() - cut], &mut self.sums)
                }
                Statistic::MeanAroundMedian { keep } => around(&self.tile, keep, &mut self.sums),
                Statistic::SignSum => signs(&self.tile, &mut self.sums),
            }
            rounded(&self.sums[..out.len()], out);
        }
        true
    }
}

simd! {
    /// Copies some columns and says 0, or NaN where a number is infinite or NaN.
    fn copied(rows: &[&[f32]], at: usize, len: usize, tile: &mut [[f32; WIDTH]]) -> f32 {
        let mut lanes = [0.0_f32; 16];
        for (row, to) in rows.iter().zip(tile) {
            let from = &row[at..at + len];
            let (groups, rest) = from.as_chunks::<16>();
            for (group, to) in groups.iter().zip(to.as_chunks_mut::<16>().0) {
                for ((lane, x), y) in lanes.iter_mut().zip(group).zip(to) {
                    *y = *x;
                    *lane += *x * 0.0;
                }
            }
            for ((lane, x), y) in lanes.iter_mut().zip(rest).zip(&mut to[len - rest.len()..]) {
                *y = *x;
                *lane += *x * 0.0;
            }
        }
        lanes.iter().sum()
    }
}

simd! {
    fn sort(comparators: &[(usize, usize)], tile: &mut [[f32; WIDTH]]) {
        for (low, high) in comparators {
            let (left, right) = tile.split_at_mut(*high);
            for (x, y) in left[*low].iter_mut().zip(&mut right[0]) {
                let less = if *y < *x { *y } else { *x };
                let more = if *y < *x { *x } else { *y };
                (*x, *y) = (less, more);
            }
        }
    }
}

simd! {
    fn median(sorted: &[[f32; WIDTH]], out: &mut [f64; WIDTH]) {
        let n = sorted.len();
        for ((x, y), out) in sorted[(n - 1) / 2].iter().zip(&sorted[n / 2]).zip(out) {
            *out = (f64::from(*x) + f64::from(*y)) * 0.5;
        }
    }
}

simd! {
    fn mean(rows: &[[f32; WIDTH]], out: &mut [f64; WIDTH]) {
        let count = rows.len() as f64;
        *out = [0.0; WIDTH];
        for row in rows {
            for (x, sum) in row.iter().zip(&mut *out) {
                *sum += f64::from(*x);
            }
        }
        for sum in out {
            *sum /= count;
        }
    }
}

simd! {
    /// The nearest to the median are neighbours in the sorted column: the window moves up past each number that is
    /// farther from the median than the one that would come in.
    fn around(sorted: &[[f32; WIDTH]], keep: usize, out: &mut [f64; WIDTH]) {
        let mut middle = [0.0; WIDTH];
        let n = sorted.len();
        for ((x, y), middle) in sorted[(n - 1) / 2].iter().zip(&sorted[n / 2]).zip(&mut middle) {
            *middle = (f64::from(*x) + f64::from(*y)) * 0.5;
        }
        let mut first = [0.0; WIDTH];
        for (low, high) in sorted.iter().zip(&sorted[keep..]) {
            for (((x, y), middle), first) in low.iter().zip(high).zip(&middle).zip(&mut first) {
                let moves = *middle - f64::from(*x) > f64::from(*y) - *middle;
                *first += if moves { 1.0 } else { 0.0 };
            }
        }
        *out = [0.0; WIDTH];
        for (rank, row) in sorted.iter().enumerate() {
            let (rank, beyond) = (rank as f64, rank as f64 - keep as f64);
            for ((x, first), sum) in row.iter().zip(&first).zip(&mut *out) {
                let inside = *first <= rank && *first > beyond;
                *sum += if inside { f64::from(*x) } else { 0.0 };
            }
        }
        for sum in out {
            *sum /= keep as f64;
        }
    }
}

simd! {
    fn signs(rows: &[[f32; WIDTH]], out: &mut [f64; WIDTH]) {
        *out = [0.0; WIDTH];
        for row in rows {
            for (x, sum) in row.iter().zip(&mut *out) {
                *sum += if *x > 0.0 { 1.0 } else { 0.0 };
                *sum -= if *x < 0.0 { 1.0 } else { 0.0 };
            }
        }
    }
}

simd! {
    #[expect(clippy::cast_possible_truncation, reason = "rounding is what it is for")]
    fn rounded(sums: &[f64], out: &mut [f32]) {
        for (sum, out) in sums.iter().zip(out) {
            *out = *sum as f32;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rng::{Purpose, Stream};

    fn one(statistic: Statistic, column: &[f32]) -> f32 {
        let rows: Vec<[f32; 1]> = column.iter().map(|x| [*x]).collect();
        let rows: Vec<&[f32]> = rows.iter().map(|row| &row[..]).collect();
        let mut out = [0.0];
        assert!(Columns::new(column.len(), statistic).apply(&rows, &mut out));
        out[0]
    }

    #[test]
    fn worked_by_hand() {
        let column = [9.0, -1.0, 4.0, 2.0, 3.0, 100.0];
        // sorted -1 2 3 4 9 100, median 3.5
        assert_eq!(one(Statistic::Median, &column), 3.5);
        // (2 + 3 + 4 + 9) / 4
        assert_eq!(one(Statistic::TrimmedMean { cut: 1 }, &column), 4.5);
        // distances 4.5 1.5 0.5 0.5 5.5 96.5: of four, -1 and not 9
        assert_eq!(one(Statistic::MeanAroundMedian { keep: 4 }, &column), 2.0);
        assert_eq!(one(Statistic::SignSum, &column), 4.0);
        assert_eq!(one(Statistic::SignSum, &[-2.0, -1.0, 0.0]), -2.0);
        // 1 and 3 are as near to 2: the lesser stays
        assert_eq!(one(Statistic::MeanAroundMedian { keep: 2 }, &[1.0, 2.0, 3.0]), 1.5);
    }

    /// A window that slid by differences would have lost the 1 beside the 3e38.
    #[test]
    fn what_is_left_out_leaves_no_trace() {
        let column = [-3e38, 1.0, 1.5, 2.0, 3e38];
        assert_eq!(one(Statistic::MeanAroundMedian { keep: 3 }, &column), 1.5);
        assert_eq!(one(Statistic::TrimmedMean { cut: 1 }, &column), 1.5);
        assert_eq!(one(Statistic::Median, &[3e38, 3e38]), 3e38);
    }

    #[test]
    fn every_column_of_every_shape_is_its_own() {
        for (n, d) in [(1, 1), (2, 127), (5, 128), (10, 129), (25, 300), (64, 17)] {
            let rows: Vec<Vec<f32>> = (0..n as u64)
                .map(|i| {
                    let mut row = vec![0.0; d];
                    Stream::new(5, Purpose::User(2), i).fill_normal(&mut row);
                    row
                })
                .collect();
            let slices: Vec<&[f32]> = rows.iter().map(Vec::as_slice).collect();
            let keep = n - n / 3;
            let (cut, around) = ((n - 1) / 3, Statistic::MeanAroundMedian { keep });
            for statistic in [Statistic::Median, Statistic::TrimmedMean { cut }, around, Statistic::SignSum] {
                let mut out = vec![9.0; d];
                assert!(Columns::new(n, statistic).apply(&slices, &mut out));
                for (k, got) in out.iter().enumerate() {
                    let column: Vec<f64> = rows.iter().map(|row| f64::from(row[k])).collect();
                    let want = plainly(statistic, column);
                    assert!((f64::from(*got) - want).abs() <= 1e-6 * want.abs(), "{n} {d} {k} {statistic:?}");
                }
            }
        }
    }

    fn plainly(statistic: Statistic, mut column: Vec<f64>) -> f64 {
        column.sort_by(f64::total_cmp);
        let n = column.len();
        let median = (column[(n - 1) / 2] + column[n / 2]) / 2.0;
        let mean = |x: &[f64]| x.iter().sum::<f64>() / x.len() as f64;
        match statistic {
            Statistic::Median => median,
            Statistic::TrimmedMean { cut } => mean(&column[cut..n - cut]),
            Statistic::MeanAroundMedian { keep } => {
                column.sort_by(|x, y| (x - median).abs().total_cmp(&(y - median).abs()));
                mean(&column[..keep])
            }
            Statistic::SignSum => column.iter().map(|x| if *x == 0.0 { 0.0 } else { x.signum() }).sum(),
        }
    }

    #[test]
    fn numbers_that_are_not_finite_are_noticed_in_any_column() {
        let clean = vec![1.0; 300];
        for at in [0, 127, 128, 299] {
            let mut bad = clean.clone();
            bad[at] = f32::INFINITY;
            let mut out = vec![0.0; 300];
            assert!(!Columns::new(2, Statistic::Median).apply(&[&clean, &bad], &mut out), "{at}");
        }
    }

    #[test]
    #[should_panic(expected = "leave nothing")]
    fn trimming_everything_is_refused() {
        drop(Columns::new(4, Statistic::TrimmedMean { cut: 2 }));
    }
}
