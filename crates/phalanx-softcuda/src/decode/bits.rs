//! Logic, shifts, fields of bits, and moves.

use super::{Decoder, Done, Name, OPERANDS, UNKNOWN, window_of};
use crate::exec::{Op, lanes};
use crate::ptx::{Operand, Type};

impl Decoder<'_> {
    pub(super) fn bits(&mut self, name: &Name<'_>, o: &[Operand]) -> Done {
        let ty = name.ty()?;
        if ty == Type::Pred {
            return self.predicates(name, o);
        }
        match (name.head, ty.bytes()) {
            ("mov", _) => self.copy(ty, o),
            ("and", 2 | 4) => self.www(lanes!(|a: u32, b: u32| -> u32 { a & b }), o),
            ("or", 2 | 4) => self.www(lanes!(|a: u32, b: u32| -> u32 { a | b }), o),
            ("xor", 2 | 4) => self.www(lanes!(|a: u32, b: u32| -> u32 { a ^ b }), o),
            ("and", 8) => self.ddd(lanes!(|a: u64, b: u64| -> u64 { a & b }), o),
            ("or", 8) => self.ddd(lanes!(|a: u64, b: u64| -> u64 { a | b }), o),
            ("xor", 8) => self.ddd(lanes!(|a: u64, b: u64| -> u64 { a ^ b }), o),
            ("not", 2) => self.ww(lanes!(|a: u32| -> u32 { !a & 0xffff }), o),
            ("not", 4) => self.ww(lanes!(|a: u32| -> u32 { !a }), o),
            ("not", 8) => self.dd(lanes!(|a: u64| -> u64 { !a }), o),
            ("cnot", 2 | 4) => self.ww(lanes!(|a: u32| -> u32 { u32::from(a == 0) }), o),
            ("cnot", 8) => self.dd(lanes!(|a: u64| -> u64 { u64::from(a == 0) }), o),
            ("lop3", 4) => {
                let [d, a, b, c, Operand::Integer(table)] = o else { return Err(OPERANDS) };
                let (d, a, b, c) = (self.w(d)?, self.w(a)?, self.w(b)?, self.w(c)?);
                self.emit(Op::Lop3 { table: *table as u8, d, a, b, c });
                Ok(())
            }
            ("shl" | "shr", _) => self.shift(name, ty, o),
            ("shf", 4) => self.funnel(name, o),
            ("prmt", 4) if name.modifiers.len() == 1 => {
                self.wwww(lanes!(|a: u32, b: u32, c: u32| -> u32 { permuted(a, b, c) }), o)
            }
            ("popc", 4) => self.ww(lanes!(|a: u32| -> u32 { a.count_ones() }), o),
            ("popc", 8) => self.dw(lanes!(|a: u64| -> u32 { a.count_ones() }), o),
            ("clz", 4) => self.ww(lanes!(|a: u32| -> u32 { a.leading_zeros() }), o),
            ("clz", 8) => self.dw(lanes!(|a: u64| -> u32 { a.leading_zeros() }), o),
            ("brev", 4) => self.ww(lanes!(|a: u32| -> u32 { a.reverse_bits() }), o),
            ("brev", 8) => self.dd(lanes!(|a: u64| -> u64 { a.reverse_bits() }), o),
            ("bfe" | "bfi" | "bfind", _) => self.field(name, ty, o),
            _ => Err(UNKNOWN),
        }
    }

    /// Logic of predicates.
    fn predicates(&mut self, name: &Name<'_>, o: &[Operand]) -> Done {
        let (d, a, b) = match o {
            [d, a] => (d, a, a),
            [d, a, b] => (d, a, b),
            _ => return Err(OPERANDS),
        };
        let f: fn(u32, u32) -> u32 = match name.head {
            "and" => |a, b| a & b,
            "or" => |a, b| a | b,
            "xor" => |a, b| a ^ b,
            "not" => |a, _| !a,
            "mov" => |a, _| a,
            _ => return Err(UNKNOWN),
        };
        let (d, a, b) = (self.p(d)?, self.p(a)?, self.p(b)?);
        self.emit(Op::Ppp { f, d, a, b });
        Ok(())
    }

    /// `mov`: of a register, of an address, or between a register and its parts.
    fn copy(&mut self, ty: Type, o: &[Operand]) -> Done {
        match (ty.bytes(), o) {
            (4, [d, Operand::Vector(parts)]) => {
                let [low, high] = &parts[..] else { return Err(OPERANDS) };
                let f = lanes!(|a: u32, b: u32| -> u32 { a & 0xffff | b << 16 });
                self.www(f, &[d.clone(), low.clone(), high.clone()])
            }
            (4, [Operand::Vector(parts), a]) => {
                let [low, high] = &parts[..] else { return Err(OPERANDS) };
                // the second part may be where the whole was
                let a = self.w(a)?;
                let copy = self.word();
                self.emit(Op::Ww { f: lanes!(|a: u32| -> u32 { a }), d: copy, a });
                let (low, high) = (self.w(low)?, self.w(high)?);
                self.emit(Op::Ww { f: lanes!(|a: u32| -> u32 { a & 0xffff }), d: low, a: copy });
                self.emit(Op::Ww { f: lanes!(|a: u32| -> u32 { a >> 16 }), d: high, a: copy });
                Ok(())
            }
            (8, [d, Operand::Vector(parts)]) => {
                let d = self.d(d)?;
                match &parts[..] {
                    [low, high] => {
                        let (a, b) = (self.w(low)?, self.w(high)?);
                        let f = lanes!(|a: u32, b: u32| -> u64 { u64::from(a) | u64::from(b) << 32 });
                        self.emit(Op::Wwd { f, d, a, b });
                    }
                    [first, second, third, fourth] => {
                        let pair = lanes!(|a: u32, b: u32| -> u32 { a & 0xffff | b << 16 });
                        let (low, high) = (self.word(), self.word());
                        let (a, b) = (self.w(first)?, self.w(second)?);
                        self.emit(Op::Www { f: pair, d: low, a, b });
                        let (a, b) = (self.w(third)?, self.w(fourth)?);
                        self.emit(Op::Www { f: pair, d: high, a, b });
                        let f = lanes!(|a: u32, b: u32| -> u64 { u64::from(a) | u64::from(b) << 32 });
                        self.emit(Op::Wwd { f, d, a: low, b: high });
                    }
                    _ => return Err(OPERANDS),
                }
                Ok(())
            }
            (8, [Operand::Vector(parts), a]) => {
                let a = self.d(a)?;
                let parts = parts.iter().map(|part| self.w(part)).collect::<Result<Vec<_>, _>>()?;
                match parts[..] {
                    [low, high] => {
                        self.emit(Op::Dw { f: lanes!(|a: u64| -> u32 { a as u32 }), d: low, a });
                        self.emit(Op::Dw { f: lanes!(|a: u64| -> u32 { (a >> 32) as u32 }), d: high, a });
                    }
                    [first, second, third, fourth] => {
                        self.emit(Op::Dw { f: lanes!(|a: u64| -> u32 { a as u32 & 0xffff }), d: first, a });
                        self.emit(Op::Dw {
                            f: lanes!(|a: u64| -> u32 { (a >> 16) as u32 & 0xffff }),
                            d: second,
                            a,
                        });
                        self.emit(Op::Dw {
                            f: lanes!(|a: u64| -> u32 { (a >> 32) as u32 & 0xffff }),
                            d: third,
                            a,
                        });
                        self.emit(Op::Dw { f: lanes!(|a: u64| -> u32 { (a >> 48) as u32 }), d: fourth, a });
                    }
                    _ => return Err(OPERANDS),
                }
                Ok(())
            }
            (2, _) => self.ww(lanes!(|a: u32| -> u32 { a & 0xffff }), o),
            (4, _) => self.ww(lanes!(|a: u32| -> u32 { a }), o),
            (8, _) => self.dd(lanes!(|a: u64| -> u64 { a }), o),
            _ => Err(UNKNOWN),
        }
    }

    /// Shifts; those by more than all bits leave nothing, or the sign.
    fn shift(&mut self, name: &Name<'_>, ty: Type, o: &[Operand]) -> Done {
        match (name.head, ty.bytes(), ty.is_signed()) {
            ("shl", 2, _) => {
                self.www(lanes!(|a: u32, b: u32| -> u32 { a.checked_shl(b).unwrap_or(0) & 0xffff }), o)
            }
            ("shl", 4, _) => {
                self.www(lanes!(|a: u32, b: u32| -> u32 { if b < 32 { a << (b & 31) } else { 0 } }), o)
            }
            ("shr", 2 | 4, false) => {
                self.www(lanes!(|a: u32, b: u32| -> u32 { if b < 32 { a >> (b & 31) } else { 0 } }), o)
            }
            ("shr", 2, true) => self.www(
                lanes!(|a: u32, b: u32| -> u32 {
                    (i32::from((a as u16).cast_signed()) >> b.min(15)).cast_unsigned() & 0xffff
                }),
                o,
            ),
            ("shr", 4, true) => self
                .www(lanes!(|a: u32, b: u32| -> u32 { (a.cast_signed() >> b.min(31)).cast_unsigned() }), o),
            ("shl", 8, _) => {
                self.dwd(lanes!(|a: u64, b: u32| -> u64 { if b < 64 { a << (b & 63) } else { 0 } }), o)
            }
            ("shr", 8, false) => {
                self.dwd(lanes!(|a: u64, b: u32| -> u64 { if b < 64 { a >> (b & 63) } else { 0 } }), o)
            }
            ("shr", 8, true) => self
                .dwd(lanes!(|a: u64, b: u32| -> u64 { (a.cast_signed() >> b.min(63)).cast_unsigned() }), o),
            _ => Err(UNKNOWN),
        }
    }

    /// Shifts of two words as one.
    fn funnel(&mut self, name: &Name<'_>, o: &[Operand]) -> Done {
        macro_rules! pair {
            (|$wide:ident, $by:ident| $value:expr, |$c:ident| $clip:expr) => {
                lanes!(|a: u32, b: u32, $c: u32| -> u32 {
                    let $wide = u64::from(a) | u64::from(b) << 32;
                    let $by = $clip;
                    ($value) as u32
                })
            };
        }
        match (name.has("l"), name.has("wrap")) {
            (true, true) => self.wwww(pair!(|wide, by| wide << by >> 32, |c| c & 31), o),
            (true, false) => self.wwww(pair!(|wide, by| wide << by >> 32, |c| c.min(32)), o),
            (false, true) => self.wwww(pair!(|wide, by| wide >> by, |c| c & 31), o),
            (false, false) => self.wwww(pair!(|wide, by| wide >> by, |c| c.min(32)), o),
        }
    }

    /// `bfe`, `bfi` and `bfind`.
    fn field(&mut self, name: &Name<'_>, ty: Type, o: &[Operand]) -> Done {
        match (name.head, ty) {
            ("bfe", Type::U32) => self.wwww(
                lanes!(|a: u32, b: u32, c: u32| -> u32 {
                    extract(u64::from(a), b & 255, c & 255, 32, false) as u32
                }),
                o,
            ),
            ("bfe", Type::S32) => self.wwww(
                lanes!(|a: u32, b: u32, c: u32| -> u32 {
                    extract(i64::from(a.cast_signed()).cast_unsigned(), b & 255, c & 255, 32, true) as u32
                }),
                o,
            ),
            ("bfe", Type::U64 | Type::S64) => {
                let [d, a, b, c] = o else { return Err(OPERANDS) };
                let (d, a, b, c) = (self.d(d)?, self.d(a)?, self.w(b)?, self.w(c)?);
                let f: fn(&mut _, &_, &_, &_) = match ty {
                    Type::U64 => {
                        lanes!(|a: u64, b: u32, c: u32| -> u64 { extract(a, b & 255, c & 255, 64, false) })
                    }
                    _ => lanes!(|a: u64, b: u32, c: u32| -> u64 { extract(a, b & 255, c & 255, 64, true) }),
                };
                self.emit(Op::Dwwd { f, d, a, b, c });
                Ok(())
            }
            ("bfi", Type::B32 | Type::B64) => {
                let [d, a, b, position, length] = o else { return Err(OPERANDS) };
                let (position, length) = (self.w(position)?, self.w(length)?);
                let place = self.word();
                let f = lanes!(|a: u32, b: u32| -> u32 { a & 255 | (b & 255) << 8 });
                self.emit(Op::Www { f, d: place, a: position, b: length });
                if ty == Type::B64 {
                    let (d, a, b) = (self.d(d)?, self.d(a)?, self.d(b)?);
                    let f = lanes!(|a: u64, b: u64, c: u32| -> u64 { insert(a, b, c & 255, c >> 8, 64) });
                    self.emit(Op::Ddwd { f, d, a, b, c: place });
                    return Ok(());
                }
                let (d, a, b) = (self.w(d)?, self.w(a)?, self.w(b)?);
                let f = lanes!(|a: u32, b: u32, c: u32| -> u32 {
                    insert(a.into(), b.into(), c & 255, c >> 8, 32) as u32
                });
                self.emit(Op::Wwww { f, d, a, b, c: place });
                Ok(())
            }
            ("bfind", Type::U32) if name.has("shiftamt") => {
                self.ww(lanes!(|a: u32| -> u32 { if a == 0 { u32::MAX } else { a.leading_zeros() } }), o)
            }
            ("bfind", Type::U32) => {
                self.ww(lanes!(|a: u32| -> u32 { if a == 0 { u32::MAX } else { 31 - a.leading_zeros() } }), o)
            }
            ("bfind", Type::U64) => {
                self.dw(lanes!(|a: u64| -> u32 { if a == 0 { u32::MAX } else { 63 - a.leading_zeros() } }), o)
            }
            _ => Err(UNKNOWN),
        }
    }

    /// The generic address of a variable of a space, added to or taken from what `a` holds.
    pub(super) fn generic(&mut self, name: &Name<'_>, o: &[Operand]) -> Done {
        let [d, a] = o else { return Err(OPERANDS) };
        let window = window_of(name.space());
        let f: fn(&mut _, &_, &_) = if name.has("to") {
            lanes!(|a: u64, b: u64| -> u64 { a.wrapping_sub(b) })
        } else {
            lanes!(|a: u64, b: u64| -> u64 { a.wrapping_add(b) })
        };
        let (d, a, b) = (self.d(d)?, self.d(a)?, self.d(&Operand::Integer(window))?);
        self.emit(Op::Ddd { f, d, a, b });
        Ok(())
    }
}

