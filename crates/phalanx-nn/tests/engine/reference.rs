//! Values and gradients of every operator against `PyTorch`'s: `tests/reference/ops.py` in the root.

use crate::support::files::{bytes, json};
use crate::support::tensors::{Tensors, distance, indices};
use phalanx_nn::layers::BatchNorm2d;
use phalanx_nn::{ConvOptions, FlatSink, Graph, Init, Mode, ParamBuilder, Var};
use phalanx_tensor::{Cpu, Shape};
use serde::Deserialize;
use serde_json::Value;
use std::collections::BTreeMap;

type C = Cpu<f64>;

#[derive(Deserialize)]
struct Reference {
    dtype: String,
    cases: BTreeMap<String, Case>,
}

#[derive(Deserialize)]
struct Case {
    op: String,
    params: BTreeMap<String, Value>,
    inputs: Vec<String>,
    state: Vec<String>,
}

impl Case {
    fn number(&self, key: &str) -> f64 {
        self.params[key].as_f64().unwrap()
    }

    fn sizes(&self, key: &str) -> Vec<usize> {
        self.params[key].as_array().unwrap().iter().map(size).collect()
    }

    fn pair(&self, key: &str) -> [usize; 2] {
        self.sizes(key).try_into().unwrap()
    }

    /// The axis reduced, none for all.
    fn axis(&self) -> Option<usize> {
        self.params.get("axis").map(size)
    }
}

fn size(value: &Value) -> usize {
    usize::try_from(value.as_u64().unwrap()).unwrap()
}

/// The operands of a case, by name.
struct Operands<'g, 't> {
    graph: &'g Graph<C>,
    name: &'t str,
    tensors: &'t Tensors,
    norm: Option<BatchNorm2d>,
}

impl<'g> Operands<'g, '_> {
    fn get(&self, key: &str) -> Var<'g, C> {
        self.find(key).unwrap_or_else(|| panic!("{} has no input {key}", self.name))
    }

    fn find(&self, key: &str) -> Option<Var<'g, C>> {
        self.graph.params().find(key).map(|id| self.graph.param(id))
    }

    fn indices(&self, key: &str) -> Vec<u32> {
        indices(&self.tensors.get(&format!("{}/in/{key}", self.name)).data)
    }
}

/// What our operator of that name makes of the operands.
fn run<'g>(case: &Case, x: &Operands<'g, '_>) -> Var<'g, C> {
    let graph = x.graph;
    let first = || x.get(&case.inputs[0]);
    let second = || x.get(&case.inputs[1]);
    let y = match case.op.as_str() {
        "linear" => first().linear(x.get("weight"), x.find("bias")),
        "matmul" => first().matmul(second()),
        "conv2d" => {
            let options = ConvOptions {
                stride: case.pair("stride"),
                padding: case.pair("padding"),
                groups: size(&case.params["groups"]),
            };
            first().conv2d(x.get("weight"), x.find("bias"), options)
        }
        "max_pool2d" => first().max_pool2d(case.pair("kernel"), case.pair("stride"), case.pair("padding")),
        "avg_pool2d" => {
            let pool =
                |v: Var<'g, C>| v.avg_pool2d(case.pair("kernel"), case.pair("stride"), case.pair("padding"));
            match case.params.get("count_include_pad") {
                // The mean of the cells inside: ours counts the padding in both of these.
                Some(Value::Bool(false)) => {
                    let ones = graph.input(&vec![1.0; first().shape().len()], first().shape()).unwrap();
                    pool(first()).unwrap().div(pool(ones).unwrap())
                }
                _ => pool(first()),
            }
        }
        "layer_norm" => first().layer_norm(x.get("weight"), x.get("bias"), case.number("eps")),
        "rms_norm" => first().rms_norm(x.get("weight"), case.number("eps")),
        "batch_norm" => x.norm.unwrap().forward(x.get("x")),
        "batch_norm_eval" => x.norm.unwrap().forward_frozen(x.get("x")),
        "relu" => first().relu(),
        "gelu" => first().gelu(),
        "gelu_tanh" => first().gelu_tanh(),
        "silu" => first().silu(),
        "sigmoid" => first().sigmoid(),
        "tanh" => first().tanh(),
        "exp" => first().exp(),
        "log" => first().ln(),
        "sqrt" => first().sqrt(),
        "softmax" => first().softmax(),
        "log_softmax" => first().log_softmax(),
        "cross_entropy" => {
            let labels = x.indices("target");
            let labels = graph.ids(&labels, first().shape().last()).unwrap();
            first().cross_entropy(labels).and_then(|(losses, _)| losses.mean())
        }
        "mse" => {
            let per_sample = first().shape().len() / first().shape()[0];
            let errors = first().squared_error(second()).unwrap();
            errors.mean().unwrap().scale(1.0 / per_sample as f64)
        }
        "embedding" => {
            let (ids, table) = (x.indices("index"), x.get("weight"));
            let rows = table.gather(graph.ids(&ids, table.shape()[0]).unwrap()).unwrap();
            let index = x.tensors.get(&format!("{}/in/index", x.name)).shape;
            rows.reshape(Shape::from([index[0], index[1], table.shape()[1]]))
        }
        "causal_attention" => first().attention(size(&case.params["heads"])),
        "sum" => case.axis().map_or_else(|| first().sum(), |axis| first().sum_axis(axis)),
        "mean" => case.axis().map_or_else(|| first().mean(), |axis| first().mean_axis(axis)),
        "max" => first().max_axis(case.axis().unwrap()),
        "concat" => {
            let rest = case.inputs[1..].iter().map(|key| x.get(key));
            rest.into_iter().try_fold(first(), |joined, part| joined.concat(part, case.axis().unwrap()))
        }
        "permute" => first().permute(&case.sizes("dims")),
        "reshape" => first().reshape(&case.sizes("shape")[..]),
        "add" => first().add(second()),
        "sub" => first().sub(second()),
        "mul" => first().mul(second()),
        "div" => first().div(second()),
        unknown => panic!("{}: the engine has no operator {unknown}", x.name),
    };
    y.unwrap_or_else(|e| panic!("{}: {e}", x.name))
}

