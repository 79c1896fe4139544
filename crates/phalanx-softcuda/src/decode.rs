//! Turns the statements of an entry into instructions that are executed.
//!
//! Registers are numbered anew by their width, and constants and what the machine says get registers of their own, so that an
//! operand is always a register. A statement may become several instructions.

mod bits;
mod compare;
mod control;
mod convert;
mod float;
mod half;
mod integer;
mod matrix;
mod memory;

use crate::exec::{D, Doubles, Guard, Instr, Kernel, Op, P, Special, W, Words, window};
use crate::ptx::{Entry, Module, Operand, Space, Statement, Type};
use std::collections::BTreeMap;

/// Why a kernel cannot be executed.
#[derive(Debug, thiserror::Error)]
#[error("kernel {kernel}, line {line} of the PTX: {reason}: {instruction}")]
pub(crate) struct DecodeError {
    kernel: String,
    line: u32,
    reason: &'static str,
    instruction: String,
}

/// The reason, until the place is known.
type Done = Result<(), &'static str>;

/// An instruction that this crate does not execute.
const UNKNOWN: &str = "this instruction is not known";
/// Operands that do not fit.
const OPERANDS: &str = "these operands do not fit the instruction";

/// A register of the machine for one of the PTX.
#[derive(Clone, Copy, Debug)]
enum Slot {
    Word(W),
    Double(D),
    Predicate(P),
}

/// An instruction's name, cut at its points.
struct Name<'a> {
    head: &'a str,
    modifiers: Vec<&'a str>,
}

impl<'a> Name<'a> {
    fn new(opcode: &'a str) -> Self {
        let mut parts = opcode.split('.');
        Self { head: parts.next().unwrap_or_default(), modifiers: parts.collect() }
    }

    fn has(&self, modifier: &str) -> bool {
        self.modifiers.contains(&modifier)
    }

    /// The last type.
    fn ty(&self) -> Result<Type, &'static str> {
        self.modifiers.iter().rev().find_map(|name| Type::parse(name)).ok_or(UNKNOWN)
    }

    /// The first of these that it has.
    fn one_of(&self, names: &[&'static str]) -> Option<&'static str> {
        names.iter().copied().find(|name| self.has(name))
    }

    fn space(&self) -> Space {
        self.modifiers.iter().find_map(|name| Space::parse(name)).unwrap_or(Space::Generic)
    }
}

/// A kernel that is being decoded.
struct Decoder<'a> {
    entry: &'a Entry,
    slots: Vec<Slot>,
    counts: [u32; 3],
    word_constants: BTreeMap<u32, W>,
    double_constants: BTreeMap<u64, D>,
    specials: Vec<(W, Special)>,
    /// Where variables lie, in their spaces.
    symbols: BTreeMap<String, (Space, u64)>,
    carry: Option<P>,
    code: Vec<Instr>,
    guard: Guard,
    source: (u32, u32),
    /// Branches whose targets are not known yet: the instruction, and the labels in the order of its targets.
    branches: Vec<(usize, Vec<String>)>,
    has_atomics: bool,
}

/// Decodes a kernel. `addresses` has the variables of global and constant memory.
///
/// # Errors
/// [`DecodeError`] names the first instruction that is not known.
pub(crate) fn kernel(
    module: &Module,
    entry: &Entry,
    addresses: &BTreeMap<String, u64>,
) -> Result<Kernel, DecodeError> {
    let mut decoder = Decoder {
        entry,
        slots: Vec::new(),
        counts: [0; 3],
        word_constants: BTreeMap::new(),
        double_constants: BTreeMap::new(),
        specials: Vec::new(),
        symbols: BTreeMap::new(),
        carry: None,
        code: Vec::new(),
        guard: Guard::Always,
        source: (0, 0),
        branches: Vec::new(),
        has_atomics: false,
    };
    let (shared_bytes, local_bytes) = decoder.place(module, addresses);
    decoder.number();
    let mut starts = Vec::with_capacity(entry.body.len() + 1);
    for statement in &entry.body {
        starts.push(decoder.code.len());
        decoder.source = statement.source.unwrap_or((0, statement.line));
        decoder.statement(statement).map_err(|reason| DecodeError {
            kernel: entry.name.clone(),
            line: statement.line,
            reason,
            instruction: statement.opcode.clone(),
        })?;
    }
    starts.push(decoder.code.len());
    decoder.guard = Guard::Always;
    decoder.emit(Op::Exit);
    let no_label = |label: &str| DecodeError {
        kernel: entry.name.clone(),
        line: 0,
        reason: "there is no such label",
        instruction: label.to_owned(),
    };
    for (index, labels) in std::mem::take(&mut decoder.branches) {
        let find = |label: &String| {
            entry.labels.get(label).map(|&statement| starts[statement] as u32).ok_or_else(|| no_label(label))
        };
        let targets = labels.iter().map(find).collect::<Result<Vec<u32>, _>>()?;
        match &mut decoder.code[index].op {
            Op::Branch { to } => *to = targets[0],
            Op::BranchTable { to, .. } => *to = targets.into(),
            _ => {}
        }
    }
    let last = entry.params.last();
    Ok(Kernel {
        name: entry.name.clone(),
        words: decoder.counts[0] as usize,
        doubles: decoder.counts[1] as usize,
        predicates: decoder.counts[2] as usize,
        word_constants: decoder.word_constants.into_iter().map(|(value, w)| (w, value)).collect(),
        double_constants: decoder.double_constants.into_iter().map(|(value, d)| (d, value)).collect(),
        specials: decoder.specials,
        code: decoder.code,
        params: entry.params.clone(),
        param_bytes: last.map_or(0, |param| (param.offset + param.bytes) as usize),
        shared_bytes,
        local_bytes,
        most_threads: entry.most_threads,
        exact_threads: entry.exact_threads,
        has_atomics: decoder.has_atomics,
        files: module.files.clone(),
    })
}

