//! Parameters: names, shapes, initial values, and their place in one flat buffer.

use phalanx_tensor::Shape;
use phalanx_tensor::rng::{Purpose, Stream};
use std::ops::Range;

/// A parameter of a model, by the order in which it was declared.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ParamId(pub(crate) usize);

impl ParamId {
    /// Position in the order of declaration.
    #[must_use]
    pub fn index(self) -> usize {
        self.0
    }
}

/// How a parameter begins.
#[derive(Clone, Copy, Debug, PartialEq)]
#[non_exhaustive]
pub enum Init {
    /// One value everywhere.
    Constant(f64),
    /// Uniform in `-bound..bound`; `PyTorch`'s linear and convolution layers take `1/sqrt(fan_in)`.
    Uniform(f64),
    /// Normal with mean 0 and this standard deviation.
    Normal(f64),
}

/// What a parameter is.
#[derive(Clone, Debug, PartialEq)]
pub struct ParamSpec {
    /// The name in `model.safetensors`, that of a `PyTorch` state dict: `blocks.0.qkv.weight`.
    pub name: String,
    /// The shape, that of a `PyTorch` state dict.
    pub shape: Shape,
    /// The initial values.
    pub init: Init,
    /// Whether gradients are taken; running statistics are kept among the parameters without.
    pub trainable: bool,
}

/// Declares the parameters of a model, name by name.
#[derive(Debug, Default)]
pub struct ParamBuilder {
    specs: Vec<ParamSpec>,
    prefix: String,
}

impl ParamBuilder {
    /// No parameters yet.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Runs `f`; the names declared in it begin with `name` and a dot.
    pub fn scope<R>(&mut self, name: impl std::fmt::Display, f: impl FnOnce(&mut Self) -> R) -> R {
        let before = self.prefix.len();
        self.prefix.push_str(&format!("{name}."));
        let made = f(self);
        self.prefix.truncate(before);
        made
    }

    /// Declares a parameter.
    pub fn param(&mut self, name: &str, shape: impl Into<Shape>, init: Init) -> ParamId {
        self.declare(name, shape.into(), init, true)
    }

    /// Declares a running statistic: kept and saved with the parameters, but never a gradient.
    pub fn statistic(&mut self, name: &str, shape: impl Into<Shape>, init: Init) -> ParamId {
        self.declare(name, shape.into(), init, false)
    }

    fn declare(&mut self, name: &str, shape: Shape, init: Init, trainable: bool) -> ParamId {
        self.specs.push(ParamSpec { name: format!("{}{name}", self.prefix), shape, init, trainable });
        ParamId(self.specs.len() - 1)
    }

    /// The declared parameters, laid out in the order of declaration reversed: that of a backward pass.
    #[must_use]
    pub fn finish(self) -> Params {
        let order = (0..self.specs.len()).rev().map(ParamId).collect::<Vec<_>>();
        Params::new(self.specs, &order)
    }
}

/// A parameter's place in the flat buffer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Span {
    /// First element; a multiple of [`Params::ALIGN`].
    pub offset: usize,
    /// Elements.
    pub len: usize,
}

/// All parameters of a model and their places in one flat buffer.
///
/// The gradient's flat buffer has the same layout, cut off before the running statistics. Gaps between parameters
/// (each begins at a cache line) hold zeros in both.
#[derive(Clone, Debug, PartialEq)]
pub struct Params {
    specs: Vec<ParamSpec>,
    spans: Vec<Span>,
    order: Vec<ParamId>,
    grad_len: usize,
    len: usize,
}

impl Params {
    /// Parameters begin at multiples of this many elements: 64 bytes of `f32`.
    pub const ALIGN: usize = 16;

    /// Lays parameters out in `order`, trainable ones first.
    ///
    /// # Panics
    /// When `order` is not a permutation of the parameters.
    #[must_use]
    pub fn new(specs: Vec<ParamSpec>, order: &[ParamId]) -> Self {
        assert_eq!(specs.len(), order.len(), "an order of all parameters");
        let mut spans = vec![Span { offset: usize::MAX, len: 0 }; specs.len()];
        let mut at = 0;
        let mut grad_len = 0;
        let trainable = |id: &ParamId| specs[id.0].trainable;
        let (first, then): (Vec<ParamId>, Vec<ParamId>) = order.iter().partition(|id| trainable(id));
        for id in first.iter().chain(&then) {
            assert_eq!(spans[id.0].offset, usize::MAX, "an order names each parameter once");
            spans[id.0] = Span { offset: at, len: specs[id.0].shape.len() };
            at += specs[id.0].shape.len().next_multiple_of(Self::ALIGN);
            if specs[id.0].trainable {
                grad_len = at;
            }
        }
        Params { specs, spans, order: first, grad_len, len: at }
    }

