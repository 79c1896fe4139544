//! Kernels that measure the gradients of single samples.

use super::conv::samples as conv;
use super::matmul::{dots, sum_tile};
use super::scratch::Scratch;
use super::simd::{Kernel, Lanes, launch, simd};
use super::{Cpu, moments};
use crate::Float;
use crate::op::{ConvSamples, SampleOps, SampleRows};

impl<T: Float> SampleOps for Cpu<T> {
    fn row_dots(&self, d: usize, a: &[T], b: &[T], out: &mut [f64]) {
        let shared = b.len() == d && a.len() != d;
        assert!(a.len() == out.len() * d && (shared || b.len() == a.len()), "row_dots");
        for (i, (out, a)) in out.iter_mut().zip(a.chunks_exact(d.max(1))).enumerate() {
            let b = if shared { b } else { &b[i * d..(i + 1) * d] };
            *out += moments::dot(a, b);
        }
    }

    fn linear_norms(&self, rows: SampleRows, [n, k]: [usize; 2], x: &[T], dy: &[T], out: &mut [f64]) {
        let steps = rows.steps;
        assert!(
            x.len() == rows.rows() * k && dy.len() == rows.rows() * n && out.len() == rows.samples,
            "linear_norms"
        );
        if steps * n * k == 0 {
            return;
        }
        let (left, right) = (n.next_multiple_of(PAD_N), k.next_multiple_of(PAD_K));
        let direct = steps > 1 && !prefers_gram(steps, n, k);
        let mut padded_dy = Scratch::take(if direct && left != n { steps * left } else { 0 });
        let mut padded_x = Scratch::take(if direct && right != k { steps * right } else { 0 });
        for ((x, dy), out) in x.chunks_exact(steps * k).zip(dy.chunks_exact(steps * n)).zip(out) {
            if steps == 1 {
                *out += moments::dot(x, x) * moments::dot(dy, dy);
            } else if direct {
                let x = widened(x, k, right, padded_x.get());
                let dy = widened(dy, n, left, padded_dy.get());
                launch(Products { steps, n: left, k: right, x, dy, out });
            } else {
                launch(Grams { steps, n, k, x, dy, out });
            }
        }
    }

    fn conv2d_norms(&self, conv: &ConvSamples<'_, Self>, weight: &mut [f64], bias: Option<&mut [f64]>) {
        conv::norms(conv, weight, bias);
    }

    fn conv2d_products(
        &self,
        conv: &ConvSamples<'_, Self>,
        (w, weight): (&[T], &mut [f64]),
        b: Option<(&[T], &mut [f64])>,
    ) {
        conv::products(conv, w, weight, b);
    }

    fn gather_norms(&self, rows: SampleRows, d: usize, ids: &[u32], dy: &[T], out: &mut [f64]) {
        let steps = rows.steps;
        assert!(
            ids.len() == rows.rows() && dy.len() == ids.len() * d && out.len() == rows.samples,
            "gather_norms"
        );
        if steps * d == 0 {
            return;
        }
        let (mut order, mut sum) = (Scratch::<u32>::take(steps), Scratch::take(d));
        let (order, sum) = (order.get(), sum.get());
        for ((ids, dy), out) in ids.chunks_exact(steps).zip(dy.chunks_exact(steps * d)).zip(out) {
            order.iter_mut().zip(0..).for_each(|(t, step)| *t = step);
            order.sort_unstable_by_key(|t| (ids[*t as usize], *t));
            for same in order.chunk_by(|a, b| ids[*a as usize] == ids[*b as usize]) {
                sum.fill(T::ZERO);
                same.iter().for_each(|t| add_to(&dy[*t as usize * d..][..d], sum));
                *out += moments::dot(sum, sum);
            }
        }
    }

    fn norm_gains(&self, rows: SampleRows, d: usize, x: &[T], stats: &[T], dy: &[T], gains: &mut [T]) {
        let count = rows.rows();
        let per_row = stats.len() / count.max(1);
        assert!(x.len() == count * d && dy.len() == x.len() && gains.len() == rows.samples * d, "norm_gains");
        gains.fill(T::ZERO);
        if count == 0 {
            return;
        }
        assert!(stats.len() == count * per_row && [1, 2].contains(&per_row), "norm_gains");
        norm_gains(rows.steps, d, per_row, x, stats, dy, gains);
    }
}

