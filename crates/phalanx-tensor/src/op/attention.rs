//! Softmax, and fused causal attention that never keeps the score matrix.

use crate::backend::{Memory, Write};

/// The extents of multi-head attention over packed queries, keys and values.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct AttentionSpec {
    /// Sequences.
    pub batch: usize,
    /// Positions in each.
    pub time: usize,
    /// Heads.
    pub heads: usize,
    /// Width of a head.
    pub head_dim: usize,
}

impl AttentionSpec {
    /// Width of the output: heads times head width.
    #[must_use]
    pub fn width(&self) -> usize {
        self.heads * self.head_dim
    }
}

/// Softmax and attention.
pub trait AttentionOps: Memory {
    /// Softmax of each row of `d`.
    fn softmax(&self, d: usize, x: Self::View<'_>, y: Self::ViewMut<'_>);
    /// `dx (+)= y (dy - sum(y dy))` a row.
    fn softmax_grad(
        &self,
        d: usize,
        y: Self::View<'_>,
        dy: Self::View<'_>,
        write: Write,
        dx: Self::ViewMut<'_>,
    );
    /// Logarithm of softmax of each row of `d`.
    fn log_softmax(&self, d: usize, x: Self::View<'_>, y: Self::ViewMut<'_>);
    /// `dx (+)= dy - e^y sum(dy)` a row.
    fn log_softmax_grad(
        &self,
        d: usize,
        y: Self::View<'_>,
        dy: Self::View<'_>,
        write: Write,
        dx: Self::ViewMut<'_>,
    );
    /// Causal attention with scale `1/sqrt(head_dim)`.
    ///
    /// `qkv` is `batch x time x 3 x heads x head_dim`, `y` is `batch x time x heads x head_dim`, `lse` takes the
    /// logarithm of each row's softmax denominator, `batch x heads x time`, from which the backward pass rebuilds the
    /// weights.
    fn attention(
        &self,
        spec: &AttentionSpec,
        qkv: Self::View<'_>,
        y: Self::ViewMut<'_>,
        lse: Self::ViewMut<'_>,
    );
    /// Gradient of [`AttentionOps::attention`].
    #[expect(clippy::too_many_arguments, reason = "the operands of the formula")]
    fn attention_grad(
        &self,
        spec: &AttentionSpec,
        qkv: Self::View<'_>,
        y: Self::View<'_>,
        lse: Self::View<'_>,
        dy: Self::View<'_>,
        write: Write,
        dqkv: Self::ViewMut<'_>,
    );
}
