//! The loops that combine one rank's numbers with another's, written so that the compiler vectorises them.

use crate::call::ReduceOp;
use half::slice::HalfFloatSliceExt;
use half::{bf16, f16};

/// How a number type is reduced. Sums over ranks run in rank order, in [`Acc`](Self::Acc).
pub trait Arithmetic: Copy {
    /// What sums are kept in: the type itself, or `f32` for the 16-bit floats.
    type Acc: Copy + Default;

    /// `acc = src`
    fn load(acc: &mut [Self::Acc], src: &[Self]);

    /// `acc = acc op src`
    fn fold(acc: &mut [Self::Acc], src: &[Self], op: ReduceOp);

    /// `dst = acc`, rounded once
    fn store(dst: &mut [Self], acc: &[Self::Acc]);

    /// `a = b = a op b` in one pass
    fn pair(a: &mut [Self], b: &mut [Self], op: ReduceOp);

    /// `a = b = c = d = ((a op b) op c) op d` in one pass
    fn quad(parts: [&mut [Self]; 4], op: ReduceOp);
}

/// Elements that are combined at a time where an accumulator is kept: it stays in the first-level cache.
pub(crate) const BLOCK: usize = 512;

macro_rules! native {
    ($($ty:ty: $sum:expr, $is_nan:expr;)*) => {$(
        impl Arithmetic for $ty {
            type Acc = Self;

            fn load(acc: &mut [Self], src: &[Self]) {
                acc.copy_from_slice(src);
            }

            fn fold(acc: &mut [Self], src: &[Self], op: ReduceOp) {
                match op {
                    ReduceOp::Sum => fold_with(acc, src, $sum),
                    ReduceOp::Min => fold_with(acc, src, |a, b| if a < b || $is_nan(a) { a } else { b }),
                    ReduceOp::Max => fold_with(acc, src, |a, b| if a > b || $is_nan(a) { a } else { b }),
                }
            }

            fn store(dst: &mut [Self], acc: &[Self]) {
                dst.copy_from_slice(acc);
            }

            #[inline(always)]
            fn pair(a: &mut [Self], b: &mut [Self], op: ReduceOp) {
                match op {
                    ReduceOp::Sum => pair_with(a, b, $sum),
                    _ => pair_by_blocks(a, b, op),
                }
            }

            #[inline(always)]
            fn quad(parts: [&mut [Self]; 4], op: ReduceOp) {
                match op {
                    ReduceOp::Sum => quad_with(parts, $sum),
                    _ => quad_by_blocks(parts, op),
                }
            }
        }
    )*};
}

// a NaN on any rank must reach every rank: `f32::min` would drop it
native! {
    f32: |a, b| a + b, f32::is_nan;
    f64: |a, b| a + b, f64::is_nan;
    u64: u64::wrapping_add, |_| false;
}

macro_rules! half_width {
    ($($ty:ty: $round:expr;)*) => {$(
        impl Arithmetic for $ty {
            type Acc = f32;

            fn load(acc: &mut [f32], src: &[Self]) {
                src.convert_to_f32_slice(acc);
            }

            fn fold(acc: &mut [f32], src: &[Self], op: ReduceOp) {
                let mut wide = [0.0; BLOCK];
                for (acc, src) in acc.chunks_mut(BLOCK).zip(src.chunks(BLOCK)) {
                    let wide = &mut wide[..src.len()];
                    src.convert_to_f32_slice(wide);
                    f32::fold(acc, wide, op);
                }
            }

            fn store(dst: &mut [Self], acc: &[f32]) {
                $round(dst, acc);
            }

            fn pair(a: &mut [Self], b: &mut [Self], op: ReduceOp) {
                pair_by_blocks(a, b, op);
            }

            fn quad(parts: [&mut [Self]; 4], op: ReduceOp) {
                quad_by_blocks(parts, op);
            }
        }
    )*};
}

half_width! {
    f16: |dst: &mut [f16], acc| dst.convert_from_f32_slice(acc);
    bf16: round_to_bf16;
}

/// Rounds to nearest, ties to even, without the branch for NaN that keeps `half`'s own loop from being vectorised.
fn round_to_bf16(dst: &mut [bf16], src: &[f32]) {
    for (dst, src) in dst.iter_mut().zip(src) {
        let bits = src.to_bits();
        let rounded = bits.wrapping_add(0x7fff + (bits >> 16 & 1));
        // a NaN stays one, whatever its lower bits
        let upper = if src.is_nan() { bits | 0x0040_0000 } else { rounded };
        *dst = bf16::from_bits((upper >> 16) as u16);
    }
}

