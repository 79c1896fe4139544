//! Observing the backward pass: what is reported, and that it changes nothing.

use crate::support::samples::made_up;
use crate::support::tiles::{KINDS, build, task};
use phalanx_nn::models::ModelConfig;
use phalanx_nn::{FlatSink, Graph, Init, Mode, ParamBuilder, ParamObserver, Parameterised, Params};
use phalanx_tensor::{Cpu, Shape};

type C = Cpu<f32>;

/// Notes each operator as `kind weight+bias: extents`, after checking the lengths of what it was shown.
struct Notes<'p> {
    params: &'p Params,
    lines: Vec<String>,
    /// Sum over rows of `dy`, for each bias of a linear layer.
    bias_gradients: Vec<(usize, Vec<f32>)>,
}

impl ParamObserver<C> for Notes<'_> {
    fn observe(&mut self, _: &C, op: Parameterised<'_, C>) {
        let name = |id| self.params.spec(id).name.as_str();
        let with = |id: Option<_>| id.map_or(String::new(), |id| format!("+{}", name(id)));
        let line = match op {
            Parameterised::Linear { weight, bias, x, dy, rows, nk: [n, k] } => {
                assert_eq!((x.len(), dy.len()), (rows * k, rows * n));
                assert_eq!(self.params.spec(weight).shape.dims(), [n, k]);
                if let Some(bias) = bias {
                    let column = |j: usize| dy.chunks(n).map(|row| row[j]).sum();
                    self.bias_gradients.push((self.params.span(bias).offset, (0..n).map(column).collect()));
                }
                format!("linear {}{}: {rows} x {k}", name(weight), with(bias))
            }
            Parameterised::Conv2d { weight, bias, spec, act, x, y, argmax, dy } => {
                let [h, w] = act.out_hw(spec.out_hw());
                let out = spec.n * spec.o * h * w;
                assert_eq!((x.len(), y.len(), dy.len()), (spec.input_len(), out, out));
                assert!(argmax.is_none_or(|a| a.len() == out));
                format!("conv2d {}{}: {} x {h} x {w}", name(weight), with(bias), spec.n)
            }
            Parameterised::Embedding { table, ids, dy, rows, d } => {
                assert_eq!((ids.len(), dy.len()), (rows, rows * d));
                format!("embedding {}: {rows} x {d}", name(table))
            }
            Parameterised::Norm { gain, bias, x, stats, dy, rows, d } => {
                let per_row = if bias.is_some() { 2 } else { 1 };
                assert_eq!((x.len(), dy.len(), stats.len()), (rows * d, rows * d, per_row * rows));
                format!("norm {}{}: {rows} x {d}", name(gain), with(bias))
            }
            Parameterised::Offset { param, at, dy, rows, len } => {
                assert_eq!(dy.len(), rows * len);
                format!("offset {}: {rows} x {len} from {at}", name(param))
            }
            other => panic!("{other:?} has no line in this test"),
        };
        self.lines.push(line);
    }
}

/// Gradients of a tile of two samples without and with an observer, and the notes of the latter.
struct Observed {
    alone: Vec<f32>,
    watched: Vec<f32>,
    lines: Vec<String>,
    bias_gradients: Vec<(usize, Vec<f32>)>,
}

fn observed(kind: &str) -> Observed {
    let task = task(kind);
    let (net, params) = build(kind, ModelConfig::new(), &task);
    let tile = made_up(task, 0, 2);
    let mut graph = Graph::new(C::new(), params.clone(), 1).unwrap();
    let mut alone = FlatSink::new(&graph).unwrap();
    graph.backward(tile.losses(&*net, &graph).unwrap(), 0.5, &mut alone).unwrap();
    graph.reset(Mode::Train, 0, 0);
    let mut watched = FlatSink::new(&graph).unwrap();
    let mut notes = Notes { params: &params, lines: Vec::new(), bias_gradients: Vec::new() };
    let losses = tile.losses(&*net, &graph).unwrap();
    graph.backward_observed(losses, 0.5, &mut watched, &mut notes).unwrap();
    let Notes { lines, bias_gradients, .. } = notes;
    Observed { alone: alone.to_vec(), watched: watched.to_vec(), lines, bias_gradients }
}

