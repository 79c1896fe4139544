//! Cross entropy.

use crate::held::{Held, Ids, WRITES, assert_close, both, ids, normals};
use phalanx_tensor::op::LossOps;

#[test]
fn losses_hits_and_gradients() {
    for (rows, d) in [(0, 3), (1, 1), (33, 10), (5, 65), (3, 257), (2, 1100)] {
        let (mut x, labels) = (normals(rows * d, 1), ids(rows, d as u64, 2));
        // equal greatest logits, of which the first counts
        if rows == 33 {
            x[..d].fill(2.0);
            x[d..2 * d].iter_mut().step_by(3).for_each(|x| *x = 4.0);
        }
        let (dloss, old) = (normals(rows, 3), normals(rows * d, 4));
        let forward = both!(|b| {
            let (x, labels) = (Held::new(b, &x), Ids::new(b, &labels));
            let (mut loss, mut lse) = (Held::new(b, &vec![0.0; rows]), Held::new(b, &vec![0.0; rows]));
            let mut hits = Ids::new(b, &[9]);
            b.cross_entropy(d, x.view(), labels.view(), loss.write(), lse.write(), hits.write());
            [vec![hits.get()[0] as f32], loss.get(), lse.get()].concat()
        });
        assert_eq!(forward.0[0], forward.1[0], "hits of {rows} x {d}");
        assert_close("loss", 2e-6, forward);
        for write in WRITES {
            assert_close(
                "gradient",
                2e-6,
                both!(|b| {
                    let (x, labels) = (Held::new(b, &x), Ids::new(b, &labels));
                    let (mut loss, mut lse) =
                        (Held::new(b, &vec![0.0; rows]), Held::new(b, &vec![0.0; rows]));
                    let mut hits = Ids::new(b, &[0]);
                    b.cross_entropy(d, x.view(), labels.view(), loss.write(), lse.write(), hits.write());
                    let (dloss, mut dx) = (Held::new(b, &dloss), Held::new(b, &old));
                    b.cross_entropy_grad(
                        d,
                        x.view(),
                        labels.view(),
                        lse.view(),
                        dloss.view(),
                        write,
                        dx.write(),
                    );
                    dx.get()
                }),
            );
        }
    }
}

#[test]
fn a_logit_that_is_not_a_number_makes_no_hit() {
    let x = [f32::NAN, 1.0, 2.0, 3.0, f32::NEG_INFINITY, 1.0];
    let (want, got) = both!(|b| {
        let (x, labels) = (Held::new(b, &x), Ids::new(b, &[0, 0]));
        let (mut loss, mut lse) = (Held::new(b, &[0.0; 2]), Held::new(b, &[0.0; 2]));
        let mut hits = Ids::new(b, &[0]);
        b.cross_entropy(3, x.view(), labels.view(), loss.write(), lse.write(), hits.write());
        let hits = hits.get()[0];
        (hits, loss.get()[0].is_nan(), loss.get()[1].is_finite())
    });
    assert_eq!(want, got);
    assert_eq!(got, (1, true, true));
}
