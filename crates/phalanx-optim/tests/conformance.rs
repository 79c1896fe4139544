//! What every optimizer must keep, on both element types. A new one enters by a line in [`all`].
#![expect(clippy::unwrap_used, reason = "a test ends where its inputs are wrong")]

use phalanx_grad::{GradError, GradLayout, StateTensor, Transform, UpdateStep};
use phalanx_optim::{AdaGradConfig, AdaGradNormConfig, AdamWConfig, OptimizerConfig, SgdConfig};
use phalanx_tensor::rng::{Purpose, Stream};
use phalanx_tensor::{Cpu, Float};

const LEN: usize = 37;
const LR: f64 = 0.0625;

/// All optimizers, with the weight decay given.
fn all(weight_decay: f64) -> Vec<OptimizerConfig> {
    use OptimizerConfig::{AdaGrad, AdaGradNorm, AdamW, Sgd};
    let sgd = SgdConfig { weight_decay, ..SgdConfig::default() };
    vec![
        Sgd(sgd),
        Sgd(SgdConfig { momentum: 0.9, ..sgd }),
        Sgd(SgdConfig { momentum: 0.9, nesterov: true, ..sgd }),
        AdamW(AdamWConfig { weight_decay, ..AdamWConfig::default() }),
        AdaGrad(AdaGradConfig { weight_decay, ..AdaGradConfig::default() }),
        AdaGradNorm(AdaGradNormConfig { weight_decay, ..AdaGradNormConfig::default() }),
    ]
}

/// An optimizer on its parameters.
struct Run<T: Float> {
    optimizer: Box<dyn Transform<Cpu<T>>>,
    params: Vec<T>,
    step: u64,
}

impl<T: Float> Run<T> {
    fn new(config: OptimizerConfig, params: Vec<T>) -> Self {
        let mut optimizer = config.build().unwrap();
        optimizer.prepare(&Cpu::new(), &GradLayout::flat(params.len())).unwrap();
        Run { optimizer, params, step: 0 }
    }

    fn next(&mut self, norm_sq: f64) -> UpdateStep {
        self.step += 1;
        let step = self.step;
        UpdateStep { step, samples: 8, lr: LR, grad_scale: 1.0, grad_norm_sq: norm_sq, grad_norm_l1: 0.0 }
    }

    fn update(&mut self, step: UpdateStep, grads: &[T]) {
        self.optimizer.update(&Cpu::new(), &step, &mut self.params, grads).unwrap();
    }

    /// One step with the whole gradient's length.
    fn go(&mut self, grads: &[T]) {
        let step = self.next(norm_sq(grads));
        self.update(step, grads);
    }

    fn state(&self) -> Vec<StateTensor> {
        self.optimizer.state(&Cpu::new())
    }

    #[track_caller]
    fn assert_same(&self, other: &[T], law: &str) {
        let bits = |x: &[T]| x.iter().map(|x| x.to_f64().to_bits()).collect::<Vec<_>>();
        assert_eq!(bits(&self.params), bits(other), "{} in {}: {law}", self.optimizer.name(), T::NAME);
    }
}

/// Small integers over 8: their squares sum to the same bits in every order.
fn numbers<T: Float>(step: u64) -> Vec<T> {
    let stream = Stream::new(4, Purpose::User(1), step);
    (0..LEN as u64).map(|i| T::from_f64((stream.below(i, 33) as f64 - 16.0) / 8.0)).collect()
}

fn norm_sq<T: Float>(x: &[T]) -> f64 {
    x.iter().map(|x| x.to_f64() * x.to_f64()).sum()
}

/// Runs a law for every optimizer, with and without decay, in both precisions.
macro_rules! law {
    ($name:ident, $decays:expr, |$config:ident| <$T:ident> $body:block) => {
        #[test]
        fn $name() {
            fn law<$T: Float>($config: OptimizerConfig) $body
            for decay in $decays {
                for config in all(decay) {
                    law::<f32>(config);
                    law::<f64>(config);
                }
            }
        }
    };
}

law!(a_zero_gradient_without_decay_leaves_parameters, [0.0], |config| <T> {
    let before = numbers::<T>(0);
    let mut run = Run::new(config, before.clone());
    for _ in 0..3 {
        run.go(&[T::ZERO; LEN]);
    }
    run.assert_same(&before, "a zero gradient leaves the parameters");
});

law!(a_zero_gradient_with_decay_shrinks_by_rate_and_decay_alone, [0.5], |config| <T> {
    let before = numbers::<T>(0);
    let mut run = Run::new(config, before.clone());
    run.go(&[T::ZERO; LEN]);
    let shrunk: Vec<T> = before.iter().map(|x| *x * T::from_f64(1.0 - LR * 0.5)).collect();
    run.assert_same(&shrunk, "decay is decoupled");
});

law!(a_zero_rate_leaves_parameters, [0.0, 0.5], |config| <T> {
    let before = numbers::<T>(0);
    let mut run = Run::new(config, before.clone());
    for step in 1..4 {
        let grads = numbers::<T>(step);
        let at = UpdateStep { lr: 0.0, ..run.next(norm_sq(&grads)) };
        run.update(at, &grads);
    }
    run.assert_same(&before, "a zero rate leaves the parameters");
});

