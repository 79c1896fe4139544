//! Ranks that do different things: every one of them must get the same error, which says what.

use phalanx_comm::{
    CommError, Communicator, CommunicatorExt, NodeId, OpKind, Rank, ReduceOp, Region, ShardTree, SliceMut,
    verify_plan,
};
use std::sync::Arc;

type Comm = Arc<dyn Communicator>;

/// One way to disagree. The last rank is the one that is different; needs two ranks, and a world of its own.
#[derive(Clone, Copy, Debug)]
pub struct Disagreement {
    /// What the last rank does, in words.
    pub name: &'static str,
    /// Runs it on one rank; every rank must get an error.
    pub run: fn(&Comm) -> Result<(), CommError>,
    /// Whether an error says what happened; the last rank is the argument.
    pub says: fn(&CommError, Rank) -> bool,
}

/// All ways to disagree.
pub fn disagreements() -> impl Iterator<Item = Disagreement> {
    CASES.iter().copied()
}

fn is_last(comm: &Comm) -> bool {
    comm.rank().index() + 1 == comm.size().get()
}

/// A mismatch in which the last rank made another call than rank 0.
fn mismatch(error: &CommError, last: Rank) -> bool {
    match error {
        CommError::Mismatch { calls, .. } => {
            calls.len() == last.index() + 1
                && calls[last.index()].1 != calls[0].1
                && calls[last.index()].0 == last
        }
        _ => false,
    }
}

