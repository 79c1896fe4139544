//! The price of each statistic of the gradient, as a share of the plain step: forward and backward pass of a batch,
//! cut into tiles as in training, and the update. One thread, made-up samples.
//!
//! `cargo bench --bench statistics -- [--batch 128] [--rounds 7] [--models mlp,gpt] [--json]`; with `--json` a line a
//! model, which `benches/compare/sample_statistics.py` reads.
#![expect(clippy::print_stdout, reason = "a program that prints a table")]

use phalanx::nn::models::ModelConfig;
use phalanx::nn::{
    AnyNet, Coverage, Features, FlatSink, Graph, Mode, Net, NnError, ParamBuilder, Recording, Registry,
    SampleNorms, SampleProducts, SampleSquares, Task, Var,
};
use phalanx::tensor::op::{OptimOps, ReduceOps, SgdStep};
use phalanx::tensor::{Cpu, Shape};
use phalanx::train::{Limit, Plan, TrainConfig};
use phalanx_benches::numbers;
use std::hint::black_box;
use std::ops::Range;
use std::time::Instant;

type B = Cpu<f32>;

/// What is measured beside the gradient.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Statistic {
    /// Nothing.
    Plain,
    /// `Q` of a rank: the gradient's moments once more.
    Ranks,
    /// `|g_i|^2`.
    Norms,
    /// `|g_i|^2` and `<g_i, g>`.
    Products,
    /// `sum g_ij^2`.
    Squares,
}

const STATISTICS: [(Statistic, &str); 5] = [
    (Statistic::Plain, "plain"),
    (Statistic::Ranks, "ranks"),
    (Statistic::Norms, "norms"),
    (Statistic::Products, "norms+products"),
    (Statistic::Squares, "squares"),
];

/// A model and a batch.
struct Step {
    net: Box<dyn AnyNet>,
    task: Task,
    plan: Plan,
    batch: usize,
    features: Vec<f32>,
    labels: Vec<u32>,
    coverage: Coverage,
}

impl Step {
    fn new(kind: &str, batch: usize) -> Result<Self, Box<dyn std::error::Error>> {
        let task = match kind {
            "gpt" => Task::Predict { vocab: 256, context: 128 },
            _ => Task::Classify { features: Shape::from([1, 28, 28]), classes: 10 },
        };
        let mut params = ParamBuilder::new();
        let net = Registry::default().build(kind, ModelConfig::new(), &task, &mut params)?;
        let params = params.finish();
        let plan = Plan::new(&*net, &params, &task, &config(batch), batch)?;
        let coverage = plan.coverage.clone()?;
        let features = match task {
            Task::Classify { features, .. } => numbers(batch * features.len()),
            Task::Predict { .. } => Vec::new(),
        };
        let labels = (0..batch * task.labels_per_sample()).map(|i| (i * 7919 % task.outputs()) as u32);
        Ok(Step { net, task, batch, features, labels: labels.collect(), plan, coverage })
    }

    fn losses<'g>(&self, graph: &'g Graph<B>, tile: &Range<usize>) -> Result<Var<'g, B>, NnError> {
        let labels = tile.start * self.task.labels_per_sample()..tile.end * self.task.labels_per_sample();
        let labels = &self.labels[labels];
        let x = match self.task {
            Task::Classify { features, .. } => {
                let cells = &self.features[tile.start * features.len()..tile.end * features.len()];
                Features::Dense(graph.input(cells, Shape::from([tile.len(), 1, 28, 28]))?)
            }
            Task::Predict { vocab, context } => {
                Features::Tokens { ids: graph.ids(labels, vocab)?, samples: tile.len(), time: context }
            }
        };
        let labels = graph.ids(labels, self.task.outputs())?;
        Ok(Net::<B>::logits(&*self.net, graph, x)?.cross_entropy(labels)?.0)
    }

    /// The tiles of the batch, as equal as can be.
    fn tiles(&self) -> impl Iterator<Item = Range<usize>> + use<> {
        let (batch, parts) = (self.batch, self.batch.div_ceil(self.plan.tile));
        (0..parts).map(move |i| i * batch / parts..(i + 1) * batch / parts)
    }

    /// Seconds of a step; `memory` stays from step to step.
    fn run(&self, statistic: Statistic, memory: &mut Memories) -> Result<f64, NnError> {
        let began = Instant::now();
        let seed = 1.0 / self.labels.len() as f64;
        let Memories { graph, momentum, sink, norms, squares, recordings } = memory;
        sink.clear();
        squares.clear();
        let mut q = 0.0;
        for (tile, recording) in self.tiles().zip(recordings.iter_mut()) {
            graph.reset(Mode::Train, 0, tile.start as u64);
            let losses = self.losses(graph, &tile)?;
            norms.begin(tile.len());
            squares.begin(tile.len());
            recording.clear();
            match statistic {
                Statistic::Plain | Statistic::Ranks => graph.backward(losses, seed, sink)?,
                Statistic::Norms => graph.backward_observed(losses, seed, sink, norms)?,
                Statistic::Products => {
                    graph.backward_observed(losses, seed, sink, &mut (&mut *norms, recording))?;
                }
                Statistic::Squares => graph.backward_observed(losses, seed, sink, squares)?,
            }
            norms.finish(self.batch as f64)?;
            q += norms.total().iter().sum::<f64>();
        }
        let backend = B::new();
        let gradient = sink.view();
        if statistic == Statistic::Ranks {
            q += backend.moments(gradient).sum_sq;
        }
        let n = backend.moments(gradient).sum_sq;
        let mut p2 = 0.0;
        if statistic == Statistic::Products {
            let mut products = SampleProducts::new(&self.plan.params, &self.coverage, gradient);
            for (tile, recording) in self.tiles().zip(recordings) {
                products.begin(tile.len());
                recording.replay(&backend, &mut products)?;
                products.finish(self.batch as f64)?;
                p2 += products.total().iter().map(|p| p * p).sum::<f64>();
            }
        }
        let step = SgdStep { lr: 1e-4, momentum: 0.9, nesterov: false, weight_decay: 0.0, grad_scale: 1.0 };
        backend.sgd(&step, graph.params_mut(), gradient, momentum);
        black_box((q, n, p2));
        Ok(began.elapsed().as_secs_f64())
    }
}

