//! The greatest eigenvalue of small symmetric matrices: spreads of vectors in their worst direction.

use phalanx_grad::Gram;

/// Sweeps of rotations at most; they converge quadratically, some ten suffice.
const SWEEPS: usize = 60;

/// Inner products of `sqrt(w_i / W) (x_i - m)` for chosen vectors with their weighted mean `m`: the eigenvalues are
/// those of the weighted covariance.
pub(crate) fn centered(gram: &Gram, chosen: &[usize], weights: &[f64]) -> Vec<f64> {
    let total: f64 = weights.iter().sum();
    let share: Vec<f64> = weights.iter().map(|w| w / total).collect();
    let rows: Vec<f64> =
        chosen.iter().map(|i| chosen.iter().zip(&share).map(|(j, w)| w * gram.get(*i, *j)).sum()).collect();
    let all: f64 = rows.iter().zip(&share).map(|(row, w)| row * w).sum();
    let mut matrix = Vec::with_capacity(chosen.len() * chosen.len());
    for (i, a) in chosen.iter().enumerate() {
        for (j, b) in chosen.iter().enumerate() {
            let product = gram.get(*a, *b) - rows[i] - rows[j] + all;
            matrix.push((share[i] * share[j]).sqrt() * product);
        }
    }
    matrix
}

/// A Rayleigh quotient: at most the greatest eigenvalue, and near it after a few products.
pub(crate) fn quotient(matrix: &[f64], n: usize) -> f64 {
    let longest = (0..n).max_by(|i, j| matrix[i * n + i].total_cmp(&matrix[j * n + j]));
    let Some(longest) = longest else { return 0.0 };
    let mut v: Vec<f64> = matrix[longest * n..][..n].to_vec();
    let mut value = matrix[longest * n + longest];
    for _ in 0..3 {
        let norm_sq: f64 = v.iter().map(|x| x * x).sum();
        if norm_sq == 0.0 || !norm_sq.is_finite() {
            break;
        }
        let product: Vec<f64> =
            matrix.chunks_exact(n).map(|row| row.iter().zip(&v).map(|(a, x)| a * x).sum()).collect();
        value = product.iter().zip(&v).map(|(a, x)| a * x).sum::<f64>() / norm_sq;
        let scale = 1.0 / norm_sq.sqrt();
        v = product.into_iter().map(|x| x * scale).collect();
    }
    value
}

/// The greatest eigenvalue of a symmetric matrix with its unit eigenvector, by Jacobi's rotations.
pub(crate) fn top(mut a: Vec<f64>, n: usize) -> (f64, Vec<f64>) {
    let mut vectors = vec![0.0; n * n];
    (0..n).for_each(|i| vectors[i * n + i] = 1.0);
    let size: f64 = a.iter().map(|x| x.abs()).fold(0.0, f64::max);
    for _ in 0..SWEEPS {
        let off = (0..n)
            .flat_map(|i| (0..i).map(move |j| (i, j)))
            .map(|(i, j)| a[i * n + j].abs())
            .fold(0.0, f64::max);
        if off <= size * 1e-15 {
            break;
        }
        for p in 0..n {
            for q in p + 1..n {
                rotate(&mut a, &mut vectors, n, p, q);
            }
        }
    }
    let greatest = (0..n).max_by(|i, j| a[i * n + i].total_cmp(&a[j * n + j]).then(j.cmp(i)));
    match greatest {
        Some(k) => (a[k * n + k], (0..n).map(|i| vectors[i * n + k]).collect()),
        None => (0.0, Vec::new()),
    }
}

fn rotate(a: &mut [f64], vectors: &mut [f64], n: usize, p: usize, q: usize) {
    let apq = a[p * n + q];
    if apq == 0.0 {
        return;
    }
    let theta = (a[q * n + q] - a[p * n + p]) / (2.0 * apq);
    let t = theta.signum() / (theta.abs() + theta.hypot(1.0));
    let t = if theta == 0.0 { 1.0 } else { t };
    let c = 1.0 / t.hypot(1.0);
    let s = t * c;
    for k in 0..n {
        let (x, y) = (a[k * n + p], a[k * n + q]);
        (a[k * n + p], a[k * n + q]) = (c * x - s * y, s * x + c * y);
    }
    for k in 0..n {
        let (x, y) = (a[p * n + k], a[q * n + k]);
        (a[p * n + k], a[q * n + k]) = (c * x - s * y, s * x + c * y);
    }
    for k in 0..n {
        let (x, y) = (vectors[k * n + p], vectors[k * n + q]);
        (vectors[k * n + p], vectors[k * n + q]) = (c * x - s * y, s * x + c * y);
    }
}

/// All eigenvalues and the eigenvectors as columns, of a 3 x 3 matrix or any other small one.
pub(crate) fn all(mut a: Vec<f64>, n: usize) -> (Vec<f64>, Vec<f64>) {
    let mut vectors = vec![0.0; n * n];
    (0..n).for_each(|i| vectors[i * n + i] = 1.0);
    for _ in 0..SWEEPS {
        for p in 0..n {
            for q in p + 1..n {
                rotate(&mut a, &mut vectors, n, p, q);
            }
        }
    }
    ((0..n).map(|i| a[i * n + i]).collect(), vectors)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// [[2, 1], [1, 2]] has 3 for (1, 1) / sqrt 2; a third axis with 5 beats it.
    #[test]
    fn eigenvalues_by_hand() {
        let (value, vector) = top(vec![2.0, 1.0, 1.0, 2.0], 2);
        assert!((value - 3.0).abs() < 1e-14 && (vector[0] - vector[1]).abs() < 1e-14);
        let (value, vector) = top(vec![2.0, 1.0, 0.0, 1.0, 2.0, 0.0, 0.0, 0.0, 5.0], 3);
        assert_eq!((value, vector[2].abs()), (5.0, 1.0));
        assert!((quotient(&[2.0, 1.0, 1.0, 2.0], 2) - 3.0).abs() < 0.1);
        assert_eq!(top(vec![0.0; 4], 2).0, 0.0);
    }

    /// (0, 0), (2, 0), (1, 3) with weights 1, 1, 2: mean (1, 3/2), covariance diag(1/2, 9/4).
    #[test]
    fn the_weighted_covariance_from_products() {
        let gram = Gram::from_fn(3, |i, j| [[0.0, 0.0, 0.0], [0.0, 4.0, 2.0], [0.0, 2.0, 10.0]][i][j]);
        let (value, _) = top(centered(&gram, &[0, 1, 2], &[1.0, 1.0, 2.0]), 3);
        assert!((value - 2.25).abs() < 1e-14, "{value}");
        let (mut values, _) = all(centered(&gram, &[0, 1, 2], &[1.0, 1.0, 2.0]), 3);
        values.sort_by(f64::total_cmp);
        assert!(values[0].abs() < 1e-14 && (values[1] - 0.5).abs() < 1e-14);
    }
}
