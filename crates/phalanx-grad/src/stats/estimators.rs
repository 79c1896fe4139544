//! Estimates of variance, signal and agreement from the scalars of a step.

use super::ScalarBlock;
use crate::GradError;
use crate::gram::at_least_zero;

/// All of them fail with [`GradError::TooFewChunks`] for less than two chunks, unless stated, and with
/// [`GradError::NonFinite`] when a gradient element was infinite or NaN.
///
/// Differences that are never negative but for rounding are clamped at 0.
///
/// # Examples
/// ```
/// use phalanx_grad::{Gram, ScalarBlock};
/// // four samples with gradients (1, 2, 0), (3, 0, 1), (2, 1, -1), (0, 1, 2)
/// let rows = [[1.0, 2.0, 0.0], [3.0, 0.0, 1.0], [2.0, 1.0, -1.0], [0.0, 1.0, 2.0]];
/// let gram = Gram::from_fn(4, |i, j| rows[i].iter().zip(rows[j]).map(|(a, b)| a * b).sum());
/// let block = ScalarBlock::from_gram(&gram, &[1; 4], 0.5)?;
/// assert_eq!((block.q, block.n), (26.0, 3.5));
/// assert_eq!(block.tr_s()?, 4.0);
/// assert_eq!(block.g2()?, 2.5);
/// # Ok::<(), phalanx_grad::GradError>(())
/// ```
///
/// # Reference
/// `tr_s`, `g2`, `b_simple`: McCandlish et al., "An Empirical Model of Large-Batch Training", 2018, appendix A, for
/// chunks of any sizes. `v_ip`, `v_or`: Bollapragada, Byrd and Nocedal, "Adaptive sampling strategies for stochastic
/// optimization", SIAM J. Optim. 2018. `m_coherence`: Chatterjee and Zielinski, "Making Coherence Out of Nothing At
/// All", 2020. `diversity`: Yin et al., "Gradient Diversity", AISTATS 2018. `adascale_gain`: Johnson et al.,
/// "`AdaScale` SGD", ICML 2020.
impl ScalarBlock {
    /// `tr_s = (Q - B N) / (C - 1)`: the variance of one sample's gradient, summed over coordinates. Unbiased for
    /// chunks of any sizes.
    ///
    /// # Errors
    /// As above.
    pub fn tr_s(&self) -> Result<f64, GradError> {
        self.tr_s_for("tr_s")
    }

    /// `g2 = N - tr_s / B`: the squared length of the true gradient, unbiased; negative where noise hides it.
    ///
    /// # Errors
    /// As above.
    pub fn g2(&self) -> Result<f64, GradError> {
        self.g2_for("g2")
    }

    /// `v_ip = (P2 - B N^2) / (C - 1)`: the variance of the inner product of a sample's gradient with `g`.
    ///
    /// # Errors
    /// As above, and [`GradError::NoProjections`].
    pub fn v_ip(&self) -> Result<f64, GradError> {
        let degrees = self.degrees("v_ip")?;
        Ok(at_least_zero((self.p2("v_ip")? - self.b() * self.n * self.n) / degrees))
    }

    /// `v_or = (Q - P2 / N) / (C - 1)`: the variance of a sample's gradient across `g`.
    ///
    /// `tr_s = v_or + v_ip / N`.
    ///
    /// # Errors
    /// As above, [`GradError::NoProjections`], and [`GradError::Undefined`] where `N` is 0.
    pub fn v_or(&self) -> Result<f64, GradError> {
        let degrees = self.degrees("v_or")?;
        let p2 = self.p2("v_or")?;
        Ok(at_least_zero((self.q - p2 / positive("v_or", "n", self.n)?) / degrees))
    }

    /// `tr_s / g2`: the batch size, in samples, at which noise and signal are equally long. The noise scale.
    ///
    /// # Errors
    /// As above, and [`GradError::Undefined`] where `g2` is not positive: keep the last running mean there.
    pub fn b_simple(&self) -> Result<f64, GradError> {
        Ok(self.tr_s_for("b_simple")? / positive("b_simple", "g2", self.g2_for("b_simple")?)?)
    }

    /// `alpha = g2 / (g2 + tr_s)`: the share of a sample's gradient that samples have in common; with `g2` clamped
    /// at 0.
    ///
    /// # Errors
    /// As above, and [`GradError::Undefined`] where all gradients are 0.
    pub fn alpha(&self) -> Result<f64, GradError> {
        let (signal, noise) = (at_least_zero(self.g2_for("alpha")?), self.tr_s_for("alpha")?);
        Ok(signal / positive("alpha", "g2 + tr_s", signal + noise)?)
    }

