//! Softmax rows, and causal attention a head at a time: scores of one head stay in cache and are never kept.

use super::Cpu;
use super::matmul::transpose;
use super::rows;
use super::scratch::Scratch;
use super::simd::simd;
use crate::Float;
use crate::backend::Write;
use crate::op::{AttentionOps, AttentionSpec, Mat, MatmulOps, MatmulSpec};

/// Query rows handled at once: of the square of scores only the blocks at and left of the diagonal are computed.
const ROWS: usize = 32;

impl<T: Float> AttentionOps for Cpu<T> {
    fn softmax(&self, d: usize, x: &[T], y: &mut [T]) {
        assert_eq!(x.len(), y.len(), "softmax");
        softmax(d, x, y);
    }

    fn softmax_grad(&self, d: usize, y: &[T], dy: &[T], write: Write, dx: &mut [T]) {
        assert!(y.len() == dy.len() && dx.len() == y.len(), "softmax_grad");
        softmax_grad(d, y, dy, write, dx);
    }

    fn log_softmax(&self, d: usize, x: &[T], y: &mut [T]) {
        assert_eq!(x.len(), y.len(), "log_softmax");
        for (x, y) in x.chunks_exact(d).zip(y.chunks_exact_mut(d)) {
            let lse = log_sum_exp(x);
            y.iter_mut().zip(x).for_each(|(y, x)| *y = *x - lse);
        }
    }

    fn log_softmax_grad(&self, d: usize, y: &[T], dy: &[T], write: Write, dx: &mut [T]) {
        assert!(y.len() == dy.len() && dx.len() == y.len(), "log_softmax_grad");
        log_softmax_grad(d, y, dy, write, dx);
    }

    fn attention(&self, spec: &AttentionSpec, qkv: &[T], y: &mut [T], lse: &mut [T]) {
        let AttentionSpec { batch, time, heads, head_dim } = *spec;
        let width = spec.width();
        assert!(qkv.len() == batch * time * 3 * width && y.len() == batch * time * width, "attention");
        assert_eq!(lse.len(), batch * heads * time, "attention");
        let mut scratch = Scratch::take((ROWS + head_dim) * time);
        let (scores, keys) = scratch.get().split_at_mut(ROWS * time);
        for b in 0..batch {
            for h in 0..heads {
                let head = Head { spec, at: b * time * 3 * width + h * head_dim };
                let lse = &mut lse[(b * heads + h) * time..][..time];
                head.transposed(1, qkv, keys);
                for i in (0..time).step_by(ROWS) {
                    let rows = ROWS.min(time - i);
                    let seen = i + rows;
                    self.matmul(&head.scores(i, rows, seen), qkv, keys, Write::Set, scores);
                    let lse = &mut lse[i..i + rows];
                    let mut sums = [T::ONE; ROWS];
                    causal_exp(head.scale(), i, seen, &mut scores[..rows * seen], lse, &mut sums);
                    let spec = MatmulSpec {
                        batch: 1,
                        m: rows,
                        n: head_dim,
                        k: seen,
                        a: Mat::dense(rows, seen),
                        b: head.part(2, 0),
                        c: head.output(b, h, i),
                    };
                    self.matmul(&spec, scores, qkv, Write::Set, y);
                    divide_rows(&mut y[spec.c.offset..], width, head_dim, &sums[..rows]);
                    for (lse, sum) in lse.iter_mut().zip(sums) {
                        *lse += sum.ln();
                    }
                }
            }
        }
    }

