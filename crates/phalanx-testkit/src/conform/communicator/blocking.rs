//! The blocking collectives: every type, every reduction, lengths around every limit.

use super::Check;
use crate::exact::{Exact, buffer, number, reduced, rough};
use half::{bf16, f16};
use phalanx_comm::{CommError, Communicator, CommunicatorExt, Rank, ReduceOp};
use std::sync::Arc;

type Comm = Arc<dyn Communicator>;

pub(super) const CHECKS: &[Check] = &[
    Check { name: "all_reduce combines every type by every operation at every length", run: all_reduce },
    Check { name: "all_reduce adds in rank order, with the same bits on every rank", run: rank_order },
    Check { name: "all_reduce carries a NaN of any rank to all", run: nan },
    Check { name: "reduce_scatter gives each rank its own segment", run: reduce_scatter },
    Check { name: "all_gather joins uneven contributions in rank order", run: all_gather },
    Check { name: "all_to_all moves every segment to its receiver", run: all_to_all },
    Check { name: "broadcast_bytes replaces what the others had", run: broadcast },
    Check { name: "all_gather_bytes keeps lengths that differ", run: all_gather_bytes },
    Check { name: "nobody passes a barrier before all have come", run: barrier },
    Check { name: "collectives of all kinds and sizes follow each other", run: mixed },
    Check { name: "every collective leaves a record", run: records },
    Check { name: "split groups by color and orders by key", run: split },
];

/// Around a cache line, around what a backend may send inline, above any threshold.
const LENGTHS: [usize; 14] = [0, 1, 2, 3, 15, 16, 17, 31, 64, 65, 513, 1024, 4099, 100_003];
const OPS: [ReduceOp; 3] = [ReduceOp::Sum, ReduceOp::Min, ReduceOp::Max];

/// Runs a generic check for each element type.
macro_rules! each_type {
    ($f:ident, $comm:expr) => {{
        $f::<f32>($comm)?;
        $f::<f64>($comm)?;
        $f::<f16>($comm)?;
        $f::<bf16>($comm)?;
        $f::<u64>($comm)
    }};
}

fn place(comm: &Comm) -> (usize, usize) {
    (comm.rank().index(), comm.size().get())
}

fn all_reduce(comm: &Comm) -> Result<(), CommError> {
    fn typed<T: Exact>(comm: &Comm) -> Result<(), CommError> {
        let (rank, size) = place(comm);
        for op in OPS {
            for len in LENGTHS {
                let mut buf = buffer::<T>(rank, len);
                comm.all_reduce_in_place(buf.as_mut_slice().into(), op)?;
                let expected: Vec<T> = (0..len).map(|i| reduced(size, i, op)).collect();
                assert_same(&buf, &expected, &format!("{op} of {len} {}", T::DTYPE));
            }
        }
        Ok(())
    }
    each_type!(typed, comm)
}

fn rank_order(comm: &Comm) -> Result<(), CommError> {
    let (rank, size) = place(comm);
    for len in LENGTHS {
        let mut buf: Vec<_> = (0..len).map(|i| rough(rank, i)).collect();
        comm.all_reduce_sum(&mut buf)?;
        let in_order = |i| (1..size).fold(rough(0, i), |sum, rank| sum + rough(rank, i));
        let expected: Vec<_> = (0..len).map(in_order).collect();
        assert_same(&buf, &expected, &format!("sum of {len} in rank order"));
    }
    Ok(())
}

fn nan(comm: &Comm) -> Result<(), CommError> {
    let (rank, size) = place(comm);
    for culprit in 0..size {
        for op in OPS {
            for len in [1, 1000] {
                let mut buf = vec![if rank == culprit { f32::NAN } else { 1.0 }; len];
                comm.all_reduce_in_place(buf.as_mut_slice().into(), op)?;
                assert!(buf.iter().all(|x| x.is_nan()), "{op} of {len} lost the NaN of rank {culprit}");
            }
        }
    }
    Ok(())
}

