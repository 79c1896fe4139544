//! The batch sizes at which the tests of adaptive sampling would hold.

use super::ScalarBlock;
use super::estimators::positive;
use crate::GradError;

/// Targets in samples, not rounded; a test holds where its target is at most `B`. All fail as the estimates that they
/// are made of, and with [`GradError::Undefined`] where the gradient is 0.
///
/// # Reference
/// Norm test: Byrd et al., "Sample size selection in optimization methods for machine learning", 2012. Inner-product
/// and orthogonality tests: Bollapragada, Byrd and Nocedal, 2018. With ranks for chunks the norm test is that of
/// Lau et al., "DDP-Norm", arXiv 2412.21124.
///
/// # Deviation
/// The variance over ranks is unbiased and of one sample: `m sum_j |g_j - g|^2 / (J - 1)`. Where a paper leaves a factor
/// of `J` or `J - 1` out, its `eta` differs from this one by the root of that factor.
impl ScalarBlock {
    /// Norm test, `tr_s / (eta^2 N)`.
    ///
    /// # Examples
    /// ```
    /// use phalanx_grad::ScalarBlock;
    /// let block = ScalarBlock {
    ///     q: 26.0, n: 3.5, norm_l1: 3.0, projections: None, coordinate_ratio: None,
    ///     samples: 4, chunks: 4, loss: 0.5, nonfinite: 0,
    /// };
    /// assert_eq!(block.norm_target(0.5)?.ceil(), 5.0);
    /// # Ok::<(), phalanx_grad::GradError>(())
    /// ```
    ///
    /// # Errors
    /// As above.
    pub fn norm_target(&self, eta: f64) -> Result<f64, GradError> {
        Ok(self.tr_s_for("norm_target")? / (eta * eta * positive("norm_target", "n", self.n)?))
    }

    /// Norm test with the unbiased length of the true gradient, `tr_s / (eta^2 g2)`: it stops growing at
    /// `b_simple / eta^2` and not before.
    ///
    /// # Errors
    /// As above, where `g2` is not positive too.
    pub fn norm_target_debiased(&self, eta: f64) -> Result<f64, GradError> {
        let name = "norm_target_debiased";
        Ok(self.tr_s_for(name)? / (eta * eta * positive(name, "g2", self.g2_for(name)?)?))
    }

    /// Inner-product test, `v_ip / (theta^2 N^2)`.
    ///
    /// # Errors
    /// As above.
    pub fn inner_product_target(&self, theta: f64) -> Result<f64, GradError> {
        let along = positive("inner_product_target", "n", self.n)? * self.n;
        Ok(self.v_ip()? / (theta * theta * along))
    }

    /// Orthogonality test, `v_or / (nu^2 N)`.
    ///
    /// # Errors
    /// As above.
    pub fn orthogonality_target(&self, nu: f64) -> Result<f64, GradError> {
        Ok(self.v_or()? / (nu * nu * positive("orthogonality_target", "n", self.n)?))
    }

    /// Augmented inner-product test: the greater of [`inner_product_target`](Self::inner_product_target) and
    /// [`orthogonality_target`](Self::orthogonality_target).
    ///
    /// # Errors
    /// As above.
    pub fn augmented_target(&self, theta: f64, nu: f64) -> Result<f64, GradError> {
        Ok(self.inner_product_target(theta)?.max(self.orthogonality_target(nu)?))
    }

    /// Coordinate-wise norm test: the measured ratio of variance to squared mean over `eta^2`.
    ///
    /// # Errors
    /// As above, and [`GradError::NoCoordinates`].
    pub fn coordinate_target(&self, eta: f64) -> Result<f64, GradError> {
        let name = "coordinate_target";
        self.degrees(name)?;
        let ratio = self.coordinate_ratio.ok_or(GradError::NoCoordinates { statistic: name })?;
        Ok(ratio / (eta * eta))
    }
}
