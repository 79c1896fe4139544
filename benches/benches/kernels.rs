//! Matrix products in every layout, and convolutions forward and backward, on one thread.
//!
//! Criterion's throughput is in elements a second, an element being one floating-point operation.

use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use phalanx::tensor::op::{Activation, ConvOps, Mat, MatmulOps, MatmulSpec};
use phalanx::tensor::{Cpu, Write};
use phalanx_benches::{PRODUCTS, convolutions, numbers};

fn products(c: &mut Criterion) {
    let cpu = Cpu::<f32>::new();
    for [m, n, k] in PRODUCTS {
        let mut group = c.benchmark_group(format!("product {m}x{n}x{k}"));
        group.throughput(Throughput::Elements((2 * m * n * k) as u64));
        let (a, b, mut out) = (numbers(m * k), numbers(n * k), vec![0.0; m * n]);
        let layouts = [
            ("a b", Mat::dense(m, k), Mat::dense(k, n)),
            ("a bT", Mat::dense(m, k), Mat::dense(n, k).t()),
            ("aT b", Mat::dense(k, m).t(), Mat::dense(k, n)),
        ];
        for (name, left, right) in layouts {
            let spec = MatmulSpec { batch: 1, m, n, k, a: left, b: right, c: Mat::dense(m, n) };
            group.bench_function(BenchmarkId::new("phalanx", name), |bench| {
                bench.iter(|| cpu.matmul(&spec, &a, &b, Write::Set, &mut out));
            });
        }
        group.finish();
    }
}

fn images(c: &mut Criterion) {
    let cpu = Cpu::<f32>::new();
    for (name, spec) in convolutions() {
        let mut group = c.benchmark_group(name);
        group.throughput(Throughput::Elements((2 * spec.output_len() * spec.weight_len() / spec.o) as u64));
        let (x, w) = (numbers(spec.input_len()), numbers(spec.weight_len()));
        let (dy, mut y) = (numbers(spec.output_len()), vec![0.0; spec.output_len()]);
        let act = Activation::None;
        group.bench_function("forward", |bench| {
            bench.iter(|| cpu.conv2d(&spec, &x, &w, None, act, &mut y, None));
        });
        let mut dw = vec![0.0; w.len()];
        group.bench_function("gradient of the weight", |bench| {
            bench.iter(|| {
                cpu.conv2d_grad(&spec, act, &x, &w, &y, None, &dy, Some((Write::Set, &mut dw)), None, None)
            });
        });
        let mut dx = vec![0.0; x.len()];
        group.bench_function("gradient of the input", |bench| {
            bench.iter(|| {
                cpu.conv2d_grad(&spec, act, &x, &w, &y, None, &dy, None, None, Some((Write::Set, &mut dx)))
            });
        });
        group.finish();
    }
}

criterion_group!(kernels, products, images);
criterion_main!(kernels);