/// Counts a rank that are uneven and have zeros, for several kinds of unevenness.
fn uneven(size: usize) -> impl Iterator<Item = Vec<usize>> {
    let all_for = move |one: usize| (0..size).map(|rank| if rank == one { 77 } else { 0 }).collect();
    let mixed = |scale: usize| move |rank: usize| (rank * 7 + 3) % 5 * scale;
    [vec![0; size], (0..size).map(mixed(1)).collect(), (0..size).map(mixed(1001)).collect()]
        .into_iter()
        .chain([all_for(0), all_for(size - 1)])
}

fn reduce_scatter(comm: &Comm) -> Result<(), CommError> {
    fn typed<T: Exact>(comm: &Comm) -> Result<(), CommError> {
        let (rank, size) = place(comm);
        for counts in uneven(size) {
            for op in OPS {
                let send = buffer::<T>(rank, counts.iter().sum());
                let mut recv = vec![T::of(99); counts[rank]];
                comm.reduce_scatter(send.as_slice().into(), &counts, recv.as_mut_slice().into(), op)?;
                let offset: usize = counts[..rank].iter().sum();
                let expected: Vec<T> = (0..counts[rank]).map(|i| reduced(size, offset + i, op)).collect();
                assert_same(&recv, &expected, &format!("{op} of {} by counts {counts:?}", T::DTYPE));
            }
        }
        Ok(())
    }
    each_type!(typed, comm)
}

fn all_gather(comm: &Comm) -> Result<(), CommError> {
    fn typed<T: Exact>(comm: &Comm) -> Result<(), CommError> {
        let (rank, size) = place(comm);
        for counts in uneven(size) {
            let send = buffer::<T>(rank, counts[rank]);
            let mut recv = vec![T::of(99); counts.iter().sum()];
            comm.all_gather_into(&send, &counts, &mut recv)?;
            let expected: Vec<T> = counts.iter().enumerate().flat_map(|(rank, &n)| buffer(rank, n)).collect();
            assert_same(&recv, &expected, &format!("{} by counts {counts:?}", T::DTYPE));
        }
        Ok(())
    }
    each_type!(typed, comm)
}

fn all_to_all(comm: &Comm) -> Result<(), CommError> {
    fn typed<T: Exact>(comm: &Comm) -> Result<(), CommError> {
        let (rank, size) = place(comm);
        for scale in [0, 1, 700] {
            let count = |from: usize, to: usize| (from * 3 + to * 2) % 4 * scale;
            let piece =
                |from: usize, to: usize| (0..count(from, to)).map(move |i| T::of(number(from * 4 + to, i)));
            let send_counts: Vec<_> = (0..size).map(|to| count(rank, to)).collect();
            let recv_counts: Vec<_> = (0..size).map(|from| count(from, rank)).collect();
            let send: Vec<T> = (0..size).flat_map(|to| piece(rank, to)).collect();
            let mut recv = vec![T::of(99); recv_counts.iter().sum()];
            comm.all_to_all_into(&send, &send_counts, &mut recv, &recv_counts)?;
            let expected: Vec<T> = (0..size).flat_map(|from| piece(from, rank)).collect();
            assert_same(&recv, &expected, &format!("{} with counts times {scale}", T::DTYPE));
        }
        Ok(())
    }
    each_type!(typed, comm)
}

fn broadcast(comm: &Comm) -> Result<(), CommError> {
    let (rank, size) = place(comm);
    for root in 0..size {
        for len in [0, 1, 5000] {
            let sent: Vec<u8> = (0..len).map(|i| number(root, i)).collect();
            let mut buf = if rank == root { sent.clone() } else { vec![255; 3 * rank] };
            comm.broadcast_bytes(Rank(root), &mut buf)?;
            assert!(buf == sent, "broadcast of {len} bytes from rank {root}");
        }
    }
    Ok(())
}

fn all_gather_bytes(comm: &Comm) -> Result<(), CommError> {
    let (rank, size) = place(comm);
    let of = |rank: usize| -> Vec<u8> { (0..rank * 1000).map(|i| number(rank, i)).collect() };
    let gathered = comm.all_gather_bytes(&of(rank))?;
    assert!(gathered == (0..size).map(of).collect::<Vec<_>>(), "lengths {:?}", gathered.iter().map(Vec::len));
    Ok(())
}

