//! The models of the library: names, sizes, memory, and what tiles of a batch add up to.

use crate::support::files::json;
use crate::support::samples::made_up;
use crate::support::tiles::{KINDS, Tile, build, task};
use phalanx_nn::models::{ConfigValue, ModelConfig};
use phalanx_nn::{
    FlatSink, GradSink, Graph, Mode, Net, NnError, ParamBuilder, ParamId, Params, Registry, Task,
};
use phalanx_tensor::{Backend, Cpu, Meta, Shape, Write};
use serde::Deserialize;
use std::collections::BTreeMap;

#[derive(Deserialize)]
struct Reference {
    models: BTreeMap<String, Model>,
}

#[derive(Deserialize)]
struct Model {
    parameters: Vec<Parameter>,
}

#[derive(Deserialize)]
struct Parameter {
    name: String,
    shape: Vec<usize>,
}

#[test]
fn names_and_shapes_are_those_of_the_state_dict() {
    let reference: Reference = json("losses.json");
    assert_eq!(reference.models.len(), KINDS.len());
    for kind in KINDS {
        let (_, params) = build(kind, ModelConfig::new(), &task(kind));
        let ours: Vec<_> = params.iter().map(|(_, p, _)| (p.name.clone(), p.shape.to_vec())).collect();
        let theirs = reference.models[kind].parameters.iter().map(|p| (p.name.clone(), p.shape.clone()));
        assert_eq!(ours, theirs.collect::<Vec<_>>(), "{kind}");
    }
}

#[test]
fn parameters_are_as_many_as_documented() {
    let counts = KINDS.map(|kind| build(kind, ModelConfig::new(), &task(kind)).1.count());
    assert_eq!(counts, [535_818, 61_706, 1_199_882, 842_496]);
}

#[test]
fn sizes_follow_the_configuration() {
    let images = task("cnn");
    let list = |v: &[i64]| ConfigValue::List(v.to_vec());
    let count = |kind, config, task: &Task| build(kind, config, task).1.count();
    // 784 x 3 + 3, 3 x 10 + 10
    assert_eq!(count("mlp", ModelConfig::new().with("hidden", list(&[3])), &images), 2355 + 40);
    // 1 x 9 x 2 + 2, 2 x 9 x 3 + 3, 3 x 144 x 5 + 5, 5 x 10 + 10
    let config = ModelConfig::new().with("channels", list(&[2, 3])).with("hidden", ConfigValue::Int(5));
    assert_eq!(count("cnn", config, &images), 20 + 57 + 2165 + 60);
    // 25 x 2 + 2, 2 x 25 x 3 + 3, 3 x 25 x 4 + 4, 4 x 5 + 5, 5 x 10 + 10
    let config = ModelConfig::new().with("channels", list(&[2, 3])).with("hidden", list(&[4, 5]));
    assert_eq!(count("lenet5", config, &images), 52 + 153 + 304 + 25 + 60);
    // (7 + 5) x 4, 12 x 16 weights and 13 x 4 others in the block, 2 x 4
    let config = ModelConfig::new().with("layers", ConfigValue::Int(1)).with("width", ConfigValue::Int(4));
    let config = config.with("heads", ConfigValue::Int(2));
    assert_eq!(count("gpt", config, &Task::Predict { vocab: 7, context: 5 }), 48 + 192 + 52 + 8);
}

fn refusal(kind: &str, config: ModelConfig, task: &Task) -> String {
    match Registry::default().build(kind, config, task, &mut ParamBuilder::new()) {
        Ok(_) => panic!("{kind} was built"),
        Err(error) => error.to_string(),
    }
}

