//! Matrix products.

use crate::held::{Held, WRITES, assert_close, both, gpu, normals};
use phalanx_cuda::{Cuda, Products};
use phalanx_tensor::Write;
use phalanx_tensor::op::{ElementwiseOps as _, Mat, MatmulOps, MatmulSpec, UnaryKind};

fn compare(spec: &MatmulSpec, lens: [usize; 3]) {
    let [a, b, c] = [normals(lens[0], 1), normals(lens[1], 2), normals(lens[2], 3)];
    for write in WRITES {
        assert_close(
            &format!("{spec:?} {write:?}"),
            1e-5,
            both!(|d| {
                let (a, b, mut c) = (Held::new(d, &a), Held::new(d, &b), Held::new(d, &c));
                d.matmul(spec, a.view(), b.view(), write, c.write());
                c.get()
            }),
        );
    }
}

#[test]
fn products_of_every_orientation() {
    for (m, n, k) in [(1, 1, 1), (1, 33, 7), (31, 1, 5), (16, 17, 1), (5, 6, 65), (33, 32, 31)] {
        for (turn_a, turn_b) in [(false, false), (true, false), (false, true), (true, true)] {
            let side =
                |turn, rows, cols| if turn { Mat::dense(cols, rows).t() } else { Mat::dense(rows, cols) };
            let (a, b) = (side(turn_a, m, k), side(turn_b, k, n));
            compare(&MatmulSpec { batch: 1, m, n, k, a, b, c: Mat::dense(m, n) }, [m * k, k * n, m * n]);
        }
    }
}

#[test]
fn batches_and_parts_of_matrices() {
    let (m, n, k) = (4, 5, 6);
    let dense =
        MatmulSpec { batch: 3, m, n, k, a: Mat::dense(m, k), b: Mat::dense(k, n), c: Mat::dense(m, n) };
    compare(&dense, [72, 90, 60]);
    compare(&MatmulSpec { b: dense.b.shared(), ..dense }, [72, 30, 60]);
    // the batch adds up into one matrix
    compare(&MatmulSpec { c: dense.c.shared(), ..dense }, [72, 90, 20]);
    // rows that lie apart, behind an offset
    let wide = |cols| Mat { offset: 3, rows: 11, cols: 1, batch: cols };
    compare(&MatmulSpec { batch: 1, a: wide(0), b: wide(0), c: wide(0), ..dense }, [64, 80, 64]);
}

/// Versions of cuBLAS, and the stand-in, take 65535 matrices.
#[test]
fn more_matrices_than_a_call_of_cublas_takes() {
    let (batch, one) = (70_000, Mat::dense(1, 1));
    compare(&MatmulSpec { batch, m: 1, n: 1, k: 1, a: one, b: one.shared(), c: one }, [batch, 1, batch]);
}

/// What cuBLAS does not take: neither rows nor columns contiguous, rows that are one, nothing to sum.
#[test]
fn layouts_of_the_kernel_of_our_own() {
    let (m, n, k) = (17, 19, 33);
    let dense =
        MatmulSpec { batch: 1, m, n, k, a: Mat::dense(m, k), b: Mat::dense(k, n), c: Mat::dense(m, n) };
    let every_other = Mat { offset: 1, rows: 2 * k, cols: 2, batch: 0 };
    compare(&MatmulSpec { a: every_other, ..dense }, [2 * m * k + 1, k * n, m * n]);
    let one_row = Mat { offset: 0, rows: 0, cols: 1, batch: 0 };
    compare(&MatmulSpec { a: one_row, ..dense }, [k, k * n, m * n]);
    compare(&MatmulSpec { k: 0, ..dense }, [1, 1, m * n]);
    let batch = MatmulSpec { batch: 3, a: Mat { batch: 1, ..one_row }, ..dense };
    compare(&MatmulSpec { b: dense.b.shared(), ..batch }, [k + 2, k * n, 3 * m * n]);
    compare(&MatmulSpec { b: dense.b.shared(), c: dense.c.shared(), ..batch }, [k + 2, k * n, m * n]);
}

