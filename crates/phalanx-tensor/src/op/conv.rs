//! Two-dimensional convolution (cross-correlation, as everywhere in deep learning), in NCHW.

use crate::TensorError;
use crate::backend::{Memory, Write};

/// The extents of a convolution.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ConvSpec {
    /// Images.
    pub n: usize,
    /// Input channels.
    pub c: usize,
    /// Input height and width.
    pub hw: [usize; 2],
    /// Output channels.
    pub o: usize,
    /// Kernel height and width.
    pub kernel: [usize; 2],
    /// Steps down and right.
    pub stride: [usize; 2],
    /// Zeros around the input, above and below, left and right.
    pub padding: [usize; 2],
    /// Groups: each sees `c / groups` input channels and makes `o / groups`.
    pub groups: usize,
}

impl ConvSpec {
    /// Checks the extents.
    ///
    /// # Errors
    /// [`TensorError::Conv`] when channels are not divisible by groups, a stride is 0 or the kernel exceeds the
    /// padded input.
    pub fn validate(&self) -> Result<(), TensorError> {
        let fits = (0..2).all(|i| self.kernel[i] > 0 && self.hw[i] + 2 * self.padding[i] >= self.kernel[i]);
        let divides =
            self.groups > 0 && self.c.is_multiple_of(self.groups) && self.o.is_multiple_of(self.groups);
        if fits && divides && self.stride[0] > 0 && self.stride[1] > 0 {
            Ok(())
        } else {
            Err(TensorError::Conv { spec: *self })
        }
    }

    /// Output height and width.
    #[must_use]
    pub fn out_hw(&self) -> [usize; 2] {
        [0, 1].map(|i| (self.hw[i] + 2 * self.padding[i] - self.kernel[i]) / self.stride[i] + 1)
    }

    /// Elements of the input.
    #[must_use]
    pub fn input_len(&self) -> usize {
        self.n * self.c * self.hw[0] * self.hw[1]
    }

    /// Elements of the output.
    #[must_use]
    pub fn output_len(&self) -> usize {
        let [oh, ow] = self.out_hw();
        self.n * self.o * oh * ow
    }

    /// Elements of the weight, `o x c/groups x kh x kw`.
    #[must_use]
    pub fn weight_len(&self) -> usize {
        self.o * (self.c / self.groups) * self.kernel[0] * self.kernel[1]
    }
}

/// What a convolution does to its sums before it writes them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Activation {
    /// Nothing.
    None,
    /// `max(x, 0)`.
    Relu,
    /// `max(x, 0)`, then the greatest of each 2 x 2 window: the full-size output is never written.
    ReluPool2,
}

impl Activation {
    /// Extents of the output after the activation.
    #[must_use]
    pub fn out_hw(self, [h, w]: [usize; 2]) -> [usize; 2] {
        match self {
            Activation::None | Activation::Relu => [h, w],
            Activation::ReluPool2 => [h / 2, w / 2],
        }
    }
}

/// Convolutions.
pub trait ConvOps: Memory {
    /// `y = act(x * w + bias)`. With [`Activation::ReluPool2`] `argmax` takes, for each output, the position of its
    /// maximum in the image before pooling (row times width plus column); otherwise it is empty.
    #[expect(clippy::too_many_arguments, reason = "a fused operator has the operands of its parts")]
    fn conv2d(
        &self,
        spec: &ConvSpec,
        x: Self::View<'_>,
        w: Self::View<'_>,
        bias: Option<Self::View<'_>>,
        act: Activation,
        y: Self::ViewMut<'_>,
        argmax: Option<Self::IndexViewMut<'_>>,
    );

    /// Gradients of [`ConvOps::conv2d`], all in one pass over the images: `dx` and `db` where they are wanted.
    ///
    /// `y` and `argmax` are those of the forward pass and are read only with an activation.
    #[expect(clippy::too_many_arguments, reason = "a fused operator has the operands of its parts")]
    fn conv2d_grad(
        &self,
        spec: &ConvSpec,
        act: Activation,
        x: Self::View<'_>,
        w: Self::View<'_>,
        y: Self::View<'_>,
        argmax: Option<Self::IndexView<'_>>,
        dy: Self::View<'_>,
        dw: Option<(Write, Self::ViewMut<'_>)>,
        db: Option<(Write, Self::ViewMut<'_>)>,
        dx: Option<(Write, Self::ViewMut<'_>)>,
    );
}
