//! Comparisons and choices by them.

#![expect(clippy::neg_cmp_op_on_partial_ord, reason = "what is not ordered makes them hold")]

use super::float::flushed;
use super::half::{widen_bf16, widen_f16};
use super::{Decoder, Done, Name, OPERANDS, UNKNOWN};
use crate::exec::{Doubles, Op, P, W, Words, lanes, lanes_where};
use crate::ptx::{Operand, Type};

type Compare32 = fn(&Words, &Words) -> u32;
type Compare64 = fn(&Doubles, &Doubles) -> u32;

/// `$value` where `$x` is something.
macro_rules! of {
    (|$x:ident| $value:expr, $is:ident) => {{
        let $x = $is;
        $value
    }};
}

/// A comparison of integers by its name; `$value` is what a lane's bits stand for.
macro_rules! of_integers {
    ($name:expr, $bits:ty, |$x:ident| $value:expr) => {
        match $name {
            "eq" => Some(lanes_where!(|a, b: $bits| a == b) as fn(&[$bits; 32], &[$bits; 32]) -> u32),
            "ne" => Some(lanes_where!(|a, b: $bits| a != b) as fn(&[$bits; 32], &[$bits; 32]) -> u32),
            "lt" => Some(lanes_where!(|a, b: $bits| of!(|$x| $value, a) < of!(|$x| $value, b)) as _),
            "le" => Some(lanes_where!(|a, b: $bits| of!(|$x| $value, a) <= of!(|$x| $value, b)) as _),
            "gt" => Some(lanes_where!(|a, b: $bits| of!(|$x| $value, a) > of!(|$x| $value, b)) as _),
            "ge" => Some(lanes_where!(|a, b: $bits| of!(|$x| $value, a) >= of!(|$x| $value, b)) as _),
            "lo" => Some(lanes_where!(|a, b: $bits| a < b) as _),
            "ls" => Some(lanes_where!(|a, b: $bits| a <= b) as _),
            "hi" => Some(lanes_where!(|a, b: $bits| a > b) as _),
            "hs" => Some(lanes_where!(|a, b: $bits| a >= b) as _),
            _ => None,
        }
    };
}

/// A comparison of floats by its name: a NaN is unordered.
macro_rules! of_floats {
    ($name:expr, $bits:ty, |$x:ident| $value:expr) => {
        match $name {
            "eq" => Some(lanes_where!(|a, b: $bits| of!(|$x| $value, a) == of!(|$x| $value, b))
                as fn(&[$bits; 32], &[$bits; 32]) -> u32),
            "ne" => Some(lanes_where!(|a, b: $bits| {
                let (a, b) = (of!(|$x| $value, a), of!(|$x| $value, b));
                !a.is_nan() && !b.is_nan() && a != b
            }) as _),
            "lt" => Some(lanes_where!(|a, b: $bits| of!(|$x| $value, a) < of!(|$x| $value, b)) as _),
            "le" => Some(lanes_where!(|a, b: $bits| of!(|$x| $value, a) <= of!(|$x| $value, b)) as _),
            "gt" => Some(lanes_where!(|a, b: $bits| of!(|$x| $value, a) > of!(|$x| $value, b)) as _),
            "ge" => Some(lanes_where!(|a, b: $bits| of!(|$x| $value, a) >= of!(|$x| $value, b)) as _),
            "equ" => Some(lanes_where!(|a, b: $bits| {
                let (a, b) = (of!(|$x| $value, a), of!(|$x| $value, b));
                a.is_nan() || b.is_nan() || a == b
            }) as _),
            "neu" => Some(lanes_where!(|a, b: $bits| of!(|$x| $value, a) != of!(|$x| $value, b)) as _),
            "ltu" => Some(lanes_where!(|a, b: $bits| !(of!(|$x| $value, a) >= of!(|$x| $value, b))) as _),
            "leu" => Some(lanes_where!(|a, b: $bits| !(of!(|$x| $value, a) > of!(|$x| $value, b))) as _),
            "gtu" => Some(lanes_where!(|a, b: $bits| !(of!(|$x| $value, a) <= of!(|$x| $value, b))) as _),
            "geu" => Some(lanes_where!(|a, b: $bits| !(of!(|$x| $value, a) < of!(|$x| $value, b))) as _),
            "num" => Some(lanes_where!(|a, b: $bits| {
                !of!(|$x| $value, a).is_nan() && !of!(|$x| $value, b).is_nan()
            }) as _),
            "nan" => Some(lanes_where!(|a, b: $bits| {
                of!(|$x| $value, a).is_nan() || of!(|$x| $value, b).is_nan()
            }) as _),
            _ => None,
        }
    };
}

