//! Times one rule over made-up vectors and prints what it found as a line of JSON, for `benches/compare/robust.py`.
//!
//! usage: `rules RULE N D F THREADS SECONDS`, or `rules read N D 0 THREADS SECONDS` for the bandwidth of reading.
#![forbid(unsafe_code)]
#![expect(clippy::print_stdout, reason = "what it prints is its result")]

use phalanx::grad::GradError;
use phalanx::prelude::{PreAggregator, Rule};
use phalanx::robust::{
    Arc, Bulyan, Caf, CenteredClipping, GeometricMedian, Krum, Mda, MeaMed, Median, MultiKrum, MultiMetrics,
    Neighbours, Nnm, Robust, Smoothing, Start, TrimmedMean, Updates, WeightedMean,
};
use std::error::Error;
use std::hint::black_box;
use std::thread;
use std::time::Instant;

fn main() -> Result<(), Box<dyn Error>> {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let [rule, n, d, f, threads, seconds] = &args[..] else {
        return Err("usage: rules RULE N D F THREADS SECONDS".into());
    };
    let (n, d, f, threads): (usize, usize, usize, usize) =
        (n.parse()?, d.parse()?, f.parse()?, threads.parse()?);
    let seconds: f64 = seconds.parse()?;
    let rows: Vec<Vec<f32>> = (0..n).map(|i| made_up(i, d)).collect();
    let slices: Vec<&[f32]> = rows.iter().map(Vec::as_slice).collect();
    let model = made_up(n, d);
    let updates = Updates::new(d, &slices).with_reference(&model)?;
    let before = peak_mb();
    let mut out = vec![0.0; d];
    let mut work: Box<dyn FnMut() -> Result<(), GradError>> = match rule.as_str() {
        "read" => Box::new(|| {
            black_box(read(&slices, threads));
            Ok(())
        }),
        "nnm" | "arc" => {
            let pre: Box<dyn PreAggregator> = if rule == "nnm" { Box::new(Nnm) } else { Box::new(Arc) };
            let mut robust = Robust::new(f, WeightedMean).behind(pre).with_threads(threads);
            Box::new(move || robust.mixed(1, &updates).map(|vectors| drop(black_box(vectors))))
        }
        name => {
            let mut robust = robust(name, d, f)?.with_threads(threads);
            Box::new(move || robust.aggregate(1, &updates, &mut out).map(|report| drop(black_box(report))))
        }
    };
    let (mut times, started) = (Vec::new(), Instant::now());
    while times.len() < 3 || started.elapsed().as_secs_f64() < seconds {
        let begun = Instant::now();
        work()?;
        times.push(begun.elapsed().as_secs_f64() * 1e3);
    }
    times.sort_by(f64::total_cmp);
    let (best, median, extra) = (times[0], times[times.len() / 2], peak_mb() - before);
    let runs = times.len();
    println!(
        "{{\"ms_best\": {best:.4}, \"ms_median\": {median:.4}, \"runs\": {runs}, \"extra_mb\": {extra:.1}}}"
    );
    Ok(())
}

fn robust(name: &str, d: usize, f: usize) -> Result<Robust, Box<dyn Error>> {
    let smoothed =
        GeometricMedian { start: Start::Zero, steps: 8, tolerance: 0.0, smoothing: Smoothing::Absolute(0.1) };
    let rule: Box<dyn Rule> = match name {
        "mean" | "multi-metrics" => Box::new(WeightedMean),
        "median" => Box::new(Median),
        "trimmed-mean" | "nnm-trimmed-mean" => Box::new(TrimmedMean),
        "mea-med" => Box::new(MeaMed),
        "krum" => Box::new(Krum { neighbours: Neighbours::Epfl }),
        "multi-krum" => Box::new(MultiKrum { neighbours: Neighbours::Epfl, keep: None }),
        "bulyan" => Box::new(Bulyan),
        "geometric-median" => Box::new(smoothed),
        "centered-clipping" => Box::new(CenteredClipping::new((d as f64).sqrt(), 3)?.from_zero()),
        "mda" => Box::new(Mda),
        "caf" => Box::new(Caf),
        other => return Err(format!("no rule is timed under the name {other}").into()),
    };
    Ok(match name {
        "multi-metrics" => Robust::new(f, rule).behind(MultiMetrics::default()),
        "nnm-trimmed-mean" => Robust::new(f, rule).behind(Nnm),
        _ => Robust::new(f, rule),
    })
}

/// Numbers in -1..1, row by row different, at a speed that lets one wait for 10^8 of them.
#[expect(clippy::cast_precision_loss, reason = "24 bits")]
fn made_up(row: usize, d: usize) -> Vec<f32> {
    let mut state = (row as u64).wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1;
    (0..d)
        .map(|_| {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            (state >> 40) as f32 / 8_388_608.0 - 1.0
        })
        .collect()
}

/// Reads everything once.
fn read(rows: &[&[f32]], threads: usize) -> u32 {
    let d = rows.first().map_or(0, |row| row.len());
    let each = d.div_ceil(threads).max(1);
    thread::scope(|scope| {
        let part = |t: usize| {
            move || {
                let columns = (t * each).min(d)..((t + 1) * each).min(d);
                let bits = rows.iter().flat_map(|row| row[columns.clone()].chunks(16));
                bits.fold([0_u32; 16], |mut sum, chunk| {
                    sum.iter_mut().zip(chunk).for_each(|(sum, x)| *sum ^= x.to_bits());
                    sum
                })
            }
        };
        let started: Vec<_> = (0..threads).map(|t| scope.spawn(part(t))).collect();
        let done = started.into_iter().filter_map(|thread| thread.join().ok());
        done.flatten().fold(0, |sum, bits| sum ^ bits)
    })
}

/// The most memory that the process has had.
fn peak_mb() -> f64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
    let kib = line.and_then(|rest| rest.split_whitespace().next()).and_then(|kib| kib.parse::<f64>().ok());
    kib.unwrap_or(0.0) / 1024.0
}
