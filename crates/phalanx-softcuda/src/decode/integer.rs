//! Arithmetic of integers.

use super::{Decoder, Done, Name, OPERANDS, UNKNOWN};
use crate::exec::{Op, P, lanes};
use crate::ptx::{Operand, Type};

/// An integer of 16 bits in a word.
fn s16(a: u32) -> i32 {
    i32::from((a as u16).cast_signed())
}

/// The low 16 bits.
fn low(a: i32) -> u32 {
    a.cast_unsigned() & 0xffff
}

impl Decoder<'_> {
    pub(super) fn integer(&mut self, name: &Name<'_>, o: &[Operand]) -> Done {
        let ty = name.ty()?;
        if name.has("cc") || matches!(name.head, "addc" | "subc" | "madc") {
            return self.with_carry(name, o);
        }
        match name.head {
            "mul" | "mad" => return self.product(name, o, ty),
            "dp4a" => return self.dp4a(name, o),
            _ => {}
        }
        match (name.head, ty) {
            ("add", Type::S32) if name.has("sat") => self.www(
                lanes!(|a: u32, b: u32| -> u32 {
                    a.cast_signed().saturating_add(b.cast_signed()).cast_unsigned()
                }),
                o,
            ),
            ("sub", Type::S32) if name.has("sat") => self.www(
                lanes!(|a: u32, b: u32| -> u32 {
                    a.cast_signed().saturating_sub(b.cast_signed()).cast_unsigned()
                }),
                o,
            ),
            ("add", Type::U32 | Type::S32 | Type::B32) => {
                self.www(lanes!(|a: u32, b: u32| -> u32 { a.wrapping_add(b) }), o)
            }
            ("sub", Type::U32 | Type::S32 | Type::B32) => {
                self.www(lanes!(|a: u32, b: u32| -> u32 { a.wrapping_sub(b) }), o)
            }
            ("add", Type::U16 | Type::S16) => {
                self.www(lanes!(|a: u32, b: u32| -> u32 { a.wrapping_add(b) & 0xffff }), o)
            }
            ("sub", Type::U16 | Type::S16) => {
                self.www(lanes!(|a: u32, b: u32| -> u32 { a.wrapping_sub(b) & 0xffff }), o)
            }
            ("add", Type::U64 | Type::S64) => {
                self.ddd(lanes!(|a: u64, b: u64| -> u64 { a.wrapping_add(b) }), o)
            }
            ("sub", Type::U64 | Type::S64) => {
                self.ddd(lanes!(|a: u64, b: u64| -> u64 { a.wrapping_sub(b) }), o)
            }

            ("div", Type::U32 | Type::U16) => {
                self.www(lanes!(|a: u32, b: u32| -> u32 { a.checked_div(b).unwrap_or(u32::MAX) }), o)
            }
            ("rem", Type::U32 | Type::U16) => {
                self.www(lanes!(|a: u32, b: u32| -> u32 { a.checked_rem(b).unwrap_or(a) }), o)
            }
            ("div", Type::S32) => self.www(
                lanes!(|a: u32, b: u32| -> u32 {
                    let b = b.cast_signed();
                    if b == 0 { u32::MAX } else { a.cast_signed().wrapping_div(b).cast_unsigned() }
                }),
                o,
            ),
            ("rem", Type::S32) => self.www(
                lanes!(|a: u32, b: u32| -> u32 {
                    let b = b.cast_signed();
                    if b == 0 { a } else { a.cast_signed().wrapping_rem(b).cast_unsigned() }
                }),
                o,
            ),
            ("div", Type::S16) => {
                self.www(lanes!(|a: u32, b: u32| -> u32 { low(s16(a).checked_div(s16(b)).unwrap_or(-1)) }), o)
            }
            ("rem", Type::S16) => self.www(
                lanes!(|a: u32, b: u32| -> u32 { low(s16(a).checked_rem(s16(b)).unwrap_or(s16(a))) }),
                o,
            ),
            ("div", Type::U64) => {
                self.ddd(lanes!(|a: u64, b: u64| -> u64 { a.checked_div(b).unwrap_or(u64::MAX) }), o)
            }
            ("rem", Type::U64) => {
                self.ddd(lanes!(|a: u64, b: u64| -> u64 { a.checked_rem(b).unwrap_or(a) }), o)
            }
            ("div", Type::S64) => self.ddd(
                lanes!(|a: u64, b: u64| -> u64 {
                    let b = b.cast_signed();
                    if b == 0 { u64::MAX } else { a.cast_signed().wrapping_div(b).cast_unsigned() }
                }),
                o,
            ),
            ("rem", Type::S64) => self.ddd(
                lanes!(|a: u64, b: u64| -> u64 {
                    let b = b.cast_signed();
                    if b == 0 { a } else { a.cast_signed().wrapping_rem(b).cast_unsigned() }
                }),
                o,
            ),

            ("min", Type::U32 | Type::U16) => self.www(lanes!(|a: u32, b: u32| -> u32 { a.min(b) }), o),
            ("max", Type::U32 | Type::U16) => self.www(lanes!(|a: u32, b: u32| -> u32 { a.max(b) }), o),
            ("min", Type::S32) => self.www(
                lanes!(|a: u32, b: u32| -> u32 { a.cast_signed().min(b.cast_signed()).cast_unsigned() }),
                o,
            ),
            ("max", Type::S32) => self.www(
                lanes!(|a: u32, b: u32| -> u32 { a.cast_signed().max(b.cast_signed()).cast_unsigned() }),
                o,
            ),
            ("min", Type::S16) => self.www(lanes!(|a: u32, b: u32| -> u32 { low(s16(a).min(s16(b))) }), o),
            ("max", Type::S16) => self.www(lanes!(|a: u32, b: u32| -> u32 { low(s16(a).max(s16(b))) }), o),
            ("min", Type::U64) => self.ddd(lanes!(|a: u64, b: u64| -> u64 { a.min(b) }), o),
            ("max", Type::U64) => self.ddd(lanes!(|a: u64, b: u64| -> u64 { a.max(b) }), o),
            ("min", Type::S64) => self.ddd(
                lanes!(|a: u64, b: u64| -> u64 { a.cast_signed().min(b.cast_signed()).cast_unsigned() }),
                o,
            ),
            ("max", Type::S64) => self.ddd(
                lanes!(|a: u64, b: u64| -> u64 { a.cast_signed().max(b.cast_signed()).cast_unsigned() }),
                o,
            ),
            ("abs", Type::S32) => {
                self.ww(lanes!(|a: u32| -> u32 { a.cast_signed().wrapping_abs().cast_unsigned() }), o)
            }
            ("abs", Type::S16) => self.ww(lanes!(|a: u32| -> u32 { low(s16(a).abs()) }), o),
            ("abs", Type::S64) => {
                self.dd(lanes!(|a: u64| -> u64 { a.cast_signed().wrapping_abs().cast_unsigned() }), o)
            }
            ("neg", Type::S32) => self.ww(lanes!(|a: u32| -> u32 { a.wrapping_neg() }), o),
            ("neg", Type::S16) => self.ww(lanes!(|a: u32| -> u32 { a.wrapping_neg() & 0xffff }), o),
            ("neg", Type::S64) => self.dd(lanes!(|a: u64| -> u64 { a.wrapping_neg() }), o),
            ("sad", Type::U32) => {
                self.wwww(lanes!(|a: u32, b: u32, c: u32| -> u32 { a.abs_diff(b).wrapping_add(c) }), o)
            }
            ("sad", Type::S32) => self.wwww(
                lanes!(|a: u32, b: u32, c: u32| -> u32 {
                    a.cast_signed().abs_diff(b.cast_signed()).wrapping_add(c)
                }),
                o,
            ),
            _ => Err(UNKNOWN),
        }
    }

    /// `mul` and `mad`, the low half, the high half, or both.
    fn product(&mut self, name: &Name<'_>, o: &[Operand], ty: Type) -> Done {
        if name.head == "mad" {
            return self.product_and_sum(name, o, ty);
        }
        match (name.one_of(&["lo", "hi", "wide"]).ok_or(UNKNOWN)?, ty) {
            ("lo", Type::U32 | Type::S32) => {
                self.www(lanes!(|a: u32, b: u32| -> u32 { a.wrapping_mul(b) }), o)
            }
            ("lo", Type::U16 | Type::S16) => {
                self.www(lanes!(|a: u32, b: u32| -> u32 { a.wrapping_mul(b) & 0xffff }), o)
            }
            ("lo", Type::U64 | Type::S64) => {
                self.ddd(lanes!(|a: u64, b: u64| -> u64 { a.wrapping_mul(b) }), o)
            }
            ("hi", Type::U32) => {
                self.www(lanes!(|a: u32, b: u32| -> u32 { ((u64::from(a) * u64::from(b)) >> 32) as u32 }), o)
            }
            ("hi", Type::S32) => self.www(
                lanes!(|a: u32, b: u32| -> u32 {
                    ((i64::from(a.cast_signed()) * i64::from(b.cast_signed())) >> 32).cast_unsigned() as u32
                }),
                o,
            ),
            ("hi", Type::U16) => {
                self.www(lanes!(|a: u32, b: u32| -> u32 { ((a & 0xffff) * (b & 0xffff)) >> 16 }), o)
            }
            ("hi", Type::S16) => {
                self.www(lanes!(|a: u32, b: u32| -> u32 { low((s16(a) * s16(b)) >> 16) }), o)
            }
            ("hi", Type::U64) => self
                .ddd(lanes!(|a: u64, b: u64| -> u64 { ((u128::from(a) * u128::from(b)) >> 64) as u64 }), o),
            ("hi", Type::S64) => self.ddd(
                lanes!(|a: u64, b: u64| -> u64 {
                    ((i128::from(a.cast_signed()) * i128::from(b.cast_signed())) >> 64).cast_unsigned() as u64
                }),
                o,
            ),
            ("wide", Type::U16) => {
                self.www(lanes!(|a: u32, b: u32| -> u32 { (a & 0xffff) * (b & 0xffff) }), o)
            }
            ("wide", Type::S16) => {
                self.www(lanes!(|a: u32, b: u32| -> u32 { (s16(a) * s16(b)).cast_unsigned() }), o)
            }
            ("wide", Type::U32 | Type::S32) => {
                let [d, a, b] = o else { return Err(OPERANDS) };
                let (d, a, b) = (self.d(d)?, self.w(a)?, self.w(b)?);
                let f: fn(&mut _, &_, &_) = match ty {
                    Type::U32 => lanes!(|a: u32, b: u32| -> u64 { u64::from(a) * u64::from(b) }),
                    _ => lanes!(|a: u32, b: u32| -> u64 {
                        (i64::from(a.cast_signed()) * i64::from(b.cast_signed())).cast_unsigned()
                    }),
                };
                self.emit(Op::Wwd { f, d, a, b });
                Ok(())
            }
            _ => Err(UNKNOWN),
        }
    }

    /// `mad`: the sum is a second step, but for the most frequent ones.
    fn product_and_sum(&mut self, name: &Name<'_>, o: &[Operand], ty: Type) -> Done {
        let [d, a, b, c] = o else { return Err(OPERANDS) };
        match (name.one_of(&["lo", "hi", "wide"]).ok_or(UNKNOWN)?, ty) {
            ("lo", Type::U32 | Type::S32) => {
                self.wwww(lanes!(|a: u32, b: u32, c: u32| -> u32 { a.wrapping_mul(b).wrapping_add(c) }), o)
            }
            ("lo", Type::U16 | Type::S16) => self.wwww(
                lanes!(|a: u32, b: u32, c: u32| -> u32 { a.wrapping_mul(b).wrapping_add(c) & 0xffff }),
                o,
            ),
            ("lo", Type::U64 | Type::S64) => {
                self.dddd(lanes!(|a: u64, b: u64, c: u64| -> u64 { a.wrapping_mul(b).wrapping_add(c) }), o)
            }
            ("hi", Type::U32) => self.wwww(
                lanes!(|a: u32, b: u32, c: u32| -> u32 {
                    (((u64::from(a) * u64::from(b)) >> 32) as u32).wrapping_add(c)
                }),
                o,
            ),
            ("hi", Type::S32) => self.wwww(
                lanes!(|a: u32, b: u32, c: u32| -> u32 {
                    let product = i64::from(a.cast_signed()) * i64::from(b.cast_signed());
                    ((product >> 32).cast_unsigned() as u32).wrapping_add(c)
                }),
                o,
            ),
            ("wide", Type::U16) => self.wwww(
                lanes!(|a: u32, b: u32, c: u32| -> u32 { ((a & 0xffff) * (b & 0xffff)).wrapping_add(c) }),
                o,
            ),
            ("wide", Type::S16) => self.wwww(
                lanes!(|a: u32, b: u32, c: u32| -> u32 { (s16(a) * s16(b)).cast_unsigned().wrapping_add(c) }),
                o,
            ),
            ("wide", Type::U32 | Type::S32) => {
                let (d, a, b, c) = (self.d(d)?, self.w(a)?, self.w(b)?, self.d(c)?);
                let f: fn(&mut _, &_, &_, &_) = match ty {
                    Type::U32 => {
                        lanes!(|a: u32, b: u32, c: u64| -> u64 {
                            (u64::from(a) * u64::from(b)).wrapping_add(c)
                        })
                    }
                    _ => lanes!(|a: u32, b: u32, c: u64| -> u64 {
                        (i64::from(a.cast_signed()) * i64::from(b.cast_signed()))
                            .cast_unsigned()
                            .wrapping_add(c)
                    }),
                };
                self.emit(Op::Wwdd { f, d, a, b, c });
                Ok(())
            }
            _ => Err(UNKNOWN),
        }
    }

    /// Sums of products of bytes.
    fn dp4a(&mut self, name: &Name<'_>, o: &[Operand]) -> Done {
        let types: Vec<Type> = name.modifiers.iter().filter_map(|name| Type::parse(name)).collect();
        match types[..] {
            [Type::U32, Type::U32] => self.wwww(
                lanes!(|a: u32, b: u32, c: u32| -> u32 {
                    let (a, b) = (a.to_le_bytes(), b.to_le_bytes());
                    (0..4).fold(c, |sum, i| sum.wrapping_add(u32::from(a[i]) * u32::from(b[i])))
                }),
                o,
            ),
            [Type::S32, Type::S32] => self.wwww(
                lanes!(|a: u32, b: u32, c: u32| -> u32 {
                    let (a, b) = (a.to_le_bytes(), b.to_le_bytes());
                    let product = |i: usize| i32::from(a[i].cast_signed()) * i32::from(b[i].cast_signed());
                    (0..4).fold(c, |sum, i| sum.wrapping_add(product(i).cast_unsigned()))
                }),
                o,
            ),
            _ => Err(UNKNOWN),
        }
    }

    /// The predicate that is the carry flag.
    fn carry_flag(&mut self) -> P {
        match self.carry {
            Some(p) => p,
            None => {
                let p = self.predicate();
                self.carry = Some(p);
                p
            }
        }
    }

    /// Sums of 32 bits that set the carry flag, take it, or both.
    fn with_carry(&mut self, name: &Name<'_>, o: &[Operand]) -> Done {
        if !matches!(name.ty()?, Type::U32 | Type::S32 | Type::B32) {
            return Err(UNKNOWN);
        }
        let (d, a, b) = match (name.head, o) {
            ("mad" | "madc", [d, a, b, c]) => {
                // the product first, then a sum
                let product = self.word();
                let (a, b) = (self.w(a)?, self.w(b)?);
                let f: fn(&mut _, &_, &_) = match (name.has("hi"), name.ty()?) {
                    (false, _) => lanes!(|a: u32, b: u32| -> u32 { a.wrapping_mul(b) }),
                    (true, Type::U32) => {
                        lanes!(|a: u32, b: u32| -> u32 { ((u64::from(a) * u64::from(b)) >> 32) as u32 })
                    }
                    _ => return Err(UNKNOWN),
                };
                self.emit(Op::Www { f, d: product, a, b });
                (self.w(d)?, product, self.w(c)?)
            }
            (_, [d, a, b]) => (self.w(d)?, self.w(a)?, self.w(b)?),
            _ => return Err(OPERANDS),
        };
        let flag = self.carry_flag();
        let f: fn(u32, u32, bool) -> (u32, bool) = match name.head {
            "add" | "mad" => |a, b, _| a.overflowing_add(b),
            "sub" => |a, b, _| a.overflowing_sub(b),
            "addc" | "madc" => |a, b, carry| {
                let (sum, first) = a.overflowing_add(b);
                let (sum, second) = sum.overflowing_add(u32::from(carry));
                (sum, first || second)
            },
            _ => |a, b, borrow| {
                let (difference, first) = a.overflowing_sub(b);
                let (difference, second) = difference.overflowing_sub(u32::from(borrow));
                (difference, first || second)
            },
        };
        let to = if name.has("cc") { flag } else { self.predicate() };
        self.emit(Op::Carry { f, d, a, b, from: flag, to });
        Ok(())
    }
}
