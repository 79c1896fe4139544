//! A step of a rule over 2 to 16 thread ranks: each rank with a part of the coordinates, against the mean by all-reduce and
//! against one rank that gathers all gradients, reduces them and sends the result back. Bytes are those of one gradient.

use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use phalanx::comm::{Communicator, CommunicatorExt, Options, WorldSize, run_ranks};
use phalanx::grad::{GradError, Ranks, Reduce, Scratch};
use phalanx::robust::{Krum, Median, Nnm, Robust, TrimmedMean, Updates};
use phalanx::tensor::Cpu;
use phalanx::train::{RankShards, Sender};
use phalanx_benches::numbers;
use std::time::{Duration, Instant};

/// Parameters of `lenet5` and of `cnn`.
const D: [usize; 2] = [61_706, 1_199_882];

/// A rule that bears as many of so many ranks as it can.
type Make = fn(usize) -> Robust;

const RULES: [(&str, Make); 3] = [("median", median), ("krum", krum), ("nnm trimmed-mean", nnm_trimmed_mean)];

/// How the ranks come from their gradients to one.
#[derive(Clone, Copy)]
enum Way {
    /// The sum, which needs no rule.
    AllReduce,
    /// The rule, each rank on its coordinates.
    Shards(Make),
    /// The rule, on rank 0.
    ToOne(Make),
}

/// A rule on a rank, and the memory of a step.
struct Step {
    rule: Option<Robust>,
    own: Vec<f32>,
    /// What the one rank makes, before all have it.
    made: Vec<f32>,
    out: Vec<f32>,
    parts: Vec<f32>,
    scratch: Scratch,
}

impl Step {
    fn new(way: Way, rank: usize, ranks: usize, d: usize) -> Self {
        let rule = match way {
            Way::AllReduce => None,
            Way::Shards(rule) | Way::ToOne(rule) => Some(rule(ranks)),
        };
        let own = numbers(d + rank)[rank..].to_vec();
        Self { rule, own, made: Vec::new(), out: vec![0.0; d], parts: Vec::new(), scratch: Scratch::new() }
    }

    fn make(&mut self, way: Way, comm: &dyn Communicator, step: u64) -> Result<(), GradError> {
        match way {
            // zeros, which no number of steps takes to infinity
            Way::AllReduce => Ok(comm.all_reduce_sum(&mut self.out)?),
            Way::Shards(_) => self.shards(comm, step),
            Way::ToOne(_) => self.on_one(comm, step),
        }
    }

    fn shards(&mut self, comm: &dyn Communicator, step: u64) -> Result<(), GradError> {
        let n = comm.size().get();
        let names = (0..n as u64).map(|id| Sender { id, samples: 1 }).collect();
        let (d, rows) = (self.own.len(), vec![1; n]);
        let set = RankShards::exchange_rows(comm, Cpu::new(), d, &self.own, &rows, names, &mut self.parts)?;
        match &mut self.rule {
            Some(rule) => Reduce::<Ranks>::reduce(rule, step, &set, &mut self.out, &mut self.scratch),
            None => Ok(()),
        }
    }

    fn on_one(&mut self, comm: &dyn Communicator, step: u64) -> Result<(), GradError> {
        let (n, d) = (comm.size().get(), self.own.len());
        let is_one = comm.rank().index() == 0;
        let mut to = vec![0; n];
        to[0] = d;
        let from = vec![if is_one { d } else { 0 }; n];
        self.parts.resize(from.iter().sum(), 0.0);
        comm.all_to_all_into(&self.own, &to, &mut self.parts, &from)?;
        if let Some(rule) = self.rule.as_mut().filter(|_| is_one) {
            let rows: Vec<&[f32]> = self.parts.chunks_exact(d).collect();
            self.made.resize(d, 0.0);
            rule.aggregate(step, &Updates::new(d, &rows), &mut self.made)?;
        }
        Ok(comm.all_gather_into(&self.made, &to, &mut self.out)?)
    }
}

/// Seconds of `steps` on the rank that took longest, after one that brings memory up.
fn timed(way: Way, ranks: usize, d: usize, steps: u64) -> Duration {
    let times = run_ranks(WorldSize(ranks), &Options::default(), move |comm| {
        let mut step = Step::new(way, comm.rank().index(), ranks, d);
        step.make(way, &*comm, 1)?;
        comm.barrier()?;
        let began = Instant::now();
        (2..2 + steps).try_for_each(|i| step.make(way, &*comm, i))?;
        Ok::<_, GradError>(began.elapsed())
    });
    times.expect("no rank fails").into_iter().max().unwrap_or_default()
}

fn median(n: usize) -> Robust {
    Robust::new((n - 1) / 2, Median)
}

fn krum(n: usize) -> Robust {
    Robust::new(n.saturating_sub(3) / 2, Krum::default())
}

fn nnm_trimmed_mean(n: usize) -> Robust {
    Robust::new((n - 1) / 2, TrimmedMean).behind(Nnm)
}

fn collectives(c: &mut Criterion) {
    for d in D {
        for ranks in [2, 4, 8, 16] {
            let mut group = c.benchmark_group(format!("{ranks} ranks of {d}"));
            group.sample_size(10).throughput(Throughput::Bytes((d * size_of::<f32>()) as u64));
            let mut bench = |name: &str, way: Way| {
                group.bench_function(BenchmarkId::from_parameter(name), |bench| {
                    bench.iter_custom(|steps| timed(way, ranks, d, steps));
                });
            };
            bench("mean, all-reduce", Way::AllReduce);
            for (name, rule) in RULES {
                if rule(ranks).min_n() <= ranks {
                    bench(&format!("{name}, shards"), Way::Shards(rule));
                    bench(&format!("{name}, gathered to one"), Way::ToOne(rule));
                }
            }
            group.finish();
        }
    }
}

criterion_group!(all, collectives);
criterion_main!(all);