#[test]
fn what_a_model_cannot_be_is_refused() {
    let (images, text) = (task("cnn"), task("gpt"));
    let tiny = Task::Classify { features: Shape::from([1, 5, 5]), classes: 10 };
    let flat = Task::Classify { features: Shape::from([784]), classes: 10 };
    let with = |key, value| ModelConfig::new().with(key, value);
    let int = |v| ConfigValue::Int(v);
    assert_eq!(
        refusal("resnet", ModelConfig::new(), &images),
        "unknown model `resnet`, known are: cnn, gpt, lenet5, mlp"
    );
    assert_eq!(
        refusal("mlp", with("hiden", int(3)), &images),
        "model mlp: `hiden` is not one of its keys: hidden"
    );
    let zero = refusal("mlp", with("hidden", ConfigValue::List(vec![5, 0])), &images);
    assert!(zero.contains("hidden") && zero.contains("positive"), "{zero}");
    let word = refusal("cnn", with("hidden", ConfigValue::Text("wide".to_owned())), &images);
    assert!(word.contains("hidden") && word.contains("wide"), "{word}");
    let one = refusal("cnn", with("channels", ConfigValue::List(vec![5])), &images);
    assert_eq!(one, "cnn: channels is 1, need two numbers");
    assert_eq!(refusal("cnn", ModelConfig::new(), &tiny), "cnn: image side is 5, need at least 6");
    assert_eq!(refusal("lenet5", ModelConfig::new(), &tiny), "lenet5: image side is 5, need at least 12");
    let shape = refusal("lenet5", ModelConfig::new(), &flat);
    assert_eq!(shape, "lenet5: features is 1, need images, [channels, height, width]");
    assert_eq!(refusal("gpt", with("heads", int(3)), &text), "gpt: heads is 3, need a divisor of width");
    assert_eq!(
        refusal("gpt", with("context", int(64)), &text),
        "gpt: context is 64, need the context of the data"
    );
    let dropout = refusal("gpt", with("dropout", ConfigValue::Float(1.0)), &text);
    assert!(dropout.contains("dropout") && dropout.contains("probability"), "{dropout}");
    for kind in ["mlp", "lenet5", "cnn"] {
        assert!(refusal(kind, ModelConfig::new(), &text).contains("tokens"), "{kind}");
    }
    assert!(refusal("gpt", ModelConfig::new(), &images).contains("tokens"));
}

/// Bytes of the arena after steps with the given tiles.
fn arena_bytes<B, N>(backend: B, net: &N, params: &Params, tiles: &[&Tile]) -> usize
where
    B: Backend<Elem = f32>,
    N: Net<B> + ?Sized,
{
    let mut graph = Graph::new(backend, params.clone(), 1).unwrap();
    let mut sink = FlatSink::new(&graph).unwrap();
    for tile in tiles {
        graph.reset(Mode::Train, 0, 0);
        graph.backward(tile.losses(net, &graph).unwrap(), 1.0, &mut sink).unwrap();
    }
    graph.arena_bytes()
}

#[test]
fn memory_is_as_predicted_without_running() {
    for kind in KINDS {
        let task = task(kind);
        let (net, params) = build(kind, ModelConfig::new(), &task);
        let mut before = 0;
        for samples in [1, 3, 8] {
            let tile = made_up(task, 0, samples);
            let predicted = arena_bytes(Meta::<f32>::new(), &*net, &params, &[&tile]);
            assert_eq!(
                arena_bytes(Cpu::<f32>::new(), &*net, &params, &[&tile]),
                predicted,
                "{kind}, {samples}"
            );
            assert!(predicted > before, "{kind}, {samples}");
            before = predicted;
            let again = arena_bytes(Meta::<f32>::new(), &*net, &params, &[&tile, &tile, &tile]);
            assert_eq!(again, predicted, "{kind}, {samples}: later steps need no more");
        }
    }
}

/// Notes when parameters are finished.
struct Finished<B: Backend> {
    into: FlatSink<B>,
    order: Vec<ParamId>,
}

impl<B: Backend> GradSink<B> for Finished<B> {
    fn target(&mut self, param: ParamId) -> (Write, B::ViewMut<'_>) {
        assert!(!self.order.contains(&param), "a contribution after the last");
        self.into.target(param)
    }
    fn tangent(&mut self, param: ParamId) -> (Write, B::ViewMut<'_>) {
        self.into.tangent(param)
    }
    fn ready(&mut self, param: ParamId) {
        self.order.push(param);
    }
}