#[test]
fn nothing_times_something() {
    let spec = |m, n| MatmulSpec {
        batch: 1,
        m,
        n,
        k: 2,
        a: Mat::dense(m, 2),
        b: Mat::dense(2, n),
        c: Mat::dense(m, n),
    };
    compare(&spec(0, 3), [0, 6, 0]);
    compare(&spec(3, 0), [6, 0, 0]);
}

#[test]
fn linear_layers() {
    for (m, n, k) in [(1, 1, 1), (33, 10, 64), (5, 65, 3), (9, 132, 2), (0, 4, 4)] {
        let [x, w, bias] = [normals(m * k, 1), normals(n * k, 2), normals(n, 3)];
        for act in [None, Some(UnaryKind::Relu), Some(UnaryKind::GeluTanh)] {
            for has_bias in [true, false] {
                let keeps = act == Some(UnaryKind::GeluTanh);
                assert_close(
                    &format!("{m} {n} {k} {act:?} {has_bias}"),
                    1e-5,
                    both!(|d| {
                        let (x, w, bias) = (Held::new(d, &x), Held::new(d, &w), Held::new(d, &bias));
                        let old = vec![9.0; m * n];
                        let (mut pre, mut y) = (Held::new(d, &old), Held::new(d, &old));
                        let bias = has_bias.then(|| bias.view());
                        d.linear(
                            m,
                            n,
                            k,
                            x.view(),
                            w.view(),
                            bias,
                            act,
                            keeps.then(|| pre.write()),
                            y.write(),
                        );
                        [pre.get(), y.get()].concat()
                    }),
                );
            }
        }
    }
}

/// One kernel adds the bias and applies the activation: to the bits of doing one after the other.
#[test]
fn activations_of_linear_layers() {
    let d = gpu();
    for (kind, (m, n)) in UnaryKind::ALL.into_iter().zip([(9, 4), (7, 5), (1, 257)].into_iter().cycle()) {
        let [x, w, bias] = [normals(m, 1), normals(n, 2), normals(n, 3)];
        let (x, w, bias) = (Held::new(&d, &x), Held::new(&d, &w), Held::new(&d, &bias));
        let old = vec![9.0; m * n];
        let (mut pre, mut y, mut twice) = (Held::new(&d, &old), Held::new(&d, &old), Held::new(&d, &old));
        let write = pre.write();
        d.linear(m, n, 1, x.view(), w.view(), Some(bias.view()), Some(kind), Some(write), y.write());
        if kind == UnaryKind::Relu {
            // which keeps no input
            d.linear(m, n, 1, x.view(), w.view(), Some(bias.view()), None, None, pre.write());
        }
        d.unary(kind, pre.view(), twice.write());
        let bits = |held: &Held<_>| held.get().into_iter().map(f32::to_bits).collect::<Vec<_>>();
        assert_eq!(bits(&y), bits(&twice), "{kind:?}");
    }
}

/// Operands of fewer bits: near the product, and not it. 65 errors of one part in 2048 add up like their root.
#[test]
fn rounded_products_are_near() {
    let (m, n, k) = (33, 17, 65);
    let spec =
        MatmulSpec { batch: 1, m, n, k, a: Mat::dense(m, k), b: Mat::dense(k, n), c: Mat::dense(m, n) };
    let (a, b) = (normals(m * k, 1), normals(k * n, 2));
    fn product<B: MatmulOps<Elem = f32>>(spec: &MatmulSpec, device: &B, a: &[f32], b: &[f32]) -> Vec<f32> {
        let zeros = vec![0.0; spec.m * spec.n];
        let (a, b, mut c) = (Held::new(device, a), Held::new(device, b), Held::new(device, &zeros));
        device.matmul(spec, a.view(), b.view(), Write::Set, c.write());
        c.get()
    }
    let exact = product(&spec, &gpu(), &a, &b);
    let rounded = product(&spec, &Cuda::open_for(0, Products::Tf32).expect("a device"), &a, &b);
    assert_ne!(rounded, exact, "products round");
    assert_close("tf32", 0.01, (exact, rounded));
}
