//! An error as bytes, so that ranks in other processes get the same one.

use super::{CommError, Missing};
use crate::call::{Call, OpKind};
use crate::flight::OpRecord;
use crate::rank::{Rank, WorldSize};
use std::sync::Arc;
use std::time::Duration;

impl CommError {
    /// The error as bytes that [`from_bytes`](Self::from_bytes) of the same build reads.
    pub fn to_bytes(&self) -> Vec<u8> {
        let mut out = Writer(Vec::new());
        match self {
            Self::Aborted { by, cause } => out.kind(0).rank(*by).text(cause),
            Self::Mismatch { seq, calls } => {
                out.kind(1).word(*seq).size(calls.len());
                calls.iter().fold(&mut out, |out, (rank, call)| out.rank(*rank).call(call))
            }
            Self::Counts { op, from, to, sent, expected } => {
                out.kind(2).op(*op).rank(*from).rank(*to).size(*sent).size(*expected)
            }
            Self::Length { rank, op, what, got, need } => {
                out.kind(3).rank(*rank).op(*op).text(what).size(*got).size(*need)
            }
            Self::Types { rank, op } => out.kind(4).rank(*rank).op(*op),
            Self::Root { root, size } => out.kind(5).rank(*root).size(size.get()),
            Self::Timeout { call, seq, missing, waited } => {
                out.kind(6).call(call).word(*seq).duration(*waited).size(missing.len());
                missing
                    .iter()
                    .fold(&mut out, |out, missing| out.rank(missing.rank).record(missing.last.as_ref()))
            }
            Self::Left { rank, call, seq } => out.kind(7).rank(*rank).call(call).word(*seq),
            Self::Panicked { rank, message, during } => {
                out.kind(8).rank(*rank).text(message).record(during.as_ref())
            }
            Self::Plan { first, other, ours, our_hash, theirs, their_hash } => {
                let out = out.kind(9).rank(*first).rank(*other).text(ours).word(*our_hash);
                out.text(theirs).word(*their_hash)
            }
            Self::Message { from, what, got, need } => {
                out.kind(10).rank(*from).text(what).size(*got).size(*need)
            }
            Self::Shards { size, shards } => out.kind(11).size(size.get()).size(*shards),
            Self::Node { rank, got, need } => out.kind(12).rank(*rank).size(*got).size(*need),
            Self::Library { rank, function, code, text } => {
                out.kind(13).rank(*rank).text(function).word(code.cast_unsigned()).text(text)
            }
            Self::NoRanks => out.kind(14),
        };
        out.0
    }

    /// The error that [`to_bytes`](Self::to_bytes) wrote; `None` for bytes that it cannot have written.
    pub fn from_bytes(bytes: &[u8]) -> Option<Self> {
        let mut rest = Reader(bytes);
        let input = &mut rest;
        let error = match input.word()? {
            0 => Self::Aborted { by: input.rank()?, cause: input.text()? },
            1 => {
                let (seq, count) = (input.word()?, input.size()?);
                let calls = (0..count).map(|_| Some((input.rank()?, input.call()?)));
                Self::Mismatch { seq, calls: calls.collect::<Option<_>>()? }
            }
            2 => {
                let (op, from, to) = (input.op()?, input.rank()?, input.rank()?);
                Self::Counts { op, from, to, sent: input.size()?, expected: input.size()? }
            }
            3 => {
                let (rank, op, what) = (input.rank()?, input.op()?, input.name()?);
                Self::Length { rank, op, what, got: input.size()?, need: input.size()? }
            }
            4 => Self::Types { rank: input.rank()?, op: input.op()? },
            5 => Self::Root { root: input.rank()?, size: WorldSize(input.size()?) },
            6 => {
                let (call, seq, waited) = (input.call()?, input.word()?, input.duration()?);
                let count = input.size()?;
                let missing =
                    (0..count).map(|_| Some(Missing { rank: input.rank()?, last: input.record()? }));
                Self::Timeout { call, seq, missing: missing.collect::<Option<_>>()?, waited }
            }
            7 => Self::Left { rank: input.rank()?, call: input.call()?, seq: input.word()? },
            8 => Self::Panicked { rank: input.rank()?, message: input.text()?, during: input.record()? },
            9 => {
                let (first, other, ours, our_hash) =
                    (input.rank()?, input.rank()?, input.text()?, input.word()?);
                Self::Plan { first, other, ours, our_hash, theirs: input.text()?, their_hash: input.word()? }
            }
            10 => {
                let (from, what) = (input.rank()?, input.name()?);
                Self::Message { from, what, got: input.size()?, need: input.size()? }
            }
            11 => Self::Shards { size: WorldSize(input.size()?), shards: input.size()? },
            12 => Self::Node { rank: input.rank()?, got: input.size()?, need: input.size()? },
            13 => {
                let (rank, function, code) = (input.rank()?, input.text()?, input.word()?.cast_signed());
                Self::Library { rank, function, code, text: input.text()? }
            }
            14 => Self::NoRanks,
            _ => return None,
        };
        rest.0.is_empty().then_some(error)
    }
}

struct Writer(Vec<u8>);

impl Writer {
    fn word(&mut self, word: u64) -> &mut Self {
        self.0.extend_from_slice(&word.to_le_bytes());
        self
    }

    fn kind(&mut self, kind: u64) -> &mut Self {
        self.word(kind)
    }

