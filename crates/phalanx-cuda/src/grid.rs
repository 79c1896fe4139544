//! How many blocks and threads a kernel is launched with.

/// Threads of a block where they share a range.
const THREADS: u32 = 256;
/// Blocks beyond which threads go round instead.
const MOST_BLOCKS: usize = 1 << 16;
/// Blocks that planes are shared by, where they are few: several for each place of a large device.
const PLANE_BLOCKS: usize = 1 << 12;
/// Blocks that the second and third extent of a grid can have.
pub(crate) const MOST_OUTER: u16 = u16::MAX;

/// The extents of a launch; nothing is launched without blocks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Grid {
    pub(crate) blocks: (u32, u32, u32),
    pub(crate) threads: (u32, u32, u32),
    /// Dynamic shared memory of a block, in bytes.
    pub(crate) shared: u32,
}

impl Grid {
    /// Threads that share `n` elements.
    pub(crate) fn over(n: usize) -> Self {
        Grid { blocks: (blocks(n.div_ceil(THREADS as usize)), 1, 1), threads: (THREADS, 1, 1), shared: 0 }
    }

    /// Blocks that share `rows` rows of `d` elements, wide enough for them.
    pub(crate) fn rows(rows: usize, d: usize) -> Self {
        let threads = match d {
            0..=64 => 32,
            65..=256 => 64,
            257..=1024 => 128,
            _ => THREADS,
        };
        Grid { blocks: (blocks(rows), 1, 1), threads: (threads, 1, 1), shared: 0 }
    }

    /// Threads that share `n` elements of each of `outer` planes: blocks in y share the planes, in x a plane, of which no more
    /// are asked for than keep a device busy.
    pub(crate) fn planes(n: usize, outer: usize) -> Self {
        let enough = (PLANE_BLOCKS / outer.max(1)).max(1);
        let planes = u16::try_from(outer).unwrap_or(MOST_OUTER).into();
        let across = blocks(n.div_ceil(THREADS as usize).min(enough));
        Grid { blocks: (across, planes, 1), threads: (THREADS, 1, 1), shared: 0 }
    }

    /// Groups of `group` threads, a part of a block of 128, that share `n` pieces of work.
    pub(crate) fn groups(n: usize, group: usize) -> Self {
        Grid { blocks: (blocks(n.div_ceil(128 / group)), 1, 1), threads: (128, 1, 1), shared: 0 }
    }

    /// Blocks of 32 x 8 threads that share `rows` rows, eight at a time.
    pub(crate) fn row_groups(rows: usize) -> Self {
        Grid { blocks: (blocks(rows.div_ceil(8)), 1, 1), threads: (32, 8, 1), shared: 0 }
    }

    /// Tiles of 32 columns in blocks of 32 x 8 threads, for each of `outer` matrices.
    pub(crate) fn columns(columns: usize, outer: usize) -> Self {
        let outer = u16::try_from(outer).unwrap_or(MOST_OUTER).into();
        Grid { blocks: (blocks(columns.div_ceil(32)), outer, 1), threads: (32, 8, 1), shared: 0 }
    }
}

/// At most [`MOST_BLOCKS`].
fn blocks(n: usize) -> u32 {
    u32::try_from(n.min(MOST_BLOCKS)).unwrap_or(u32::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn blocks_are_as_many_as_there_is_work_and_never_too_many() {
        assert_eq!([0, 1, 256, 257].map(|n| Grid::over(n).blocks.0), [0, 1, 1, 2]);
        assert_eq!(Grid::over(usize::MAX).blocks.0, 65_536);
        assert_eq!([1, 65, 300, 5_000].map(|d| Grid::rows(9, d).threads.0), [32, 64, 128, 256]);
        assert_eq!(Grid::rows(0, 7).blocks.0, 0);
        // eight groups of sixteen threads a block
        assert_eq!([0, 8, 9].map(|n| Grid::groups(n, 16).blocks.0), [0, 1, 2]);
        assert_eq!([0, 8, 9].map(|n| Grid::row_groups(n).blocks.0), [0, 1, 2]);
        // the second extent of a grid has 16 bits
        assert_eq!(Grid::columns(33, 100_000).blocks, (2, 65_535, 1));
        assert_eq!(Grid::columns(33, 0).blocks, (2, 0, 1));
        assert_eq!(
            [1, 257, 1 << 20].map(|n| Grid::planes(n, 64).blocks),
            [(1, 64, 1), (2, 64, 1), (64, 64, 1)]
        );
        assert_eq!(Grid::planes(1 << 20, 100_000).blocks, (1, 65_535, 1));
        assert_eq!([Grid::planes(0, 3).blocks, Grid::planes(3, 0).blocks], [(0, 3, 1), (1, 0, 1)]);
    }
}
