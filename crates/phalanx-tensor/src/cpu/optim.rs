//! Optimizer updates: one pass over memory each, which is all that they cost.

use super::Cpu;
use super::simd::simd;
use crate::Float;
use crate::op::{AdaGradStep, AdamWStep, OptimOps, SgdStep};

impl<T: Float> OptimOps for Cpu<T> {
    fn sgd(&self, step: &SgdStep, params: &mut [T], grads: &[T], velocity: &mut [T]) {
        assert_eq!(params.len(), grads.len(), "sgd");
        let keep = keep(step.lr, step.weight_decay);
        let [lr, momentum, scale] = [step.lr, step.momentum, step.grad_scale].map(T::from_f64);
        if step.momentum == 0.0 {
            return descend(lr, keep, scale, params, grads);
        }
        assert_eq!(params.len(), velocity.len(), "sgd");
        if step.nesterov {
            nesterov(lr, momentum, keep, scale, params, grads, velocity);
        } else {
            heavy_ball(lr, momentum, keep, scale, params, grads, velocity);
        }
    }

    fn adamw(&self, step: &AdamWStep, params: &mut [T], grads: &[T], first: &mut [T], second: &mut [T]) {
        assert!(step.step > 0, "the first adamw step is 1");
        assert!([grads.len(), first.len(), second.len()] == [params.len(); 3], "adamw");
        let done = step.step as f64;
        let coefficients = AdamW {
            rate: T::from_f64(step.lr / (1.0 - step.beta1.powf(done))),
            keep: keep(step.lr, step.weight_decay),
            scale: T::from_f64(step.grad_scale),
            fresh1: T::from_f64(1.0 - step.beta1),
            beta2: T::from_f64(step.beta2),
            fresh2: T::from_f64(1.0 - step.beta2),
            root_correction: T::from_f64((1.0 - step.beta2.powf(done)).sqrt()),
            eps: T::from_f64(step.eps),
        };
        adamw(&coefficients, params, grads, first, second);
    }

    fn adagrad(&self, step: &AdaGradStep, params: &mut [T], grads: &[T], sum: &mut [T]) {
        assert!([grads.len(), sum.len()] == [params.len(); 2], "adagrad");
        let [lr, eps, scale] = [step.lr, step.eps, step.grad_scale].map(T::from_f64);
        adagrad(lr, eps, keep(step.lr, step.weight_decay), scale, params, grads, sum);
    }
}

/// The factor with which parameters decay, exactly 1 for none.
fn keep<T: Float>(lr: f64, weight_decay: f64) -> T {
    T::from_f64(1.0 - lr * weight_decay)
}

/// The numbers of an update, rounded once to the element type.
struct AdamW<T> {
    rate: T,
    keep: T,
    scale: T,
    fresh1: T,
    beta2: T,
    fresh2: T,
    root_correction: T,
    eps: T,
}

simd! {
    fn descend<T: Float>(lr: T, keep: T, scale: T, params: &mut [T], grads: &[T]) {
        for (p, g) in params.iter_mut().zip(grads) {
            *p = *p * keep - lr * (*g * scale);
        }
    }
}

simd! {
    fn heavy_ball<T: Float>(
        lr: T, momentum: T, keep: T, scale: T, params: &mut [T], grads: &[T], velocity: &mut [T],
    ) {
        for ((p, g), v) in params.iter_mut().zip(grads).zip(velocity) {
            *v = momentum * *v + *g * scale;
            *p = *p * keep - lr * *v;
        }
    }
}

simd! {
    fn nesterov<T: Float>(
        lr: T, momentum: T, keep: T, scale: T, params: &mut [T], grads: &[T], velocity: &mut [T],
    ) {
        for ((p, g), v) in params.iter_mut().zip(grads).zip(velocity) {
            let g = *g * scale;
            *v = momentum * *v + g;
            *p = *p * keep - lr * (g + momentum * *v);
        }
    }
}

