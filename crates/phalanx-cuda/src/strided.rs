//! Walks over buffers as kernels take them: with as few dims as serve.

use phalanx_tensor::MAX_DIMS;
use phalanx_tensor::op::Strided;

/// The extents walked, the last one first; 1 beyond the rank.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(C)]
pub(crate) struct Extents(pub(crate) [u32; MAX_DIMS]);

/// Elements to skip first, and from one index to the next along each extent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(C)]
pub(crate) struct Steps {
    pub(crate) offset: u64,
    pub(crate) step: [u64; MAX_DIMS],
}

/// A walk over two buffers at once.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Walk {
    pub(crate) len: u32,
    pub(crate) extents: Extents,
    pub(crate) a: Steps,
    pub(crate) b: Steps,
}

impl Walk {
    /// Joins dims that both buffers walk as one; none for more elements than a `u32` counts.
    pub(crate) fn new(a: &Strided, b: &Strided) -> Option<Self> {
        let len = u32::try_from(a.shape.len()).ok()?;
        let start = |s: &Strided| Steps { offset: s.offset as u64, step: [0; MAX_DIMS] };
        let mut walk = Walk { len, extents: Extents([1; MAX_DIMS]), a: start(a), b: start(b) };
        let mut rank = 0;
        for dim in (0..a.shape.rank()).rev() {
            let extent = u32::try_from(a.shape[dim]).ok()?;
            if extent == 1 {
                continue;
            }
            let steps = [a.strides[dim] as u64, b.strides[dim] as u64];
            if rank > 0 {
                let inner = rank - 1;
                let run = u64::from(walk.extents.0[inner]);
                if steps == [walk.a.step[inner] * run, walk.b.step[inner] * run] {
                    walk.extents.0[inner] *= extent;
                    continue;
                }
            }
            walk.extents.0[rank] = extent;
            (walk.a.step[rank], walk.b.step[rank]) = (steps[0], steps[1]);
            rank += 1;
        }
        Some(walk)
    }

    /// Whether both buffers are walked element by element.
    pub(crate) fn is_dense(&self) -> bool {
        let steps = [self.a.step[0], self.b.step[0]];
        self.extents.0[0] == self.len && (self.len <= 1 || steps == [1, 1])
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use phalanx_tensor::Shape;

    #[test]
    fn dims_that_lie_together_are_one() {
        let shape = Shape::from([4, 1, 3, 5]);
        let dense = Strided::dense(shape);
        let walk = Walk::new(&dense, &dense).unwrap();
        assert!(walk.is_dense());
        assert_eq!(walk.extents.0, [60, 1, 1, 1, 1, 1]);
        let row = Strided::broadcast(Shape::from([3, 5]), shape);
        let walk = Walk::new(&dense, &row).unwrap();
        assert!(!walk.is_dense());
        assert_eq!(walk.extents.0, [15, 4, 1, 1, 1, 1]);
        assert_eq!((walk.a.step[..2].to_vec(), walk.b.step[..2].to_vec()), (vec![1, 15], vec![1, 0]));
    }

    #[test]
    fn a_scalar_is_one_element() {
        let scalar = Strided::dense(Shape::new(&[]));
        let walk = Walk::new(&scalar, &scalar).unwrap();
        assert!(walk.is_dense());
        assert_eq!(walk.len, 1);
    }
}
