//! Policies that are saved and restored decide as if they never had been.

use super::{agreed, at, expected};
use phalanx_batch::{Measured, PolicyConfig, RateConfig, Rated, Run};
use phalanx_comm::{SoloComm, agree_sum};
use phalanx_grad::{BatchDecision, BatchPolicy, Chunks, PolicyState, StepTime};

/// Every policy of the library with and without a rule of the learning rate.
fn all() -> Vec<(&'static str, Box<dyn BatchPolicy>)> {
    let build =
        |name| PolicyConfig::from_name(name, &Run { batch: 16, epoch: 100 }).unwrap().build().unwrap();
    let rule = RateConfig::AdaScale(Measured { base: 16, chunks: Chunks::Ranks, ema: 0.9 });
    let plain = PolicyConfig::NAMES.iter().map(|name| (*name, build(name)));
    let rated = PolicyConfig::NAMES.iter().map(|name| {
        let rated = Rated::new(build(name), rule.build().unwrap().unwrap());
        (*name, Box::new(rated) as Box<dyn BatchPolicy>)
    });
    plain.chain(rated).collect()
}

/// Steps whose noise moves about, from `batch` on; returns every factor and decision.
fn run(
    policy: &mut dyn BatchPolicy,
    steps: std::ops::Range<u64>,
    mut batch: u64,
) -> Vec<(u64, BatchDecision)> {
    steps
        .map(|step| {
            let block = expected(batch, 40.0 + 13.0 * (step % 7) as f64, 1.0 + 0.1 * (step % 3) as f64);
            let block = agreed(&block.with_coordinate_ratio(0.3 * step as f64));
            let context = at(step, batch);
            let seconds = 1e-3 + 1e-5 * batch as f64;
            let time = agree_sum(&SoloComm::new(), &[seconds]).unwrap();
            policy.timed(&time.map(|t| StepTime {
                seconds: t[0],
                exposed: 0.0,
                samples: 16,
                accumulation: 1,
            }));
            let factor = policy.lr_factor(&block, &context).unwrap();
            let decision = policy.decide(&block, &context).unwrap();
            batch = decision.batch;
            (factor.to_bits(), decision)
        })
        .collect()
}

#[test]
fn a_restored_policy_decides_as_the_one_that_went_on() {
    for ((name, mut whole), (_, mut resumed)) in all().into_iter().zip(all()) {
        let before = run(&mut *whole, 1..30, 16);
        let state = whole.state();
        let batch = before.last().unwrap().1.batch;
        let need = run(&mut *whole, 30..60, batch);
        resumed.restore(&state).unwrap();
        assert_eq!(resumed.state(), state, "{name}");
        assert_eq!(run(&mut *resumed, 30..60, batch), need, "{name}");
    }
}

#[test]
fn a_damaged_or_later_state_is_refused() {
    for (name, mut policy) in all() {
        let state = policy.state();
        let later = PolicyState { version: state.version + 1, ..state.clone() };
        assert!(policy.restore(&later).is_err(), "{name}");
        let longer = PolicyState { bytes: [state.bytes.clone(), vec![0; 3]].concat(), ..state.clone() };
        assert!(policy.restore(&longer).is_err(), "{name}");
        assert!(policy.restore(&state).is_ok(), "{name}");
    }
}
