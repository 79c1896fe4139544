//! Moving elements: transposes, slices, concatenation and broadcasts are all one strided copy.

use crate::backend::{Memory, Write};
use crate::shape::{MAX_DIMS, Shape};

/// How to walk a buffer: an offset and a stride a dim, 0 along broadcast dims.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Strided {
    /// The extents walked.
    pub shape: Shape,
    /// Elements to skip first.
    pub offset: usize,
    /// Elements from one index to the next, for each dim of `shape`.
    pub strides: [usize; MAX_DIMS],
}

impl Strided {
    /// A dense row-major tensor.
    #[must_use]
    pub fn dense(shape: Shape) -> Self {
        Strided { shape, offset: 0, strides: shape.strides() }
    }

    /// A dense tensor of shape `own` read with the extents of `out`, which it broadcasts to.
    #[must_use]
    pub fn broadcast(own: Shape, out: Shape) -> Self {
        Strided { shape: out, offset: 0, strides: own.strides_as(&out) }
    }

    /// The length of the least buffer that holds all that is walked.
    #[must_use]
    pub fn end(&self) -> usize {
        if self.shape.is_empty() {
            return 0;
        }
        let dims = self.shape.dims().iter().zip(self.strides);
        self.offset + dims.map(|(extent, stride)| (extent - 1) * stride).sum::<usize>() + 1
    }
}

/// Copies that change the layout.
pub trait LayoutOps: Memory {
    /// `out[o(i)] (+)= x[s(i)]` for every index `i` of the common extents.
    fn copy_strided(&self, x: (Self::View<'_>, Strided), write: Write, out: (Self::ViewMut<'_>, Strided));
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_walk_ends_behind_its_last_element() {
        let rows = Strided { offset: 2, ..Strided::dense(Shape::from([3, 4])) };
        assert_eq!(rows.end(), 2 + 12);
        // a row that is read three times
        assert_eq!(Strided::broadcast(Shape::from([4]), Shape::from([3, 4])).end(), 4);
        assert_eq!(Strided { offset: 2, ..Strided::dense(Shape::from([3, 0])) }.end(), 0);
        assert_eq!(Strided::dense(Shape::new(&[])).end(), 1);
    }
}
