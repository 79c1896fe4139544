//! Sums and maxima along an axis.

use super::rows;
use super::simd::simd;
use super::{Cpu, moments};
use crate::Float;
use crate::backend::Write;
use crate::op::{Moments, ReduceOps};

impl<T: Float> ReduceOps for Cpu<T> {
    fn sum_axis(&self, x: &[T], outer: usize, len: usize, inner: usize, write: Write, out: &mut [T]) {
        assert!(x.len() == outer * len * inner && out.len() == outer * inner, "sum_axis");
        if inner == 1 {
            sum_rows(x, len, write, out);
        } else {
            sum_columns(x, len, inner, write, out);
        }
    }

    fn max_axis(&self, x: &[T], outer: usize, len: usize, inner: usize, out: &mut [T]) {
        assert!(x.len() == outer * len * inner && out.len() == outer * inner && len > 0, "max_axis");
        for (block, out) in x.chunks_exact(len * inner).zip(out.chunks_exact_mut(inner)) {
            out.copy_from_slice(&block[..inner]);
            for row in block.chunks_exact(inner).skip(1) {
                for (y, x) in out.iter_mut().zip(row) {
                    *y = if *x > *y || x.to_f64().is_nan() { *x } else { *y };
                }
            }
        }
    }

    fn moments(&self, x: &[T]) -> Moments {
        moments::moments(x)
    }

    fn dot(&self, x: &[T], y: &[T]) -> f64 {
        moments::dot(x, y)
    }
}

simd! {
    fn sum_rows<T: Float>(x: &[T], len: usize, write: Write, out: &mut [T]) {
        for (i, y) in out.iter_mut().enumerate() {
            let sum = rows::sum(&x[i * len..(i + 1) * len]);
            *y = if write == Write::Add { *y + sum } else { sum };
        }
    }
}

simd! {
    fn sum_columns<T: Float>(x: &[T], len: usize, inner: usize, write: Write, out: &mut [T]) {
        if write == Write::Set {
            out.fill(T::ZERO);
        }
        // Blocks of columns that stay in the first-level cache while all rows pass by.
        const BLOCK: usize = 1024;
        for (o, out) in out.chunks_exact_mut(inner).enumerate() {
            for (b, out) in out.chunks_mut(BLOCK).enumerate() {
                for row in 0..len {
                    let at = (o * len + row) * inner + b * BLOCK;
                    for (y, x) in out.iter_mut().zip(&x[at..]) {
                        *y += *x;
                    }
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sums_along_each_axis() {
        let x: Vec<f64> = (0..12).map(f64::from).collect();
        let cpu = Cpu::<f64>::new();
        let mut y = [1.0; 4];
        cpu.sum_axis(&x, 2, 3, 2, Write::Add, &mut y);
        assert_eq!(y, [7.0, 10.0, 25.0, 28.0]);
        let mut y = [9.0; 4];
        cpu.sum_axis(&x, 4, 3, 1, Write::Set, &mut y);
        assert_eq!(y, [3.0, 12.0, 21.0, 30.0]);
        let mut y = [0.0; 4];
        cpu.max_axis(&x, 2, 3, 2, &mut y);
        assert_eq!(y, [4.0, 5.0, 10.0, 11.0]);
    }
}
