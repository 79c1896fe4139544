//! Loads, stores, atomics, asynchronous copies, and addresses.

use super::{Decoder, Done, Name, OPERANDS, Slot, UNKNOWN, window_of};
use crate::exec::float::{fma_bf16, fma_f16, halves, max_f32, min_f32};
use crate::exec::{Access, Atomic, Base, CpAsync, Extend, Op, Target, window};
use crate::ptx::{Operand, Space, Type};

/// What makes an access strong.
const STRONG: [&str; 6] = ["volatile", "relaxed", "acquire", "release", "acq_rel", "mmio"];

impl Decoder<'_> {
    pub(super) fn memory(&mut self, name: &Name<'_>, o: &[Operand]) -> Done {
        match name.head {
            "ld" | "ldu" => self.access(name, o),
            "st" => self.access(name, o),
            "atom" | "red" => self.update(name, o),
            "cvta" => self.generic(name, o),
            "isspacep" => self.is_in_space(name, o),
            "cp" => self.copy_async(name, o),
            // hints
            _ => {
                self.emit(Op::Nothing);
                Ok(())
            }
        }
    }

    /// The register and the offset of an address.
    pub(super) fn address(&mut self, space: Space, operand: &Operand) -> Result<(Base, i64), &'static str> {
        let Operand::Address(base, offset) = operand else { return Err(OPERANDS) };
        match &**base {
            Operand::Register(register) => match self.slots[*register] {
                Slot::Word(w) => Ok((Base::Word(w), *offset)),
                Slot::Double(d) => Ok((Base::Double(d), *offset)),
                Slot::Predicate(_) => Err(OPERANDS),
            },
            Operand::Symbol(name, _) => {
                let (home, address) = *self.symbols.get(name).ok_or("there is no such variable")?;
                let window = if space == Space::Generic { window_of(home) } else { 0 };
                Ok((Base::Zero, (address + window).cast_signed().wrapping_add(*offset)))
            }
            Operand::Integer(address) => Ok((Base::Zero, address.cast_signed().wrapping_add(*offset))),
            _ => Err(OPERANDS),
        }
    }

    /// The registers of an operand: all words, or all of 64 bits.
    fn target(&mut self, operand: &Operand, bytes: u32) -> Result<Target, &'static str> {
        let one = std::slice::from_ref(operand);
        let parts = if let Operand::Vector(parts) = operand { parts } else { one };
        let is_double = |part: &Operand| match part {
            Operand::Register(register) => matches!(self.slots[*register], Slot::Double(_)),
            _ => bytes == 8,
        };
        if parts.iter().any(is_double) {
            return Ok(Target::Doubles(parts.iter().map(|part| self.d(part)).collect::<Result<_, _>>()?));
        }
        Ok(Target::Words(parts.iter().map(|part| self.w(part)).collect::<Result<_, _>>()?))
    }

    fn access(&mut self, name: &Name<'_>, o: &[Operand]) -> Done {
        let is_load = name.head != "st";
        let (value, address) = match o {
            [value, address] if is_load => (value, address),
            [address, value] => (value, address),
            _ => return Err(OPERANDS),
        };
        let ty = name.ty()?;
        let mut space = name.space();
        // constants lie in global memory
        if space == Space::Const && is_load {
            space = Space::Global;
        }
        // an argument of a call, which is refused, or the end of the kernel
        if space == Space::Param && !is_load {
            self.emit(Op::Nothing);
            return Ok(());
        }
        let bytes = ty.bytes();
        let (base, offset) = self.address(space, address)?;
        let target = self.target(value, bytes)?;
        let count = match name.one_of(&["v2", "v4", "v8"]) {
            None => 1,
            Some("v2") => 2,
            Some("v4") => 4,
            Some(_) => 8,
        };
        if target.len() != count || bytes * count as u32 > 32 || bytes > 8 {
            return Err(OPERANDS);
        }
        // a register wider than the type is filled by its sign
        let wider = match &target {
            Target::Words(_) => bytes < 4,
            Target::Doubles(_) => bytes < 8,
        };
        let extend = if wider && ty.is_signed() { Extend::Sign } else { Extend::Zero };
        let strong = STRONG.iter().any(|strong| name.has(strong));
        let access = Box::new(Access { space, base, offset, bytes, target, extend, strong });
        self.emit(if is_load { Op::Load(access) } else { Op::Store(access) });
        Ok(())
    }

    fn update(&mut self, name: &Name<'_>, o: &[Operand]) -> Done {
        let (old, address, values) = match (name.head, o) {
            ("atom", [old, address, values @ ..]) => (Some(old), address, values),
            ("red", [address, values @ ..]) => (None, address, values),
            _ => return Err(OPERANDS),
        };
        let ty = name.ty()?;
        let operations = ["add", "min", "max", "inc", "dec", "and", "or", "xor", "exch", "cas"];
        let f = update_by(name.one_of(&operations).ok_or(UNKNOWN)?, ty).ok_or(UNKNOWN)?;
        let space = name.space();
        self.has_atomics |= space != Space::Shared;
        let (base, offset) = self.address(space, address)?;
        let bytes = ty.bytes();
        let old = match old {
            Some(old) if *old != Operand::Nothing => Some(self.target(old, bytes)?),
            _ => None,
        };
        let (a, b) = match values {
            [a] => (self.target(a, bytes)?, None),
            [a, b] => (self.target(a, bytes)?, Some(self.target(b, bytes)?)),
            _ => return Err(OPERANDS),
        };
        if a.len() != 1 || bytes > 8 {
            return Err(UNKNOWN);
        }
        self.emit(Op::Atomic(Box::new(Atomic { f, space, base, offset, bytes, old, a, b })));
        Ok(())
    }

    /// Whether a generic address lies in a space: it lies as far from the first address of it as its bytes go.
    fn is_in_space(&mut self, name: &Name<'_>, o: &[Operand]) -> Done {
        let [p, a] = o else { return Err(OPERANDS) };
        let (d, a) = (self.p(p)?, self.d(a)?);
        let b = self.d(&Operand::Integer(window_of(name.space())))?;
        let f: fn(&_, &_) -> u32 = match name.space() {
            Space::Global => crate::exec::lanes_where!(|a, b: u64| a >= crate::exec::arena::BASE && b == 0),
            _ => crate::exec::lanes_where!(|a, b: u64| a.wrapping_sub(b) < window::BYTES),
        };
        self.emit(Op::Ddp { f, d, a, b });
        Ok(())
    }

    fn copy_async(&mut self, name: &Name<'_>, o: &[Operand]) -> Done {
        if !name.has("async") || name.has("bulk") || name.has("mbarrier") {
            return Err(UNKNOWN);
        }
        if name.has("commit_group") {
            self.emit(Op::CpCommit);
            return Ok(());
        }
        if name.has("wait_all") {
            self.emit(Op::CpWait { groups: None });
            return Ok(());
        }
        if name.has("wait_group") {
            let [Operand::Integer(groups)] = o else { return Err(OPERANDS) };
            self.emit(Op::CpWait { groups: Some(*groups as u32) });
            return Ok(());
        }
        let (to, from, bytes, read) = match o {
            [to, from, Operand::Integer(bytes)] => (to, from, *bytes as u32, None),
            [to, from, Operand::Integer(bytes), read] => (to, from, *bytes as u32, Some(self.w(read)?)),
            _ => return Err(OPERANDS),
        };
        if !matches!(bytes, 4 | 8 | 16) {
            return Err(OPERANDS);
        }
        let (to, to_offset) = self.address(Space::Shared, to)?;
        let (from, from_offset) = self.address(Space::Global, from)?;
        self.emit(Op::CpAsync(Box::new(CpAsync { to, to_offset, from, from_offset, bytes, read })));
        Ok(())
    }
}

