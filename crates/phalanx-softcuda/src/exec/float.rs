//! Numbers of 16 bits, roundings, and fused operations.

use half::{bf16, f16};

/// How a conversion rounds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Round {
    Nearest,
    Zero,
    Up,
    Down,
}

pub(crate) fn f16_to_f32(bits: u16) -> f32 {
    f16::from_bits(bits).to_f32_const()
}

pub(crate) fn f32_to_f16(value: f32) -> u16 {
    f16::from_f32_const(value).to_bits()
}

pub(crate) fn bf16_to_f32(bits: u16) -> f32 {
    f32::from_bits(u32::from(bits) << 16)
}

pub(crate) fn f32_to_bf16(value: f32) -> u16 {
    bf16::from_f32(value).to_bits()
}

pub(crate) fn f64_to_f16(value: f64) -> u16 {
    f16::from_f64_const(value).to_bits()
}

pub(crate) fn f64_to_bf16(value: f64) -> u16 {
    f32_to_bf16(to_odd(value))
}

/// An f32 that rounds to fewer bits as the f64 does: its last bit is 1 where it is not exact.
fn to_odd(value: f64) -> f32 {
    let near = value as f32;
    if f64::from(near) == value || value.is_nan() || near.to_bits() & 1 == 1 {
        return near;
    }
    // towards the value: one of the two neighbours of an even number, both of which are odd
    let outwards = (f64::from(near).abs() < value.abs()) || near == 0.0;
    let bits = if outwards { near.to_bits() + 1 } else { near.to_bits() - 1 };
    f32::from_bits(bits)
}

/// Rounds to 16 bits other than to nearest: the neighbour of the nearest on the side that the rounding wants.
pub(crate) fn narrow(value: f32, round: Round, nearest: fn(f32) -> u16, widen: fn(u16) -> f32) -> u16 {
    let bits = nearest(value);
    let back = widen(bits);
    if round == Round::Nearest || value.is_nan() || value.is_infinite() || back == value {
        return bits;
    }
    let down = round == Round::Down || (round == Round::Zero && value > 0.0);
    let negative = bits & 0x8000 != 0;
    match (down, back > value) {
        // a step down leads away from zero below it, and past zero
        (true, true) if bits & 0x7fff == 0 => 0x8001,
        (false, false) if bits & 0x7fff == 0 => 1,
        (true, true) => bits.wrapping_add(if negative { 1 } else { u16::MAX }),
        (false, false) => bits.wrapping_add(if negative { u16::MAX } else { 1 }),
        _ => bits,
    }
}

/// Rounds a f64 to f32 other than to nearest.
pub(crate) fn narrow_f64(value: f64, round: Round) -> f32 {
    let near = value as f32;
    let back = f64::from(near);
    if round == Round::Nearest || value.is_nan() || value.is_infinite() || back == value {
        return near;
    }
    let down = round == Round::Down || (round == Round::Zero && value > 0.0);
    match (down, back > value) {
        (true, true) => near.next_down(),
        (false, false) => near.next_up(),
        _ => near,
    }
}

/// An f32 with the low 13 bits rounded away to nearest, ties away from zero.
pub(crate) fn f32_to_tf32(value: f32) -> u32 {
    let bits = value.to_bits();
    if value.is_finite() { (bits + 0x1000) & !0x1fff } else { bits & !0x1fff }
}

/// A sum of two f64 whose last bit is 1 where it is not exact, so that it can be rounded again.
pub(crate) fn add_to_odd(a: f64, b: f64) -> f64 {
    let sum = a + b;
    let b_part = sum - a;
    let error = (a - (sum - b_part)) + (b - b_part);
    if error == 0.0 || !sum.is_finite() || sum.to_bits() & 1 == 1 {
        return sum;
    }
    let outwards = (error > 0.0) == (sum > 0.0);
    f64::from_bits(if outwards { sum.to_bits() + 1 } else { sum.to_bits() - 1 })
}

