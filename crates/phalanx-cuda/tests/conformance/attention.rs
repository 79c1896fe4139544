//! Softmax and attention.

use crate::held::{Held, WRITES, assert_close, both, gpu, normals};
use phalanx_tensor::Write;
use phalanx_tensor::op::{AttentionOps, AttentionSpec};

#[test]
fn softmax_its_logarithm_and_their_gradients() {
    for (rows, d) in [(0, 3), (1, 1), (33, 10), (5, 65), (3, 257), (2, 1100)] {
        let (x, dy, old) = (normals(rows * d, 1), normals(rows * d, 2), normals(rows * d, 3));
        for write in WRITES {
            assert_close(
                &format!("{rows} x {d} {write:?}"),
                3e-6,
                both!(|b| {
                    let (x, dy) = (Held::new(b, &x), Held::new(b, &dy));
                    let [mut y, mut log, mut dx, mut dlog] = [(); 4].map(|()| Held::new(b, &old));
                    b.softmax(d, x.view(), y.write());
                    b.softmax_grad(d, y.view(), dy.view(), write, dx.write());
                    b.log_softmax(d, x.view(), log.write());
                    b.log_softmax_grad(d, log.view(), dy.view(), write, dlog.write());
                    [y.get(), dx.get(), log.get(), dlog.get()].concat()
                }),
            );
        }
    }
}

#[test]
fn a_row_that_is_not_finite_is_nan_and_no_other() {
    let inf = f32::INFINITY;
    let x = [1.0, f32::NAN, 2.0, -inf, -inf, -inf, inf, 1.0, 2.0, -inf, 1.0, 2.0];
    assert_close(
        "softmax",
        1e-6,
        both!(|b| {
            let (x, mut y) = (Held::new(b, &x), Held::new(b, &[0.0; 12]));
            b.softmax(3, x.view(), y.write());
            y.get()
        }),
    );
}

#[test]
fn causal_attention_and_its_gradient() {
    let extents = [
        (1, 1, 1, 1),
        (2, 7, 3, 5),
        (1, 33, 2, 32),
        (1, 70, 1, 33),
        (1, 9, 1, 128),
        (1, 15, 1, 31),
        (1, 17, 1, 8),
        (1, 64, 1, 32),
        (1, 65, 1, 64),
        (1, 130, 1, 12),
        (1, 31, 1, 63),
        (1, 33, 1, 65),
        (1, 49, 1, 127),
        (1, 66, 1, 128),
    ];
    for (batch, time, heads, head_dim) in extents {
        let spec = AttentionSpec { batch, time, heads, head_dim };
        let (cells, rows) = (batch * time * spec.width(), batch * heads * time);
        let (qkv, dy, old) = (normals(3 * cells, 1), normals(cells, 2), normals(3 * cells, 3));
        for write in WRITES {
            assert_close(
                &format!("{spec:?} {write:?}"),
                2e-5,
                both!(|b| {
                    let (qkv, dy) = (Held::new(b, &qkv), Held::new(b, &dy));
                    let (mut y, mut lse) = (Held::new(b, &vec![0.0; cells]), Held::new(b, &vec![0.0; rows]));
                    let mut dqkv = Held::new(b, &old);
                    b.attention(&spec, qkv.view(), y.write(), lse.write());
                    b.attention_grad(&spec, qkv.view(), y.view(), lse.view(), dy.view(), write, dqkv.write());
                    [y.get(), lse.get(), dqkv.get()].concat()
                }),
            );
        }
    }
}

#[test]
fn what_is_no_number_reaches_only_those_who_see_it() {
    for (time, head_dim, at) in [(40, 8, 21), (40, 64, 21), (40, 128, 21), (70, 32, 35), (35, 7, 34)] {
        let spec = AttentionSpec { batch: 1, time, heads: 1, head_dim };
        let cells = time * head_dim;
        // in queries, keys, values or what comes back
        for part in 0..4 {
            let (mut qkv, mut dy) = (normals(3 * cells, 1), normals(cells, 2));
            match part {
                3 => dy[at * head_dim] = f32::NAN,
                _ => qkv[(3 * at + part) * head_dim] = f32::NAN,
            }
            let device = gpu();
            let (qkv, dy) = (Held::new(&device, &qkv), Held::new(&device, &dy));
            let (mut y, mut lse) =
                (Held::new(&device, &vec![0.0; cells]), Held::new(&device, &vec![0.0; time]));
            let mut dqkv = Held::new(&device, &vec![0.0; 3 * cells]);
            device.attention(&spec, qkv.view(), y.write(), lse.write());
            device.attention_grad(
                &spec,
                qkv.view(),
                y.view(),
                lse.view(),
                dy.view(),
                Write::Set,
                dqkv.write(),
            );
            let (y, dqkv) = (y.get(), dqkv.get());
            let finite = |x: &[f32]| x.iter().all(|x| x.is_finite());
            let what = format!("{spec:?}, part {part}");
            for t in 0..time {
                let [y, dq, dkv] =
                    [(&y, 1, 0, 1), (&dqkv, 3, 0, 1), (&dqkv, 3, 1, 3)].map(|(x, parts, first, end)| {
                        finite(&x[(parts * t + first) * head_dim..(parts * t + end) * head_dim])
                    });
                // keys and values reach queries from theirs on, the others their own; and what these see
                let reached = if part == 1 || part == 2 { t >= at } else { t == at };
                assert_eq!(y, !reached || part == 3, "{what}, y of {t}");
                assert_eq!(dq, !reached, "{what}, dq of {t}");
                assert_eq!(dkv, t > at && (part == 0 || part == 3), "{what}, dk and dv of {t}");
            }
        }
    }
}