/// The memory of the steps and of the statistics.
struct Memories {
    graph: Graph<B>,
    momentum: Vec<f32>,
    sink: FlatSink<B>,
    norms: SampleNorms<B>,
    squares: SampleSquares<B>,
    recordings: Vec<Recording<B>>,
}

impl Memories {
    fn new(step: &Step) -> Result<Self, NnError> {
        let (params, coverage) = (&step.plan.params, &step.coverage);
        let graph = Graph::new(B::new(), params.clone(), 1)?;
        Ok(Memories {
            sink: FlatSink::new(&graph)?,
            graph,
            momentum: vec![0.0; params.grad_len()],
            norms: SampleNorms::new(params, coverage),
            squares: SampleSquares::new(&B::new(), params, coverage)?,
            recordings: step.tiles().map(|_| Recording::new()).collect(),
        })
    }
}

fn config(batch: usize) -> TrainConfig {
    TrainConfig {
        seed: 1,
        first_bucket_bytes: 1 << 20,
        bucket_bytes: 1 << 22,
        ..TrainConfig::new(batch as u64, Limit::Steps(1))
    }
}

fn median(values: &mut [f64]) -> f64 {
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}

/// The value behind an option of the command line.
fn option(arguments: &[String], name: &str) -> Option<String> {
    arguments.iter().position(|a| a == name).and_then(|at| arguments.get(at + 1).cloned())
}

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let arguments: Vec<String> = std::env::args().collect();
    let number = |name: &str, default: usize| option(&arguments, name).map_or(Ok(default), |v| v.parse());
    let (batch, rounds) = (number("--batch", 128)?, number("--rounds", 7)?);
    let models = option(&arguments, "--models").unwrap_or_else(|| "mlp,lenet5,cnn,gpt".to_owned());
    let json = arguments.iter().any(|a| a == "--json");
    if !json {
        println!(
            "{:8} {:>12}{}",
            "batch",
            "ms a step",
            STATISTICS[1..].iter().map(|s| format!("{:>16}", s.1)).collect::<String>()
        );
    }
    for model in models.split(',') {
        let step = Step::new(model, batch)?;
        let mut memory = Memories::new(&step)?;
        let mut seconds = vec![Vec::new(); STATISTICS.len()];
        // One round warms up; statistics take turns, so that a drift of the machine meets all of them.
        let once = step.run(Statistic::Plain, &mut memory)?;
        let steps = (1..100_u32).take_while(|steps| f64::from(*steps) * once < 0.15).count().max(1);
        for round in 0..=rounds {
            for ((statistic, _), seconds) in STATISTICS.iter().zip(&mut seconds) {
                let mut times = Vec::with_capacity(steps);
                for _ in 0..steps {
                    times.push(step.run(*statistic, &mut memory)?);
                }
                if round > 0 {
                    seconds.push(median(&mut times));
                }
            }
        }
        // The price is that of a round, whose steps ran side by side; then the median over rounds.
        let price = |at: usize| {
            let mut prices: Vec<f64> =
                seconds[at].iter().zip(&seconds[0]).map(|(with, plain)| with / plain - 1.0).collect();
            median(&mut prices)
        };
        let prices: Vec<f64> = (1..STATISTICS.len()).map(price).collect();
        let plain = median(&mut seconds[0].clone());
        if json {
            let fields: Vec<String> = STATISTICS[1..]
                .iter()
                .zip(&prices)
                .map(|((_, name), price)| format!("\"{name}\": {price:.4}"))
                .collect();
            println!(
                "{{\"model\": \"{model}\", \"batch\": {batch}, \"plain_s\": {plain:.6}, {}}}",
                fields.join(", ")
            );
        } else {
            let prices: String = prices.iter().map(|p| format!("{:15.1}%", 100.0 * p)).collect();
            println!("{model:8} {:12.2}{prices}", 1e3 * plain);
        }
    }
    Ok(())
}