/// `a b + c` in f16, rounded once.
pub(crate) fn fma_f16(a: u16, b: u16, c: u16) -> u16 {
    // the product of two f16 is exact in f32
    let product = f64::from(f16_to_f32(a)) * f64::from(f16_to_f32(b));
    f64_to_f16(add_to_odd(product, f64::from(f16_to_f32(c))))
}

/// `a b + c` in bf16, rounded once.
pub(crate) fn fma_bf16(a: u16, b: u16, c: u16) -> u16 {
    let product = f64::from(bf16_to_f32(a)) * f64::from(bf16_to_f32(b));
    f64_to_bf16(add_to_odd(product, f64::from(bf16_to_f32(c))))
}

/// Numbers too small for a normal f32 become zero.
pub(crate) fn flush(value: f32) -> f32 {
    if value.is_subnormal() { 0.0_f32.copysign(value) } else { value }
}

/// The smaller of two; the other one of a NaN; -0 before 0.
pub(crate) fn min_f32(a: f32, b: f32) -> f32 {
    if b.is_nan() || a < b || (a == b && a.is_sign_negative()) { a } else { b }
}

/// The larger of two; the other one of a NaN; 0 before -0.
pub(crate) fn max_f32(a: f32, b: f32) -> f32 {
    -min_f32(-a, -b)
}

/// [`min_f32`] of f64.
pub(crate) fn min_f64(a: f64, b: f64) -> f64 {
    if b.is_nan() || a < b || (a == b && a.is_sign_negative()) { a } else { b }
}

/// [`max_f32`] of f64.
pub(crate) fn max_f64(a: f64, b: f64) -> f64 {
    -min_f64(-a, -b)
}

/// A function of each half of a word.
pub(crate) fn halves(a: u32, b: u32, f: impl Fn(u16, u16) -> u16) -> u32 {
    u32::from(f(a as u16, b as u16)) | u32::from(f((a >> 16) as u16, (b >> 16) as u16)) << 16
}

/// A function of each half of three words.
pub(crate) fn halves3(a: u32, b: u32, c: u32, f: impl Fn(u16, u16, u16) -> u16) -> u32 {
    let low = f(a as u16, b as u16, c as u16);
    let high = f((a >> 16) as u16, (b >> 16) as u16, (c >> 16) as u16);
    u32::from(low) | u32::from(high) << 16
}

#[cfg(test)]
mod tests {
    use super::{
        Round, bf16_to_f32, f16_to_f32, f32_to_bf16, f32_to_f16, fma_bf16, max_f32, min_f32, narrow,
    };

    #[test]
    fn roundings_enclose_the_value() {
        for value in [1.0_f32, 1.003, -1.003, 1e-7, -3e-8, 65503.9, 0.1, -0.1, 3e-42, 0.0] {
            for (nearest, widen) in
                [(f32_to_f16 as fn(f32) -> u16, f16_to_f32 as fn(u16) -> f32), (f32_to_bf16, bf16_to_f32)]
            {
                let [up, down, zero] = [Round::Up, Round::Down, Round::Zero]
                    .map(|round| widen(narrow(value, round, nearest, widen)));
                assert!(down <= value && value <= up, "{down} {value} {up}");
                assert_eq!(zero.abs(), down.abs().min(up.abs()), "{value}");
                let near = widen(nearest(value));
                assert!(near == up || near == down, "{near} {value}");
            }
        }
    }

    #[test]
    fn a_fused_product_is_rounded_once() {
        // 1.0078125^2 = 1.01568603515625, less 1.015625 is 6.103515625e-5, all of it lost if the product is rounded
        let (a, c) = (f32_to_bf16(1.007_812_5), f32_to_bf16(-1.015_625));
        assert_eq!(bf16_to_f32(fma_bf16(a, a, c)), 6.103_515_6e-5);
    }

    #[test]
    fn a_nan_gives_way() {
        assert_eq!((min_f32(f32::NAN, 1.0), max_f32(2.0, f32::NAN)), (1.0, 2.0));
        assert!(min_f32(0.0, -0.0).is_sign_negative() && max_f32(-0.0, 0.0).is_sign_positive());
    }
}
