//! Measures the all-reduce of two thread ranks against the limit of the memory: `cargo run --release -p phalanx-comm
//! --example all_reduce_bandwidth [-- BYTES...]`.
//!
//! The limit is what no all-reduce that leaves the sum in both buffers can beat: both cores do the same arithmetic
//! (`a = b = a + b`, half of the elements each) on arrays of their own, then one barrier. Both are measured in turns in
//! one run; the time is that of the slower rank in the best round, as other programs share the cores. GB/s = 1e9 bytes of
//! one buffer a second.

use phalanx_comm::{CommError, Communicator, CommunicatorExt, Options, WorldSize, run_ranks};
use std::hint::{black_box, spin_loop};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

const RANKS: usize = 2;

#[expect(clippy::print_stdout, reason = "the table is what this program is for")]
fn main() -> Result<(), Box<dyn std::error::Error>> {
    println!("{:>10} {:>12} {:>8} {:>12} {:>8}", "bytes", "us", "GB/s", "limit us", "share");
    let mut sizes = std::env::args().skip(1).map(|arg| arg.parse()).collect::<Result<Vec<usize>, _>>()?;
    if sizes.is_empty() {
        sizes = (2..=28).step_by(2).map(|shift| 1 << shift).collect();
    }
    for bytes in sizes {
        let barrier = Arc::new(SpinBarrier::default());
        let samples =
            run_ranks(WorldSize(RANKS), &Options::default(), move |comm| measure(&*comm, bytes, &barrier))?;
        let [ours, limit] = [0, 1].map(|which| {
            let slower = |round: usize| samples.iter().map(|rank| rank[round][which]).fold(0.0, f64::max);
            (0..samples[0].len()).map(slower).fold(f64::INFINITY, f64::min)
        });
        let gbs = bytes as f64 / ours / 1e9;
        println!("{bytes:>10} {:>12.3} {gbs:>8.2} {:>12.3} {:>8.2}", ours * 1e6, limit * 1e6, limit / ours);
    }
    Ok(())
}

/// Seconds of an all-reduce and of the limit, round by round.
fn measure(comm: &dyn Communicator, bytes: usize, barrier: &SpinBarrier) -> Result<Vec<[f64; 2]>, CommError> {
    let len = bytes / size_of::<f32>();
    // short operations are timed many at a time
    let repeat = (65_536 / bytes).clamp(1, 256);
    let rounds = (1_usize << 31 >> bytes.ilog2()).clamp(20, 1000);
    let mut buf = comm.alloc(len)?;
    let (mut a, mut b) = (comm.alloc(len.div_ceil(RANKS))?, comm.alloc(len.div_ceil(RANKS))?);
    let mut samples = Vec::with_capacity(rounds);
    for _ in 0..rounds {
        buf.fill(1.0);
        barrier.wait();
        let start = Instant::now();
        for _ in 0..repeat {
            comm.all_reduce_sum(&mut buf)?;
        }
        let ours = start.elapsed();

        a.fill(1.0);
        b.fill(1.0);
        barrier.wait();
        let start = Instant::now();
        for _ in 0..repeat {
            add_to_both(black_box(&mut a), black_box(&mut b));
            barrier.wait();
        }
        samples.push([ours, start.elapsed()].map(|time: Duration| time.as_secs_f64() / repeat as f64));
    }
    Ok(samples)
}

fn add_to_both(a: &mut [f32], b: &mut [f32]) {
    for (a, b) in a.iter_mut().zip(b) {
        let sum = *a + *b;
        *a = sum;
        *b = sum;
    }
}

/// The cheapest barrier there is, for the limit.
#[derive(Default)]
struct SpinBarrier {
    arrived: AtomicUsize,
}

impl SpinBarrier {
    fn wait(&self) {
        let ticket = self.arrived.fetch_add(1, Ordering::AcqRel);
        let target = (ticket / RANKS + 1) * RANKS;
        let mut polls = 0_u32;
        while self.arrived.load(Ordering::Acquire) < target {
            polls += 1;
            // the machine may have other work to do
            if polls > 10_000 {
                std::thread::yield_now();
            } else if polls > 200 {
                spin_loop();
            }
        }
    }
}
