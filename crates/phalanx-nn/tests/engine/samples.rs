//! Statistics of the gradients of samples against those gradients, had by running the graph on one sample at a time.

use crate::support::samples::made_up;
use crate::support::splitmix::{hash, symmetric};
use crate::support::tiles::{KINDS, build, task};
use phalanx_nn::layers::BatchNorm2d;
use phalanx_nn::models::ModelConfig;
use phalanx_nn::{
    ConvOptions, Coverage, FlatSink, Graph, Init, Mode, NnError, ParamBuilder, ParamId, Params, Recording,
    SampleNorms, SampleProducts, SampleSquares, Var,
};
use phalanx_tensor::op::UnaryKind;
use phalanx_tensor::{Cpu, Float, Shape};
use proptest::prelude::{Just, ProptestConfig, any, prop_assert, prop_oneof, proptest};
use std::ops::Range;

type C = Cpu<f64>;

/// What was measured of a batch, parameter after parameter: a number a sample each, and a number a coordinate.
struct Measured {
    norms: Vec<Vec<f64>>,
    products: Vec<Vec<f64>>,
    squares: Vec<f64>,
    mean: Vec<f64>,
}

/// Measures a batch of `samples` whose losses `run` computes.
fn measured<T: Float>(
    graph: &mut Graph<Cpu<T>>,
    samples: usize,
    seed: f64,
    run: impl for<'g> Fn(&'g Graph<Cpu<T>>, Range<usize>) -> Result<Var<'g, Cpu<T>>, NnError>,
) -> Result<Measured, NnError> {
    graph.reset(Mode::Train, 0, 0);
    let mut sink = FlatSink::new(graph)?;
    let losses = run(graph, 0..samples)?;
    let (coverage, params) = (Coverage::of(graph)?, graph.params().clone());
    let mut norms = SampleNorms::new(&params, &coverage);
    let mut squares = SampleSquares::new(graph.backend(), &params, &coverage)?;
    let mut recording = Recording::new();
    norms.begin(samples);
    squares.begin(samples);
    let mut observer = ((&mut norms, &mut squares), &mut recording);
    graph.backward_observed(losses, seed / samples as f64, &mut sink, &mut observer)?;
    norms.finish(samples as f64)?;
    squares.finish()?;
    let mean = sink.to_vec();
    let mut products = SampleProducts::new(&params, &coverage, &*mean);
    products.begin(samples);
    recording.replay(graph.backend(), &mut products)?;
    products.finish(samples as f64)?;
    let ids = || params.iter().map(|(id, ..)| id);
    let with_total = |of: &dyn Fn(ParamId) -> Vec<f64>, total: &[f64]| {
        ids().map(of).chain(std::iter::once(total.to_vec())).collect()
    };
    let scale = (samples * samples) as f64;
    Ok(Measured {
        norms: with_total(&|id| norms.of(id).to_vec(), norms.total()),
        products: with_total(&|id| products.of(id).to_vec(), products.total()),
        squares: squares.to_vec().iter().map(|x| x.to_f64() * scale).collect(),
        mean: mean.iter().map(|x| x.to_f64()).collect(),
    })
}

/// The same from the gradients of the samples.
fn explicit<T: Float>(
    graph: &mut Graph<Cpu<T>>,
    samples: usize,
    seed: f64,
    run: impl for<'g> Fn(&'g Graph<Cpu<T>>, Range<usize>) -> Result<Var<'g, Cpu<T>>, NnError>,
) -> Measured {
    let params = graph.params().clone();
    let gradients: Vec<Vec<f64>> = (0..samples)
        .map(|i| {
            graph.reset(Mode::Train, 0, i as u64);
            let mut sink = FlatSink::new(graph).unwrap();
            graph.backward(run(graph, i..i + 1).unwrap(), seed, &mut sink).unwrap();
            sink.to_vec().iter().map(|x| x.to_f64()).collect()
        })
        .collect();
    let d = params.grad_len();
    let mean: Vec<f64> =
        (0..d).map(|j| gradients.iter().map(|g| g[j]).sum::<f64>() / samples as f64).collect();
    let spans = params.iter().map(|(_, spec, span)| match spec.trainable {
        true => span.offset..span.offset + span.len,
        false => 0..0,
    });
    let parts: Vec<Range<usize>> = spans.chain(std::iter::once(0..d)).collect();
    let dot = |a: &[f64], b: &[f64]| a.iter().zip(b).map(|(a, b)| a * b).sum::<f64>();
    let over = |f: &dyn Fn(&[f64], &Range<usize>) -> f64| {
        parts.iter().map(|part| gradients.iter().map(|g| f(g, part)).collect()).collect()
    };
    Measured {
        norms: over(&|g, part| dot(&g[part.clone()], &g[part.clone()])),
        products: over(&|g, part| dot(&g[part.clone()], &mean[part.clone()])),
        squares: (0..d).map(|j| gradients.iter().map(|g| g[j] * g[j]).sum()).collect(),
        mean,
    }
}

