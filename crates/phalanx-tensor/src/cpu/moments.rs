//! The scalars that every step wants to know of a flat buffer, in one pass bound by memory.

use super::simd::simd;
use crate::Float;
use crate::op::Moments;

/// Partial sums in flight. Fixed, so that the bits do not depend on the width of the vectors.
const LANES: usize = 16;

/// Elements summed before the lanes are, so that no sum grows long and a non-finite element is found again soon.
const BLOCK: usize = 4096;

/// Sums of squares and magnitudes, and the number of elements that are infinite or NaN.
///
/// # Numerics
/// Elements are widened to `f64` first, so that the square of an `f32` is exact and cannot overflow. Element `i` of
/// a block of 4096 goes to lane `i mod 16`; the lanes are added in a tree of halves, the blocks in order.
pub(super) fn moments<T: Float>(x: &[T]) -> Moments {
    let mut total = Moments::default();
    for block in x.chunks(BLOCK) {
        let [sum_sq, sum_abs] = block_moments(block);
        total.sum_sq += sum_sq;
        total.sum_abs += sum_abs;
        // a sum over non-finite elements is not finite, so elements are looked at only where that is so
        if !sum_sq.is_finite() {
            total.nonfinite += block.iter().filter(|x| !x.is_finite()).count() as u64;
        }
    }
    total
}

/// `sum x y`, in the lanes and blocks of [`moments`].
///
/// # Panics
/// With unequal lengths.
pub(super) fn dot<T: Float>(x: &[T], y: &[T]) -> f64 {
    assert_eq!(x.len(), y.len(), "dot");
    x.chunks(BLOCK).zip(y.chunks(BLOCK)).map(|(x, y)| block_dot(x, y)).sum()
}

simd! {
    fn block_moments<T: Float>(x: &[T]) -> [f64; 2] {
        let mut squares = [0.0; LANES];
        let mut magnitudes = [0.0; LANES];
        let (rows, rest) = x.as_chunks::<LANES>();
        for row in rows {
            for ((x, square), magnitude) in row.iter().zip(&mut squares).zip(&mut magnitudes) {
                let x = x.to_f64();
                *square += x * x;
                *magnitude += x.abs();
            }
        }
        for ((x, square), magnitude) in rest.iter().zip(&mut squares).zip(&mut magnitudes) {
            let x = x.to_f64();
            *square += x * x;
            *magnitude += x.abs();
        }
        [sum(&squares), sum(&magnitudes)]
    }
}

simd! {
    fn block_dot<T: Float>(x: &[T], y: &[T]) -> f64 {
        let mut products = [0.0; LANES];
        let (xs, x_rest) = x.as_chunks::<LANES>();
        let (ys, y_rest) = y.as_chunks::<LANES>();
        for (x, y) in xs.iter().zip(ys) {
            for ((x, y), product) in x.iter().zip(y).zip(&mut products) {
                *product += x.to_f64() * y.to_f64();
            }
        }
        for ((x, y), product) in x_rest.iter().zip(y_rest).zip(&mut products) {
            *product += x.to_f64() * y.to_f64();
        }
        sum(&products)
    }
}

/// The sum of the lanes, the upper half on the lower one until one is left.
///
/// Never inlined: seen from the loops, the order of these additions leads the compiler to keep the lanes in that
/// order, with a shuffle for every element.
#[inline(never)]
fn sum(lanes: &[f64; LANES]) -> f64 {
    let mut lanes = *lanes;
    let mut half = LANES / 2;
    while half > 0 {
        for i in 0..half {
            lanes[i] += lanes[i + half];
        }
        half /= 2;
    }
    lanes[0]
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rng::{Purpose, Stream};

    #[test]
    fn integers_of_every_length_sum_exactly() {
        for len in [0, 1, 15, 16, 17, 4095, 4096, 4097, 10_000] {
            // -3..=3 in turn
            let x: Vec<f32> = (0..len).map(|i| (i % 7) as f32 - 3.0).collect();
            let want = Moments {
                sum_sq: x.iter().map(|x| f64::from(x * x)).sum(),
                sum_abs: x.iter().map(|x| f64::from(x.abs())).sum(),
                nonfinite: 0,
            };
            assert_eq!(moments(&x), want, "{len}");
            let y: Vec<f32> = (0..len).map(|i| (i % 5) as f32 - 1.0).collect();
            let want: f64 = x.iter().zip(&y).map(|(x, y)| f64::from(x * y)).sum();
            assert_eq!(dot(&x, &y), want, "{len}");
        }
    }

    /// The stated order without vectors must give the same bits.
    #[test]
    fn vectors_give_the_bits_of_scalars() {
        let mut x = vec![0.0_f32; 5000];
        Stream::new(3, Purpose::User(2), 0).fill_normal(&mut x);
        let mut want = 0.0;
        for block in x.chunks(4096) {
            let mut lanes = [0.0_f64; 16];
            for (i, x) in block.iter().enumerate() {
                lanes[i % 16] += f64::from(*x) * f64::from(*x);
            }
            let eight: Vec<f64> = (0..8).map(|i| lanes[i] + lanes[i + 8]).collect();
            let four: Vec<f64> = (0..4).map(|i| eight[i] + eight[i + 4]).collect();
            want += (four[0] + four[2]) + (four[1] + four[3]);
        }
        assert_eq!(moments(&x).sum_sq.to_bits(), want.to_bits());
        assert_eq!(dot(&x, &x).to_bits(), want.to_bits());
    }

    #[test]
    fn extremes_neither_overflow_nor_vanish() {
        // in f32 the square of 1e30 is infinite and that of 1e-30 zero
        let got = moments(&[1e30_f32, 1e-30]);
        assert!(got.sum_sq.is_finite() && (got.sum_sq / 1e60 - 1.0).abs() < 1e-6, "{got:?}");
        assert_eq!(got.nonfinite, 0);
        assert!(moments(&[1e-30_f32]).sum_sq > 0.9e-60);
    }

    #[test]
    fn non_finite_elements_are_counted() {
        let mut x = vec![1.0_f32; 9000];
        x[5] = f32::NAN;
        x[4100] = f32::INFINITY;
        x[8999] = f32::NEG_INFINITY;
        let got = moments(&x);
        assert_eq!(got.nonfinite, 3);
        assert!(!got.sum_sq.is_finite() && !got.sum_abs.is_finite());
        // finite numbers whose squares overflow an f64 are not counted
        assert_eq!(moments(&[1e200_f64]).nonfinite, 0);
    }
}
