//! The state of a warp: its registers, and the groups of lanes that go the same way.

use super::asynchronous::Copies;
use super::grid::Launch;
use super::kernel::{Guard, Kernel, Special};
use super::lanes::{D, Doubles, LANES, P, W, Words};

/// Lanes at the same instruction.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Group {
    pub(super) pc: u32,
    pub(super) mask: u32,
    pub(super) wait: Wait,
}

/// What a group waits for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Wait {
    Nothing,
    /// Lanes of its warp that an instruction names.
    Lanes,
    /// The other warps of the block.
    Barrier,
}

/// A warp.
#[derive(Debug)]
pub(super) struct Warp {
    pub(super) number: u32,
    /// The lanes that the launch has given it.
    pub(super) lanes: u32,
    pub(super) groups: Vec<Group>,
    pub(super) words: Vec<Words>,
    pub(super) doubles: Vec<Doubles>,
    pub(super) predicates: Vec<u32>,
    /// The local memory of its lanes, one after the other.
    pub(super) local: Vec<u8>,
    pub(super) copies: Copies,
    /// Barriers that it has passed on its own.
    pub(super) syncs: u32,
    pub(super) steps: u64,
}

impl Warp {
    /// A warp of each block of a launch.
    pub(super) fn new(kernel: &Kernel, launch: &Launch<'_>, number: u32) -> Self {
        let threads = launch.threads() - number * 32;
        let mut warp = Self {
            number,
            lanes: if threads >= 32 { u32::MAX } else { (1 << threads) - 1 },
            groups: Vec::new(),
            words: vec![[0; LANES]; kernel.words],
            doubles: vec![[0; LANES]; kernel.doubles],
            predicates: vec![0; kernel.predicates],
            local: vec![0; kernel.local_bytes as usize * LANES],
            copies: Copies::default(),
            syncs: 0,
            steps: 0,
        };
        for &(register, value) in &kernel.word_constants {
            warp.words[register.0 as usize] = [value; LANES];
        }
        for &(register, value) in &kernel.double_constants {
            warp.doubles[register.0 as usize] = [value; LANES];
        }
        for &(register, special) in &kernel.specials {
            warp.words[register.0 as usize] =
                std::array::from_fn(|lane| said(special, kernel, launch, number, lane as u32));
        }
        warp
    }

    /// Starts it at the beginning of a block.
    pub(super) fn start(&mut self, kernel: &Kernel, block: [u32; 3]) {
        for &(register, special) in &kernel.specials {
            if let Special::Block(axis) = special {
                self.words[register.0 as usize] = [block[axis]; LANES];
            }
        }
        self.groups.clear();
        self.groups.push(Group { pc: 0, mask: self.lanes, wait: Wait::Nothing });
        self.copies = Copies::default();
        self.syncs = 0;
    }

    /// Lanes that have not returned.
    pub(super) fn live(&self) -> u32 {
        self.groups.iter().fold(0, |mask, group| mask | group.mask)
    }

    /// Joins groups that have met.
    pub(super) fn merge(&mut self) {
        let mut index = 0;
        while index < self.groups.len() {
            let group = self.groups[index];
            let met = self.groups[..index].iter().position(|other| other.pc == group.pc);
            if let Some(met) = met {
                let other = &mut self.groups[met];
                other.mask |= group.mask;
                if other.wait != group.wait || group.wait == Wait::Lanes {
                    other.wait = Wait::Nothing;
                }
                self.groups.swap_remove(index);
            } else {
                index += 1;
            }
        }
    }

    /// Lets groups that wait for lanes look again: some have returned.
    pub(super) fn look_again(&mut self) {
        for group in &mut self.groups {
            if group.wait == Wait::Lanes {
                group.wait = Wait::Nothing;
            }
        }
    }

    /// The lanes of a mask for which a guard holds.
    #[inline]
    pub(super) fn guarded(&self, guard: Guard, mask: u32) -> u32 {
        match guard {
            Guard::Always => mask,
            Guard::If(p) => mask & self.p(p),
            Guard::Unless(p) => mask & !self.p(p),
        }
    }

    #[inline]
    pub(super) fn w(&self, register: W) -> &Words {
        &self.words[register.0 as usize]
    }

    #[inline]
    pub(super) fn d(&self, register: D) -> &Doubles {
        &self.doubles[register.0 as usize]
    }

    #[inline]
    pub(super) fn p(&self, register: P) -> u32 {
        self.predicates[register.0 as usize]
    }

    #[inline]
    pub(super) fn put_w(&mut self, register: W, value: &Words, mask: u32) {
        super::lanes::put(&mut self.words[register.0 as usize], value, mask);
    }

    #[inline]
    pub(super) fn put_d(&mut self, register: D, value: &Doubles, mask: u32) {
        super::lanes::put(&mut self.doubles[register.0 as usize], value, mask);
    }

    #[inline]
    pub(super) fn put_p(&mut self, register: P, value: u32, mask: u32) {
        let p = &mut self.predicates[register.0 as usize];
        *p = *p & !mask | value & mask;
    }
}

/// What the machine says to a lane.
fn said(special: Special, kernel: &Kernel, launch: &Launch<'_>, warp: u32, lane: u32) -> u32 {
    match special {
        Special::Thread(axis) => launch.thread(warp * 32 + lane)[axis],
        Special::Threads(axis) => launch.block[axis],
        Special::Block(_) => 0,
        Special::Blocks(axis) => launch.grid[axis],
        Special::Lane => lane,
        Special::Warp => warp,
        Special::Warps => launch.threads().div_ceil(32),
        Special::MaskEq => 1 << lane,
        Special::MaskLt => (1 << lane) - 1,
        Special::MaskLe => u32::MAX >> (31 - lane),
        Special::MaskGt => !(u32::MAX >> (31 - lane)),
        Special::MaskGe => !((1 << lane) - 1),
        Special::DynamicShared => launch.dynamic_shared,
        Special::TotalShared => kernel.shared_bytes + launch.dynamic_shared,
    }
}
