//! Optimizer updates, in the arithmetic of the CPU.

use crate::grid::Grid;
use crate::{Cuda, CudaView, CudaViewMut};
use phalanx_tensor::Float as _;
use phalanx_tensor::op::{AdaGradStep, AdamWStep, OptimOps, SgdStep};

impl OptimOps for Cuda {
    fn sgd(
        &self,
        step: &SgdStep,
        params: CudaViewMut<'_, f32>,
        grads: CudaView<'_, f32>,
        velocity: CudaViewMut<'_, f32>,
    ) {
        assert_eq!(params.len(), grads.len(), "sgd");
        let (n, keep) = (params.len(), keep(step.lr, step.weight_decay));
        let [lr, momentum, scale] = [step.lr, step.momentum, step.grad_scale].map(f32::from_f64);
        let [p, g] = [params.on(self), grads.on(self)];
        if step.momentum == 0.0 {
            return self.device.sgd(Grid::over(n), lr, keep, scale, p, g, n as u64);
        }
        assert_eq!(params.len(), velocity.len(), "sgd");
        let (nesterov, v) = (u32::from(step.nesterov), velocity.on(self));
        self.device.sgd_momentum(Grid::over(n), lr, momentum, nesterov, keep, scale, p, g, v, n as u64);
    }

    fn adamw(
        &self,
        step: &AdamWStep,
        params: CudaViewMut<'_, f32>,
        grads: CudaView<'_, f32>,
        first: CudaViewMut<'_, f32>,
        second: CudaViewMut<'_, f32>,
    ) {
        assert!(step.step > 0, "the first adamw step is 1");
        assert!([grads.len(), first.len(), second.len()] == [params.len(); 3], "adamw");
        let (n, done) = (params.len(), step.step as f64);
        let [rate, scale, fresh1, beta2, fresh2, root_correction, eps] = [
            step.lr / (1.0 - step.beta1.powf(done)),
            step.grad_scale,
            1.0 - step.beta1,
            step.beta2,
            1.0 - step.beta2,
            (1.0 - step.beta2.powf(done)).sqrt(),
            step.eps,
        ]
        .map(f32::from_f64);
        let keep = keep(step.lr, step.weight_decay);
        let [p, g, m, v] = [params.on(self), grads.on(self), first.on(self), second.on(self)];
        let grid = Grid::over(n);
        self.device.adamw(
            grid,
            rate,
            keep,
            scale,
            fresh1,
            beta2,
            fresh2,
            root_correction,
            eps,
            p,
            g,
            m,
            v,
            n as u64,
        );
    }

    fn adagrad(
        &self,
        step: &AdaGradStep,
        params: CudaViewMut<'_, f32>,
        grads: CudaView<'_, f32>,
        sum: CudaViewMut<'_, f32>,
    ) {
        assert!([grads.len(), sum.len()] == [params.len(); 2], "adagrad");
        let (n, keep) = (params.len(), keep(step.lr, step.weight_decay));
        let [lr, eps, scale] = [step.lr, step.eps, step.grad_scale].map(f32::from_f64);
        let [p, g, s] = [params.on(self), grads.on(self), sum.on(self)];
        self.device.adagrad(Grid::over(n), lr, eps, keep, scale, p, g, s, n as u64);
    }
}

/// The factor with which parameters decay, exactly 1 for none.
fn keep(lr: f64, weight_decay: f64) -> f32 {
    f32::from_f64(1.0 - lr * weight_decay)
}
