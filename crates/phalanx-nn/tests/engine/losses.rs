//! The first hundred losses of the four models at full size against `PyTorch`'s: `tests/reference/losses.py` in the
//! root, whose head says how weights and batches are made.

use crate::support::files::json;
use crate::support::splitmix::{hash, symmetric};
use crate::support::tiles::{KINDS, Tile, build, task};
use phalanx_nn::models::ModelConfig;
use phalanx_nn::{FlatSink, Graph, Mode, Params, Task};
use phalanx_tensor::Cpu;
use phalanx_tensor::op::{AdamWStep, OptimOps, SgdStep};
use serde::Deserialize;
use std::collections::{BTreeMap, BTreeSet};

type C = Cpu<f32>;

#[derive(Deserialize)]
struct Reference {
    steps: usize,
    models: BTreeMap<String, Plan>,
}

#[derive(Deserialize)]
struct Plan {
    weight_seed: u64,
    batch: usize,
    optimizer: Optimizer,
    parameters: Vec<Parameter>,
    losses_f64: Vec<f64>,
}

#[derive(Deserialize)]
#[serde(tag = "kind", rename_all = "lowercase")]
enum Optimizer {
    Sgd { lr: f64, momentum: f64 },
    AdamW { lr: f64, betas: [f64; 2], eps: f64, weight_decay: f64 },
}

#[derive(Deserialize)]
struct Parameter {
    name: String,
    bound: Option<f64>,
    constant: Option<f64>,
    first_grad_norm: f64,
}

impl Plan {
    fn weights(&self, params: &Params) -> Vec<f64> {
        let mut flat = vec![0.0; params.flat_len()];
        for (p, rule) in (0..).zip(&self.parameters) {
            let span = params.span(params.find(&rule.name).unwrap());
            for (i, v) in (0..).zip(&mut flat[span.offset..span.offset + span.len]) {
                *v = match (rule.bound, rule.constant) {
                    (Some(bound), None) => symmetric(self.weight_seed, p, i) * bound,
                    (None, Some(constant)) => constant,
                    _ => panic!("{} begins in no known way", rule.name),
                };
            }
        }
        flat
    }

    fn tile(&self, task: Task, step: u64) -> Tile {
        let samples = self.batch;
        let (features, tokens, labels) = match task {
            Task::Classify { .. } => {
                let (features, labels) = images(step, samples);
                (features, Vec::new(), labels)
            }
            Task::Predict { context, .. } => {
                let (tokens, labels) = ramps(step, samples, context);
                (Vec::new(), tokens, labels)
            }
        };
        Tile { task, samples, features, tokens, labels }
    }
}

/// Noise with a brighter block that shows the label, unless the label lies.
fn images(step: u64, samples: usize) -> (Vec<f32>, Vec<u32>) {
    let mut features = Vec::new();
    let mut labels = Vec::new();
    for j in 0..samples as u64 {
        let shown = hash(3, step, j) % 10;
        let lie = hash(6, step, j);
        labels.push(if lie.is_multiple_of(4) { (lie / 4 % 10) as u32 } else { shown as u32 });
        let (top, left) = (4 + 10 * (shown / 5), 4 + 4 * (shown % 5));
        for (r, c) in (0..28 * 28).map(|i| (i / 28, i % 28)) {
            let bright = (top..top + 10).contains(&r) && (left..left + 4).contains(&c);
            let pixel = symmetric(2, step, j * 784 + r * 28 + c) + f64::from(u8::from(bright));
            features.push(pixel as f32);
        }
    }
    (features, labels)
}

/// Ramps of printable characters with one byte in eight replaced, and the same a position later.
fn ramps(step: u64, samples: usize, context: usize) -> (Vec<u32>, Vec<u32>) {
    let (mut tokens, mut labels) = (Vec::new(), Vec::new());
    for j in 0..samples as u64 {
        let start = hash(4, step, j) % 64;
        let token = |t: u64| {
            let h = hash(5, step, j * (context as u64 + 1) + t);
            let ramp = 32 + (start + t * (1 + start % 3)) % 64;
            if h.is_multiple_of(8) { (h / 8 % 256) as u32 } else { ramp as u32 }
        };
        tokens.extend((0..context as u64).map(token));
        labels.extend((1..=context as u64).map(token));
    }
    (tokens, labels)
}

/// The optimizer's state, and its update.
struct Update<'p> {
    optimizer: &'p Optimizer,
    first: Vec<f32>,
    second: Vec<f32>,
}

impl<'p> Update<'p> {
    fn new(optimizer: &'p Optimizer, len: usize) -> Self {
        Update { optimizer, first: vec![0.0; len], second: vec![0.0; len] }
    }

    fn step(&mut self, step: u64, params: &mut [f32], grads: &[f32]) {
        match *self.optimizer {
            Optimizer::Sgd { lr, momentum } => {
                let step = SgdStep { lr, momentum, nesterov: false, weight_decay: 0.0, grad_scale: 1.0 };
                C::new().sgd(&step, params, grads, &mut self.first);
            }
            Optimizer::AdamW { lr, betas: [beta1, beta2], eps, weight_decay } => {
                let step = AdamWStep { lr, beta1, beta2, eps, weight_decay, step, grad_scale: 1.0 };
                C::new().adamw(&step, params, grads, &mut self.first, &mut self.second);
            }
        }
    }
}

fn check(kind: &str) {
    let reference: Reference = json("losses.json");
    let plan = &reference.models[kind];
    assert_eq!(plan.losses_f64.len(), reference.steps);
    let task = task(kind);
    let (net, params) = build(kind, ModelConfig::new(), &task);
    let mut graph = Graph::new(C::new(), params.clone(), 0).unwrap();
    graph.set_params(&plan.weights(&params));
    let mut sink = FlatSink::new(&graph).unwrap();
    let mut update = Update::new(&plan.optimizer, params.grad_len());
    for (step, want) in (0..).zip(&plan.losses_f64) {
        graph.reset(Mode::Train, step, 0);
        sink.clear();
        let loss = plan.tile(task, step).losses(&*net, &graph).unwrap().mean().unwrap();
        let got = f64::from(loss.to_vec()[0]);
        assert!((got - want).abs() <= 1e-3 * want, "{kind}: loss {step} is {got}, not {want}");
        graph.backward(loss, 1.0, &mut sink).unwrap();
        let grads = sink.to_vec();
        if step == 0 {
            first_gradient_agrees(plan, &params, &grads);
        }
        update.step(step + 1, graph.params_mut(), &grads);
    }
}

fn first_gradient_agrees(plan: &Plan, params: &Params, grads: &[f32]) {
    for rule in &plan.parameters {
        let span = params.span(params.find(&rule.name).unwrap());
        let own = &grads[span.offset..span.offset + span.len];
        let norm = own.iter().map(|g| f64::from(*g).powi(2)).sum::<f64>().sqrt();
        let want = rule.first_grad_norm;
        assert!((norm - want).abs() <= 1e-3 * want, "{}: norm {norm}, not {want}", rule.name);
    }
}

#[test]
fn every_model_is_checked() {
    let reference: Reference = json("losses.json");
    assert!(reference.models.keys().map(String::as_str).eq(BTreeSet::from(KINDS)));
}

#[test]
fn mlp() {
    check("mlp");
}

#[test]
fn lenet5() {
    check("lenet5");
}

#[test]
fn cnn() {
    check("cnn");
}

#[test]
fn gpt() {
    check("gpt");
}