/// Multiples to which rows are padded for [`Products`]: whole tiles, whole vectors.
const PAD_N: usize = 8;
const PAD_K: usize = 16;

/// Whether inner products of rows are fewer than the elements of the gradient.
fn prefers_gram(steps: usize, n: usize, k: usize) -> bool {
    steps * (n + k) < n * k
}

/// Rows of `d` elements as rows of `width`, zero at the end; a copy only where they differ.
fn widened<'a, T: Float>(x: &'a [T], d: usize, width: usize, padded: &'a mut [T]) -> &'a [T] {
    if d == width {
        return x;
    }
    for (to, from) in padded.chunks_exact_mut(width).zip(x.chunks_exact(d)) {
        to[..d].copy_from_slice(from);
        to[d..].fill(T::ZERO);
    }
    padded
}

simd! {
    fn add_to<T: Float>(x: &[T], sum: &mut [T]) {
        for (sum, x) in sum.iter_mut().zip(x) {
            *sum += *x;
        }
    }
}

simd! {
    fn norm_gains<T: Float>(
        steps: usize, d: usize, per_row: usize, x: &[T], stats: &[T], dy: &[T], gains: &mut [T],
    ) {
        let rows = x.chunks_exact(d).zip(dy.chunks_exact(d)).zip(stats.chunks_exact(per_row));
        for (row, ((x, dy), stats)) in rows.enumerate() {
            let gains = &mut gains[row / steps * d..][..d];
            let (mean, rstd) = if per_row == 2 { (stats[0], stats[1]) } else { (T::ZERO, stats[0]) };
            for ((gain, x), dy) in gains.iter_mut().zip(x).zip(dy) {
                *gain += *dy * ((*x - mean) * rstd);
            }
        }
    }
}

/// The squared length of `dy^T x`, whose elements never leave the registers together: tile by tile they are summed over
/// the steps, squared and added up. Neither operand is packed, since both run along the tile.
struct Products<'a, T> {
    steps: usize,
    /// A multiple of [`PAD_N`].
    n: usize,
    /// A multiple of [`PAD_K`].
    k: usize,
    x: &'a [T],
    dy: &'a [T],
    out: &'a mut f64,
}

impl<T: Float> Kernel<T> for Products<'_, T> {
    #[inline(always)]
    unsafe fn run<L: Lanes<Elem = T>>(self) {
        // SAFETY: passed on from `launch`; `linear_norms` checked the lengths and padded the rows.
        unsafe {
            if L::MANY {
                self.strips::<L, 8>();
            } else {
                self.strips::<L, 4>();
            }
        }
    }
}

impl<T: Float> Products<'_, T> {
    #[inline(always)]
    unsafe fn strips<L: Lanes<Elem = T>, const MR: usize>(self) {
        let mut squares = [0.0; 16];
        let mut column = 0;
        while column < self.k {
            let vectors = ((self.k - column) / L::N).min(3);
            for row in (0..self.n).step_by(MR) {
                // SAFETY: `row + MR` is at most n, `column` and `vectors` registers at most k.
                unsafe {
                    match vectors {
                        3 => self.tile::<L, MR, 3>(row, column, &mut squares),
                        2 => self.tile::<L, MR, 2>(row, column, &mut squares),
                        _ => self.tile::<L, MR, 1>(row, column, &mut squares),
                    }
                }
            }
            column += vectors * L::N;
        }
        *self.out += squares.iter().sum::<f64>();
    }

    /// Adds the squares of `MR` rows and `NR` registers of columns of the product.
    ///
    /// # Safety
    /// Inside `launch`; the tile lies inside the product.
    #[inline(always)]
    unsafe fn tile<L: Lanes<Elem = T>, const MR: usize, const NR: usize>(
        &self,
        row: usize,
        column: usize,
        squares: &mut [f64; 16],
    ) {
        let mut held = [T::ZERO; 16];
        // SAFETY: step t of either operand has a whole row, in which the tile lies; `held` takes 16 elements and a
        // register has no more.
        unsafe {
            let mut acc = [[L::zero(); NR]; MR];
            let (mut a, mut b) = (self.dy.as_ptr().add(row), self.x.as_ptr().add(column));
            for _ in 0..self.steps {
                let right: [L; NR] = std::array::from_fn(|v| L::load(b.add(v * L::N)));
                for (r, acc) in acc.iter_mut().enumerate() {
                    let left = L::splat(a.add(r).read());
                    for v in 0..NR {
                        acc[v] = acc[v].fma(left, right[v]);
                    }
                }
                (a, b) = (a.wrapping_add(self.n), b.wrapping_add(self.k));
            }
            for register in acc.as_flattened() {
                register.store(held.as_mut_ptr());
                for (square, x) in squares.iter_mut().zip(&held) {
                    *square += x.to_f64() * x.to_f64();
                }
            }
        }
    }
}

