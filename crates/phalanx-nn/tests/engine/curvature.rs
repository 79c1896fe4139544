//! Small versions of the four models against `PyTorch`: logits, loss, gradient, products with the Hessian and the
//! Jacobian, norms of each sample's gradient; `tests/reference/curvature.py` in the root.

use crate::support::files::{bytes, json};
use crate::support::tensors::{Tensor, Tensors, distance, indices};
use phalanx_nn::models::{ConfigValue, ModelConfig};
use phalanx_nn::{
    AnyNet, Features, FlatSink, Graph, Mode, Net, NnError, ParamBuilder, Registry, Task, Var,
    hessian_vector_product, jacobian_vector_product,
};
use phalanx_tensor::{Cpu, Shape};
use serde::Deserialize;
use serde_json::Value;
use std::collections::BTreeMap;

type C = Cpu<f64>;

#[derive(Deserialize)]
struct Reference {
    batch: usize,
    cases: BTreeMap<String, Case>,
}

#[derive(Deserialize)]
struct Case {
    sizes: BTreeMap<String, Value>,
    parameters: Vec<String>,
}

impl Case {
    fn size(&self, key: &str) -> usize {
        usize::try_from(self.sizes[key].as_u64().unwrap()).unwrap()
    }

    fn list(&self, key: &str) -> Vec<i64> {
        self.sizes[key].as_array().unwrap().iter().map(|v| v.as_i64().unwrap()).collect()
    }

    /// The task and the configuration of the same model here.
    fn model(&self, kind: &str) -> (Task, ModelConfig) {
        let list = |v: &[i64]| ConfigValue::List(v.to_vec());
        let int = |key| ConfigValue::Int(self.sizes[key].as_i64().unwrap());
        let images = |channels: &[i64]| Task::Classify {
            features: Shape::from([
                usize::try_from(channels[0]).unwrap(),
                self.size("side"),
                self.size("side"),
            ]),
            classes: self.size("classes"),
        };
        let config = ModelConfig::new();
        match kind {
            "mlp" => {
                let sizes =
                    self.list("sizes").into_iter().map(|v| usize::try_from(v).unwrap()).collect::<Vec<_>>();
                let task =
                    Task::Classify { features: Shape::from([sizes[0]]), classes: sizes[sizes.len() - 1] };
                (task, config.with("hidden", list(&self.list("sizes")[1..sizes.len() - 1])))
            }
            "lenet5" | "cnn" => {
                let channels = self.list("channels");
                let hidden = if kind == "cnn" { int("hidden") } else { list(&self.list("hidden")) };
                (images(&channels), config.with("channels", list(&channels[1..])).with("hidden", hidden))
            }
            "gpt" => {
                let keys = ["layers", "width", "heads"];
                let config = keys.into_iter().fold(config, |config, key| config.with(key, int(key)));
                (Task::Predict { vocab: self.size("vocab"), context: self.size("context") }, config)
            }
            unknown => panic!("no model {unknown} here"),
        }
    }
}

/// Samples of a case.
struct Samples {
    task: Task,
    samples: usize,
    x: Vec<f64>,
    target: Vec<u32>,
}

impl Samples {
    /// One of the samples.
    fn only(&self, i: usize) -> Self {
        let (x, target) = (self.x.len() / self.samples, self.target.len() / self.samples);
        Samples {
            task: self.task,
            samples: 1,
            x: self.x[i * x..(i + 1) * x].to_vec(),
            target: self.target[i * target..(i + 1) * target].to_vec(),
        }
    }

    fn logits<'g>(&self, net: &dyn Net<C>, graph: &'g Graph<C>) -> Result<Var<'g, C>, NnError> {
        let x = match self.task {
            Task::Classify { features, .. } => {
                let dims: Vec<_> = [self.samples].into_iter().chain(features.iter().copied()).collect();
                Features::Dense(graph.input(&self.x, Shape::new(&dims))?)
            }
            Task::Predict { vocab, context } => {
                let ids = graph.ids(&indices(&self.x), vocab)?;
                Features::Tokens { ids, samples: self.samples, time: context }
            }
        };
        net.logits(graph, x)
    }

    fn loss<'g>(&self, net: &dyn Net<C>, graph: &'g Graph<C>) -> Result<Var<'g, C>, NnError> {
        let logits = self.logits(net, graph)?;
        logits.cross_entropy(graph.ids(&self.target, self.task.outputs())?)?.0.mean()
    }
}

/// A model of a case with the weights that it names.
struct Bench<'t> {
    kind: &'t str,
    case: &'t Case,
    tensors: &'t Tensors,
    net: Box<dyn AnyNet>,
    graph: Graph<C>,
    samples: Samples,
}

