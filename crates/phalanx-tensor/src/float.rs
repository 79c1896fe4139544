//! The element types of tensors: `f32` for training, `f64` for gradient checks and curvature.

use crate::cpu::simd::{Lanes, Portable};
use std::fmt::{Debug, Display};
use std::iter::Sum;
use std::ops::{Add, AddAssign, Div, Mul, MulAssign, Neg, Sub, SubAssign};

mod sealed {
    pub trait Sealed {}
    impl Sealed for f32 {}
    impl Sealed for f64 {}
}

/// A real number that tensors can hold.
///
/// # Numerics
/// The `f32` transcendental functions are polynomials of our own, free of branches so that loops over them
/// vectorise; their error is below 3 ulp (`exp`), 3e-7 (`tanh`) or 6e-7 absolute (`erf`). The `f64` ones are the
/// standard library's and libm's. None uses a fused multiply-add, so the bits do not depend on the vector width.
pub trait Float:
    sealed::Sealed
    + Copy
    + Default
    + PartialOrd
    + Debug
    + Display
    + Send
    + Sync
    + bytemuck::Pod
    + Sum
    + Add<Output = Self>
    + Sub<Output = Self>
    + Mul<Output = Self>
    + Div<Output = Self>
    + Neg<Output = Self>
    + AddAssign
    + SubAssign
    + MulAssign
    + 'static
{
    /// A 512-bit vector of this type.
    #[doc(hidden)]
    type Wide: Lanes<Elem = Self>;
    /// A 256-bit vector of this type.
    #[doc(hidden)]
    type Half: Lanes<Elem = Self>;
    /// Plain code for machines with neither.
    #[doc(hidden)]
    type Plain: Lanes<Elem = Self>;

    /// Zero.
    const ZERO: Self;
    /// One.
    const ONE: Self;
    /// The name that safetensors and messages use.
    const NAME: &'static str;

    /// Rounds from `f64`.
    fn from_f64(x: f64) -> Self;
    /// Widens to `f64`, exactly.
    fn to_f64(self) -> f64;
    /// The exponential function.
    fn exp(self) -> Self;
    /// The natural logarithm.
    fn ln(self) -> Self;
    /// The square root.
    fn sqrt(self) -> Self;
    /// The hyperbolic tangent.
    fn tanh(self) -> Self;
    /// The error function.
    fn erf(self) -> Self;
    /// The absolute value.
    fn abs(self) -> Self;
    /// Whether the number is neither infinite nor NaN.
    fn is_finite(self) -> bool;

    /// The greater of two numbers; a NaN on the left stays.
    #[inline(always)]
    fn max_keeping_nan(self, other: Self) -> Self {
        if self < other { other } else { self }
    }
}

impl Float for f32 {
    #[cfg(target_arch = "x86_64")]
    type Wide = std::arch::x86_64::__m512;
    #[cfg(not(target_arch = "x86_64"))]
    type Wide = Portable<f32>;
    #[cfg(target_arch = "x86_64")]
    type Half = std::arch::x86_64::__m256;
    #[cfg(not(target_arch = "x86_64"))]
    type Half = Portable<f32>;
    type Plain = Portable<f32>;

    const ZERO: Self = 0.0;
    const ONE: Self = 1.0;
    const NAME: &'static str = "F32";

    #[inline(always)]
    #[expect(clippy::cast_possible_truncation, reason = "rounding is what the function is for")]
    fn from_f64(x: f64) -> Self {
        x as f32
    }
    #[inline(always)]
    fn to_f64(self) -> f64 {
        f64::from(self)
    }
    #[inline(always)]
    fn exp(self) -> Self {
        exp_f32(self)
    }
    #[inline(always)]
    fn ln(self) -> Self {
        f32::ln(self)
    }
    #[inline(always)]
    fn sqrt(self) -> Self {
        f32::sqrt(self)
    }
    #[inline(always)]
    fn tanh(self) -> Self {
        // tanh is odd; working on |x| keeps exp in its small range and the result's sign exact.
        let e = exp_f32(-2.0 * f32::abs(self));
        f32::copysign((1.0 - e) / (1.0 + e), self)
    }
    #[inline(always)]
    fn erf(self) -> Self {
        erf_f32(self)
    }
    #[inline(always)]
    fn abs(self) -> Self {
        f32::abs(self)
    }
    #[inline(always)]
    fn is_finite(self) -> bool {
        f32::is_finite(self)
    }
}

impl Float for f64 {
    #[cfg(target_arch = "x86_64")]
    type Wide = std::arch::x86_64::__m512d;
    #[cfg(not(target_arch = "x86_64"))]
    type Wide = Portable<f64>;
    #[cfg(target_arch = "x86_64")]
    type Half = std::arch::x86_64::__m256d;
    #[cfg(not(target_arch = "x86_64"))]
    type Half = Portable<f64>;
    type Plain = Portable<f64>;

