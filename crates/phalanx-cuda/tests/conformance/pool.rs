//! Pooling.

use crate::held::{Held, Ids, WRITES, assert_bits, both, normals};
use phalanx_tensor::op::{PoolOps, PoolSpec};

fn specs() -> Vec<PoolSpec> {
    let spec = |planes, hw, kernel, stride, padding| PoolSpec { planes, hw, kernel, stride, padding };
    vec![
        spec(1, [1, 1], [1, 1], [1, 1], [0, 0]),
        spec(3, [4, 6], [2, 2], [2, 2], [0, 0]),
        spec(2, [7, 5], [3, 2], [1, 2], [1, 0]),
        spec(5, [9, 8], [3, 3], [2, 2], [1, 1]),
        spec(33, [5, 5], [2, 2], [3, 3], [0, 0]),
        spec(0, [4, 4], [2, 2], [2, 2], [0, 0]),
    ]
}

fn extents(spec: &PoolSpec) -> (usize, usize) {
    let outs: usize = spec.out_hw().iter().product();
    (spec.planes * spec.hw[0] * spec.hw[1], spec.planes * outs)
}

#[test]
fn maxima_and_where_they_are() {
    for spec in specs() {
        let (cells, outs) = extents(&spec);
        // equal numbers, and some that are none
        let mut x: Vec<f32> = normals(cells, 1).into_iter().map(f32::round).collect();
        x.iter_mut().skip(3).step_by(11).for_each(|x| *x = f32::NAN);
        x.iter_mut().skip(5).step_by(13).for_each(|x| *x = f32::NEG_INFINITY);
        let (dy, old, other) = (normals(outs, 2), normals(cells, 3), normals(cells, 4));
        let (want, got) = both!(|b| {
            let (x, mut y) = (Held::new(b, &x), Held::new(b, &vec![0.0; outs]));
            let mut argmax = Ids::new(b, &vec![9; outs]);
            b.max_pool2d(&spec, x.view(), y.write(), argmax.write());
            let (dy, mut dx) = (Held::new(b, &dy), Held::new(b, &old));
            b.max_pool2d_grad(&spec, argmax.view(), dy.view(), dx.write());
            let (other, mut picked) = (Held::new(b, &other), Held::new(b, &vec![0.0; outs]));
            b.max_pool2d_tangent(&spec, argmax.view(), other.view(), picked.write());
            ([y.get(), dx.get(), picked.get()].concat(), argmax.get())
        });
        assert_eq!(want.1, got.1, "{spec:?}");
        assert_bits(&format!("{spec:?}"), (want.0, got.0));
    }
}

#[test]
fn means() {
    for spec in specs() {
        let (cells, outs) = extents(&spec);
        let (x, dy, old) = (normals(cells, 1), normals(outs, 2), normals(cells, 3));
        for write in WRITES {
            assert_bits(
                &format!("{spec:?}"),
                both!(|b| {
                    let (x, mut y) = (Held::new(b, &x), Held::new(b, &vec![0.0; outs]));
                    b.avg_pool2d(&spec, x.view(), y.write());
                    let (dy, mut dx) = (Held::new(b, &dy), Held::new(b, &old));
                    b.avg_pool2d_grad(&spec, dy.view(), write, dx.write());
                    [y.get(), dx.get()].concat()
                }),
            );
        }
    }
}
