//! Arithmetic of numbers of 16 bits, alone and in pairs.
//!
//! Sums, products and quotients of two such numbers are exact enough in f32 to be rounded a second time; what is fused is rounded
//! once.

use super::{Decoder, Done, Name, OPERANDS, UNKNOWN};
use crate::exec::float::{bf16_to_f32, f16_to_f32, f32_to_bf16, f32_to_f16, fma_bf16, fma_f16, halves3};
use crate::exec::{Op, Words, lanes};
use crate::ptx::{Operand, Type};

/// What becomes of a register.
type Step = fn(&mut Words, &Words);

/// The f32 of an f16 in the low half of a word.
pub(super) fn widen_f16() -> fn(&mut Words, &Words) {
    lanes!(|a: u32| -> u32 { f16_to_f32(a as u16).to_bits() })
}

/// The f32 of a bf16 in the low half of a word.
pub(super) fn widen_bf16() -> fn(&mut Words, &Words) {
    lanes!(|a: u32| -> u32 { bf16_to_f32(a as u16).to_bits() })
}

impl Decoder<'_> {
    pub(super) fn half(&mut self, name: &Name<'_>, o: &[Operand]) -> Done {
        let ty = name.ty()?;
        if name.has("sat")
            || name.has("xorsign")
            || name.has("oob")
            || (name.has("ftz") && name.head != "ex2")
        {
            return Err(UNKNOWN);
        }
        match name.head {
            "add" | "sub" | "mul" | "min" | "max" | "ex2" | "tanh" => self.by_single(name, ty, o),
            "abs" if matches!(ty, Type::F16 | Type::Bf16) => {
                self.ww(lanes!(|a: u32| -> u32 { a & 0x7fff }), o)
            }
            "abs" => self.ww(lanes!(|a: u32| -> u32 { a & 0x7fff_7fff }), o),
            "neg" if matches!(ty, Type::F16 | Type::Bf16) => {
                self.ww(lanes!(|a: u32| -> u32 { (a ^ 0x8000) & 0xffff }), o)
            }
            "neg" => self.ww(lanes!(|a: u32| -> u32 { a ^ 0x8000_8000 }), o),
            "fma" => self.fused_half(name, ty, o),
            _ => Err(UNKNOWN),
        }
    }

    /// The instruction of f32, between conversions; that of a pair is that of both halves.
    fn by_single(&mut self, name: &Name<'_>, ty: Type, o: &[Operand]) -> Done {
        let [d, sources @ ..] = o else { return Err(OPERANDS) };
        let d = self.w(d)?;
        let (widen, narrow): (Step, Step) = match ty {
            Type::F16 | Type::F16x2 => {
                (widen_f16(), lanes!(|a: u32| -> u32 { u32::from(f32_to_f16(f32::from_bits(a))) }))
            }
            _ => (widen_bf16(), lanes!(|a: u32| -> u32 { u32::from(f32_to_bf16(f32::from_bits(a))) })),
        };
        let upper: Step = lanes!(|a: u32| -> u32 { a >> 16 });
        let is_pair = matches!(ty, Type::F16x2 | Type::Bf16x2);
        let mut results = Vec::new();
        for half in 0..1 + usize::from(is_pair) {
            let result = self.word();
            let mut operands = vec![self.hold(result)];
            for source in sources {
                let mut a = self.w(source)?;
                if half == 1 {
                    let d = self.word();
                    self.emit(Op::Ww { f: upper, d, a });
                    a = d;
                }
                operands.push(self.through(widen, a));
            }
            let modifiers = name.modifiers.iter().copied().filter(|&modifier| modifier == "NaN").collect();
            self.single(&Name { head: name.head, modifiers }, &operands)?;
            let bits = self.word();
            self.emit(Op::Ww { f: narrow, d: bits, a: result });
            results.push(bits);
        }
        match results[..] {
            [low, high] => {
                self.emit(Op::Www { f: lanes!(|a: u32, b: u32| -> u32 { a | b << 16 }), d, a: low, b: high });
            }
            _ => self.emit(Op::Ww { f: lanes!(|a: u32| -> u32 { a }), d, a: results[0] }),
        }
        Ok(())
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
