//! A device without memory or arithmetic, which only counts: what does this model need?

use crate::backend::{Backend, Memory, Write};
use crate::op::{
    Activation, AdaGradStep, AdamWStep, AttentionOps, AttentionSpec, BinaryKind, ConvOps, ConvSamples,
    ConvSpec, ElementwiseOps, IndexOps, LayoutOps, LossOps, MatmulOps, MatmulSpec, Moments, NormOps,
    OptimOps, PoolOps, PoolSpec, ReduceOps, SampleOps, SampleRows, SgdStep, Strided, UnaryKind,
};
use crate::rng::Stream;
use crate::{Float, TensorError};
use std::marker::PhantomData;
use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

/// Runs a model's graph without its numbers.
///
/// Buffers are lengths. The floating-point operations of matrix products, convolutions and attention are counted, so
/// that a step's memory (counted by whoever allocates) and work are known before it is run.
#[derive(Clone, Debug, Default)]
pub struct Meta<T> {
    flops: Arc<AtomicU64>,
    elem: PhantomData<T>,
}

impl<T: Float> Meta<T> {
    /// A device that has counted nothing yet.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Floating-point operations so far, a multiplication and an addition being two.
    #[must_use]
    pub fn flops(&self) -> u64 {
        self.flops.load(Ordering::Relaxed)
    }

    fn count(&self, multiply_adds: usize) {
        self.flops.fetch_add(2 * multiply_adds as u64, Ordering::Relaxed);
    }
}

impl<T: Float> Memory for Meta<T> {
    type Elem = T;
    type Buf = usize;
    type Index = usize;
    type View<'a> = usize;
    type ViewMut<'a> = usize;
    type IndexView<'a> = usize;
    type IndexViewMut<'a> = usize;

    fn alloc(&self, len: usize) -> Result<usize, TensorError> {
        Ok(len)
    }
    fn alloc_index(&self, len: usize) -> Result<usize, TensorError> {
        Ok(len)
    }
    fn view(&self, _: &usize, range: Range<usize>) -> usize {
        range.len()
    }
    fn view_mut(&self, _: &mut usize, range: Range<usize>) -> usize {
        range.len()
    }
    fn part(&self, _: &usize, range: Range<usize>) -> usize {
        range.len()
    }
    fn index_part(&self, _: &usize, range: Range<usize>) -> usize {
        range.len()
    }
    fn reborrow(view: &mut usize) -> usize {
        *view
    }
    fn index_view(&self, _: &usize, range: Range<usize>) -> usize {
        range.len()
    }
    fn index_view_mut(&self, _: &mut usize, range: Range<usize>) -> usize {
        range.len()
    }
    fn upload(&self, _: &[T], _: usize) {}
    fn download(&self, _: usize, to: &mut [T]) {
        to.fill(T::ZERO);
    }
    fn upload_index(&self, _: &[u32], _: usize) {}
    fn download_index(&self, _: usize, to: &mut [u32]) {
        to.fill(0);
    }
}

impl<T: Float> Backend for Meta<T> {
    fn name(&self) -> String {
        "meta".to_owned()
    }
}

impl<T: Float> MatmulOps for Meta<T> {
    fn matmul(&self, spec: &MatmulSpec, _: usize, _: usize, _: Write, _: usize) {
        self.count(spec.batch * spec.m * spec.n * spec.k);
    }
    fn linear(
        &self,
        m: usize,
        n: usize,
        k: usize,
        _: usize,
        _: usize,
        _: Option<usize>,
        _: Option<UnaryKind>,
        _: Option<usize>,
        _: usize,
    ) {
        self.count(m * n * k);
    }
}

fn conv_work(spec: &ConvSpec) -> usize {
    spec.output_len() * (spec.weight_len() / spec.o.max(1))
}

impl<T: Float> ConvOps for Meta<T> {
    fn conv2d(
        &self,
        spec: &ConvSpec,
        _: usize,
        _: usize,
        _: Option<usize>,
        _: Activation,
        _: usize,
        _: Option<usize>,
    ) {
        self.count(conv_work(spec));
    }
    fn conv2d_grad(
        &self,
        spec: &ConvSpec,
        _: Activation,
        _: usize,
        _: usize,
        _: usize,
        _: Option<usize>,
        _: usize,
        dw: Option<(Write, usize)>,
        _: Option<(Write, usize)>,
        dx: Option<(Write, usize)>,
    ) {
        self.count(conv_work(spec) * (usize::from(dw.is_some()) + usize::from(dx.is_some())));
    }
}

impl<T: Float> AttentionOps for Meta<T> {
    fn softmax(&self, _: usize, _: usize, _: usize) {}
    fn softmax_grad(&self, _: usize, _: usize, _: usize, _: Write, _: usize) {}
    fn log_softmax(&self, _: usize, _: usize, _: usize) {}
    fn log_softmax_grad(&self, _: usize, _: usize, _: usize, _: Write, _: usize) {}
    fn attention(&self, spec: &AttentionSpec, _: usize, _: usize, _: usize) {
        self.count(spec.batch * spec.width() * spec.time * spec.time);
    }
    fn attention_grad(
        &self,
        spec: &AttentionSpec,
        _: usize,
        _: usize,
        _: usize,
        _: usize,
        _: Write,
        _: usize,
    ) {
        self.count(5 * spec.batch * spec.width() * spec.time * spec.time / 2);
    }
}