#[test]
fn gradients_finish_in_the_order_of_the_flat_buffer() {
    for kind in KINDS {
        let task = task(kind);
        let (net, params) = build(kind, ModelConfig::new(), &task);
        let graph = Graph::new(Cpu::<f32>::new(), params, 1).unwrap();
        let mut sink = Finished { into: FlatSink::new(&graph).unwrap(), order: Vec::new() };
        let losses = made_up(task, 0, 1).losses(&*net, &graph).unwrap();
        let promised = graph.completion_order();
        graph.backward(losses, 1.0, &mut sink).unwrap();
        assert_eq!(sink.order, promised, "{kind}");
        assert_eq!(sink.order, graph.params().order(), "{kind}");
        let mut declared: Vec<_> = graph.params().iter().map(|(id, ..)| id).collect();
        declared.reverse();
        assert_eq!(sink.order, declared, "{kind}");
    }
}

/// The gradient of a batch given as tiles that begin at the given samples.
fn gradient(kind: &str, config: ModelConfig, cuts: &[usize]) -> Vec<f32> {
    let task = task(kind);
    let (net, params) = build(kind, config, &task);
    let mut graph = Graph::new(Cpu::<f32>::new(), params, 1).unwrap();
    let mut sink = FlatSink::new(&graph).unwrap();
    let samples = cuts[cuts.len() - 1];
    for cut in cuts.windows(2) {
        graph.reset(Mode::Train, 5, cut[0] as u64);
        let losses = made_up(task, cut[0], cut[1] - cut[0]).losses(&*net, &graph).unwrap();
        graph.backward(losses, 1.0 / (samples * task.labels_per_sample()) as f64, &mut sink).unwrap();
    }
    sink.to_vec()
}

fn assert_close(got: &[f32], want: &[f32], what: &str) {
    let scale = want.iter().fold(0.0_f32, |m, g| m.max(g.abs()));
    assert!(scale > 0.0, "{what}");
    let off = got.iter().zip(want).map(|(a, b)| (a - b).abs()).fold(0.0_f32, f32::max);
    assert!(off <= 1e-5 * scale, "{what}: off by {off} of {scale}");
}

#[test]
fn the_same_tile_gives_the_same_bits() {
    for kind in KINDS {
        let bits =
            || gradient(kind, ModelConfig::new(), &[0, 5]).into_iter().map(f32::to_bits).collect::<Vec<_>>();
        assert_eq!(bits(), bits(), "{kind}");
    }
}

#[test]
fn tiles_add_up_to_the_batch() {
    for kind in KINDS {
        let whole = gradient(kind, ModelConfig::new(), &[0, 7]);
        assert_close(&gradient(kind, ModelConfig::new(), &[0, 3, 7]), &whole, kind);
        assert_close(&gradient(kind, ModelConfig::new(), &[0, 1, 6, 7]), &whole, kind);
    }
}

#[test]
fn dropout_does_not_depend_on_tiles() {
    let config =
        || ModelConfig::new().with("dropout", ConfigValue::Float(0.2)).with("layers", ConfigValue::Int(2));
    let whole = gradient("gpt", config(), &[0, 5]);
    assert_close(&gradient("gpt", config(), &[0, 2, 5]), &whole, "gpt");
    let other = gradient("gpt", config(), &[0, 4]);
    assert!(
        other.iter().zip(&whole).any(|(a, b)| (a - b).abs() > 1e-4),
        "another batch has another gradient"
    );
}

#[test]
fn evaluation_keeps_no_tape() {
    let task = task("mlp");
    let (net, params) = build("mlp", ModelConfig::new(), &task);
    let mut graph = Graph::new(Cpu::<f32>::new(), params, 1).unwrap();
    let mut sink = FlatSink::new(&graph).unwrap();
    graph.reset(Mode::Eval, 0, 0);
    let losses = made_up(task, 0, 2).losses(&*net, &graph).unwrap();
    assert_eq!(graph.backward(losses, 1.0, &mut sink), Err(NnError::NotRecorded));
}