/// Bytes of two words chosen by the four low nibbles of a third; bit 3 of a nibble spreads the byte's sign.
fn permuted(a: u32, b: u32, selector: u32) -> u32 {
    let bytes = (u64::from(a) | u64::from(b) << 32).to_le_bytes();
    let chosen: [u8; 4] = std::array::from_fn(|index| {
        let nibble = selector >> (4 * index) & 15;
        let byte = bytes[nibble as usize & 7];
        if nibble & 8 == 0 { byte } else { (byte.cast_signed() >> 7).cast_unsigned() }
    });
    u32::from_le_bytes(chosen)
}

/// Bits of `a` from a position on, filled with the highest of them where it is a sign. `a` is extended to 64 bits.
fn extract(a: u64, position: u32, length: u32, width: u32, signed: bool) -> u64 {
    if length == 0 {
        return 0;
    }
    let sign = signed && a >> (position + length - 1).min(width - 1) & 1 == 1;
    let value = if position < width { a >> position } else { 0 };
    let length = if position < width { length.min(width - position) } else { 0 };
    let mask = if length >= 64 { u64::MAX } else { (1 << length) - 1 };
    value & mask | if sign { !mask } else { 0 }
}

/// `b` with the low bits of `a` from a position on.
fn insert(a: u64, b: u64, position: u32, length: u32, width: u32) -> u64 {
    if position >= width || length == 0 {
        return b;
    }
    let length = length.min(width - position);
    let mask = (u64::MAX >> (64 - length)) << position;
    b & !mask | a << position & mask
}

#[cfg(test)]
mod tests {
    use super::{extract, insert, permuted};

    #[test]
    fn fields_are_where_they_are_said_to_be() {
        assert_eq!(extract(0xabcd_1234, 8, 8, 32, false), 0x12);
        assert_eq!(extract(0xf0, 4, 4, 32, true) as u32, u32::MAX);
        assert_eq!(extract(0xff, 0, 0, 32, true), 0);
        assert_eq!(extract(u64::MAX, 60, 20, 64, false), 15);
        assert_eq!(insert(0xff, 0, 28, 8, 32), 0xf000_0000);
        assert_eq!(insert(0x5, 0xffff_ffff, 4, 4, 32), 0xffff_ff5f);
        assert_eq!(insert(0xff, 0, 60, 8, 64), 0xf000_0000_0000_0000);
    }

    #[test]
    fn bytes_are_chosen_by_nibbles() {
        assert_eq!(permuted(0x3322_1100, 0x7766_5544, 0x7531), 0x7755_3311);
        assert_eq!(permuted(0x0000_0080, 0, 0x4448), 0x0000_00ff);
    }
}
