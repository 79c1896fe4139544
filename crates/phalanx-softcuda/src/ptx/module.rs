//! What a module of PTX says.

use super::Type;
use std::collections::BTreeMap;

/// A module as read.
#[derive(Debug, Default)]
pub(crate) struct Module {
    /// `.version`.
    pub(crate) version: (u32, u32),
    /// The number of `.target sm_NN`.
    pub(crate) target: u32,
    /// Source files by the number that `.loc` gives them.
    pub(crate) files: BTreeMap<u32, String>,
    /// Variables outside functions.
    pub(crate) variables: Vec<Variable>,
    /// Kernels.
    pub(crate) entries: Vec<Entry>,
}

/// A state space in which variables are declared and accessed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Space {
    Generic,
    Global,
    Const,
    Shared,
    Local,
    Param,
}

impl Space {
    /// The space of a name without its point.
    pub(crate) fn parse(name: &str) -> Option<Self> {
        Some(match name {
            "global" => Space::Global,
            "const" => Space::Const,
            "shared" | "shared::cta" => Space::Shared,
            "local" => Space::Local,
            "param" | "param::entry" => Space::Param,
            _ => return None,
        })
    }
}

/// A declared variable.
#[derive(Debug)]
pub(crate) struct Variable {
    pub(crate) name: String,
    pub(crate) space: Space,
    pub(crate) align: u32,
    /// Bytes; 0 of an array whose size the launch decides.
    pub(crate) bytes: u32,
    /// The first bytes; the rest is zero in global and constant memory.
    pub(crate) init: Vec<u8>,
}

/// A parameter of a kernel.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Param {
    pub(crate) name: String,
    pub(crate) offset: u32,
    pub(crate) bytes: u32,
}

/// A kernel.
#[derive(Debug, Default)]
pub(crate) struct Entry {
    pub(crate) name: String,
    pub(crate) params: Vec<Param>,
    /// `.maxntid`: the most threads along each axis.
    pub(crate) most_threads: Option<[u32; 3]>,
    /// `.reqntid`: the only threads along each axis.
    pub(crate) exact_threads: Option<[u32; 3]>,
    /// Types of registers, which operands name by their index.
    pub(crate) registers: Vec<Type>,
    /// Shared and local variables of the body.
    pub(crate) variables: Vec<Variable>,
    pub(crate) body: Vec<Statement>,
    /// Labels, as the index of the statement that they stand before.
    pub(crate) labels: BTreeMap<String, usize>,
    /// `.branchtargets`: labels by number.
    pub(crate) tables: BTreeMap<String, Vec<String>>,
}

/// An instruction.
#[derive(Debug)]
pub(crate) struct Statement {
    /// The predicate's register, and whether it is negated.
    pub(crate) guard: Option<(usize, bool)>,
    /// With all its modifiers, as written.
    pub(crate) opcode: String,
    pub(crate) operands: Vec<Operand>,
    /// The line of the PTX.
    pub(crate) line: u32,
    /// File and line of the source, by `.loc`.
    pub(crate) source: Option<(u32, u32)>,
}

/// An operand.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Operand {
    Register(usize),
    /// `!p`
    Not(usize),
    /// `d|p`
    Pair(Box<Operand>, Box<Operand>),
    /// `{a, b}`
    Vector(Vec<Operand>),
    /// An integer, sign extended to 64 bits.
    Integer(u64),
    /// `0f...`
    Single(u32),
    /// `0d...`
    Double(u64),
    /// A register of the machine, such as `%tid.x`.
    Special(String),
    /// A variable or a label, and what is added to it.
    Symbol(String, i64),
    /// `[base + offset]`
    Address(Box<Operand>, i64),
    /// `_`
    Nothing,
}
