//! Element by element.

use super::adds;
use crate::grid::Grid;
use crate::strided::Walk;
use crate::{Cuda, CudaView, CudaViewMut};
use phalanx_tensor::op::{BinaryKind, ElementwiseOps, Strided, UnaryKind};
use phalanx_tensor::rng::Stream;
use phalanx_tensor::{Float as _, Write};

// the enums of the kernels have these in this order: a kind more needs a kernel
const _: () = assert!(UnaryKind::ALL.len() == 12 && BinaryKind::ALL.len() == 4);

/// Where a kind is in the kernels' list.
///
/// # Panics
/// With a kind that is not listed.
#[track_caller]
pub(super) fn code<K: PartialEq + std::fmt::Debug>(list: &[K], kind: &K) -> u32 {
    match (0..).zip(list).find(|(_, held)| *held == kind) {
        Some((code, _)) => code,
        None => panic!("{kind:?} has no kernel"),
    }
}

impl ElementwiseOps for Cuda {
    fn fill(&self, value: f64, out: CudaViewMut<'_, f32>) {
        self.device.fill(Grid::over(out.len()), out.on(self), f32::from_f64(value), out.len() as u64);
    }

    fn unary(&self, kind: UnaryKind, x: CudaView<'_, f32>, out: CudaViewMut<'_, f32>) {
        assert_eq!(x.len(), out.len(), "unary");
        let n = out.len();
        self.device.unary(
            Grid::over(n.div_ceil(4)),
            code(&UnaryKind::ALL, &kind),
            x.on(self),
            out.on(self),
            n as u64,
        );
    }

    fn unary_grad(
        &self,
        kind: UnaryKind,
        x: CudaView<'_, f32>,
        dy: CudaView<'_, f32>,
        write: Write,
        out: CudaViewMut<'_, f32>,
    ) {
        assert!(x.len() == out.len() && dy.len() == out.len(), "unary_grad");
        let (n, kind) = (out.len(), code(&UnaryKind::ALL, &kind));
        let [x, dy, out] = [x.on(self), dy.on(self), out.on(self)];
        self.device.unary_grad(Grid::over(n.div_ceil(4)), kind, x, dy, adds(write), out, n as u64);
    }

    fn unary_grad2(
        &self,
        kind: UnaryKind,
        x: CudaView<'_, f32>,
        dx: CudaView<'_, f32>,
        dy: CudaView<'_, f32>,
        write: Write,
        out: CudaViewMut<'_, f32>,
    ) {
        assert!(x.len() == out.len() && dy.len() == out.len() && dx.len() == out.len(), "unary_grad2");
        let (n, kind) = (out.len(), code(&UnaryKind::ALL, &kind));
        let [x, dx, dy, out] = [x.on(self), dx.on(self), dy.on(self), out.on(self)];
        self.device.unary_grad2(Grid::over(n), kind, x, dx, dy, adds(write), out, n as u64);
    }

    fn binary(
        &self,
        kind: BinaryKind,
        a: (CudaView<'_, f32>, Strided),
        b: (CudaView<'_, f32>, Strided),
        write: Write,
        out: CudaViewMut<'_, f32>,
    ) {
        assert_eq!(a.1.shape, b.1.shape, "binary");
        assert_eq!(a.1.shape.len(), out.len(), "binary");
        assert!(a.1.end() <= a.0.len() && b.1.end() <= b.0.len(), "binary");
        let n = out.len();
        if n == 0 || self.small("binary arithmetic", n).is_none() {
            return;
        }
        let Some(walk) = Walk::new(&a.1, &b.1) else { return };
        let (kind, out) = (code(&BinaryKind::ALL, &kind), out.on(self));
        if walk.is_dense() {
            let [a, b] = [(a.0, walk.a), (b.0, walk.b)].map(|(view, at)| view.on(self) + 4 * at.offset);
            self.device.binary(Grid::over(n), kind, a, b, adds(write), out, n as u64);
        } else {
            let [a, b] = [a.0.on(self), b.0.on(self)];
            let Walk { len, extents, a: of_a, b: of_b } = walk;
            self.device.binary_strided(Grid::over(n), kind, a, b, extents, of_a, of_b, adds(write), out, len);
        }
    }

    fn affine(&self, alpha: f64, beta: f64, x: CudaView<'_, f32>, write: Write, y: CudaViewMut<'_, f32>) {
        assert_eq!(x.len(), y.len(), "affine");
        let n = y.len();
        let [alpha, beta] = [alpha, beta].map(f32::from_f64);
        self.device.affine(
            Grid::over(n.div_ceil(4)),
            alpha,
            beta,
            x.on(self),
            adds(write),
            y.on(self),
            n as u64,
        );
    }

    fn dropout(
        &self,
        key: Stream,
        first: u64,
        p: f64,
        x: CudaView<'_, f32>,
        write: Write,
        out: CudaViewMut<'_, f32>,
    ) {
        assert_eq!(x.len(), out.len(), "dropout");
        let n = out.len();
        let [[key0, key1], [upper0, upper1]] = key.key_and_upper();
        // a thread takes a block of four draws; the first and the last may be begun only
        let grid = if n == 0 { Grid::over(0) } else { Grid::over(n / 4 + 2) };
        let scale = f32::from_f64(1.0 / (1.0 - p));
        let [x, out] = [x.on(self), out.on(self)];
        self.device.dropout(grid, key0, key1, upper0, upper1, first, p, scale, x, adds(write), out, n as u64);
    }
}