    /// `B N / E|g_i|^2` with `E|g_i|^2 = g2 + tr_s`: how many samples of the batch profit from a step along the
    /// gradient of one; 1 where they are orthogonal, `B` where they are equal.
    ///
    /// # Errors
    /// As above, and [`GradError::Undefined`] where all gradients are 0.
    pub fn m_coherence(&self) -> Result<f64, GradError> {
        let energy = self.g2_for("m_coherence")? + self.tr_s_for("m_coherence")?;
        Ok(self.b() * self.n / positive("m_coherence", "g2 + tr_s", energy)?)
    }

    /// `sum |g_i|^2 / |sum g_i|^2`: the inverse of [`m_coherence`](Self::m_coherence).
    ///
    /// # Errors
    /// As above, and [`GradError::Undefined`] where `N` is 0.
    pub fn diversity(&self) -> Result<f64, GradError> {
        let energy = self.g2_for("diversity")? + self.tr_s_for("diversity")?;
        Ok(energy / (self.b() * positive("diversity", "n", self.n)?))
    }

    /// `g2 / (g2 + 2 tr_s / B)`: the cosine that the gradients of two halves of the batch have on average; with `g2`
    /// clamped at 0. Where the halves were measured, [`half_batch_cosine`] is exact.
    ///
    /// # Errors
    /// As above, and [`GradError::Undefined`] where all gradients are 0.
    pub fn expected_half_cosine(&self) -> Result<f64, GradError> {
        let name = "expected_half_cosine";
        let (signal, noise) = (at_least_zero(self.g2_for(name)?), 2.0 * self.tr_s_for(name)? / self.b());
        Ok(signal / positive(name, "g2 + 2 tr_s / b", signal + noise)?)
    }

    /// How many steps of a batch of `base` samples this step is worth: `(s + g) / (s / S + g)` with `S = B / base`,
    /// `s = tr_s / base`, and `g = g2` clamped at 0. Between 1 and `S` where `S >= 1`.
    ///
    /// # Errors
    /// As above, and [`GradError::Undefined`] where all gradients are 0.
    pub fn adascale_gain(&self, base: u64) -> Result<f64, GradError> {
        let name = "adascale_gain";
        let base = base as f64;
        let noise = self.tr_s_for(name)? / base;
        let signal = at_least_zero(self.g2_for(name)?);
        let scaled = noise * base / self.b() + signal;
        Ok((noise + signal) / positive(name, "tr_s / b + g2", scaled)?)
    }

    pub(super) fn tr_s_for(&self, statistic: &'static str) -> Result<f64, GradError> {
        let degrees = self.degrees(statistic)?;
        Ok(at_least_zero((self.q - self.b() * self.n) / degrees))
    }

    pub(super) fn g2_for(&self, statistic: &'static str) -> Result<f64, GradError> {
        Ok(self.n - self.tr_s_for(statistic)? / self.b())
    }
}

/// The cosine of the gradients of two equal halves of a batch, from their squared lengths and that of their mean.
///
/// `None` where a half is 0.
///
/// # Examples
/// ```
/// // (2, 1, 0.5) and (1, 1, 0.5): 3.25 / sqrt(5.25 * 2.25)
/// let cosine = phalanx_grad::half_batch_cosine(5.25, 2.25, 3.5).unwrap();
/// assert!((cosine - 0.9456108577).abs() < 1e-10);
/// ```
///
/// # Reference
/// Qin et al., "`SimiGrad`", NeurIPS 2021, where the halves' gradients are exchanged; their lengths are enough.
#[must_use]
pub fn half_batch_cosine(first_norm_sq: f64, second_norm_sq: f64, mean_norm_sq: f64) -> Option<f64> {
    let lengths = (first_norm_sq * second_norm_sq).sqrt();
    (lengths > 0.0).then(|| (4.0 * mean_norm_sq - first_norm_sq - second_norm_sq) / (2.0 * lengths))
}

/// A divisor that must be positive.
pub(super) fn positive(
    statistic: &'static str,
    quantity: &'static str,
    value: f64,
) -> Result<f64, GradError> {
    if value > 0.0 { Ok(value) } else { Err(GradError::Undefined { statistic, quantity, value }) }
}
