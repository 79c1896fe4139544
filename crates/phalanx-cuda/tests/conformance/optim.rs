//! Optimizer updates: the bits of the CPU.

use crate::held::{Held, LENGTHS, assert_bits, both, normals};
use phalanx_tensor::op::{AdaGradStep, AdamWStep, OptimOps, SgdStep};

#[test]
fn sgd() {
    for n in LENGTHS {
        let (p, g, v) = (normals(n, 1), normals(n, 2), normals(n, 3));
        for (momentum, nesterov) in [(0.0, false), (0.9, false), (0.9, true)] {
            let step = SgdStep { lr: 0.03, momentum, nesterov, weight_decay: 0.01, grad_scale: 0.7 };
            assert_bits(
                "sgd",
                both!(|b| {
                    let (mut p, g, mut v) = (Held::new(b, &p), Held::new(b, &g), Held::new(b, &v));
                    b.sgd(&step, p.write(), g.view(), v.write());
                    [p.get(), v.get()].concat()
                }),
            );
        }
    }
}

#[test]
fn adamw() {
    for n in LENGTHS {
        let (p, g, m, v) = (normals(n, 1), normals(n, 2), normals(n, 3), vec![0.5; n]);
        let step = AdamWStep {
            lr: 0.03,
            beta1: 0.9,
            beta2: 0.999,
            eps: 1e-8,
            weight_decay: 0.01,
            step: 7,
            grad_scale: 0.7,
        };
        assert_bits(
            "adamw",
            both!(|b| {
                let (mut p, g) = (Held::new(b, &p), Held::new(b, &g));
                let (mut m, mut v) = (Held::new(b, &m), Held::new(b, &v));
                b.adamw(&step, p.write(), g.view(), m.write(), v.write());
                [p.get(), m.get(), v.get()].concat()
            }),
        );
    }
}

#[test]
fn adagrad() {
    for n in LENGTHS {
        let (p, g, s) = (normals(n, 1), normals(n, 2), vec![0.25; n]);
        let step = AdaGradStep { lr: 0.03, eps: 1e-10, weight_decay: 0.01, grad_scale: 0.7 };
        assert_bits(
            "adagrad",
            both!(|b| {
                let (mut p, g, mut s) = (Held::new(b, &p), Held::new(b, &g), Held::new(b, &s));
                b.adagrad(&step, p.write(), g.view(), s.write());
                [p.get(), s.get()].concat()
            }),
        );
    }
}
