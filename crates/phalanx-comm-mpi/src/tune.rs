//! What the two levels of a job take: short all-reduces at its start, timed and agreed on by all ranks.

use crate::comm::MpiComm;
use phalanx_comm::cost::{Choice, Levels, Method, Tuning};
use phalanx_comm::{CommError, Communicator, CommunicatorExt, Rank, ReduceOp};
use std::time::Instant;

/// Words of the buffers that are timed: start-up time, both, transfer.
const LENGTHS: [usize; 3] = [1 << 10, 1 << 14, 1 << 17];

/// Times that each is reduced, after one that warms up. The median counts.
const REPEATS: usize = 5;

/// Agrees on how started reductions go between nodes, measured where there is something to measure.
pub(crate) fn tune(comm: &MpiComm, choice: Choice) -> Result<Tuning, CommError> {
    let choice = agreed(comm, choice)?;
    let lane = &comm.lane;
    let levels = match lane.map.topology().nodes {
        1 => None,
        _ => measured(comm)?,
    };
    lane.family.set_tuned(choice, levels);
    Ok(lane.tuning())
}

/// As [`tune`], by what was measured before.
pub(crate) fn choose(comm: &MpiComm, choice: Choice) -> Result<Tuning, CommError> {
    let family = &comm.lane.family;
    let choice = agreed(comm, choice)?;
    family.set_tuned(choice, family.tuned().1);
    Ok(comm.lane.tuning())
}

/// What rank 0 wants.
fn agreed(comm: &MpiComm, choice: Choice) -> Result<Choice, CommError> {
    const METHODS: [Method; 3] = [Method::Flat, Method::Hierarchical, Method::Library];
    let fixed = match choice {
        Choice::Auto => METHODS.len(),
        Choice::Fixed(method) => METHODS.iter().position(|of| *of == method).unwrap_or(METHODS.len()),
    };
    let mut word = u64::try_from(fixed).unwrap_or(u64::MAX).to_le_bytes().to_vec();
    comm.broadcast_bytes(Rank::ZERO, &mut word)?;
    let at = word.first().copied().map_or(METHODS.len(), usize::from);
    Ok(METHODS.get(at).map_or(Choice::Auto, |method| Choice::Fixed(*method)))
}

/// The levels, by the times of the slowest ranks.
fn measured(comm: &MpiComm) -> Result<Option<Levels>, CommError> {
    let map = &comm.lane.map;
    let topology = map.topology();
    let node = comm.split(Some(map.node), map.place)?;
    // one rank of each node: the link is theirs alone
    let leaders = comm.split((map.place == 0).then_some(0), map.node)?;
    let mut times = [0.0; 2 * LENGTHS.len()];
    let (inside, across) = times.split_at_mut(LENGTHS.len());
    if let Some(node) = node.filter(|node| node.size().get() > 1) {
        time(&*node, inside)?;
    }
    // no node measures between nodes while another is busy inside
    comm.barrier()?;
    if let Some(leaders) = leaders {
        time(&*leaders, across)?;
    }
    comm.all_reduce_max(&mut times)?;
    let bytes = LENGTHS.map(|words| (words * size_of::<f32>()) as u64);
    let of = |seconds: &[f64]| bytes.into_iter().zip(seconds.iter().copied()).collect::<Vec<_>>();
    let (inside, across) = times.split_at(LENGTHS.len());
    let inside = (topology.most_on_a_node > 1).then(|| of(inside));
    Ok(Levels::fit(topology.nodes, inside.as_deref(), &of(across)))
}

/// Seconds of an all-reduce of each length.
fn time(comm: &dyn Communicator, seconds: &mut [f64]) -> Result<(), CommError> {
    for (words, seconds) in LENGTHS.into_iter().zip(seconds) {
        let mut region = comm.alloc(words)?;
        let mut all = [0.0; REPEATS + 1];
        for one in &mut all {
            comm.barrier()?;
            let begun = Instant::now();
            region = comm.start_all_reduce(region, ReduceOp::Sum)?.wait()?;
            *one = begun.elapsed().as_secs_f64();
        }
        let timed = &mut all[1..];
        timed.sort_by(f64::total_cmp);
        *seconds = timed[REPEATS / 2];
    }
    Ok(())
}
