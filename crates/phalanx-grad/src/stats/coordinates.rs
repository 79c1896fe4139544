//! The coordinates' variances against their squared means, as one number.

use std::ops::Range;

/// How the ratios `Var_j / g_j^2` of all coordinates become the one that a test looks at.
///
/// # Reference
/// The test over single coordinates: Lau, Liu and Kolar, "`AdAdaGrad`: Adaptive Batch Size Schemes for Adaptive
/// Gradient Methods", arXiv 2402.11215.
///
/// # Deviation
/// The paper takes the greatest ratio, which a single coordinate with a mean near 0 can drive to any value; here the other
/// two are offered as well.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum CoordinateRule {
    /// The greatest ratio.
    Max,
    /// The ratio that this share of the coordinates does not exceed, above 0 and at most 1.
    Quantile(f64),
    /// The greatest ratio of parameter tensors, of a tensor's summed variance to its squared length.
    PerTensor,
}

impl CoordinateRule {
    /// One number for all coordinates.
    ///
    /// # Shapes
    /// `sums_sq_d`: `Q_j = sum m_c g_cj^2` over the chunks; `mean_d`: `g_j`; `tensors`: their elements.
    ///
    /// # Numerics
    /// A coordinate that does not vary has the ratio 0, one that varies about a mean of 0 an infinite one.
    ///
    /// # Panics
    /// When the two differ in length, or a tensor leaves them.
    ///
    /// # Examples
    /// ```
    /// use phalanx_grad::CoordinateRule;
    /// // four samples with gradients (1, 2, 0), (3, 0, 1), (2, 1, -1), (0, 1, 2), in two tensors
    /// let (sums_sq, mean) = ([14.0, 6.0, 6.0], [1.5, 1.0, 0.5]);
    /// let ratio = |rule: CoordinateRule| rule.ratio(&sums_sq, &mean, 4, 4, &[0..2, 2..3]);
    /// assert!((ratio(CoordinateRule::Max) - 20.0 / 3.0).abs() < 1e-6);
    /// assert!((ratio(CoordinateRule::Quantile(0.5)) - 20.0 / 27.0).abs() < 1e-6);
    /// assert!((ratio(CoordinateRule::PerTensor) - 20.0 / 3.0).abs() < 1e-6);
    /// ```
    #[must_use]
    #[track_caller]
    pub fn ratio(
        self,
        sums_sq_d: &[f32],
        mean_d: &[f32],
        samples: u64,
        chunks: u64,
        tensors: &[Range<usize>],
    ) -> f64 {
        assert_eq!(sums_sq_d.len(), mean_d.len(), "one sum a coordinate");
        let degrees = chunks.saturating_sub(1).max(1) as f64;
        let parts = |j: usize| {
            let mean_sq = f64::from(mean_d[j]) * f64::from(mean_d[j]);
            let variance = (f64::from(sums_sq_d[j]) - samples as f64 * mean_sq) / degrees;
            // sums are in single precision: what is below their rounding is no variance
            let noise = f64::from(sums_sq_d[j]) * f64::from(f32::EPSILON);
            (if variance * degrees > noise { variance } else { 0.0 }, mean_sq)
        };
        let all = 0..mean_d.len();
        match self {
            Self::Max => all.map(|j| quotient(parts(j))).fold(0.0, f64::max),
            Self::Quantile(share) => quantile(all.map(|j| quotient(parts(j))).collect(), share),
            Self::PerTensor => {
                let sums = |range: &Range<usize>| {
                    range.clone().map(parts).fold((0.0, 0.0), |(a, b), (c, d)| (a + c, b + d))
                };
                tensors.iter().map(|range| quotient(sums(range))).fold(0.0, f64::max)
            }
        }
    }
}

fn quotient((variance, mean_sq): (f64, f64)) -> f64 {
    if variance > 0.0 { variance / mean_sq } else { 0.0 }
}

#[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "an index")]
fn quantile(mut ratios: Vec<f64>, share: f64) -> f64 {
    if ratios.is_empty() {
        return 0.0;
    }
    let at = ((share * ratios.len() as f64).ceil() as usize).clamp(1, ratios.len()) - 1;
    *ratios.select_nth_unstable_by(at, f64::total_cmp).1
}

#[cfg(test)]
mod tests {
    use super::*;

    /// As in the reference: `T_j = Var_j / (eta^2 g_j^2)` with `eta` = 0.5 are 2.96296, 2.66667, 26.66667.
    #[test]
    fn ratios_of_the_worked_example() {
        let (sums_sq, mean) = ([14.0, 6.0, 6.0], [1.5, 1.0, 0.5]);
        let target = |rule: CoordinateRule| rule.ratio(&sums_sq, &mean, 4, 4, &[0..3, 0..0]) / 0.25;
        let near = |got: f64, want: f64| assert!((got - want).abs() < 1e-4, "{got}, want {want}");
        near(target(CoordinateRule::Max), 26.666_67);
        near(target(CoordinateRule::Quantile(1.0)), 26.666_67);
        near(target(CoordinateRule::Quantile(2.0 / 3.0)), 2.962_96);
        near(target(CoordinateRule::Quantile(0.01)), 2.666_67);
        // one tensor of all coordinates is the norm test: 4 / (0.25 * 3.5)
        near(target(CoordinateRule::PerTensor), 4.571_43);
    }

    #[test]
    fn a_mean_of_zero_is_infinite_and_no_variance_is_nothing() {
        let ratio =
            |rule: CoordinateRule| rule.ratio(&[2.0, 0.0, 8.0], &[0.0, 0.0, 2.0], 2, 2, &[0..3, 0..0]);
        assert_eq!(ratio(CoordinateRule::Max), f64::INFINITY);
        assert_eq!(ratio(CoordinateRule::Quantile(0.6)), 0.0);
        assert_eq!(ratio(CoordinateRule::PerTensor), 2.0 / 4.0);
        assert_eq!(CoordinateRule::Quantile(0.9).ratio(&[], &[], 2, 2, &[]), 0.0);
    }
}