    /// The same parameters in another order of backward completion.
    #[must_use]
    pub fn reordered(&self, order: &[ParamId]) -> Self {
        let rest = (0..self.specs.len()).map(ParamId).filter(|id| !order.contains(id));
        let whole: Vec<_> = order.iter().copied().chain(rest).collect();
        Self::new(self.specs.clone(), &whole)
    }

    /// What a parameter is.
    #[must_use]
    pub fn spec(&self, id: ParamId) -> &ParamSpec {
        &self.specs[id.0]
    }

    /// Where a parameter lies.
    #[must_use]
    pub fn span(&self, id: ParamId) -> Span {
        self.spans[id.0]
    }

    /// All parameters, in the order of declaration.
    pub fn iter(&self) -> impl Iterator<Item = (ParamId, &ParamSpec, Span)> {
        self.specs.iter().zip(&self.spans).enumerate().map(|(i, (spec, span))| (ParamId(i), spec, *span))
    }

    /// The gaps behind parameters, where zeros stand.
    pub fn gaps(&self) -> impl Iterator<Item = Range<usize>> {
        let end = |span: &Span| span.offset + span.len;
        self.spans.iter().map(move |span| end(span)..end(span).next_multiple_of(Self::ALIGN))
    }

    /// The trainable parameters in the order of the flat buffer.
    #[must_use]
    pub fn order(&self) -> &[ParamId] {
        &self.order
    }

    /// The parameter of a name.
    #[must_use]
    pub fn find(&self, name: &str) -> Option<ParamId> {
        self.specs.iter().position(|s| s.name == name).map(ParamId)
    }

    /// Elements of the flat buffer, gaps included.
    #[must_use]
    pub fn flat_len(&self) -> usize {
        self.len
    }

    /// Elements of the gradient's flat buffer, gaps included.
    #[must_use]
    pub fn grad_len(&self) -> usize {
        self.grad_len
    }

    /// Trainable numbers, gaps not counted.
    #[must_use]
    pub fn count(&self) -> usize {
        self.specs.iter().filter(|s| s.trainable).map(|s| s.shape.len()).sum()
    }

    /// Initial values for the whole flat buffer.
    ///
    /// # Numerics
    /// Element `i` of the parameter declared at place `p` is drawn at index `i` of the stream of (seed, init, p): the
    /// same for every layout, backend and number of ranks.
    #[must_use]
    pub fn initial(&self, seed: u64) -> Vec<f64> {
        let mut flat = vec![0.0; self.len];
        for (p, (spec, span)) in (0_u64..).zip(self.specs.iter().zip(&self.spans)) {
            let stream = Stream::new(seed, Purpose::Init, p);
            for (i, v) in (0_u64..).zip(&mut flat[span.offset..span.offset + span.len]) {
                *v = match spec.init {
                    Init::Constant(value) => value,
                    Init::Uniform(bound) => (2.0 * f64::from(stream.uniform_f32(i)) - 1.0) * bound,
                    Init::Normal(std) => stream.normal_f64(i) * std,
                };
            }
        }
        flat
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn scopes_name_and_statistics_come_last() {
        let mut b = ParamBuilder::new();
        let mean = b.scope("bn", |b| b.statistic("running_mean", [3], Init::Constant(0.0)));
        let w = b.scope("blocks.0", |b| b.scope("qkv", |b| b.param("weight", [2, 5], Init::Uniform(0.5))));
        let bias = b.param("bias", [17], Init::Constant(1.0));
        let p = b.finish();
        assert_eq!(p.spec(w).name, "blocks.0.qkv.weight");
        assert_eq!(p.span(bias), Span { offset: 0, len: 17 });
        assert_eq!(p.span(w), Span { offset: 32, len: 10 });
        assert_eq!(p.span(mean), Span { offset: 48, len: 3 });
        assert_eq!((p.grad_len(), p.flat_len(), p.count()), (48, 64, 27));
        assert_eq!(p.order(), [bias, w]);
        assert_eq!(p.gaps().collect::<Vec<_>>(), [51..64, 42..48, 17..32]);
        let other = p.reordered(&[w, bias]);
        assert_eq!(other.span(w).offset, 0);
        let (a, b) = (p.initial(3), other.initial(3));
        assert_eq!(a[32..42], b[0..10]);
        assert!(a[32..42].iter().all(|v| v.abs() <= 0.5) && a[32] != a[33]);
    }
}
