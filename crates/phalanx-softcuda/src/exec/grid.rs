//! Runs all blocks of a launch.

use super::arena::Region;
use super::block::Block;
use super::kernel::Kernel;
use crate::fault::Fault;

/// What a launch gives a kernel.
#[derive(Debug)]
pub(crate) struct Launch<'a> {
    pub(crate) grid: [u32; 3],
    pub(crate) block: [u32; 3],
    pub(crate) dynamic_shared: u32,
    pub(crate) params: &'a [u8],
    pub(crate) region: &'static Region,
    /// What orders of blocks and warps are drawn from, where they are drawn.
    pub(crate) seed: Option<u64>,
    /// How many threads may run blocks.
    pub(crate) threads: u32,
    /// The most instructions of a warp.
    pub(crate) steps: u64,
}

impl Launch<'_> {
    /// Threads of a block.
    pub(super) fn threads(&self) -> u32 {
        self.block.iter().product()
    }

    /// A thread of a block by its number.
    pub(super) fn thread(&self, number: u32) -> [u32; 3] {
        let [x, y, _] = self.block;
        [number % x, number / x % y, number / (x * y)]
    }

    fn blocks(&self) -> u64 {
        self.grid.iter().map(|&n| u64::from(n)).product()
    }

    /// A block by its place in the order in which blocks run.
    fn nth(&self, place: u64) -> [u32; 3] {
        let number = match self.seed {
            None => place,
            Some(seed) => shuffled(place, self.blocks(), seed),
        };
        let [x, y, _] = self.grid.map(u64::from);
        [number % x, number / x % y, number / (x * y)].map(|n| u32::try_from(n).unwrap_or(u32::MAX))
    }
}

/// A permutation of `0..count`: a step that shares no factor with it, and a start.
fn shuffled(place: u64, count: u64, seed: u64) -> u64 {
    let drawn = super::super::driver::mix(seed);
    let mut step = (drawn % count) | 1;
    while greatest_divisor(step, count) != 1 {
        step += 2;
    }
    let place = u128::from(place) * u128::from(step) + u128::from(drawn >> 32);
    u64::try_from(place % u128::from(count)).unwrap_or_default()
}

fn greatest_divisor(a: u64, b: u64) -> u64 {
    if b == 0 { a } else { greatest_divisor(b, a % b) }
}

/// Runs a kernel to its end.
///
/// # Errors
/// The first fault, in the order of blocks.
pub(crate) fn run(kernel: &Kernel, launch: &Launch<'_>) -> Result<(), Fault> {
    let blocks = launch.blocks();
    let threads = if kernel.has_atomics { 1 } else { u64::from(launch.threads).min(blocks).max(1) };
    let share = |part: u64| -> Result<(), Fault> {
        let mut block = Block::new(kernel, launch);
        (part * blocks / threads..(part + 1) * blocks / threads)
            .try_for_each(|place| block.run(launch.nth(place)))
    };
    if threads == 1 {
        return share(0);
    }
    std::thread::scope(|scope| {
        let parts: Vec<_> = (0..threads).map(|part| scope.spawn(move || share(part))).collect();
        parts
            .into_iter()
            .try_for_each(|part| part.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic)))
    })
}

#[cfg(test)]
mod tests {
    use super::shuffled;

    #[test]
    fn every_block_runs_once_in_any_order() {
        for count in [1, 2, 7, 12, 100] {
            for seed in 0..20 {
                let mut found: Vec<u64> = (0..count).map(|place| shuffled(place, count, seed)).collect();
                found.sort_unstable();
                assert!(found.into_iter().eq(0..count), "{count} {seed}");
            }
        }
    }
}
