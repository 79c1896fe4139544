//! Lookups.

use crate::held::{Held, Ids, WRITES, assert_bits, both, ids, normals};
use phalanx_tensor::op::IndexOps;

#[test]
fn rows_are_gathered_and_scattered_in_order() {
    for (n, rows, d) in [(0, 3, 4), (1, 1, 1), (33, 5, 7), (257, 40, 33), (300, 2, 130)] {
        let (picked, table) = (ids(n, rows as u64, 1), normals(rows * d, 2));
        let dy = normals(n * d, 3);
        assert_bits(
            "gather_rows",
            both!(|b| {
                let (table, picked, mut y) =
                    (Held::new(b, &table), Ids::new(b, &picked), Held::new(b, &vec![0.0; n * d]));
                b.gather_rows(d, table.view(), picked.view(), y.write());
                y.get()
            }),
        );
        for write in WRITES {
            assert_bits(
                "scatter_rows",
                both!(|b| {
                    let (dy, picked, mut table) =
                        (Held::new(b, &dy), Ids::new(b, &picked), Held::new(b, &table));
                    b.scatter_rows(d, picked.view(), dy.view(), write, table.write());
                    table.get()
                }),
            );
        }
        assert_bits(
            "one_hot",
            both!(|b| {
                let (picked, mut y) = (Ids::new(b, &picked), Held::new(b, &vec![7.0; n * rows]));
                b.one_hot(rows, 0.3, picked.view(), y.write());
                y.get()
            }),
        );
    }
}