/// The greatest difference, relative to the greatest number wanted.
fn distance(got: &[f64], want: &[f64]) -> f64 {
    assert_eq!(got.len(), want.len());
    let scale = want.iter().fold(1e-30_f64, |m, v| m.max(v.abs()));
    // `max` would lose a NaN
    let greater = |m: f64, v: f64| if v <= m { m } else { v };
    got.iter().zip(want).map(|(a, b)| (a - b).abs() / scale).fold(0.0, greater)
}

/// Whether any sample has a gradient.
fn is_alive(measured: &Measured) -> bool {
    measured.norms.last().is_some_and(|total| total.iter().any(|v| *v > 0.0))
}

fn assert_equal(got: &Measured, want: &Measured, tolerance: f64, what: &str) {
    let rows = got.norms.iter().zip(&want.norms).chain(got.products.iter().zip(&want.products));
    for (row, (got, want)) in rows.enumerate() {
        let off = distance(got, want);
        assert!(off <= tolerance, "{what}, row {row}: off by {off:e}: {got:?} for {want:?}");
    }
    let off = distance(&got.squares, &want.squares).max(distance(&got.mean, &want.mean));
    assert!(off <= tolerance, "{what}: squares or mean off by {off:e}");
}

/// A closure that gives the losses of a range of samples, for every life of the graph.
fn losses_by<T: Float, F>(run: F) -> F
where
    F: for<'g> Fn(&'g Graph<Cpu<T>>, Range<usize>) -> Result<Var<'g, Cpu<T>>, NnError>,
{
    run
}

/// Compares an operator's statistics; `run` gives its output for a range of samples. Whether there was a gradient.
fn check<F>(params: ParamBuilder, samples: usize, what: &str, run: F) -> bool
where
    F: for<'g> Fn(&'g Graph<C>, Range<usize>) -> Result<Var<'g, C>, NnError>,
{
    let mut graph = Graph::new(C::new(), params.finish(), 5).unwrap();
    // Squares make the output's gradient depend on the output.
    let losses = losses_by(|g, range: Range<usize>| {
        let y = run(g, range.clone())?.square()?;
        y.reshape([range.len(), y.shape().len() / range.len()])?.sum_axis(1)
    });
    let got = measured(&mut graph, samples, 1.0, losses).unwrap();
    let want = explicit(&mut graph, samples, 1.0, losses);
    assert_equal(&got, &want, 1e-10, what);
    is_alive(&want)
}

/// The inputs of a range of samples, each a function of its number.
fn input<'g>(graph: &'g Graph<C>, range: Range<usize>, dims: &[usize]) -> Result<Var<'g, C>, NnError> {
    let len: usize = dims.iter().product();
    let cells = (range.start * len) as u64..(range.end * len) as u64;
    let data: Vec<f64> = cells.map(|i| symmetric(3, 1, i)).collect();
    graph.input(&data, Shape::new(&[&[range.len()], dims].concat()))
}

fn tokens(range: Range<usize>, steps: usize, below: usize) -> Vec<u32> {
    let cells = (range.start * steps) as u64..(range.end * steps) as u64;
    cells.map(|i| (hash(5, 2, i) % below as u64) as u32).collect()
}

