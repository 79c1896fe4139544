//! Normalisations.

use crate::held::{Held, WRITES, assert_close, assert_close_f64, both, normals};
use phalanx_tensor::op::NormOps;

const EXTENTS: [(usize, usize); 9] =
    [(1, 1), (33, 32), (7, 65), (3, 257), (2, 1100), (300, 5), (5, 132), (3, 512), (2, 516)];

#[test]
fn layer_norm_and_its_gradients() {
    for (rows, d) in EXTENTS {
        let (x, gain, bias, dy) = (normals(rows * d, 1), normals(d, 2), normals(d, 3), normals(rows * d, 4));
        let (old, of_d) = (normals(rows * d, 5), normals(d, 6));
        for write in WRITES {
            assert_close(
                &format!("{rows} x {d} {write:?}"),
                3e-5,
                both!(|b| {
                    let (x, gain, bias) = (Held::new(b, &x), Held::new(b, &gain), Held::new(b, &bias));
                    let (mut y, mut stats) = (Held::new(b, &old), Held::new(b, &vec![0.0; 2 * rows]));
                    b.layer_norm(d, 1e-5, x.view(), gain.view(), bias.view(), y.write(), stats.write());
                    let (dy, mut dx) = (Held::new(b, &dy), Held::new(b, &old));
                    let (mut dgain, mut dbias) = (Held::new(b, &of_d), Held::new(b, &of_d));
                    b.layer_norm_grad(
                        d,
                        x.view(),
                        gain.view(),
                        stats.view(),
                        dy.view(),
                        (write, dgain.write()),
                        (write, dbias.write()),
                        (write, dx.write()),
                    );
                    [y.get(), stats.get(), dgain.get(), dbias.get(), dx.get()].concat()
                }),
            );
        }
    }
}

#[test]
fn rms_norm_and_its_gradients() {
    for (rows, d) in EXTENTS {
        let (x, gain, dy) = (normals(rows * d, 1), normals(d, 2), normals(rows * d, 4));
        let (old, of_d) = (normals(rows * d, 5), normals(d, 6));
        for write in WRITES {
            assert_close(
                &format!("{rows} x {d} {write:?}"),
                3e-5,
                both!(|b| {
                    let (x, gain) = (Held::new(b, &x), Held::new(b, &gain));
                    let (mut y, mut stats) = (Held::new(b, &old), Held::new(b, &vec![0.0; rows]));
                    b.rms_norm(d, 1e-5, x.view(), gain.view(), y.write(), stats.write());
                    let (dy, mut dx, mut dgain) =
                        (Held::new(b, &dy), Held::new(b, &old), Held::new(b, &of_d));
                    let (to_gain, to_x) = ((write, dgain.write()), (write, dx.write()));
                    b.rms_norm_grad(d, x.view(), gain.view(), stats.view(), dy.view(), to_gain, to_x);
                    [y.get(), stats.get(), dgain.get(), dx.get()].concat()
                }),
            );
        }
    }
}

#[test]
fn channels() {
    for (n, c, hw) in [(1, 1, 1), (3, 5, 33), (2, 33, 9), (4, 2, 256)] {
        let (x, y, old) = (normals(n * c * hw, 1), normals(n * c * hw, 2), normals(n * c * hw, 3));
        assert_close_f64(
            "channel_sums",
            1e-12,
            both!(|b| {
                let (x, y) = (Held::new(b, &x), Held::new(b, &y));
                let mut sums = vec![7.0; 2 * c];
                b.channel_sums(n, c, hw, x.view(), y.view(), &mut sums);
                sums
            }),
        );
        let k: Vec<f64> = normals(3 * c, 4).into_iter().map(f64::from).collect();
        for write in WRITES {
            assert_close(
                "channel_affine",
                1e-6,
                both!(|b| {
                    let (x, y, mut z) = (Held::new(b, &x), Held::new(b, &y), Held::new(b, &old));
                    b.channel_affine(n, c, hw, &k, x.view(), y.view(), write, z.write());
                    z.get()
                }),
            );
        }
    }
}
