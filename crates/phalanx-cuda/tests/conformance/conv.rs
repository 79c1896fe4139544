//! Convolutions with their gradients.

use crate::held::{Held, Ids, WRITES, assert_close, both, normals};
use phalanx_tensor::Write;
use phalanx_tensor::op::{Activation, ConvOps, ConvSpec};

/// One cell; LeNet's first layer; strides, padding and groups that are multiples of nothing; square kernels with padding;
/// more images than the threads that share a channel take at once.
pub(crate) fn specs() -> Vec<ConvSpec> {
    let base =
        ConvSpec { n: 2, c: 1, hw: [8, 8], o: 6, kernel: [5, 5], stride: [1, 1], padding: [0, 0], groups: 1 };
    vec![
        ConvSpec { n: 1, hw: [1, 1], o: 1, kernel: [1, 1], ..base },
        ConvSpec { hw: [12, 12], ..base },
        ConvSpec { n: 3, c: 4, hw: [7, 6], o: 6, kernel: [3, 2], padding: [1, 1], groups: 2, ..base },
        ConvSpec { n: 3, c: 2, hw: [9, 7], o: 5, kernel: [3, 3], stride: [2, 3], padding: [1, 2], ..base },
        ConvSpec { n: 3, c: 2, hw: [5, 7], kernel: [3, 3], padding: [1, 1], ..base },
        ConvSpec { c: 2, hw: [6, 5], o: 4, padding: [2, 2], groups: 2, ..base },
        ConvSpec { n: 17, hw: [9, 9], o: 3, kernel: [2, 2], ..base },
        // columns enough to cut the gradient of the weight, which divide and which do not
        ConvSpec { n: 17, hw: [17, 17], o: 3, kernel: [2, 2], ..base },
        ConvSpec { n: 5, hw: [31, 30], o: 3, kernel: [2, 2], ..base },
        ConvSpec { n: 0, ..base },
    ]
}

pub(crate) const ACTIVATIONS: [Activation; 3] = [Activation::None, Activation::Relu, Activation::ReluPool2];

pub(crate) fn outputs(spec: &ConvSpec, act: Activation) -> usize {
    spec.n * spec.o * act.out_hw(spec.out_hw()).iter().product::<usize>()
}

#[test]
fn convolutions_and_their_gradients() {
    for (spec, act) in specs().into_iter().flat_map(|spec| ACTIVATIONS.map(|act| (spec, act))) {
        let outs = outputs(&spec, act);
        let [x, w, bias] = [normals(spec.input_len(), 1), normals(spec.weight_len(), 2), normals(spec.o, 3)];
        let dy = normals(outs, 4);
        let pools = act == Activation::ReluPool2;
        for write in WRITES {
            let (want, got) = both!(|b| {
                let (x, w, bias) = (Held::new(b, &x), Held::new(b, &w), Held::new(b, &bias));
                let (mut y, mut argmax) = (Held::new(b, &vec![0.0; outs]), Ids::new(b, &vec![0; outs]));
                let places = pools.then(|| argmax.write());
                b.conv2d(&spec, x.view(), w.view(), Some(bias.view()), act, y.write(), places);
                let dy = Held::new(b, &dy);
                let [mut dw, mut db, mut dx] =
                    [spec.weight_len(), spec.o, spec.input_len()].map(|len| Held::new(b, &normals(len, 5)));
                let places = pools.then(|| argmax.view());
                let dw_to = Some((write, dw.write()));
                let (db_to, dx_to) = (Some((write, db.write())), Some((write, dx.write())));
                b.conv2d_grad(
                    &spec,
                    act,
                    x.view(),
                    w.view(),
                    y.view(),
                    places,
                    dy.view(),
                    dw_to,
                    db_to,
                    dx_to,
                );
                ([y.get(), dw.get(), db.get(), dx.get()].concat(), argmax.get())
            });
            assert_eq!(want.1, got.1, "{spec:?} {act:?}");
            assert_close(&format!("{spec:?} {act:?} {write:?}"), 3e-5, (want.0, got.0));
        }
    }
}

#[test]
fn only_what_is_wanted_is_written() {
    let spec = specs()[2];
    let outs = outputs(&spec, Activation::None);
    let [x, w, dy] = [normals(spec.input_len(), 1), normals(spec.weight_len(), 2), normals(outs, 4)];
    assert_close(
        "no bias",
        3e-5,
        both!(|b| {
            let (x, w, dy) = (Held::new(b, &x), Held::new(b, &w), Held::new(b, &dy));
            let (mut y, mut dx) =
                (Held::new(b, &vec![0.0; outs]), Held::new(b, &vec![9.0; spec.input_len()]));
            b.conv2d(&spec, x.view(), w.view(), None, Activation::None, y.write(), None);
            let dx_to = Some((Write::Set, dx.write()));
            b.conv2d_grad(
                &spec,
                Activation::None,
                x.view(),
                w.view(),
                y.view(),
                None,
                dy.view(),
                None,
                None,
                dx_to,
            );
            [y.get(), dx.get()].concat()
        }),
    );
}
