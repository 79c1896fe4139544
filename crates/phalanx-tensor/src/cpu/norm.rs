//! Normalisation kernels.

use super::Cpu;
use super::rows;
use super::simd::simd;
use crate::Float;
use crate::backend::Write;
use crate::op::NormOps;

impl<T: Float> NormOps for Cpu<T> {
    fn layer_norm(&self, d: usize, eps: f64, x: &[T], gain: &[T], bias: &[T], y: &mut [T], stats: &mut [T]) {
        assert!(
            x.len() == y.len() && gain.len() == d && bias.len() == d && stats.len() * d == 2 * x.len(),
            "layer_norm"
        );
        layer_norm(d, T::from_f64(eps), x, gain, bias, y, stats);
    }

    fn layer_norm_grad(
        &self,
        d: usize,
        x: &[T],
        gain: &[T],
        stats: &[T],
        dy: &[T],
        dgain: (Write, &mut [T]),
        dbias: (Write, &mut [T]),
        dx: (Write, &mut [T]),
    ) {
        assert!(
            x.len() == dy.len() && dx.1.len() == x.len() && stats.len() * d == 2 * x.len(),
            "layer_norm_grad"
        );
        let clear = |write: Write, out: &mut [T]| {
            if write == Write::Set {
                out.fill(T::ZERO);
            }
        };
        clear(dgain.0, dgain.1);
        clear(dbias.0, dbias.1);
        layer_norm_grad(d, x, gain, stats, dy, [dgain.1, dbias.1], dx);
    }

    fn rms_norm(&self, d: usize, eps: f64, x: &[T], gain: &[T], y: &mut [T], stats: &mut [T]) {
        assert!(x.len() == y.len() && gain.len() == d && stats.len() * d == x.len(), "rms_norm");
        rms_norm(d, T::from_f64(eps), x, gain, y, stats);
    }

    fn rms_norm_grad(
        &self,
        d: usize,
        x: &[T],
        gain: &[T],
        stats: &[T],
        dy: &[T],
        dgain: (Write, &mut [T]),
        dx: (Write, &mut [T]),
    ) {
        assert!(x.len() == dy.len() && dx.1.len() == x.len() && stats.len() * d == x.len(), "rms_norm_grad");
        if dgain.0 == Write::Set {
            dgain.1.fill(T::ZERO);
        }
        rms_norm_grad(d, x, gain, stats, dy, dgain.1, dx);
    }

    fn channel_sums(&self, n: usize, c: usize, hw: usize, x: &[T], y: &[T], sums: &mut [f64]) {
        assert!(x.len() == n * c * hw && y.len() == x.len() && sums.len() == 2 * c, "channel_sums");
        sums.fill(0.0);
        for (i, (x, y)) in x.chunks_exact(hw).zip(y.chunks_exact(hw)).enumerate() {
            let (a, b) = plane_sums(x, y);
            sums[2 * (i % c)] += a;
            sums[2 * (i % c) + 1] += b;
        }
    }

    fn channel_affine(
        &self,
        n: usize,
        c: usize,
        hw: usize,
        coefficients: &[f64],
        x: &[T],
        y: &[T],
        write: Write,
        out: &mut [T],
    ) {
        assert!(x.len() == n * c * hw && y.len() == x.len() && coefficients.len() == 3 * c, "channel_affine");
        let planes = x.chunks_exact(hw).zip(y.chunks_exact(hw)).zip(out.chunks_exact_mut(hw));
        for (i, ((x, y), out)) in planes.enumerate() {
            let k = &coefficients[3 * (i % c)..3 * (i % c) + 3];
            affine2(T::from_f64(k[0]), T::from_f64(k[1]), T::from_f64(k[2]), x, y, write, out);
        }
    }
}

simd! {
    fn affine2<T: Float>(a: T, b: T, c: T, x: &[T], y: &[T], write: Write, out: &mut [T]) {
        for ((x, y), out) in x.iter().zip(y).zip(out) {
            let v = a * *x + b * *y + c;
            *out = if write == Write::Add { *out + v } else { v };
        }
    }
}

simd! {
    fn plane_sums<T: Float>(x: &[T], y: &[T]) -> (f64, f64) {
        let (mut sums, mut products) = ([0.0; 8], [0.0; 8]);
        let ((xs, x_rest), (ys, y_rest)) = (x.as_chunks::<8>(), y.as_chunks::<8>());
        for (x, y) in xs.iter().zip(ys) {
            for i in 0..8 {
                sums[i] += x[i].to_f64();
                products[i] += x[i].to_f64() * y[i].to_f64();
            }
        }
        for (i, (x, y)) in x_rest.iter().zip(y_rest).enumerate() {
            sums[i] += x.to_f64();
            products[i] += x.to_f64() * y.to_f64();
        }
        (sums.into_iter().sum(), products.into_iter().sum())
    }
}

