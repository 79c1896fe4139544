//! `cvt`: conversions between types.

#![expect(clippy::cast_sign_loss, reason = "these conversions saturate, and so do those of the instruction")]

use super::{Decoder, Done, Name, OPERANDS, UNKNOWN};
use crate::exec::float::{
    Round, bf16_to_f32, f16_to_f32, f32_to_bf16, f32_to_f16, f32_to_tf32, f64_to_bf16, f64_to_f16, flush,
    narrow, narrow_f64,
};
use crate::exec::{D, Op, W, lanes};
use crate::ptx::{Operand, Type};

/// A value on its way from one type to another.
#[derive(Clone, Copy)]
enum Value {
    /// An integer of 32 bits, and whether it has a sign.
    Word(W, bool),
    /// An integer of 64 bits, and whether it has a sign.
    Double(D, bool),
    F32(W),
    F64(D),
}

impl Decoder<'_> {
    pub(super) fn conversion(&mut self, name: &Name<'_>, o: &[Operand]) -> Done {
        let types: Vec<Type> = name.modifiers.iter().filter_map(|name| Type::parse(name)).collect();
        let [to, from] = types[..] else { return Err(UNKNOWN) };
        if let [d, high, low] = o {
            return self.pack(name, to, from, d, high, low);
        }
        let [d, a] = o else { return Err(OPERANDS) };
        let value = self.widened(from, a)?;
        let value = match value {
            Value::F32(w) if name.has("ftz") => {
                let d = self.word();
                self.emit(Op::Ww {
                    f: lanes!(|a: u32| -> u32 { flush(f32::from_bits(a)).to_bits() }),
                    d,
                    a: w,
                });
                Value::F32(d)
            }
            value => value,
        };
        match to {
            Type::F16 | Type::Bf16 | Type::F32 | Type::F64 | Type::Tf32 => {
                self.float_from(name, value, to, d)
            }
            _ => self.integer_from(name, value, to, d),
        }
    }

    /// The operand in the widest register that holds its kind.
    fn widened(&mut self, ty: Type, a: &Operand) -> Result<Value, &'static str> {
        let into: Option<fn(&mut _, &_)> = match ty {
            Type::U8 | Type::B8 => Some(lanes!(|a: u32| -> u32 { a & 0xff })),
            Type::U16 | Type::B16 => Some(lanes!(|a: u32| -> u32 { a & 0xffff })),
            Type::S8 => Some(lanes!(|a: u32| -> u32 { i32::from((a as u8).cast_signed()).cast_unsigned() })),
            Type::S16 => {
                Some(lanes!(|a: u32| -> u32 { i32::from((a as u16).cast_signed()).cast_unsigned() }))
            }
            Type::F16 => Some(lanes!(|a: u32| -> u32 { f16_to_f32(a as u16).to_bits() })),
            Type::Bf16 => Some(lanes!(|a: u32| -> u32 { bf16_to_f32(a as u16).to_bits() })),
            _ => None,
        };
        let is_double = matches!(a, Operand::Register(r) if matches!(self.slots[*r], super::Slot::Double(_)));
        let word = if is_double && ty.bytes() < 8 {
            // a narrow type in a wide register
            let (d, a) = (self.word(), self.d(a)?);
            self.emit(Op::Dw { f: lanes!(|a: u64| -> u32 { a as u32 }), d, a });
            Some(d)
        } else if ty.bytes() < 8 {
            Some(self.w(a)?)
        } else {
            None
        };
        let word = match (word, into) {
            (Some(a), Some(f)) => {
                let d = self.word();
                self.emit(Op::Ww { f, d, a });
                Some(d)
            }
            (word, _) => word,
        };
        Ok(match (ty, word) {
            (Type::F16 | Type::Bf16 | Type::F32, Some(w)) => Value::F32(w),
            (Type::F64, _) => Value::F64(self.d(a)?),
            (ty, Some(w)) => Value::Word(w, ty.is_signed()),
            (ty, None) => Value::Double(self.d(a)?, ty.is_signed()),
        })
    }

    /// To an integer; floats by the rounding of the name.
    fn integer_from(&mut self, name: &Name<'_>, value: Value, to: Type, d: &Operand) -> Done {
        if name.has("sat") && matches!(value, Value::Word(..) | Value::Double(..)) {
            return self.saturated(value, to, d);
        }
        let integer = match value {
            Value::F32(a) => self.rounded(name, a, to)?,
            Value::F64(a) => self.rounded_double(name, a, to)?,
            integer => integer,
        };
        match (to.bytes(), integer) {
            (8, Value::Double(a, _)) => {
                let d = self.d(d)?;
                self.emit(Op::Dd { f: lanes!(|a: u64| -> u64 { a }), d, a });
            }
            (8, Value::Word(a, signed)) => {
                let d = self.d(d)?;
                let f: fn(&mut _, &_) = if signed {
                    lanes!(|a: u32| -> u64 { i64::from(a.cast_signed()).cast_unsigned() })
                } else {
                    lanes!(|a: u32| -> u64 { u64::from(a) })
                };
                self.emit(Op::Wd { f, d, a });
            }
            (_, Value::Word(a, _)) => {
                let d = self.w(d)?;
                self.emit(Op::Ww { f: cut(to), d, a });
            }
            (_, Value::Double(a, _)) => {
                let (d, low) = (self.w(d)?, self.word());
                self.emit(Op::Dw { f: lanes!(|a: u64| -> u32 { a as u32 }), d: low, a });
                self.emit(Op::Ww { f: cut(to), d, a: low });
            }
            _ => return Err(UNKNOWN),
        }
        Ok(())
    }

    /// The nearest integer that the narrower type has.
    fn saturated(&mut self, value: Value, to: Type, d: &Operand) -> Done {
        let wide = match value {
            Value::Double(a, true) => a,
            Value::Word(a, true) => {
                let wide = self.double();
                self.emit(Op::Wd {
                    f: lanes!(|a: u32| -> u64 { i64::from(a.cast_signed()).cast_unsigned() }),
                    d: wide,
                    a,
                });
                wide
            }
            Value::Word(a, false) => {
                let wide = self.double();
                self.emit(Op::Wd { f: lanes!(|a: u32| -> u64 { u64::from(a) }), d: wide, a });
                wide
            }
            _ => return Err(UNKNOWN),
        };
        macro_rules! clamp {
            ($ty:ty) => {
                lanes!(|a: u64| -> u32 {
                    a.cast_signed().clamp(i64::from(<$ty>::MIN), i64::from(<$ty>::MAX)).cast_unsigned() as u32
                })
            };
        }
        let f: fn(&mut _, &_) = match to {
            Type::U8 => clamp!(u8),
            Type::S8 => clamp!(i8),
            Type::U16 => clamp!(u16),
            Type::S16 => clamp!(i16),
            Type::U32 => clamp!(u32),
            Type::S32 => clamp!(i32),
            _ => return Err(UNKNOWN),
        };
        let (d, low) = (self.w(d)?, self.word());
        self.emit(Op::Dw { f, d: low, a: wide });
        self.emit(Op::Ww { f: cut(to), d, a: low });
        Ok(())
    }

    /// An f32 as an integer: saturated, and 0 for a NaN, or the highest bit alone in 64.
    fn rounded(&mut self, name: &Name<'_>, a: W, to: Type) -> Result<Value, &'static str> {
        let whole = self.word();
        let f = integral(name).ok_or(UNKNOWN)?;
        self.emit(Op::Ww { f, d: whole, a });
        macro_rules! word {
            ($ty:ty) => {
                lanes!(|a: u32| -> u32 { i64::from(f32::from_bits(a) as $ty).cast_unsigned() as u32 })
            };
        }
        let f: fn(&mut _, &_) = match to {
            Type::U8 => word!(u8),
            Type::S8 => word!(i8),
            Type::U16 => word!(u16),
            Type::S16 => word!(i16),
            Type::U32 => word!(u32),
            Type::S32 => word!(i32),
            Type::U64 | Type::S64 => {
                let wide = self.double();
                let f: fn(&mut _, &_) = match to {
                    Type::U64 => lanes!(|a: u32| -> u64 { to_u64(f64::from(f32::from_bits(a))) }),
                    _ => lanes!(|a: u32| -> u64 { to_s64(f64::from(f32::from_bits(a))) }),
                };
                self.emit(Op::Wd { f, d: wide, a: whole });
                return Ok(Value::Double(wide, to.is_signed()));
            }
            _ => return Err(UNKNOWN),
        };
        let d = self.word();
        self.emit(Op::Ww { f, d, a: whole });
        Ok(Value::Word(d, to.is_signed()))
    }

    /// An f64 as an integer: saturated, and the highest bit alone for a NaN.
    fn rounded_double(&mut self, name: &Name<'_>, a: D, to: Type) -> Result<Value, &'static str> {
        let whole = self.double();
        let f = integral_double(name).ok_or(UNKNOWN)?;
        self.emit(Op::Dd { f, d: whole, a });
        macro_rules! word {
            ($ty:ty, $nan:expr) => {
                lanes!(|a: u64| -> u32 {
                    let a = f64::from_bits(a);
                    if a.is_nan() { $nan } else { i64::from(a as $ty).cast_unsigned() as u32 }
                })
            };
        }
        let f: fn(&mut _, &_) = match to {
            Type::U8 => word!(u8, 0x80),
            Type::S8 => word!(i8, 0x80),
            Type::U16 => word!(u16, 0x8000),
            Type::S16 => word!(i16, 0x8000),
            Type::U32 => word!(u32, 0x8000_0000),
            Type::S32 => word!(i32, 0x8000_0000),
            Type::U64 | Type::S64 => {
                let d = self.double();
                let f: fn(&mut _, &_) = match to {
                    Type::U64 => lanes!(|a: u64| -> u64 { to_u64(f64::from_bits(a)) }),
                    _ => lanes!(|a: u64| -> u64 { to_s64(f64::from_bits(a)) }),
                };
                self.emit(Op::Dd { f, d, a: whole });
                return Ok(Value::Double(d, to.is_signed()));
            }
            _ => return Err(UNKNOWN),
        };
        let d = self.word();
        self.emit(Op::Dw { f, d, a: whole });
        Ok(Value::Word(d, to.is_signed()))
    }

    /// To a float of any width.
    fn float_from(&mut self, name: &Name<'_>, value: Value, to: Type, d: &Operand) -> Done {
        let round = match name.one_of(&["rz", "rm", "rp"]) {
            None => Round::Nearest,
            Some("rz") => Round::Zero,
            Some("rm") => Round::Down,
            Some(_) => Round::Up,
        };
        match (value, to) {
            (Value::F32(a), Type::F64) => {
                let d = self.d(d)?;
                self.emit(Op::Wd {
                    f: lanes!(|a: u32| -> u64 { f64::from(f32::from_bits(a)).to_bits() }),
                    d,
                    a,
                });
                Ok(())
            }
            (Value::F32(a), _) => {
                let d = self.w(d)?;
                self.narrowed(name, a, to, round, d)
            }
            (Value::F64(a), Type::F64) => {
                let f = integral_double(name).unwrap_or(lanes!(|a: u64| -> u64 { a }));
                let d = self.d(d)?;
                self.emit(Op::Dd { f, d, a });
                Ok(())
            }
            (Value::F64(a), _) => {
                let d = self.w(d)?;
                let f: fn(&mut _, &_) = match (to, round) {
                    (Type::F32, Round::Nearest) => {
                        lanes!(|a: u64| -> u32 { (f64::from_bits(a) as f32).to_bits() })
                    }
                    (Type::F32, Round::Zero) => {
                        lanes!(|a: u64| -> u32 { narrow_f64(f64::from_bits(a), Round::Zero).to_bits() })
                    }
                    (Type::F32, Round::Up) => {
                        lanes!(|a: u64| -> u32 { narrow_f64(f64::from_bits(a), Round::Up).to_bits() })
                    }
                    (Type::F32, Round::Down) => {
                        lanes!(|a: u64| -> u32 { narrow_f64(f64::from_bits(a), Round::Down).to_bits() })
                    }
                    (Type::F16, Round::Nearest) => {
                        lanes!(|a: u64| -> u32 { u32::from(f64_to_f16(f64::from_bits(a))) })
                    }
                    (Type::Bf16, Round::Nearest) => {
                        lanes!(|a: u64| -> u32 { u32::from(f64_to_bf16(f64::from_bits(a))) })
                    }
                    _ => return Err(UNKNOWN),
                };
                self.emit(Op::Dw { f, d, a });
                Ok(())
            }
            (Value::Word(a, signed), Type::F64) => {
                let d = self.d(d)?;
                let f: fn(&mut _, &_) = if signed {
                    lanes!(|a: u32| -> u64 { f64::from(a.cast_signed()).to_bits() })
                } else {
                    lanes!(|a: u32| -> u64 { f64::from(a).to_bits() })
                };
                self.emit(Op::Wd { f, d, a });
                Ok(())
            }
            (Value::Word(a, signed), Type::F32) if round == Round::Nearest => {
                let d = self.w(d)?;
                let f: fn(&mut _, &_) = if signed {
                    lanes!(|a: u32| -> u32 { (a.cast_signed() as f32).to_bits() })
                } else {
                    lanes!(|a: u32| -> u32 { (a as f32).to_bits() })
                };
                self.emit(Op::Ww { f, d, a });
                Ok(())
            }
            (Value::Word(a, signed), _) => {
                // exact in f64, and then rounded once
                let wide = self.double();
                let f: fn(&mut _, &_) = if signed {
                    lanes!(|a: u32| -> u64 { f64::from(a.cast_signed()).to_bits() })
                } else {
                    lanes!(|a: u32| -> u64 { f64::from(a).to_bits() })
                };
                self.emit(Op::Wd { f, d: wide, a });
                self.float_from(name, Value::F64(wide), to, d)
            }
            (Value::Double(a, signed), Type::F64) if round == Round::Nearest => {
                let d = self.d(d)?;
                let f: fn(&mut _, &_) = if signed {
                    lanes!(|a: u64| -> u64 { (a.cast_signed() as f64).to_bits() })
                } else {
                    lanes!(|a: u64| -> u64 { (a as f64).to_bits() })
                };
                self.emit(Op::Dd { f, d, a });
                Ok(())
            }
            (Value::Double(a, signed), Type::F32) if round == Round::Nearest => {
                let d = self.w(d)?;
                let f: fn(&mut _, &_) = if signed {
                    lanes!(|a: u64| -> u32 { (a.cast_signed() as f32).to_bits() })
                } else {
                    lanes!(|a: u64| -> u32 { (a as f32).to_bits() })
                };
                self.emit(Op::Dw { f, d, a });
                Ok(())
            }
            _ => Err(UNKNOWN),
        }
    }

    /// An f32 to a float that a word holds.
    fn narrowed(&mut self, name: &Name<'_>, a: W, to: Type, round: Round, d: W) -> Done {
        macro_rules! to_half {
            ($nearest:expr, $widen:expr) => {
                match round {
                    Round::Nearest => lanes!(|a: u32| -> u32 { u32::from($nearest(f32::from_bits(a))) }),
                    Round::Zero => {
                        lanes!(|a: u32| -> u32 {
                            u32::from(narrow(f32::from_bits(a), Round::Zero, $nearest, $widen))
                        })
                    }
                    Round::Up => {
                        lanes!(|a: u32| -> u32 {
                            u32::from(narrow(f32::from_bits(a), Round::Up, $nearest, $widen))
                        })
                    }
                    Round::Down => {
                        lanes!(|a: u32| -> u32 {
                            u32::from(narrow(f32::from_bits(a), Round::Down, $nearest, $widen))
                        })
                    }
                }
            };
        }
        // an integral value of the same type, or of the other types by its rounding
        let integral = if to == Type::F32 { integral(name) } else { None };
        let mut a = a;
        if name.has("relu") || name.has("sat") {
            let d = self.word();
            let f: fn(&mut _, &_) = if name.has("sat") {
                lanes!(|a: u32| -> u32 {
                    let a = f32::from_bits(a);
                    (if a.is_nan() { 0.0 } else { a.clamp(0.0, 1.0) }).to_bits()
                })
            } else {
                lanes!(|a: u32| -> u32 { if f32::from_bits(a) < 0.0 { 0 } else { a } })
            };
            self.emit(Op::Ww { f, d, a });
            a = d;
        }
        let f: fn(&mut _, &_) = match to {
            Type::F32 => integral.unwrap_or(lanes!(|a: u32| -> u32 { a })),
            Type::F16 => to_half!(f32_to_f16, f16_to_f32),
            Type::Bf16 => to_half!(f32_to_bf16, bf16_to_f32),
            Type::Tf32 if name.has("rna") => lanes!(|a: u32| -> u32 { f32_to_tf32(f32::from_bits(a)) }),
            _ => return Err(UNKNOWN),
        };
        self.emit(Op::Ww { f, d, a });
        Ok(())
    }

    /// Two f32 to a pair, the first in the upper half.
    fn pack(
        &mut self,
        name: &Name<'_>,
        to: Type,
        from: Type,
        d: &Operand,
        high: &Operand,
        low: &Operand,
    ) -> Done {
        let (half, Type::F32) = (to, from) else { return Err(UNKNOWN) };
        let half = match half {
            Type::F16x2 => Type::F16,
            Type::Bf16x2 => Type::Bf16,
            _ => return Err(UNKNOWN),
        };
        let round = if name.has("rz") { Round::Zero } else { Round::Nearest };
        let (high, low) = (self.w(high)?, self.w(low)?);
        let (upper, lower) = (self.word(), self.word());
        self.narrowed(name, high, half, round, upper)?;
        self.narrowed(name, low, half, round, lower)?;
        let d = self.w(d)?;
        self.emit(Op::Www {
            f: lanes!(|a: u32, b: u32| -> u32 { b & 0xffff | a << 16 }),
            d,
            a: upper,
            b: lower,
        });
        Ok(())
    }
}

/// What a register of an integer type narrower than 32 bits holds of one.
fn cut(to: Type) -> fn(&mut crate::exec::Words, &crate::exec::Words) {
    match to {
        Type::U8 | Type::B8 => lanes!(|a: u32| -> u32 { a & 0xff }),
        Type::S8 => lanes!(|a: u32| -> u32 { i32::from((a as u8).cast_signed()).cast_unsigned() }),
        Type::U16 | Type::B16 | Type::S16 => lanes!(|a: u32| -> u32 { a & 0xffff }),
        _ => lanes!(|a: u32| -> u32 { a }),
    }
}

/// The rounding of an f32 to an integral value.
fn integral(name: &Name<'_>) -> Option<fn(&mut crate::exec::Words, &crate::exec::Words)> {
    Some(match name.one_of(&["rni", "rzi", "rmi", "rpi"])? {
        "rni" => lanes!(|a: u32| -> u32 { f32::from_bits(a).round_ties_even().to_bits() }),
        "rzi" => lanes!(|a: u32| -> u32 { f32::from_bits(a).trunc().to_bits() }),
        "rmi" => lanes!(|a: u32| -> u32 { f32::from_bits(a).floor().to_bits() }),
        _ => lanes!(|a: u32| -> u32 { f32::from_bits(a).ceil().to_bits() }),
    })
}

/// The rounding of an f64 to an integral value.
fn integral_double(name: &Name<'_>) -> Option<fn(&mut crate::exec::Doubles, &crate::exec::Doubles)> {
    Some(match name.one_of(&["rni", "rzi", "rmi", "rpi"])? {
        "rni" => lanes!(|a: u64| -> u64 { f64::from_bits(a).round_ties_even().to_bits() }),
        "rzi" => lanes!(|a: u64| -> u64 { f64::from_bits(a).trunc().to_bits() }),
        "rmi" => lanes!(|a: u64| -> u64 { f64::from_bits(a).floor().to_bits() }),
        _ => lanes!(|a: u64| -> u64 { f64::from_bits(a).ceil().to_bits() }),
    })
}

fn to_u64(a: f64) -> u64 {
    if a.is_nan() { 1 << 63 } else { a as u64 }
}

fn to_s64(a: f64) -> u64 {
    if a.is_nan() { 1 << 63 } else { (a as i64).cast_unsigned() }
}
