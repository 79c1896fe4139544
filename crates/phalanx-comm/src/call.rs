//! What a rank asked for: the signature that all ranks compare before a collective touches any memory.

use crate::element::Dtype;
use crate::rank::Rank;
use std::fmt;

/// How numbers of several ranks become one. Ranks are combined in the order 0, 1, 2, ...
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum ReduceOp {
    /// Sum; integers wrap.
    Sum,
    /// Least; NaN if any rank has NaN.
    Min,
    /// Greatest; NaN if any rank has NaN.
    Max,
}

impl ReduceOp {
    const ALL: [Self; 3] = [Self::Sum, Self::Min, Self::Max];
}

impl fmt::Display for ReduceOp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Sum => "sum",
            Self::Min => "min",
            Self::Max => "max",
        })
    }
}

/// The collective operations of a [`Communicator`](crate::Communicator).
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
#[expect(missing_docs, reason = "each variant is the method it names")]
pub enum OpKind {
    AllReduce,
    ReduceScatter,
    AllGather,
    AllToAll,
    Broadcast,
    AllGatherBytes,
    Barrier,
    TreeReduce,
}

impl OpKind {
    pub(crate) const ALL: [Self; 8] = [
        Self::AllReduce,
        Self::ReduceScatter,
        Self::AllGather,
        Self::AllToAll,
        Self::Broadcast,
        Self::AllGatherBytes,
        Self::Barrier,
        Self::TreeReduce,
    ];
}

impl fmt::Display for OpKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::AllReduce => "all_reduce",
            Self::ReduceScatter => "reduce_scatter",
            Self::AllGather => "all_gather",
            Self::AllToAll => "all_to_all",
            Self::Broadcast => "broadcast_bytes",
            Self::AllGatherBytes => "all_gather_bytes",
            Self::Barrier => "barrier",
            Self::TreeReduce => "tree_reduce",
        })
    }
}

/// One call as the ranks compare it: they go on only if all of them made the same one.
///
/// Lengths that may differ between ranks (bytes to gather, the counts of an all-to-all) are not in it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Call {
    /// Which collective.
    pub op: OpKind,
    /// The element type, where there is one.
    pub dtype: Option<Dtype>,
    /// The reduction, where there is one.
    pub reduce: Option<ReduceOp>,
    /// The sending rank of a broadcast.
    pub root: Option<u32>,
    /// Elements that must agree: of the buffer, or of all ranks together.
    pub len: usize,
    /// Digest of the counts a rank, or of the shape of the tree; 0 where there is none.
    pub digest: u64,
}

impl Call {
    /// A call with nothing to agree on but its name.
    pub const fn new(op: OpKind) -> Self {
        Self { op, dtype: None, reduce: None, root: None, len: 0, digest: 0 }
    }

    /// Adds the elements.
    #[must_use]
    pub const fn of(mut self, dtype: Dtype, len: usize) -> Self {
        self.dtype = Some(dtype);
        self.len = len;
        self
    }

    /// Adds the reduction.
    #[must_use]
    pub const fn reducing(mut self, op: ReduceOp) -> Self {
        self.reduce = Some(op);
        self
    }

    /// Adds the root.
    #[must_use]
    pub fn from_root(mut self, root: Rank) -> Self {
        self.root = u32::try_from(root.index()).ok();
        self
    }

    /// Adds the counts a rank, as a digest.
    #[must_use]
    pub fn with_counts(mut self, counts: &[usize]) -> Self {
        self.digest = digest(counts);
        self
    }
}

/// Places of the fields in the first word of a call: one byte each, the root in the upper half. 0 is "none".
const DTYPE_AT: u32 = 8;
const REDUCE_AT: u32 = 16;
const ROOT_AT: u32 = 32;

impl Call {
    /// The call as three words, equal exactly where the calls are: what ranks in several processes compare.
    pub fn to_words(&self) -> [u64; 3] {
        let dtype = self.dtype.map_or(0, |dtype| 1 + dtype as u64);
        let reduce = self.reduce.map_or(0, |reduce| 1 + reduce as u64);
        let root = self.root.map_or(0, |root| 1 + u64::from(root));
        let tag = self.op as u64 | dtype << DTYPE_AT | reduce << REDUCE_AT | root << ROOT_AT;
        [tag, self.len as u64, self.digest]
    }

    /// The call that [`to_words`](Self::to_words) wrote; `None` for words that it cannot have written.
    pub fn from_words([tag, len, digest]: [u64; 3]) -> Option<Self> {
        let byte = |at: u32| usize::from((tag >> at) as u8);
        let pick = |at: u32| byte(at).checked_sub(1);
        Some(Self {
            op: *OpKind::ALL.get(byte(0))?,
            dtype: pick(DTYPE_AT).map(|at| Dtype::ALL.get(at).copied().ok_or(())).transpose().ok()?,
            reduce: pick(REDUCE_AT).map(|at| ReduceOp::ALL.get(at).copied().ok_or(())).transpose().ok()?,
            root: (tag >> ROOT_AT).checked_sub(1).map(u32::try_from).transpose().ok()?,
            len: usize::try_from(len).ok()?,
            digest,
        })
    }
}

impl fmt::Display for Call {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}(", self.op)?;
        let mut separator = "";
        if let Some(reduce) = self.reduce {
            write!(f, "{reduce}")?;
            separator = ", ";
        }
        if let Some(dtype) = self.dtype {
            write!(f, "{separator}{dtype} x {}", self.len)?;
            separator = ", ";
        }
        if let Some(root) = self.root {
            write!(f, "{separator}from rank {root}")?;
            separator = ", ";
        }
        if self.digest != 0 {
            write!(f, "{separator}layout {:08x}", self.digest & 0xffff_ffff)?;
        }
        f.write_str(")")
    }
}

/// FNV-1a over the numbers and their count, as a [`Call`] carries it; never 0, which means "none".
pub fn digest(numbers: &[usize]) -> u64 {
    let mut hash = 0xcbf2_9ce4_8422_2325_u64;
    for &n in [numbers.len()].iter().chain(numbers) {
        for byte in n.to_le_bytes() {
            hash = (hash ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01b3);
        }
    }
    hash.max(1)
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;

    #[test]
    fn a_call_reads_like_the_line_that_made_it() {
        let call = Call::new(OpKind::AllReduce).of(Dtype::F32, 7).reducing(ReduceOp::Sum);
        assert_eq!(call.to_string(), "all_reduce(sum, f32 x 7)");
        assert_eq!(
            Call::new(OpKind::Broadcast).from_root(Rank(2)).to_string(),
            "broadcast_bytes(from rank 2)"
        );
        assert_eq!(Call::new(OpKind::Barrier).to_string(), "barrier()");
    }

    #[test]
    fn a_call_survives_its_words() {
        let call = Call::new(OpKind::TreeReduce).of(Dtype::U64, usize::MAX).reducing(ReduceOp::Max);
        for call in [Call::new(OpKind::AllReduce), call.with_counts(&[1, 2]), call.from_root(Rank(70_000))] {
            assert_eq!(Call::from_words(call.to_words()), Some(call));
        }
        assert_eq!(Call::from_words([u64::MAX, 0, 0]), None);
    }

    #[test]
    fn the_digest_sees_where_a_count_ends() {
        assert_ne!(digest(&[1, 2]), digest(&[2, 1]));
        assert_ne!(digest(&[0]), digest(&[0, 0]));
    }
}
