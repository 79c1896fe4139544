//! Every operator in f64 against central differences: reverse mode, forward mode, and forward over reverse mode, which
//! gives Hessian-vector products.
//!
//! An operator enters by a line of [`cases`]; a test reads the names of all operators off the source.

use crate::support::splitmix::symmetric;
use phalanx_nn::{
    ConvOptions, FlatSink, Graph, HessianProduct, Init, Mode, NnError, ParamBuilder, ParamId, Var,
    hessian_vector_product, jacobian_vector_product,
};
use phalanx_tensor::op::UnaryKind;
use phalanx_tensor::{Cpu, Shape};
use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

type C = Cpu<f64>;
type Run = for<'g> fn(&'g Graph<C>, &[Var<'g, C>]) -> Result<Var<'g, C>, NnError>;

/// An operand, drawn uniformly in a range in which the operator is smooth.
struct Operand {
    shape: Shape,
    range: [f64; 2],
}

fn real<const N: usize>(shape: [usize; N]) -> Operand {
    Operand { shape: shape.into(), range: [-2.0, 2.0] }
}

fn positive<const N: usize>(shape: [usize; N]) -> Operand {
    Operand { shape: shape.into(), range: [0.5, 2.0] }
}

struct Case {
    op: &'static str,
    what: &'static str,
    operands: Vec<Operand>,
    run: Run,
}

fn case<const N: usize>(op: &'static str, what: &'static str, operands: [Operand; N], run: Run) -> Case {
    Case { op, what, operands: operands.into(), run }
}

const STRIDE2: ConvOptions = ConvOptions { stride: [2, 2], padding: [0, 0], groups: 1 };
const PADDED: ConvOptions = ConvOptions { stride: [1, 1], padding: [1, 1], groups: 1 };
const GROUPS2: ConvOptions = ConvOptions { stride: [2, 1], padding: [1, 0], groups: 2 };
const DEPTHWISE: ConvOptions = ConvOptions { stride: [1, 1], padding: [1, 1], groups: 3 };

fn plain() -> ConvOptions {
    ConvOptions::default()
}

#[rustfmt::skip]
fn cases() -> Vec<Case> {
    vec![
        case("relu", "", [real([3, 5])], |_, x| x[0].relu()),
        case("gelu", "", [real([3, 5])], |_, x| x[0].gelu()),
        case("gelu_tanh", "", [real([3, 5])], |_, x| x[0].gelu_tanh()),
        case("silu", "", [real([3, 5])], |_, x| x[0].silu()),
        case("sigmoid", "", [real([3, 5])], |_, x| x[0].sigmoid()),
        case("tanh", "", [real([3, 5])], |_, x| x[0].tanh()),
        case("exp", "", [real([3, 5])], |_, x| x[0].exp()),
        case("ln", "", [positive([3, 5])], |_, x| x[0].ln()),
        case("sqrt", "", [positive([3, 5])], |_, x| x[0].sqrt()),
        case("rsqrt", "", [positive([3, 5])], |_, x| x[0].rsqrt()),
        case("recip", "", [positive([3, 5])], |_, x| x[0].recip()),
        case("square", "", [real([3, 5])], |_, x| x[0].square()),
        case("unary", "of a scalar", [real([])], |_, x| x[0].unary(UnaryKind::Silu)),
        case("affine", "", [real([3, 5])], |_, x| x[0].affine(-1.5, 0.25)),
        case("scale", "", [real([3, 5])], |_, x| x[0].scale(-1.5)),
        case("add_scalar", "", [real([3, 5])], |_, x| x[0].add_scalar(0.25)),
        case("add", "same", [real([2, 3]), real([2, 3])], |_, x| x[0].add(x[1])),
        case("add", "a row", [real([2, 3]), real([3])], |_, x| x[0].add(x[1])),
        case("add", "both ways", [real([2, 1, 4]), real([3, 1])], |_, x| x[0].add(x[1])),
        case("add", "to a scalar", [real([]), real([2, 3])], |_, x| x[0].add(x[1])),
        case("add", "a tensor to itself", [real([2, 3])], |_, x| x[0].add(x[0])),
        case("sub", "same", [real([2, 3]), real([2, 3])], |_, x| x[0].sub(x[1])),
        case("sub", "a column", [real([2, 3]), real([2, 1])], |_, x| x[0].sub(x[1])),
        case("sub", "from a row", [real([3]), real([2, 4, 3])], |_, x| x[0].sub(x[1])),
        case("sub", "middle dims", [real([2, 1, 1, 3]), real([2, 3, 2, 1])], |_, x| x[0].sub(x[1])),
        case("mul", "same", [real([2, 3]), real([2, 3])], |_, x| x[0].mul(x[1])),
        case("mul", "a column", [real([2, 3]), real([2, 1])], |_, x| x[0].mul(x[1])),
        case("mul", "both ways", [real([2, 1, 4]), real([3, 1])], |_, x| x[0].mul(x[1])),
        case("mul", "a scalar", [real([2, 3]), real([])], |_, x| x[0].mul(x[1])),
        case("mul", "a tensor with itself", [real([2, 3])], |_, x| x[0].mul(x[0])),
        case("div", "same", [real([2, 3]), positive([2, 3])], |_, x| x[0].div(x[1])),
        case("div", "a row", [real([2, 3]), positive([3])], |_, x| x[0].div(x[1])),
        case("div", "a row by all", [real([3]), positive([2, 3])], |_, x| x[0].div(x[1])),
        case("matmul", "", [real([3, 4]), real([4, 2])], |_, x| x[0].matmul(x[1])),
        case("matmul", "batched", [real([2, 3, 4]), real([2, 4, 5])], |_, x| x[0].matmul(x[1])),
        case("matmul", "batch of batches", [real([2, 2, 1, 3]), real([2, 2, 3, 2])], |_, x| x[0].matmul(x[1])),
        case("matmul", "shared right side", [real([2, 3, 4]), real([4, 2])], |_, x| x[0].matmul(x[1])),
        case("matmul", "with itself", [real([3, 3])], |_, x| x[0].matmul(x[0])),
        case("matmul_t", "", [real([3, 4]), real([2, 4])], |_, x| x[0].matmul_t(x[1])),
        case("matmul_t", "batched", [real([2, 3, 4]), real([2, 5, 4])], |_, x| x[0].matmul_t(x[1])),
        case("matmul_t", "shared right side", [real([2, 3, 4]), real([2, 4])], |_, x| x[0].matmul_t(x[1])),
        case("matmul_t", "with itself", [real([3, 2])], |_, x| x[0].matmul_t(x[0])),
        case("linear", "", [real([4, 3]), real([5, 3]), real([5])], |_, x| x[0].linear(x[1], Some(x[2]))),
        case("linear", "no bias", [real([4, 3]), real([5, 3])], |_, x| x[0].linear(x[1], None)),
        case("linear", "sequence", [real([2, 4, 3]), real([2, 3]), real([2])], |_, x| x[0].linear(x[1], Some(x[2]))),
        case("linear_act", "relu", [real([4, 3]), real([5, 3]), real([5])], |_, x| x[0].linear_act(x[1], Some(x[2]), UnaryKind::Relu)),
        case("linear_act", "relu, no bias", [real([4, 3]), real([5, 3])], |_, x| x[0].linear_act(x[1], None, UnaryKind::Relu)),
        case("linear_act", "gelu", [real([4, 3]), real([5, 3]), real([5])], |_, x| x[0].linear_act(x[1], Some(x[2]), UnaryKind::Gelu)),
        case("linear_act", "tanh-gelu", [real([2, 2, 3]), real([5, 3]), real([5])], |_, x| x[0].linear_act(x[1], Some(x[2]), UnaryKind::GeluTanh)),
        case("linear_act", "silu, no bias", [real([4, 3]), real([5, 3])], |_, x| x[0].linear_act(x[1], None, UnaryKind::Silu)),
        case("linear_act", "sigmoid", [real([4, 3]), real([2, 3]), real([2])], |_, x| x[0].linear_act(x[1], Some(x[2]), UnaryKind::Sigmoid)),
        case("linear_act", "tanh", [real([4, 3]), real([2, 3]), real([2])], |_, x| x[0].linear_act(x[1], Some(x[2]), UnaryKind::Tanh)),
        case("conv2d", "", [real([2, 2, 4, 5]), real([3, 2, 3, 3]), real([3])], |_, x| x[0].conv2d(x[1], Some(x[2]), plain())),
        case("conv2d", "no bias", [real([2, 2, 4, 4]), real([3, 2, 2, 2])], |_, x| x[0].conv2d(x[1], None, plain())),
        case("conv2d", "one cell", [real([2, 3, 2, 3]), real([2, 3, 1, 1]), real([2])], |_, x| x[0].conv2d(x[1], Some(x[2]), plain())),
        case("conv2d", "stride 2", [real([2, 2, 5, 6]), real([2, 2, 3, 3])], |_, x| x[0].conv2d(x[1], None, STRIDE2)),
        case("conv2d", "padded", [real([1, 2, 3, 4]), real([2, 2, 3, 3]), real([2])], |_, x| x[0].conv2d(x[1], Some(x[2]), PADDED)),
        case("conv2d", "two groups", [real([2, 4, 4, 3]), real([2, 2, 3, 2]), real([2])], |_, x| x[0].conv2d(x[1], Some(x[2]), GROUPS2)),
        case("conv2d", "depthwise", [real([2, 3, 4, 3]), real([6, 1, 3, 3])], |_, x| x[0].conv2d(x[1], None, DEPTHWISE)),
        case("conv2d_relu", "", [real([2, 2, 4, 4]), real([3, 2, 3, 3]), real([3])], |_, x| x[0].conv2d_relu(x[1], Some(x[2]), plain())),
        case("conv2d_relu", "padded, no bias", [real([1, 2, 4, 4]), real([2, 2, 3, 3])], |_, x| x[0].conv2d_relu(x[1], None, PADDED)),
        case("conv2d_relu_pool2", "", [real([2, 2, 6, 6]), real([3, 2, 3, 3]), real([3])], |_, x| x[0].conv2d_relu_pool2(x[1], Some(x[2]), plain())),
        case("conv2d_relu_pool2", "padded, odd", [real([2, 1, 5, 7]), real([2, 1, 3, 3]), real([2])], |_, x| x[0].conv2d_relu_pool2(x[1], Some(x[2]), PADDED)),
        case("conv2d_relu_pool2", "groups", [real([1, 4, 5, 5]), real([2, 2, 3, 2]), real([2])], |_, x| x[0].conv2d_relu_pool2(x[1], Some(x[2]), GROUPS2)),
        case("max_pool2d", "", [real([2, 2, 4, 4])], |_, x| x[0].max_pool2d([2, 2], [2, 2], [0, 0])),
        case("max_pool2d", "overlapping, padded", [real([1, 2, 5, 4])], |_, x| x[0].max_pool2d([3, 2], [2, 1], [1, 1])),
        case("avg_pool2d", "", [real([2, 2, 4, 4])], |_, x| x[0].avg_pool2d([2, 2], [2, 2], [0, 0])),
        case("avg_pool2d", "overlapping, padded", [real([1, 2, 5, 4])], |_, x| x[0].avg_pool2d([3, 2], [2, 1], [1, 1])),
        case("gather", "rows again and not at all", [real([4, 3])], |g, x| x[0].gather(g.ids(&[2, 0, 2, 3, 2], 4)?)),
        case("layer_norm", "", [real([4, 6]), real([6]), real([6])], |_, x| x[0].layer_norm(x[1], x[2], 1e-5)),
        case("layer_norm", "wide", [real([2, 1, 21]), real([21]), real([21])], |_, x| x[0].layer_norm(x[1], x[2], 1e-2)),
        case("rms_norm", "", [real([4, 6]), real([6])], |_, x| x[0].rms_norm(x[1], 1e-5)),
        case("rms_norm", "wide", [real([2, 1, 21]), real([21])], |_, x| x[0].rms_norm(x[1], 1e-2)),
        case("batch_norm", "features", [real([5, 3]), real([3]), real([3])], |_, x| Ok(x[0].batch_norm(x[1], x[2], 1e-5)?.0)),
        case("batch_norm", "images", [real([2, 3, 2, 3]), real([3]), real([3])], |_, x| Ok(x[0].batch_norm(x[1], x[2], 1e-2)?.0)),
        case("softmax", "", [real([2, 3, 5])], |_, x| x[0].softmax()),
        case("softmax", "wide", [real([2, 19])], |_, x| x[0].softmax()),
        case("log_softmax", "", [real([2, 3, 5])], |_, x| x[0].log_softmax()),
        case("log_softmax", "wide", [real([2, 19])], |_, x| x[0].log_softmax()),
        case("cross_entropy", "", [real([4, 5])], |g, x| Ok(x[0].cross_entropy(g.ids(&[1, 4, 0, 1], 5)?)?.0)),
        case("cross_entropy", "sequence", [real([2, 2, 3])], |g, x| Ok(x[0].cross_entropy(g.ids(&[1, 2, 0, 1], 3)?)?.0)),
        case("squared_error", "", [real([3, 2, 2]), real([3, 2, 2])], |_, x| x[0].squared_error(x[1])),
        case("attention", "one head", [real([2, 3, 6])], |_, x| x[0].attention(1)),
        case("attention", "heads", [real([1, 5, 12])], |_, x| x[0].attention(2)),
        case("attention", "more than a block of rows", [real([1, 35, 3])], |_, x| x[0].attention(1)),
        case("dropout", "", [real([4, 6])], |_, x| x[0].dropout(0.4)),
        case("sum_axis", "first", [real([2, 3, 4])], |_, x| x[0].sum_axis(0)),
        case("sum_axis", "middle", [real([2, 3, 4])], |_, x| x[0].sum_axis(1)),
        case("sum_axis", "last", [real([2, 3, 4])], |_, x| x[0].sum_axis(2)),
        case("mean_axis", "", [real([2, 3, 4])], |_, x| x[0].mean_axis(1)),
        case("sum", "", [real([2, 3])], |_, x| x[0].sum()),
        case("mean", "", [real([2, 3])], |_, x| x[0].mean()),
        case("max_axis", "first", [real([3, 2, 2])], |_, x| x[0].max_axis(0)),
        case("max_axis", "last", [real([2, 2, 3])], |_, x| x[0].max_axis(2)),
        case("reshape", "", [real([2, 6])], |_, x| x[0].reshape([3, 4])),
        case("reshape", "of what is used otherwise too", [real([2, 2])], |_, x| x[0].tanh()?.reshape([4])?.mul(x[0].exp()?.reshape([4])?)),
        case("flatten", "", [real([2, 3, 2])], |_, x| x[0].flatten()),
        case("permute", "", [real([2, 3, 2, 4])], |_, x| x[0].permute(&[2, 0, 3, 1])),
        case("transpose", "", [real([2, 3, 4])], |_, x| x[0].transpose()),
        case("narrow", "first", [real([4, 3])], |_, x| x[0].narrow(0, 1, 2)),
        case("narrow", "overlapping parts", [real([2, 5])], |_, x| x[0].narrow(1, 0, 3)?.mul(x[0].narrow(1, 2, 3)?)),
        case("concat", "", [real([2, 3, 2]), real([2, 1, 2])], |_, x| x[0].concat(x[1], 1)),
        case("concat", "with itself", [real([2, 2])], |_, x| x[0].concat(x[0], 0)),
        case("expand", "", [real([2, 1, 3])], |_, x| x[0].expand([2, 2, 4, 3])),
        case("expand", "a scalar", [real([])], |_, x| x[0].expand([2, 3])),
        case("add", "residual", [real([3, 4]), real([4, 4])], |_, x| x[0].add(x[0].linear_act(x[1], None, UnaryKind::Tanh)?)),
    ]
}

/// Operators without a derivative by design.
const DETACHED: [&str; 3] = ["detach", "max_axis_detached", "one_hot"];

/// A case as a function of parameters.
struct Program {
    ids: Vec<ParamId>,
    run: Run,
    /// Whether the operator sees a function of the parameters in place of the parameters themselves.
    computed: bool,
}

impl Program {
    fn output<'g>(&self, graph: &'g Graph<C>) -> Result<Var<'g, C>, NnError> {
        let operand = |id: &ParamId| {
            let p = graph.param(*id);
            if self.computed { p.square()?.scale(0.25)?.add(p) } else { Ok(p) }
        };
        let operands: Vec<_> = self.ids.iter().map(operand).collect::<Result<_, _>>()?;
        (self.run)(graph, &operands)
    }

    /// `sum of c (y + y^2 / 2)` with fixed weights `c`, so that also linear operators have a Hessian.
    fn loss<'g>(&self, graph: &'g Graph<C>) -> Result<Var<'g, C>, NnError> {
        let y = self.output(graph)?;
        let weights: Vec<f64> = (0..y.shape().len() as u64).map(|i| symmetric(19, 0, i)).collect();
        y.add(y.square()?.scale(0.5)?)?.mul(graph.input(&weights, y.shape())?)?.sum()
    }
}

