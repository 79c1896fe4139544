//! Rows picked by index: embeddings.

use crate::backend::{Memory, Write};

/// Lookups.
pub trait IndexOps: Memory {
    /// `y[i] = table[ids[i]]`, rows of `d`.
    fn gather_rows(&self, d: usize, table: Self::View<'_>, ids: Self::IndexView<'_>, y: Self::ViewMut<'_>);
    /// `table[ids[i]] += dy[i]` in the order of `i`, after clearing the table with [`Write::Set`].
    fn scatter_rows(
        &self,
        d: usize,
        ids: Self::IndexView<'_>,
        dy: Self::View<'_>,
        write: Write,
        table: Self::ViewMut<'_>,
    );
    /// `out[i][ids[i]] = value`, 0 elsewhere; rows of `d`.
    fn one_hot(&self, d: usize, value: f64, ids: Self::IndexView<'_>, out: Self::ViewMut<'_>);
}