const TOLERANCE: f64 = 1e-10;

/// Runs a case and returns what is off.
fn check(name: &str, case: &Case, tensors: &Tensors) -> Vec<String> {
    let mut params = ParamBuilder::new();
    let norm = case.op.starts_with("batch_norm").then(|| BatchNorm2d::new(&mut params, 3));
    let inputs: Vec<_> =
        case.inputs.iter().map(|key| (key, tensors.get(&format!("{name}/in/{key}")))).collect();
    let gradients: BTreeMap<_, _> = case
        .inputs
        .iter()
        .filter_map(|key| Some((key, tensors.find(&format!("{name}/grad/{key}"))?)))
        .collect();
    for (key, gradient) in gradients.iter().filter(|(key, _)| norm.is_none() || key.as_str() == "x") {
        params.param(key, &gradient.shape[..], Init::Constant(0.0));
    }
    let params = params.finish();
    let mut flat = params.initial(0);
    let mut set = |key: &str, data: &[f64]| {
        if let Some(id) = params.find(key) {
            let span = params.span(id);
            flat[span.offset..span.offset + span.len].copy_from_slice(data);
        }
    };
    inputs.iter().for_each(|(key, tensor)| set(key, &tensor.data));
    if case.op == "batch_norm_eval" {
        case.state.iter().for_each(|key| set(key, &tensors.get(&format!("{name}/state/{key}")).data));
    }
    let mut graph = Graph::new(C::new(), params, 0).unwrap();
    graph.set_params(&flat);
    graph.reset(Mode::Train, 0, 0);

    let mut off = Vec::new();
    let mut compare = |what: String, got: &[f64], want: &[f64]| {
        let by = distance(got, want);
        if by.is_nan() || by > TOLERANCE {
            off.push(format!("{name}: {what} is off by {by:e}"));
        }
    };
    let want = tensors.get(&format!("{name}/out"));
    let y = run(case, &Operands { graph: &graph, name, tensors, norm });
    assert_eq!(y.shape().to_vec(), want.shape, "{name}");
    compare("the output".to_owned(), &y.to_vec(), &want.data);

    let dy = graph.input(&tensors.get(&format!("{name}/dy")).data, y.shape()).unwrap();
    let mut sink = FlatSink::new(&graph).unwrap();
    graph.backward(y.mul(dy).unwrap(), 1.0, &mut sink).unwrap();
    let (gradient, flat) = (sink.to_vec(), graph.params_to_vec());
    let of = |flat: &[f64], key: &str| {
        let span = graph.params().span(graph.params().find(key).unwrap());
        flat[span.offset..span.offset + span.len].to_vec()
    };
    for (key, want) in &gradients {
        compare(format!("the gradient of {key}"), &of(&gradient, key), &want.data);
    }
    for key in &case.state {
        compare(key.clone(), &of(&flat, key), &tensors.get(&format!("{name}/state/{key}")).data);
    }
    off
}

#[test]
fn every_case_agrees_and_every_tensor_is_used() {
    let reference: Reference = json("ops.json");
    assert_eq!(reference.dtype, "f64");
    assert!(reference.cases.len() > 50);
    let tensors = Tensors::new(bytes("ops.safetensors"));
    let off: Vec<_> = reference.cases.iter().flat_map(|(name, case)| check(name, case, &tensors)).collect();
    assert!(off.is_empty(), "{}", off.join("\n"));
    assert_eq!(tensors.unread(), [""; 0]);
}
