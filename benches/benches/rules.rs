//! Rules over ranks on two threads: the numbers of each kind of kernel, by the bytes of the input.

use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use phalanx::prelude::Rule;
use phalanx::robust::{
    Bulyan, GeometricMedian, Krum, MeaMed, Median, MultiKrum, Nnm, Robust, TrimmedMean, Updates,
};
use phalanx_benches::numbers;

const D: usize = 100_000;

fn rules(c: &mut Criterion) {
    for n in [10, 25, 50, 100] {
        let mut group = c.benchmark_group(format!("{n} vectors of {D}"));
        group.sample_size(20).throughput(Throughput::Bytes((n * D * size_of::<f32>()) as u64));
        let rows: Vec<Vec<f32>> = (0..n).map(|i| numbers(D + i)[i..].to_vec()).collect();
        let slices: Vec<&[f32]> = rows.iter().map(Vec::as_slice).collect();
        let updates = Updates::new(D, &slices);
        let mut out = vec![0.0; D];
        let f = n / 5 - 1;
        let plain: Vec<Box<dyn Rule>> = vec![
            Box::new(Median),
            Box::new(TrimmedMean),
            Box::new(MeaMed),
            Box::new(Krum::default()),
            Box::new(MultiKrum::default()),
            Box::new(GeometricMedian::default()),
            Box::new(Bulyan),
        ];
        let rules = plain.into_iter().map(|rule| (rule.name(), Robust::new(f, rule)));
        let mixed = ("nnm trimmed-mean", Robust::new(f, TrimmedMean).behind(Nnm));
        for (name, rule) in rules.chain([mixed]) {
            let mut rule = rule.with_threads(2);
            group.bench_function(BenchmarkId::from_parameter(name), |bench| {
                bench.iter(|| rule.aggregate(1, &updates, &mut out));
            });
        }
        group.finish();
    }
}

criterion_group!(all, rules);
criterion_main!(all);
