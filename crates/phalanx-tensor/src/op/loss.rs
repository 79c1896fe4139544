//! Cross entropy, fused with softmax.

use crate::backend::{Memory, Write};

/// Losses.
pub trait LossOps: Memory {
    /// `loss[i] = log(sum(e^x_i)) - x_i[label_i]` for each row of `d`; `lse` takes the first term. The one element
    /// of `hits` becomes the number of rows whose greatest logit is at the label (the first of equals counts).
    fn cross_entropy(
        &self,
        d: usize,
        logits: Self::View<'_>,
        labels: Self::IndexView<'_>,
        loss: Self::ViewMut<'_>,
        lse: Self::ViewMut<'_>,
        hits: Self::IndexViewMut<'_>,
    );
    /// `dx[i] (+)= dloss[i] (softmax(x_i) - onehot(label_i))`.
    #[expect(clippy::too_many_arguments, reason = "the operands of the formula")]
    fn cross_entropy_grad(
        &self,
        d: usize,
        logits: Self::View<'_>,
        labels: Self::IndexView<'_>,
        lse: Self::View<'_>,
        dloss: Self::View<'_>,
        write: Write,
        dx: Self::ViewMut<'_>,
    );
}
