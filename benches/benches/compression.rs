//! What each compressor of gradients costs one rank, in nanoseconds an element of a matrix: choosing and packing while the
//! backward pass runs, and unpacking after it. One rank, so that nothing is sent.
//!
//! `cargo bench --bench compression -- [--rows 512] [--cols 2048] [--rounds 15]`
#![expect(clippy::print_stdout, reason = "a program that prints a table")]

use phalanx::comm::{Communicator, SoloComm};
use phalanx::compress::{BucketLayout, CompressionConfig, Matrix};
use phalanx_benches::numbers;
use std::error::Error;
use std::sync::Arc;
use std::time::Instant;

const COMPRESSORS: [(&str, CompressionConfig); 6] = [
    ("fp16", CompressionConfig::Fp16),
    ("bf16", CompressionConfig::Bf16),
    ("powersgd, rank 1", CompressionConfig::PowerSgd { rank: 1, start_step: 0, seed: 1 }),
    ("powersgd, rank 4", CompressionConfig::PowerSgd { rank: 4, start_step: 0, seed: 1 }),
    ("topk, 1 %", CompressionConfig::TopK { fraction: 0.01, start_step: 0 }),
    ("topk, 10 %", CompressionConfig::TopK { fraction: 0.1, start_step: 0 }),
];

/// Seconds of a step and share of the bytes.
#[derive(Clone, Copy, Debug)]
struct Price {
    start: f64,
    finish: f64,
    share: f64,
}

/// The median of each over the steps.
fn price(config: CompressionConfig, matrix: Matrix, rounds: u64) -> Result<Price, Box<dyn Error>> {
    let len = matrix.rows * matrix.cols;
    let comm: Arc<dyn Communicator> = Arc::new(SoloComm::new());
    let mut compressor = config.build()?.ok_or("nothing to time")?;
    compressor.prepare(&comm, &[BucketLayout { len, matrices: vec![matrix] }])?;
    let own = numbers(len);
    let (mut starts, mut finishes) = (Vec::new(), Vec::new());
    for step in 1..=rounds {
        let mut part = comm.alloc(len)?;
        part.copy_from_slice(&own);
        let began = Instant::now();
        compressor.start(step, 0, part)?;
        starts.push(began.elapsed().as_secs_f64());
        let mut parts = [comm.alloc(0)?];
        let began = Instant::now();
        compressor.finish(&mut parts)?;
        finishes.push(began.elapsed().as_secs_f64());
    }
    let share = compressor.sent_bytes() as f64 / (4 * len) as f64;
    Ok(Price { start: median(starts), finish: median(finishes), share })
}

fn median(mut times: Vec<f64>) -> f64 {
    times.sort_by(f64::total_cmp);
    times[times.len() / 2]
}

fn argument(name: &str, default: usize) -> Result<usize, Box<dyn Error>> {
    let mut args = std::env::args().skip_while(|arg| arg != name).skip(1);
    Ok(args.next().map_or(Ok(default), |value| value.parse())?)
}

fn main() -> Result<(), Box<dyn Error>> {
    let (rows, cols) = (argument("--rows", 512)?, argument("--cols", 2048)?);
    let rounds = argument("--rounds", 15)?.max(1) as u64;
    println!("{:<18} {:>9} {:>9} {:>9}", "", "start ns", "finish ns", "bytes %");
    for (name, config) in COMPRESSORS {
        let Price { start, finish, share } = price(config, Matrix { offset: 0, rows, cols }, rounds)?;
        let ns = |seconds: f64| seconds * 1e9 / (rows * cols) as f64;
        println!("{name:<18} {:>9.2} {:>9.2} {:>9.1}", ns(start), ns(finish), 100.0 * share);
    }
    Ok(())
}