/// A comparison of registers of up to 32 bits.
fn narrow(relation: &str, ty: Type) -> Option<Compare32> {
    match ty {
        Type::U16 | Type::B16 | Type::U32 | Type::B32 => of_integers!(relation, u32, |x| x),
        Type::S16 => of_integers!(relation, u32, |x| (x as u16).cast_signed()),
        Type::S32 => of_integers!(relation, u32, |x| x.cast_signed()),
        Type::F32 => of_floats!(relation, u32, |x| f32::from_bits(x)),
        _ => None,
    }
}

/// A comparison of registers of 64 bits.
fn wide(relation: &str, ty: Type) -> Option<Compare64> {
    match ty {
        Type::U64 | Type::B64 => of_integers!(relation, u64, |x| x),
        Type::S64 => of_integers!(relation, u64, |x| x.cast_signed()),
        Type::F64 => of_floats!(relation, u64, |x| f64::from_bits(x)),
        _ => None,
    }
}

impl Decoder<'_> {
    pub(super) fn comparison(&mut self, name: &Name<'_>, o: &[Operand]) -> Done {
        match name.head {
            "setp" => self.set_predicate(name, o),
            "set" => self.set(name, o),
            "selp" => self.select(name.ty()?, o),
            _ => self.select_by_sign(name, o),
        }
    }

    /// A predicate that holds where two operands relate as the name says.
    fn compare(&mut self, name: &Name<'_>, ty: Type, a: &Operand, b: &Operand) -> Result<P, &'static str> {
        let relation = *name.modifiers.first().ok_or(UNKNOWN)?;
        let d = self.predicate();
        if ty.bytes() == 8 {
            let f = wide(relation, ty).ok_or(UNKNOWN)?;
            let (a, b) = (self.d(a)?, self.d(b)?);
            self.emit(Op::Ddp { f, d, a, b });
        } else {
            let (a, b) = (self.w(a)?, self.w(b)?);
            self.relate(name, ty, d, a, b)?;
        }
        Ok(d)
    }

    /// Compares two words; halves are widened first, and subnormals flushed where the name says so.
    fn relate(&mut self, name: &Name<'_>, ty: Type, d: P, a: W, b: W) -> Done {
        let relation = *name.modifiers.first().ok_or(UNKNOWN)?;
        let first: Option<fn(&mut Words, &Words)> = match ty {
            Type::F16 => Some(widen_f16()),
            Type::Bf16 => Some(widen_bf16()),
            Type::F32 if name.has("ftz") => Some(flushed()),
            _ => None,
        };
        let ty = if matches!(ty, Type::F16 | Type::Bf16) { Type::F32 } else { ty };
        let f = narrow(relation, ty).ok_or(UNKNOWN)?;
        let (mut a, mut b) = (a, b);
        if let Some(first) = first {
            for operand in [&mut a, &mut b] {
                let d = self.word();
                self.emit(Op::Ww { f: first, d, a: *operand });
                *operand = d;
            }
        }
        self.emit(Op::Wwp { f, d, a, b });
        Ok(())
    }

    fn set_predicate(&mut self, name: &Name<'_>, o: &[Operand]) -> Done {
        let (out, a, b, other) = match o {
            [out, a, b] => (out, a, b, None),
            [out, a, b, other] => (out, a, b, Some(other)),
            _ => return Err(OPERANDS),
        };
        let ty = name.ty()?;
        if matches!(ty, Type::F16x2 | Type::Bf16x2) {
            return self.set_pair(name, ty, out, a, b);
        }
        let holds = self.compare(name, ty, a, b)?;
        let other = other.map(|other| self.p(other)).transpose()?;
        let joined: fn(u32, u32) -> u32 = match name.one_of(&["and", "or", "xor"]) {
            Some("and") => |a, b| a & b,
            Some("or") => |a, b| a | b,
            Some(_) => |a, b| a ^ b,
            None => |a, _| a,
        };
        let opposite: fn(u32, u32) -> u32 = match name.one_of(&["and", "or", "xor"]) {
            Some("and") => |a, b| !a & b,
            Some("or") => |a, b| !a | b,
            Some(_) => |a, b| !a ^ b,
            None => |a, _| !a,
        };
        let (first, second) = match out {
            Operand::Pair(first, second) => (&**first, Some(&**second)),
            first => (first, None),
        };
        let b = other.unwrap_or(holds);
        // the second one first: the first may be one of the operands
        if let Some(second) = second {
            let (d, copy) = (self.p(second)?, self.predicate());
            self.emit(Op::Ppp { f: opposite, d: copy, a: holds, b });
            let d1 = self.p(first)?;
            self.emit(Op::Ppp { f: joined, d: d1, a: holds, b });
            self.emit(Op::Ppp { f: |a, _| a, d, a: copy, b: copy });
            return Ok(());
        }
        let d = self.p(first)?;
        self.emit(Op::Ppp { f: joined, d, a: holds, b });
        Ok(())
    }

    /// `setp` of pairs: a predicate for each half.
    fn set_pair(&mut self, name: &Name<'_>, ty: Type, out: &Operand, a: &Operand, b: &Operand) -> Done {
        let Operand::Pair(first, second) = out else { return Err(OPERANDS) };
        let half = if ty == Type::F16x2 { Type::F16 } else { Type::Bf16 };
        let (a, b) = (self.w(a)?, self.w(b)?);
        let (high_a, high_b) = (self.word(), self.word());
        let upper = lanes!(|a: u32| -> u32 { a >> 16 });
        self.emit(Op::Ww { f: upper, d: high_a, a });
        self.emit(Op::Ww { f: upper, d: high_b, a: b });
        let (first, second) = (self.p(first)?, self.p(second)?);
        self.relate(name, half, first, a, b)?;
        self.relate(name, half, second, high_a, high_b)
    }

    /// `set`: all ones, or 1.0, where the relation holds.
    fn set(&mut self, name: &Name<'_>, o: &[Operand]) -> Done {
        let [d, a, b] = o else { return Err(OPERANDS) };
        let types: Vec<Type> = name.modifiers.iter().filter_map(|name| Type::parse(name)).collect();
        let [to, from] = types[..] else { return Err(UNKNOWN) };
        let yes = match to {
            Type::U32 | Type::S32 => u32::MAX,
            Type::F32 => 1.0_f32.to_bits(),
            Type::F16 => 0x3c00,
            Type::Bf16 => 0x3f80,
            _ => return Err(UNKNOWN),
        };
        let p = self.compare(name, from, a, b)?;
        let (d, yes, no) = (self.w(d)?, self.word_constant(yes), self.word_constant(0));
        self.emit(Op::SelectW { d, a: yes, b: no, p });
        Ok(())
    }

    fn select(&mut self, ty: Type, o: &[Operand]) -> Done {
        let [d, a, b, p] = o else { return Err(OPERANDS) };
        let p = self.p(p)?;
        if ty.bytes() == 8 {
            let (d, a, b) = (self.d(d)?, self.d(a)?, self.d(b)?);
            self.emit(Op::SelectD { d, a, b, p });
        } else {
            let (d, a, b) = (self.w(d)?, self.w(a)?, self.w(b)?);
            self.emit(Op::SelectW { d, a, b, p });
        }
        Ok(())
    }

    /// `slct`: the first where the last operand is not negative.
    fn select_by_sign(&mut self, name: &Name<'_>, o: &[Operand]) -> Done {
        let [d, a, b, c] = o else { return Err(OPERANDS) };
        let p = self.predicate();
        let (c, zero) = (self.w(c)?, self.word_constant(0));
        let f = narrow("ge", name.ty()?).ok_or(UNKNOWN)?;
        self.emit(Op::Wwp { f, d: p, a: c, b: zero });
        let types: Vec<Type> = name.modifiers.iter().filter_map(|name| Type::parse(name)).collect();
        if types.first().is_some_and(|ty| ty.bytes() == 8) {
            let (d, a, b) = (self.d(d)?, self.d(a)?, self.d(b)?);
            self.emit(Op::SelectD { d, a, b, p });
        } else {
            let (d, a, b) = (self.w(d)?, self.w(a)?, self.w(b)?);
            self.emit(Op::SelectW { d, a, b, p });
        }
        Ok(())
    }
}