fn barrier(comm: &Comm) -> Result<(), CommError> {
    // what each has passed travels by another collective: a rank that slipped through would be one ahead of its count
    for round in 0..50_u64 {
        if comm.rank().index() == round as usize % comm.size().get() {
            std::thread::yield_now();
        }
        comm.barrier()?;
        let mut rounds = [round];
        comm.all_reduce_max(&mut rounds)?;
        assert_eq!(rounds, [round]);
    }
    Ok(())
}

fn mixed(comm: &Comm) -> Result<(), CommError> {
    let (rank, size) = place(comm);
    for round in 0..200 {
        let len = round * round % 997;
        let mut buf = buffer::<f32>(rank, len);
        comm.all_reduce_sum(&mut buf)?;
        assert!((0..len).all(|i| buf[i] == reduced::<f32>(size, i, ReduceOp::Sum)), "round {round}");
        match round % 4 {
            0 => comm.barrier()?,
            1 => assert_eq!(
                comm.all_gather_bytes(&[number(rank, round)])?[size - 1],
                [number(size - 1, round)]
            ),
            2 => {
                let mut bytes = vec![number(rank, round)];
                comm.broadcast_bytes(Rank(round % size), &mut bytes)?;
                assert_eq!(bytes, [number(round % size, round)]);
            }
            _ => {
                let mut extremes = [rank as u64];
                comm.all_reduce_max(&mut extremes)?;
                assert_eq!(extremes, [size as u64 - 1]);
            }
        }
    }
    Ok(())
}

fn records(comm: &Comm) -> Result<(), CommError> {
    let before = comm.stats();
    comm.all_reduce_sum(&mut [0.0_f64; 3])?;
    comm.barrier()?;
    let (records, after) = (comm.flight(), comm.stats());
    assert_eq!((after.calls - before.calls, after.bytes - before.bytes), (2, 24));
    let [.., sum, barrier] = records.as_slice() else {
        panic!("{} records after two collectives", records.len());
    };
    assert_eq!((sum.op.to_string(), sum.bytes), ("all_reduce".to_owned(), 24));
    assert_eq!((barrier.op.to_string(), barrier.seq), ("barrier".to_owned(), sum.seq + 1));
    assert!(sum.finished.is_some_and(|end| end >= sum.started), "{sum}");
    Ok(())
}

fn split(comm: &Comm) -> Result<(), CommError> {
    let (rank, size) = place(comm);
    // by parity, in reverse order
    let Some(half) = comm.split(Some(rank % 2), size - rank)? else {
        panic!("a rank with a color got no communicator");
    };
    let mut members: Vec<_> = (0..size).filter(|other| other % 2 == rank % 2).collect();
    members.reverse();
    assert_eq!((half.size().get(), members[half.rank().index()]), (members.len(), rank));
    // both at once, out of step with each other
    for round in 0..20 {
        let mut sum = [rank as u64 + 1, round];
        half.all_reduce_sum(&mut sum)?;
        assert_eq!(sum, [members.iter().map(|&m| m as u64 + 1).sum(), round * members.len() as u64]);
        if round % 5 == 0 {
            comm.barrier()?;
        }
    }
    // all but rank 0
    let rest = comm.split((rank > 0).then_some(0), 0)?;
    assert_eq!(rest.as_ref().map(|rest| rest.rank().index()), rank.checked_sub(1));
    if let Some(rest) = rest {
        let mut large = buffer::<f32>(rest.rank().index(), 3000);
        rest.all_reduce_sum(&mut large)?;
        assert_eq!(large[2999], reduced::<f32>(size - 1, 2999, ReduceOp::Sum));
    }
    comm.barrier()
}

/// Says where the first difference is, instead of printing two long buffers.
fn assert_same<T: Exact>(got: &[T], expected: &[T], what: &str) {
    assert_eq!(got.len(), expected.len(), "{what}");
    if let Some(i) = (0..got.len()).find(|&i| got[i] != expected[i]) {
        panic!("{what}: element {i} is {:?}, expected {:?}", got[i], expected[i]);
    }
}
