//! A kernel in the form in which it is executed.

use super::{Access, Atomic, CpAsync, D, Doubles, Ldmatrix, Mma, P, W, Words};
use crate::ptx::Param;
use std::collections::BTreeMap;

/// A kernel.
#[derive(Debug)]
pub(crate) struct Kernel {
    pub(crate) name: String,
    pub(crate) code: Vec<Instr>,
    /// Numbers of registers.
    pub(crate) words: usize,
    pub(crate) doubles: usize,
    pub(crate) predicates: usize,
    /// Registers that hold a constant.
    pub(crate) word_constants: Vec<(W, u32)>,
    pub(crate) double_constants: Vec<(D, u64)>,
    /// Registers that hold what the machine says.
    pub(crate) specials: Vec<(W, Special)>,
    pub(crate) params: Vec<Param>,
    pub(crate) param_bytes: usize,
    /// Bytes of shared variables; what a launch adds begins at the next multiple of 16.
    pub(crate) shared_bytes: u32,
    pub(crate) local_bytes: u32,
    pub(crate) most_threads: Option<[u32; 3]>,
    pub(crate) exact_threads: Option<[u32; 3]>,
    /// Whether it updates global memory atomically, so that the order of blocks can be seen.
    pub(crate) has_atomics: bool,
    pub(crate) files: BTreeMap<u32, String>,
}

/// An instruction and where it comes from.
#[derive(Debug)]
pub(crate) struct Instr {
    pub(crate) op: Op,
    pub(crate) guard: Guard,
    /// File and line, or 0 and the line of the PTX.
    pub(crate) source: (u32, u32),
}

/// Which lanes execute an instruction.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Guard {
    Always,
    If(P),
    Unless(P),
}

/// What a thread can ask the machine.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Special {
    Thread(usize),
    Threads(usize),
    Block(usize),
    Blocks(usize),
    Lane,
    Warp,
    Warps,
    /// Lanes equal to, below, up to, above and from this one.
    MaskEq,
    MaskLt,
    MaskLe,
    MaskGt,
    MaskGe,
    DynamicShared,
    TotalShared,
}

/// What lanes tell each other in a vote.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Vote {
    All,
    Any,
    Uniform,
}

/// Whom a lane of a shuffle reads.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Shuffle {
    Up,
    Down,
    Butterfly,
    Index,
}

/// What an instruction does.
///
/// Arithmetic is a function of whole registers: the letters say what goes in and, last, what comes out.
#[derive(Debug)]
pub(crate) enum Op {
    Ww {
        f: fn(&mut Words, &Words),
        d: W,
        a: W,
    },
    Www {
        f: fn(&mut Words, &Words, &Words),
        d: W,
        a: W,
        b: W,
    },
    Wwww {
        f: fn(&mut Words, &Words, &Words, &Words),
        d: W,
        a: W,
        b: W,
        c: W,
    },
    Dd {
        f: fn(&mut Doubles, &Doubles),
        d: D,
        a: D,
    },
    Ddd {
        f: fn(&mut Doubles, &Doubles, &Doubles),
        d: D,
        a: D,
        b: D,
    },
    Dddd {
        f: fn(&mut Doubles, &Doubles, &Doubles, &Doubles),
        d: D,
        a: D,
        b: D,
        c: D,
    },
    Wd {
        f: fn(&mut Doubles, &Words),
        d: D,
        a: W,
    },
    Wwd {
        f: fn(&mut Doubles, &Words, &Words),
        d: D,
        a: W,
        b: W,
    },
    Wwdd {
        f: fn(&mut Doubles, &Words, &Words, &Doubles),
        d: D,
        a: W,
        b: W,
        c: D,
    },
    Dwd {
        f: fn(&mut Doubles, &Doubles, &Words),
        d: D,
        a: D,
        b: W,
    },
    Dwwd {
        f: fn(&mut Doubles, &Doubles, &Words, &Words),
        d: D,
        a: D,
        b: W,
        c: W,
    },
    Ddwd {
        f: fn(&mut Doubles, &Doubles, &Doubles, &Words),
        d: D,
        a: D,
        b: D,
        c: W,
    },
    Dw {
        f: fn(&mut Words, &Doubles),
        d: W,
        a: D,
    },
    Wwp {
        f: fn(&Words, &Words) -> u32,
        d: P,
        a: W,
        b: W,
    },
    Ddp {
        f: fn(&Doubles, &Doubles) -> u32,
        d: P,
        a: D,
        b: D,
    },
    Ppp {
        f: fn(u32, u32) -> u32,
        d: P,
        a: P,
        b: P,
    },
    /// `d = if p { a } else { b }`
    SelectW {
        d: W,
        a: W,
        b: W,
        p: P,
    },
    SelectD {
        d: D,
        a: D,
        b: D,
        p: P,
    },
    /// Adds with a carry from and to a predicate.
    Carry {
        f: fn(u32, u32, bool) -> (u32, bool),
        d: W,
        a: W,
        b: W,
        from: P,
        to: P,
    },
    /// Any function of three bits, bit by bit, by its eight values.
    Lop3 {
        table: u8,
        d: W,
        a: W,
        b: W,
        c: W,
    },
    /// The number of instructions that the warp has run.
    Clock {
        d: D,
    },

    Load(Box<Access>),
    Store(Box<Access>),
    Atomic(Box<Atomic>),
    CpAsync(Box<CpAsync>),
    /// Ends a group of asynchronous copies.
    CpCommit,
    /// Waits until only so many groups of copies are under way, or for all copies.
    CpWait {
        groups: Option<u32>,
    },
    Ldmatrix(Box<Ldmatrix>),
    Mma(Box<Mma>),

    Branch {
        to: u32,
    },
    BranchTable {
        index: W,
        to: Box<[u32]>,
    },
    Exit,
    Trap {
        code: crate::driver::Code,
        text: Box<str>,
    },
    /// A barrier among the warps of a block, and what threads vote at it.
    Barrier {
        threads: Option<W>,
        vote: Option<BarrierVote>,
    },
    WarpBarrier {
        members: W,
    },
    Shuffle {
        kind: Shuffle,
        d: W,
        in_range: Option<P>,
        a: W,
        b: W,
        c: W,
        members: W,
    },
    Vote {
        kind: Vote,
        d: P,
        a: P,
        members: W,
    },
    Ballot {
        d: W,
        a: P,
        members: W,
    },
    MatchAny {
        d: W,
        a: W,
        members: W,
    },
    MatchAnyD {
        d: W,
        a: D,
        members: W,
    },
    MatchAll {
        d: W,
        all: Option<P>,
        a: W,
        members: W,
    },
    MatchAllD {
        d: W,
        all: Option<P>,
        a: D,
        members: W,
    },
    Redux {
        f: fn(u32, u32) -> u32,
        d: W,
        a: W,
        members: W,
    },
    ActiveMask {
        d: W,
    },
    Elect {
        d: Option<W>,
        p: P,
        members: W,
    },
    Nothing,
}

/// What a barrier returns.
#[derive(Clone, Copy, Debug)]
pub(crate) enum BarrierVote {
    Count { d: W, a: P },
    All { d: P, a: P },
    Any { d: P, a: P },
}
