//! Matrix products.

use super::UnaryKind;
use crate::backend::{Memory, Write};

/// How a matrix lies in a buffer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Mat {
    /// Elements to skip first.
    pub offset: usize,
    /// Elements from one row to the next.
    pub rows: usize,
    /// Elements from one column to the next.
    pub cols: usize,
    /// Elements from one matrix of a batch to the next, 0 to use the same one.
    pub batch: usize,
}

impl Mat {
    /// Row-major with `cols` columns and `rows` rows, matrices of a batch one after the other.
    #[must_use]
    pub fn dense(rows: usize, cols: usize) -> Self {
        Mat { offset: 0, rows: cols, cols: 1, batch: rows * cols }
    }

    /// The transposed view.
    #[must_use]
    pub fn t(self) -> Self {
        Mat { rows: self.cols, cols: self.rows, ..self }
    }

    /// The length of the least buffer that holds a batch of such matrices of `rows x cols`.
    #[must_use]
    pub fn end(&self, rows: usize, cols: usize, batch: usize) -> usize {
        match (rows.checked_sub(1), cols.checked_sub(1), batch.checked_sub(1)) {
            (Some(row), Some(col), Some(one)) => {
                self.offset + row * self.rows + col * self.cols + one * self.batch + 1
            }
            _ => 0,
        }
    }

    /// The same matrix for the whole batch.
    #[must_use]
    pub fn shared(self) -> Self {
        Mat { batch: 0, ..self }
    }
}

/// A batch of products `c (m x n) (+)= a (m x k) b (k x n)`. `c.cols` is 1.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MatmulSpec {
    /// Products.
    pub batch: usize,
    /// Rows of `a` and `c`.
    pub m: usize,
    /// Columns of `b` and `c`.
    pub n: usize,
    /// Columns of `a`, rows of `b`.
    pub k: usize,
    /// Layout of `a`.
    pub a: Mat,
    /// Layout of `b`.
    pub b: Mat,
    /// Layout of `c`.
    pub c: Mat,
}

/// Matrix products.
///
/// # Numerics
/// The order of summation depends on the extents and the vector width only, never on the machine's caches.
pub trait MatmulOps: Memory {
    /// A batch of products. A batch whose `c.batch` is 0 adds up into one `c`.
    fn matmul(
        &self,
        spec: &MatmulSpec,
        a: Self::View<'_>,
        b: Self::View<'_>,
        write: Write,
        c: Self::ViewMut<'_>,
    );

    /// `y = act(x w^T + bias)`: `x` is `m x k`, `w` is `n x k`, `bias` has `n` or no elements.
    ///
    /// With [`UnaryKind::Relu`] `pre` is empty, the mask can be read off `y`; otherwise, with an activation, `pre`
    /// takes the values before it.
    #[expect(clippy::too_many_arguments, reason = "three extents and four tensors")]
    fn linear(
        &self,
        m: usize,
        n: usize,
        k: usize,
        x: Self::View<'_>,
        w: Self::View<'_>,
        bias: Option<Self::View<'_>>,
        act: Option<UnaryKind>,
        pre: Option<Self::ViewMut<'_>>,
        y: Self::ViewMut<'_>,
    );
}
