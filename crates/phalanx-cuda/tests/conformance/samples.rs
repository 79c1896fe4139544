//! Lengths of the gradients of single samples.

use crate::conv::{ACTIVATIONS, outputs, specs};
use crate::held::{Held, Ids, assert_close, assert_close_f64, both, ids, normals};
use phalanx_tensor::op::{Activation, ConvOps, ConvSamples, SampleOps, SampleRows};

/// Not near: sums of blocks in the order of the CPU.
#[test]
fn inner_products_of_rows_have_the_bits_of_the_cpu() {
    for (rows, d) in [(0, 3), (1, 1), (33, 7), (3, 257), (2, 4097)] {
        let (x, y) = (normals(rows * d, 1), normals(rows * d, 2));
        let (want, got) = both!(|b| {
            let (x, y, one) = (Held::new(b, &x), Held::new(b, &y), Held::new(b, &y[..d.min(y.len())]));
            let (mut each, mut shared) = (vec![0.5; rows], vec![0.5; rows]);
            b.row_dots(d, x.view(), y.view(), &mut each);
            if rows > 0 {
                b.row_dots(d, x.view(), one.view(), &mut shared);
            }
            (each, shared)
        });
        assert_eq!(want, got, "{rows} x {d}");
    }
}

#[test]
fn linear_layers() {
    for (samples, steps, n, k) in [(5, 1, 7, 33), (3, 20, 4, 5), (4, 3, 33, 40), (0, 2, 3, 4), (2, 2, 1, 1)] {
        let rows = SampleRows { samples, steps };
        let (x, dy) = (normals(rows.rows() * k, 1), normals(rows.rows() * n, 2));
        assert_close_f64(
            &format!("{samples} {steps} {n} {k}"),
            3e-5,
            both!(|b| {
                let (x, dy, mut out) = (Held::new(b, &x), Held::new(b, &dy), vec![1.0; samples]);
                b.linear_norms(rows, [n, k], x.view(), dy.view(), &mut out);
                out
            }),
        );
    }
}

#[test]
fn convolutions() {
    for (spec, act) in specs().into_iter().flat_map(|spec| ACTIVATIONS.map(|act| (spec, act))) {
        let outs = outputs(&spec, act);
        let [x, w, bias] = [normals(spec.input_len(), 1), normals(spec.weight_len(), 2), normals(spec.o, 3)];
        let dy = normals(outs, 4);
        assert_close_f64(
            &format!("{spec:?} {act:?}"),
            3e-5,
            both!(|b| {
                let (x, w, bias) = (Held::new(b, &x), Held::new(b, &w), Held::new(b, &bias));
                let (mut y, mut argmax) = (Held::new(b, &vec![0.0; outs]), Ids::new(b, &vec![0; outs]));
                let pools = act == Activation::ReluPool2;
                let places = pools.then(|| argmax.write());
                b.conv2d(&spec, x.view(), w.view(), Some(bias.view()), act, y.write(), places);
                let (dy, argmax) = (Held::new(b, &dy), pools.then(|| argmax.view()));
                let conv = ConvSamples { spec, act, x: x.view(), y: y.view(), argmax, dy: dy.view() };
                let [mut of_w, mut of_b, mut with_w, mut with_b] = [(); 4].map(|()| vec![1.0; spec.n]);
                b.conv2d_norms(&conv, &mut of_w, Some(&mut of_b));
                b.conv2d_products(&conv, (w.view(), &mut with_w), Some((bias.view(), &mut with_b)));
                [of_w, of_b, with_w, with_b].concat()
            }),
        );
    }
}

#[test]
fn lookups_and_gains() {
    for (samples, steps, d) in [(0, 2, 3), (1, 1, 1), (5, 9, 33), (3, 2, 257)] {
        let rows = SampleRows { samples, steps };
        let (dy, x) = (normals(rows.rows() * d, 1), normals(rows.rows() * d, 2));
        let picked = ids(rows.rows(), 4, 3);
        assert_close_f64(
            "gather_norms",
            1e-5,
            both!(|b| {
                let (dy, picked, mut out) = (Held::new(b, &dy), Ids::new(b, &picked), vec![1.0; samples]);
                b.gather_norms(rows, d, picked.view(), dy.view(), &mut out);
                out
            }),
        );
        for per_row in [1, 2] {
            let stats = normals(rows.rows() * per_row, 4);
            assert_close(
                "norm_gains",
                1e-5,
                both!(|b| {
                    let (x, dy, stats) = (Held::new(b, &x), Held::new(b, &dy), Held::new(b, &stats));
                    let mut gains = Held::new(b, &vec![9.0; samples * d]);
                    b.norm_gains(rows, d, x.view(), stats.view(), dy.view(), gains.write());
                    gains.get()
                }),
            );
        }
    }
}
