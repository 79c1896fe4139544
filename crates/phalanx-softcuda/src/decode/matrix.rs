//! `ldmatrix` and `mma.sync`.

use super::{Decoder, Done, Name, OPERANDS, UNKNOWN};
use crate::exec::{Ldmatrix, Mma, Op, Shape, W};
use crate::ptx::{Operand, Type};

impl Decoder<'_> {
    pub(super) fn matrix(&mut self, name: &Name<'_>, o: &[Operand]) -> Done {
        if name.head == "ldmatrix" {
            let [d, address] = o else { return Err(OPERANDS) };
            if !name.has("m8n8") || !name.has("b16") {
                return Err(UNKNOWN);
            }
            let (base, offset) = self.address(name.space(), address)?;
            let d = self.fragment(d)?;
            let load = Ldmatrix { d, base, offset, space: name.space(), transposed: name.has("trans") };
            self.emit(Op::Ldmatrix(Box::new(load)));
            return Ok(());
        }
        let [d, a, b, c] = o else { return Err(OPERANDS) };
        let types: Vec<Type> = name.modifiers.iter().filter_map(|name| Type::parse(name)).collect();
        let [out, left, right, sum] = types[..] else { return Err(UNKNOWN) };
        let k = match name.one_of(&["m16n8k16", "m16n8k8", "m16n8k4"]).ok_or(UNKNOWN)? {
            "m16n8k16" => 16,
            "m16n8k8" => 8,
            _ => 4,
        };
        let shape = match left {
            Type::F16 if k >= 8 => Shape::F16 { k },
            Type::Bf16 if k >= 8 => Shape::Bf16 { k },
            Type::Tf32 if k <= 8 => Shape::Tf32 { k },
            _ => return Err(UNKNOWN),
        };
        let half = match (out, sum) {
            (Type::F32, Type::F32) => false,
            (Type::F16, Type::F16) if left == Type::F16 => true,
            _ => return Err(UNKNOWN),
        };
        if left != right || !name.has("row") || !name.has("col") {
            return Err(UNKNOWN);
        }
        let mma = Mma {
            shape,
            half,
            d: self.fragment(d)?,
            a: self.fragment(a)?,
            b: self.fragment(b)?,
            c: self.fragment(c)?,
        };
        let per_word = if left == Type::Tf32 { 1 } else { 2 };
        let sums = if half { 2 } else { 4 };
        let lengths = [mma.a.len(), mma.b.len(), mma.c.len(), mma.d.len()];
        if lengths != [k / per_word / 2, k / per_word / 4, sums, sums].map(|n| n.max(1)) {
            return Err(OPERANDS);
        }
        self.emit(Op::Mma(Box::new(mma)));
        Ok(())
    }

    /// The registers of a fragment.
    fn fragment(&mut self, operand: &Operand) -> Result<Vec<W>, &'static str> {
        match operand {
            Operand::Vector(parts) => parts.iter().map(|part| self.w(part)).collect(),
            one => Ok(vec![self.w(one)?]),
        }
    }
}
