//! Momentum of each rank's own gradient, or of the mean of its node, before a rule over ranks sees it.

use crate::error::TrainError;
use crate::rank_memory::{self, Keeper, Shared};
use phalanx_comm::Communicator;
use phalanx_grad::StateTensor;

/// The names of its tensors in a checkpoint begin so; the number of a rank or node follows.
const PREFIX: &str = "momentum-of-rank.";

/// Whether a tensor of a checkpoint is a rank's momentum.
pub(crate) fn owns(tensor: &StateTensor) -> bool {
    tensor.name.starts_with(PREFIX)
}

/// `m = beta m + (1 - beta) g` of one rank, or its slice of that of a node.
#[derive(Debug)]
pub(crate) struct RankMomentum {
    beta: f32,
    memory: Vec<f32>,
    keeper: Keeper,
}

impl RankMomentum {
    /// None for `beta` 0.
    pub(crate) fn new(beta: f64, keeper: Keeper) -> Option<Self> {
        #[expect(clippy::cast_possible_truncation, reason = "a setting")]
        let beta = beta as f32;
        (beta > 0.0).then(|| RankMomentum { beta, memory: vec![0.0; keeper.own_len()], keeper })
    }

    /// Puts the momentum in the gradient's place. One with a number that is not finite, here or in the slice of another
    /// rank, stays as it is, for the rule to refuse, and leaves no trace.
    pub(crate) fn apply(&mut self, gradient: &mut [f32], is_finite: bool) {
        if !is_finite {
            return;
        }
        for (m, g) in self.memory.iter_mut().zip(gradient) {
            *m = self.beta * *m + (1.0 - self.beta) * *g;
            *g = *m;
        }
    }

    /// All that a checkpoint needs, on rank 0; nothing on the others.
    ///
    /// # Collective
    /// Every rank.
    pub(crate) fn state(&self, comm: &dyn Communicator) -> Result<Vec<StateTensor>, TrainError> {
        rank_memory::gather(&self.memory, self.keeper, PREFIX, comm)
    }

    /// Takes back what [`state`](Self::state) gave; on another number of ranks or nodes, each begins with the mean.
    pub(crate) fn restore(&mut self, saved: &[StateTensor]) -> Result<(), TrainError> {
        let vectors = rank_memory::find(saved, PREFIX);
        rank_memory::restore(&mut self.memory, self.keeper, &vectors, Shared::Mean).map_err(|got| {
            let what = format!("the momentum of the {}", self.keeper.over.called());
            let elements = |n: usize| format!("{n} elements");
            TrainError::Resume { what, got: elements(got), need: elements(self.keeper.len) }
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::over::Over;
    use phalanx_comm::{Rank, SoloComm};
    use phalanx_grad::StateData;

    fn of(over: Over, rank: usize, size: usize) -> RankMomentum {
        RankMomentum::new(0.9, Keeper { over, rank: Rank(rank), size, len: 2 }).unwrap()
    }

    #[test]
    fn it_averages_and_bears_what_is_not_finite() {
        let solo = Keeper::alone(&SoloComm::new(), 2);
        let mut momentum = RankMomentum::new(0.5, solo).unwrap();
        let mut gradient = [4.0, -8.0];
        momentum.apply(&mut gradient, true);
        assert_eq!(gradient, [2.0, -4.0]);
        let mut bad = [f32::NAN, 1.0];
        momentum.apply(&mut bad, false);
        assert!(bad[0].is_nan() && bad[1] == 1.0);
        let mut gradient = [0.0, 0.0];
        momentum.apply(&mut gradient, true);
        assert_eq!(gradient, [1.0, -2.0]);
        assert!(RankMomentum::new(0.0, solo).is_none());
    }

    #[test]
    fn ranks_begin_where_they_were_or_with_the_mean() {
        let saved_by = |rank: usize, m: [f32; 2]| StateTensor {
            name: format!("{PREFIX}{rank}"),
            data: StateData::F32(m.to_vec()),
        };
        let saved = [saved_by(0, [1.0, 2.0]), saved_by(1, [3.0, 6.0])];
        let restored = |over: Over, rank: usize, size: usize| {
            let mut momentum = of(over, rank, size);
            momentum.restore(&saved).unwrap();
            momentum.memory
        };
        assert_eq!(restored(Over::Ranks, 1, 2), [3.0, 6.0]);
        assert_eq!(restored(Over::Ranks, 2, 3), [2.0, 4.0]);
        let nodes = Over::Nodes { ranks_per_node: 2 };
        assert_eq!((restored(nodes, 1, 4), restored(nodes, 2, 4)), (vec![2.0], vec![3.0]));
        assert_eq!(restored(nodes, 4, 6), [2.0], "three nodes begin with the mean of two");
        let error = of(nodes, 0, 4).restore(&[]).unwrap_err().to_string();
        assert!(error.contains("the momentum of the nodes") && error.contains("2 elements"), "{error}");
        let state = of(Over::Ranks, 0, 1).state(&SoloComm::new()).unwrap();
        assert!(state.iter().all(owns) && state.len() == 1);
    }
}