impl<T: Float> ElementwiseOps for Meta<T> {
    fn fill(&self, _: f64, _: usize) {}
    fn unary(&self, _: UnaryKind, _: usize, _: usize) {}
    fn unary_grad(&self, _: UnaryKind, _: usize, _: usize, _: Write, _: usize) {}
    fn unary_grad2(&self, _: UnaryKind, _: usize, _: usize, _: usize, _: Write, _: usize) {}
    fn binary(&self, _: BinaryKind, _: (usize, Strided), _: (usize, Strided), _: Write, _: usize) {}
    fn affine(&self, _: f64, _: f64, _: usize, _: Write, _: usize) {}
    fn dropout(&self, _: Stream, _: u64, _: f64, _: usize, _: Write, _: usize) {}
}

impl<T: Float> LayoutOps for Meta<T> {
    fn copy_strided(&self, _: (usize, Strided), _: Write, _: (usize, Strided)) {}
}

impl<T: Float> ReduceOps for Meta<T> {
    fn sum_axis(&self, _: usize, _: usize, _: usize, _: usize, _: Write, _: usize) {}
    fn max_axis(&self, _: usize, _: usize, _: usize, _: usize, _: usize) {}
    fn moments(&self, _: usize) -> Moments {
        Moments::default()
    }
    fn dot(&self, _: usize, _: usize) -> f64 {
        0.0
    }
}

impl<T: Float> PoolOps for Meta<T> {
    fn max_pool2d(&self, _: &PoolSpec, _: usize, _: usize, _: usize) {}
    fn max_pool2d_grad(&self, _: &PoolSpec, _: usize, _: usize, _: usize) {}
    fn max_pool2d_tangent(&self, _: &PoolSpec, _: usize, _: usize, _: usize) {}
    fn avg_pool2d(&self, _: &PoolSpec, _: usize, _: usize) {}
    fn avg_pool2d_grad(&self, _: &PoolSpec, _: usize, _: Write, _: usize) {}
}

impl<T: Float> NormOps for Meta<T> {
    fn layer_norm(&self, _: usize, _: f64, _: usize, _: usize, _: usize, _: usize, _: usize) {}
    fn layer_norm_grad(
        &self,
        _: usize,
        _: usize,
        _: usize,
        _: usize,
        _: usize,
        _: (Write, usize),
        _: (Write, usize),
        _: (Write, usize),
    ) {
    }
    fn rms_norm(&self, _: usize, _: f64, _: usize, _: usize, _: usize, _: usize) {}
    fn rms_norm_grad(
        &self,
        _: usize,
        _: usize,
        _: usize,
        _: usize,
        _: usize,
        _: (Write, usize),
        _: (Write, usize),
    ) {
    }
    fn channel_sums(&self, _: usize, _: usize, _: usize, _: usize, _: usize, sums: &mut [f64]) {
        sums.fill(0.0);
    }
    fn channel_affine(
        &self,
        _: usize,
        _: usize,
        _: usize,
        _: &[f64],
        _: usize,
        _: usize,
        _: Write,
        _: usize,
    ) {
    }
}

impl<T: Float> IndexOps for Meta<T> {
    fn gather_rows(&self, _: usize, _: usize, _: usize, _: usize) {}
    fn scatter_rows(&self, _: usize, _: usize, _: usize, _: Write, _: usize) {}
    fn one_hot(&self, _: usize, _: f64, _: usize, _: usize) {}
}

impl<T: Float> LossOps for Meta<T> {
    fn cross_entropy(&self, _: usize, _: usize, _: usize, _: usize, _: usize, _: usize) {}
    fn cross_entropy_grad(&self, _: usize, _: usize, _: usize, _: usize, _: usize, _: Write, _: usize) {}
}

impl<T: Float> OptimOps for Meta<T> {
    fn sgd(&self, _: &SgdStep, _: usize, _: usize, _: usize) {}
    fn adamw(&self, _: &AdamWStep, _: usize, _: usize, _: usize, _: usize) {}
    fn adagrad(&self, _: &AdaGradStep, _: usize, _: usize, _: usize) {}
}

impl<T: Float> SampleOps for Meta<T> {
    fn row_dots(&self, _: usize, _: usize, _: usize, _: &mut [f64]) {}
    fn linear_norms(&self, _: SampleRows, _: [usize; 2], _: usize, _: usize, _: &mut [f64]) {}
    fn conv2d_norms(&self, _: &ConvSamples<'_, Self>, _: &mut [f64], _: Option<&mut [f64]>) {}
    fn conv2d_products(
        &self,
        _: &ConvSamples<'_, Self>,
        _: (usize, &mut [f64]),
        _: Option<(usize, &mut [f64])>,
    ) {
    }
    fn gather_norms(&self, _: SampleRows, _: usize, _: usize, _: usize, _: &mut [f64]) {}
    fn norm_gains(&self, _: SampleRows, _: usize, _: usize, _: usize, _: usize, _: usize) {}
}
