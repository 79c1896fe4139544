//! The reproducible sum has the bits of one sequential fold, however it is cut.

use phalanx_comm::{
    CommError, Options, Rank, Region, ShardTree, TreeAccumulator, TreeNodes, WorldSize, run_ranks,
};
use phalanx_testkit::exact::rough;
use phalanx_testkit::strategy::{TreeCase, tree_case};
use proptest::prelude::{ProptestConfig, prop_assert, prop_assert_eq, proptest};

fn shard(shard: usize, len: usize) -> Vec<f32> {
    (0..len).map(|i| rough(shard, i)).collect()
}

/// The total on every rank, as bits.
fn on_ranks(case: &TreeCase) -> Vec<Vec<u32>> {
    let TreeCase { shards, ranks, len, cut } = *case;
    let tree = ShardTree::new(shards);
    run_ranks(WorldSize(ranks), &Options::default(), move |comm| {
        let mut sum = TreeAccumulator::new(tree, tree.shards_of(comm.rank(), comm.size()));
        while let Some(due) = sum.next_shard() {
            let mut leaf = sum.spare().unwrap_or_else(|| Region::zeroed(len));
            leaf.copy_from_slice(&shard(due, len));
            sum.push(leaf);
        }
        let mut front = sum.finish();
        let back: TreeNodes = front.iter_mut().map(|(id, region)| (*id, region.split_off(cut))).collect();
        let (back, front) = (comm.start_tree_reduce(tree, back)?, comm.start_tree_reduce(tree, front)?);
        let (front, back) = (front.wait()?, back.wait()?);
        Ok::<_, CommError>(front[0].1.iter().chain(&*back[0].1).map(|x| x.to_bits()).collect())
    })
    .expect("no rank fails")
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 40, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn any_cut_gives_the_bits_of_the_fold(case in tree_case()) {
        let shards: Vec<_> = (0..case.shards).map(|i| shard(i, case.len)).collect();
        let expected: Vec<_> = ShardTree::new(case.shards).fold(&shards).iter().map(|x| x.to_bits()).collect();
        for (rank, total) in on_ranks(&case).iter().enumerate() {
            prop_assert!(*total == expected, "rank {} of {:?}", rank, case);
        }
    }

    #[test]
    fn the_nodes_of_all_ranks_cover_each_shard_once(shards in 1..200_usize, ranks in 1..20_usize) {
        let (tree, size) = (ShardTree::new(shards), WorldSize(ranks));
        let mut next = 0;
        for rank in (0..ranks).map(Rank) {
            for node in tree.cover(tree.shards_of(rank, size)) {
                prop_assert_eq!(node.start(), next);
                next = node.end();
                // it is maximal: its parent reaches beyond this rank's shards
                if let Some(parent) = tree.parent(node) {
                    let own = tree.shards_of(rank, size);
                    prop_assert!(parent.start() < own.start || parent.end() > own.end);
                }
            }
        }
        prop_assert_eq!(next, shards);
        let mut merges = Vec::new();
        let nodes: Vec<_> = (0..ranks).flat_map(|rank| tree.cover(tree.shards_of(Rank(rank), size))).collect();
        tree.merges(nodes.iter().copied(), &mut merges);
        prop_assert_eq!(merges.len(), nodes.len() - 1);
    }
}
