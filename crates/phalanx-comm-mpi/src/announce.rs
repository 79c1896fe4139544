//! The message by which a rank announces a collective: its call, and a few numbers that travel with it.

use phalanx_comm::{Call, OpKind, OpRecord, Rank};
use std::time::Duration;

/// 8-byte words of an announcement. The number of the collective is the first, so that it can be published last.
pub(crate) const WORDS: usize = 32;
/// Words of numbers in it.
pub(crate) const PAYLOAD_WORDS: usize = WORDS - PAYLOAD_AT;
/// Bytes of numbers in it.
pub(crate) const PAYLOAD_BYTES: usize = 8 * PAYLOAD_WORDS;

const CALL_AT: usize = 1;
const BYTES_AT: usize = 4;
const STARTED_AT: usize = 5;
const PAYLOAD_AT: usize = 6;

/// One announcement.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Announcement {
    pub(crate) words: [u64; WORDS],
    /// Words that matter: the rest need not travel inside a node.
    pub(crate) used: usize,
}

impl Announcement {
    pub(crate) fn new(seq: u64, call: &Call, bytes: usize, started: u64) -> Self {
        let mut words = [0; WORDS];
        words[0] = seq;
        words[CALL_AT..BYTES_AT].copy_from_slice(&call.to_words());
        (words[BYTES_AT], words[STARTED_AT]) = (bytes as u64, started);
        Self { words, used: PAYLOAD_AT }
    }

    /// Adds numbers, at most [`PAYLOAD_BYTES`] of them.
    pub(crate) fn carry(&mut self, bytes: &[u8]) {
        let place: &mut [u8] = bytemuck::cast_slice_mut(&mut self.words[PAYLOAD_AT..]);
        place[..bytes.len()].copy_from_slice(bytes);
        self.used = PAYLOAD_AT + bytes.len().div_ceil(8);
    }

    /// Adds words, at most [`PAYLOAD_WORDS`] of them.
    pub(crate) fn carry_words(&mut self, words: impl IntoIterator<Item = u64>) {
        for (place, word) in self.words[PAYLOAD_AT..].iter_mut().zip(words) {
            *place = word;
            self.used += 1;
        }
    }
}

/// The announcements of all ranks to one collective.
pub(crate) trait Heard {
    /// Word `at` of what `rank` announced.
    fn word(&self, rank: usize, at: usize) -> u64;

    /// Whether `rank` announced `call`.
    fn agrees(&self, rank: usize, call: &[u64; 3]) -> bool {
        (0..3).all(|i| self.word(rank, CALL_AT + i) == call[i])
    }

    /// What `rank` called; a name alone if the words make no sense.
    fn call(&self, rank: usize) -> Call {
        let words = std::array::from_fn(|i| self.word(rank, CALL_AT + i));
        Call::from_words(words).unwrap_or(Call::new(OpKind::Barrier))
    }

    /// Bytes that `rank` passed.
    fn bytes(&self, rank: usize) -> usize {
        usize::try_from(self.word(rank, BYTES_AT)).unwrap_or(usize::MAX)
    }

    /// Word `at` of the numbers that `rank` passed.
    fn payload(&self, rank: usize, at: usize) -> u64 {
        self.word(rank, PAYLOAD_AT + at)
    }

    /// The numbers that `rank` passed, as far as `dst` is long.
    fn copy_payload(&self, rank: usize, dst: &mut [u8]) {
        for (i, dst) in dst.chunks_mut(8).enumerate() {
            dst.copy_from_slice(&self.payload(rank, i).to_ne_bytes()[..dst.len()]);
        }
    }

    /// The collective of `rank` as the flight recorder has it.
    fn record(&self, rank: usize) -> OpRecord {
        OpRecord {
            seq: self.word(rank, 0),
            op: self.call(rank).op,
            bytes: self.bytes(rank) as u64,
            started: Duration::from_nanos(self.word(rank, STARTED_AT)),
            finished: None,
        }
    }

    /// The first rank that announced another call, among `size`.
    fn dissenter(&self, size: usize, call: &Call) -> Option<Rank> {
        let call = call.to_words();
        (0..size).find(|rank| !self.agrees(*rank, &call)).map(Rank)
    }
}

/// Announcements one after the other, as `MPI_Iallgather` leaves them.
impl Heard for [u64] {
    fn word(&self, rank: usize, at: usize) -> u64 {
        self[rank * WORDS + at]
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use phalanx_comm::{Dtype, ReduceOp};

    #[test]
    fn what_is_announced_is_heard() {
        let call = Call::new(OpKind::AllReduce).of(Dtype::F64, 3).reducing(ReduceOp::Sum);
        let mut first = Announcement::new(7, &call, 24, 100);
        first.carry(&[1, 2, 3, 4, 5, 6, 7, 8, 9]);
        let mut second = Announcement::new(7, &Call::new(OpKind::Barrier), 0, 200);
        second.carry_words([5, 6]);
        assert_eq!((first.used, second.used), (PAYLOAD_AT + 2, PAYLOAD_AT + 2));

        let heard = [first.words, second.words].concat();
        let heard = &heard[..];
        let mut bytes = [0; 9];
        heard.copy_payload(0, &mut bytes);
        assert_eq!(bytes, [1, 2, 3, 4, 5, 6, 7, 8, 9]);
        assert_eq!((heard.payload(1, 0), heard.payload(1, 1)), (5, 6));
        assert_eq!((heard.call(0), heard.dissenter(2, &call)), (call, Some(Rank(1))));
        assert_eq!(heard.dissenter(1, &call), None);
        assert_eq!((heard.record(0).seq, heard.record(0).bytes), (7, 24));
    }
}
