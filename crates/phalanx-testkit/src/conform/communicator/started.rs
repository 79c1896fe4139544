//! Started collectives: in flight while other memory is written, waited for in any order, or never.

use super::Check;
use crate::exact::{buffer, reduced, rough};
use half::{bf16, f16};
use phalanx_comm::{
    CommError, Communicator, CommunicatorExt, Element, Packing, Pending, ReduceOp, Region, ShardTree,
    TreeAccumulator, TreeNodes,
};
use std::sync::Arc;

type Comm = Arc<dyn Communicator>;

pub(super) const CHECKS: &[Check] = &[
    Check { name: "a backward pass writes while its buckets are reduced", run: overlapped },
    Check { name: "more can be started than a backend keeps in flight, and waited for backwards", run: many },
    Check { name: "16-bit floats are reduced in the memory of words, and rounded once", run: packed },
    Check { name: "a started reduction adds in one order, with the same bits on every rank", run: one_order },
    Check { name: "polling alone completes a collective", run: polled },
    Check { name: "blocking and started collectives share one order", run: interleaved },
    Check { name: "what nobody waits for completes all the same", run: forgotten },
    Check { name: "the tree gives the bits of one sequential fold", run: tree },
];

fn place(comm: &Comm) -> (usize, usize) {
    (comm.rank().index(), comm.size().get())
}

/// A region with this rank's exact numbers, as if it began at coordinate 0.
fn region(comm: &Comm, len: usize) -> Result<Region<f32>, CommError> {
    let mut region = comm.alloc(len)?;
    region.copy_from_slice(&buffer(comm.rank().index(), len));
    Ok(region)
}

fn assert_sum(comm: &Comm, region: &[f32], what: &str) {
    let size = comm.size().get();
    let wrong = region.iter().enumerate().find(|(i, x)| **x != reduced::<f32>(size, *i, ReduceOp::Sum));
    assert_eq!(wrong, None, "{what}: element and value of {}", region.len());
}

fn overlapped(comm: &Comm) -> Result<(), CommError> {
    let (rank, size) = place(comm);
    const BUCKETS: [usize; 5] = [7, 40_000, 1, 0, 20_011];
    let mut flat = comm.alloc(BUCKETS.iter().sum())?;
    for step in 0..5 {
        // from the back, as a backward pass finishes them
        let mut pending = Vec::new();
        for &len in BUCKETS.iter().rev() {
            let mut bucket = flat.split_off(flat.len() - len);
            for (i, x) in bucket.iter_mut().enumerate() {
                *x = (i % 50 + rank + step) as f32;
                if i % 1000 == 0 {
                    comm.progress()?;
                }
            }
            pending.push(comm.start_all_reduce(bucket, ReduceOp::Sum)?);
        }
        for bucket in pending.into_iter().rev() {
            assert!(flat.try_unsplit(bucket.wait()?).is_ok(), "buckets come back to their places");
        }
        let mut rest = &*flat;
        for len in BUCKETS {
            let (bucket, tail) = rest.split_at(len);
            let expected = |i: usize| (size * (i % 50 + step) + size * (size - 1) / 2) as f32;
            assert!(
                bucket.iter().enumerate().all(|(i, x)| *x == expected(i)),
                "step {step}, bucket of {len}"
            );
            rest = tail;
        }
    }
    Ok(())
}

fn many(comm: &Comm) -> Result<(), CommError> {
    let start = |i: usize| comm.start_all_reduce(region(comm, i * i)?, ReduceOp::Sum);
    let pending = (0..70).map(start).collect::<Result<Vec<Pending>, _>>()?;
    for (i, pending) in pending.into_iter().enumerate().rev() {
        let region = pending.wait()?;
        assert_eq!(region.len(), i * i);
        assert_sum(comm, &region, "waited for from the last to the first");
    }
    Ok(())
}

fn packed(comm: &Comm) -> Result<(), CommError> {
    halves::<f16>(comm, Packing::F16, f16::from_f32)?;
    halves::<bf16>(comm, Packing::Bf16, bf16::from_f32)
}

fn halves<T: Element + Into<f32>>(
    comm: &Comm,
    packing: Packing,
    round: fn(f32) -> T,
) -> Result<(), CommError> {
    let (rank, size) = place(comm);
    let number = |rank: usize, i: usize| round(((i * 7 + rank * 13) % 101) as f32 / 8.0 - 3.0);
    // in the exchange itself, in one cache line, across many; the numbers odd
    for len in [1, 3, 63, 129, 70_001] {
        let mut words = comm.alloc(packing.words(len))?;
        let numbers = &mut bytemuck::cast_slice_mut::<f32, T>(&mut words)[..len];
        numbers.iter_mut().enumerate().for_each(|(i, x)| *x = number(rank, i));
        let words = comm.start_all_reduce_packed(words, packing, ReduceOp::Sum)?.wait()?;
        for (i, x) in bytemuck::cast_slice::<f32, T>(&words)[..len].iter().enumerate() {
            let sum = (1..size).fold(number(0, i).into(), |sum: f32, rank| sum + number(rank, i).into());
            assert_eq!(*x, round(sum), "{packing:?}: element {i} of {len}");
        }
    }
    Ok(())
}

