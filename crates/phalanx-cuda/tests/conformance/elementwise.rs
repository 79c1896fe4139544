//! Element by element, and strided copies.

use crate::held::{Held, LENGTHS, WRITES, assert_bits, assert_close, both, normals};
use phalanx_tensor::op::{BinaryKind, ElementwiseOps, LayoutOps, Strided, UnaryKind};
use phalanx_tensor::rng::{Purpose, Stream};
use phalanx_tensor::{Shape, Write};

fn positive(kind: UnaryKind) -> bool {
    matches!(kind, UnaryKind::Ln | UnaryKind::Sqrt | UnaryKind::Rsqrt | UnaryKind::Recip)
}

/// The logarithm is the library's, everything else has the bits of the CPU.
#[track_caller]
fn compare(what: &str, kind: UnaryKind, pair: (Vec<f32>, Vec<f32>)) {
    if kind == UnaryKind::Ln { assert_close(what, 3e-6, pair) } else { assert_bits(what, pair) }
}

#[test]
fn filling() {
    for n in LENGTHS {
        assert_bits(
            "fill",
            both!(|b| {
                let mut y = Held::new(b, &vec![1.0; n]);
                b.fill(0.1, y.write());
                y.get()
            }),
        );
    }
}

#[test]
fn functions_and_their_derivatives() {
    for kind in UnaryKind::ALL {
        for n in [0, 1, 33, 257] {
            let mut x = normals(n, 1);
            if positive(kind) {
                x.iter_mut().for_each(|x| *x = x.abs() + 0.05);
            }
            let (dx, dy, old) = (normals(n, 2), normals(n, 3), normals(n, 4));
            compare(
                "value",
                kind,
                both!(|b| {
                    let (x, mut y) = (Held::new(b, &x), Held::new(b, &old));
                    b.unary(kind, x.view(), y.write());
                    y.get()
                }),
            );
            for write in WRITES {
                let what = format!("{kind:?} {write:?} of {n}");
                compare(
                    &what,
                    kind,
                    both!(|b| {
                        let (x, dy, mut y) = (Held::new(b, &x), Held::new(b, &dy), Held::new(b, &old));
                        b.unary_grad(kind, x.view(), dy.view(), write, y.write());
                        y.get()
                    }),
                );
                compare(
                    &what,
                    kind,
                    both!(|b| {
                        let (x, dx) = (Held::new(b, &x), Held::new(b, &dx));
                        let (dy, mut y) = (Held::new(b, &dy), Held::new(b, &old));
                        b.unary_grad2(kind, x.view(), dx.view(), dy.view(), write, y.write());
                        y.get()
                    }),
                );
            }
        }
    }
}

#[test]
fn functions_of_what_is_not_finite() {
    let x = [f32::NAN, f32::INFINITY, f32::NEG_INFINITY, 0.0, -0.0, 1e30, -1e30, 1e-40];
    for kind in UnaryKind::ALL {
        compare(
            "value",
            kind,
            both!(|b| {
                let (x, mut y) = (Held::new(b, &x), Held::new(b, &[0.0; 8]));
                b.unary(kind, x.view(), y.write());
                y.get()
            }),
        );
    }
}

#[test]
fn arithmetic_of_dense_tensors() {
    for kind in BinaryKind::ALL {
        for (n, write) in LENGTHS.into_iter().zip(WRITES.into_iter().cycle()) {
            let (x, y, old) = (normals(n, 1), normals(n, 2), normals(n, 3));
            assert_bits(
                "binary",
                both!(|b| {
                    let (x, y, mut out) = (Held::new(b, &x), Held::new(b, &y), Held::new(b, &old));
                    let dense = Strided::dense(Shape::from([n]));
                    b.binary(kind, (x.view(), dense), (y.view(), dense), write, out.write());
                    out.get()
                }),
            );
        }
    }
}

#[test]
fn arithmetic_of_broadcast_tensors() {
    let out = Shape::from([3, 1, 5, 7]);
    let (x, old) = (normals(out.len(), 1), normals(out.len(), 3));
    for own in [Shape::from([7]), Shape::from([5, 1]), Shape::from([3, 1, 1, 1]), Shape::new(&[]), out] {
        let y = normals(own.len(), 2);
        for (kind, write) in BinaryKind::ALL.into_iter().zip(WRITES.into_iter().cycle()) {
            assert_bits(
                "broadcast",
                both!(|b| {
                    let (x, y, mut z) = (Held::new(b, &x), Held::new(b, &y), Held::new(b, &old));
                    let of_y = Strided::broadcast(own, out);
                    b.binary(kind, (y.view(), of_y), (x.view(), Strided::dense(out)), write, z.write());
                    z.get()
                }),
            );
        }
    }
}

#[test]
fn affine_maps() {
    for n in LENGTHS {
        for write in WRITES {
            let (x, old) = (normals(n, 1), normals(n, 2));
            assert_bits(
                "affine",
                both!(|b| {
                    let (x, mut y) = (Held::new(b, &x), Held::new(b, &old));
                    b.affine(0.3, -1.7, x.view(), write, y.write());
                    y.get()
                }),
            );
        }
    }
}

/// The mask has the bits of the CPU for any first index, across blocks of four draws and the 32-bit boundary.
#[test]
fn dropout_draws_what_the_cpu_draws() {
    let stream = Stream::new(5, Purpose::Dropout, 9);
    for (n, write) in LENGTHS.into_iter().zip(WRITES.into_iter().cycle()) {
        for first in [0, 1, 3, (1 << 34) - 2] {
            let (x, old) = (normals(n, 1), normals(n, 2));
            assert_bits(
                "dropout",
                both!(|b| {
                    let (x, mut y) = (Held::new(b, &x), Held::new(b, &old));
                    b.dropout(stream, first, 0.3, x.view(), write, y.write());
                    y.get()
                }),
            );
        }
    }
}

#[test]
fn strided_copies() {
    let shape = Shape::from([4, 3, 9]);
    let (x, old) = (normals(300, 1), normals(300, 2));
    let walks = [
        Strided { shape, offset: 0, strides: [27, 9, 1, 0, 0, 0] },
        Strided { shape, offset: 5, strides: [1, 4, 12, 0, 0, 0] },
        Strided { shape, offset: 2, strides: [60, 20, 2, 0, 0, 0] },
    ];
    for (from, to) in walks.iter().flat_map(|from| walks.iter().map(move |to| (*from, *to))) {
        for write in WRITES {
            assert_bits(
                "copy_strided",
                both!(|b| {
                    let (x, mut y) = (Held::new(b, &x), Held::new(b, &old));
                    b.copy_strided((x.view(), from), write, (y.write(), to));
                    y.get()
                }),
            );
        }
    }
    let empty = Strided::dense(Shape::from([2, 0]));
    assert_bits(
        "nothing",
        both!(|b| {
            let (x, mut y) = (Held::new(b, &x), Held::new(b, &old));
            b.copy_strided((x.view(), empty), Write::Set, (y.write(), empty));
            y.get()
        }),
    );
}