    fn attention_grad(
        &self,
        spec: &AttentionSpec,
        qkv: &[T],
        y: &[T],
        lse: &[T],
        dy: &[T],
        write: Write,
        dqkv: &mut [T],
    ) {
        let AttentionSpec { batch, time, heads, head_dim } = *spec;
        let width = spec.width();
        assert!(qkv.len() == batch * time * 3 * width && dqkv.len() == qkv.len(), "attention_grad");
        assert!(dy.len() == batch * time * width && y.len() == dy.len(), "attention_grad");
        if write == Write::Set {
            dqkv.fill(T::ZERO);
        }
        let mut scratch = Scratch::take((2 * ROWS + 2 * head_dim) * time);
        let (scores, transposed) = scratch.get().split_at_mut(2 * ROWS * time);
        let (weights, dscores) = scores.split_at_mut(ROWS * time);
        let (keys, values) = transposed.split_at_mut(head_dim * time);
        for b in 0..batch {
            for h in 0..heads {
                let head = Head { spec, at: b * time * 3 * width + h * head_dim };
                head.transposed(1, qkv, keys);
                head.transposed(2, qkv, values);
                for i in (0..time).step_by(ROWS) {
                    let rows = ROWS.min(time - i);
                    let seen = i + rows;
                    let out = head.output(b, h, i);
                    self.matmul(&head.scores(i, rows, seen), qkv, keys, Write::Set, weights);
                    let lse = &lse[(b * heads + h) * time + i..][..rows];
                    rebuild_weights(head.scale(), i, seen, &mut weights[..rows * seen], lse);
                    // dV += P^T dY
                    let dv = MatmulSpec {
                        batch: 1,
                        m: seen,
                        n: head_dim,
                        k: rows,
                        a: Mat::dense(rows, seen).t(),
                        b: out,
                        c: head.part(2, 0),
                    };
                    self.matmul(&dv, weights, dy, Write::Add, dqkv);
                    // dP = dY V^T
                    let dp = MatmulSpec {
                        batch: 1,
                        m: rows,
                        n: seen,
                        k: head_dim,
                        a: out,
                        b: Mat::dense(head_dim, time),
                        c: Mat::dense(rows, seen),
                    };
                    self.matmul(&dp, dy, values, Write::Set, dscores);
                    for r in 0..rows {
                        let at = out.offset + r * out.rows;
                        let along = dot(&dy[at..at + head_dim], &y[at..at + head_dim]);
                        let row = r * seen..(r + 1) * seen;
                        score_gradient(head.scale(), along, &weights[row.clone()], &mut dscores[row]);
                    }
                    // dQ += dS K
                    let dq = MatmulSpec {
                        batch: 1,
                        m: rows,
                        n: head_dim,
                        k: seen,
                        a: Mat::dense(rows, seen),
                        b: head.part(1, 0),
                        c: head.part(0, i),
                    };
                    self.matmul(&dq, dscores, qkv, Write::Add, dqkv);
                    // dK += dS^T Q
                    let dk = MatmulSpec {
                        batch: 1,
                        m: seen,
                        n: head_dim,
                        k: rows,
                        a: Mat::dense(rows, seen).t(),
                        b: head.part(0, i),
                        c: head.part(1, 0),
                    };
                    self.matmul(&dk, dscores, qkv, Write::Add, dqkv);
                }
            }
        }
    }
}

/// Where the matrices of one head lie.
struct Head<'a> {
    spec: &'a AttentionSpec,
    at: usize,
}

impl Head<'_> {
    fn scale<T: Float>(&self) -> T {
        #[expect(clippy::cast_precision_loss, reason = "heads are narrow")]
        T::from_f64(1.0 / (self.spec.head_dim as f64).sqrt())
    }

    /// Queries, keys or values (0, 1, 2) from position `i` on, positions as rows.
    fn part(&self, which: usize, i: usize) -> Mat {
        let width = self.spec.width();
        Mat { offset: self.at + which * width + i * 3 * width, rows: 3 * width, cols: 1, batch: 0 }
    }

    /// Copies keys or values with positions as columns.
    fn transposed<T: Float>(&self, which: usize, qkv: &[T], to: &mut [T]) {
        let part = self.part(which, 0);
        transpose(self.spec.time, self.spec.head_dim, &qkv[part.offset..], part.rows, to);
    }

    fn output(&self, b: usize, h: usize, i: usize) -> Mat {
        let width = self.spec.width();
        Mat {
            offset: (b * self.spec.time + i) * width + h * self.spec.head_dim,
            rows: width,
            cols: 1,
            batch: 0,
        }
    }

    /// Products of queries `i..i + rows` with the transposed keys up to the last of them.
    fn scores(&self, i: usize, rows: usize, seen: usize) -> MatmulSpec {
        MatmulSpec {
            batch: 1,
            m: rows,
            n: seen,
            k: self.spec.head_dim,
            a: self.part(0, i),
            b: Mat::dense(self.spec.head_dim, self.spec.time),
            c: Mat::dense(rows, seen),
        }
    }
}

