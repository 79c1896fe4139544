//! Lookups.

use crate::held::{Held, Ids, WRITES, assert_bits, assert_close, both, gpu, ids, normals};
use phalanx_tensor::op::{IndexOps, LossOps as _};
use phalanx_tensor::{Backend as _, Write};

/// Rows are added to a table in their order.
#[track_caller]
fn assert_scattered(d: usize, picked: &[u32], dy: &[f32], table: &[f32]) {
    for write in WRITES {
        assert_bits(
            "scatter_rows",
            both!(|b| {
                let (dy, picked, mut table) = (Held::new(b, dy), Ids::new(b, picked), Held::new(b, table));
                b.scatter_rows(d, picked.view(), dy.view(), write, table.write());
                table.get()
            }),
        );
    }
}

#[test]
fn rows_are_gathered_and_scattered_in_order() {
    let extents =
        [(0, 3, 4), (1, 1, 1), (33, 5, 7), (257, 40, 33), (300, 2, 130), (2047, 3, 5), (4100, 400, 3)];
    for (n, rows, d) in extents {
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
        assert_scattered(d, &picked, &dy, &table);
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

/// Several rows of the table to a block, of which the last has fewer; more than one list of positions.
#[test]
fn rows_of_a_large_table_are_scattered_in_order() {
    for (n, rows, d) in [(9, 2048, 1), (2500, 3077, 3)] {
        let (picked, table, dy) = (ids(n, rows as u64, 1), normals(rows * d, 2), normals(n * d, 3));
        assert_scattered(d, &picked, &dy, &table);
    }
}

/// Many positions of few rows are summed in parts: near the CPU's sums, and the same on every run.
#[test]
fn rows_of_a_small_table_are_scattered_in_parts() {
    for (n, rows, d) in [(2048, 3, 33), (2305, 320, 7), (3000, 1, 1)] {
        let (mut picked, table, dy) = (ids(n, rows as u64, 1), normals(rows * d, 2), normals(n * d, 3));
        for write in WRITES {
            let (want, got) = both!(|b| {
                let (dy, picked) = (Held::new(b, &dy), Ids::new(b, &picked));
                let mut sums = [0, 1].map(|_| Held::new(b, &table));
                for table in &mut sums {
                    b.scatter_rows(d, picked.view(), dy.view(), write, table.write());
                }
                assert_eq!(sums[0].get(), sums[1].get());
                sums[0].get()
            });
            assert_close("scatter_rows", 2e-5, (want, got));
        }
        // what is beyond the table goes nowhere
        picked.fill(u32::MAX);
        let b = &gpu();
        let (dy, picked, mut table) = (Held::new(b, &dy), Ids::new(b, &picked), Held::new(b, &table));
        b.scatter_rows(d, picked.view(), dy.view(), Write::Set, table.write());
        assert!(table.get().iter().all(|x| *x == 0.0));
    }
}

/// Where the CPU panics. No memory of another buffer is read or written.
#[test]
fn what_an_index_beyond_the_table_names_is_nan() {
    let b = &gpu();
    let (mut table, picked) = (Held::new(b, &[1.0; 12]), Ids::new(b, &[1, u32::MAX, 3]));
    let mut y = Held::new(b, &[7.0; 12]);
    b.gather_rows(4, table.view(), picked.view(), y.write());
    let got = y.get();
    assert!(got[..4] == [1.0; 4] && got[4..].iter().all(|y| y.is_nan()), "{got:?}");
    let dy = Held::new(b, &[1.0; 12]);
    b.scatter_rows(4, picked.view(), dy.view(), Write::Add, table.write());
    assert_eq!(table.get(), [[1.0; 4], [2.0; 4], [1.0; 4]].concat());
    let (mut loss, mut lse) = (Held::new(b, &[0.0; 3]), Held::new(b, &[0.0; 3]));
    let mut hits = Ids::new(b, &[7]);
    b.cross_entropy(4, y.view(), picked.view(), loss.write(), lse.write(), hits.write());
    assert_eq!(hits.get(), [0]);
    assert_eq!(loss.get().iter().map(|l| l.is_nan()).collect::<Vec<_>>(), [false, true, true]);
    b.check().expect("the device is well");
}
