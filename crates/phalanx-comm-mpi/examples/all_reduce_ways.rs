//! Times every way to reduce between ranks over MPI, beside `MPI_Allreduce` as the library ships it, in one call and in
//! chunks: `CARGO_TARGET_DIR=target/mpi cargo build --release -p phalanx-comm-mpi --features mpi --example all_reduce_ways`, then
//! `mpirun -n 2 target/mpi/release/examples/all_reduce_ways [AT_MOST_SO_MANY_RANKS_A_NODE [BYTES...]]`.
//!
//! A number of ranks a node makes nodes of the ranks of one host, whose link is then MPI's shared memory; 0 takes hosts for
//! nodes. All ways are measured in turns in one run; a time is the median over rounds of that of the slowest rank, of up to
//! 200 calls in a row where they are short. Run it where nothing else runs.

use phalanx_comm::cost::{Choice, Method};
use phalanx_comm::{CommError, Communicator, CommunicatorExt, Rank, ReduceOp};
use phalanx_comm_mpi::{MpiOptions, MpiWorld, Nodes};
use std::error::Error;
use std::time::Instant;

/// Elements of a chunk of `MPI_Allreduce`: 1 MiB, about where it is fastest.
const CHUNK: usize = 1 << 18;

/// Rounds of one length, after one that warms up.
const ROUNDS: usize = 15;

/// Calls one after the other in a round, and bytes that are enough for fewer: one call of a microsecond is not told from
/// the clock and the barrier around it.
const CALLS: usize = 200;
const ENOUGH: usize = 1 << 20;

const WAYS: [&str; 6] = ["flat", "hierarchical", "iallreduce", "blocking", "allreduce", "in chunks"];

#[expect(clippy::print_stdout, reason = "the table is what this program is for")]
fn main() -> Result<(), Box<dyn Error>> {
    let numbers = std::env::args().skip(1).map(|arg| arg.parse()).collect::<Result<Vec<usize>, _>>()?;
    let (ranks_a_node, sizes) = numbers.split_first().map_or((0, &[][..]), |(first, rest)| (*first, rest));
    let nodes = if ranks_a_node == 0 { Nodes::Hosts } else { Nodes::AtMost(ranks_a_node) };
    let world = MpiWorld::init(&MpiOptions { nodes, ..MpiOptions::default() })?;
    let sizes = match sizes {
        [] => (2..=28).step_by(2).map(|shift| 1 << shift).collect(),
        given => given.to_vec(),
    };
    let is_first = world.rank() == Rank::ZERO;
    if is_first {
        println!("{} on {} nodes; microseconds", world.size(), world.nodes());
        println!("{:>10} {}", "bytes", WAYS.map(|way| format!("{way:>13}")).concat());
    }
    let measured = world.run(|comm| {
        for bytes in &sizes {
            let micros = measure(&world, &*comm, bytes / size_of::<f32>())?;
            if is_first {
                println!("{bytes:>10} {}", micros.map(|micros| format!("{micros:>13.2}")).concat());
            }
        }
        if is_first {
            println!("{}", world.tune(Choice::Auto)?);
        } else {
            world.tune(Choice::Auto)?;
        }
        Ok::<_, CommError>(())
    });
    let code = u8::from(measured.is_err());
    world.end(code);
    Ok(measured?)
}

/// Microseconds of each way.
fn measure(world: &MpiWorld, comm: &dyn Communicator, len: usize) -> Result<[f64; WAYS.len()], CommError> {
    let mut region = comm.alloc(len)?;
    let calls = (ENOUGH / (len * size_of::<f32>()).max(1)).clamp(1, CALLS);
    let mut times = [const { Vec::new() }; WAYS.len()];
    let methods = [Method::Flat, Method::Hierarchical, Method::Library];
    for round in 0..=ROUNDS {
        for (way, times) in times.iter_mut().enumerate() {
            if let Some(method) = methods.get(way) {
                world.choose(Choice::Fixed(*method))?;
            }
            // what is reduced was written by this rank just before, as a gradient is
            region.fill(1.0);
            comm.barrier()?;
            let begun = Instant::now();
            for _ in 0..calls {
                match way {
                    3 => comm.all_reduce_sum(&mut region[..])?,
                    4 => library(world, comm, &mut region, len.max(1))?,
                    5 => library(world, comm, &mut region, CHUNK)?,
                    _ => region = comm.start_all_reduce(region, ReduceOp::Sum)?.wait()?,
                }
            }
            let mut seconds = [begun.elapsed().as_secs_f64() / calls as f64];
            comm.all_reduce_max(&mut seconds)?;
            if round > 0 {
                times.push(seconds[0] * 1e6);
            }
        }
    }
    Ok(times.map(|mut times| {
        times.sort_by(f64::total_cmp);
        times[ROUNDS / 2]
    }))
}

fn library(
    world: &MpiWorld,
    comm: &dyn Communicator,
    buf: &mut [f32],
    chunk: usize,
) -> Result<(), CommError> {
    world.native_all_reduce(buf, chunk).map_err(|error| CommError::aborted(comm.rank(), &error))
}
