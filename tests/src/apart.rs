//! A device that computes like the CPU and keeps its memory to itself, so that the loop has to treat it as one.

use std::ops::Range;
use std::sync::Arc;

use phalanx::comm::CommError;
use phalanx::prelude::*;
use phalanx::tensor::op::{
    Activation, AdaGradStep, AdamWStep, AttentionOps, AttentionSpec, BinaryKind, ConvOps, ConvSamples,
    ConvSpec, ElementwiseOps, IndexOps, LayoutOps, LossOps, MatmulOps, MatmulSpec, Moments, NormOps,
    OptimOps, PoolOps, PoolSpec, ReduceOps, SampleOps, SampleRows, SgdStep, Strided, UnaryKind,
};
use phalanx::tensor::rng::Stream;
use phalanx::tensor::{AlignedBuf, Cpu, TensorError, Write};

/// The CPU, without [`Memory::host_view`].
#[derive(Clone, Copy, Debug, Default)]
pub struct Apart(Cpu<f32>);

type View<'a> = &'a [f32];
type ViewMut<'a> = &'a mut [f32];
type Indices<'a> = &'a [u32];
type IndicesMut<'a> = &'a mut [u32];

impl Memory for Apart {
    type Elem = f32;
    type Buf = AlignedBuf<f32>;
    type Index = Vec<u32>;
    type View<'a> = View<'a>;
    type ViewMut<'a> = ViewMut<'a>;
    type IndexView<'a> = Indices<'a>;
    type IndexViewMut<'a> = IndicesMut<'a>;

    fn alloc(&self, len: usize) -> Result<AlignedBuf<f32>, TensorError> {
        self.0.alloc(len)
    }
    fn alloc_index(&self, len: usize) -> Result<Vec<u32>, TensorError> {
        self.0.alloc_index(len)
    }
    fn view<'a>(&self, buf: &'a AlignedBuf<f32>, range: Range<usize>) -> View<'a> {
        self.0.view(buf, range)
    }
    fn view_mut<'a>(&self, buf: &'a mut AlignedBuf<f32>, range: Range<usize>) -> ViewMut<'a> {
        self.0.view_mut(buf, range)
    }
    fn part<'s>(&self, view: &'s View<'_>, range: Range<usize>) -> View<'s> {
        &view[range]
    }
    fn index_part<'s>(&self, view: &'s Indices<'_>, range: Range<usize>) -> Indices<'s> {
        &view[range]
    }
    fn reborrow<'s>(view: &'s mut ViewMut<'_>) -> ViewMut<'s> {
        view
    }
    fn index_view<'a>(&self, buf: &'a Vec<u32>, range: Range<usize>) -> Indices<'a> {
        &buf[range]
    }
    fn index_view_mut<'a>(&self, buf: &'a mut Vec<u32>, range: Range<usize>) -> IndicesMut<'a> {
        &mut buf[range]
    }
    fn upload(&self, from: &[f32], to: ViewMut<'_>) {
        self.0.upload(from, to);
    }
    fn download(&self, from: View<'_>, to: &mut [f32]) {
        self.0.download(from, to);
    }
    fn upload_index(&self, from: &[u32], to: IndicesMut<'_>) {
        self.0.upload_index(from, to);
    }
    fn download_index(&self, from: Indices<'_>, to: &mut [u32]) {
        self.0.download_index(from, to);
    }
}

impl Backend for Apart {
    fn name(&self) -> String {
        "apart".to_owned()
    }
}

/// Implements operators by those of the CPU.
macro_rules! by_the_cpu {
    ($($ops:ident { $(fn $name:ident($($arg:ident: $ty:ty),* $(,)?) $(-> $ret:ty)?;)* })*) => {$(
        impl $ops for Apart {
            $(
                #[expect(clippy::allow_attributes, reason = "some operators have many operands")]
                #[allow(clippy::too_many_arguments, reason = "as the trait has them")]
                fn $name(&self, $($arg: $ty),*) $(-> $ret)? {
                    self.0.$name($($arg),*)
                }
            )*
        }
    )*};
}

