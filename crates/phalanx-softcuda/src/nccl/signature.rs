//! What a rank called, as ranks are compared by it.

use super::arithmetic::{ReduceOp, Type};
use std::fmt;

/// The collectives.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    AllReduce,
    ReduceScatter,
    AllGather,
    Broadcast,
    Reduce,
}

impl Kind {
    const ALL: [Kind; 5] =
        [Kind::AllReduce, Kind::ReduceScatter, Kind::AllGather, Kind::Broadcast, Kind::Reduce];

    const fn name(self) -> &'static str {
        match self {
            Kind::AllReduce => "ncclAllReduce",
            Kind::ReduceScatter => "ncclReduceScatter",
            Kind::AllGather => "ncclAllGather",
            Kind::Broadcast => "ncclBroadcast",
            Kind::Reduce => "ncclReduce",
        }
    }
}

/// A collective without its numbers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Signature {
    pub(super) kind: Kind,
    pub(super) dtype: Type,
    /// As the function takes it: per rank, where ranks have parts.
    pub(super) count: u64,
    pub(super) op: Option<ReduceOp>,
    pub(super) root: Option<u32>,
}

impl Signature {
    /// Bytes that a rank gives.
    pub(super) fn given(&self, rank: u32, ranks: u32) -> u64 {
        let one = self.count * self.dtype.bytes();
        match self.kind {
            Kind::ReduceScatter => one * u64::from(ranks),
            Kind::Broadcast if self.root != Some(rank) => 0,
            _ => one,
        }
    }

    pub(super) fn to_words(self) -> [u64; 5] {
        let kind = Kind::ALL.iter().position(|kind| *kind == self.kind).unwrap_or_default();
        [
            kind as u64,
            u64::from(self.dtype.code()),
            self.count,
            self.op.map_or(u64::MAX, |op| u64::from(op.code())),
            self.root.map_or(u64::MAX, u64::from),
        ]
    }

    pub(super) fn from_words([kind, dtype, count, op, root]: [u64; 5]) -> Option<Self> {
        let small = |word: u64| u32::try_from(word).ok();
        Some(Signature {
            kind: *Kind::ALL.get(usize::try_from(kind).ok()?)?,
            dtype: Type::of(small(dtype)?)?,
            count,
            op: small(op).and_then(ReduceOp::of),
            root: small(root),
        })
    }
}

impl fmt::Display for Signature {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}(", self.kind.name())?;
        if let Some(op) = self.op {
            write!(f, "{}, ", op.name())?;
        }
        write!(f, "{} x {}", self.dtype.name(), self.count)?;
        if let Some(root) = self.root {
            write!(f, ", root {root}")?;
        }
        f.write_str(")")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_signature_survives_its_words_and_reads_like_the_call() {
        let sum = Signature {
            kind: Kind::AllReduce,
            dtype: Type::F32,
            count: 7,
            op: Some(ReduceOp::Sum),
            root: None,
        };
        let broadcast = Signature { kind: Kind::Broadcast, op: None, root: Some(2), ..sum };
        for signature in [sum, broadcast] {
            assert_eq!(Signature::from_words(signature.to_words()), Some(signature));
        }
        assert_eq!(sum.to_string(), "ncclAllReduce(sum, float32 x 7)");
        assert_eq!(broadcast.to_string(), "ncclBroadcast(float32 x 7, root 2)");
        assert_eq!(Signature::from_words([9, 0, 0, 0, 0]), None);
    }

    #[test]
    fn parts_are_as_long_as_the_function_says() {
        let of = |kind, root| Signature { kind, dtype: Type::F64, count: 3, op: None, root };
        let bytes = |s: Signature| [s.given(0, 4), s.given(1, 4)];
        assert_eq!(bytes(of(Kind::AllReduce, None)), [24, 24]);
        assert_eq!(bytes(of(Kind::ReduceScatter, None)), [96, 96]);
        assert_eq!(bytes(of(Kind::AllGather, None)), [24, 24]);
        assert_eq!(bytes(of(Kind::Broadcast, Some(1))), [0, 24]);
        assert_eq!(bytes(of(Kind::Reduce, Some(1))), [24, 24]);
    }
}
