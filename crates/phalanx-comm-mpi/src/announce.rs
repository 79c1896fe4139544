//! The message by which a rank announces a collective: its call, and a few numbers that travel with it.

use phalanx_comm::{Call, OpKind, OpRecord, Rank};
use std::time::Duration;

/// 8-byte words that tell the call. The number of the collective is the first, so that it can be published last.
pub(crate) const HEAD_WORDS: usize = 6;
/// Words of an announcement where all are of one length.
pub(crate) const WORDS: usize = 32;
/// Words of numbers in it.
pub(crate) const PAYLOAD_WORDS: usize = WORDS - HEAD_WORDS;
/// Bytes of numbers in it.
pub(crate) const PAYLOAD_BYTES: usize = 8 * PAYLOAD_WORDS;

const CALL_AT: usize = 1;
const BYTES_AT: usize = 4;
const STARTED_AT: usize = 5;

/// One announcement.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Announcement<'a> {
    head: [u64; HEAD_WORDS],
    payload: &'a [u8],
}

impl<'a> Announcement<'a> {
    /// With the numbers `payload`, as many as the ranks have [agreed](crate::lane::Lane::inline_bytes) to send.
    pub(crate) fn new(seq: u64, call: &Call, bytes: usize, started: u64, payload: &'a [u8]) -> Self {
        let mut head = [0; HEAD_WORDS];
        head[0] = seq;
        head[CALL_AT..BYTES_AT].copy_from_slice(&call.to_words());
        (head[BYTES_AT], head[STARTED_AT]) = (bytes as u64, started);
        Self { head, payload }
    }

    /// The number of the collective.
    pub(crate) const fn seq(&self) -> u64 {
        self.head[0]
    }

    /// All words but the first.
    #[inline]
    pub(crate) fn rest(&self) -> impl Iterator<Item = u64> {
        let (words, rest) = self.payload.as_chunks();
        let last = (!rest.is_empty()).then(|| {
            let mut last = [0; 8];
            last[..rest.len()].copy_from_slice(rest);
            u64::from_ne_bytes(last)
        });
        self.head.into_iter().skip(1).chain(words.iter().map(|word| u64::from_ne_bytes(*word))).chain(last)
    }

    /// All words, `least` or more.
    pub(crate) fn message(&self, least: usize) -> Box<[u64]> {
        let mut message = Vec::with_capacity((HEAD_WORDS + self.payload.len().div_ceil(8)).max(least));
        message.push(self.seq());
        message.extend(self.rest());
        message.resize(message.len().max(least), 0);
        message.into()
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
        self.word(rank, HEAD_WORDS + at)
    }

    /// All numbers that `rank` passed and perhaps more, where they lie as they are.
    fn payload_bytes(&self, rank: usize) -> Option<&[u8]>;

    /// The numbers that `rank` passed, as far as `dst` is long.
    fn copy_payload(&self, rank: usize, dst: &mut [u8]) {
        let (words, rest) = dst.as_chunks_mut();
        for (i, dst) in words.iter_mut().enumerate() {
            *dst = self.payload(rank, i).to_ne_bytes();
        }
        if !rest.is_empty() {
            rest.copy_from_slice(&self.payload(rank, words.len()).to_ne_bytes()[..rest.len()]);
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

/// Announcements as messages bring them.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Gathered<'a> {
    pub(crate) me: usize,
    /// What this rank sent.
    pub(crate) own: &'a [u64],
    /// What the others sent, `stride` words apart.
    pub(crate) all: &'a [u64],
    pub(crate) stride: usize,
}

impl Gathered<'_> {
    fn words(&self, rank: usize) -> &[u64] {
        if rank == self.me { self.own } else { &self.all[rank * self.stride..][..self.stride] }
    }
}

impl Heard for Gathered<'_> {
    fn word(&self, rank: usize, at: usize) -> u64 {
        self.words(rank)[at]
    }

    fn payload_bytes(&self, rank: usize) -> Option<&[u8]> {
        Some(bytemuck::cast_slice(&self.words(rank)[HEAD_WORDS..]))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use phalanx_comm::{Dtype, ReduceOp};

    #[test]
    fn what_is_announced_is_heard() {
        let call = Call::new(OpKind::AllReduce).of(Dtype::F64, 3).reducing(ReduceOp::Sum);
        let first = Announcement::new(7, &call, 24, 100, &[1, 2, 3, 4, 5, 6, 7, 8, 9]);
        let words = [5_u64, 6];
        let barrier = Call::new(OpKind::Barrier);
        let second = Announcement::new(7, &barrier, 0, 200, bytemuck::cast_slice(&words));
        let (own, other) = (first.message(0), second.message(10));
        assert_eq!((own.len(), other.len()), (HEAD_WORDS + 2, 10));

        let all = [&[0; 10][..], &other].concat();
        let heard = Gathered { me: 0, own: &own, all: &all, stride: 10 };
        let mut bytes = [0; 9];
        heard.copy_payload(0, &mut bytes);
        assert_eq!(bytes, [1, 2, 3, 4, 5, 6, 7, 8, 9]);
        assert_eq!(heard.payload_bytes(0).map(|bytes| &bytes[..9]), Some(&bytes[..]));
        assert_eq!((heard.payload(1, 0), heard.payload(1, 1)), (5, 6));
        assert_eq!((heard.call(0), heard.dissenter(2, &call)), (call, Some(Rank(1))));
        assert_eq!(heard.dissenter(1, &call), None);
        assert_eq!((heard.record(0).seq, heard.record(0).bytes), (7, 24));
    }
}
