//! A rule over ranks of one's own: its laws, and a run in which a rank lies. Run: `cargo run -p phalanx --example 04-own-rule`.
#![expect(clippy::print_stdout, reason = "an example shows its result")]
#![expect(clippy::panic_in_result_fn, reason = "an example checks its result")]

use std::error::Error;
use std::sync::Arc;

use phalanx::batch::Constant;
use phalanx::comm::{Options, WorldSize, run_ranks};
use phalanx::data::Source;
use phalanx::grad::{GradError, Mean};
use phalanx::nn::models::ModelConfig;
use phalanx::nn::{AnyNet, ParamBuilder, Registry};
use phalanx::optim::{OptimizerConfig, ScheduleConfig, SgdConfig};
use phalanx::prelude::*;
use phalanx::robust::attack::{Ipm, UnderAttack};
use phalanx::robust::laws::{Shape, assert_breaks, assert_keeps};
use phalanx::robust::{Decision, Law, Laws, Robust, Round};
use phalanx::tensor::Cpu;
use phalanx::train::{Job, Limit, Methods, Plan, TrainConfig, never_stop, run_rank, task_of};

/// The mean of the half of the vectors with the least sums of distances to all others.
#[derive(Debug)]
struct Central;

impl Rule for Central {
    fn name(&self) -> &'static str {
        "central"
    }

    fn min_n(&self, f: usize) -> usize {
        2 * f + 1
    }

    fn laws(&self) -> Laws {
        Laws::none().and(Law::Permutation).and(Law::Translation).and(Law::Scale).and(Law::Rotation)
    }

    fn decide(&mut self, round: &Round<'_>) -> Result<Decision, GradError> {
        let (n, gram) = (round.n(), round.gram()?);
        let sums: Vec<f64> = (0..n).map(|i| (0..n).map(|j| gram.distance_sq(i, j).sqrt()).sum()).collect();
        let mut order: Vec<usize> = (0..n).collect();
        order.sort_by(|i, j| sums[*i].total_cmp(&sums[*j]).then(i.cmp(j)));
        Ok(Decision::mean_of(n, &order[..n.div_ceil(2)]).with_scores(sums))
    }
}

/// Checks the laws that the rule states, and that it does not keep another.
fn check_the_laws() {
    assert_keeps(Central.laws(), &Shape::default(), |f| Robust::new(f, Central));
    assert_breaks(Law::CoordinateScale, &Shape::default(), |f| Robust::new(f, Central));
}

const RANKS: usize = 5;

/// Trains on the handwritten digits while the last rank sends minus fifty times the mean of the others.
fn accuracy_under_attack(rule: fn() -> Box<dyn Rule>) -> Result<f64, Box<dyn Error>> {
    let data = Source::Digits.open()?.hold_out(0.1, 1)?;
    let task = task_of(data.train.kind());
    let mut params = ParamBuilder::new();
    let net: Arc<dyn AnyNet> =
        Arc::from(Registry::default().build("mlp", ModelConfig::new(), &task, &mut params)?);
    let params = params.finish();
    let config = TrainConfig { seed: 1, clip_norm: Some(5.0), ..TrainConfig::new(40, Limit::Samples(6000)) };
    let plan = Plan::new(&*net, &params, &task, &config, 40 / RANKS)?;
    let sgd = OptimizerConfig::Sgd(SgdConfig { lr: 0.05, momentum: 0.9, ..SgdConfig::default() });
    let linear = ScheduleConfig::from_name("linear")?;
    // the configurations are checked once here, so that making them on a rank cannot fail
    sgd.validate()?;
    linear.validate()?;
    let job = Job {
        name: "own-rule".to_owned(),
        model: "mlp".to_owned(),
        config,
        net: net as Arc<dyn Net<Cpu<f32>>>,
        task,
        plan,
        data,
        methods: Box::new(move || {
            let robust = Robust::new(1, rule());
            Methods {
                over_samples: Box::new(Mean),
                over_ranks: Box::new(UnderAttack::new(
                    robust,
                    Box::new(Ipm { epsilon: 50.0 }),
                    vec![RANKS - 1],
                    1,
                )),
                over_tasks: Box::new(Mean),
                compression: None,
                over_time: sgd.build().expect("validated"),
                lr: sgd.lr(),
                schedule: linear.build().expect("validated"),
                policy: Box::new(Constant),
            }
        }),
        backend: Cpu::<f32>::new(),
        files: None,
        watch: Arc::new(Silent),
        notes: Vec::new(),
        stop: never_stop(),
        board: Arc::default(),
    };
    let outcomes = run_ranks(WorldSize(RANKS), &Options::default(), move |comm| run_rank(&job, &comm))?;
    let outcome = outcomes.into_iter().flatten().next().ok_or("rank 0 has the outcome")?;
    Ok(outcome.summary.test_accuracy.ok_or("digits have a test part")?)
}

/// Watches nothing.
struct Silent;

impl Watch for Silent {}

fn main() -> Result<(), Box<dyn Error>> {
    check_the_laws();
    let own = accuracy_under_attack(|| Box::new(Central))?;
    let mean = accuracy_under_attack(|| Box::new(phalanx::robust::WeightedMean))?;
    println!("one of {RANKS} ranks lies: accuracy {own:.3} with the rule, {mean:.3} with the mean");
    assert!(own > 0.8 && mean < 0.5);
    Ok(())
}
