//! Rules over ranks that bear hostile ones, in the loop.

use phalanx::grad::{GradError, Ranks, RowSet, Scratch};
use phalanx::optim::{OptimizerConfig, SgdConfig};
use phalanx::prelude::*;
use phalanx::robust::attack::{
    Alie, Attack, Direction, FangTrimmedMean, Gaussian, Mimic, MinMax, MinSum, Neurotoxin, OptAlie, Pgd,
    UnderAttack,
};
use phalanx::robust::{Krum, Median, Nnm, Robust, TrimmedMean, WeightedMean};
use phalanx::train::{Job, Limit, Methods, OnNonFinite, Outcome, Reduction, TrainConfig, TrainError};
use phalanx_tests::{Device, bits, config, job, methods, train};

/// Hands a rule whole gradients, one after the other, and not the shards of ranks.
#[derive(Debug)]
struct Gathered<R>(R);

impl<R: Reduce<Ranks, Device>> Reduce<Ranks, Device> for Gathered<R> {
    fn name(&self) -> &'static str {
        "gathered"
    }

    fn reduce(
        &mut self,
        step: u64,
        set: &dyn GradSet<Ranks, Device>,
        out_d: &mut [f32],
        scratch: &mut Scratch,
    ) -> Result<(), GradError> {
        let mut rows = vec![vec![0.0; set.dim()]; set.len()];
        rows.iter_mut().enumerate().try_for_each(|(i, row)| set.row(i, row))?;
        let rows: Vec<&[f32]> = rows.iter().map(Vec::as_slice).collect();
        self.0.reduce(step, &RowSet::<Ranks>::from_slices(&rows)?, out_d, scratch)
    }
}

fn outcome<R: Reduce<Ranks, Device> + 'static>(
    ranks: usize,
    rule: impl Fn() -> R + Send + Sync + 'static,
) -> Outcome {
    let job = job(ranks, TrainConfig { batch: 50, ..config() });
    let methods = move || Methods { over_ranks: Box::new(rule()), ..methods(0.05) };
    train(ranks, Job { methods: Box::new(methods), ..job }).expect("no rank fails")
}

/// Shares of unequal sizes, a gradient that the ranks cannot share evenly, and more ranks than blocks of it.
#[test]
fn shards_train_to_the_bits_of_whole_gradients() {
    for ranks in 1..=5 {
        let spread = outcome(ranks, || Robust::new(0, Median).behind(Nnm));
        let gathered = outcome(ranks, || Gathered(Robust::new(0, Median).behind(Nnm)));
        assert_eq!(bits(&spread), bits(&gathered), "{ranks} ranks");
    }
    let krum = outcome(5, || Robust::new(1, Krum::default()));
    assert_eq!(bits(&krum), bits(&outcome(5, || Gathered(Robust::new(1, Krum::default())))));
    assert_ne!(bits(&krum), bits(&outcome(5, || Robust::new(1, TrimmedMean))));
}

fn rule() -> Robust {
    Robust::new(2, TrimmedMean).behind(Nnm)
}

/// The work of an attack and of the rule is shared by the ranks, and what comes of it is what one rank would find.
#[test]
fn shards_bear_attacks_to_the_bits_of_whole_gradients() {
    let attacks: [fn() -> Box<dyn Attack>; 8] = [
        || Box::new(Alie::default()),
        || Box::new(MinMax::default()),
        || Box::new(MinSum { direction: Direction::Unit }),
        || Box::new(Mimic::new(3)),
        || Box::new(Gaussian { sigma: 2.0 }),
        || Box::new(Pgd { radius: 0.1, ..Pgd::default() }),
        || Box::new(FangTrimmedMean),
        || Box::new(OptAlie::against(rule())),
    ];
    let unharmed = outcome(5, rule);
    for make in attacks {
        let under = move || UnderAttack::new(rule(), make(), vec![3, 4], 1);
        let spread = outcome(5, under);
        assert_eq!(bits(&spread), bits(&outcome(5, move || Gathered(under()))), "{}", make().name());
        assert_ne!(bits(&spread), bits(&unharmed), "{}", make().name());
    }
}

/// Where the attack or the rule needs whole vectors, the other's part of the work goes on as it would.
#[test]
fn attacks_and_rules_that_need_whole_vectors_do_with_shards() {
    let toxin = || UnderAttack::new(rule(), Box::new(Neurotoxin::default()), vec![4], 1);
    assert_eq!(bits(&outcome(5, toxin)), bits(&outcome(5, move || Gathered(toxin()))));
    let alie = || UnderAttack::new(Gathered(rule()), Box::new(Alie::default()), vec![4], 1);
    assert_eq!(bits(&outcome(5, alie)), bits(&outcome(5, move || Gathered(alie()))));
}