impl Decoder<'_> {
    /// Gives variables and parameters their places, and returns the bytes of shared and local ones.
    fn place(&mut self, module: &Module, addresses: &BTreeMap<String, u64>) -> (u32, u32) {
        let (mut shared, mut local) = (0_u32, 0_u32);
        let variables = || module.variables.iter().chain(&self.entry.variables);
        for variable in variables() {
            let end = match variable.space {
                Space::Shared if variable.bytes > 0 => &mut shared,
                Space::Local => &mut local,
                _ => continue,
            };
            let start = end.next_multiple_of(variable.align);
            *end = start + variable.bytes;
            self.symbols.insert(variable.name.clone(), (variable.space, u64::from(start)));
        }
        let dynamic = shared.next_multiple_of(16);
        for variable in variables().filter(|variable| variable.space == Space::Shared && variable.bytes == 0)
        {
            self.symbols.insert(variable.name.clone(), (Space::Shared, u64::from(dynamic)));
        }
        for (name, &address) in addresses {
            self.symbols.insert(name.clone(), (Space::Global, address));
        }
        for param in &self.entry.params {
            self.symbols.insert(param.name.clone(), (Space::Param, u64::from(param.offset)));
        }
        let has_dynamic = variables().any(|variable| variable.space == Space::Shared && variable.bytes == 0);
        (if has_dynamic { dynamic } else { shared }, local.next_multiple_of(16))
    }

    /// Gives registers their numbers.
    fn number(&mut self) {
        let entry = self.entry;
        for ty in &entry.registers {
            let slot = match ty {
                Type::Pred => Slot::Predicate(self.predicate()),
                ty if ty.bytes() == 8 => Slot::Double(self.double()),
                _ => Slot::Word(self.word()),
            };
            self.slots.push(slot);
        }
    }

    fn word(&mut self) -> W {
        self.counts[0] += 1;
        W(self.counts[0] - 1)
    }

    fn double(&mut self) -> D {
        self.counts[1] += 1;
        D(self.counts[1] - 1)
    }

    fn predicate(&mut self) -> P {
        self.counts[2] += 1;
        P(self.counts[2] - 1)
    }

    fn emit(&mut self, op: Op) {
        self.code.push(Instr { op, guard: self.guard, source: self.source });
    }

    fn statement(&mut self, statement: &Statement) -> Done {
        self.guard = match statement.guard {
            None => Guard::Always,
            Some((register, negated)) => match self.slots[register] {
                Slot::Predicate(p) if negated => Guard::Unless(p),
                Slot::Predicate(p) => Guard::If(p),
                _ => return Err(OPERANDS),
            },
        };
        let name = Name::new(&statement.opcode);
        let operands = &*statement.operands;
        match name.head {
            "add" | "sub" | "mul" | "mad" | "fma" | "div" | "rem" | "abs" | "neg" | "min" | "max" | "rcp"
            | "sqrt" | "rsqrt" | "ex2" | "lg2" | "sin" | "cos" | "tanh" | "copysign" | "testp" | "addc"
            | "subc" | "madc" | "sad" | "dp4a" => self.arithmetic(&name, operands),
            "and" | "or" | "xor" | "not" | "cnot" | "shl" | "shr" | "shf" | "lop3" | "prmt" | "bfe"
            | "bfi" | "bfind" | "popc" | "clz" | "brev" | "mov" => self.bits(&name, operands),
            "setp" | "set" | "selp" | "slct" => self.comparison(&name, operands),
            "cvt" => self.conversion(&name, operands),
            "ld" | "ldu" | "st" | "atom" | "red" | "cvta" | "isspacep" | "prefetch" | "prefetchu" | "cp" => {
                self.memory(&name, operands)
            }
            "ldmatrix" | "mma" => self.matrix(&name, operands),
            _ => self.control(&name, operands),
        }
    }

    /// Arithmetic by the kind of its type.
    fn arithmetic(&mut self, name: &Name<'_>, operands: &[Operand]) -> Done {
        match name.ty()? {
            Type::F32 => self.single(name, operands),
            Type::F64 => self.double_precision(name, operands),
            Type::F16 | Type::F16x2 | Type::Bf16 | Type::Bf16x2 => self.half(name, operands),
            _ => self.integer(name, operands),
        }
    }

    /// A register of up to 32 bits that holds an operand.
    fn w(&mut self, operand: &Operand) -> Result<W, &'static str> {
        match operand {
            Operand::Register(register) => match self.slots[*register] {
                Slot::Word(w) => Ok(w),
                _ => Err(OPERANDS),
            },
            Operand::Integer(value) => Ok(self.word_constant(*value as u32)),
            Operand::Single(bits) => Ok(self.word_constant(*bits)),
            Operand::Special(name) => self.special(name),
            Operand::Symbol(..) => {
                let value = self.symbol(operand)?;
                Ok(self.word_constant(value as u32))
            }
            Operand::Nothing => Ok(self.word()),
            _ => Err(OPERANDS),
        }
    }

    /// A register of 64 bits that holds an operand.
    fn d(&mut self, operand: &Operand) -> Result<D, &'static str> {
        match operand {
            Operand::Register(register) => match self.slots[*register] {
                Slot::Double(d) => Ok(d),
                _ => Err(OPERANDS),
            },
            Operand::Integer(value) | Operand::Double(value) => Ok(self.double_constant(*value)),
            Operand::Symbol(..) => {
                let value = self.symbol(operand)?;
                Ok(self.double_constant(value))
            }
            Operand::Special(name) if matches!(&**name, "%clock64" | "%globaltimer") => {
                let d = self.double();
                self.emit(Op::Clock { d });
                Ok(d)
            }
            Operand::Nothing => Ok(self.double()),
            _ => Err(OPERANDS),
        }
    }

    /// A predicate that holds an operand.
    fn p(&mut self, operand: &Operand) -> Result<P, &'static str> {
        match operand {
            Operand::Register(register) => match self.slots[*register] {
                Slot::Predicate(p) => Ok(p),
                _ => Err(OPERANDS),
            },
            Operand::Not(register) => match self.slots[*register] {
                Slot::Predicate(a) => {
                    let d = self.predicate();
                    self.emit(Op::Ppp { f: |a, _| !a, d, a, b: a });
                    Ok(d)
                }
                _ => Err(OPERANDS),
            },
            Operand::Integer(value) => {
                let (d, all) = (self.predicate(), *value != 0);
                let f: fn(u32, u32) -> u32 = if all { |_, _| u32::MAX } else { |_, _| 0 };
                self.emit(Op::Ppp { f, d, a: d, b: d });
                Ok(d)
            }
            Operand::Nothing => Ok(self.predicate()),
            _ => Err(OPERANDS),
        }
    }

    fn word_constant(&mut self, value: u32) -> W {
        if let Some(&w) = self.word_constants.get(&value) {
            return w;
        }
        let w = self.word();
        self.word_constants.insert(value, w);
        w
    }

    fn double_constant(&mut self, value: u64) -> D {
        if let Some(&d) = self.double_constants.get(&value) {
            return d;
        }
        let d = self.double();
        self.double_constants.insert(value, d);
        d
    }

    /// The address of a variable, in its own space.
    fn symbol(&self, operand: &Operand) -> Result<u64, &'static str> {
        let Operand::Symbol(name, offset) = operand else { return Err(OPERANDS) };
        let (_, address) = self.symbols.get(name).ok_or("there is no such variable")?;
        Ok(address.wrapping_add_signed(*offset))
    }

    fn special(&mut self, name: &str) -> Result<W, &'static str> {
        let axis = |axis: &str| match axis {
            "x" => Ok(0),
            "y" => Ok(1),
            "z" => Ok(2),
            _ => Err("there is no such register"),
        };
        let special = match name.split_once('.') {
            Some(("%tid", rest)) => Special::Thread(axis(rest)?),
            Some(("%ntid", rest)) => Special::Threads(axis(rest)?),
            Some(("%ctaid", rest)) => Special::Block(axis(rest)?),
            Some(("%nctaid", rest)) => Special::Blocks(axis(rest)?),
            Some(_) => return Err("there is no such register"),
            None => match name {
                "%laneid" => Special::Lane,
                "%warpid" => Special::Warp,
                "%nwarpid" => Special::Warps,
                "%lanemask_eq" => Special::MaskEq,
                "%lanemask_lt" => Special::MaskLt,
                "%lanemask_le" => Special::MaskLe,
                "%lanemask_gt" => Special::MaskGt,
                "%lanemask_ge" => Special::MaskGe,
                "%dynamic_smem_size" => Special::DynamicShared,
                "%total_smem_size" => Special::TotalShared,
                "%smid" => return Ok(self.word_constant(0)),
                "%nsmid" => return Ok(self.word_constant(1)),
                "WARP_SZ" => return Ok(self.word_constant(32)),
                "%clock" | "%clock_hi" | "%globaltimer_lo" => {
                    let (d, a) = (self.word(), self.double());
                    self.emit(Op::Clock { d: a });
                    self.emit(Op::Dw { f: crate::exec::lanes!(|a: u64| -> u32 { a as u32 }), d, a });
                    return Ok(d);
                }
                _ => return Err("there is no such register"),
            },
        };
        if let Some((w, _)) = self.specials.iter().find(|(_, known)| *known == special) {
            return Ok(*w);
        }
        let w = self.word();
        self.specials.push((w, special));
        Ok(w)
    }

    fn ww(&mut self, f: fn(&mut Words, &Words), o: &[Operand]) -> Done {
        let [d, a] = o else { return Err(OPERANDS) };
        let (d, a) = (self.w(d)?, self.w(a)?);
        self.emit(Op::Ww { f, d, a });
        Ok(())
    }

    fn www(&mut self, f: fn(&mut Words, &Words, &Words), o: &[Operand]) -> Done {
        let [d, a, b] = o else { return Err(OPERANDS) };
        let (d, a, b) = (self.w(d)?, self.w(a)?, self.w(b)?);
        self.emit(Op::Www { f, d, a, b });
        Ok(())
    }

    fn wwww(&mut self, f: fn(&mut Words, &Words, &Words, &Words), o: &[Operand]) -> Done {
        let [d, a, b, c] = o else { return Err(OPERANDS) };
        let (d, a, b, c) = (self.w(d)?, self.w(a)?, self.w(b)?, self.w(c)?);
        self.emit(Op::Wwww { f, d, a, b, c });
        Ok(())
    }

    fn dd(&mut self, f: fn(&mut Doubles, &Doubles), o: &[Operand]) -> Done {
        let [d, a] = o else { return Err(OPERANDS) };
        let (d, a) = (self.d(d)?, self.d(a)?);
        self.emit(Op::Dd { f, d, a });
        Ok(())
    }

    fn ddd(&mut self, f: fn(&mut Doubles, &Doubles, &Doubles), o: &[Operand]) -> Done {
        let [d, a, b] = o else { return Err(OPERANDS) };
        let (d, a, b) = (self.d(d)?, self.d(a)?, self.d(b)?);
        self.emit(Op::Ddd { f, d, a, b });
        Ok(())
    }

    fn dddd(&mut self, f: fn(&mut Doubles, &Doubles, &Doubles, &Doubles), o: &[Operand]) -> Done {
        let [d, a, b, c] = o else { return Err(OPERANDS) };
        let (d, a, b, c) = (self.d(d)?, self.d(a)?, self.d(b)?, self.d(c)?);
        self.emit(Op::Dddd { f, d, a, b, c });
        Ok(())
    }

    /// A function of a register of 64 bits and one of 32.
    fn dwd(&mut self, f: fn(&mut Doubles, &Doubles, &Words), o: &[Operand]) -> Done {
        let [d, a, b] = o else { return Err(OPERANDS) };
        let (d, a, b) = (self.d(d)?, self.d(a)?, self.w(b)?);
        self.emit(Op::Dwd { f, d, a, b });
        Ok(())
    }

    /// A register of 32 bits from one of 64.
    fn dw(&mut self, f: fn(&mut Words, &Doubles), o: &[Operand]) -> Done {
        let [d, a] = o else { return Err(OPERANDS) };
        let (d, a) = (self.w(d)?, self.d(a)?);
        self.emit(Op::Dw { f, d, a });
        Ok(())
    }
}

/// The first generic address of a space.
fn window_of(space: Space) -> u64 {
    match space {
        Space::Shared => window::SHARED,
        Space::Local => window::LOCAL,
        Space::Param => window::PARAM,
        _ => 0,
    }
}