#[test]
fn observing_changes_no_bit() {
    for kind in KINDS {
        let Observed { alone, watched, .. } = observed(kind);
        assert!(alone.iter().zip(&watched).all(|(a, b)| a.to_bits() == b.to_bits()), "{kind}");
        assert!(alone.iter().any(|g| *g != 0.0), "{kind}");
    }
}

#[test]
fn each_operator_is_reported_in_the_order_of_the_backward_pass() {
    let lines = |kind| observed(kind).lines;
    assert_eq!(
        lines("mlp"),
        [
            "linear fc3.weight+fc3.bias: 2 x 256",
            "linear fc2.weight+fc2.bias: 2 x 512",
            "linear fc1.weight+fc1.bias: 2 x 784",
        ]
    );
    assert_eq!(
        lines("lenet5"),
        [
            "linear fc3.weight+fc3.bias: 2 x 84",
            "linear fc2.weight+fc2.bias: 2 x 120",
            "linear fc1.weight+fc1.bias: 2 x 400",
            "conv2d conv2.weight+conv2.bias: 2 x 5 x 5",
            "conv2d conv1.weight+conv1.bias: 2 x 14 x 14",
        ]
    );
    assert_eq!(
        lines("cnn"),
        [
            "linear fc2.weight+fc2.bias: 2 x 128",
            "linear fc1.weight+fc1.bias: 2 x 9216",
            "conv2d conv2.weight+conv2.bias: 2 x 12 x 12",
            "conv2d conv1.weight+conv1.bias: 2 x 26 x 26",
        ]
    );
    let mut gpt = vec!["linear tok.weight: 256 x 128".to_owned(), norm("norm")];
    for block in (0..4).rev() {
        let name = |layer| format!("blocks.{block}.{layer}");
        gpt.extend([linear(&name("down"), 512), linear(&name("up"), 128), norm(&name("norm2"))]);
        gpt.extend([linear(&name("proj"), 128), linear(&name("qkv"), 128), norm(&name("norm1"))]);
    }
    gpt.push("offset pos.weight: 2 x 16384 from 0".to_owned());
    gpt.push("embedding tok.weight: 256 x 128".to_owned());
    assert_eq!(lines("gpt"), gpt);
}

fn linear(name: &str, inputs: usize) -> String {
    format!("linear {name}.weight+{name}.bias: 256 x {inputs}")
}

fn norm(name: &str) -> String {
    format!("norm {name}.weight+{name}.bias: 256 x 128")
}

#[test]
fn output_gradients_are_those_before_the_activation() {
    for kind in KINDS {
        let Observed { alone: gradient, bias_gradients, .. } = observed(kind);
        assert!(!bias_gradients.is_empty());
        for (offset, sums) in bias_gradients {
            let own = &gradient[offset..offset + sums.len()];
            let scale = own.iter().fold(1e-6_f32, |m, g| m.max(g.abs()));
            assert!(own.iter().zip(&sums).all(|(a, b)| (a - b).abs() <= 1e-4 * scale), "{kind} at {offset}");
        }
    }
}

#[test]
fn a_root_mean_square_norm_has_no_bias() {
    let mut params = ParamBuilder::new();
    let gain = params.param("gain", [3], Init::Constant(1.0));
    let params = params.finish();
    let graph = Graph::new(C::new(), params.clone(), 1).unwrap();
    let x = graph.input(&[1.0, 2.0, 3.0, 4.0, 5.0, 6.0], Shape::from([2, 3])).unwrap();
    let y = x.rms_norm(graph.param(gain), 1e-5).unwrap();
    let mut notes = Notes { params: &params, lines: Vec::new(), bias_gradients: Vec::new() };
    graph.backward_observed(y, 1.0, &mut FlatSink::new(&graph).unwrap(), &mut notes).unwrap();
    assert_eq!(notes.lines, ["norm gain: 2 x 3"]);
}
