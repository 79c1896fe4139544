//! The mean inside a node, where a rule compares nodes: each rank of the node adds up a slice of the coordinates.

use crate::error::TrainError;
use crate::over::Over;
use phalanx_comm::{Communicator, CommunicatorExt};
use std::sync::Arc;

/// The ranks of this rank's node, and its slice of their sum.
#[derive(Debug)]
pub(crate) struct NodeMean {
    node: Arc<dyn Communicator>,
    /// Numbers of the slice of each rank of the node.
    counts: Vec<usize>,
    slice: Vec<f32>,
}

impl NodeMean {
    /// None where the rule compares ranks.
    ///
    /// # Collective
    /// Every rank.
    pub(crate) fn new(over: Over, comm: &dyn Communicator, len: usize) -> Result<Option<Self>, TrainError> {
        if over == Over::Ranks {
            return Ok(None);
        }
        let (rank, size) = (comm.rank().index(), comm.size().get());
        let node = over.sender(rank);
        let Some(ranks) = comm.split(Some(node), rank)? else { return Ok(None) };
        let slices = over.slices(size, len);
        let counts: Vec<usize> = over.ranks_of(node, size).map(|rank| slices[rank].len()).collect();
        let slice = vec![0.0; slices[rank].len()];
        Ok(Some(NodeMean { node: ranks, counts, slice }))
    }

    /// This rank's slice of `scale` times the sum over the node, and whether all of the sum is finite.
    ///
    /// # Numerics
    /// In the order of ranks for each number: the bits do not depend on how the node cuts its slices.
    ///
    /// # Collective
    /// Every rank of the node, with gradients of one length.
    pub(crate) fn of(&mut self, gradient: &[f32], scale: f32) -> Result<(&mut [f32], bool), TrainError> {
        self.node.reduce_scatter_sum(gradient, &self.counts, &mut self.slice)?;
        self.slice.iter_mut().for_each(|x| *x *= scale);
        let mut nonfinite = [f64::from(u8::from(self.slice.iter().any(|x| !x.is_finite())))];
        self.node.all_reduce_max(&mut nonfinite)?;
        Ok((&mut self.slice, nonfinite[0] == 0.0))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use phalanx_comm::{Options, WorldSize, run_ranks};

    /// Ranks 0 and 1 send 1 and 2 times `k`, ranks 2 and 3 send 3 and 4 times, and rank 4, a node by itself, 5 times.
    #[test]
    fn each_rank_has_its_slice_of_the_sum_of_its_node() {
        let over = Over::Nodes { ranks_per_node: 2 };
        let slices = run_ranks(WorldSize(5), &Options::default(), move |comm| {
            let gradient: Vec<f32> = (0..5).map(|k| ((comm.rank().index() + 1) * k) as f32).collect();
            let mut mean = NodeMean::new(over, &*comm, 5)?.expect("nodes are compared");
            let (slice, is_finite) = mean.of(&gradient, 0.5)?;
            assert!(is_finite);
            Ok::<_, TrainError>(slice.to_vec())
        });
        let need = [vec![0.0, 1.5, 3.0], vec![4.5, 6.0], vec![0.0, 3.5, 7.0], vec![10.5, 14.0]];
        let slices = slices.expect("no rank fails");
        assert_eq!(slices[..4], need);
        assert_eq!(slices[4], [0.0, 2.5, 5.0, 7.5, 10.0]);
    }

    #[test]
    fn a_number_that_is_not_finite_is_seen_by_the_whole_node_and_no_other() {
        let over = Over::Nodes { ranks_per_node: 2 };
        let finite = run_ranks(WorldSize(4), &Options::default(), move |comm| {
            let mut gradient = vec![1.0; 4];
            gradient[3] = if comm.rank().index() == 2 { f32::NAN } else { 1.0 };
            let mut mean = NodeMean::new(over, &*comm, 4)?.expect("nodes are compared");
            Ok::<_, TrainError>(mean.of(&gradient, 1.0)?.1)
        });
        assert_eq!(finite.expect("no rank fails"), [true, true, false, false]);
    }

    #[test]
    fn ranks_that_are_compared_themselves_have_no_node() {
        let solo = phalanx_comm::SoloComm::new();
        assert!(NodeMean::new(Over::Ranks, &solo, 3).expect("no communication").is_none());
    }
}
