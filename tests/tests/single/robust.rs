//! Rules over ranks that bear hostile ones, in the loop.

use phalanx::data::Splits;
use phalanx::grad::{GradError, Ranks, RowSet, Scratch, Senders};
use phalanx::optim::{OptimizerConfig, SgdConfig};
use phalanx::prelude::*;
use phalanx::robust::attack::{
    Alie, Attack, Direction, FangTrimmedMean, Gaussian, Mimic, MinMax, MinSum, Neurotoxin, OptAlie, Pgd,
    SignFlip, UnderAttack,
};
use phalanx::robust::{FlTrust, Krum, Median, Nnm, Robust, TrimmedMean, WeightedMean};
use phalanx::train::{Job, Limit, Methods, OnNonFinite, Outcome, Over, Reduction, TrainConfig, TrainError};
use phalanx_tests::{Device, bits, config, job, methods, train};
use std::sync::{Arc, Mutex};

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
        let rows = rows_of(set)?;
        let rows: Vec<&[f32]> = rows.iter().map(Vec::as_slice).collect();
        self.0.reduce(step, &RowSet::<Ranks>::from_slices(&rows)?, out_d, scratch)
    }
}

fn rows_of(set: &dyn GradSet<Ranks, Device>) -> Result<Vec<Vec<f32>>, GradError> {
    let mut rows = vec![vec![0.0; set.dim()]; set.len()];
    rows.iter_mut().enumerate().try_for_each(|(i, row)| set.row(i, row))?;
    Ok(rows)
}

fn outcome<R: Reduce<Ranks, Device> + 'static>(
    ranks: usize,
    rule: impl Fn() -> R + Send + Sync + 'static,
) -> Outcome {
    outcome_over(ranks, Over::Ranks, rule)
}

fn outcome_over<R: Reduce<Ranks, Device> + 'static>(
    ranks: usize,
    over: Over,
    rule: impl Fn() -> R + Send + Sync + 'static,
) -> Outcome {
    let job = job(ranks, TrainConfig { batch: 50, over, ..config() });
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

/// The vectors of a first step that a rule saw, each with its samples, and what a rule trusts.
type Seen = (Vec<(Vec<f32>, u64)>, Option<Vec<f32>>);

/// Takes the median, and notes what it is the median of.
#[derive(Debug)]
struct Noted {
    rule: Robust,
    seen: Arc<Mutex<Seen>>,
}

impl Reduce<Ranks, Device> for Noted {
    fn name(&self) -> &'static str {
        "noted"
    }

    fn reduce(
        &mut self,
        step: u64,
        set: &dyn GradSet<Ranks, Device>,
        out_d: &mut [f32],
        scratch: &mut Scratch,
    ) -> Result<(), GradError> {
        if step == 1 {
            let rows = rows_of(set)?.into_iter().zip((0..).map(|i| set.samples(i))).collect();
            *self.seen.lock().expect("no rank fails") = (rows, set.trusted().map(<[f32]>::to_vec));
        }
        self.rule.reduce(step, set, out_d, scratch)
    }
}

fn seen_in(ranks: usize, job: Job<Device>) -> Seen {
    let seen = Arc::new(Mutex::new(Seen::default()));
    let noted = Arc::clone(&seen);
    let methods = move || Methods {
        over_ranks: Box::new(Noted { rule: Robust::new(0, Median), seen: Arc::clone(&noted) }),
        ..methods(0.05)
    };
    train(ranks, Job { methods: Box::new(methods), ..job }).expect("no rank fails");
    let mut seen = seen.lock().expect("no rank fails");
    std::mem::take(&mut *seen)
}

fn seen(ranks: usize, over: Over) -> Seen {
    seen_in(ranks, job(ranks, TrainConfig { batch: 50, over, ..config() }))
}

const PAIRS: Over = Over::Nodes { ranks_per_node: 2 };

/// 50 samples on 4, 5 and 6 ranks: nodes of 26 and 24, of 20, 20 and 10, and of 18, 16 and 16.
#[test]
fn a_node_sends_the_mean_over_the_samples_of_its_ranks() {
    for (ranks, need) in [(4, vec![26, 24]), (5, vec![20, 20, 10]), (6, vec![18, 16, 16])] {
        let ((of_ranks, _), (of_nodes, _)) = (seen(ranks, Over::Ranks), seen(ranks, PAIRS));
        assert_eq!(of_nodes.iter().map(|(_, samples)| *samples).collect::<Vec<_>>(), need);
        for ((mean, samples), node) in of_nodes.iter().zip(of_ranks.chunks(2)) {
            let by_hand = |k: usize| {
                let sum: f64 = node.iter().map(|(row, samples)| f64::from(row[k]) * *samples as f64).sum();
                sum / *samples as f64
            };
            let greatest = mean.iter().map(|x| f64::from(x.abs())).fold(0.0, f64::max);
            for (k, x) in mean.iter().enumerate() {
                assert!((f64::from(*x) - by_hand(k)).abs() < 1e-6 * greatest, "{ranks} ranks, number {k}");
            }
        }
    }
}

