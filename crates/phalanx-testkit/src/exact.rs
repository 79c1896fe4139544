//! Inputs whose reductions are exact in every element type, so that a sum can be compared bit by bit.

use half::{bf16, f16};
use phalanx_comm::{Element, ReduceOp};

/// An [`Element`] that small integers convert to without rounding.
pub trait Exact: Element {
    /// The number `n`, exact up to 256 in every type.
    fn of(n: u8) -> Self;
}

macro_rules! exact {
    ($($ty:ty: $of:expr;)*) => {$(
        impl Exact for $ty {
            fn of(n: u8) -> Self {
                $of(n)
            }
        }
    )*};
}

exact! {
    f32: f32::from;
    f64: f64::from;
    f16: f16::from;
    bf16: |n| bf16::from_f32(f32::from(n));
    u64: u64::from;
}

/// What rank `rank` holds at coordinate `i`: 0 to 15, different between neighbours in both directions. Sums of up to
/// 17 ranks stay exact in `bf16`.
pub fn number(rank: usize, i: usize) -> u8 {
    ((rank * 5 + i * 3 + i / 16 + rank * i) % 16) as u8
}

/// The buffer of one rank.
pub fn buffer<T: Exact>(rank: usize, len: usize) -> Vec<T> {
    (0..len).map(|i| T::of(number(rank, i))).collect()
}

/// What the reduction of all [`buffer`]s is at coordinate `i`.
pub fn reduced<T: Exact>(ranks: usize, i: usize, op: ReduceOp) -> T {
    let numbers = (0..ranks).map(|rank| number(rank, i));
    T::of(match op {
        ReduceOp::Sum => numbers.sum(),
        ReduceOp::Min => numbers.min().unwrap_or_default(),
        ReduceOp::Max => numbers.max().unwrap_or_default(),
    })
}

/// A number that does not add exactly, of either sign and of several magnitudes: for tests of the order of a sum.
pub fn rough(rank: usize, i: usize) -> f32 {
    let bits = (rank as u32).wrapping_mul(0x9e37_79b9) ^ (i as u32).wrapping_mul(0x85eb_ca6b);
    let bits = (bits ^ (bits >> 15)).wrapping_mul(0x2c1b_3c6d);
    let mantissa = f64::from(bits >> 8) / f64::from(1 << 24) - 0.5;
    (mantissa * f64::from(1_u32 << (bits % 20))) as f32
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_sum_of_sixteen_ranks_is_exact_in_the_narrowest_type() {
        for i in 0..100 {
            let total: u32 = (0..16).map(|rank| u32::from(number(rank, i))).sum();
            assert!(total <= 256);
            assert_eq!(bf16::from_f32(total as f32).to_f32(), total as f32);
        }
    }

    #[test]
    fn rough_numbers_show_in_which_order_they_were_added() {
        let numbers: Vec<_> = (0..4).map(|rank| rough(rank, 0)).collect();
        let forth = numbers.iter().fold(0.0, |a, b| a + b);
        let back = numbers.iter().rev().fold(0.0, |a, b| a + b);
        assert!((0..20).any(|i| {
            let numbers: Vec<_> = (0..4).map(|rank| rough(rank, i)).collect();
            numbers.iter().fold(0.0_f32, |a, b| a + b) != numbers.iter().rev().fold(0.0, |a, b| a + b)
        }));
        assert!((forth - back).abs() <= 1.0);
    }
}
