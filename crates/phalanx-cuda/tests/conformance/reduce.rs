//! Sums and maxima along an axis, moments and inner products.

use crate::held::{Held, LENGTHS, WRITES, assert_bits, assert_close, both, normals};
use phalanx_tensor::op::{Moments, ReduceOps};

#[test]
fn sums_along_an_axis() {
    let extents = [
        (1, 1000, 1),
        (3, 33, 1),
        (5, 0, 1),
        (1, 257, 31),
        (2, 7, 33),
        (3, 9, 64),
        (0, 4, 5),
        (2, 400, 33),
        (4, 1, 1),
        (2, 8191, 1),
        (1, 8192, 1),
        (3, 12_293, 1),
    ];
    for (outer, len, inner) in extents {
        for write in WRITES {
            let (x, old) = (normals(outer * len * inner, 1), normals(outer * inner, 2));
            assert_close(
                "sum_axis",
                2e-5,
                both!(|b| {
                    let (x, mut y) = (Held::new(b, &x), Held::new(b, &old));
                    b.sum_axis(x.view(), outer, len, inner, write, y.write());
                    y.get()
                }),
            );
        }
    }
}

#[test]
fn maxima_along_an_axis() {
    for (outer, len, inner) in [(1, 100, 1), (3, 5, 33), (2, 1, 257)] {
        let mut x = normals(outer * len * inner, 1);
        let at = x.len() / 2;
        x[at] = f32::NAN;
        x[0] = f32::NEG_INFINITY;
        assert_bits(
            "max_axis",
            both!(|b| {
                let (x, mut y) = (Held::new(b, &x), Held::new(b, &vec![0.0; outer * inner]));
                b.max_axis(x.view(), outer, len, inner, y.write());
                y.get()
            }),
        );
    }
}

/// Not near: the same bits, through blocks that are full, begun, and several to a launch.
#[test]
fn moments_and_products_have_the_bits_of_the_cpu() {
    for n in LENGTHS.into_iter().chain([4095, 4096, 4097, 40_000]) {
        let (mut x, y) = (normals(n, 1), normals(n, 2));
        let (want, got) = both!(|b| {
            let (x, y) = (Held::new(b, &x), Held::new(b, &y));
            (b.moments(x.view()), b.dot(x.view(), y.view()))
        });
        assert_eq!(want, got, "{n}");
        if n > 20 {
            (x[0], x[n - 1], x[20]) = (f32::NAN, f32::INFINITY, f32::NEG_INFINITY);
            let (want, got) = both!(|b| b.moments(Held::new(b, &x).view()));
            assert_eq!(want.nonfinite, got.nonfinite);
            assert!(got.sum_sq.is_nan() && got.sum_abs.is_nan());
        }
    }
    let (want, got) = both!(|b| b.moments(Held::new(b, &[1e30, 1e-30]).view()));
    assert_eq!(want, got);
    assert_ne!(got, Moments::default());
}
