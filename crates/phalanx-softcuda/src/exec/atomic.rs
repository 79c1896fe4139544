//! Atomic updates.

use super::access::{Base, Target};
use super::block::{Machine, Step};
use super::lanes::each;
use super::warp::Warp;
use crate::ptx::Space;

/// `atom` and `red`.
#[derive(Debug)]
pub(crate) struct Atomic {
    /// The new value, of the old one and the two operands.
    pub(crate) f: fn(u64, u64, u64) -> u64,
    pub(crate) space: Space,
    pub(crate) base: Base,
    pub(crate) offset: i64,
    pub(crate) bytes: u32,
    /// Where the old value goes, if anywhere.
    pub(crate) old: Option<Target>,
    pub(crate) a: Target,
    pub(crate) b: Option<Target>,
}

impl Warp {
    /// Updates lane by lane, in their order.
    pub(super) fn atomic(&mut self, machine: &mut Machine<'_>, atomic: &Atomic, active: u32) -> Step {
        let addresses = self.addresses(atomic.base, atomic.offset);
        let size = atomic.bytes as usize;
        for lane in each(active) {
            let mut bytes = [0; 8];
            self.read(machine, atomic.space, addresses[lane], lane, true, &mut bytes[..size])?;
            let old = u64::from_le_bytes(bytes);
            let b = atomic.b.as_ref().map_or(0, |b| self.first(b, lane));
            let new = (atomic.f)(old, self.first(&atomic.a, lane), b);
            self.write(machine, atomic.space, addresses[lane], lane, true, &new.to_le_bytes()[..size])?;
            match &atomic.old {
                Some(Target::Words(words)) => self.words[words[0].0 as usize][lane] = old as u32,
                Some(Target::Doubles(doubles)) => self.doubles[doubles[0].0 as usize][lane] = old,
                None => {}
            }
        }
        Ok(())
    }

    /// The value of a lane in the first register of an operand.
    fn first(&self, operand: &Target, lane: usize) -> u64 {
        match operand {
            Target::Words(words) => u64::from(self.w(words[0])[lane]),
            Target::Doubles(doubles) => self.d(doubles[0])[lane],
        }
    }
}
