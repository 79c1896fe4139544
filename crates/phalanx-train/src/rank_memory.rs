//! Vectors that each rank keeps for itself, in a checkpoint and back.

use crate::error::TrainError;
use phalanx_comm::{Communicator, CommunicatorExt, Rank};
use phalanx_grad::StateTensor;

/// The vectors of all ranks on rank 0, each under `prefix` and the rank's number; nothing on the others.
///
/// # Collective
/// Every rank, with vectors of one length.
pub(crate) fn gather(
    own: &[f32],
    prefix: &str,
    comm: &dyn Communicator,
) -> Result<Vec<StateTensor>, TrainError> {
    let (d, size, is_root) = (own.len(), comm.size().get(), comm.rank() == Rank(0));
    if d == 0 {
        return Ok(Vec::new());
    }
    let mut to_root = vec![0; size];
    to_root[0] = d;
    let from = vec![if is_root { d } else { 0 }; size];
    let mut all = vec![0.0; from.iter().sum()];
    comm.all_to_all_into(own, &to_root, &mut all, &from)?;
    let vectors = all.chunks_exact(d).enumerate();
    Ok(vectors.map(|(rank, vector)| StateTensor::new(format!("{prefix}{rank}"), vector)).collect())
}

/// The vectors that [`gather`] put under `prefix`, by rank.
pub(crate) fn find<'a>(saved: &'a [StateTensor], prefix: &str) -> Vec<&'a [f32]> {
    let of_rank = |rank: usize| {
        let name = format!("{prefix}{rank}");
        saved.iter().find(|t| t.name == name).and_then(|t| t.data.elems::<f32>())
    };
    (0..).map_while(of_rank).collect()
}

/// What a rank does with the vectors of another number of ranks.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Shared {
    /// Takes their mean.
    Mean,
    /// Takes an equal part of their sum.
    Sum,
}

/// Gives a rank of `size` its vector again, or a new one where the number of ranks differs.
///
/// # Errors
/// The length of a vector that is not as long as `own`, 0 where there is none.
pub(crate) fn restore(
    own: &mut [f32],
    rank: Rank,
    size: usize,
    vectors: &[&[f32]],
    shared: Shared,
) -> Result<(), usize> {
    let differs = vectors.iter().map(|vector| vector.len()).find(|len| *len != own.len());
    if let Some(got) = differs.or(vectors.is_empty().then_some(0)) {
        return Err(got);
    }
    if vectors.len() == size {
        own.copy_from_slice(vectors[rank.index()]);
        return Ok(());
    }
    own.fill(0.0);
    for vector in vectors {
        own.iter_mut().zip(*vector).for_each(|(own, from)| *own += from);
    }
    #[expect(clippy::cast_precision_loss, reason = "there are few ranks")]
    let parts = match shared {
        Shared::Mean => vectors.len(),
        Shared::Sum => size,
    } as f32;
    own.iter_mut().for_each(|own| *own /= parts);
    Ok(())
}