/// A graph with a case's operands as parameters.
struct Bench {
    graph: Graph<C>,
    program: Program,
    /// The parameters' values, and the places in them that are not gaps.
    flat: Vec<f64>,
    places: Vec<usize>,
}

impl Bench {
    fn new(case: &Case, computed: bool) -> Self {
        let mut params = ParamBuilder::new();
        let mut declare =
            |(i, o): (usize, &Operand)| params.param(&i.to_string(), o.shape, Init::Constant(0.0));
        let ids: Vec<_> = case.operands.iter().enumerate().map(&mut declare).collect();
        let params = params.finish();
        let mut flat = vec![0.0; params.flat_len()];
        for ((stream, id), operand) in (0..).zip(&ids).zip(&case.operands) {
            let [low, high] = operand.range;
            let span = params.span(*id);
            for (i, v) in (0..).zip(&mut flat[span.offset..span.offset + span.len]) {
                *v = (low + high) / 2.0 + (high - low) / 2.0 * symmetric(17, stream, i);
            }
        }
        let places = params.iter().flat_map(|(.., s)| s.offset..s.offset + s.len).collect();
        let mut graph = Graph::new(C::new(), params, 3).unwrap();
        graph.set_params(&flat);
        Bench { graph, program: Program { ids, run: case.run, computed }, flat, places }
    }

