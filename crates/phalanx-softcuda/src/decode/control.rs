//! Branches, barriers, and what lanes do together.

use super::{Decoder, Done, Name, OPERANDS, UNKNOWN};
use crate::driver::Code;
use crate::exec::{BarrierVote, Op, Shuffle, Vote, W};
use crate::ptx::{Operand, Type};

impl Decoder<'_> {
    pub(super) fn control(&mut self, name: &Name<'_>, o: &[Operand]) -> Done {
        match name.head {
            "bra" => {
                let [Operand::Symbol(label, _)] = o else { return Err(OPERANDS) };
                self.branches.push((self.code.len(), vec![label.clone()]));
                self.emit(Op::Branch { to: 0 });
            }
            "brx" => {
                let [index, Operand::Symbol(table, _)] = o else { return Err(OPERANDS) };
                let targets = self.entry.tables.get(table).ok_or("there is no such list of targets")?;
                let index = self.w(index)?;
                self.branches.push((self.code.len(), targets.clone()));
                self.emit(Op::BranchTable { index, to: Box::default() });
            }
            "ret" | "exit" => self.emit(Op::Exit),
            "trap" => {
                self.emit(Op::Trap { code: Code::LAUNCH_FAILED, text: "the kernel has trapped".into() })
            }
            "call" if o.iter().any(|o| matches!(o, Operand::Symbol(name, _) if name == "__assertfail")) => {
                self.emit(Op::Trap {
                    code: Code::ASSERT,
                    text: "an assertion of the kernel does not hold".into(),
                });
            }
            "call" => return Err("calls of functions are not executed"),
            "membar" | "fence" | "nanosleep" | "griddepcontrol" | "setmaxnreg" | "pmevent" | "brkpt" => {
                self.emit(Op::Nothing);
            }
            "bar" | "barrier" => return self.barrier(name, o),
            "activemask" => {
                let [d] = o else { return Err(OPERANDS) };
                let d = self.w(d)?;
                self.emit(Op::ActiveMask { d });
            }
            "shfl" => return self.shuffle(name, o),
            "vote" => return self.vote(name, o),
            "match" => return self.matching(name, o),
            "redux" => return self.redux(name, o),
            "elect" => {
                let [Operand::Pair(d, p), members] = o else { return Err(OPERANDS) };
                let d = if **d == Operand::Nothing { None } else { Some(self.w(d)?) };
                let (p, members) = (self.p(p)?, self.w(members)?);
                self.emit(Op::Elect { d, p, members });
            }
            _ => return Err(UNKNOWN),
        }
        Ok(())
    }

    /// Barriers are told apart by where they are, so that their numbers are not looked at.
    fn barrier(&mut self, name: &Name<'_>, o: &[Operand]) -> Done {
        if name.has("warp") {
            let [members] = o else { return Err(OPERANDS) };
            let members = self.w(members)?;
            self.emit(Op::WarpBarrier { members });
            return Ok(());
        }
        if name.has("red") {
            let (d, threads, p) = match o {
                [d, _, p] => (d, None, p),
                [d, _, threads, p] => (d, Some(threads), p),
                _ => return Err(OPERANDS),
            };
            let a = self.p(p)?;
            let vote = match name.one_of(&["popc", "and", "or"]) {
                Some("popc") => BarrierVote::Count { d: self.w(d)?, a },
                Some("and") => BarrierVote::All { d: self.p(d)?, a },
                Some(_) => BarrierVote::Any { d: self.p(d)?, a },
                None => return Err(UNKNOWN),
            };
            let threads = threads.map(|threads| self.w(threads)).transpose()?;
            self.emit(Op::Barrier { threads, vote: Some(vote) });
            return Ok(());
        }
        if !name.has("sync") {
            return Err(UNKNOWN);
        }
        let threads = match o {
            [_] => None,
            [_, threads] => Some(self.w(threads)?),
            _ => return Err(OPERANDS),
        };
        self.emit(Op::Barrier { threads, vote: None });
        Ok(())
    }

    fn shuffle(&mut self, name: &Name<'_>, o: &[Operand]) -> Done {
        let [out, a, b, c, members] = o else { return Err(OPERANDS) };
        let kind = match name.one_of(&["up", "down", "bfly", "idx"]).ok_or(UNKNOWN)? {
            "up" => Shuffle::Up,
            "down" => Shuffle::Down,
            "bfly" => Shuffle::Butterfly,
            _ => Shuffle::Index,
        };
        let (d, in_range) = match out {
            Operand::Pair(d, p) => (self.w(d)?, Some(self.p(p)?)),
            d => (self.w(d)?, None),
        };
        let (a, b, c, members) = (self.w(a)?, self.w(b)?, self.w(c)?, self.w(members)?);
        self.emit(Op::Shuffle { kind, d, in_range, a, b, c, members });
        Ok(())
    }

    fn vote(&mut self, name: &Name<'_>, o: &[Operand]) -> Done {
        let [d, a, members] = o else { return Err(OPERANDS) };
        let (a, members) = (self.p(a)?, self.w(members)?);
        let kind = match name.one_of(&["ballot", "all", "any", "uni"]).ok_or(UNKNOWN)? {
            "ballot" => {
                let d = self.w(d)?;
                self.emit(Op::Ballot { d, a, members });
                return Ok(());
            }
            "all" => Vote::All,
            "any" => Vote::Any,
            _ => Vote::Uniform,
        };
        let d = self.p(d)?;
        self.emit(Op::Vote { kind, d, a, members });
        Ok(())
    }

    fn matching(&mut self, name: &Name<'_>, o: &[Operand]) -> Done {
        let [out, a, members] = o else { return Err(OPERANDS) };
        let (d, all) = match out {
            Operand::Pair(d, p) => (self.w(d)?, Some(self.p(p)?)),
            d => (self.w(d)?, None),
        };
        let members = self.w(members)?;
        let op = match (name.has("any"), name.ty()?.bytes()) {
            (true, 4) => Op::MatchAny { d, a: self.w(a)?, members },
            (true, 8) => Op::MatchAnyD { d, a: self.d(a)?, members },
            (false, 4) => Op::MatchAll { d, all, a: self.w(a)?, members },
            (false, 8) => Op::MatchAllD { d, all, a: self.d(a)?, members },
            _ => return Err(UNKNOWN),
        };
        self.emit(op);
        Ok(())
    }

    fn redux(&mut self, name: &Name<'_>, o: &[Operand]) -> Done {
        let [d, a, members] = o else { return Err(OPERANDS) };
        let operation = name.one_of(&["add", "min", "max", "and", "or", "xor"]).ok_or(UNKNOWN)?;
        let f: fn(u32, u32) -> u32 = match (operation, name.ty()?) {
            ("add", Type::U32 | Type::S32) => u32::wrapping_add,
            ("min", Type::U32) => Ord::min,
            ("max", Type::U32) => Ord::max,
            ("min", Type::S32) => |a, b| a.cast_signed().min(b.cast_signed()).cast_unsigned(),
            ("max", Type::S32) => |a, b| a.cast_signed().max(b.cast_signed()).cast_unsigned(),
            ("and", Type::B32) => |a, b| a & b,
            ("or", Type::B32) => |a, b| a | b,
            ("xor", Type::B32) => |a, b| a ^ b,
            _ => return Err(UNKNOWN),
        };
        let (d, a, members): (W, W, W) = (self.w(d)?, self.w(a)?, self.w(members)?);
        self.emit(Op::Redux { f, d, a, members });
        Ok(())
    }
}
