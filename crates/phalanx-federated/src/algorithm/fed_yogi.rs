//! `FedYogi`: a second moment that falls no faster than it rises, at the server.

use super::Adaptive;
use super::adaptive::SecondMoment;

/// [`Adaptive`] with `v <- v - (1 - beta2) x^2 sign(v - x^2)`.
///
/// # Reference
/// Reddi et al., "Adaptive Federated Optimization", ICLR 2021, algorithm 2.
#[derive(Clone, Debug, PartialEq)]
pub struct FedYogi {
    /// Settings and moments.
    pub moments: Adaptive,
    /// The share of the old second moment in the new one.
    pub beta2: f64,
}

impl SecondMoment for FedYogi {
    const NAME: &'static str = "fedyogi";

    fn moments(&self) -> &Adaptive {
        &self.moments
    }

    fn moments_mut(&mut self) -> &mut Adaptive {
        &mut self.moments
    }

    fn next(&self) -> impl Fn(f64, f64) -> f64 + use<> {
        let change = 1.0 - self.beta2;
        let sign = |x: f64| if x == 0.0 { 0.0 } else { x.signum() };
        move |v, square| v - change * square * sign(v - square)
    }
}

#[cfg(test)]
mod tests {
    use super::super::tests::{assert_near, walk};
    use super::*;

    /// With tau 0.5: v = 0.25, m = 0. Round 1, x = 1: m = 0.5, v = 0.25 + 0.5 = 0.75, w = 1 + 0.5 / (0.8660254 + 0.5).
    /// Round 2, x = 0.5: m = 0.5, v = 0.75 - 0.125 = 0.625, w += 0.5 / (0.7905694 + 0.5).
    #[test]
    fn two_rounds_by_hand() {
        let make = || FedYogi { moments: Adaptive::new(1.0, 0.5, 0.5), beta2: 0.5 };
        assert_near(&walk(make, &[1.0, 0.5]), &[1.366_025_403_8, 1.753_451_290_5]);
    }
}