    fn at(&mut self, flat: &[f64]) {
        self.graph.set_params(flat);
        self.graph.reset(Mode::Train, 0, 0);
    }

    fn output_at(&mut self, flat: &[f64]) -> Vec<f64> {
        self.at(flat);
        self.program.output(&self.graph).unwrap().to_vec()
    }

    fn loss_at(&mut self, flat: &[f64]) -> f64 {
        self.at(flat);
        self.program.loss(&self.graph).unwrap().to_vec()[0]
    }

    fn gradient_at(&mut self, flat: &[f64]) -> Vec<f64> {
        self.at(flat);
        let mut sink = FlatSink::new(&self.graph).unwrap();
        self.graph.backward(self.program.loss(&self.graph).unwrap(), 1.0, &mut sink).unwrap();
        sink.to_vec()
    }

    /// A direction, and the central difference of `f` along it.
    fn along(&mut self, f: impl Fn(&mut Self, &[f64]) -> Vec<f64>) -> (Vec<f64>, Vec<f64>) {
        let mut direction = vec![0.0; self.flat.len()];
        (0..).zip(&self.places).for_each(|(i, at)| direction[*at] = symmetric(23, 0, i));
        let moved = |h: f64| self.flat.iter().zip(&direction).map(|(x, v)| x + h * v).collect::<Vec<_>>();
        let (ahead, behind) = (moved(STEP), moved(-STEP));
        let (ahead, behind) = (f(self, &ahead), f(self, &behind));
        self.graph.set_params(&self.flat);
        (direction, ahead.iter().zip(&behind).map(|(a, b)| (a - b) / (2.0 * STEP)).collect())
    }
}

