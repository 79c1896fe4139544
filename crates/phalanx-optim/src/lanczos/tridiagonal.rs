//! Eigenvalues of a symmetric tridiagonal matrix, and the ends of its eigenvectors.

/// The most turns for one eigenvalue; the usual need is two or three.
const MOST_TURNS: usize = 100;

/// Eigenvalues in rising order, with the first and the last component of each eigenvector.
///
/// # Reference
/// The implicit QL algorithm: Golub and Van Loan, "Matrix Computations", section 8.3.
pub(super) fn eigen(mut diagonal: Vec<f64>, mut beside: Vec<f64>) -> (Vec<f64>, Vec<f64>, Vec<f64>) {
    let n = diagonal.len();
    beside.resize(n, 0.0);
    let (mut first, mut last) = (vec![0.0; n], vec![0.0; n]);
    if let (Some(first), Some(last)) = (first.first_mut(), last.last_mut()) {
        (*first, *last) = (1.0, 1.0);
    }
    for l in 0..n {
        for _ in 0..MOST_TURNS {
            let is_small =
                |m: usize| beside[m].abs() <= f64::EPSILON * (diagonal[m].abs() + diagonal[m + 1].abs());
            let m = (l..n - 1).find(|m| is_small(*m)).unwrap_or(n - 1);
            if m == l {
                break;
            }
            let mut g = (diagonal[l + 1] - diagonal[l]) / (2.0 * beside[l]);
            let root = g.hypot(1.0);
            g = diagonal[m] - diagonal[l] + beside[l] / (g + root.copysign(g));
            let (mut s, mut c, mut p) = (1.0, 1.0, 0.0);
            let mut is_split = false;
            for i in (l..m).rev() {
                let (f, b) = (s * beside[i], c * beside[i]);
                let r = f.hypot(g);
                beside[i + 1] = r;
                if r <= 0.0 {
                    diagonal[i + 1] -= p;
                    beside[m] = 0.0;
                    is_split = true;
                    break;
                }
                (s, c) = (f / r, g / r);
                g = diagonal[i + 1] - p;
                let r = (diagonal[i] - g) * s + 2.0 * c * b;
                p = s * r;
                diagonal[i + 1] = g + p;
                g = c * r - b;
                for ends in [&mut first, &mut last] {
                    let (x, y) = (ends[i], ends[i + 1]);
                    (ends[i], ends[i + 1]) = (c * x - s * y, s * x + c * y);
                }
            }
            if !is_split {
                diagonal[l] -= p;
                beside[l] = g;
                beside[m] = 0.0;
            }
        }
    }
    let mut order: Vec<usize> = (0..n).collect();
    order.sort_by(|a, b| diagonal[*a].total_cmp(&diagonal[*b]));
    let sorted = |values: &[f64]| order.iter().map(|i| values[*i]).collect();
    (sorted(&diagonal), sorted(&first), sorted(&last))
}

#[cfg(test)]
mod tests {
    use super::eigen;

    /// The matrix of second differences: `2 - 2 cos(k pi / (n + 1))`, with sines for eigenvectors.
    #[test]
    fn second_differences() {
        let n = 12;
        let (values, first, last) = eigen(vec![2.0; n], vec![-1.0; n - 1]);
        for (k, ((value, first), last)) in values.iter().zip(&first).zip(&last).enumerate() {
            let angle = (k + 1) as f64 * std::f64::consts::PI / (n + 1) as f64;
            assert!((value - (2.0 - 2.0 * angle.cos())).abs() < 1e-13, "{k}: {value}");
            let end = (2.0 / (n + 1) as f64).sqrt() * angle.sin();
            assert!((first.abs() - end).abs() < 1e-13 && (last.abs() - end).abs() < 1e-13, "{k}");
        }
    }

    #[test]
    fn one_row_and_none() {
        assert_eq!(eigen(vec![3.0], vec![]), (vec![3.0], vec![1.0], vec![1.0]));
        assert_eq!(eigen(vec![], vec![]), (vec![], vec![], vec![]));
    }
}
