//! Vectors that each rank keeps for itself, or the ranks of a node in slices, in a checkpoint and back.

use crate::error::TrainError;
use crate::over::Over;
use phalanx_comm::{Communicator, CommunicatorExt, Rank};
use phalanx_grad::StateTensor;
use std::ops::Range;

/// What a rank keeps: its own vector, or a slice of its node's.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Keeper {
    pub(crate) over: Over,
    pub(crate) rank: Rank,
    pub(crate) size: usize,
    /// Numbers of a vector.
    pub(crate) len: usize,
}

impl Keeper {
    /// A rank of `comm` that keeps its own vector.
    pub(crate) fn alone(comm: &dyn Communicator, len: usize) -> Self {
        Keeper { over: Over::Ranks, rank: comm.rank(), size: comm.size().get(), len }
    }

    /// Numbers that this rank keeps.
    pub(crate) fn own_len(self) -> usize {
        self.slices()[self.rank.index()].len()
    }

    fn slices(self) -> Vec<Range<usize>> {
        self.over.slices(self.size, self.len)
    }
}

/// The vectors of all ranks or nodes on rank 0, each under `prefix` and its number; nothing on the other ranks.
///
/// # Collective
/// Every rank, with what it keeps of vectors of one length.
pub(crate) fn gather(
    own: &[f32],
    keeper: Keeper,
    prefix: &str,
    comm: &dyn Communicator,
) -> Result<Vec<StateTensor>, TrainError> {
    let Keeper { size, len, rank, .. } = keeper;
    if len == 0 {
        return Ok(Vec::new());
    }
    let mut to_root = vec![0; size];
    to_root[0] = own.len();
    let from: Vec<usize> = match rank {
        Rank::ZERO => keeper.slices().iter().map(Range::len).collect(),
        _ => vec![0; size],
    };
    let mut all = vec![0.0; from.iter().sum()];
    comm.all_to_all_into(own, &to_root, &mut all, &from)?;
    let vectors = all.chunks_exact(len).enumerate();
    Ok(vectors.map(|(sender, vector)| StateTensor::new(format!("{prefix}{sender}"), vector)).collect())
}

/// The vectors that [`gather`] put under `prefix`, by number.
pub(crate) fn find<'a>(saved: &'a [StateTensor], prefix: &str) -> Vec<&'a [f32]> {
    let of_sender = |sender: usize| {
        let name = format!("{prefix}{sender}");
        saved.iter().find(|t| t.name == name).and_then(|t| t.data.elems::<f32>())
    };
    (0..).map_while(of_sender).collect()
}

/// What a rank does with the vectors of another number of ranks or nodes.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Shared {
    /// Takes their mean.
    Mean,
    /// Takes an equal part of their sum.
    Sum,
}

/// Gives a rank what it kept again, or something new where there are another number of ranks or nodes.
///
/// # Errors
/// The length of a vector that is not as long as the keeper's, 0 where there is none.
pub(crate) fn restore(
    own: &mut [f32],
    keeper: Keeper,
    vectors: &[&[f32]],
    shared: Shared,
) -> Result<(), usize> {
    let Keeper { over, rank, size, len } = keeper;
    let differs = vectors.iter().map(|vector| vector.len()).find(|got| *got != len);
    if let Some(got) = differs.or(vectors.is_empty().then_some(0)) {
        return Err(got);
    }
    let (slice, senders) = (keeper.slices()[rank.index()].clone(), over.senders(size));
    if vectors.len() == senders {
        own.copy_from_slice(&vectors[over.sender(rank.index())][slice]);
        return Ok(());
    }
    own.fill(0.0);
    for vector in vectors {
        own.iter_mut().zip(&vector[slice.clone()]).for_each(|(own, from)| *own += from);
    }
    #[expect(clippy::cast_precision_loss, reason = "there are few of them")]
    let parts = match shared {
        Shared::Mean => vectors.len(),
        Shared::Sum => senders,
    } as f32;
    own.iter_mut().for_each(|own| *own /= parts);
    Ok(())
}
