//! Arithmetic of f32 and f64.
//!
//! What a GPU approximates is computed to the last bit here, so tests compare such results within a tolerance.

use super::{Decoder, Done, Name, OPERANDS, Slot, UNKNOWN};
use crate::exec::float::{Round, add_to_odd, flush, max_f32, max_f64, min_f32, min_f64, narrow_f64};
use crate::exec::{Doubles, Op, W, Words, lanes};
use crate::ptx::Operand;

/// A number from its bits.
fn f(bits: u32) -> f32 {
    f32::from_bits(bits)
}

/// Between 0 and 1; a NaN becomes 0.
fn saturate(value: f32) -> f32 {
    if value.is_nan() { 0.0 } else { value.clamp(0.0, 1.0) }
}

/// The function of registers for an expression of f32.
macro_rules! single {
    (|$($x:ident),+| $value:expr) => {
        lanes!(|$($x: u32),+| -> u32 {
            $(let $x = f($x);)+
            ($value).to_bits()
        })
    };
}

/// The function of registers for an expression of f64.
macro_rules! double {
    (|$($x:ident),+| $value:expr) => {
        lanes!(|$($x: u64),+| -> u64 {
            $(let $x = f64::from_bits($x);)+
            ($value).to_bits()
        })
    };
}

/// `a b + c`, by the processor's own instruction where it has one.
fn fused() -> fn(&mut Words, &Words, &Words, &Words) {
    #[cfg(target_arch = "x86_64")]
    if std::arch::is_x86_feature_detected!("fma") && std::arch::is_x86_feature_detected!("avx2") {
        // SAFETY: the processor has both
        return |out, a, b, c| unsafe { x86::fused(out, a, b, c) };
    }
    lanes!(|a: u32, b: u32, c: u32| -> u32 { f(a).mul_add(f(b), f(c)).to_bits() })
}

/// [`fused`] of f64.
fn fused_double() -> fn(&mut Doubles, &Doubles, &Doubles, &Doubles) {
    #[cfg(target_arch = "x86_64")]
    if std::arch::is_x86_feature_detected!("fma") && std::arch::is_x86_feature_detected!("avx2") {
        // SAFETY: the processor has both
        return |out, a, b, c| unsafe { x86::fused_double(out, a, b, c) };
    }
    double!(|a, b, c| a.mul_add(b, c))
}

#[cfg(target_arch = "x86_64")]
mod x86 {
    //! Loops that the compiler turns into fused instructions.

    use super::{Doubles, Words};

    #[target_feature(enable = "fma,avx2")]
    pub(super) fn fused(out: &mut Words, a: &Words, b: &Words, c: &Words) {
        for (lane, out) in out.iter_mut().enumerate() {
            let [a, b, c] = [a, b, c].map(|x| f32::from_bits(x[lane]));
            *out = a.mul_add(b, c).to_bits();
        }
    }

    #[target_feature(enable = "fma,avx2")]
    pub(super) fn fused_double(out: &mut Doubles, a: &Doubles, b: &Doubles, c: &Doubles) {
        for (lane, out) in out.iter_mut().enumerate() {
            let [a, b, c] = [a, b, c].map(|x| f64::from_bits(x[lane]));
            *out = a.mul_add(b, c).to_bits();
        }
    }
}

/// Subnormal numbers become zero.
pub(super) fn flushed() -> fn(&mut Words, &Words) {
    single!(|a| flush(a))
}

/// Roundings other than to nearest even.
const ROUNDINGS: [&str; 3] = ["rz", "rm", "rp"];

/// The function of registers for an expression of f64 that is rounded to f32 as a name says. The expression is exact, or its
/// last bit says that it is not.
macro_rules! rounded {
    ($rounding:expr, |$($x:ident),+| $value:expr) => {
        match $rounding {
            "rz" => rounded!(Round::Zero => |$($x),+| $value),
            "rm" => rounded!(Round::Down => |$($x),+| $value),
            _ => rounded!(Round::Up => |$($x),+| $value),
        }
    };
    ($round:expr => |$($x:ident),+| $value:expr) => {
        lanes!(|$($x: u32),+| -> u32 {
            $(let $x = f64::from(f($x));)+
            narrow_f64($value, $round).to_bits()
        })
    };
}