simd! {
    fn layer_norm<T: Float>(d: usize, eps: T, x: &[T], gain: &[T], bias: &[T], y: &mut [T], stats: &mut [T]) {
        let scale = T::ONE / T::from_f64(d as f64);
        let (gain, bias) = (&gain[..d], &bias[..d]);
        for ((x, y), stats) in x.chunks_exact(d).zip(y.chunks_exact_mut(d)).zip(stats.chunks_exact_mut(2)) {
            let mean = rows::sum(x) * scale;
            let variance = rows::sum_of([x], |[x]| (x - mean) * (x - mean)) * scale;
            let rstd = T::ONE / (variance + eps).sqrt();
            for ((y, x), (gain, bias)) in y.iter_mut().zip(x).zip(gain.iter().zip(bias)) {
                *y = (*x - mean) * rstd * *gain + *bias;
            }
            stats[0] = mean;
            stats[1] = rstd;
        }
    }
}

simd! {
    fn layer_norm_grad<T: Float>(
        d: usize, x: &[T], gain: &[T], stats: &[T], dy: &[T], sums: [&mut [T]; 2], dx: (Write, &mut [T]),
    ) {
        let ([dgain, dbias], (write, dx)) = (sums, dx);
        let scale = T::ONE / T::from_f64(d as f64);
        let (gain, dgain, dbias) = (&gain[..d], &mut dgain[..d], &mut dbias[..d]);
        let rows = x.chunks_exact(d).zip(dy.chunks_exact(d)).zip(dx.chunks_exact_mut(d)).zip(stats.chunks_exact(2));
        for (((x, dy), dx), stats) in rows {
            let (mean, rstd) = (stats[0], stats[1]);
            let sum = rows::sum_of([dy, gain], |[dy, gain]| dy * gain) * scale;
            let along = rows::sum_of([x, dy, gain], |[x, dy, gain]| dy * gain * ((x - mean) * rstd)) * scale;
            for ((x, dy), (dgain, dbias)) in x.iter().zip(dy).zip(dgain.iter_mut().zip(dbias.iter_mut())) {
                *dgain += *dy * ((*x - mean) * rstd);
                *dbias += *dy;
            }
            for ((x, dy), (gain, dx)) in x.iter().zip(dy).zip(gain.iter().zip(dx)) {
                let v = (*dy * *gain - sum - (*x - mean) * rstd * along) * rstd;
                *dx = if write == Write::Add { *dx + v } else { v };
            }
        }
    }
}

simd! {
    fn rms_norm<T: Float>(d: usize, eps: T, x: &[T], gain: &[T], y: &mut [T], stats: &mut [T]) {
        let scale = T::ONE / T::from_f64(d as f64);
        let gain = &gain[..d];
        for ((x, y), stat) in x.chunks_exact(d).zip(y.chunks_exact_mut(d)).zip(stats) {
            let rstd = T::ONE / (rows::sum_of([x], |[x]| x * x) * scale + eps).sqrt();
            for ((y, x), gain) in y.iter_mut().zip(x).zip(gain) {
                *y = *x * rstd * *gain;
            }
            *stat = rstd;
        }
    }
}

simd! {
    fn rms_norm_grad<T: Float>(
        d: usize, x: &[T], gain: &[T], stats: &[T], dy: &[T], dgain: &mut [T], dx: (Write, &mut [T]),
    ) {
        let (write, dx) = dx;
        let scale = T::ONE / T::from_f64(d as f64);
        let (gain, dgain) = (&gain[..d], &mut dgain[..d]);
        let rows = x.chunks_exact(d).zip(dy.chunks_exact(d)).zip(dx.chunks_exact_mut(d)).zip(stats);
        for (((x, dy), dx), rstd) in rows {
            let along = rows::sum_of([x, dy, gain], |[x, dy, gain]| dy * gain * (x * *rstd)) * scale;
            for ((x, dy), dgain) in x.iter().zip(dy).zip(dgain.iter_mut()) {
                *dgain += *dy * (*x * *rstd);
            }
            for ((x, dy), (gain, dx)) in x.iter().zip(dy).zip(gain.iter().zip(dx)) {
                let v = (*dy * *gain - *x * *rstd * along) * *rstd;
                *dx = if write == Write::Add { *dx + v } else { v };
            }
        }
    }
}