    const ZERO: Self = 0.0;
    const ONE: Self = 1.0;
    const NAME: &'static str = "F64";

    #[inline(always)]
    fn from_f64(x: f64) -> Self {
        x
    }
    #[inline(always)]
    fn to_f64(self) -> f64 {
        self
    }
    #[inline(always)]
    fn exp(self) -> Self {
        f64::exp(self)
    }
    #[inline(always)]
    fn ln(self) -> Self {
        f64::ln(self)
    }
    #[inline(always)]
    fn sqrt(self) -> Self {
        f64::sqrt(self)
    }
    #[inline(always)]
    fn tanh(self) -> Self {
        f64::tanh(self)
    }
    #[inline(always)]
    fn erf(self) -> Self {
        libm::erf(self)
    }
    #[inline(always)]
    fn abs(self) -> Self {
        f64::abs(self)
    }
    #[inline(always)]
    fn is_finite(self) -> bool {
        f64::is_finite(self)
    }
}

/// `e^x` by range reduction to `|r| <= ln(2)/2` and a polynomial of degree 7; NaN stays NaN.
#[inline(always)]
fn exp_f32(x: f32) -> f32 {
    // e^HI is the greatest result with n <= 127.
    const HI: f32 = 88.376_26;
    const LO: f32 = -87.336_54;
    // ln(2) in two parts: the first has trailing zeros, so that n * LN2_HI is exact.
    const LN2_HI: f32 = 0.693_359_4;
    const LN2_LO: f32 = -2.121_944_4e-4;
    // Adding 1.5 * 2^23 rounds to an integer that then sits in the low mantissa bits.
    const MAGIC: f32 = 12_582_912.0;
    let clamped = if x > HI { HI } else { x };
    let clamped = if clamped < LO { LO } else { clamped };
    let shifted = clamped.mul_add(std::f32::consts::LOG2_E, MAGIC);
    let n = shifted - MAGIC;
    let r = n.mul_add(-LN2_LO, n.mul_add(-LN2_HI, clamped));
    let p = polynomial(r, [1.0 / 5040.0, 1.0 / 720.0, 1.0 / 120.0, 1.0 / 24.0, 1.0 / 6.0, 0.5, 1.0, 1.0]);
    let y = p * f32::from_bits((shifted.to_bits() << 23).wrapping_add(127 << 23));
    let y = if x > HI { f32::INFINITY } else { y };
    if x < LO { 0.0 } else { y }
}

/// A polynomial by Horner's rule, highest power first. Fused multiply-adds round once, so that the kernels of all levels,
/// which are compiled for machines that have the instruction, and the portable ones agree on every bit.
#[inline(always)]
fn polynomial<const N: usize>(x: f32, coefficients: [f32; N]) -> f32 {
    coefficients[1..].iter().fold(coefficients[0], |p, c| p.mul_add(x, *c))
}

/// Error function after Abramowitz and Stegun 7.1.26, absolute error below 6e-7.
#[inline(always)]
fn erf_f32(x: f32) -> f32 {
    let a = f32::abs(x);
    let t = 1.0 / a.mul_add(0.327_591_1, 1.0);
    let p = polynomial(t, [1.061_405_4, -1.453_152, 1.421_413_7, -0.284_496_74, 0.254_829_6]);
    f32::copysign(1.0 - p * t * exp_f32(-a * a), x)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn exp_is_close_over_its_whole_range() {
        let mut x = -87.0_f32;
        while x < 88.3 {
            let want = f64::from(x).exp();
            let got = f64::from(exp_f32(x));
            assert!((got - want).abs() <= 4e-7 * want, "exp({x}) = {got}, want {want}");
            x += 0.037;
        }
        assert_eq!(exp_f32(0.0), 1.0);
        assert_eq!(exp_f32(-200.0), 0.0);
        assert!(exp_f32(f32::NAN).is_nan());
        assert_eq!(exp_f32(89.0), f32::INFINITY);
    }

    #[test]
    fn tanh_and_erf_are_close_and_odd() {
        let mut x = -6.0_f32;
        while x < 6.0 {
            let x64 = f64::from(x);
            assert!((f64::from(Float::tanh(x)) - x64.tanh()).abs() < 3e-7, "tanh({x})");
            assert!((f64::from(Float::erf(x)) - libm::erf(x64)).abs() < 6e-7, "erf({x})");
            assert_eq!(Float::tanh(-x), -Float::tanh(x));
            x += 0.011;
        }
        assert!(Float::tanh(f32::NAN).is_nan());
    }
}
