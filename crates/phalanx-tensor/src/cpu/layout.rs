//! Strided copies.

use super::Cpu;
use crate::backend::Write;
use crate::op::{LayoutOps, Strided};
use crate::{Float, MAX_DIMS};

impl<T: Float> LayoutOps for Cpu<T> {
    fn copy_strided(&self, (x, from): (&[T], Strided), write: Write, (out, to): (&mut [T], Strided)) {
        assert_eq!(from.shape, to.shape, "copy_strided");
        let shape = from.shape;
        if shape.is_empty() {
            return;
        }
        let last = shape.rank().saturating_sub(1);
        let (n, step_x, step_y) =
            if shape.rank() == 0 { (1, 1, 1) } else { (shape[last], from.strides[last], to.strides[last]) };
        let mut index = [0; MAX_DIMS];
        for _ in 0..shape.len() / n {
            let at = |l: &Strided| {
                l.offset + index.iter().zip(&l.strides).take(last).map(|(i, s)| i * s).sum::<usize>()
            };
            let (x, y) = (&x[at(&from)..], &mut out[at(&to)..]);
            match (step_x, step_y, write) {
                (1, 1, Write::Set) => y[..n].copy_from_slice(&x[..n]),
                (1, 1, Write::Add) => y[..n].iter_mut().zip(x).for_each(|(y, x)| *y += *x),
                (_, _, Write::Set) => (0..n).for_each(|i| y[i * step_y] = x[i * step_x]),
                (_, _, Write::Add) => (0..n).for_each(|i| y[i * step_y] += x[i * step_x]),
            }
            for dim in (0..last).rev() {
                index[dim] += 1;
                if index[dim] < shape[dim] {
                    break;
                }
                index[dim] = 0;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Shape;

    #[test]
    fn a_transpose_is_a_strided_copy() {
        let x = [1.0, 2.0, 3.0, 4.0, 5.0, 6.0];
        let shape = Shape::from([3, 2]);
        let from = Strided { shape, offset: 0, strides: [1, 3, 0, 0, 0, 0] };
        let mut y = [0.5; 6];
        Cpu::<f64>::new().copy_strided((&x, from), Write::Add, (&mut y, Strided::dense(shape)));
        assert_eq!(y, [1.5, 4.5, 2.5, 5.5, 3.5, 6.5]);
    }
}
