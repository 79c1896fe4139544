//! Loads and stores.

use super::arena::{Kind, allowed};
use super::block::{Machine, Step, Stop, stop};
use super::lanes::{D, LANES, W, Words, each};
use super::shared::Who;
use super::warp::Warp;
use super::window;
use crate::driver::Code;
use crate::fault::Fault;
use crate::ptx::Space;

/// What an address is counted from.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Base {
    Zero,
    Word(W),
    Double(D),
}

/// The registers of the elements of an access.
#[derive(Debug)]
pub(crate) enum Target {
    Words(Vec<W>),
    Doubles(Vec<D>),
}

/// How a loaded element fills its register.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Extend {
    Zero,
    Sign,
}

/// A load or a store.
#[derive(Debug)]
pub(crate) struct Access {
    pub(crate) space: Space,
    pub(crate) base: Base,
    pub(crate) offset: i64,
    /// Bytes of an element.
    pub(crate) bytes: u32,
    pub(crate) target: Target,
    pub(crate) extend: Extend,
    /// Whether it is volatile, relaxed or stronger, so that it races with none of its kind.
    pub(crate) strong: bool,
}

/// The most bytes of an access.
const MOST: usize = 32;

impl Warp {
    /// The addresses of all lanes.
    pub(super) fn addresses(&self, base: Base, offset: i64) -> [u64; LANES] {
        let offset = offset.cast_unsigned();
        match base {
            Base::Zero => [offset; LANES],
            Base::Word(w) => self.w(w).map(|base| u64::from(base).wrapping_add(offset)),
            Base::Double(d) => self.d(d).map(|base| base.wrapping_add(offset)),
        }
    }

    fn who(&self, lane: usize, strong: bool) -> Who {
        Who { warp: self.number, lane: lane as u32, syncs: self.syncs, strong }
    }

    pub(super) fn load(&mut self, machine: &mut Machine<'_>, access: &Access, active: u32) -> Step {
        let addresses = self.addresses(access.base, access.offset);
        if let (Target::Words(words), 4) = (&access.target, access.bytes)
            && let [word] = words[..]
            && let Some(row) = row_of_words(machine, access.space, &addresses, active, Kind::Read)
        {
            // SAFETY: `row` is 128 bytes that were checked
            let value: Words = unsafe { row.cast::<Words>().read_unaligned() };
            self.put_w(word, &value, active);
            return Ok(());
        }
        let size = access.bytes as usize;
        let mut buffer = [0_u8; MOST];
        let bytes = &mut buffer[..size * access.target.len()];
        let first = active.trailing_zeros() as usize;
        if is_one_place(access.space, &addresses, first) {
            self.read(machine, access.space, addresses[first], first, access.strong, bytes)?;
            for (index, element) in bytes.chunks_exact(size).enumerate() {
                let value = filled(element, access.extend);
                match &access.target {
                    Target::Words(words) => self.put_w(words[index], &[value as u32; LANES], active),
                    Target::Doubles(doubles) => self.put_d(doubles[index], &[value; LANES], active),
                }
            }
            return Ok(());
        }
        for lane in each(active) {
            self.read(machine, access.space, addresses[lane], lane, access.strong, bytes)?;
            for (index, element) in bytes.chunks_exact(size).enumerate() {
                let value = filled(element, access.extend);
                match &access.target {
                    Target::Words(words) => self.words[words[index].0 as usize][lane] = value as u32,
                    Target::Doubles(doubles) => self.doubles[doubles[index].0 as usize][lane] = value,
                }
            }
        }
        Ok(())
    }

    pub(super) fn store(&mut self, machine: &mut Machine<'_>, access: &Access, active: u32) -> Step {
        let addresses = self.addresses(access.base, access.offset);
        if let (Target::Words(words), 4) = (&access.target, access.bytes)
            && let [word] = words[..]
            && let Some(row) = row_of_words(machine, access.space, &addresses, active, Kind::Write)
        {
            // SAFETY: `row` is 128 bytes that were checked
            unsafe { row.cast::<Words>().write_unaligned(*self.w(word)) };
            return Ok(());
        }
        let size = access.bytes as usize;
        let mut buffer = [0_u8; MOST];
        for lane in each(active) {
            let mut end = 0;
            for index in 0..access.target.len() {
                let value = match &access.target {
                    Target::Words(words) => u64::from(self.w(words[index])[lane]),
                    Target::Doubles(doubles) => self.d(doubles[index])[lane],
                };
                buffer[end..end + size].copy_from_slice(&value.to_le_bytes()[..size]);
                end += size;
            }
            self.write(machine, access.space, addresses[lane], lane, access.strong, &buffer[..end])?;
        }
        Ok(())
    }

    /// Reads what a lane sees at an address.
    pub(super) fn read(
        &self,
        machine: &mut Machine<'_>,
        space: Space,
        address: u64,
        lane: usize,
        strong: bool,
        to: &mut [u8],
    ) -> Step {
        let (space, address) = resolve(space, address);
        aligned(address, to.len(), lane)?;
        match space {
            Space::Shared => {
                let who = self.who(lane, strong);
                let bytes = machine.shared.read(address, to.len(), who).map_err(|fault| at(lane, fault))?;
                to.copy_from_slice(bytes);
            }
            Space::Local => {
                let range = self.local_range(machine, address, to.len(), lane, "read")?;
                to.copy_from_slice(&self.local[range]);
            }
            Space::Param => {
                let bytes = usize::try_from(address)
                    .ok()
                    .and_then(|start| machine.launch.params.get(start..start + to.len()));
                let Some(bytes) = bytes else {
                    return stop(
                        lane,
                        Code::ILLEGAL_ADDRESS,
                        format!("read of parameters at byte {address:#x}"),
                    );
                };
                to.copy_from_slice(bytes);
            }
            _ => {
                let from = global(machine, address, to.len(), Kind::Read).map_err(|fault| at(lane, fault))?;
                // SAFETY: `from` is as many bytes, that were checked
                unsafe { from.copy_to_nonoverlapping(to.as_mut_ptr(), to.len()) };
            }
        }
        Ok(())
    }

