//! What rules over gradients cost, against the kernels for host memory.

use crate::held::{Held, assert_bits, assert_close_f64, gpu, normals};
use phalanx_cuda::{Cuda, CudaView};
use phalanx_tensor::Backend as _;
use phalanx_tensor::rows::{Columns, Products, Statistic, weighted_sum};

fn drawn(n: usize, d: usize) -> Vec<Vec<f32>> {
    (0..n as u64).map(|i| normals(d, i)).collect()
}

fn on(gpu: &Cuda, rows: &[Vec<f32>]) -> Vec<Held<Cuda>> {
    rows.iter().map(|row| Held::new(gpu, row)).collect()
}

fn views(rows: &[Held<Cuda>]) -> Vec<CudaView<'_, f32>> {
    rows.iter().map(Held::view).collect()
}

fn slices(rows: &[Vec<f32>]) -> Vec<&[f32]> {
    rows.iter().map(Vec::as_slice).collect()
}

#[test]
fn inner_products() {
    let gpu = gpu();
    for (n, d) in [(0, 0), (1, 1), (3, 0), (5, 257), (9, 4097)] {
        let rows = drawn(n, d);
        let mut products = Products::new(n).expect("memory");
        products.add(&slices(&rows));
        let (mut want, mut got) = (vec![0.0; n * n], vec![7.0; n * n]);
        products.take(&mut want);
        gpu.gram(&views(&on(&gpu, &rows)), &mut got);
        assert_close_f64(&format!("{n} x {d}"), 1e-12, (want, got));
    }
    gpu.check().expect("the device is well");
}

#[test]
fn weighted_sums_have_the_bits_of_the_host() {
    let gpu = gpu();
    for (n, d) in [(1, 1), (4, 33), (7, 1001), (3, 0)] {
        let mut rows = drawn(n, d);
        let mut weights: Vec<f64> = normals(n, 9).into_iter().map(f64::from).collect();
        // a row of weight 0 is not read
        weights[0] = 0.0;
        rows[0].fill(f32::NAN);
        let mut want = vec![0.0; d];
        weighted_sum(&slices(&rows), &weights, &mut want);
        let mut out = Held::new(&gpu, &vec![5.0; d]);
        gpu.weighted_sum(&views(&on(&gpu, &rows)), &weights, out.write());
        assert_bits(&format!("{n} x {d}"), (want, out.get()));
    }
    gpu.check().expect("the device is well");
}

#[test]
fn statistics_of_columns_have_the_bits_of_the_host() {
    let gpu = gpu();
    for (n, d) in [(1, 1), (2, 33), (7, 257), (12, 31), (40, 65)] {
        let rows = drawn(n, d);
        let statistics = [
            Statistic::Median,
            Statistic::TrimmedMean { cut: (n - 1) / 3 },
            Statistic::MeanAroundMedian { keep: n.div_ceil(2) },
            Statistic::SignSum,
        ];
        for statistic in statistics {
            let mut want = vec![0.0; d];
            assert!(Columns::new(n, statistic).apply(&slices(&rows), &mut want));
            let mut out = Held::new(&gpu, &vec![5.0; d]);
            assert!(gpu.columns(&views(&on(&gpu, &rows)), statistic, out.write()));
            assert_bits(&format!("{statistic:?} of {n} x {d}"), (want, out.get()));
        }
    }
}

#[test]
fn a_number_that_is_not_finite_is_told() {
    let gpu = gpu();
    let mut rows = drawn(5, 300);
    rows[4][299] = f32::INFINITY;
    let mut out = Held::new(&gpu, &vec![0.0; 300]);
    assert!(!gpu.columns(&views(&on(&gpu, &rows)), Statistic::Median, out.write()));
    gpu.check().expect("the device is well");
}
