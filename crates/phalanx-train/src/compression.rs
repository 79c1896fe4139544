//! What compressors remember, in a checkpoint and back.

use crate::error::TrainError;
use crate::over::Over;
use crate::rank_memory::{self, Keeper, Shared};
use phalanx_comm::{Communicator, Rank};
use phalanx_compress::{CompressError, Compressor};
use phalanx_grad::StateTensor;

/// The names of a compressor's tensors begin so among those of the optimizer.
const PREFIX: &str = "compression.";

/// The memory of each rank stands under this and its number.
const MEMORY: &str = "compression.memory.";

/// Whether a tensor of a checkpoint is a compressor's.
pub(crate) fn owns(tensor: &StateTensor) -> bool {
    tensor.name.starts_with(PREFIX)
}

/// All that a checkpoint needs, on rank 0; nothing on the others.
///
/// # Collective
/// Every rank.
pub(crate) fn state(
    compressor: &dyn Compressor,
    comm: &dyn Communicator,
) -> Result<Vec<StateTensor>, TrainError> {
    let memory = compressor.memory();
    let mut tensors = rank_memory::gather(memory, Keeper::alone(comm, memory.len()), MEMORY, comm)?;
    if comm.rank() == Rank(0) {
        let shared = compressor.state().into_iter();
        tensors.extend(shared.map(|t| StateTensor { name: format!("{PREFIX}{}", t.name), data: t.data }));
    }
    Ok(tensors)
}

/// Puts what [`state`] gave back into one of `size` ranks.
///
/// What ranks owed is theirs again; on another number of ranks, each takes an equal part of the sum.
pub(crate) fn restore(
    compressor: &mut dyn Compressor,
    rank: Rank,
    size: usize,
    saved: &[StateTensor],
) -> Result<(), TrainError> {
    let strip = |t: &StateTensor| {
        let name = t.name.strip_prefix(PREFIX)?.to_owned();
        Some(StateTensor { name, data: t.data.clone() })
    };
    let shared = saved.iter().filter(|t| !t.name.starts_with(MEMORY));
    compressor.restore(&shared.filter_map(strip).collect::<Vec<_>>())?;
    let own = compressor.memory_mut();
    if own.is_empty() {
        return Ok(());
    }
    let memories = rank_memory::find(saved, MEMORY);
    let keeper = Keeper { over: Over::Ranks, rank, size, len: own.len() };
    rank_memory::restore(own, keeper, &memories, Shared::Sum)
        .map_err(|got| CompressError::State { what: "memory", got, need: own.len() }.into())
}

#[cfg(test)]
mod tests {
    use super::*;
    use phalanx_comm::{Region, SoloComm};
    use phalanx_compress::{BucketLayout, TopK};
    use phalanx_grad::StateData;
    use std::sync::Arc;

    fn compressor(len: usize) -> TopK {
        let mut top_k = TopK::new(0.5).unwrap();
        let comm: Arc<dyn Communicator> = Arc::new(SoloComm::new());
        top_k.prepare(&comm, &[BucketLayout { len, matrices: Vec::new() }]).unwrap();
        top_k
    }

    fn saved(memories: &[&[f32]]) -> Vec<StateTensor> {
        let tensor = |(rank, memory): (usize, &&[f32])| StateTensor {
            name: format!("{MEMORY}{rank}"),
            data: StateData::F32(memory.to_vec()),
        };
        memories.iter().enumerate().map(tensor).collect()
    }

    #[test]
    fn what_ranks_owe_is_theirs_again_or_shared_evenly() {
        let saved = saved(&[&[1.0, 2.0], &[3.0, 6.0], &[5.0, -2.0]]);
        let mut own = compressor(2);
        restore(&mut own, Rank(1), 3, &saved).unwrap();
        assert_eq!(own.memory(), [3.0, 6.0]);
        restore(&mut own, Rank(1), 2, &saved).unwrap();
        assert_eq!(own.memory(), [4.5, 3.0], "half of the sum");
    }

    #[test]
    fn what_was_saved_is_what_is_restored() {
        let mut own = compressor(3);
        let mut part = Region::zeroed(3);
        part.copy_from_slice(&[0.5, -4.0, 1.0]);
        own.start(1, 0, part).unwrap();
        let state = state(&own, &SoloComm::new()).unwrap();
        assert!(state.iter().all(owns));
        let mut other = compressor(3);
        restore(&mut other, Rank(0), 1, &state).unwrap();
        assert_eq!(other.memory(), [0.5, 0.0, 0.0]);
    }

    #[test]
    fn memories_of_another_model_are_refused() {
        let message = |saved: &[StateTensor]| {
            let error = restore(&mut compressor(4), Rank(0), 2, saved).unwrap_err();
            std::error::Error::source(&error).unwrap().to_string()
        };
        assert_eq!(message(&[]), "the compressor's memory has 0 elements, need 4");
        let mixed = saved(&[&[0.0; 4], &[0.0; 3]]);
        assert_eq!(message(&mixed), "the compressor's memory has 3 elements, need 4");
    }
}