fn one_order(comm: &Comm) -> Result<(), CommError> {
    let (rank, size) = place(comm);
    for len in [60, 100, 40_001] {
        let sum = || {
            let mut region = comm.alloc(len)?;
            region.iter_mut().enumerate().for_each(|(i, x)| *x = rough(rank, i));
            comm.start_all_reduce(region, ReduceOp::Sum)?.wait()
        };
        let (first, again) = (sum()?, sum()?);
        assert!(*first == *again, "the sum of {len} has other bits the second time");
        let all = comm.all_gather_bytes(bytemuck::cast_slice(&first))?;
        assert!(all.iter().all(|of| *of == all[0]), "the sum of {len} has other bits on other ranks");
        for (i, x) in first.iter().enumerate() {
            // whatever the order: an ulp of the largest partial sum for each addition
            let numbers = || (0..size).map(|rank| f64::from(rough(rank, i)));
            let bound = numbers().map(f64::abs).sum::<f64>() * f64::from(f32::EPSILON) * size as f64;
            assert!((f64::from(*x) - numbers().sum::<f64>()).abs() <= bound, "element {i} of {len}: {x}");
        }
    }
    Ok(())
}

fn polled(comm: &Comm) -> Result<(), CommError> {
    for len in [0, 10, 5000] {
        let pending = comm.start_all_reduce(region(comm, len)?, ReduceOp::Sum)?;
        while !pending.test()? {
            std::thread::yield_now();
        }
        assert_sum(comm, &pending.wait()?, "polled");
    }
    Ok(())
}

fn interleaved(comm: &Comm) -> Result<(), CommError> {
    let (_, size) = place(comm);
    for len in [3, 3000] {
        let first = comm.start_all_reduce(region(comm, len)?, ReduceOp::Sum)?;
        let mut ones = [1_u64];
        comm.all_reduce_sum(&mut ones)?;
        let second = comm.start_all_reduce(region(comm, len)?, ReduceOp::Max)?;
        let gathered = comm.all_gather_bytes(&[7])?;
        assert_eq!((ones, gathered.len()), ([size as u64], size));
        let greatest = second.wait()?;
        assert!((0..len).all(|i| greatest[i] == reduced::<f32>(size, i, ReduceOp::Max)));
        assert_sum(comm, &first.wait()?, "started before a blocking one");
    }
    Ok(())
}

fn forgotten(comm: &Comm) -> Result<(), CommError> {
    for len in [2, 50_000] {
        for _ in 0..20 {
            drop(comm.start_all_reduce(region(comm, len)?, ReduceOp::Sum)?);
        }
        let waited = comm.start_all_reduce(region(comm, len)?, ReduceOp::Sum)?;
        assert_sum(comm, &waited.wait()?, "started after some that nobody waits for");
        // only the other ranks wait for this one
        let last = comm.start_all_reduce(region(comm, len)?, ReduceOp::Sum)?;
        if comm.rank().index() == 0 {
            drop(last);
        } else {
            assert_sum(comm, &last.wait()?, "forgotten by rank 0");
        }
        comm.barrier()?;
    }
    Ok(())
}

fn tree(comm: &Comm) -> Result<(), CommError> {
    let size = comm.size().get();
    for shards in [size, size + 1, 8.max(size), 3 * size + 5] {
        let tree = ShardTree::new(shards);
        for len in [0, 1, 100, 5003] {
            let of = |shard: usize| -> Vec<f32> { (0..len).map(|i| rough(shard, i)).collect() };
            let mut sum = TreeAccumulator::new(tree, tree.shards_of(comm.rank(), comm.size()));
            while let Some(shard) = sum.next_shard() {
                let mut leaf = sum.spare().map_or_else(|| comm.alloc(len), Ok)?;
                leaf.copy_from_slice(&of(shard));
                sum.push(leaf);
            }
            // two buckets, both in flight
            let (mut front, mut back) = (sum.finish(), TreeNodes::new());
            for (id, region) in &mut front {
                back.push((*id, region.split_off(len / 3)));
            }
            let nodes = front.len();
            let back = comm.start_tree_reduce(tree, back)?;
            let front = comm.start_tree_reduce(tree, front)?;
            comm.progress()?;
            let (mut front, mut back) = (front.wait()?, back.wait()?);
            assert_eq!((front.len(), back.len()), (nodes, nodes));
            let mut total = front.swap_remove(0).1;
            assert!(total.try_unsplit(back.swap_remove(0).1).is_ok(), "both buckets of the first node");
            let expected = tree.fold(&(0..shards).map(of).collect::<Vec<_>>());
            assert!(*total == *expected, "{shards} shards of {len} on {size} ranks");
        }
    }
    Ok(())
}