/// `sum_ts <x_t, x_s> <dy_t, dy_s>`, block by block of the lower triangle; blocks below the diagonal count twice.
struct Grams<'a, T> {
    steps: usize,
    n: usize,
    k: usize,
    x: &'a [T],
    dy: &'a [T],
    out: &'a mut f64,
}

impl<T: Float> Kernel<T> for Grams<'_, T> {
    #[inline(always)]
    unsafe fn run<L: Lanes<Elem = T>>(self) {
        // SAFETY: passed on from `launch`; `linear_norms` checked the lengths.
        unsafe {
            if L::MANY {
                self.blocks::<L, 4>();
            } else {
                self.blocks::<L, 3>();
            }
        }
    }
}

impl<T: Float> Grams<'_, T> {
    #[inline(always)]
    unsafe fn blocks<L: Lanes<Elem = T>, const M: usize>(self) {
        let last = self.steps - 1;
        for i in (0..self.steps).step_by(M) {
            for j in (0..=i).step_by(M) {
                // Rows past the end repeat the last one; their products are not counted.
                // SAFETY: every row index is below `steps`, each row has k or n elements.
                let (left, right) = unsafe {
                    let x = |t: usize| self.x.as_ptr().add(t.min(last) * self.k);
                    let dy = |t: usize| self.dy.as_ptr().add(t.min(last) * self.n);
                    let xs = (std::array::from_fn(|r| x(i + r)), std::array::from_fn(|r| x(j + r)));
                    let dys = (std::array::from_fn(|r| dy(i + r)), std::array::from_fn(|r| dy(j + r)));
                    (
                        sum_tile(&dots::<L, M, M>(self.k, xs.0, xs.1)),
                        sum_tile(&dots::<L, M, M>(self.n, dys.0, dys.1)),
                    )
                };
                let mut sum = 0.0;
                for (left, right) in left.iter().zip(&right).take(self.steps - i) {
                    for (a, b) in left.iter().zip(right).take(self.steps - j) {
                        sum += a.to_f64() * b.to_f64();
                    }
                }
                *self.out += if j < i { 2.0 * sum } else { sum };
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Write;
    use crate::op::{IndexOps, Mat, MatmulOps, MatmulSpec, NormOps};
    use proptest::prelude::{Just, ProptestConfig, prop_oneof, proptest};

    /// Small integers, so that sums are exact in any order.
    fn ints(n: usize, salt: usize) -> Vec<f64> {
        (0..n).map(|i| f64::from(u8::try_from((i * 7 + salt * 13 + i / 3) % 9).unwrap()) - 4.0).collect()
    }

    fn narrow(v: &[f64]) -> Vec<f32> {
        v.iter().map(|x| f32::from_f64(*x)).collect()
    }

    fn squares(x: &[f64]) -> f64 {
        x.iter().map(|x| x * x).sum()
    }

    /// The gradient of one sample's weight, by the matrix product.
    fn gradient(steps: usize, n: usize, k: usize, x: &[f64], dy: &[f64]) -> Vec<f64> {
        let (a, b) = (Mat::dense(steps, n).t(), Mat::dense(steps, k));
        let spec = MatmulSpec { batch: 1, m: n, n: k, k: steps, a, b, c: Mat::dense(n, k) };
        let mut dw = vec![0.0; n * k];
        Cpu::<f64>::new().matmul(&spec, dy, x, Write::Set, &mut dw);
        dw
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(96))]
        #[test]
        fn linear_norms_are_those_of_the_gradients(
            samples in 0_usize..4, steps in prop_oneof![1_usize..3, 3_usize..20, Just(70)],
            n in 1_usize..30, k in prop_oneof![1_usize..70, Just(96), Just(128)],
        ) {
            let rows = SampleRows { samples, steps };
            let (x, dy) = (ints(rows.rows() * k, 1), ints(rows.rows() * n, 2));
            let want: Vec<f64> = (0..samples)
                .map(|i| {
                    let (x, dy) = (&x[i * steps * k..][..steps * k], &dy[i * steps * n..][..steps * n]);
                    1.0 + squares(&gradient(steps, n, k, x, dy))
                })
                .collect();
            let mut got = vec![1.0; samples];
            Cpu::<f64>::new().linear_norms(rows, [n, k], &x, &dy, &mut got);
            assert_eq!(got, want);
            let mut got = vec![1.0; samples];
            Cpu::<f32>::new().linear_norms(rows, [n, k], &narrow(&x), &narrow(&dy), &mut got);
            assert_eq!(got, want);
        }

        #[test]
        fn gathered_and_normed_rows_are_those_of_their_gradients(
            samples in 0_usize..4, steps in 1_usize..9, d in 1_usize..20, table in 1_usize..6, rms: bool,
        ) {
            let cpu = Cpu::<f64>::new();
            let rows = SampleRows { samples, steps };
            let dy = ints(rows.rows() * d, 3);
            let ids: Vec<u32> = (0..rows.rows()).map(|i| u32::try_from(i * 5 % 7 % table).unwrap()).collect();
            let (x, stats) = (ints(dy.len(), 4), ints(rows.rows() * if rms { 1 } else { 2 }, 5));
            let mut got = vec![0.0; samples];
            cpu.gather_norms(rows, d, &ids, &dy, &mut got);
            let mut gains = vec![9.0; samples * d];
            cpu.norm_gains(rows, d, &x, &stats, &dy, &mut gains);
            for i in 0..samples {
                let part = i * steps..(i + 1) * steps;
                let cells = part.start * d..part.end * d;
                let mut scattered = vec![0.0; table * d];
                cpu.scatter_rows(d, &ids[part.clone()], &dy[cells.clone()], Write::Set, &mut scattered);
                assert_eq!(got[i], squares(&scattered));
                let (mut dgain, mut dbias, mut dx) = (vec![0.0; d], vec![0.0; d], vec![0.0; steps * d]);
                let (ones, x, dy) = (vec![1.0; d], &x[cells.clone()], &dy[cells]);
                let (dgain_to, dx_to) = ((Write::Set, &mut dgain[..]), (Write::Set, &mut dx[..]));
                if rms {
                    cpu.rms_norm_grad(d, x, &ones, &stats[part], dy, dgain_to, dx_to);
                } else {
                    let stats = &stats[2 * part.start..2 * part.end];
                    cpu.layer_norm_grad(d, x, &ones, stats, dy, dgain_to, (Write::Set, &mut dbias), dx_to);
                }
                assert_eq!(gains[i * d..(i + 1) * d], dgain);
            }
        }
    }

    #[test]
    fn the_cheaper_formula_is_taken() {
        // a transformer's layers are wide for their context or the other way round
        assert!(prefers_gram(8, 512, 512));
        assert!(!prefers_gram(128, 384, 128));
        // rows (1, 2), (0, 1) and gradients (1, -1), (2, 0): the product is (1, 4; -1, -2)
        let rows = SampleRows { samples: 1, steps: 2 };
        let (x, dy) = ([1.0, 2.0, 0.0, 1.0], [1.0, -1.0, 2.0, 0.0]);
        let mut out = [0.0];
        Cpu::<f64>::new().linear_norms(rows, [2, 2], &x, &dy, &mut out);
        launch(Grams { steps: 2, n: 2, k: 2, x: &x, dy: &dy, out: &mut out[0] });
        assert_eq!(out, [44.0]);
    }

    #[test]
    fn one_row_may_serve_all() {
        let mut out = [1.0, 1.0];
        let cpu = Cpu::<f32>::new();
        cpu.row_dots(2, &[1.0, 2.0, 3.0, 4.0], &[1.0, -1.0], &mut out);
        assert_eq!(out, [0.0, 0.0]);
        cpu.row_dots(2, &[1.0, 2.0, 3.0, 4.0], &[1.0, 0.0, 0.0, 1.0], &mut out);
        assert_eq!(out, [1.0, 4.0]);
    }
}