const STEP: f64 = 1e-5;

/// The greatest difference, relative to the greatest number wanted.
fn distance(got: &[f64], want: &[f64]) -> f64 {
    assert_eq!(got.len(), want.len());
    let scale = want.iter().fold(1e-3_f64, |m, v| m.max(v.abs()));
    // `max` would lose a NaN
    let greater = |m: f64, v: f64| if v <= m { m } else { v };
    got.iter().zip(want).map(|(a, b)| (a - b).abs() / scale).fold(0.0, greater)
}

/// Runs `check` on every case, with parameters and with computed tensors as operands, and names all that fail.
fn every_case(tolerance: f64, check: impl Fn(&mut Bench) -> f64) {
    let mut failed = Vec::new();
    for case in cases() {
        for computed in [false, true] {
            let off = check(&mut Bench::new(&case, computed));
            if off.is_nan() || off > tolerance {
                failed.push(format!("{} ({}), computed: {computed}: off by {off:e}", case.op, case.what));
            }
        }
    }
    assert!(failed.is_empty(), "{}", failed.join("\n"));
}

#[test]
fn reverse_mode_gives_the_differences_of_the_loss() {
    every_case(1e-7, |bench| {
        let (flat, places) = (bench.flat.clone(), bench.places.clone());
        let got = bench.gradient_at(&flat);
        let mut want = vec![0.0; flat.len()];
        for at in places {
            let mut moved = flat.clone();
            moved[at] = flat[at] + STEP;
            let ahead = bench.loss_at(&moved);
            moved[at] = flat[at] - STEP;
            want[at] = (ahead - bench.loss_at(&moved)) / (2.0 * STEP);
        }
        distance(&got, &want)
    });
}

