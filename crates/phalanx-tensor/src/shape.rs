//! Shapes: up to six extents held inline, so that building a graph allocates nothing.

use std::fmt;
use std::ops::{Deref, Range};

/// The most dimensions a tensor can have.
pub const MAX_DIMS: usize = 6;

/// The extents of a tensor, row-major, the last one contiguous.
///
/// # Examples
/// ```
/// use phalanx_tensor::Shape;
/// let s = Shape::new(&[2, 3, 4]);
/// assert_eq!(s.len(), 24);
/// assert_eq!(s.strides(), [12, 4, 1, 0, 0, 0]);
/// assert_eq!(s.to_string(), "[2, 3, 4]");
/// ```
#[derive(Clone, Copy, PartialEq, Eq, Default)]
pub struct Shape {
    dims: [usize; MAX_DIMS],
    rank: u8,
}

impl Shape {
    /// A shape of the given extents; none is a scalar.
    ///
    /// # Panics
    /// With more than [`MAX_DIMS`] extents.
    #[track_caller]
    #[must_use]
    pub fn new(dims: &[usize]) -> Self {
        assert!(dims.len() <= MAX_DIMS, "a tensor has at most {MAX_DIMS} dims, got {}", dims.len());
        let mut held = [0; MAX_DIMS];
        held[..dims.len()].copy_from_slice(dims);
        #[expect(clippy::cast_possible_truncation, reason = "at most MAX_DIMS")]
        Shape { dims: held, rank: dims.len() as u8 }
    }

    /// The number of elements; a scalar has one.
    #[must_use]
    pub fn len(&self) -> usize {
        self.iter().product()
    }

    /// Whether there are no elements, because an extent is 0; a scalar is not empty.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.contains(&0)
    }

    /// The extents.
    #[must_use]
    pub fn dims(&self) -> &[usize] {
        &self.dims[..usize::from(self.rank)]
    }

    /// The number of dims.
    #[must_use]
    pub fn rank(&self) -> usize {
        usize::from(self.rank)
    }

    /// Row-major strides in elements; unused entries are 0.
    #[must_use]
    pub fn strides(&self) -> [usize; MAX_DIMS] {
        let mut strides = [0; MAX_DIMS];
        let mut step = 1;
        for i in (0..self.rank()).rev() {
            strides[i] = step;
            step *= self.dims[i];
        }
        strides
    }

    /// The last extent, 1 for a scalar.
    #[must_use]
    pub fn last(&self) -> usize {
        self.dims().last().copied().unwrap_or(1)
    }

    /// The product of the extents in `range`.
    #[must_use]
    pub fn product(&self, range: Range<usize>) -> usize {
        self.dims()[range].iter().product()
    }

    /// The shape with one extent replaced.
    ///
    /// # Panics
    /// When `dim` is not one of the dims.
    #[track_caller]
    #[must_use]
    pub fn with_dim(mut self, dim: usize, extent: usize) -> Self {
        assert!(dim < self.rank(), "dim {dim} of {self}");
        self.dims[dim] = extent;
        self
    }

    /// The shape that two operands broadcast to: equal extents, or one of them 1, aligned at the last dim.
    #[must_use]
    pub fn broadcast(&self, other: &Shape) -> Option<Shape> {
        let rank = self.rank().max(other.rank());
        let mut dims = [0; MAX_DIMS];
        for (i, extent) in dims.iter_mut().enumerate().take(rank) {
            let of = |s: &Shape| (i + s.rank()).checked_sub(rank).map_or(1, |j| s.dims[j]);
            *extent = match (of(self), of(other)) {
                (a, b) if a == b => a,
                (1, b) => b,
                (a, 1) => a,
                _ => return None,
            };
        }
        Some(Shape::new(&dims[..rank]))
    }

    /// Strides with which this shape is read as `out`: 0 along broadcast dims.
    #[must_use]
    pub fn strides_as(&self, out: &Shape) -> [usize; MAX_DIMS] {
        let own = self.strides();
        let mut strides = [0; MAX_DIMS];
        for (i, stride) in strides.iter_mut().enumerate().take(out.rank()) {
            if let Some(j) = (i + self.rank()).checked_sub(out.rank())
                && self.dims[j] != 1
            {
                *stride = own[j];
            }
        }
        strides
    }
}

impl Deref for Shape {
    type Target = [usize];
    fn deref(&self) -> &[usize] {
        self.dims()
    }
}

impl<const N: usize> From<[usize; N]> for Shape {
    fn from(dims: [usize; N]) -> Self {
        Shape::new(&dims)
    }
}

impl From<&[usize]> for Shape {
    fn from(dims: &[usize]) -> Self {
        Shape::new(dims)
    }
}

impl fmt::Display for Shape {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}", self.dims())
    }
}

impl fmt::Debug for Shape {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn broadcasting_aligns_at_the_last_dim() {
        let a = Shape::from([2, 1, 4]);
        let b = Shape::from([3, 1]);
        let out = a.broadcast(&b).unwrap();
        assert_eq!(out.dims(), [2, 3, 4]);
        assert_eq!(a.strides_as(&out)[..3], [4, 0, 1]);
        assert_eq!(b.strides_as(&out)[..3], [0, 1, 0]);
        assert_eq!(Shape::from([2, 3]).broadcast(&Shape::from([4, 3])), None);
    }
}