const CASES: &[Disagreement] = &[
    Disagreement {
        name: "a shorter buffer, small",
        run: |comm| comm.all_reduce_sum(&mut vec![1.0_f32; if is_last(comm) { 3 } else { 4 }]),
        says: mismatch,
    },
    Disagreement {
        name: "a longer buffer, large",
        run: |comm| comm.all_reduce_sum(&mut vec![1.0_f32; if is_last(comm) { 90_000 } else { 80_000 }]),
        says: mismatch,
    },
    Disagreement {
        name: "a large buffer where the others have a small one",
        run: |comm| comm.all_reduce_sum(&mut vec![1.0_f32; if is_last(comm) { 80_000 } else { 1 }]),
        says: mismatch,
    },
    Disagreement {
        name: "another element type of the same size",
        run: |comm| {
            if is_last(comm) { comm.all_reduce_sum(&mut [1_u64]) } else { comm.all_reduce_sum(&mut [1_f64]) }
        },
        says: mismatch,
    },
    Disagreement {
        name: "another reduction",
        run: |comm| {
            let op = if is_last(comm) { ReduceOp::Max } else { ReduceOp::Min };
            comm.all_reduce_in_place(SliceMut::from(&mut [0.0_f32; 500][..]), op)
        },
        says: |error, last| mismatch(error, last) && error.to_string().contains("all_reduce(max, f32 x 500)"),
    },
    Disagreement {
        name: "another collective",
        run: |comm| if is_last(comm) { comm.barrier() } else { comm.all_reduce_sum(&mut [1_f64; 100]) },
        says: |error, last| mismatch(error, last) && error.to_string().contains("called barrier()"),
    },
    Disagreement {
        name: "two collectives in the other order",
        run: |comm| {
            if is_last(comm) {
                comm.all_gather_bytes(&[1])?;
                comm.barrier()
            } else {
                comm.barrier()?;
                comm.all_gather_bytes(&[1]).map(drop)
            }
        },
        says: mismatch,
    },
    Disagreement {
        name: "another root",
        run: |comm| {
            let root = if is_last(comm) { comm.rank() } else { Rank::ZERO };
            comm.broadcast_bytes(root, &mut vec![1; 10])
        },
        says: mismatch,
    },
    Disagreement {
        name: "other counts with the same total",
        run: |comm| {
            let size = comm.size().get();
            let mut counts = vec![10; size];
            if is_last(comm) {
                (counts[0], counts[size - 1]) = (9, 11);
            }
            let send = vec![1.0_f32; counts[comm.rank().index()]];
            comm.all_gather_into(&send, &counts, &mut vec![0.0; 10 * size])
        },
        says: mismatch,
    },
    Disagreement {
        name: "an expectation that the sender does not share",
        run: |comm| {
            let size = comm.size().get();
            let (send_counts, mut recv_counts) = (vec![2; size], vec![2; size]);
            if is_last(comm) {
                recv_counts[0] = 3;
            }
            let mut recv = vec![0.0_f32; recv_counts.iter().sum()];
            comm.all_to_all_into(&vec![1.0; 2 * size], &send_counts, &mut recv, &recv_counts)
        },
        says: |error, last| {
            let (op, from) = (OpKind::AllToAll, Rank::ZERO);
            *error == CommError::Counts { op, from, to: last, sent: 2, expected: 3 }
        },
    },
    Disagreement {
        name: "a buffer that does not fit its counts",
        run: |comm| {
            let size = comm.size().get();
            let send = vec![1.0_f32; if is_last(comm) { 4 } else { 5 }];
            comm.all_gather_into(&send, &vec![5; size], &mut vec![0.0; 5 * size])
        },
        says: |error, last| {
            let (op, what) = (OpKind::AllGather, "elements to send");
            *error == CommError::Length { rank: last, op, what, got: 4, need: 5 }
        },
    },
    Disagreement {
        name: "too few counts",
        run: |comm| {
            let size = comm.size().get();
            let counts = vec![5; if is_last(comm) { size - 1 } else { size }];
            comm.reduce_scatter_sum(&vec![1.0_f32; 5 * size], &counts, &mut [0.0; 5])
        },
        says: |error, last| matches!(error, CommError::Length { rank, what: "counts", .. } if *rank == last),
    },
    Disagreement {
        name: "two element types in one call",
        run: |comm| {
            let counts = vec![1; comm.size().get()];
            let (mut single, mut double) = (vec![0.0_f32; counts.len()], vec![0.0_f64; counts.len()]);
            let recv = if is_last(comm) { (&mut *double).into() } else { (&mut *single).into() };
            comm.all_gather((&[1.0_f32][..]).into(), &counts, recv)
        },
        says: |error, last| *error == CommError::Types { rank: last, op: OpKind::AllGather },
    },
    Disagreement {
        name: "a root that is not there",
        run: |comm| {
            let root = if is_last(comm) { Rank(99) } else { Rank::ZERO };
            comm.broadcast_bytes(root, &mut Vec::new())
        },
        says: |error, _| matches!(error, CommError::Root { root: Rank(99), .. }),
    },
    Disagreement {
        name: "a started collective of another length",
        run: |comm| {
            let len = if is_last(comm) { 4000 } else { 5000 };
            let first = comm.start_all_reduce(comm.alloc(3000)?, ReduceOp::Sum)?;
            let second = comm.start_all_reduce(Region::zeroed(len), ReduceOp::Sum)?;
            first.wait()?;
            second.wait().map(drop)
        },
        says: mismatch,
    },
    Disagreement {
        name: "a blocking collective where the others started another one",
        run: |comm| {
            if is_last(comm) {
                return comm.barrier();
            }
            comm.start_all_reduce(comm.alloc(3000)?, ReduceOp::Sum)?.wait().map(drop)
        },
        says: mismatch,
    },
    Disagreement {
        name: "one started collective more",
        run: |comm| {
            let extra = is_last(comm)
                .then(|| comm.start_all_reduce(Region::zeroed(3000), ReduceOp::Sum))
                .transpose()?;
            comm.barrier()?;
            extra.map_or(Ok(()), |pending| pending.wait().map(drop))
        },
        says: mismatch,
    },
    Disagreement {
        name: "a tree of another number of shards",
        run: |comm| {
            let tree = ShardTree::new(if is_last(comm) { 17 } else { 16 });
            let nodes = tree.cover(tree.shards_of(comm.rank(), comm.size()));
            let nodes = nodes.map(|node| (node, Region::zeroed(100))).collect();
            comm.start_tree_reduce(tree, nodes)?.wait().map(drop)
        },
        says: mismatch,
    },
    Disagreement {
        name: "a tree node that is not its own",
        run: |comm| {
            let tree = ShardTree::new(comm.size().get());
            let mine = NodeId::leaf(comm.rank().index() - usize::from(is_last(comm)));
            comm.start_tree_reduce(tree, vec![(mine, Region::zeroed(100))])?.wait().map(drop)
        },
        says: |error, last| {
            let (got, need) = (last.index() - 1, last.index());
            *error == CommError::Node { rank: last, got, need }
        },
    },
    Disagreement {
        name: "fewer shards than ranks, on all of them",
        run: |comm| {
            let tree = ShardTree::new(comm.size().get() - 1);
            comm.start_tree_reduce(tree, Vec::new())?.wait().map(drop)
        },
        says: |error, last| matches!(error, CommError::Shards { shards, .. } if *shards == last.index()),
    },
    Disagreement {
        name: "another plan",
        run: |comm| {
            let (hash, text) = if is_last(comm) { (2, "batch 32") } else { (1, "batch 64") };
            verify_plan(&**comm, hash, text)
        },
        says: |error, last| {
            let both = ["batch 64", "batch 32"].iter().all(|text| error.to_string().contains(text));
            both && matches!(error, CommError::Plan { other, .. } if *other == last)
        },
    },
    Disagreement {
        name: "a disagreement in a part of the world",
        run: |comm| {
            let rank = comm.rank().index();
            // the last two ranks, in a communicator of their own, of which the rest of the world hears
            let pair = comm.split((rank + 2 >= comm.size().get()).then_some(0), 0)?;
            if let Some(pair) = pair {
                pair.all_reduce_sum(&mut vec![1.0_f32; if is_last(comm) { 300 } else { 301 }])?;
            }
            comm.barrier()
        },
        says: |error, last| match error {
            CommError::Mismatch { calls, .. } => {
                calls.last().map(|call| call.0) == Some(last) && calls.len() == 2
            }
            _ => false,
        },
    },
];