#[test]
fn forward_mode_gives_the_differences_of_the_output() {
    every_case(1e-7, |bench| {
        let (direction, want) = bench.along(Bench::output_at);
        let Bench { graph, program, .. } = bench;
        let got = jacobian_vector_product(graph, &direction, |g| program.output(g)).unwrap();
        distance(&got, &want)
    });
}

#[test]
fn forward_over_reverse_gives_the_differences_of_the_gradient() {
    every_case(1e-6, |bench| {
        let (direction, want) = bench.along(Bench::gradient_at);
        let Bench { graph, program, .. } = bench;
        let got = hessian_vector_product(graph, &direction, |g| program.loss(g)).unwrap();
        distance(&got.product, &want)
    });
}

#[test]
fn composed_operators_equal_the_fused() {
    every_case(1e-12, |bench| {
        let flat = bench.flat.clone();
        let (value, gradient) = (bench.output_at(&flat), bench.gradient_at(&flat));
        let (direction, _) = bench.along(|_, flat| flat.to_vec());
        let Bench { graph, program, .. } = bench;
        let composed = hessian_vector_product(graph, &direction, |g| program.loss(g)).unwrap();
        graph.set_direction(&direction).unwrap();
        let composed_value = program.output(graph).unwrap().to_vec();
        distance(&composed_value, &value).max(distance(&composed.gradient, &gradient))
    });
}

