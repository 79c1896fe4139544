//! Clipping by the length of the whole gradient.

/// The factor that makes a gradient of squared length `norm_sq` no longer than `max_norm`: 1, or less.
///
/// It goes into [`UpdateStep::grad_scale`](phalanx_grad::UpdateStep::grad_scale), so that no pass over memory is spent
/// on it. Statistics are taken before.
///
/// # Numerics
/// NaN where `norm_sq` is NaN, and 0 where it is infinite: stop such a step before.
///
/// # Examples
/// ```
/// use phalanx_optim::clip_by_global_norm;
/// assert_eq!(clip_by_global_norm(16.0, 1.0), 0.25);
/// assert_eq!(clip_by_global_norm(0.25, 1.0), 1.0);
/// assert_eq!(clip_by_global_norm(0.0, 0.0), 1.0);
/// ```
///
/// # Reference
/// Pascanu, Mikolov and Bengio, "On the difficulty of training recurrent neural networks", ICML 2013.
///
/// # Deviation
/// `torch.nn.utils.clip_grad_norm_` divides by the length plus `1e-6`, which leaves the result a little short.
#[must_use]
pub fn clip_by_global_norm(norm_sq: f64, max_norm: f64) -> f64 {
    let norm = norm_sq.sqrt();
    if norm <= max_norm { 1.0 } else { max_norm / norm }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lengths_that_are_not_finite_do_not_pass_as_short() {
        assert!(clip_by_global_norm(f64::NAN, 1.0).is_nan());
        assert_eq!(clip_by_global_norm(f64::INFINITY, 1.0), 0.0);
    }
}
