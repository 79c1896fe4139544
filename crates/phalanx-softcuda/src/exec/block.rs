//! Runs the warps of a block, from barrier to barrier.

use super::grid::Launch;
use super::kernel::{BarrierVote, Guard, Kernel, Op};
use super::lanes::{W, each};
use super::shared::Shared;
use super::warp::{Group, Wait, Warp};
use crate::driver::{Code, mix};
use crate::fault::{Fault, Place};

/// Instructions after which another warp has its turn, so that warps may wait for each other's writes.
const TURN: u32 = 1 << 16;

/// What instructions reach beyond their warp.
pub(super) struct Machine<'a> {
    pub(super) kernel: &'a Kernel,
    pub(super) launch: &'a Launch<'a>,
    pub(super) shared: Shared,
}

/// A fault of a lane.
pub(super) struct Stop {
    pub(super) lane: usize,
    pub(super) fault: Fault,
}

/// What an instruction came to.
pub(super) type Step = Result<(), Box<Stop>>;

/// Stops at a lane.
pub(super) fn stop<T>(lane: usize, code: Code, what: impl Into<String>) -> Result<T, Box<Stop>> {
    Err(Box::new(Stop { lane, fault: Fault::new(code, what) }))
}

/// A block that runs, of one that runs after the other.
pub(super) struct Block<'a> {
    machine: Machine<'a>,
    warps: Vec<Warp>,
    at: [u32; 3],
}

impl<'a> Block<'a> {
    pub(super) fn new(kernel: &'a Kernel, launch: &'a Launch<'a>) -> Self {
        let warps =
            (0..launch.threads().div_ceil(32)).map(|number| Warp::new(kernel, launch, number)).collect();
        Self { machine: Machine { kernel, launch, shared: Shared::default() }, warps, at: [0; 3] }
    }

    /// Runs a block to its end.
    pub(super) fn run(&mut self, at: [u32; 3]) -> Result<(), Fault> {
        self.at = at;
        let kernel = self.machine.kernel;
        self.machine.shared.reset((kernel.shared_bytes + self.machine.launch.dynamic_shared) as usize);
        for warp in &mut self.warps {
            warp.start(kernel, at);
        }
        let mut turn = 0_u64;
        loop {
            let first = self.first(turn);
            turn += 1;
            let count = self.warps.len();
            for index in (first..count).chain(0..first) {
                self.turn(index)?;
            }
            let ready = |warp: &Warp| warp.groups.iter().any(|group| group.wait == Wait::Nothing);
            if self.warps.iter().any(ready) {
                continue;
            }
            if self.warps.iter().all(|warp| warp.groups.is_empty()) {
                return Ok(());
            }
            self.meet()?;
        }
    }

    /// The warp that begins.
    fn first(&self, turn: u64) -> usize {
        let Some(seed) = self.machine.launch.seed else { return 0 };
        let [x, y, z] = self.at.map(u64::from);
        let drawn = mix(seed ^ mix(turn ^ mix(x ^ mix(y ^ mix(z)))));
        usize::try_from(drawn % self.warps.len() as u64).unwrap_or_default()
    }

    /// Lets a warp run until all of its lanes have returned or wait.
    fn turn(&mut self, index: usize) -> Result<(), Fault> {
        let warp = &mut self.warps[index];
        let mut left = TURN;
        loop {
            if warp.groups.len() > 1 {
                warp.merge();
            }
            let ready = warp.groups.iter().enumerate().filter(|(_, group)| group.wait == Wait::Nothing);
            let Some((chosen, group)) = ready.min_by_key(|(_, group)| group.pc).map(|(i, group)| (i, *group))
            else {
                return self.waits(index);
            };
            let others = warp.groups.iter().map(|other| other.pc).filter(|&pc| pc > group.pc);
            let meets = others.min().unwrap_or(u32::MAX);
            let mut pc = group.pc;
            if let Err(stop) = warp.run(&mut self.machine, chosen, &mut pc, meets, &mut left) {
                let Stop { lane, fault } = *stop;
                return Err(self.placed(fault, index, lane, pc));
            }
            if left == 0 {
                return Ok(());
            }
        }
    }