#[test]
fn a_second_pass_gives_the_same_bits() {
    every_case(0.0, |bench| {
        let flat = bench.flat.clone();
        let first = bench.gradient_at(&flat);
        distance(&bench.gradient_at(&flat), &first)
    });
}

#[test]
fn what_is_detached_has_no_derivative() {
    let mut params = ParamBuilder::new();
    let id = params.param("x", [2, 3], Init::Uniform(1.0));
    let mut graph = Graph::new(C::new(), params.finish(), 5).unwrap();
    let runs: [Run; 2] = [|_, x| x[0].detach(), |_, x| x[0].max_axis_detached(1)];
    for run in runs {
        // d(x stop(f(x))) = stop(f(x)) dx, and the derivative of that is 0
        let stopped = run(&graph, &[graph.param(id)]).unwrap().to_vec();
        let direction: Vec<f64> = (0..16).map(|i| if i < 6 { symmetric(1, 0, i) } else { 0.0 }).collect();
        let product = hessian_vector_product(&mut graph, &direction, |g| times_stopped(run, id, g));
        let HessianProduct { gradient, product } = product.unwrap();
        let want: Vec<f64> = (0..6).map(|i| stopped[i * stopped.len() / 6]).collect();
        assert_eq!(gradient[..6], want);
        assert!(product.iter().all(|v| *v == 0.0), "{product:?}");
    }
    let ids = graph.ids(&[1, 0], 3).unwrap();
    assert_eq!(Var::one_hot(&graph, ids, 3, 2.0).unwrap().to_vec(), [0.0, 2.0, 0.0, 2.0, 0.0, 0.0]);
}