by_the_cpu! {
    ElementwiseOps {
        fn fill(value: f64, out: ViewMut<'_>);
        fn unary(kind: UnaryKind, x: View<'_>, out: ViewMut<'_>);
        fn unary_grad(kind: UnaryKind, x: View<'_>, dy: View<'_>, write: Write, out: ViewMut<'_>);
        fn unary_grad2(
            kind: UnaryKind, x: View<'_>, dx: View<'_>, dy: View<'_>, write: Write, out: ViewMut<'_>,
        );
        fn binary(
            kind: BinaryKind, a: (View<'_>, Strided), b: (View<'_>, Strided), write: Write, out: ViewMut<'_>,
        );
        fn affine(alpha: f64, beta: f64, x: View<'_>, write: Write, y: ViewMut<'_>);
        fn dropout(key: Stream, first: u64, p: f64, x: View<'_>, write: Write, out: ViewMut<'_>);
    }
    LayoutOps {
        fn copy_strided(x: (View<'_>, Strided), write: Write, out: (ViewMut<'_>, Strided));
    }
    ReduceOps {
        fn sum_axis(x: View<'_>, outer: usize, len: usize, inner: usize, write: Write, out: ViewMut<'_>);
        fn max_axis(x: View<'_>, outer: usize, len: usize, inner: usize, out: ViewMut<'_>);
        fn moments(x: View<'_>) -> Moments;
        fn dot(x: View<'_>, y: View<'_>) -> f64;
    }
    MatmulOps {
        fn matmul(spec: &MatmulSpec, a: View<'_>, b: View<'_>, write: Write, c: ViewMut<'_>);
        fn linear(
            m: usize, n: usize, k: usize, x: View<'_>, w: View<'_>, bias: Option<View<'_>>,
            act: Option<UnaryKind>, pre: Option<ViewMut<'_>>, y: ViewMut<'_>,
        );
    }
    ConvOps {
        fn conv2d(
            spec: &ConvSpec, x: View<'_>, w: View<'_>, bias: Option<View<'_>>, act: Activation,
            y: ViewMut<'_>, argmax: Option<IndicesMut<'_>>,
        );
        fn conv2d_grad(
            spec: &ConvSpec, act: Activation, x: View<'_>, w: View<'_>, y: View<'_>,
            argmax: Option<Indices<'_>>, dy: View<'_>, dw: Option<(Write, ViewMut<'_>)>,
            db: Option<(Write, ViewMut<'_>)>, dx: Option<(Write, ViewMut<'_>)>,
        );
    }
    PoolOps {
        fn max_pool2d(spec: &PoolSpec, x: View<'_>, y: ViewMut<'_>, argmax: IndicesMut<'_>);
        fn max_pool2d_grad(spec: &PoolSpec, argmax: Indices<'_>, dy: View<'_>, dx: ViewMut<'_>);
        fn max_pool2d_tangent(spec: &PoolSpec, argmax: Indices<'_>, x: View<'_>, y: ViewMut<'_>);
        fn avg_pool2d(spec: &PoolSpec, x: View<'_>, y: ViewMut<'_>);
        fn avg_pool2d_grad(spec: &PoolSpec, dy: View<'_>, write: Write, dx: ViewMut<'_>);
    }
    NormOps {
        fn layer_norm(
            d: usize, eps: f64, x: View<'_>, gain: View<'_>, bias: View<'_>, y: ViewMut<'_>,
            stats: ViewMut<'_>,
        );
        fn layer_norm_grad(
            d: usize, x: View<'_>, gain: View<'_>, stats: View<'_>, dy: View<'_>,
            dgain: (Write, ViewMut<'_>), dbias: (Write, ViewMut<'_>), dx: (Write, ViewMut<'_>),
        );
        fn rms_norm(d: usize, eps: f64, x: View<'_>, gain: View<'_>, y: ViewMut<'_>, stats: ViewMut<'_>);
        fn rms_norm_grad(
            d: usize, x: View<'_>, gain: View<'_>, stats: View<'_>, dy: View<'_>,
            dgain: (Write, ViewMut<'_>), dx: (Write, ViewMut<'_>),
        );
        fn channel_sums(n: usize, c: usize, hw: usize, x: View<'_>, y: View<'_>, sums: &mut [f64]);
        fn channel_affine(
            n: usize, c: usize, hw: usize, coefficients: &[f64], x: View<'_>, y: View<'_>, write: Write,
            out: ViewMut<'_>,
        );
    }
    AttentionOps {
        fn softmax(d: usize, x: View<'_>, y: ViewMut<'_>);
        fn softmax_grad(d: usize, y: View<'_>, dy: View<'_>, write: Write, dx: ViewMut<'_>);
        fn log_softmax(d: usize, x: View<'_>, y: ViewMut<'_>);
        fn log_softmax_grad(d: usize, y: View<'_>, dy: View<'_>, write: Write, dx: ViewMut<'_>);
        fn attention(spec: &AttentionSpec, qkv: View<'_>, y: ViewMut<'_>, lse: ViewMut<'_>);
        fn attention_grad(
            spec: &AttentionSpec, qkv: View<'_>, y: View<'_>, lse: View<'_>, dy: View<'_>, write: Write,
            dqkv: ViewMut<'_>,
        );
    }
    IndexOps {
        fn gather_rows(d: usize, table: View<'_>, ids: Indices<'_>, y: ViewMut<'_>);
        fn scatter_rows(d: usize, ids: Indices<'_>, dy: View<'_>, write: Write, table: ViewMut<'_>);
        fn one_hot(d: usize, value: f64, ids: Indices<'_>, out: ViewMut<'_>);
    }
    LossOps {
        fn cross_entropy(
            d: usize, logits: View<'_>, labels: Indices<'_>, loss: ViewMut<'_>, lse: ViewMut<'_>, hits: IndicesMut<'_>,
        );
        fn cross_entropy_grad(
            d: usize, logits: View<'_>, labels: Indices<'_>, lse: View<'_>, dloss: View<'_>, write: Write,
            dx: ViewMut<'_>,
        );
    }
    OptimOps {
        fn sgd(step: &SgdStep, params: ViewMut<'_>, grads: View<'_>, velocity: ViewMut<'_>);
        fn adamw(
            step: &AdamWStep, params: ViewMut<'_>, grads: View<'_>, first: ViewMut<'_>, second: ViewMut<'_>,
        );
        fn adagrad(step: &AdaGradStep, params: ViewMut<'_>, grads: View<'_>, sum: ViewMut<'_>);
    }
}

/// The samples of a convolution, as the CPU takes them.
fn conv<'a>(conv: &ConvSamples<'a, Apart>) -> ConvSamples<'a, Cpu<f32>> {
    ConvSamples { spec: conv.spec, act: conv.act, x: conv.x, y: conv.y, argmax: conv.argmax, dy: conv.dy }
}

impl SampleOps for Apart {
    fn row_dots(&self, d: usize, a: View<'_>, b: View<'_>, out: &mut [f64]) {
        self.0.row_dots(d, a, b, out);
    }
    fn linear_norms(&self, rows: SampleRows, nk: [usize; 2], x: View<'_>, dy: View<'_>, out: &mut [f64]) {
        self.0.linear_norms(rows, nk, x, dy, out);
    }
    fn conv2d_norms(&self, of: &ConvSamples<'_, Self>, weight: &mut [f64], bias: Option<&mut [f64]>) {
        self.0.conv2d_norms(&conv(of), weight, bias);
    }
    fn conv2d_products(
        &self,
        of: &ConvSamples<'_, Self>,
        w: (View<'_>, &mut [f64]),
        b: Option<(View<'_>, &mut [f64])>,
    ) {
        self.0.conv2d_products(&conv(of), w, b);
    }
    fn gather_norms(&self, rows: SampleRows, d: usize, ids: Indices<'_>, dy: View<'_>, out: &mut [f64]) {
        self.0.gather_norms(rows, d, ids, dy, out);
    }
    fn norm_gains(
        &self,
        rows: SampleRows,
        d: usize,
        x: View<'_>,
        stats: View<'_>,
        dy: View<'_>,
        gains: ViewMut<'_>,
    ) {
        self.0.norm_gains(rows, d, x, stats, dy, gains);
    }
}

/// An exchange that sums at once, over a communicator of the host.
#[derive(Debug)]
pub struct HostExchange {
    comm: Arc<dyn Communicator>,
    fails_after: usize,
}

impl HostExchange {
    /// One that never fails.
    #[must_use]
    pub fn new(comm: &Arc<dyn Communicator>) -> Self {
        Self::failing_after(comm, usize::MAX)
    }

    /// One that fails on this rank after so many parts.
    #[must_use]
    pub fn failing_after(comm: &Arc<dyn Communicator>, parts: usize) -> Self {
        HostExchange { comm: Arc::clone(comm), fails_after: parts }
    }
}

impl GradientExchange<Apart> for HostExchange {
    fn start(&mut self, gradient: &mut AlignedBuf<f32>, part: Range<usize>) -> Result<(), CommError> {
        if self.fails_after == 0 {
            let rank = self.comm.rank();
            let (function, text) = ("ncclAllReduce".into(), "remote process exited".into());
            return Err(CommError::Library { rank, function, code: 6, text });
        }
        self.fails_after -= 1;
        self.comm.all_reduce_sum(&mut gradient[part])
    }

    fn finish(&mut self) -> Result<(), CommError> {
        Ok(())
    }

    fn check(&self) -> Result<(), CommError> {
        Ok(())
    }
}