const UNIT: Init = Init::Uniform(1.0);

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    #[test]
    fn of_a_linear_layer(
        samples in 1_usize..5, steps in prop_oneof![Just(1_usize), 2_usize..6, Just(40_usize)],
        k in prop_oneof![1_usize..12, Just(64_usize)], n in prop_oneof![1_usize..12, Just(48_usize)],
        with_bias: bool, act in 0_usize..3,
    ) {
        let mut params = ParamBuilder::new();
        let w = params.param("w", [n, k], UNIT);
        let bias = with_bias.then(|| params.param("b", [n], UNIT));
        let alive = check(params, samples, "linear", move |g, range| {
            let x = if steps == 1 { input(g, range, &[k])? } else { input(g, range, &[steps, k])? };
            let (w, bias) = (g.param(w), bias.map(|b| g.param(b)));
            match act {
                0 => x.linear(w, bias),
                1 => x.linear_act(w, bias, UnaryKind::Relu)?.add_scalar(1.0),
                _ => x.linear_act(w, bias, UnaryKind::GeluTanh),
            }
        });
        // a ReLU may cut off everything
        prop_assert!(alive || act == 1, "linear has a gradient");
    }

    #[test]
    fn of_a_convolution(
        samples in 1_usize..4, groups in 1_usize..4, cg in 1_usize..4, og in 1_usize..10,
        h in 2_usize..12, w in 2_usize..20, kh in 1_usize..6, kw in 1_usize..6,
        stride in 1_usize..3, padding in 0_usize..3, act in 0_usize..3, with_bias: bool,
    ) {
        if h + 2 * padding < kh + 1 || w + 2 * padding < kw + 1 || (act == 2 && stride == 2) {
            return Ok(());
        }
        let mut params = ParamBuilder::new();
        let weight = params.param("w", [og * groups, cg, kh, kw], UNIT);
        let bias = with_bias.then(|| params.param("b", [og * groups], UNIT));
        let options = ConvOptions { stride: [stride, stride], padding: [padding, padding], groups };
        let alive = check(params, samples, "conv2d", move |g, range| {
            let x = input(g, range, &[cg * groups, h, w])?;
            let (weight, bias) = (g.param(weight), bias.map(|b| g.param(b)));
            match act {
                0 => x.conv2d(weight, bias, options),
                1 => x.conv2d_relu(weight, bias, options)?.add_scalar(1.0),
                _ => x.conv2d_relu_pool2(weight, bias, options)?.add_scalar(1.0),
            }
        });
        // a ReLU may cut off everything
        prop_assert!(alive || act != 0, "conv2d has a gradient");
    }

    #[test]
    fn of_a_normalisation(samples in 1_usize..5, steps in 1_usize..6, d in 2_usize..20, rms: bool) {
        let mut params = ParamBuilder::new();
        let (gain, bias) = (params.param("gain", [d], UNIT), params.param("bias", [d], UNIT));
        let alive = check(params, samples, "norm", move |g, range| {
            let x = input(g, range, &[steps, d])?;
            if rms {
                x.rms_norm(g.param(gain), 1e-5)?.add(g.param(bias))
            } else {
                x.layer_norm(g.param(gain), g.param(bias), 1e-5)
            }
        });
        prop_assert!(alive, "norm has a gradient");
    }

    #[test]
    fn of_an_embedding(samples in 1_usize..5, steps in 1_usize..9, rows in 1_usize..6, d in 1_usize..12) {
        let mut params = ParamBuilder::new();
        let table = params.param("table", [rows, d], UNIT);
        let alive = check(params, samples, "gather", move |g, range| {
            let samples = range.len();
            let ids = g.ids(&tokens(range, steps, rows), rows)?;
            g.param(table).gather(ids)?.reshape([samples, steps, d])
        });
        prop_assert!(alive, "gather has a gradient");
    }

    #[test]
    fn of_an_addition(
        samples in 1_usize..5, steps in 1_usize..5, d in 1_usize..9, start in 0_usize..3, how in 0_usize..3,
    ) {
        let mut params = ParamBuilder::new();
        let shape: Shape = match how {
            0 => [d].into(),
            1 => [steps, d].into(),
            _ => [steps + 3, d].into(),
        };
        let offset = params.param("offset", shape, UNIT);
        let alive = check(params, samples, "add", move |g, range| {
            let offset = g.param(offset);
            let row = if how == 2 { offset.narrow(0, start, steps)? } else { offset };
            let x = input(g, range, &[steps, d])?;
            if start == 0 { row.add(x) } else { x.add(row) }
        });
        prop_assert!(alive, "add has a gradient");
    }

    #[test]
    fn of_a_table_that_is_also_the_head(
        samples in 1_usize..4, steps in 1_usize..7, rows in 2_usize..9, d in 1_usize..9, between in any::<bool>(),
    ) {
        let mut params = ParamBuilder::new();
        let table = params.param("table", [rows, d], UNIT);
        let inner = params.param("inner", [d, d], UNIT);
        let alive = check(params, samples, "tied", move |g, range| {
            let samples = range.len();
            let ids = g.ids(&tokens(range, steps, rows), rows)?;
            let mut x = g.param(table).gather(ids)?.reshape([samples, steps, d])?;
            if between {
                x = x.linear_act(g.param(inner), None, UnaryKind::Tanh)?;
            } else {
                x = x.add(g.param(inner).narrow(0, 0, 1)?)?;
            }
            x.linear(g.param(table), None)
        });
        prop_assert!(alive, "tied has a gradient");
    }

    #[test]
    fn of_a_weight_used_twice(samples in 1_usize..4, steps in 1_usize..4, d in 1_usize..9) {
        let mut params = ParamBuilder::new();
        let (w, bias) = (params.param("w", [d, d], UNIT), params.param("b", [d], UNIT));
        let alive = check(params, samples, "twice", move |g, range| {
            let (w, bias) = (g.param(w), g.param(bias));
            input(g, range, &[steps, d])?.linear_act(w, Some(bias), UnaryKind::Tanh)?.linear(w, None)
        });
        prop_assert!(alive, "twice has a gradient");
    }
}