    /// Writes what a lane stores at an address.
    pub(super) fn write(
        &mut self,
        machine: &mut Machine<'_>,
        space: Space,
        address: u64,
        lane: usize,
        strong: bool,
        from: &[u8],
    ) -> Step {
        let (space, address) = resolve(space, address);
        aligned(address, from.len(), lane)?;
        match space {
            Space::Shared => {
                let who = self.who(lane, strong);
                let bytes =
                    machine.shared.write(address, from.len(), who).map_err(|fault| at(lane, fault))?;
                bytes.copy_from_slice(from);
            }
            Space::Local => {
                let range = self.local_range(machine, address, from.len(), lane, "write")?;
                self.local[range].copy_from_slice(from);
            }
            Space::Param | Space::Const => {
                return stop(
                    lane,
                    Code::ILLEGAL_ADDRESS,
                    format!("write at {address:#x}, which is constant"),
                );
            }
            _ => {
                let to =
                    global(machine, address, from.len(), Kind::Write).map_err(|fault| at(lane, fault))?;
                // SAFETY: `to` is as many bytes, that were checked
                unsafe { to.copy_from_nonoverlapping(from.as_ptr(), from.len()) };
            }
        }
        Ok(())
    }

    fn local_range(
        &self,
        machine: &Machine<'_>,
        address: u64,
        bytes: usize,
        lane: usize,
        verb: &str,
    ) -> Result<std::ops::Range<usize>, Box<Stop>> {
        let frame = machine.kernel.local_bytes as usize;
        match usize::try_from(address) {
            Ok(start) if start.saturating_add(bytes) <= frame => {
                let start = start + lane * frame;
                Ok(start..start + bytes)
            }
            _ => {
                let what =
                    format!("{verb} of {bytes} bytes at byte {address:#x} of {frame} bytes of local memory");
                stop(lane, Code::ILLEGAL_ADDRESS, what)
            }
        }
    }
}

impl Target {
    pub(crate) fn len(&self) -> usize {
        match self {
            Target::Words(words) => words.len(),
            Target::Doubles(doubles) => doubles.len(),
        }
    }
}

/// A fault of a lane.
pub(super) fn at(lane: usize, fault: Fault) -> Box<Stop> {
    Box::new(Stop { lane, fault })
}

/// The space of a generic address, and the address there.
pub(super) fn resolve(space: Space, address: u64) -> (Space, u64) {
    if space != Space::Generic {
        return (space, address);
    }
    let within = address % window::BYTES;
    match address - within {
        window::SHARED => (Space::Shared, within),
        window::LOCAL => (Space::Local, within),
        window::PARAM => (Space::Param, within),
        _ => (Space::Global, address),
    }
}

/// Whether all lanes read the same bytes, and it does not matter which of them does.
fn is_one_place(space: Space, addresses: &[u64; LANES], first: usize) -> bool {
    let apart = addresses.iter().fold(0, |apart, address| apart | (address ^ addresses[first]));
    apart == 0 && matches!(resolve(space, addresses[first]).0, Space::Global | Space::Param)
}

/// An element as it fills a register.
#[inline]
fn filled(element: &[u8], extend: Extend) -> u64 {
    let mut wide = [0; 8];
    wide[..element.len()].copy_from_slice(element);
    let value = u64::from_le_bytes(wide);
    match extend {
        Extend::Zero => value,
        Extend::Sign => {
            let unused = 64 - 8 * element.len();
            (value.cast_signed() << unused >> unused).cast_unsigned()
        }
    }
}

#[inline]
fn aligned(address: u64, bytes: usize, lane: usize) -> Step {
    // a power of two
    if address & (bytes as u64 - 1) == 0 {
        return Ok(());
    }
    stop(
        lane,
        Code::MISALIGNED_ADDRESS,
        format!("access of {bytes} bytes at {address:#x}, which is not aligned to them"),
    )
}

/// The host's address of global memory that may be accessed so.
#[inline]
fn global(machine: &Machine<'_>, address: u64, bytes: usize, kind: Kind) -> Result<*mut u8, Fault> {
    let Some((data, states)) = machine.launch.region.at(address) else {
        return super::arena::access(address, bytes, kind);
    };
    // SAFETY: `at` has as many states, and more
    let states = unsafe { std::slice::from_raw_parts_mut(states, bytes) };
    if allowed(states, kind) { Ok(data) } else { Err(machine.launch.region.explain(address, bytes, kind)) }
}

/// Where a whole warp accesses a word each, one after the other, in global memory that may be accessed so: the first.
#[inline]
fn row_of_words(
    machine: &Machine<'_>,
    space: Space,
    addresses: &[u64; LANES],
    active: u32,
    kind: Kind,
) -> Option<*mut u8> {
    let first = addresses[0];
    if active != u32::MAX
        || matches!(space, Space::Shared | Space::Local | Space::Param)
        || !first.is_multiple_of(4)
    {
        return None;
    }
    let apart = (addresses.iter().zip(0..))
        .fold(0, |apart, (address, lane)| apart | (address ^ first.wrapping_add(4 * lane)));
    if apart != 0 {
        return None;
    }
    let (data, states) = machine.launch.region.at(first)?;
    // SAFETY: `at` has room for a row
    let states = unsafe { std::slice::from_raw_parts_mut(states, 4 * LANES) };
    allowed(states, kind).then_some(data)
}
