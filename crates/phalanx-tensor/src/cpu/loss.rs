//! Cross entropy.

use super::Cpu;
use super::attention::log_sum_exp;
use super::simd::simd;
use crate::Float;
use crate::backend::Write;
use crate::op::LossOps;

impl<T: Float> LossOps for Cpu<T> {
    fn cross_entropy(
        &self,
        d: usize,
        logits: &[T],
        labels: &[u32],
        loss: &mut [T],
        lse: &mut [T],
        hits: &mut [u32],
    ) {
        assert!(
            logits.len() == labels.len() * d && loss.len() == labels.len() && lse.len() == labels.len(),
            "cross_entropy"
        );
        let [hits] = hits else { panic!("one number of hits, {} places", hits.len()) };
        *hits = 0;
        let outputs = labels.iter().zip(loss.iter_mut().zip(lse));
        for (row, (label, (loss, lse))) in logits.chunks_exact(d).zip(outputs) {
            let own = row[*label as usize];
            *lse = log_sum_exp(row);
            *loss = *lse - own;
            *hits += u32::from(is_first_greatest(row, *label as usize));
        }
    }

    fn cross_entropy_grad(
        &self,
        d: usize,
        logits: &[T],
        labels: &[u32],
        lse: &[T],
        dloss: &[T],
        write: Write,
        dx: &mut [T],
    ) {
        assert!(logits.len() == labels.len() * d && dx.len() == logits.len(), "cross_entropy_grad");
        let rows = logits.chunks_exact(d).zip(dx.chunks_exact_mut(d));
        for ((x, dx), ((label, lse), dloss)) in rows.zip(labels.iter().zip(lse).zip(dloss)) {
            softmax_times(*lse, *dloss, x, write, dx);
            dx[*label as usize] -= *dloss;
        }
    }
}

simd! {
    fn softmax_times<T: Float>(lse: T, scale: T, x: &[T], write: Write, dx: &mut [T]) {
        for (x, dx) in x.iter().zip(dx) {
            let v = scale * (*x - lse).exp();
            *dx = if write == Write::Add { *dx + v } else { v };
        }
    }
}

simd! {
    fn is_first_greatest<T: Float>(row: &[T], label: usize) -> bool {
        let own = row[label];
        let mut beaten = false;
        for x in &row[..label] {
            beaten |= *x >= own;
        }
        for x in &row[label..] {
            beaten |= *x > own;
        }
        !beaten && own.is_finite()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn loss_and_gradient_of_a_known_row() {
        // specs of the field: z = (1, 2, 0.5) has p = (0.23122, 0.62853, 0.14024)
        let (cpu, z) = (Cpu::<f64>::new(), [1.0, 2.0, 0.5]);
        let (mut loss, mut lse, mut hits) = ([0.0], [0.0], [7]);
        cpu.cross_entropy(3, &z, &[0], &mut loss, &mut lse, &mut hits);
        assert_eq!(hits, [0]);
        assert!((loss[0] - 1.464_368_784_1).abs() < 1e-9);
        let mut dz = [0.0; 3];
        cpu.cross_entropy_grad(3, &z, &[0], &lse, &[2.0], Write::Set, &mut dz);
        let want = [2.0 * (0.231_223_897_6 - 1.0), 2.0 * 0.628_531_719_2, 2.0 * 0.140_244_383_2];
        assert!(dz.iter().zip(want).all(|(a, b)| (a - b).abs() < 1e-9), "{dz:?}");
        cpu.cross_entropy(3, &z, &[1], &mut loss, &mut lse, &mut hits);
        assert_eq!(hits, [1]);
    }
}
