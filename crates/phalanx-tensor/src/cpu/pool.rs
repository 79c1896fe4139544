//! Pooling.

use super::Cpu;
use crate::Float;
use crate::backend::Write;
use crate::op::{PoolOps, PoolSpec};

/// For each output of a plane, the input cells of its window.
fn windows(spec: &PoolSpec) -> impl Iterator<Item = impl Iterator<Item = usize>> {
    let spec = *spec;
    let [oh, ow] = spec.out_hw();
    (0..oh * ow).map(move |o| {
        let span = move |i: usize, dim: usize| {
            let start = i * spec.stride[dim];
            let end = (start + spec.kernel[dim]).min(spec.hw[dim] + spec.padding[dim]);
            start.saturating_sub(spec.padding[dim])..end.saturating_sub(spec.padding[dim])
        };
        let columns = span(o % ow, 1);
        span(o / ow, 0).flat_map(move |r| columns.clone().map(move |c| r * spec.hw[1] + c))
    })
}

fn planes(spec: &PoolSpec) -> (usize, usize) {
    let [oh, ow] = spec.out_hw();
    (spec.hw[0] * spec.hw[1], oh * ow)
}

impl<T: Float> PoolOps for Cpu<T> {
    fn max_pool2d(&self, spec: &PoolSpec, x: &[T], y: &mut [T], argmax: &mut [u32]) {
        let (cells, outs) = planes(spec);
        let outputs = y.chunks_exact_mut(outs).zip(argmax.chunks_exact_mut(outs));
        for (x, (y, argmax)) in x.chunks_exact(cells).zip(outputs) {
            for (window, (y, at)) in windows(spec).zip(y.iter_mut().zip(argmax)) {
                let mut best: Option<(usize, T)> = None;
                for cell in window {
                    let wins = |(_, held): (usize, T)| x[cell] > held || x[cell].to_f64().is_nan();
                    if best.is_none_or(wins) {
                        best = Some((cell, x[cell]));
                    }
                }
                let (cell, value) = best.unwrap_or((0, T::from_f64(f64::NEG_INFINITY)));
                *y = value;
                #[expect(clippy::cast_possible_truncation, reason = "images have less than 2^32 cells")]
                {
                    *at = cell as u32;
                }
            }
        }
    }

    fn max_pool2d_grad(&self, spec: &PoolSpec, argmax: &[u32], dy: &[T], dx: &mut [T]) {
        let (cells, outs) = planes(spec);
        let causes = argmax.chunks_exact(outs).zip(dy.chunks_exact(outs));
        for (dx, (argmax, dy)) in dx.chunks_exact_mut(cells).zip(causes) {
            for (at, dy) in argmax.iter().zip(dy) {
                dx[*at as usize] += *dy;
            }
        }
    }

    fn max_pool2d_tangent(&self, spec: &PoolSpec, argmax: &[u32], x: &[T], y: &mut [T]) {
        let (cells, outs) = planes(spec);
        let outputs = y.chunks_exact_mut(outs).zip(argmax.chunks_exact(outs));
        for (x, (y, argmax)) in x.chunks_exact(cells).zip(outputs) {
            for (y, at) in y.iter_mut().zip(argmax) {
                *y = x[*at as usize];
            }
        }
    }

    fn avg_pool2d(&self, spec: &PoolSpec, x: &[T], y: &mut [T]) {
        let (cells, outs) = planes(spec);
        let scale = T::ONE / T::from_f64(window_area(spec));
        for (x, y) in x.chunks_exact(cells).zip(y.chunks_exact_mut(outs)) {
            for (window, y) in windows(spec).zip(y) {
                *y = window.map(|cell| x[cell]).sum::<T>() * scale;
            }
        }
    }

    fn avg_pool2d_grad(&self, spec: &PoolSpec, dy: &[T], write: Write, dx: &mut [T]) {
        let (cells, outs) = planes(spec);
        let scale = T::ONE / T::from_f64(window_area(spec));
        if write == Write::Set {
            dx.fill(T::ZERO);
        }
        for (dx, dy) in dx.chunks_exact_mut(cells).zip(dy.chunks_exact(outs)) {
            for (window, dy) in windows(spec).zip(dy) {
                window.for_each(|cell| dx[cell] += *dy * scale);
            }
        }
    }
}

#[expect(clippy::cast_precision_loss, reason = "windows are small")]
fn window_area(spec: &PoolSpec) -> f64 {
    (spec.kernel[0] * spec.kernel[1]) as f64
}
