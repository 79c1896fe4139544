//! Element by element: functions of one tensor, arithmetic of two with broadcasting.

use super::Strided;
use crate::backend::{Memory, Write};

/// A function of one real number; each has the first two derivatives that reverse and forward mode need.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum UnaryKind {
    /// `max(x, 0)`, with derivative 0 at 0.
    Relu,
    /// `x Phi(x)` with the normal distribution function.
    Gelu,
    /// `0.5 x (1 + tanh(sqrt(2/pi) (x + 0.044715 x^3)))`.
    GeluTanh,
    /// `x sigmoid(x)`.
    Silu,
    /// `1 / (1 + e^-x)`.
    Sigmoid,
    /// The hyperbolic tangent.
    Tanh,
    /// The exponential function.
    Exp,
    /// The natural logarithm.
    Ln,
    /// The square root.
    Sqrt,
    /// `1 / sqrt(x)`.
    Rsqrt,
    /// `1 / x`.
    Recip,
    /// `x^2`.
    Square,
}

impl UnaryKind {
    /// All of them, in this order.
    pub const ALL: [Self; 12] = [
        Self::Relu,
        Self::Gelu,
        Self::GeluTanh,
        Self::Silu,
        Self::Sigmoid,
        Self::Tanh,
        Self::Exp,
        Self::Ln,
        Self::Sqrt,
        Self::Rsqrt,
        Self::Recip,
        Self::Square,
    ];
}

/// Arithmetic of two tensors.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum BinaryKind {
    /// `a + b`.
    Add,
    /// `a - b`.
    Sub,
    /// `a b`.
    Mul,
    /// `a / b`.
    Div,
}

impl BinaryKind {
    /// All of them, in this order.
    pub const ALL: [Self; 4] = [Self::Add, Self::Sub, Self::Mul, Self::Div];
}

/// Element-wise operators.
pub trait ElementwiseOps: Memory {
    /// `out = value`.
    fn fill(&self, value: f64, out: Self::ViewMut<'_>);
    /// `out = f(x)`.
    fn unary(&self, kind: UnaryKind, x: Self::View<'_>, out: Self::ViewMut<'_>);
    /// `out (+)= f'(x) dy`.
    fn unary_grad(
        &self,
        kind: UnaryKind,
        x: Self::View<'_>,
        dy: Self::View<'_>,
        write: Write,
        out: Self::ViewMut<'_>,
    );
    /// `out (+)= f''(x) dx dy`.
    fn unary_grad2(
        &self,
        kind: UnaryKind,
        x: Self::View<'_>,
        dx: Self::View<'_>,
        dy: Self::View<'_>,
        write: Write,
        out: Self::ViewMut<'_>,
    );
    /// `out (+)= a op b`, both broadcast as their strides say; `out` is dense with the extents of `a`.
    fn binary(
        &self,
        kind: BinaryKind,
        a: (Self::View<'_>, Strided),
        b: (Self::View<'_>, Strided),
        write: Write,
        out: Self::ViewMut<'_>,
    );
    /// `y (+)= alpha x + beta`.
    fn affine(&self, alpha: f64, beta: f64, x: Self::View<'_>, write: Write, y: Self::ViewMut<'_>);
    /// `out (+)= x keep / (1 - p)`, where `keep` is 1 with probability `1 - p` and drawn for element `i` from the
    /// stream `key` at index `first + i`: the same mask for the same key, whatever the tile.
    fn dropout(
        &self,
        key: crate::rng::Stream,
        first: u64,
        p: f64,
        x: Self::View<'_>,
        write: Write,
        out: Self::ViewMut<'_>,
    );
}
