//! A model of one's own, trained on the handwritten digits on two ranks. Run: `cargo run -p phalanx --example 02-own-model`.
#![expect(clippy::print_stdout, reason = "an example shows its result")]
#![expect(clippy::panic_in_result_fn, reason = "an example checks its result")]

use std::error::Error;
use std::sync::Arc;

use phalanx::batch::Constant;
use phalanx::comm::{Options, WorldSize, run_ranks};
use phalanx::data::Source;
use phalanx::grad::Mean;
use phalanx::nn::layers::{LayerNorm, Linear};
use phalanx::nn::{Features, Graph, NnError, ParamBuilder, Var};
use phalanx::optim::{OptimizerConfig, ScheduleConfig, SgdConfig};
use phalanx::prelude::*;
use phalanx::tensor::Cpu;
use phalanx::train::{Job, Limit, Methods, Plan, TrainConfig, never_stop, run_rank, task_of};

/// Fully connected layers with one residual connection around a normalised block.
struct Residual {
    enter: Linear,
    norm: LayerNorm,
    up: Linear,
    down: Linear,
    leave: Linear,
}

impl Residual {
    /// Declares the parameters: their names are those in `model.safetensors`.
    fn new(params: &mut ParamBuilder, inputs: usize, width: usize, classes: usize) -> Self {
        Residual {
            enter: params.scope("enter", |p| Linear::new(p, inputs, width)),
            norm: params.scope("norm", |p| LayerNorm::new(p, width, 1e-5)),
            up: params.scope("up", |p| Linear::new(p, width, 2 * width)),
            down: params.scope("down", |p| Linear::new(p, 2 * width, width)),
            leave: params.scope("leave", |p| Linear::new(p, width, classes)),
        }
    }
}

/// The forward pass; nobody writes the backward pass.
impl<B: Backend> Net<B> for Residual {
    fn logits<'g>(&self, _: &'g Graph<B>, x: Features<'g, B>) -> Result<Var<'g, B>, NnError> {
        let x = self.enter.forward(x.dense()?.flatten()?)?;
        let block = self.down.forward(self.up.forward(self.norm.forward(x)?)?.gelu()?)?;
        self.leave.forward(x.add(block)?)
    }
}

/// Prints each validation.
struct Printed;

impl Watch for Printed {
    fn evaluated(&self, eval: &phalanx::train::events::EvalDone) {
        let accuracy = eval.accuracy.unwrap_or_default();
        println!("step {:>4}: {:?} loss {:.3}, accuracy {accuracy:.3}", eval.step, eval.split, eval.loss);
    }
}

fn main() -> Result<(), Box<dyn Error>> {
    const RANKS: usize = 2;
    let data = Source::Digits.open()?.hold_out(0.1, 1)?;
    let task = task_of(data.train.kind());

    let mut params = ParamBuilder::new();
    let net = Arc::new(Residual::new(&mut params, 8 * 8, 64, task.outputs()));
    let params = params.finish();

    let config = TrainConfig { seed: 1, eval_every: 100, ..TrainConfig::new(64, Limit::Epochs(15)) };
    let plan = Plan::new(&*net, &params, &task, &config, 64 / RANKS)?;
    let sgd = OptimizerConfig::Sgd(SgdConfig { lr: 0.05, momentum: 0.9, ..SgdConfig::default() });
    let linear = ScheduleConfig::from_name("linear")?;
    // the configurations are checked once here, so that making them on a rank cannot fail
    sgd.validate()?;
    linear.validate()?;
    let job = Job {
        name: "own-model".to_owned(),
        model: "residual".to_owned(),
        config,
        net,
        task,
        plan,
        data,
        methods: Box::new(move || Methods {
            over_samples: Box::new(Mean),
            over_ranks: Box::new(Mean),
            over_tasks: Box::new(Mean),
            compression: None,
            over_time: sgd.build().expect("validated"),
            lr: sgd.lr(),
            schedule: linear.build().expect("validated"),
            policy: Box::new(Constant),
        }),
        backend: Cpu::<f32>::new(),
        files: None,
        watch: Arc::new(Printed),
        notes: Vec::new(),
        stop: never_stop(),
        board: Arc::default(),
    };
    let outcomes = run_ranks(WorldSize(RANKS), &Options::default(), move |comm| run_rank(&job, &comm))?;
    let outcome = outcomes.into_iter().flatten().next().ok_or("rank 0 has the outcome")?;
    let accuracy = outcome.summary.test_accuracy.unwrap_or_default();
    println!("{} parameters, test accuracy {accuracy:.3}", outcome.summary.parameters);
    assert!(accuracy > 0.9, "{accuracy}");
    Ok(())
}