#[test]
fn nodes_train_to_the_bits_of_whole_vectors() {
    for ranks in [4, 5, 6] {
        let rule = || Robust::new(0, Median).behind(Nnm);
        let spread = outcome_over(ranks, PAIRS, rule);
        let gathered = outcome_over(ranks, PAIRS, move || Gathered(rule()));
        assert_eq!(bits(&spread), bits(&gathered), "{ranks} ranks");
        assert_ne!(bits(&spread), bits(&outcome(ranks, rule)), "{ranks} ranks");
    }
    let alone =
        outcome_over(3, Over::Nodes { ranks_per_node: 1 }, || Robust::new(1, Median).with_momentum(0.5));
    assert_eq!(bits(&alone), bits(&outcome(3, || Robust::new(1, Median).with_momentum(0.5))));
}

/// The momentum of a node is one, which its ranks keep in slices.
#[test]
fn the_momentum_of_nodes_is_that_of_their_mean() {
    let mean = |beta: f64| move || Robust::new(0, WeightedMean).with_momentum(beta);
    let apart = |a: &[f32], b: &[f32]| a.iter().zip(b).map(|(a, b)| (a - b).abs()).fold(0.0, f32::max);
    let even = |over: Over, beta: f64| {
        let job = job(4, TrainConfig { over, ..config() });
        let methods = move || Methods { over_ranks: Box::new(mean(beta)()), ..methods(0.05) };
        train(4, Job { methods: Box::new(methods), ..job }).expect("no rank fails").params
    };
    let (nodes, ranks) = (even(PAIRS, 0.5), even(Over::Ranks, 0.5));
    assert!(apart(&nodes, &ranks) < 1e-5 && apart(&nodes, &even(PAIRS, 0.0)) > 1e-3);
}

#[test]
fn attacks_and_reports_are_of_nodes() {
    let lies =
        || UnderAttack::new(Robust::new(1, Krum::default()), Box::new(SignFlip { scale: 20.0 }), vec![4], 1);
    let trained = outcome_over(10, PAIRS, lies).summary;
    assert_eq!((trained.over.as_deref(), trained.steps_left_out.len()), (Some("nodes"), 5));
    assert_eq!(trained.steps_left_out[4], trained.steps, "the last two ranks lie together");
    let krum = || {
        let rule = Robust::new(1, Krum::default()).over(Senders::Nodes);
        Methods { over_ranks: Box::new(rule), ..methods(0.05) }
    };
    let few = error_of(6, TrainConfig { over: PAIRS, ..config() }, krum);
    assert!(few.contains("krum needs 5 gradients over nodes, got 3"), "{few}");
}

/// Three samples are those of the first three of six ranks: the third node has none.
#[test]
fn a_node_without_a_sample_ends_the_run() {
    let error = error_of(6, TrainConfig { batch: 3, over: PAIRS, ..config() }, with_median);
    assert!(error.contains("step 1 has 3 samples for 3 nodes"), "{error}");
    let fits = job(6, TrainConfig { batch: 5, over: PAIRS, ..config() });
    train(6, Job { methods: Box::new(with_median), ..fits })
        .expect("the last node has a sample, one of its ranks none");
}

/// 61 samples do not part evenly; on one rank they are a batch of their own.
#[test]
fn what_is_trusted_is_the_gradient_of_samples_that_nobody_trains_on() {
    let with_trusted = |ranks: usize, over: Over| {
        let job = job(ranks, TrainConfig { batch: 50, over, ..config() });
        let data = job.data.clone().hold_out_trusted(61, 3).expect("there are more");
        Job { data, ..job }
    };
    let parts = with_trusted(1, Over::Ranks);
    let only = parts.data.trusted.clone().expect("it was held out");
    assert_eq!(only.len() + parts.data.train.len(), job(1, config()).data.train.len());
    let alone = job(1, TrainConfig { batch: 61, limit: Limit::Steps(1), ..config() });
    let alone = Job { data: Splits { train: only, ..alone.data.clone() }, ..alone };
    let (rows, none) = seen_in(1, alone);
    let (need, _) = &rows[0];
    assert!(none.is_none());
    let greatest = need.iter().fold(0.0_f32, |greatest, x| greatest.max(x.abs()));
    for (ranks, over) in [(1, Over::Ranks), (3, Over::Ranks), (4, PAIRS)] {
        let (_, got) = seen_in(ranks, with_trusted(ranks, over));
        let got = got.expect("it was held out");
        let apart = got.iter().zip(need).map(|(a, b)| (a - b).abs()).fold(0.0, f32::max);
        assert!(apart < 1e-5 * greatest, "{ranks} ranks: {apart} of {greatest}");
    }
}

/// Three of four ranks send the opposite, longer: no rule without something to trust would bear them.
#[test]
fn fltrust_bears_a_majority() {
    let lies = || {
        let rule = Robust::new(1, FlTrust);
        let flip = Box::new(SignFlip { scale: 5.0 });
        Methods { over_ranks: Box::new(UnderAttack::new(rule, flip, vec![1, 2, 3], 1)), ..methods(0.05) }
    };
    let job = job(4, TrainConfig { limit: Limit::Steps(200), ..config() });
    let data = job.data.clone().hold_out_trusted(100, 3).expect("there are more");
    let trained = train(4, Job { data, methods: Box::new(lies), ..job }).expect("no rank fails").summary;
    assert!(trained.test_accuracy.is_some_and(|accuracy| accuracy > 0.75), "{trained:?}");
    let blind = error_of(4, config(), lies);
    assert!(blind.contains("fltrust needs a trusted update, which was not given"), "{blind}");
}
