//! Sums of rows with weights, and what one pass over a row tells of it.

use crate::cpu::simd::simd;

/// Columns that are summed at once: their `f64` sums stay in the first cache.
const BLOCK: usize = 1024;

/// `out = sum_i w_i x_i`. Rows of weight 0 are not read.
///
/// # Numerics
/// In `f64`, the rows in order, rounded once.
///
/// # Panics
/// With another number of weights, or another length of a row that is read.
#[track_caller]
pub fn weighted_sum(rows: &[&[f32]], weights_n: &[f64], out_d: &mut [f32]) {
    assert_eq!(rows.len(), weights_n.len(), "a weight for each row");
    let read: Vec<(&[f32], f64)> =
        rows.iter().copied().zip(weights_n.iter().copied()).filter(|(_, w)| *w != 0.0).collect();
    assert!(read.iter().all(|(row, _)| row.len() == out_d.len()), "rows as long as their sum");
    let mut sums = [0.0; BLOCK];
    for (out, at) in out_d.chunks_mut(BLOCK).zip((0..).step_by(BLOCK)) {
        let sums = &mut sums[..out.len()];
        sums.fill(0.0);
        for (row, weight) in &read {
            add(*weight, &row[at..at + out.len()], sums);
        }
        round(sums, out);
    }
}

/// `out_j = sum_i w_ji x_i` for each row `j` of `weights_mn`.
///
/// # Shapes
/// `weights_mn`: `m x n`; `out`: `m` rows, each as long as the rows that are read.
///
/// # Numerics
/// As [`weighted_sum`]; a weight of 0 hides its row from that sum.
///
/// # Panics
/// When a shape is wrong.
#[track_caller]
pub fn mix(rows: &[&[f32]], weights_mn: &[f64], out: &mut [&mut [f32]]) {
    assert_eq!(weights_mn.len(), rows.len() * out.len(), "a weight for each pair of rows");
    // few columns at once, so that all rows of them are in cache for every sum
    let len = out.first().map_or(0, |row| row.len());
    for at in (0..len).step_by(BLOCK) {
        let end = len.min(at + BLOCK);
        let part: Vec<&[f32]> = rows.iter().map(|row| &row[at..end]).collect();
        for (out, weights_n) in out.iter_mut().zip(weights_mn.chunks_exact(rows.len())) {
            weighted_sum(&part, weights_n, &mut out[at..end]);
        }
    }
}

simd! {
    fn add(weight: f64, row: &[f32], sums: &mut [f64]) {
        for (sum, x) in sums.iter_mut().zip(row) {
            *sum += weight * f64::from(*x);
        }
    }
}

simd! {
    #[expect(clippy::cast_possible_truncation, reason = "rounding is what it is for")]
    fn round(sums: &[f64], out: &mut [f32]) {
        for (sum, out) in sums.iter().zip(out) {
            *out = *sum as f32;
        }
    }
}

/// Whether every number is finite.
#[must_use]
pub fn all_finite(row: &[f32]) -> bool {
    row.chunks(BLOCK).all(|block| is_finite_sum(zeros(block)))
}

/// Whether a sum of zero multiples met no number that is infinite or NaN.
#[must_use]
pub fn is_finite_sum(zero: f32) -> bool {
    zero == 0.0
}

simd! {
    /// 0, or NaN where a number is infinite or NaN.
    fn zeros(row: &[f32]) -> f32 {
        let mut lanes = [0.0_f32; 16];
        let (groups, rest) = row.as_chunks::<16>();
        for group in groups {
            for (lane, x) in lanes.iter_mut().zip(group) {
                *lane += *x * 0.0;
            }
        }
        for (lane, x) in lanes.iter_mut().zip(rest) {
            *lane += *x * 0.0;
        }
        lanes.iter().sum()
    }
}

/// `sum_k |x_k - y_k|`.
///
/// # Numerics
/// Differences in `f32`, summed in `f64` in sixteen lanes, which are added in order.
///
/// # Panics
/// With unequal lengths.
#[track_caller]
#[must_use]
pub fn absolute_distances(x: &[f32], y: &[f32]) -> f64 {
    assert_eq!(x.len(), y.len(), "rows of one length");
    absolute(x, y)
}

simd! {
    fn absolute(x: &[f32], y: &[f32]) -> f64 {
        let mut lanes = [0.0_f64; 16];
        let (xs, x_rest) = x.as_chunks::<16>();
        let (ys, y_rest) = y.as_chunks::<16>();
        for (x, y) in xs.iter().zip(ys) {
            for ((lane, x), y) in lanes.iter_mut().zip(x).zip(y) {
                *lane += (f64::from(*x) - f64::from(*y)).abs();
            }
        }
        for ((lane, x), y) in lanes.iter_mut().zip(x_rest).zip(y_rest) {
            *lane += (f64::from(*x) - f64::from(*y)).abs();
        }
        lanes.iter().sum()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_of_weight_zero_are_not_read() {
        let mut out = [7.0, 7.0];
        weighted_sum(&[&[f32::NAN], &[1.0, 2.0]], &[0.0, 3.0], &mut out);
        assert_eq!(out, [3.0, 6.0]);
        weighted_sum(&[&[1.0, 2.0]], &[0.0], &mut out);
        assert_eq!(out, [0.0, 0.0]);
    }

    /// In `f32`, 1e8 + 1 - 1e8 is 0.
    #[test]
    fn sums_are_rounded_once() {
        let mut out = [0.0];
        weighted_sum(&[&[1e8], &[1.0], &[-1e8]], &[1.0; 3], &mut out);
        assert_eq!(out, [1.0]);
    }

    #[test]
    fn mixing_is_many_sums() {
        for len in [1, BLOCK, BLOCK + 5] {
            let (a, b) = (vec![1.0; len], vec![4.0; len]);
            let (mut first, mut second) = (vec![0.0; len], vec![0.0; len]);
            mix(&[&a, &b], &[0.5, 0.5, 2.0, 0.0], &mut [&mut first, &mut second]);
            assert!(first.iter().all(|x| *x == 2.5) && second.iter().all(|x| *x == 2.0), "{len}");
        }
    }

    #[test]
    fn one_number_that_is_not_finite_is_found_anywhere() {
        for (len, at) in [(1, 0), (16, 15), (17, 16), (3000, 2999), (3000, 0)] {
            let mut row = vec![3e38; len];
            assert!(all_finite(&row));
            for bad in [f32::NAN, f32::INFINITY, f32::NEG_INFINITY] {
                row[at] = bad;
                assert!(!all_finite(&row), "{len} {at} {bad}");
            }
        }
        assert!(all_finite(&[]) && all_finite(&[-0.0, 1e-45]));
    }

    #[test]
    fn absolute_distances_by_hand() {
        // |1 - 3| + |2 + 1| + 15 * 1
        let (mut x, mut y) = (vec![1.0; 17], vec![0.0; 17]);
        (x[1], y[0], y[1]) = (2.0, 3.0, -1.0);
        assert_eq!(absolute_distances(&x, &y), 20.0);
    }
}