    /// Looks at a warp of which no group can go on.
    fn waits(&self, index: usize) -> Result<(), Fault> {
        let warp = &self.warps[index];
        let Some(group) = warp.groups.iter().find(|group| group.wait == Wait::Lanes).or(warp.groups.first())
        else {
            return Ok(());
        };
        if group.wait == Wait::Lanes {
            let what = format!(
                "lanes {:#010x} wait for lanes that never come; lanes {:#010x} have not returned",
                group.mask,
                warp.live()
            );
            return Err(self.at_group(Fault::new(Code::ILLEGAL_INSTRUCTION, what), index, group));
        }
        if group.mask == warp.lanes {
            return Ok(());
        }
        let what = match warp.groups.iter().find(|other| other.pc != group.pc) {
            Some(other) => {
                let place = self
                    .source(other.pc)
                    .map_or_else(String::new, |(file, line)| format!(" at {file}:{line}"));
                format!(
                    "divergent barrier: lanes {:#010x} wait here, lanes {:#010x}{place}",
                    group.mask, other.mask
                )
            }
            None => {
                let returned = warp.lanes & !group.mask;
                format!(
                    "divergent barrier: lanes {:#010x} wait here, lanes {returned:#010x} have returned",
                    group.mask
                )
            }
        };
        Err(self.at_group(Fault::new(Code::ILLEGAL_INSTRUCTION, what), index, group))
    }

    /// Lets warps pass a barrier at which all have met that it is for.
    fn meet(&mut self) -> Result<(), Fault> {
        let waiting: Vec<(usize, u32)> = (self.warps.iter().enumerate())
            .filter_map(|(index, warp)| warp.groups.first().map(|group| (index, group.pc)))
            .collect();
        let mut passed = false;
        let mut places: Vec<u32> = waiting.iter().map(|&(_, pc)| pc).collect();
        places.sort_unstable();
        places.dedup();
        for pc in places.clone() {
            let here: Vec<usize> =
                waiting.iter().filter(|&&(_, at)| at == pc).map(|&(index, _)| index).collect();
            let Op::Barrier { threads, vote } = &self.machine.kernel.code[pc as usize].op else {
                continue;
            };
            let (threads, vote) = (*threads, *vote);
            let present: u32 =
                here.iter().map(|&index| self.warps[index].lanes.count_ones().next_multiple_of(32)).sum();
            let need = match threads {
                Some(count) => self.uniform(here[0], count),
                None => self.warps.len() as u32 * 32,
            };
            if present == need {
                self.pass(&here, vote);
                passed = true;
            }
        }
        if passed {
            return Ok(());
        }
        let (index, pc) = waiting[0];
        let what = match places.iter().find(|&&place| place != pc) {
            Some(&other) => {
                let place =
                    self.source(other).map_or_else(String::new, |(file, line)| format!(" at {file}:{line}"));
                format!("divergent barrier: warp {index} waits here, others{place}")
            }
            None => "divergent barrier: some warps wait here, the others have returned".to_owned(),
        };
        Err(self.at_group(Fault::new(Code::ILLEGAL_INSTRUCTION, what), index, &self.warps[index].groups[0]))
    }

    /// The value of a register that is the same in all lanes of a warp.
    fn uniform(&self, index: usize, register: W) -> u32 {
        let warp = &self.warps[index];
        warp.w(register)[warp.lanes.trailing_zeros() as usize & 31]
    }

    fn pass(&mut self, here: &[usize], vote: Option<BarrierVote>) {
        self.machine.shared.barrier();
        let count = |block: &Self, a| -> (u32, u32) {
            here.iter().fold((0, 0), |(yes, all), &index| {
                let warp = &block.warps[index];
                (yes + (warp.p(a) & warp.lanes).count_ones(), all + warp.lanes.count_ones())
            })
        };
        match vote {
            None => {}
            Some(BarrierVote::Count { d, a }) => {
                let (yes, _) = count(self, a);
                here.iter().for_each(|&index| self.warps[index].put_w(d, &[yes; 32], u32::MAX));
            }
            Some(BarrierVote::All { d, a }) => {
                let (yes, all) = count(self, a);
                let mask = if yes == all { u32::MAX } else { 0 };
                here.iter().for_each(|&index| self.warps[index].put_p(d, mask, u32::MAX));
            }
            Some(BarrierVote::Any { d, a }) => {
                let mask = if count(self, a).0 > 0 { u32::MAX } else { 0 };
                here.iter().for_each(|&index| self.warps[index].put_p(d, mask, u32::MAX));
            }
        }
        for &index in here {
            let group = &mut self.warps[index].groups[0];
            group.pc += 1;
            group.wait = Wait::Nothing;
        }
    }