impl<'t> Bench<'t> {
    fn new(kind: &'t str, case: &'t Case, batch: usize, tensors: &'t Tensors) -> Self {
        let (task, config) = case.model(kind);
        let mut params = ParamBuilder::new();
        let net = Registry::default().build(kind, config, &task, &mut params).unwrap();
        let graph = Graph::new(C::new(), params.finish(), 0).unwrap();
        let names: Vec<_> = graph.params().iter().map(|(_, spec, _)| spec.name.clone()).collect();
        assert_eq!(names, case.parameters, "{kind}");
        let target = indices(&tensors.get(&format!("{kind}/in/target")).data);
        let x = tensors.get(&format!("{kind}/in/x")).data;
        let samples = Samples { task, samples: batch, x, target };
        let mut bench = Bench { kind, case, tensors, net, graph, samples };
        let weights = bench.flat("param");
        bench.graph.set_params(&weights);
        bench
    }

    fn wanted(&self, what: &str) -> Tensor {
        self.tensors.get(&format!("{}/{what}", self.kind))
    }

    /// A tensor for each parameter, laid out as the flat buffer.
    fn flat(&self, what: &str) -> Vec<f64> {
        let mut flat = vec![0.0; self.graph.params().flat_len()];
        for name in &self.case.parameters {
            let span = self.graph.params().span(self.graph.params().find(name).unwrap());
            let data = self.wanted(&format!("{what}/{name}")).data;
            flat[span.offset..span.offset + span.len].copy_from_slice(&data);
        }
        flat
    }

    /// What is off, of everything that the reference has.
    fn check(&mut self) -> Vec<String> {
        let direction = self.flat("vector");
        let mut results = Vec::new();
        let (logits, want) = (self.samples.logits(&*self.net, &self.graph).unwrap(), self.wanted("out"));
        assert_eq!(logits.shape().to_vec(), want.shape, "{}", self.kind);
        results.push(("out", logits.to_vec(), want.data));
        self.graph.reset(Mode::Train, 0, 0);
        results.push(("grad", self.gradient(&self.samples), self.flat("grad")));
        self.graph.reset(Mode::Train, 0, 0);
        let loss = self.samples.loss(&*self.net, &self.graph).unwrap();
        results.push(("loss", loss.to_vec(), self.wanted("loss").data));
        let (net, samples) = (&*self.net, &self.samples);
        let jvp = jacobian_vector_product(&mut self.graph, &direction, |g| samples.logits(net, g)).unwrap();
        let curved = hessian_vector_product(&mut self.graph, &direction, |g| samples.loss(net, g)).unwrap();
        results.push(("jvp", jvp, self.wanted("jvp").data));
        results.push(("composed grad", curved.gradient, self.flat("grad")));
        results.push(("hvp", curved.product, self.flat("hvp")));
        results.extend(self.sample_norms());
        let off = results.into_iter().map(|(what, got, want)| (what, distance(&got, &want)));
        off.filter(|(_, by)| by.is_nan() || *by > 1e-10)
            .map(|(what, by)| format!("{}: {what} is off by {by:e}", self.kind))
            .collect()
    }

    fn gradient(&self, samples: &Samples) -> Vec<f64> {
        let mut sink = FlatSink::new(&self.graph).unwrap();
        self.graph.backward(samples.loss(&*self.net, &self.graph).unwrap(), 1.0, &mut sink).unwrap();
        sink.to_vec()
    }

    /// Squared norms of the gradients of samples taken alone, by parameter and over all.
    fn sample_norms(&mut self) -> Vec<(&'static str, Vec<f64>, Vec<f64>)> {
        let gradients: Vec<Vec<f64>> = (0..self.samples.samples)
            .map(|i| {
                self.graph.reset(Mode::Train, 0, 0);
                self.gradient(&self.samples.only(i))
            })
            .collect();
        let norms = |at: std::ops::Range<usize>| -> Vec<f64> {
            gradients.iter().map(|g| g[at.clone()].iter().map(|v| v * v).sum()).collect()
        };
        let all = ("sample_norm2", norms(0..gradients[0].len()), self.wanted("sample_norm2").data);
        let each = self.graph.params().iter().map(|(_, spec, span)| {
            let want = self.wanted(&format!("sample_norm2/{}", spec.name)).data;
            ("sample_norm2 of a parameter", norms(span.offset..span.offset + span.len), want)
        });
        [all].into_iter().chain(each).collect()
    }
}

#[test]
fn every_model_agrees_and_every_tensor_is_used() {
    let reference: Reference = json("curvature.json");
    assert_eq!(reference.cases.len(), 4);
    let tensors = Tensors::new(bytes("curvature.safetensors"));
    let mut off = Vec::new();
    for (kind, case) in &reference.cases {
        off.extend(Bench::new(kind, case, reference.batch, &tensors).check());
    }
    assert!(off.is_empty(), "{}", off.join("\n"));
    assert_eq!(tensors.unread(), [""; 0]);
}
