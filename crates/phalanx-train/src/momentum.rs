//! Momentum of each rank's own gradient, before a rule over ranks sees it.

use crate::error::TrainError;
use crate::rank_memory::{self, Shared};
use phalanx_comm::{Communicator, Rank};
use phalanx_grad::StateTensor;

/// The names of its tensors in a checkpoint begin so; the number of a rank follows.
const PREFIX: &str = "momentum-of-rank.";

/// Whether a tensor of a checkpoint is a rank's momentum.
pub(crate) fn owns(tensor: &StateTensor) -> bool {
    tensor.name.starts_with(PREFIX)
}

/// `m = beta m + (1 - beta) g` of one rank.
#[derive(Debug)]
pub(crate) struct RankMomentum {
    beta: f32,
    memory: Vec<f32>,
}

impl RankMomentum {
    /// None for `beta` 0.
    pub(crate) fn new(beta: f64, len: usize) -> Option<Self> {
        #[expect(clippy::cast_possible_truncation, reason = "a setting")]
        let beta = beta as f32;
        (beta > 0.0).then(|| RankMomentum { beta, memory: vec![0.0; len] })
    }

    /// Puts the momentum in the gradient's place. One with a number that is not finite stays as it is, for the rule to
    /// refuse, and leaves no trace.
    pub(crate) fn apply(&mut self, gradient: &mut [f32]) {
        if gradient.iter().any(|g| !g.is_finite()) {
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
        rank_memory::gather(&self.memory, PREFIX, comm)
    }

    /// Takes back what [`state`](Self::state) gave; on another number of ranks, each begins with the mean.
    pub(crate) fn restore(
        &mut self,
        rank: Rank,
        size: usize,
        saved: &[StateTensor],
    ) -> Result<(), TrainError> {
        let vectors = rank_memory::find(saved, PREFIX);
        rank_memory::restore(&mut self.memory, rank, size, &vectors, Shared::Mean).map_err(|got| {
            let what = "the momentum of the ranks".to_owned();
            let elements = |n: usize| format!("{n} elements");
            TrainError::Resume { what, got: elements(got), need: elements(self.memory.len()) }
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use phalanx_comm::SoloComm;
    use phalanx_grad::StateData;

    #[test]
    fn it_averages_and_bears_what_is_not_finite() {
        let mut momentum = RankMomentum::new(0.5, 2).unwrap();
        let mut gradient = [4.0, -8.0];
        momentum.apply(&mut gradient);
        assert_eq!(gradient, [2.0, -4.0]);
        let mut bad = [f32::NAN, 1.0];
        momentum.apply(&mut bad);
        assert!(bad[0].is_nan() && bad[1] == 1.0);
        let mut gradient = [0.0, 0.0];
        momentum.apply(&mut gradient);
        assert_eq!(gradient, [1.0, -2.0]);
        assert!(RankMomentum::new(0.0, 2).is_none());
    }

    #[test]
    fn ranks_begin_where_they_were_or_with_the_mean() {
        let of = |rank: usize, m: [f32; 2]| StateTensor {
            name: format!("{PREFIX}{rank}"),
            data: StateData::F32(m.to_vec()),
        };
        let saved = [of(0, [1.0, 2.0]), of(1, [3.0, 6.0])];
        let mut momentum = RankMomentum::new(0.9, 2).unwrap();
        momentum.restore(Rank(1), 2, &saved).unwrap();
        assert_eq!(momentum.memory, [3.0, 6.0]);
        momentum.restore(Rank(2), 3, &saved).unwrap();
        assert_eq!(momentum.memory, [2.0, 4.0]);
        let error = momentum.restore(Rank(0), 2, &[]).unwrap_err().to_string();
        assert!(error.contains("the momentum of the ranks") && error.contains("2 elements"), "{error}");
        let state = momentum.state(&SoloComm::new()).unwrap();
        assert!(state.iter().all(owns) && state.len() == 1);
    }
}