    /// File and line of an instruction.
    fn source(&self, pc: u32) -> Option<(String, u32)> {
        let kernel = self.machine.kernel;
        let (file, line) = kernel.code.get(pc as usize)?.source;
        Some((kernel.files.get(&file).map_or("PTX", |name| name.as_str()).to_owned(), line))
    }

    fn at_group(&self, fault: Fault, index: usize, group: &Group) -> Fault {
        self.placed(fault, index, group.mask.trailing_zeros() as usize, group.pc)
    }

    fn placed(&self, mut fault: Fault, index: usize, lane: usize, pc: u32) -> Fault {
        let number = self.warps[index].number * 32 + lane as u32;
        fault.place = Place {
            kernel: self.machine.kernel.name.clone(),
            block: Some(self.at),
            thread: Some(self.machine.launch.thread(number)),
            source: self.source(pc),
        };
        fault
    }
}

/// The function of three bits whose values are the bits of `table`, bit by bit.
fn lop3(table: u8, a: u32, b: u32, c: u32) -> u32 {
    (0..8).filter(|case| table >> case & 1 == 1).fold(0, |out, case| {
        let side = |value: u32, bit: u32| if case >> bit & 1 == 1 { value } else { !value };
        out | side(a, 2) & side(b, 1) & side(c, 0)
    })
}