#[test]
fn of_the_models() {
    for kind in KINDS {
        let task = task(kind);
        let (net, params) = build(kind, ModelConfig::new(), &task);
        let mut graph = Graph::new(Cpu::<f32>::new(), params, 1).unwrap();
        let labels = task.labels_per_sample();
        let run =
            losses_by(|g, range: Range<usize>| made_up(task, range.start, range.len()).losses(&*net, g));
        let seed = 1.0 / labels as f64;
        let got = measured(&mut graph, 3, seed, run).unwrap();
        let want = explicit(&mut graph, 3, seed, run);
        assert_equal(&got, &want, 1e-4, kind);
        assert_eq!(got.norms.len(), graph.params().iter().count() + 1, "{kind}");
        assert!(got.norms.iter().flatten().all(|norm| *norm > 0.0), "{kind}: every parameter is measured");
    }
}

#[test]
fn of_a_model_without_ghosts_of_earlier_passes() {
    let mut params = ParamBuilder::new();
    let w = params.param("w", [2, 2], UNIT);
    let mut graph = Graph::new(C::new(), params.finish(), 5).unwrap();
    let mut recording = Recording::new();
    let mut norms = None;
    for samples in [4, 2, 4] {
        graph.reset(Mode::Train, 0, 0);
        let losses = input(&graph, 0..samples, &[2]).unwrap().linear(graph.param(w), None).unwrap();
        let coverage = Coverage::of(&graph).unwrap();
        let norms = norms.get_or_insert_with(|| SampleNorms::<C>::new(graph.params(), &coverage));
        norms.begin(samples);
        recording.clear();
        let mut sink = FlatSink::new(&graph).unwrap();
        graph.backward_observed(losses, 1.0, &mut sink, &mut (&mut *norms, &mut recording)).unwrap();
        norms.finish(1.0).unwrap();
        let want: Vec<f64> = (0..samples as u64)
            .map(|i| 2.0 * (symmetric(3, 1, 2 * i).powi(2) + symmetric(3, 1, 2 * i + 1).powi(2)))
            .collect();
        assert!(distance(norms.total(), &want) < 1e-14);
        assert_eq!((recording.len(), recording.bytes()), (1, samples * 4 * 8));
    }
}

fn coverage_of(
    declare: impl FnOnce(&mut ParamBuilder) -> Vec<ParamId>,
    run: impl for<'g> FnOnce(&'g Graph<C>, &[ParamId]) -> Result<Var<'g, C>, NnError>,
) -> Result<(Params, Coverage), NnError> {
    let mut params = ParamBuilder::new();
    let ids = declare(&mut params);
    let graph = Graph::new(C::new(), params.finish(), 5)?;
    run(&graph, &ids)?;
    Ok((graph.params().clone(), Coverage::of(&graph)?))
}

