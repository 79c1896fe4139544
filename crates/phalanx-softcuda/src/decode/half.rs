//! Arithmetic of numbers of 16 bits, alone and in pairs.
//!
//! Sums, products and quotients of two such numbers are exact enough in f32 to be rounded a second time; what is fused is rounded
//! once.

use super::{Decoder, Done, Name, UNKNOWN};
use crate::exec::float::{
    bf16_to_f32, f16_to_f32, f32_to_bf16, f32_to_f16, fma_bf16, fma_f16, halves, halves3, max_f32, min_f32,
};
use crate::exec::lanes;
use crate::ptx::{Operand, Type};

/// A function of the low half of a word.
macro_rules! one {
    ($widen:ident, $narrow:ident, $bits:expr, |$a:ident| $value:expr) => {{
        let $a = $widen(($bits) as u16);
        u32::from($narrow($value))
    }};
}

/// One instruction for the four types.
macro_rules! four {
    ($decoder:expr, $ty:expr, $o:expr, |$a:ident| $value:expr) => {
        match $ty {
            Type::F16 => {
                $decoder.ww(lanes!(|a: u32| -> u32 { one!(f16_to_f32, f32_to_f16, a, |$a| $value) }), $o)
            }
            Type::Bf16 => {
                $decoder.ww(lanes!(|a: u32| -> u32 { one!(bf16_to_f32, f32_to_bf16, a, |$a| $value) }), $o)
            }
            Type::F16x2 => $decoder.ww(
                lanes!(|a: u32| -> u32 {
                    one!(f16_to_f32, f32_to_f16, a, |$a| $value)
                        | one!(f16_to_f32, f32_to_f16, a >> 16, |$a| $value) << 16
                }),
                $o,
            ),
            _ => $decoder.ww(
                lanes!(|a: u32| -> u32 {
                    one!(bf16_to_f32, f32_to_bf16, a, |$a| $value)
                        | one!(bf16_to_f32, f32_to_bf16, a >> 16, |$a| $value) << 16
                }),
                $o,
            ),
        }
    };
    ($decoder:expr, $ty:expr, $o:expr, |$a:ident, $b:ident| $value:expr) => {{
        match $ty {
            Type::F16 => $decoder.www(
                lanes!(|a: u32, b: u32| -> u32 {
                    let ($a, $b) = (f16_to_f32(a as u16), f16_to_f32(b as u16));
                    u32::from(f32_to_f16($value))
                }),
                $o,
            ),
            Type::Bf16 => $decoder.www(
                lanes!(|a: u32, b: u32| -> u32 {
                    let ($a, $b) = (bf16_to_f32(a as u16), bf16_to_f32(b as u16));
                    u32::from(f32_to_bf16($value))
                }),
                $o,
            ),
            Type::F16x2 => $decoder.www(
                lanes!(|a: u32, b: u32| -> u32 {
                    halves(a, b, |a, b| {
                        let ($a, $b) = (f16_to_f32(a), f16_to_f32(b));
                        f32_to_f16($value)
                    })
                }),
                $o,
            ),
            _ => $decoder.www(
                lanes!(|a: u32, b: u32| -> u32 {
                    halves(a, b, |a, b| {
                        let ($a, $b) = (bf16_to_f32(a), bf16_to_f32(b));
                        f32_to_bf16($value)
                    })
                }),
                $o,
            ),
        }
    }};
}

/// A NaN if one of two numbers is.
fn spread(a: f32, b: f32, value: f32) -> f32 {
    if a.is_nan() || b.is_nan() { f32::NAN } else { value }
}

impl Decoder<'_> {
    pub(super) fn half(&mut self, name: &Name<'_>, o: &[Operand]) -> Done {
        let ty = name.ty()?;
        let nan = name.has("NaN");
        if name.has("sat")
            || name.has("xorsign")
            || name.has("oob")
            || (name.has("ftz") && name.head != "ex2")
        {
            return Err(UNKNOWN);
        }
        match name.head {
            "add" => four!(self, ty, o, |a, b| a + b),
            "sub" => four!(self, ty, o, |a, b| a - b),
            "mul" => four!(self, ty, o, |a, b| a * b),
            "min" if nan => four!(self, ty, o, |a, b| spread(a, b, min_f32(a, b))),
            "max" if nan => four!(self, ty, o, |a, b| spread(a, b, max_f32(a, b))),
            "min" => four!(self, ty, o, |a, b| min_f32(a, b)),
            "max" => four!(self, ty, o, |a, b| max_f32(a, b)),
            "abs" if matches!(ty, Type::F16 | Type::Bf16) => {
                self.ww(lanes!(|a: u32| -> u32 { a & 0x7fff }), o)
            }
            "abs" => self.ww(lanes!(|a: u32| -> u32 { a & 0x7fff_7fff }), o),
            "neg" if matches!(ty, Type::F16 | Type::Bf16) => {
                self.ww(lanes!(|a: u32| -> u32 { (a ^ 0x8000) & 0xffff }), o)
            }
            "neg" => self.ww(lanes!(|a: u32| -> u32 { a ^ 0x8000_8000 }), o),
            "ex2" => four!(self, ty, o, |a| a.exp2()),
            "tanh" => four!(self, ty, o, |a| a.tanh()),
            "fma" => self.fused_half(name, ty, o),
            _ => Err(UNKNOWN),
        }
    }

    fn fused_half(&mut self, name: &Name<'_>, ty: Type, o: &[Operand]) -> Done {
        /// What is negative becomes zero.
        fn relu(bits: u16) -> u16 {
            if bits & 0x8000 == 0 { bits } else { 0 }
        }
        match (ty, name.has("relu")) {
            (Type::F16, false) => self.wwww(
                lanes!(|a: u32, b: u32, c: u32| -> u32 { u32::from(fma_f16(a as u16, b as u16, c as u16)) }),
                o,
            ),
            (Type::Bf16, false) => self.wwww(
                lanes!(|a: u32, b: u32, c: u32| -> u32 { u32::from(fma_bf16(a as u16, b as u16, c as u16)) }),
                o,
            ),
            (Type::F16x2, false) => {
                self.wwww(lanes!(|a: u32, b: u32, c: u32| -> u32 { halves3(a, b, c, fma_f16) }), o)
            }
            (Type::Bf16x2, false) => {
                self.wwww(lanes!(|a: u32, b: u32, c: u32| -> u32 { halves3(a, b, c, fma_bf16) }), o)
            }
            (Type::F16x2, true) => self.wwww(
                lanes!(|a: u32, b: u32, c: u32| -> u32 {
                    halves3(a, b, c, |a, b, c| relu(fma_f16(a, b, c)))
                }),
                o,
            ),
            (Type::Bf16x2, true) => self.wwww(
                lanes!(|a: u32, b: u32, c: u32| -> u32 {
                    halves3(a, b, c, |a, b, c| relu(fma_bf16(a, b, c)))
                }),
                o,
            ),
            _ => Err(UNKNOWN),
        }
    }
}