/// What an atomic operation makes of the old value and its operands.
fn update_by(operation: &str, ty: Type) -> Option<fn(u64, u64, u64) -> u64> {
    fn single(a: u64) -> f32 {
        f32::from_bits(a as u32)
    }
    fn signed(a: u64) -> i32 {
        (a as u32).cast_signed()
    }
    Some(match (operation, ty) {
        ("exch", _) => |_, a, _| a,
        ("cas", _) => |old, a, b| if old == a { b } else { old },
        ("add", Type::F32) => |old, a, _| u64::from((single(old) + single(a)).to_bits()),
        ("add", Type::F64) => |old, a, _| (f64::from_bits(old) + f64::from_bits(a)).to_bits(),
        ("add", Type::F16) => |old, a, _| u64::from(fma_f16(old as u16, 0x3c00, a as u16)),
        ("add", Type::Bf16) => |old, a, _| u64::from(fma_bf16(old as u16, 0x3f80, a as u16)),
        ("add", Type::F16x2) => {
            |old, a, _| u64::from(halves(old as u32, a as u32, |old, a| fma_f16(old, 0x3c00, a)))
        }
        ("add", Type::Bf16x2) => {
            |old, a, _| u64::from(halves(old as u32, a as u32, |old, a| fma_bf16(old, 0x3f80, a)))
        }
        ("min", Type::F32) => |old, a, _| u64::from(min_f32(single(old), single(a)).to_bits()),
        ("max", Type::F32) => |old, a, _| u64::from(max_f32(single(old), single(a)).to_bits()),
        ("add", Type::U32 | Type::S32) => |old, a, _| u64::from((old as u32).wrapping_add(a as u32)),
        ("add", Type::U64 | Type::S64) => |old, a, _| old.wrapping_add(a),
        ("min", Type::U32 | Type::U64) => |old, a, _| old.min(a),
        ("max", Type::U32 | Type::U64) => |old, a, _| old.max(a),
        ("min", Type::S32) => |old, a, _| u64::from(signed(old).min(signed(a)).cast_unsigned()),
        ("max", Type::S32) => |old, a, _| u64::from(signed(old).max(signed(a)).cast_unsigned()),
        ("min", Type::S64) => |old, a, _| old.cast_signed().min(a.cast_signed()).cast_unsigned(),
        ("max", Type::S64) => |old, a, _| old.cast_signed().max(a.cast_signed()).cast_unsigned(),
        ("and", Type::B32 | Type::B64) => |old, a, _| old & a,
        ("or", Type::B32 | Type::B64) => |old, a, _| old | a,
        ("xor", Type::B32 | Type::B64) => |old, a, _| old ^ a,
        ("inc", Type::U32) => |old, a, _| if old >= a { 0 } else { old + 1 },
        ("dec", Type::U32) => |old, a, _| if old == 0 || old > a { a } else { old - 1 },
        _ => return None,
    })
}