simd! {
    fn softmax<T: Float>(d: usize, x: &[T], y: &mut [T]) {
        for (x, y) in x.chunks_exact(d).zip(y.chunks_exact_mut(d)) {
            y.copy_from_slice(x);
            let sum = rows::exp_sum(T::ONE, rows::max(x), y);
            let scale = T::ONE / sum;
            for y in y.iter_mut() {
                *y *= scale;
            }
        }
    }
}

simd! {
    /// `e^(scale x - shift)` of rows that see one position more from row to row, with its greatest as the shift of each, and
    /// the sums; what rows do not see becomes 0. In two passes, since a row is too short to hide what its greatest waits for.
    fn causal_exp<T: Float>(scale: T, first: usize, seen: usize, scores: &mut [T], shifts: &mut [T], sums: &mut [T]) {
        for (r, (row, shift)) in scores.chunks_exact(seen).zip(&mut *shifts).enumerate() {
            *shift = scale * rows::max_of_first(first + r + 1, row);
        }
        for (r, ((row, shift), sum)) in scores.chunks_exact_mut(seen).zip(shifts).zip(sums).enumerate() {
            *sum = rows::exp_first(scale, *shift, first + r + 1, row);
        }
    }
}

simd! {
    /// Divides the first `len` elements of rows that lie `stride` apart.
    fn divide_rows<T: Float>(y: &mut [T], stride: usize, len: usize, divisors: &[T]) {
        for (row, divisor) in y.chunks_mut(stride).zip(divisors) {
            let inverse = T::ONE / *divisor;
            for y in &mut row[..len] {
                *y *= inverse;
            }
        }
    }
}

simd! {
    fn rebuild_weights<T: Float>(scale: T, first: usize, seen: usize, scores: &mut [T], lse: &[T]) {
        for (r, (row, lse)) in scores.chunks_exact_mut(seen).zip(lse).enumerate() {
            rows::exp_first(scale, *lse, first + r + 1, row);
        }
    }
}

simd! {
    fn score_gradient<T: Float>(scale: T, along: T, weights: &[T], dp: &mut [T]) {
        for (dp, p) in dp.iter_mut().zip(weights) {
            *dp = scale * *p * (*dp - along);
        }
    }
}

simd! {
    fn dot<T: Float>(x: &[T], y: &[T]) -> T {
        rows::sum_of([x, y], |[x, y]| x * y)
    }
}

simd! {
    fn softmax_grad<T: Float>(d: usize, y: &[T], dy: &[T], write: Write, dx: &mut [T]) {
        for ((y, dy), dx) in y.chunks_exact(d).zip(dy.chunks_exact(d)).zip(dx.chunks_exact_mut(d)) {
            let along = rows::sum_of([y, dy], |[y, dy]| y * dy);
            for ((y, dy), dx) in y.iter().zip(dy).zip(dx) {
                let v = *y * (*dy - along);
                *dx = if write == Write::Add { *dx + v } else { v };
            }
        }
    }
}

simd! {
    fn log_softmax_grad<T: Float>(d: usize, y: &[T], dy: &[T], write: Write, dx: &mut [T]) {
        for ((y, dy), dx) in y.chunks_exact(d).zip(dy.chunks_exact(d)).zip(dx.chunks_exact_mut(d)) {
            let sum = rows::sum(dy);
            for ((y, dy), dx) in y.iter().zip(dy).zip(dx) {
                let v = *dy - y.exp() * sum;
                *dx = if write == Write::Add { *dx + v } else { v };
            }
        }
    }
}

simd! {
    /// `log(sum(e^x))`, shifted by the greatest.
    pub(super) fn log_sum_exp<T: Float>(x: &[T]) -> T {
        let max = rows::max(x);
        max + rows::sum_of([x], |[x]| (x - max).exp()).ln()
    }
}