impl Decoder<'_> {
    pub(super) fn single(&mut self, name: &Name<'_>, o: &[Operand]) -> Done {
        if (!name.has("ftz") && !name.has("sat")) || name.head == "testp" {
            return self.plain_single(name, o);
        }
        // operands without subnormals, and then a result without them, or between 0 and 1
        let [d, sources @ ..] = o else { return Err(OPERANDS) };
        let d = self.w(d)?;
        let result = self.word();
        let mut operands = vec![self.hold(result)];
        for source in sources {
            let a = self.w(source)?;
            operands.push(if name.has("ftz") { self.through(flushed(), a) } else { self.hold(a) });
        }
        self.plain_single(name, &operands)?;
        let mut result = result;
        if name.has("ftz") {
            let flushed = self.through(flushed(), result);
            result = self.w(&flushed)?;
        }
        let last: fn(&mut Words, &Words) =
            if name.has("sat") { single!(|a| saturate(a)) } else { lanes!(|a: u32| -> u32 { a }) };
        self.emit(Op::Ww { f: last, d, a: result });
        Ok(())
    }

    /// A register of the machine as an operand.
    pub(super) fn hold(&mut self, w: W) -> Operand {
        self.slots.push(Slot::Word(w));
        Operand::Register(self.slots.len() - 1)
    }

    /// What a function makes of a register, as an operand.
    pub(super) fn through(&mut self, f: fn(&mut Words, &Words), a: W) -> Operand {
        let d = self.word();
        self.emit(Op::Ww { f, d, a });
        self.hold(d)
    }

    fn plain_single(&mut self, name: &Name<'_>, o: &[Operand]) -> Done {
        if name.has("xorsign") {
            return Err(UNKNOWN);
        }
        if let Some(rounding) = name.one_of(&ROUNDINGS) {
            return match name.head {
                "add" => self.www(rounded!(rounding, |a, b| add_to_odd(a, b)), o),
                "sub" => self.www(rounded!(rounding, |a, b| add_to_odd(a, -b)), o),
                "mul" => self.www(rounded!(rounding, |a, b| a * b), o),
                "fma" | "mad" => self.wwww(rounded!(rounding, |a, b, c| add_to_odd(a * b, c)), o),
                _ => Err(UNKNOWN),
            };
        }
        if name.has("NaN") {
            return match name.head {
                "min" => self
                    .www(single!(|a, b| if a.is_nan() || b.is_nan() { f32::NAN } else { min_f32(a, b) }), o),
                "max" => self
                    .www(single!(|a, b| if a.is_nan() || b.is_nan() { f32::NAN } else { max_f32(a, b) }), o),
                _ => Err(UNKNOWN),
            };
        }
        match name.head {
            "add" => self.www(single!(|a, b| a + b), o),
            "sub" => self.www(single!(|a, b| a - b), o),
            "mul" => self.www(single!(|a, b| a * b), o),
            "div" => self.www(single!(|a, b| a / b), o),
            "fma" | "mad" => self.wwww(fused(), o),
            "min" => self.www(single!(|a, b| min_f32(a, b)), o),
            "max" => self.www(single!(|a, b| max_f32(a, b)), o),
            "abs" => self.ww(single!(|a| a.abs()), o),
            "neg" => self.ww(single!(|a| -a), o),
            "rcp" => self.ww(single!(|a| 1.0 / a), o),
            "sqrt" => self.ww(single!(|a| a.sqrt()), o),
            "rsqrt" => self.ww(single!(|a| (1.0 / f64::from(a).sqrt()) as f32), o),
            "ex2" => self.ww(single!(|a| a.exp2()), o),
            "lg2" => self.ww(single!(|a| a.log2()), o),
            "sin" => self.ww(single!(|a| a.sin()), o),
            "cos" => self.ww(single!(|a| a.cos()), o),
            "tanh" => self.ww(single!(|a| a.tanh()), o),
            "copysign" => self.www(lanes!(|a: u32, b: u32| -> u32 { f(b).copysign(f(a)).to_bits() }), o),
            "testp" => self.test(name, o),
            _ => Err(UNKNOWN),
        }
    }

    pub(super) fn double_precision(&mut self, name: &Name<'_>, o: &[Operand]) -> Done {
        if name.one_of(&ROUNDINGS).is_some() {
            return Err(UNKNOWN);
        }
        match name.head {
            "add" => self.ddd(double!(|a, b| a + b), o),
            "sub" => self.ddd(double!(|a, b| a - b), o),
            "mul" => self.ddd(double!(|a, b| a * b), o),
            "div" => self.ddd(double!(|a, b| a / b), o),
            "fma" | "mad" => self.dddd(fused_double(), o),
            "min" => self.ddd(double!(|a, b| min_f64(a, b)), o),
            "max" => self.ddd(double!(|a, b| max_f64(a, b)), o),
            "abs" => self.dd(double!(|a| a.abs()), o),
            "neg" => self.dd(double!(|a| -a), o),
            "rcp" => self.dd(double!(|a| 1.0 / a), o),
            "sqrt" => self.dd(double!(|a| a.sqrt()), o),
            "rsqrt" => self.dd(double!(|a| 1.0 / a.sqrt()), o),
            "copysign" => self.ddd(double!(|a, b| b.copysign(a)), o),
            _ => Err(UNKNOWN),
        }
    }

    /// `testp`: what kind of number an f32 is.
    fn test(&mut self, name: &Name<'_>, o: &[Operand]) -> Done {
        let [d, a] = o else { return Err(OPERANDS) };
        let kinds = ["finite", "infinite", "number", "notanumber", "normal", "subnormal"];
        let test: fn(&Words, &Words) -> u32 = match name.one_of(&kinds).ok_or(UNKNOWN)? {
            "finite" => crate::exec::lanes_where!(|a, b: u32| f(a & b).is_finite()),
            "infinite" => crate::exec::lanes_where!(|a, b: u32| f(a & b).is_infinite()),
            "number" => crate::exec::lanes_where!(|a, b: u32| !f(a & b).is_nan()),
            "notanumber" => crate::exec::lanes_where!(|a, b: u32| f(a & b).is_nan()),
            "normal" => crate::exec::lanes_where!(|a, b: u32| f(a & b).is_normal()),
            _ => crate::exec::lanes_where!(|a, b: u32| f(a & b).is_subnormal()),
        };
        let (d, a) = (self.p(d)?, self.w(a)?);
        self.emit(Op::Wwp { f: test, d, a, b: a });
        Ok(())
    }
}