/// `sum(x stop(f(x)))`
fn times_stopped(run: Run, id: ParamId, graph: &Graph<C>) -> Result<Var<'_, C>, NnError> {
    let x = graph.param(id);
    let stopped = run(graph, &[x])?;
    let rows = stopped.shape()[0];
    x.mul(stopped.reshape([rows, stopped.shape().len() / rows])?)?.sum()
}

/// The names of the operators in the sources of [`Var`]: what its methods are called that return one.
fn operators() -> BTreeSet<String> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("src/var");
    let parts = fs::read_dir(&folder).unwrap().map(|part| part.unwrap().path());
    let sources = parts.chain([folder.with_extension("rs")]).map(|path| fs::read_to_string(path).unwrap());
    let source: String = sources.collect();
    let methods = source.split("    pub fn ").skip(1).filter_map(|rest| {
        let (signature, _) = rest.split_once('{')?;
        let (name, types) = signature.split_once('(')?;
        (types.contains("Result<") && types.contains("Self") && !name.starts_with('$')).then_some(name)
    });
    let (_, unary) = source.split_once("    unary! {\n").unwrap();
    let (unary, _) = unary.split_once("\n    }\n").unwrap();
    let unary = unary.lines().filter_map(|line| Some(line.trim().split_once(" = ")?.0));
    methods.chain(unary).map(str::to_owned).collect()
}

#[test]
fn every_operator_has_a_case() {
    let mut checked: BTreeSet<_> = cases().iter().map(|case| case.op.to_owned()).collect();
    checked.extend(DETACHED.map(str::to_owned));
    assert_eq!(checked, operators());
}

#[test]
#[should_panic(expected = "the backward pass is over")]
fn a_value_is_gone_after_the_backward_pass() {
    let graph = Graph::new(C::new(), ParamBuilder::new().finish(), 1).unwrap();
    let x = graph.input(&[1.0], Shape::from([1])).unwrap();
    graph.backward(x, 1.0, &mut FlatSink::new(&graph).unwrap()).unwrap();
    drop(x.to_vec());
}

#[test]
fn the_gradient_of_a_parameter_by_itself_is_the_seed() {
    let mut params = ParamBuilder::new();
    let id = params.param("x", [2, 2], Init::Constant(3.0));
    let graph = Graph::new(C::new(), params.finish(), 1).unwrap();
    let mut sink = FlatSink::new(&graph).unwrap();
    graph.backward(graph.param(id).reshape([4]).unwrap(), 0.5, &mut sink).unwrap();
    assert_eq!(sink.to_vec()[..4], [0.5; 4]);
}

