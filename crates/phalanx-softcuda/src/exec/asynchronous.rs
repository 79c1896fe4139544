//! Asynchronous copies from global to shared memory: `cp.async`.
//!
//! A copy takes place when it is waited for, at the latest moment that is allowed, and what it will fill cannot be read before.

use super::access::{Base, at, resolve};
use super::block::{Machine, Step};
use super::lanes::{LANES, W, each};
use super::shared::Who;
use super::warp::Warp;
use crate::ptx::Space;

/// A copy of each lane.
#[derive(Debug)]
pub(crate) struct CpAsync {
    pub(crate) to: Base,
    pub(crate) to_offset: i64,
    pub(crate) from: Base,
    pub(crate) from_offset: i64,
    /// Bytes that are filled: 4, 8 or 16.
    pub(crate) bytes: u32,
    /// Bytes that are read, where the rest is filled with zeros.
    pub(crate) read: Option<W>,
}

/// Copies of a warp that are under way.
#[derive(Debug, Default)]
pub(super) struct Copies {
    under_way: Vec<Copy>,
    /// Groups that each lane has ended.
    groups: [u32; LANES],
}

#[derive(Debug)]
struct Copy {
    lane: usize,
    /// The number of its group, once that has ended.
    group: Option<u32>,
    to: u64,
    bytes: Vec<u8>,
}

impl Copies {
    /// Ends the group of each lane.
    pub(super) fn commit(&mut self, active: u32) {
        for lane in each(active) {
            self.groups[lane] += 1;
        }
        for copy in self.under_way.iter_mut().filter(|copy| active >> copy.lane & 1 == 1) {
            copy.group.get_or_insert(self.groups[copy.lane]);
        }
    }
}

impl Warp {
    pub(super) fn copy_async(&mut self, machine: &mut Machine<'_>, copy: &CpAsync, active: u32) -> Step {
        let to = self.addresses(copy.to, copy.to_offset);
        let from = self.addresses(copy.from, copy.from_offset);
        for lane in each(active) {
            let size = copy.bytes as usize;
            let read = copy.read.map_or(copy.bytes, |read| self.w(read)[lane].min(copy.bytes)) as usize;
            let mut bytes = vec![0; size];
            if !from[lane].is_multiple_of(u64::from(copy.bytes))
                || !to[lane].is_multiple_of(u64::from(copy.bytes))
            {
                let what = format!(
                    "copy of {size} bytes from {:#x} to {:#x}, not aligned to them",
                    from[lane], to[lane]
                );
                return super::block::stop(lane, crate::driver::Code::MISALIGNED_ADDRESS, what);
            }
            if read == size {
                self.read(machine, Space::Global, from[lane], lane, false, &mut bytes)?;
            } else {
                for (index, byte) in bytes[..read].iter_mut().enumerate() {
                    let address = from[lane] + index as u64;
                    self.read(machine, Space::Global, address, lane, false, std::slice::from_mut(byte))?;
                }
            }
            let (_, address) = resolve(Space::Shared, to[lane]);
            let who = self.copier(lane);
            machine.shared.expect(address, size, who).map_err(|fault| at(lane, fault))?;
            self.copies.under_way.push(Copy { lane, group: None, to: address, bytes });
        }
        Ok(())
    }

    fn copier(&self, lane: usize) -> Who {
        Who { warp: self.number, lane: lane as u32, syncs: self.syncs, strong: false }
    }

    /// Lets copies arrive until at most so many groups of each lane are under way; all without a number.
    pub(super) fn wait_for_copies(&mut self, machine: &mut Machine<'_>, groups: Option<u32>, active: u32) {
        let waiting = std::mem::take(&mut self.copies.under_way);
        for copy in waiting {
            let ended = self.copies.groups[copy.lane];
            let arrives = match (groups, copy.group) {
                (None, _) => true,
                (Some(most), Some(group)) => group + most <= ended,
                (Some(_), None) => false,
            };
            if arrives && active >> copy.lane & 1 == 1 {
                let who = self.copier(copy.lane);
                machine.shared.arrive(copy.to, &copy.bytes, who);
            } else {
                self.copies.under_way.push(copy);
            }
        }
    }
}
