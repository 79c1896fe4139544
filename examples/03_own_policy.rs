//! A batch policy of one's own: it reads the noise of the gradient and grows the batch. Run: `cargo run -p phalanx --example 03-own-policy`.
#![expect(clippy::print_stdout, reason = "an example shows its result")]
#![expect(clippy::panic_in_result_fn, reason = "an example checks its result")]
#![expect(clippy::cast_precision_loss, reason = "batches are far below 2^52")]

use std::error::Error;
use std::sync::Arc;

use phalanx::comm::{Agreed, Options, WorldSize, run_ranks};
use phalanx::data::Source;
use phalanx::grad::{BatchContext, BatchDecision, Chunks, GradError, Mean, Needs, PolicyState, ScalarBlock};
use phalanx::nn::models::ModelConfig;
use phalanx::nn::{AnyNet, ParamBuilder, Registry};
use phalanx::optim::{OptimizerConfig, ScheduleConfig, SgdConfig};
use phalanx::prelude::*;
use phalanx::tensor::Cpu;
use phalanx::train::events::StepDone;
use phalanx::train::{Job, Limit, Methods, Plan, TrainConfig, never_stop, run_rank, task_of};

/// Doubles the batch when the noise of the gradient is longer than `limit` times the gradient itself.
#[derive(Debug)]
struct Doubling {
    limit: f64,
    max_batch: u64,
}

impl BatchPolicy for Doubling {
    fn name(&self) -> &'static str {
        "doubling"
    }

    fn needs(&self, _: &BatchContext) -> Needs {
        Needs::of(Chunks::Ranks)
    }

    /// A pure function of what all ranks agreed on, so that all decide the same.
    fn decide(
        &mut self,
        statistics: &Agreed<ScalarBlock>,
        context: &BatchContext,
    ) -> Result<BatchDecision, GradError> {
        // variance of the batch's mean gradient, against the squared length of that gradient
        let ratio = statistics.tr_s()? / (statistics.samples as f64 * statistics.n);
        let doubled = (2 * context.batch).min(self.max_batch);
        let batch = if ratio > self.limit { doubled } else { context.batch };
        Ok(BatchDecision { batch, target: Some(ratio) })
    }

    /// What later decisions depend on: nothing, the run itself remembers its batch.
    fn state(&self) -> PolicyState {
        PolicyState::default()
    }

    fn restore(&mut self, _: &PolicyState) -> Result<(), GradError> {
        Ok(())
    }
}

/// Prints each change of the batch.
struct Printed;

impl Watch for Printed {
    fn step(&self, done: &StepDone, _total: u64, _accuracy: Option<f64>) {
        println!("step {:>3}: loss {:.3}, batch {}", done.step, done.loss, done.batch);
    }
}

fn main() -> Result<(), Box<dyn Error>> {
    const RANKS: usize = 2;
    let data = Source::Digits.open()?.hold_out(0.1, 1)?;
    let task = task_of(data.train.kind());

    let mut params = ParamBuilder::new();
    let net: Arc<dyn AnyNet> =
        Arc::from(Registry::default().build("mlp", ModelConfig::new(), &task, &mut params)?);
    let params = params.finish();

    let config = TrainConfig { seed: 1, ..TrainConfig::new(16, Limit::Samples(6000)) };
    // planned for the largest batch that the policy may ask for
    let plan = Plan::new(&*net, &params, &task, &config, 256 / RANKS)?;
    let sgd = OptimizerConfig::Sgd(SgdConfig { lr: 0.05, momentum: 0.9, ..SgdConfig::default() });
    let linear = ScheduleConfig::from_name("linear")?;
    // the configurations are checked once here, so that making them on a rank cannot fail
    sgd.validate()?;
    linear.validate()?;
    let job = Job {
        name: "own-policy".to_owned(),
        model: "mlp".to_owned(),
        config,
        net: net as Arc<dyn Net<Cpu<f32>>>,
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
            policy: Box::new(Doubling { limit: 0.5, max_batch: 256 }),
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
    let (batch, steps) = (outcome.summary.final_batch, outcome.summary.steps);
    println!("the batch grew from 16 to {batch} samples, 6000 samples took {steps} steps");
    assert!(batch > 16 && steps < 6000 / 16, "{batch} {steps}");
    Ok(())
}