impl Warp {
    /// Runs a group until it meets another, splits, waits or ends. `pc` is where it is, for the place of a fault.
    fn run(
        &mut self,
        machine: &mut Machine<'_>,
        chosen: usize,
        pc: &mut u32,
        meets: u32,
        left: &mut u32,
    ) -> Step {
        let kernel = machine.kernel;
        let mask = self.groups[chosen].mask;
        macro_rules! alu {
            ($zero:expr, $put:ident, $f:expr, $d:expr, $active:expr, $($arg:expr),+) => {{
                let mut out = [$zero; 32];
                $f(&mut out, $($arg),+);
                self.$put($d, &out, $active);
            }};
        }
        loop {
            if *pc == meets || *left == 0 {
                self.groups[chosen].pc = *pc;
                return Ok(());
            }
            *left -= 1;
            self.steps += 1;
            if self.steps > machine.launch.steps {
                return stop(mask.trailing_zeros() as usize, Code::LAUNCH_TIMEOUT, "the kernel does not end");
            }
            let instr = &kernel.code[*pc as usize];
            let active = self.guarded(instr.guard, mask);
            if active == 0 {
                *pc += 1;
                continue;
            }
            match &instr.op {
                Op::Ww { f, d, a } => alu!(0, put_w, f, *d, active, self.w(*a)),
                Op::Www { f, d, a, b } => alu!(0, put_w, f, *d, active, self.w(*a), self.w(*b)),
                Op::Wwww { f, d, a, b, c } => {
                    alu!(0, put_w, f, *d, active, self.w(*a), self.w(*b), self.w(*c))
                }
                Op::Dd { f, d, a } => alu!(0, put_d, f, *d, active, self.d(*a)),
                Op::Ddd { f, d, a, b } => alu!(0, put_d, f, *d, active, self.d(*a), self.d(*b)),
                Op::Dddd { f, d, a, b, c } => {
                    alu!(0, put_d, f, *d, active, self.d(*a), self.d(*b), self.d(*c))
                }
                Op::Wd { f, d, a } => alu!(0, put_d, f, *d, active, self.w(*a)),
                Op::Wwd { f, d, a, b } => alu!(0, put_d, f, *d, active, self.w(*a), self.w(*b)),
                Op::Wwdd { f, d, a, b, c } => {
                    alu!(0, put_d, f, *d, active, self.w(*a), self.w(*b), self.d(*c))
                }
                Op::Dwd { f, d, a, b } => alu!(0, put_d, f, *d, active, self.d(*a), self.w(*b)),
                Op::Dwwd { f, d, a, b, c } => {
                    alu!(0, put_d, f, *d, active, self.d(*a), self.w(*b), self.w(*c))
                }
                Op::Ddwd { f, d, a, b, c } => {
                    alu!(0, put_d, f, *d, active, self.d(*a), self.d(*b), self.w(*c))
                }
                Op::Dw { f, d, a } => alu!(0, put_w, f, *d, active, self.d(*a)),
                Op::Wwp { f, d, a, b } => self.put_p(*d, f(self.w(*a), self.w(*b)), active),
                Op::Ddp { f, d, a, b } => self.put_p(*d, f(self.d(*a), self.d(*b)), active),
                Op::Ppp { f, d, a, b } => self.put_p(*d, f(self.p(*a), self.p(*b)), active),
                Op::SelectW { d, a, b, p } => {
                    let (a, p) = (*self.w(*a), self.p(*p));
                    self.put_w(*d, &{ *self.w(*b) }, active);
                    self.put_w(*d, &a, active & p);
                }
                Op::SelectD { d, a, b, p } => {
                    let (a, p) = (*self.d(*a), self.p(*p));
                    self.put_d(*d, &{ *self.d(*b) }, active);
                    self.put_d(*d, &a, active & p);
                }
                Op::Carry { f, d, a, b, from, to } => {
                    let (mut sum, mut carries) = ([0; 32], 0);
                    for (lane, sum) in sum.iter_mut().enumerate() {
                        let carry = self.p(*from) >> lane & 1 == 1;
                        let (value, carry) = f(self.w(*a)[lane], self.w(*b)[lane], carry);
                        *sum = value;
                        carries |= u32::from(carry) << lane;
                    }
                    self.put_w(*d, &sum, active);
                    self.put_p(*to, carries, active);
                }
                Op::Lop3 { table, d, a, b, c } => {
                    let (a, b, c) = (self.w(*a), self.w(*b), self.w(*c));
                    let out = std::array::from_fn(|lane| lop3(*table, a[lane], b[lane], c[lane]));
                    self.put_w(*d, &out, active);
                }
                Op::Clock { d } => self.put_d(*d, &[self.steps; 32], active),
                Op::Load(access) => self.load(machine, access, active)?,
                Op::Store(access) => self.store(machine, access, active)?,
                Op::Atomic(atomic) => self.atomic(machine, atomic, active)?,
                Op::CpAsync(copy) => self.copy_async(machine, copy, active)?,
                Op::CpCommit => self.copies.commit(active),
                Op::CpWait { groups } => self.wait_for_copies(machine, *groups, active),
                Op::Branch { to } => {
                    if active == mask {
                        *pc = *to;
                        if self.groups.len() > 1 {
                            self.groups[chosen].pc = *pc;
                            return Ok(());
                        }
                    } else {
                        self.groups[chosen] =
                            Group { pc: *pc + 1, mask: mask & !active, wait: Wait::Nothing };
                        self.groups.push(Group { pc: *to, mask: active, wait: Wait::Nothing });
                        return Ok(());
                    }
                    continue;
                }
                Op::BranchTable { index, to } => {
                    self.groups.swap_remove(chosen);
                    if mask & !active != 0 {
                        self.groups.push(Group { pc: *pc + 1, mask: mask & !active, wait: Wait::Nothing });
                    }
                    for lane in each(active) {
                        let number = self.w(*index)[lane] as usize;
                        let Some(&to) = to.get(number) else {
                            return stop(
                                lane,
                                Code::ILLEGAL_INSTRUCTION,
                                format!("branch {number} of {}", to.len()),
                            );
                        };
                        self.groups.push(Group { pc: to, mask: 1 << lane, wait: Wait::Nothing });
                    }
                    return Ok(());
                }
                Op::Exit => {
                    if active == mask {
                        self.groups.swap_remove(chosen);
                    } else {
                        self.groups[chosen] =
                            Group { pc: *pc + 1, mask: mask & !active, wait: Wait::Nothing };
                    }
                    self.look_again();
                    return Ok(());
                }
                Op::Trap { code, text } => return stop(active.trailing_zeros() as usize, *code, &**text),
                Op::Barrier { .. } => {
                    if active != mask && instr.guard != Guard::Always {
                        let lane = active.trailing_zeros() as usize;
                        return stop(
                            lane,
                            Code::ILLEGAL_INSTRUCTION,
                            "divergent barrier: a predicate excludes lanes",
                        );
                    }
                    self.groups[chosen].pc = *pc;
                    self.groups[chosen].wait = Wait::Barrier;
                    return Ok(());
                }
                op => {
                    // those that lanes of the warp execute together
                    if !self.together(machine, op, active)? {
                        self.groups[chosen].pc = *pc;
                        self.groups[chosen].wait = Wait::Lanes;
                        return Ok(());
                    }
                }
            }
            *pc += 1;
        }
    }
}
