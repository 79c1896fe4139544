//! Ten steps of each optimizer, and the schedules, against `torch.optim`: `tests/reference/optim.py` in the root.
#![expect(clippy::unwrap_used, reason = "a test ends where its inputs are wrong")]

use phalanx_grad::{GradLayout, Progress, UpdateStep};
use phalanx_optim::{
    AdaGradConfig, AdamWConfig, Constant, Cosine, LinearDecay, OptimizerConfig, ScheduleConfig, SgdConfig,
    clip_by_global_norm,
};
use phalanx_tensor::Cpu;
use serde::Deserialize;
use std::collections::BTreeMap;

#[derive(Deserialize)]
struct Reference {
    start: Vec<f64>,
    gradients: Vec<Vec<f64>>,
    trajectories: BTreeMap<String, Trajectory>,
    clip_grad_norm: Vec<Clipping>,
    schedules: BTreeMap<String, Factors>,
}

#[derive(Deserialize)]
struct Trajectory {
    weights: Vec<Vec<f64>>,
}

#[derive(Deserialize)]
struct Clipping {
    max_norm: f64,
    norm: f64,
    before: Vec<Vec<f64>>,
    after: Vec<Vec<f64>>,
}

#[derive(Deserialize)]
struct Factors {
    total: u64,
    warmup: u64,
    factors: Vec<f64>,
}

fn reference() -> Reference {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../../tests/reference/optim.json");
    serde_json::from_str(&std::fs::read_to_string(path).unwrap()).unwrap()
}

/// The greatest difference from a trajectory of the reference.
fn distance(reference: &Reference, name: &str, config: OptimizerConfig) -> f64 {
    let cpu = Cpu::<f64>::new();
    let mut optimizer = config.build().unwrap();
    optimizer.prepare(&cpu, &GradLayout::flat(reference.start.len())).unwrap();
    let mut params = reference.start.clone();
    let mut farthest = 0.0_f64;
    let weights = &reference.trajectories[name].weights;
    assert_eq!(weights.len(), reference.gradients.len());
    for (step, (grads, want)) in (1..).zip(reference.gradients.iter().zip(weights)) {
        let grad_norm_sq = grads.iter().map(|g| g * g).sum();
        let step = UpdateStep {
            step,
            samples: 1,
            lr: config.lr(),
            grad_scale: 1.0,
            grad_norm_sq,
            grad_norm_l1: 0.0,
        };
        optimizer.update(&cpu, &step, &mut params, grads).unwrap();
        for (got, want) in params.iter().zip(want) {
            farthest = farthest.max((got - want).abs());
        }
    }
    farthest
}

const SGD: SgdConfig = SgdConfig { lr: 0.1, momentum: 0.9, nesterov: false, weight_decay: 0.0 };
const ADAMW: AdamWConfig = AdamWConfig { lr: 0.1, beta1: 0.9, beta2: 0.95, eps: 1e-8, weight_decay: 0.2 };
const ADAGRAD: AdaGradConfig = AdaGradConfig { lr: 0.1, eps: 1e-10, initial_sum: 0.0, weight_decay: 0.0 };

#[test]
fn trajectories_are_those_of_torch() {
    use OptimizerConfig::{AdaGrad, AdamW, Sgd};
    let reference = reference();
    let cases = [
        ("sgd", Sgd(SgdConfig { momentum: 0.0, ..SGD })),
        ("sgd_momentum", Sgd(SGD)),
        ("sgd_nesterov", Sgd(SgdConfig { nesterov: true, ..SGD })),
        ("sgd_decoupled_decay", Sgd(SgdConfig { momentum: 0.0, weight_decay: 0.2, ..SGD })),
        ("sgd_momentum_decoupled_decay", Sgd(SgdConfig { weight_decay: 0.2, ..SGD })),
        ("adamw", AdamW(AdamWConfig { beta2: 0.999, weight_decay: 0.0, ..ADAMW })),
        ("adamw_decay", AdamW(ADAMW)),
        ("adamw_large_eps", AdamW(AdamWConfig { eps: 0.5, ..ADAMW })),
        ("adagrad", AdaGrad(ADAGRAD)),
        ("adagrad_start", AdaGrad(AdaGradConfig { initial_sum: 0.5, ..ADAGRAD })),
        ("adagrad_decoupled_decay", AdaGrad(AdaGradConfig { weight_decay: 0.2, ..ADAGRAD })),
    ];
    for (name, config) in cases {
        let farthest = distance(&reference, name, config);
        assert!(farthest < 1e-12, "{name}: {farthest}");
    }
}

#[test]
fn decay_is_not_that_of_torch_where_torch_couples_it() {
    use OptimizerConfig::{AdaGrad, Sgd};
    let reference = reference();
    let decaying = SgdConfig { weight_decay: 0.2, ..SGD };
    let cases = [
        ("sgd_coupled_decay", Sgd(decaying)),
        ("sgd_nesterov_coupled_decay", Sgd(SgdConfig { nesterov: true, ..decaying })),
        ("adagrad_coupled_decay", AdaGrad(AdaGradConfig { weight_decay: 0.2, ..ADAGRAD })),
    ];
    for (name, config) in cases {
        let farthest = distance(&reference, name, config);
        assert!(farthest > 1e-3, "{name}: {farthest}");
    }
}

#[test]
fn clipping_is_that_of_torch_but_for_its_millionth() {
    let reference = reference();
    assert_eq!(reference.clip_grad_norm.len(), 2);
    for case in reference.clip_grad_norm {
        let (before, after) = (case.before.concat(), case.after.concat());
        let norm_sq: f64 = before.iter().map(|g| g * g).sum();
        assert_eq!(norm_sq.sqrt(), case.norm);
        let scale = clip_by_global_norm(norm_sq, case.max_norm);
        for (before, after) in before.iter().zip(after) {
            assert!((before * scale - after).abs() <= 1e-7 * before.abs(), "{}: {before}", case.max_norm);
        }
    }
}

#[test]
fn schedules_are_the_stated_formulas() {
    let reference = reference();
    assert_eq!(reference.schedules.len(), 6);
    for (name, case) in &reference.schedules {
        let warmup_samples = case.warmup;
        let config = match ScheduleConfig::from_name(name.trim_end_matches("_warmup")).unwrap() {
            ScheduleConfig::Constant(_) => ScheduleConfig::Constant(Constant { warmup_samples }),
            ScheduleConfig::Linear(linear) => {
                ScheduleConfig::Linear(LinearDecay { warmup_samples, ..linear })
            }
            ScheduleConfig::Cosine(cosine) => ScheduleConfig::Cosine(Cosine { warmup_samples, ..cosine }),
            other => panic!("{other:?} is not in the reference"),
        };
        let schedule = config.build().unwrap();
        for (samples, want) in (0..).zip(&case.factors) {
            let got = schedule.factor(Progress { samples, total: case.total });
            assert!((got - want).abs() < 1e-15, "{name} at {samples}: {got}, want {want}");
        }
    }
}