/// Adds noise to every number, and finds nothing at step 2.
#[derive(Debug)]
struct Noisy(Robust);

impl Reduce<Ranks, Device> for Noisy {
    fn name(&self) -> &'static str {
        "noisy"
    }

    fn momentum(&self) -> f64 {
        0.9
    }

    fn reduce(
        &mut self,
        step: u64,
        set: &dyn GradSet<Ranks, Device>,
        out_d: &mut [f32],
        scratch: &mut Scratch,
    ) -> Result<(), GradError> {
        if step == 2 {
            return Err(GradError::NonFinite { what: "the second step", count: 1 });
        }
        self.0.reduce(step, set, out_d, scratch)?;
        out_d.iter_mut().for_each(|x| *x += 1e-3);
        Ok(())
    }
}

/// Parameters begin at cache lines: what a rule writes between them is of no step, and stays in none.
#[test]
fn what_a_rule_writes_between_parameters_does_not_come_back() {
    let settings = TrainConfig { on_nonfinite: OnNonFinite::Skip, limit: Limit::Steps(40), ..config() };
    let job = job(4, settings);
    let noisy = || Methods { over_ranks: Box::new(Noisy(Robust::new(0, Median))), ..methods(0.05) };
    let trained = train(4, Job { methods: Box::new(noisy), ..job }).expect("no rank fails");
    assert_eq!(trained.summary.skipped_steps, 1, "the one without a result");
    let loss = trained.summary.train_loss.expect("a loss");
    assert!(loss < 2.0, "{loss}");
}

/// The momentum of a mean, kept by the ranks or by the optimizer, is one but for rounding.
#[test]
fn the_mean_of_momenta_is_the_momentum_of_the_mean() {
    let sgd = |lr, momentum| OptimizerConfig::Sgd(SgdConfig { lr, momentum, ..SgdConfig::default() });
    let trained = |beta: f64, lr: f64, momentum: f64| {
        let job = job(3, config());
        let methods = move || Methods {
            over_ranks: Box::new(Robust::new(0, WeightedMean).with_momentum(beta)),
            over_time: sgd(lr, momentum).build().expect("good settings"),
            lr,
            ..methods(lr)
        };
        train(3, Job { methods: Box::new(methods), ..job }).expect("no rank fails").params
    };
    let (of_ranks, of_step) = (trained(0.5, 0.04, 0.0), trained(0.0, 0.02, 0.5));
    let without = trained(0.0, 0.04, 0.0);
    let apart = |a: &[f32], b: &[f32]| a.iter().zip(b).map(|(a, b)| (a - b).abs()).fold(0.0, f32::max);
    assert!(apart(&of_ranks, &of_step) < 1e-5 && apart(&of_ranks, &without) > 1e-3);
}

fn error_of(ranks: usize, settings: TrainConfig, methods: fn() -> Methods<Device>) -> String {
    let job = Job { methods: Box::new(methods), ..job(ranks, settings) };
    let error = train(ranks, job).expect_err("it cannot train");
    let mut told = error.to_string();
    let mut cause = std::error::Error::source(&error);
    while let Some(error) = cause {
        told = format!("{told}: {error}");
        cause = error.source();
    }
    told
}

fn with_median() -> Methods<Device> {
    Methods { over_ranks: Box::new(Robust::new(0, Median)), ..methods(0.05) }
}

#[test]
fn what_a_rule_cannot_compare_is_refused() {
    let shards = TrainConfig { reduction: Reduction::Reproducible { shards: 4 }, ..config() };
    assert!(error_of(2, shards, with_median).contains("train.reduction = \"fast\""));
    let few = error_of(2, TrainConfig { batch: 1, ..config() }, with_median);
    assert!(few.contains("step 1 has 1 samples for 2 ranks"), "{few}");
    let krum = || Methods { over_ranks: Box::new(Robust::new(1, Krum::default())), ..methods(0.05) };
    let few = error_of(4, config(), krum);
    assert!(few.contains("krum needs 5 gradients over ranks, got 4"), "{few}");
}

#[test]
fn a_policy_that_takes_the_gradient_for_the_mean_is_refused() {
    let ramp = phalanx::batch::PolicyConfig::NoiseScale(phalanx::batch::NoiseScaleConfig::default());
    let policy = ramp.build().expect("defaults are in range");
    let refused = phalanx::train::check_rule(&Robust::new(0, Median), &*policy, &config());
    assert!(matches!(refused, Err(TrainError::PolicyNeedsMean { rule: "median", .. })), "{refused:?}");
    assert!(phalanx::train::check_rule(&phalanx::grad::Mean, &*policy, &config()).is_ok());
}
