//! Lookups.

use super::Cpu;
use crate::Float;
use crate::backend::Write;
use crate::op::IndexOps;

impl<T: Float> IndexOps for Cpu<T> {
    fn gather_rows(&self, d: usize, table: &[T], ids: &[u32], y: &mut [T]) {
        assert_eq!(y.len(), ids.len() * d, "gather_rows");
        for (y, id) in y.chunks_exact_mut(d).zip(ids) {
            y.copy_from_slice(&table[*id as usize * d..][..d]);
        }
    }

    fn scatter_rows(&self, d: usize, ids: &[u32], dy: &[T], write: Write, table: &mut [T]) {
        assert_eq!(dy.len(), ids.len() * d, "scatter_rows");
        if write == Write::Set {
            table.fill(T::ZERO);
        }
        for (dy, id) in dy.chunks_exact(d).zip(ids) {
            let row = &mut table[*id as usize * d..][..d];
            row.iter_mut().zip(dy).for_each(|(t, dy)| *t += *dy);
        }
    }

    fn one_hot(&self, d: usize, value: f64, ids: &[u32], out: &mut [T]) {
        assert_eq!(out.len(), ids.len() * d, "one_hot");
        out.fill(T::ZERO);
        for (row, id) in out.chunks_exact_mut(d).zip(ids) {
            row[*id as usize] = T::from_f64(value);
        }
    }
}