#[test]
fn what_does_not_come_apart_is_refused_by_name() {
    fn x(g: &Graph<C>) -> Result<Var<'_, C>, NnError> {
        input(g, 0..2, &[2, 2])
    }
    let one = |shape: [usize; 2]| move |p: &mut ParamBuilder| vec![p.param("theta", shape, UNIT)];
    let refused = |error| {
        let Err(NnError::PerSample { operator, parameter }) = error else { panic!("{error:?}") };
        assert_eq!(parameter, "theta");
        operator
    };
    assert_eq!(refused(coverage_of(one([2, 2]), |g, p| x(g)?.mul(g.param(p[0])))), "mul");
    assert_eq!(refused(coverage_of(one([2, 2]), |g, p| x(g)?.matmul(g.param(p[0])))), "matmul");
    assert_eq!(refused(coverage_of(one([2, 2]), |g, p| x(g)?.sub(g.param(p[0])))), "sub");
    assert_eq!(refused(coverage_of(one([2, 1]), |g, p| x(g)?.add(g.param(p[0])))), "add");
    assert_eq!(refused(coverage_of(one([2, 2]), |g, p| x(g)?.linear(g.param(p[0]).tanh()?, None))), "unary");
    assert_eq!(
        refused(coverage_of(one([2, 4]), |g, p| x(g)?.linear(g.param(p[0]).narrow(1, 0, 2)?, None))),
        "narrow"
    );
    assert_eq!(
        refused(coverage_of(one([4, 2]), |g, p| x(g)?.linear(g.param(p[0]).narrow(0, 0, 2)?, None))),
        "linear"
    );
    assert_eq!(
        refused(coverage_of(one([2, 2]), |g, p| g
            .param(p[0])
            .linear(g.input(&[1.0; 4], Shape::from([2, 2]))?, None))),
        "linear"
    );
}

#[test]
fn batch_norm_is_refused_with_the_ways_out() {
    let mut params = ParamBuilder::new();
    let norm = BatchNorm2d::new(&mut params, 2);
    let graph = Graph::new(C::new(), params.finish(), 5).unwrap();
    norm.forward(input(&graph, 0..3, &[2, 2, 2]).unwrap()).unwrap();
    let error = Coverage::of(&graph).unwrap_err();
    assert_eq!(error, NnError::SamplesMixed { operator: "batch_norm" });
    let text = error.to_string();
    assert!(text.contains("ranks or micro-batches") && text.contains("freeze"), "{text}");
}

#[test]
fn a_frozen_batch_norm_is_measured() {
    let mut params = ParamBuilder::new();
    let norm = BatchNorm2d::new(&mut params, 3);
    let alive = check(params, 4, "frozen batch_norm", move |g, range| {
        norm.forward_frozen(input(g, range, &[3, 2, 5])?)?.add_scalar(1.0)
    });
    assert!(alive, "frozen batch_norm has a gradient");
}

#[test]
fn shared_parameters_are_counted() {
    let task = task("gpt");
    let (net, params) = build("gpt", ModelConfig::new(), &task);
    let graph = Graph::new(Cpu::<f32>::new(), params, 1).unwrap();
    made_up(task, 0, 1).losses(&*net, &graph).unwrap();
    let coverage = Coverage::of(&graph).unwrap();
    for (id, spec, _) in graph.params().iter() {
        assert_eq!(coverage.uses(id), if spec.name == "tok.weight" { 2 } else { 1 }, "{}", spec.name);
    }
}

#[test]
fn rows_that_are_not_of_samples_are_an_error() {
    let mut params = ParamBuilder::new();
    let w = params.param("w", [1, 2], UNIT);
    let graph = Graph::new(C::new(), params.finish(), 5).unwrap();
    let losses = input(&graph, 0..5, &[2]).unwrap().linear(graph.param(w), None).unwrap();
    let mut norms = SampleNorms::new(graph.params(), &Coverage::of(&graph).unwrap());
    norms.begin(2);
    graph.backward_observed(losses, 1.0, &mut FlatSink::new(&graph).unwrap(), &mut norms).unwrap();
    assert_eq!(norms.finish(1.0), Err(NnError::SampleRows { operator: "linear", rows: 5, samples: 2 }));
}
