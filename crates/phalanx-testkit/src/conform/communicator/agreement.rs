//! What is built from the collectives: agreement and the comparison of plans.

use super::Check;
use phalanx_comm::{
    CommError, Communicator, Rank, ShardTree, agree_all_gather, agree_broadcast, agree_max, agree_min,
    agree_sum, tree_all_reduce_f64, tree_sum_f64, verify_plan,
};
use std::sync::Arc;

type Comm = Arc<dyn Communicator>;

pub(super) const CHECKS: &[Check] = &[
    Check { name: "agreement is the same on every rank", run: agreement },
    Check { name: "equal plans pass", run: plan },
    Check { name: "a small sum over shards is that of the tree", run: small_tree },
    Check { name: "a large sum over shards is that of the tree", run: large_tree },
];

fn agreement(comm: &Comm) -> Result<(), CommError> {
    let (rank, size) = (comm.rank().index(), comm.size().get());
    let mine = [rank as f64, 1.0];
    let last = (size - 1) as f64;
    assert_eq!(*agree_sum(&**comm, &mine)?, [last * size as f64 / 2.0, size as f64]);
    assert_eq!(*agree_min(&**comm, &mine)?, [0.0, 1.0]);
    assert_eq!(*agree_max(&**comm, &mine)?, [last, 1.0]);
    assert_eq!(*agree_broadcast(&**comm, Rank(size - 1), vec![rank as u8])?, [size as u8 - 1]);
    let gathered = agree_all_gather(&**comm, &vec![rank as u64; rank])?;
    assert!((0..size).all(|other| gathered[other] == vec![other as u64; other]), "{gathered:?}");
    Ok(())
}

fn plan(comm: &Comm) -> Result<(), CommError> {
    verify_plan(&**comm, 42, "one plan for all")
}

fn small_tree(comm: &Comm) -> Result<(), CommError> {
    let size = comm.size();
    for shards in [size.get(), size.get() + 1, 3 * size.get() + 2] {
        let tree = ShardTree::new(shards);
        for k in [0, 1, 5] {
            let of = |shard: usize| -> Vec<f64> { (0..k).map(|i| ((shard * 7 + i) as f64).exp()).collect() };
            let own: Vec<_> = tree.shards_of(comm.rank(), size).flat_map(of).collect();
            let total = tree_all_reduce_f64(&**comm, tree, &own, k)?;
            assert_eq!(*total, tree.fold(&(0..shards).map(of).collect::<Vec<_>>()), "{shards} shards of {k}");
        }
    }
    Ok(())
}

/// Fewer shards than ranks too: some ranks hold none.
fn large_tree(comm: &Comm) -> Result<(), CommError> {
    let size = comm.size();
    for shards in [1, size.get(), 3 * size.get() + 2] {
        let tree = ShardTree::new(shards);
        for k in [0, 1, 5, 64] {
            let of = |shard: usize| -> Vec<f64> { (0..k).map(|i| ((shard * 7 + i) as f64).sin()).collect() };
            let leaves: Vec<_> = (0..shards).map(of).collect();
            let mut nodes = Vec::new();
            for node in tree.cover(tree.shards_of(comm.rank(), size)) {
                // a node that is no root is folded as a tree of its own: the left child has the same rule
                nodes.extend(
                    ShardTree::new(node.end() - node.start()).fold(&leaves[node.start()..node.end()]),
                );
            }
            let total = tree_sum_f64(&**comm, tree, &nodes, k)?;
            assert_eq!(*total, tree.fold(&leaves), "{shards} shards of {k}");
        }
    }
    Ok(())
}
