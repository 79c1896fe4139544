//! Where the ranks of a node announce collectives to each other: a ring of slots a rank, in shared memory.
//!
//! The protocol is that of the thread backend: a rank writes a slot and publishes its number; others read it when
//! all numbers are there; the slot is free again when all ranks are done with that collective. All words are
//! atomics, so that a rank which does not keep to it can disturb the sums but not the memory.

use crate::announce::{Announcement, Heard, WORDS};
use crate::segment::{SharedWords, publish, published};
use std::sync::atomic::Ordering;

/// Collectives of one rank that may be under way at once.
pub(crate) const DEPTH: u64 = 16;

/// Counters of a row, each on a cache line, or two, of its own.
const DONE: usize = 0;
const STAGE: usize = 16;
const GONE: usize = 32;
const SLOTS: usize = 48;
const ROW: usize = SLOTS + DEPTH as usize * WORDS;

/// The board of a group of ranks.
#[derive(Debug)]
pub(crate) struct Board {
    words: SharedWords,
    size: usize,
    me: usize,
}

impl Board {
    /// Words that a board of `size` ranks takes.
    pub(crate) const fn words(size: usize) -> usize {
        size * ROW
    }

    pub(crate) const fn new(words: SharedWords, size: usize, me: usize) -> Self {
        Self { words, size, me }
    }

    fn row(&self, rank: usize) -> usize {
        rank * ROW
    }

    fn slot(&self, rank: usize, seq: u64) -> usize {
        self.row(rank) + SLOTS + (seq % DEPTH) as usize * WORDS
    }

    /// Announces a collective whose slot is [free](Self::is_free).
    #[inline]
    pub(crate) fn announce(&self, announcement: &Announcement<'_>) {
        let seq = announcement.seq();
        let slot = self.slot(self.me, seq);
        for (place, word) in self.words[slot + 1..slot + WORDS].iter().zip(announcement.rest()) {
            place.store(word, Ordering::Relaxed);
        }
        publish(&self.words[slot], seq);
    }

    /// Whether the slot of collective `seq` may be written: all ranks are done with its last user.
    pub(crate) fn is_free(&self, seq: u64) -> bool {
        seq <= DEPTH || self.all_done(seq - DEPTH)
    }

    #[inline]
    pub(crate) fn has_announced(&self, rank: usize, seq: u64) -> bool {
        published(&self.words[self.slot(rank, seq)]) >= seq
    }

    #[inline]
    pub(crate) fn all_announced(&self, seq: u64) -> bool {
        (0..self.size).all(|rank| self.has_announced(rank, seq))
    }

    /// What all ranks announced to collective `seq`, with which this rank is not done.
    pub(crate) const fn heard(&self, seq: u64) -> OnBoard<'_> {
        OnBoard { board: self, seq }
    }

    /// This rank is done with collectives up to `seq`.
    #[inline]
    pub(crate) fn done(&self, seq: u64) {
        publish(&self.words[self.row(self.me) + DONE], seq);
    }

    #[inline]
    pub(crate) fn is_done(&self, rank: usize, seq: u64) -> bool {
        published(&self.words[self.row(rank) + DONE]) >= seq
    }

    #[inline]
    pub(crate) fn all_done(&self, seq: u64) -> bool {
        (0..self.size).all(|rank| self.is_done(rank, seq))
    }

    /// This rank has come to point `stage` of its staged reductions.
    pub(crate) fn stage(&self, stage: u64) {
        publish(&self.words[self.row(self.me) + STAGE], stage);
    }

    pub(crate) fn has_staged(&self, rank: usize, stage: u64) -> bool {
        published(&self.words[self.row(rank) + STAGE]) >= stage
    }

    pub(crate) fn all_staged(&self, stage: u64) -> bool {
        (0..self.size).all(|rank| self.has_staged(rank, stage))
    }

    /// This rank takes part in nothing any more.
    pub(crate) fn leave(&self) {
        publish(&self.words[self.row(self.me) + GONE], 1);
    }

    pub(crate) fn has_left(&self, rank: usize) -> bool {
        published(&self.words[self.row(rank) + GONE]) != 0
    }

    /// The number of the last collective that `rank` announced, 0 for none.
    pub(crate) fn last_announced(&self, rank: usize) -> u64 {
        (0..DEPTH).map(|i| published(&self.words[self.slot(rank, i)])).max().unwrap_or(0)
    }
}

/// The announcements to one collective.
#[derive(Debug)]
pub(crate) struct OnBoard<'a> {
    board: &'a Board,
    seq: u64,
}

impl Heard for OnBoard<'_> {
    #[inline]
    fn word(&self, rank: usize, at: usize) -> u64 {
        self.board.words[self.board.slot(rank, self.seq) + at].load(Ordering::Relaxed)
    }

    fn payload_bytes(&self, _: usize) -> Option<&[u8]> {
        // others may write there, as far as this process knows
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::segment::Segments;
    use phalanx_comm::{Call, OpKind};

    /// Two ranks in two tables, as two processes have them.
    fn two() -> [Board; 2] {
        let (here, there) = (Segments::default(), Segments::default());
        let (words, token) = here.words(Board::words(2)).expect("memory");
        let other = there.words_of(std::process::id(), token, Board::words(2)).expect("mapped");
        [Board::new(words, 2, 0), Board::new(other, 2, 1)]
    }

    #[test]
    fn a_collective_is_heard_when_both_have_announced_it() {
        let [a, b] = two();
        let payload = 11_u64.to_ne_bytes();
        let announcement = Announcement::new(1, &Call::new(OpKind::Barrier), 8, 0, &payload);
        a.announce(&announcement);
        assert!(b.has_announced(0, 1) && !b.all_announced(1));
        b.announce(&announcement);
        assert!(a.all_announced(1));
        assert_eq!((a.heard(1).payload(1, 0), b.heard(1).bytes(0)), (11, 8));
        assert_eq!((a.last_announced(0), a.last_announced(1)), (1, 1));
    }

    #[test]
    fn a_slot_is_free_when_both_are_done_with_it() {
        let [a, b] = two();
        assert!(a.is_free(DEPTH) && !a.is_free(DEPTH + 1));
        a.done(1);
        assert!(!b.is_free(DEPTH + 1));
        b.done(3);
        assert!(a.is_free(DEPTH + 1) && !a.is_free(DEPTH + 2));
    }
}