/// `dst += src`, the step of the reproducible tree.
#[inline(always)]
pub(crate) fn add_assign(dst: &mut [f32], src: &[f32]) {
    fold_with(dst, src, |a, b| a + b);
}

#[inline(always)]
fn fold_with<T: Copy>(acc: &mut [T], src: &[T], f: impl Fn(T, T) -> T) {
    for (a, &s) in acc.iter_mut().zip(src) {
        *a = f(*a, s);
    }
}

#[inline(always)]
fn pair_with<T: Copy>(a: &mut [T], b: &mut [T], f: impl Fn(T, T) -> T) {
    for (a, b) in a.iter_mut().zip(b) {
        let total = f(*a, *b);
        *a = total;
        *b = total;
    }
}

#[inline(always)]
fn quad_with<T: Copy>([a, b, c, d]: [&mut [T]; 4], f: impl Fn(T, T) -> T) {
    for (((a, b), c), d) in a.iter_mut().zip(b).zip(c).zip(d) {
        let total = f(f(f(*a, *b), *c), *d);
        *a = total;
        *b = total;
        *c = total;
        *d = total;
    }
}

fn pair_by_blocks<T: Arithmetic>(a: &mut [T], b: &mut [T], op: ReduceOp) {
    let mut acc = [T::Acc::default(); BLOCK];
    for (a, b) in a.chunks_mut(BLOCK).zip(b.chunks_mut(BLOCK)) {
        let acc = &mut acc[..a.len()];
        T::load(acc, a);
        T::fold(acc, b, op);
        T::store(a, acc);
        T::store(b, acc);
    }
}

fn quad_by_blocks<T: Arithmetic>([a, b, c, d]: [&mut [T]; 4], op: ReduceOp) {
    let mut acc = [T::Acc::default(); BLOCK];
    let blocks =
        a.chunks_mut(BLOCK).zip(b.chunks_mut(BLOCK)).zip(c.chunks_mut(BLOCK)).zip(d.chunks_mut(BLOCK));
    for (((a, b), c), d) in blocks {
        let acc = &mut acc[..a.len()];
        T::load(acc, a);
        T::fold(acc, b, op);
        T::fold(acc, c, op);
        T::fold(acc, d, op);
        for part in [a, b, c, d] {
            T::store(part, acc);
        }
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;

    #[test]
    fn the_extremes_keep_a_nan_whichever_side_it_is_on() {
        for op in [ReduceOp::Min, ReduceOp::Max] {
            let mut acc = [f32::NAN, 1.0, 2.0];
            f32::fold(&mut acc, &[0.0, f32::NAN, 3.0], op);
            assert!(acc[0].is_nan() && acc[1].is_nan(), "{op:?}");
            assert_eq!(acc[2], if op == ReduceOp::Min { 2.0 } else { 3.0 });
        }
    }

    #[test]
    fn half_floats_round_once_after_the_last_rank() {
        // 2048 + 1 is not an f16: rounding after each rank would give 2048, not 2052 (of 2051)
        let one = |x: f32| [f16::from_f32(x)];
        let (mut a, mut b, mut c, mut d) = (one(2048.0), one(1.0), one(1.0), one(1.0));
        f16::quad([&mut a, &mut b, &mut c, &mut d], ReduceOp::Sum);
        assert_eq!([a, b, c, d], [one(2052.0); 4]);
    }

    #[test]
    fn brain_floats_are_rounded_as_one_by_one() {
        // every upper half, with lower halves around the tie
        let halves =
            (0..=u16::MAX).flat_map(|upper| [0, 1, 0x7fff, 0x8000, 0x8001, 0xffff].map(|l| (upper, l)));
        let all: Vec<f32> =
            halves.map(|(upper, lower)| f32::from_bits(u32::from(upper) << 16 | lower)).collect();
        let mut rounded = vec![bf16::ZERO; all.len()];
        bf16::store(&mut rounded, &all);
        for (x, got) in all.iter().zip(rounded) {
            assert_eq!(got.to_bits(), bf16::from_f32(*x).to_bits(), "{x:e}");
        }
    }

    #[test]
    fn sums_of_integers_wrap() {
        let (mut a, mut b) = ([u64::MAX], [2]);
        u64::pair(&mut a, &mut b, ReduceOp::Sum);
        assert_eq!((a, b), ([1], [1]));
    }
}