law!(a_gradient_moves_parameters_against_it, [0.0], |config| <T> {
    let mut run = Run::new(config, vec![T::ZERO; LEN]);
    let grads = numbers::<T>(1);
    run.go(&grads);
    for (p, g) in run.params.iter().zip(&grads) {
        let (p, g) = (p.to_f64(), g.to_f64());
        assert!(if g == 0.0 { p == 0.0 } else { p * g < 0.0 }, "{config:?}: moved to {p} along {g}");
    }
});

law!(a_restored_state_continues_bitwise, [0.0, 0.5], |config| <T> {
    let mut whole = Run::new(config, numbers::<T>(0));
    let mut first = Run::new(config, numbers::<T>(0));
    for step in 1..=5 {
        whole.go(&numbers(step));
        first.go(&numbers(step));
    }
    let mut second = Run { step: first.step, ..Run::new(config, first.params.clone()) };
    second.optimizer.restore(&Cpu::new(), &first.state()).unwrap();
    assert_eq!(second.state(), first.state(), "{config:?}");
    for step in 6..=10 {
        whole.go(&numbers(step));
        second.go(&numbers(step));
    }
    whole.assert_same(&second.params, "a restored state continues bitwise");
    assert_eq!(whole.state(), second.state(), "{config:?}");
});

law!(preparing_again_forgets, [0.0], |config| <T> {
    let mut used = Run::new(config, numbers::<T>(0));
    used.go(&numbers(1));
    used.optimizer.prepare(&Cpu::new(), &GradLayout::flat(LEN)).unwrap();
    assert_eq!(used.state(), Run::new(config, numbers::<T>(0)).state(), "{config:?}");
});

law!(the_order_of_coordinates_does_not_matter, [0.0, 0.5], |config| <T> {
    let reversed = |x: Vec<T>| x.into_iter().rev().collect::<Vec<T>>();
    let mut forth = Run::new(config, numbers::<T>(0));
    let mut back = Run::new(config, reversed(numbers(0)));
    for step in 1..=3 {
        forth.go(&numbers(step));
        back.go(&reversed(numbers(step)));
    }
    forth.assert_same(&reversed(back.params), "coordinates may change places");
});

law!(two_halves_are_the_whole, [0.0, 0.5], |config| <T> {
    const CUT: usize = 13;
    let before = numbers::<T>(0);
    let mut whole = Run::new(config, before.clone());
    let mut left = Run::new(config, before[..CUT].to_vec());
    let mut right = Run::new(config, before[CUT..].to_vec());
    for step in 1..=3 {
        let grads = numbers::<T>(step);
        whole.go(&grads);
        // each half knows the length of the whole gradient
        let at = left.next(norm_sq(&grads));
        left.update(at, &grads[..CUT]);
        right.update(at, &grads[CUT..]);
    }
    whole.assert_same(&[left.params, right.params].concat(), "halves of the buffer are updated alone");
});

law!(a_scaled_gradient_is_the_scaled_one, [0.0, 0.5], |config| <T> {
    let mut scaled = Run::new(config, numbers::<T>(0));
    let mut short = Run::new(config, numbers::<T>(0));
    for step in 1..=3 {
        let grads = numbers::<T>(step);
        let halves: Vec<T> = grads.iter().map(|g| *g * T::from_f64(0.5)).collect();
        let at = UpdateStep { grad_scale: 0.5, ..scaled.next(norm_sq(&grads)) };
        scaled.update(at, &grads);
        short.go(&halves);
    }
    scaled.assert_same(&short.params, "the factor on the gradient comes first");
});

law!(a_state_of_another_kind_is_refused, [0.0], |config| <T> {
    let mut run = Run::new(config, numbers::<T>(0));
    run.go(&numbers(1));
    let (params, before) = (run.params.clone(), run.state());
    let mut more = before.clone();
    more.push(StateTensor::new("stranger", &[1.0_f64]));
    let unknown = run.optimizer.restore(&Cpu::new(), &more);
    assert!(matches!(unknown, Err(GradError::StateUnknown { name, .. }) if name == "stranger"), "{config:?}");
    if let Some(first) = before.first() {
        let missing = run.optimizer.restore(&Cpu::new(), &before[1..]);
        assert!(matches!(missing, Err(GradError::StateMissing { name, .. }) if name == first.name), "{config:?}");
        let mut long = before.clone();
        long[0] = StateTensor::new(first.name.clone(), &[T::ONE; LEN + 1]);
        assert!(run.optimizer.restore(&Cpu::new(), &long).is_err(), "{config:?}");
    }
    assert_eq!(run.state(), before, "{config:?}: a refused state changes nothing");
    run.assert_same(&params, "a refused state changes nothing");
});

#[test]
fn memory_of_the_state_comes_before_the_first_update() {
    let mut optimizer = OptimizerConfig::AdamW(AdamWConfig::default()).build::<Cpu<f32>>().unwrap();
    let step =
        UpdateStep { step: 1, samples: 1, lr: 0.1, grad_scale: 1.0, grad_norm_sq: 1.0, grad_norm_l1: 1.0 };
    let mut params = [1.0];
    let refused = optimizer.update(&Cpu::new(), &step, &mut params, &[1.0]);
    assert_eq!(refused, Err(GradError::Unprepared { transform: "adamw" }));
    assert_eq!(params, [1.0]);
}
