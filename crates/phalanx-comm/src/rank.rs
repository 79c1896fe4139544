//! Newtypes for a place among ranks and for their number, so that the two cannot be swapped.

use std::fmt;

/// One participant of a communicator, counted from 0.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct Rank(pub usize);

impl Rank {
    /// Rank 0, which by convention prints and writes files.
    pub const ZERO: Self = Self(0);

    /// The number, for indexing.
    pub const fn index(self) -> usize {
        self.0
    }
}

impl fmt::Display for Rank {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "rank {}", self.0)
    }
}

/// How many ranks a communicator has.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct WorldSize(pub usize);

impl WorldSize {
    /// The number, for arithmetic.
    pub const fn get(self) -> usize {
        self.0
    }

    /// All ranks in order.
    pub fn ranks(self) -> impl DoubleEndedIterator<Item = Rank> + ExactSizeIterator {
        (0..self.0).map(Rank)
    }
}

impl fmt::Display for WorldSize {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} ranks", self.0)
    }
}
