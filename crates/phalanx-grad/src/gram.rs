//! Inner products of the gradients of a set: all that most rules look at.

/// The `n x n` inner products of `n` gradients, symmetric, in `f64`.
///
/// # Examples
/// ```
/// use phalanx_grad::Gram;
/// // of (1, 0), (0, 2), (3, 0)
/// let gram = Gram::from_fn(3, |i, j| [[1.0, 0.0, 3.0], [0.0, 4.0, 0.0], [3.0, 0.0, 9.0]][i][j]);
/// assert_eq!(gram.norm_sq(1), 4.0);
/// assert_eq!(gram.distance_sq(0, 2), 4.0);
/// ```
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Gram {
    n: usize,
    products_nn: Vec<f64>,
}

impl Gram {
    /// All products 0.
    #[must_use]
    pub fn zeros(n: usize) -> Self {
        Gram { n, products_nn: vec![0.0; n * n] }
    }

    /// Products from a function, which is asked for `j <= i` only.
    #[must_use]
    pub fn from_fn(n: usize, mut product: impl FnMut(usize, usize) -> f64) -> Self {
        let mut gram = Gram::zeros(n);
        for i in 0..n {
            for j in 0..=i {
                gram.set(i, j, product(i, j));
            }
        }
        gram
    }

    /// Makes it the Gram matrix of `n` gradients with all products 0; memory is kept.
    pub fn reset(&mut self, n: usize) {
        self.n = n;
        self.products_nn.clear();
        self.products_nn.resize(n * n, 0.0);
    }

    /// How many gradients there are.
    #[must_use]
    pub fn n(&self) -> usize {
        self.n
    }

    /// The inner product of gradients `i` and `j`.
    ///
    /// # Panics
    /// When one of them is not below [`Gram::n`].
    #[track_caller]
    #[must_use]
    pub fn get(&self, i: usize, j: usize) -> f64 {
        self.row(i)[j]
    }

    /// Sets the inner product of `i` with `j`, and so of `j` with `i`.
    ///
    /// # Panics
    /// When one of them is not below [`Gram::n`].
    #[track_caller]
    pub fn set(&mut self, i: usize, j: usize, product: f64) {
        assert!(i < self.n && j < self.n, "a Gram matrix of {} has no element {i}, {j}", self.n);
        self.products_nn[i * self.n + j] = product;
        self.products_nn[j * self.n + i] = product;
    }

    /// The inner products of gradient `i` with all.
    ///
    /// # Panics
    /// When `i` is not below [`Gram::n`].
    #[track_caller]
    #[must_use]
    pub fn row(&self, i: usize) -> &[f64] {
        &self.products_nn[i * self.n..][..self.n]
    }

    /// All products, row by row: what ranks that hold parts of the coordinates sum.
    #[must_use]
    pub fn products(&self) -> &[f64] {
        &self.products_nn
    }

    /// All products, to be summed in place. Keep them symmetric.
    #[must_use]
    pub fn products_mut(&mut self) -> &mut [f64] {
        &mut self.products_nn
    }

    /// The squared length of gradient `i`.
    ///
    /// # Panics
    /// When `i` is not below [`Gram::n`].
    #[track_caller]
    #[must_use]
    pub fn norm_sq(&self, i: usize) -> f64 {
        self.get(i, i)
    }

    /// The squared distance of gradients `i` and `j`.
    ///
    /// # Numerics
    /// `|g_i|^2 + |g_j|^2 - 2 <g_i, g_j>`, clamped at 0: near-equal gradients cancel. NaN stays NaN, so that a
    /// gradient that is not finite is near to none.
    ///
    /// # Panics
    /// When one of them is not below [`Gram::n`].
    #[track_caller]
    #[must_use]
    pub fn distance_sq(&self, i: usize, j: usize) -> f64 {
        if i == j && self.norm_sq(i).is_finite() {
            return 0.0;
        }
        at_least_zero(self.norm_sq(i) + self.norm_sq(j) - 2.0 * self.get(i, j))
    }

    /// The squared length of `sum_i w_i g_i`.
    ///
    /// # Shapes
    /// `weights_n`: one a gradient.
    ///
    /// # Numerics
    /// Clamped at 0. Gradients of weight 0 are not looked at.
    ///
    /// # Panics
    /// With another number of weights.
    #[track_caller]
    #[must_use]
    pub fn sum_norm_sq(&self, weights_n: &[f64]) -> f64 {
        let sum = (0..self.n).filter(|i| weights_n[*i] != 0.0);
        at_least_zero(sum.map(|i| weights_n[i] * self.product_with_sum(i, weights_n)).sum())
    }

    /// The inner product of gradient `i` with `sum_j w_j g_j`.
    ///
    /// # Shapes
    /// `weights_n`: one a gradient.
    ///
    /// # Numerics
    /// Gradients of weight 0 are not looked at.
    ///
    /// # Panics
    /// With another number of weights, or when `i` is not below [`Gram::n`].
    #[track_caller]
    #[must_use]
    pub fn product_with_sum(&self, i: usize, weights_n: &[f64]) -> f64 {
        assert_eq!(weights_n.len(), self.n, "weights of {} gradients", self.n);
        self.row(i).iter().zip(weights_n).filter(|(_, w)| **w != 0.0).map(|(product, w)| product * w).sum()
    }
}

/// The number, or 0 if it is negative; NaN stays, which `f64::max` would turn to 0.
pub(crate) fn at_least_zero(x: f64) -> f64 {
    if x < 0.0 { 0.0 } else { x }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn distances_of_near_equal_gradients_are_not_negative() {
        // |a|^2 = |b|^2 = 1 and a product rounded up: -2^-52 without the clamp
        let gram = Gram::from_fn(2, |i, j| if i == j { 1.0 } else { 1.0 + f64::EPSILON });
        assert_eq!(gram.distance_sq(0, 1), 0.0);
    }

    #[test]
    fn a_gradient_that_is_not_finite_is_near_to_none() {
        let gram = Gram::from_fn(2, |i, j| if i == 0 && j == 0 { 1.0 } else { f64::NAN });
        assert!(gram.distance_sq(0, 1).is_nan());
        assert!(gram.distance_sq(1, 1).is_nan());
        let gram = Gram::from_fn(2, |i, j| if i + j == 0 { 1.0 } else { f64::INFINITY });
        assert!(gram.distance_sq(0, 1).is_nan());
    }

    #[test]
    fn sums_from_products_alone() {
        // (1, 2) and (3, -1): 2 a - b = (-1, 5), of length^2 26, and <b, 2 a - b> = -8
        let gram = Gram::from_fn(2, |i, j| [[5.0, 1.0], [1.0, 10.0]][i][j]);
        assert_eq!(gram.sum_norm_sq(&[2.0, -1.0]), 26.0);
        assert_eq!(gram.product_with_sum(1, &[2.0, -1.0]), -8.0);
    }

    #[test]
    fn weight_zero_hides_what_is_not_finite() {
        let gram = Gram::from_fn(2, |i, j| if i + j == 0 { 9.0 } else { f64::NAN });
        assert_eq!(gram.sum_norm_sq(&[1.0, 0.0]), 9.0);
    }

    #[test]
    fn reset_forgets() {
        let mut gram = Gram::from_fn(3, |_, _| 7.0);
        gram.reset(2);
        assert_eq!(gram, Gram::zeros(2));
    }
}