simd! {
    fn adamw<T: Float>(c: &AdamW<T>, params: &mut [T], grads: &[T], first: &mut [T], second: &mut [T]) {
        for (((p, g), m), v) in params.iter_mut().zip(grads).zip(first).zip(second) {
            let g = *g * c.scale;
            // as a step towards g: where m equals g it stays, which b1 m + (1 - b1) g misses by a rounding
            *m += (g - *m) * c.fresh1;
            *v = *v * c.beta2 + g * g * c.fresh2;
            *p = *p * c.keep - c.rate * (*m / (v.sqrt() / c.root_correction + c.eps));
        }
    }
}

simd! {
    fn adagrad<T: Float>(lr: T, eps: T, keep: T, scale: T, params: &mut [T], grads: &[T], sum: &mut [T]) {
        for ((p, g), s) in params.iter_mut().zip(grads).zip(sum) {
            let g = *g * scale;
            *s += g * g;
            *p = *p * keep - lr * (g / (s.sqrt() + eps));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rng::{Purpose, Stream};

    // not a multiple of any vector width
    const LEN: usize = 67;

    fn normals(step: u64) -> Vec<f32> {
        let mut x = vec![0.0; LEN];
        Stream::new(1, Purpose::User(1), step).fill_normal(&mut x);
        x
    }

    /// The formula element by element, without vectors, must give the same bits.
    fn assert_bits(got: &[f32], want: impl Fn(usize) -> f32) {
        for (i, x) in got.iter().enumerate() {
            assert_eq!(x.to_bits(), want(i).to_bits(), "element {i}");
        }
    }

    #[test]
    fn sgd_by_hand() {
        // p = 1, g = 2, v = 3; g scaled to 1, v = 0.5 * 3 + 1 = 2.5, decay to 1 - 0.1 * 0.2 = 0.98
        let plain = SgdStep { lr: 0.1, momentum: 0.5, nesterov: false, weight_decay: 0.2, grad_scale: 0.5 };
        let run = |step: &SgdStep| {
            let (mut p, mut v) = ([1.0_f64], [3.0]);
            Cpu::new().sgd(step, &mut p, &[2.0], &mut v);
            (p[0], v[0])
        };
        let (p, v) = run(&plain);
        assert!((p - (0.98 - 0.25)).abs() < 1e-15 && v == 2.5, "{p} {v}");
        // looks ahead: 1 + 0.5 * 2.5 = 2.25
        let (p, v) = run(&SgdStep { nesterov: true, ..plain });
        assert!((p - (0.98 - 0.225)).abs() < 1e-15 && v == 2.5, "{p} {v}");
        // without momentum the velocity is left as it was
        let (p, v) = run(&SgdStep { momentum: 0.0, ..plain });
        assert!((p - (0.98 - 0.1)).abs() < 1e-15 && v == 3.0, "{p} {v}");
    }

    #[test]
    fn sgd_needs_no_velocity_without_momentum() {
        let step = SgdStep { lr: 0.5, momentum: 0.0, nesterov: false, weight_decay: 0.0, grad_scale: 1.0 };
        let mut p = [1.0_f32, 2.0];
        Cpu::new().sgd(&step, &mut p, &[2.0, -2.0], &mut []);
        assert_eq!(p, [0.0, 3.0]);
    }

    #[test]
    fn sgd_vectors_give_the_bits_of_scalars() {
        let (grads, before) = (normals(0), normals(1));
        for nesterov in [false, true] {
            let step = SgdStep { lr: 0.03, momentum: 0.9, nesterov, weight_decay: 0.01, grad_scale: 0.7 };
            let (mut params, mut velocity) = (before.clone(), normals(2));
            Cpu::new().sgd(&step, &mut params, &grads, &mut velocity);
            let old = normals(2);
            let v = |i: usize| 0.9 * old[i] + grads[i] * 0.7;
            assert_bits(&velocity, v);
            assert_bits(&params, |i| {
                let ahead = if nesterov { grads[i] * 0.7 + 0.9 * v(i) } else { v(i) };
                before[i] * (1.0 - 0.03 * 0.01_f64) as f32 - 0.03 * ahead
            });
        }
    }

    #[test]
    fn adamw_by_hand() {
        // step 1 from zero moments: mhat = g = 2 and vhat = 4, so the step is lr * 2 / (2 + 0.5) = 0.08
        let step = AdamWStep {
            lr: 0.1,
            beta1: 0.9,
            beta2: 0.99,
            eps: 0.5,
            weight_decay: 0.3,
            step: 1,
            grad_scale: 2.0,
        };
        let (mut p, mut m, mut v) = ([1.0_f64], [0.0], [0.0]);
        Cpu::new().adamw(&step, &mut p, &[1.0], &mut m, &mut v);
        assert!((p[0] - (0.97 - 0.08)).abs() < 1e-14, "{p:?}");
        assert!((m[0] - 0.2).abs() < 1e-15 && (v[0] - 0.04).abs() < 1e-15, "{m:?} {v:?}");
        // step 2, g = 0: m = 0.18 over 1 - 0.81, v = 0.0396 over 1 - 0.9801
        Cpu::new().adamw(&AdamWStep { step: 2, weight_decay: 0.0, ..step }, &mut p, &[0.0], &mut m, &mut v);
        let want = 0.89 - 0.1 * (0.18 / 0.19) / ((0.0396_f64 / 0.0199).sqrt() + 0.5);
        assert!((p[0] - want).abs() < 1e-14, "{p:?} {want}");
    }

    #[test]
    fn adamw_vectors_give_the_bits_of_scalars() {
        let step = AdamWStep {
            lr: 0.03,
            beta1: 0.9,
            beta2: 0.999,
            eps: 1e-8,
            weight_decay: 0.01,
            step: 7,
            grad_scale: 0.7,
        };
        let (grads, before, old) = (normals(0), normals(1), normals(2));
        let (mut params, mut first, mut second) = (before.clone(), old.clone(), vec![0.5; LEN]);
        Cpu::new().adamw(&step, &mut params, &grads, &mut first, &mut second);
        let m = |i: usize| old[i] + (grads[i] * 0.7 - old[i]) * (1.0 - 0.9_f64) as f32;
        let v = |i: usize| {
            let g = grads[i] * 0.7;
            0.5 * 0.999 + g * g * (1.0 - 0.999_f64) as f32
        };
        assert_bits(&first, m);
        assert_bits(&second, v);
        let rate = (0.03 / (1.0 - 0.9_f64.powi(7))) as f32;
        let root = (1.0 - 0.999_f64.powi(7)).sqrt() as f32;
        assert_bits(&params, |i| {
            before[i] * (1.0 - 0.03 * 0.01_f64) as f32 - rate * (m(i) / (v(i).sqrt() / root + 1e-8))
        });
    }

    #[test]
    fn adagrad_by_hand() {
        // g scaled to 3, sum 7 + 9 = 16, step 0.1 * 3 / (4 + 1) = 0.06, decay to 1 - 0.1 * 0.5 = 0.95
        let step = AdaGradStep { lr: 0.1, eps: 1.0, weight_decay: 0.5, grad_scale: 0.5 };
        let (mut p, mut sum) = ([1.0_f64], [7.0]);
        Cpu::new().adagrad(&step, &mut p, &[6.0], &mut sum);
        assert!((p[0] - (0.95 - 0.06)).abs() < 1e-15, "{p:?}");
        assert_eq!(sum, [16.0]);
    }

    #[test]
    fn adagrad_vectors_give_the_bits_of_scalars() {
        let step = AdaGradStep { lr: 0.03, eps: 1e-10, weight_decay: 0.01, grad_scale: 0.7 };
        let (grads, before) = (normals(0), normals(1));
        let (mut params, mut sum) = (before.clone(), vec![0.25; LEN]);
        Cpu::new().adagrad(&step, &mut params, &grads, &mut sum);
        let s = |i: usize| 0.25 + (grads[i] * 0.7) * (grads[i] * 0.7);
        assert_bits(&sum, s);
        assert_bits(&params, |i| {
            before[i] * (1.0 - 0.03 * 0.01_f64) as f32 - 0.03 * (grads[i] * 0.7 / (s(i).sqrt() + 1e-10))
        });
    }
}