#[test]
fn operands_that_do_not_fit_are_refused() {
    let graph = Graph::new(C::new(), ParamBuilder::new().finish(), 1).unwrap();
    let of = |dims: &[usize]| graph.input(&vec![1.0; dims.iter().product()], Shape::new(dims)).unwrap();
    let (flat, image, none) = (of(&[2, 3]), of(&[1, 2, 3, 3]), of(&[0]));
    let wide = ConvOptions { groups: 3, ..plain() };
    let refused = [
        flat.add(of(&[2])).map(|_| ()),
        flat.matmul(flat).map(|_| ()),
        flat.matmul(of(&[3])).map(|_| ()),
        flat.linear(of(&[4, 2]), None).map(|_| ()),
        flat.linear(of(&[4, 3]), Some(of(&[3]))).map(|_| ()),
        image.conv2d(of(&[3, 2, 4, 4]), None, plain()).map(|_| ()),
        image.conv2d(of(&[3, 2, 2, 2]), None, wide).map(|_| ()),
        image.conv2d_relu_pool2(of(&[3, 2, 3, 3]), None, plain()).map(|_| ()),
        image.max_pool2d([2, 2], [0, 1], [0, 0]).map(|_| ()),
        image.avg_pool2d([2, 2], [1, 1], [2, 0]).map(|_| ()),
        flat.gather(graph.ids(&[0], 3).unwrap()).map(|_| ()),
        none.layer_norm(none, none, 1e-5).map(|_| ()),
        none.rms_norm(none, 1e-5).map(|_| ()),
        of(&[2, 3, 0]).batch_norm(of(&[3]), of(&[3]), 1e-5).map(|_| ()),
        none.softmax().map(|_| ()),
        flat.cross_entropy(graph.ids(&[0], 3).unwrap()).map(|_| ()),
        flat.squared_error(of(&[3])).map(|_| ()),
        of(&[1, 2, 0]).attention(2).map(|_| ()),
        of(&[1, 2, 8]).attention(2).map(|_| ()),
        flat.dropout(1.0).map(|_| ()),
        flat.sum_axis(2).map(|_| ()),
        none.max_axis(0).map(|_| ()),
        flat.reshape([5]).map(|_| ()),
        flat.permute(&[0, 0]).map(|_| ()),
        none.transpose().map(|_| ()),
        flat.narrow(1, usize::MAX, 2).map(|_| ()),
        flat.concat(of(&[2, 3, 1]), 0).map(|_| ()),
        flat.expand([2, 4]).map(|_| ()),
    ];
    for (at, result) in refused.iter().enumerate() {
        let error = result.as_ref().expect_err(&format!("case {at}"));
        assert!(matches!(error, NnError::Shape { .. } | NnError::Tensor(_)), "case {at}: {error}");
    }
    assert_eq!(graph.ids(&[1, 3], 3).map(|_| ()), Err(NnError::Index { got: 3, at: 1, len: 3 }));
}

#[test]
fn rows_of_a_table_are_an_input() {
    let graph = Graph::new(C::new(), ParamBuilder::new().finish(), 0).unwrap();
    let table: Vec<f64> = (0..12_u8).map(f64::from).collect();
    let picked = graph.input_rows((&table, 3), &[2, 0, 2], Shape::from([3, 2, 2])).unwrap();
    let mut read = [0.0; 12];
    picked.read(&mut read);
    assert_eq!(read, [8.0, 9.0, 10.0, 11.0, 0.0, 1.0, 2.0, 3.0, 8.0, 9.0, 10.0, 11.0]);
    let beyond = graph.input_rows((&table, 3), &[1, 3], Shape::from([2, 4])).map(|_| ());
    assert_eq!(beyond, Err(NnError::Index { got: 3, at: 1, len: 3 }));
    let shape = graph.input_rows((&table, 3), &[1], Shape::from([2, 4])).map(|_| ());
    assert!(matches!(shape, Err(NnError::Shape { op: "input_rows", .. })), "{shape:?}");
}
