//! Memory that was given back, kept for the next that asks for as much: a warmed-up step allocates nothing.

use crate::kernels::Ptr;
use std::collections::BTreeMap;

/// Pieces of memory by size, and what was taken from the driver in all.
///
/// A piece serves its own size only: a step asks for the same sizes again and again, and pieces as long as they are asked
/// for let a device that looks after bounds see what is beyond them.
#[derive(Debug, Default)]
pub(crate) struct Pool {
    free: BTreeMap<usize, Vec<Ptr>>,
    /// Bytes in use and kept.
    held: usize,
}

impl Pool {
    /// A kept piece of this size.
    pub(crate) fn take(&mut self, bytes: usize) -> Option<Ptr> {
        self.free.get_mut(&bytes).and_then(Vec::pop)
    }

    /// Keeps a piece.
    pub(crate) fn give(&mut self, bytes: usize, piece: Ptr) {
        self.free.entry(bytes).or_default().push(piece);
    }

    /// Counts a piece that the driver gave.
    pub(crate) fn count(&mut self, bytes: usize) {
        self.held += bytes;
    }

    /// Bytes in use and kept.
    pub(crate) fn held(&self) -> usize {
        self.held
    }

    /// Everything kept, to be freed.
    pub(crate) fn drain(&mut self) -> Vec<Ptr> {
        let free = std::mem::take(&mut self.free);
        self.held -= free.iter().map(|(bytes, pieces)| bytes * pieces.len()).sum::<usize>();
        free.into_values().flatten().collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_given_is_taken_again() {
        let mut pool = Pool::default();
        assert_eq!(pool.take(512), None);
        pool.count(512);
        pool.give(512, 7);
        assert_eq!(pool.take(256), None);
        assert_eq!(pool.take(512), Some(7));
        pool.give(512, 7);
        pool.count(256);
        assert_eq!(pool.drain(), [7]);
        assert_eq!(pool.held(), 256);
    }
}