    fn size(&mut self, size: usize) -> &mut Self {
        self.word(size as u64)
    }

    fn rank(&mut self, rank: Rank) -> &mut Self {
        self.size(rank.index())
    }

    fn op(&mut self, op: OpKind) -> &mut Self {
        self.word(op as u64)
    }

    fn text(&mut self, text: &str) -> &mut Self {
        self.size(text.len());
        self.0.extend_from_slice(text.as_bytes());
        self
    }

    fn duration(&mut self, duration: Duration) -> &mut Self {
        self.word(u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX))
    }

    fn call(&mut self, call: &Call) -> &mut Self {
        call.to_words().into_iter().fold(self, Self::word)
    }

    fn record(&mut self, record: Option<&OpRecord>) -> &mut Self {
        let Some(record) = record else { return self.word(0) };
        self.word(1).word(record.seq).op(record.op).word(record.bytes).duration(record.started);
        match record.finished {
            Some(finished) => self.word(1).duration(finished),
            None => self.word(0),
        }
    }
}

struct Reader<'a>(&'a [u8]);

impl Reader<'_> {
    fn word(&mut self) -> Option<u64> {
        let (word, rest) = self.0.split_first_chunk()?;
        self.0 = rest;
        Some(u64::from_le_bytes(*word))
    }

    /// A length or a place; also bounds what is read by it, as each item takes at least a byte.
    fn size(&mut self) -> Option<usize> {
        self.word()?.try_into().ok()
    }

    fn rank(&mut self) -> Option<Rank> {
        self.size().map(Rank)
    }

    fn op(&mut self) -> Option<OpKind> {
        OpKind::ALL.get(self.size()?).copied()
    }

    fn text(&mut self) -> Option<Arc<str>> {
        let len = self.size()?;
        let (text, rest) = self.0.split_at_checked(len)?;
        self.0 = rest;
        Some(std::str::from_utf8(text).ok()?.into())
    }

    /// A text that is a name in the program's own source. It stays allocated: a process reads at most one error.
    fn name(&mut self) -> Option<&'static str> {
        Some(Box::leak(Box::from(&*self.text()?)))
    }

    fn duration(&mut self) -> Option<Duration> {
        self.word().map(Duration::from_nanos)
    }

    fn call(&mut self) -> Option<Call> {
        Call::from_words([self.word()?, self.word()?, self.word()?])
    }

    #[expect(clippy::option_option, reason = "the outer one says whether the bytes can be read")]
    fn record(&mut self) -> Option<Option<OpRecord>> {
        if self.word()? == 0 {
            return Some(None);
        }
        let (seq, op, bytes, started) = (self.word()?, self.op()?, self.word()?, self.duration()?);
        let finished = if self.word()? == 0 { None } else { Some(self.duration()?) };
        Some(Some(OpRecord { seq, op, bytes, started, finished }))
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;
    use crate::call::ReduceOp;
    use crate::element::Dtype;

    fn every_error() -> Vec<CommError> {
        let call = Call::new(OpKind::AllReduce).of(Dtype::Bf16, 7).reducing(ReduceOp::Max);
        let (rank, op) = (Rank(3), OpKind::AllToAll);
        let started = Duration::from_nanos(5);
        let record = OpRecord { seq: 4, op, bytes: 9, started, finished: None };
        let finished = OpRecord { finished: Some(Duration::from_nanos(8)), ..record };
        let missing = vec![Missing { rank, last: Some(finished) }, Missing { rank: Rank(1), last: None }];
        vec![
            CommError::Aborted { by: rank, cause: "no space: disk full".into() },
            CommError::Mismatch {
                seq: 5,
                calls: vec![(rank, call), (Rank(0), Call::new(op).from_root(rank))],
            },
            CommError::Counts { op, from: rank, to: Rank(0), sent: 1, expected: 2 },
            CommError::Length { rank, op, what: "counts", got: 1, need: 2 },
            CommError::Types { rank, op },
            CommError::Root { root: rank, size: WorldSize(2) },
            CommError::Timeout { call, seq: 1, missing, waited: Duration::from_secs(9) },
            CommError::Left { rank, call, seq: 1 },
            CommError::Panicked { rank, message: "index".into(), during: Some(record) },
            CommError::Plan {
                first: Rank(0),
                other: rank,
                ours: "a".into(),
                our_hash: 1,
                theirs: String::new().as_str().into(),
                their_hash: u64::MAX,
            },
            CommError::Message { from: rank, what: "plan", got: 1, need: 8 },
            CommError::Shards { size: WorldSize(2), shards: 1 },
            CommError::Node { rank, got: 1, need: 2 },
            CommError::Library { rank, function: "MPI_Bcast".into(), code: -3, text: "truncated".into() },
            CommError::NoRanks,
        ]
    }

    #[test]
    fn every_error_survives_the_way_to_another_process() {
        for error in every_error() {
            assert_eq!(CommError::from_bytes(&error.to_bytes()).as_ref(), Some(&error));
        }
    }

    #[test]
    fn bytes_that_are_no_error_are_refused() {
        for error in every_error() {
            let bytes = error.to_bytes();
            for len in 0..bytes.len() {
                assert_eq!(CommError::from_bytes(&bytes[..len]), None, "{len} bytes of {error:?}");
            }
            assert_eq!(CommError::from_bytes(&[&bytes[..], &[0]].concat()), None);
        }
        assert_eq!(CommError::from_bytes(&[255; 64]), None);
    }
}
