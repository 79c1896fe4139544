//! `FedAdam`: moments that forget, at the server.

use super::Adaptive;
use super::adaptive::SecondMoment;

/// [`Adaptive`] with `v <- beta2 v + (1 - beta2) x^2`.
///
/// # Reference
/// Reddi et al., "Adaptive Federated Optimization", ICLR 2021, algorithm 2.
#[derive(Clone, Debug, PartialEq)]
pub struct FedAdam {
    /// Settings and moments.
    pub moments: Adaptive,
    /// The share of the old second moment in the new one.
    pub beta2: f64,
}

impl SecondMoment for FedAdam {
    const NAME: &'static str = "fedadam";

    fn moments(&self) -> &Adaptive {
        &self.moments
    }

    fn moments_mut(&mut self) -> &mut Adaptive {
        &mut self.moments
    }

    fn next(&self) -> impl Fn(f64, f64) -> f64 + use<> {
        let beta2 = self.beta2;
        move |v, square| beta2 * v + (1.0 - beta2) * square
    }
}

#[cfg(test)]
mod tests {
    use super::super::tests::{assert_near, walk};
    use super::*;

    /// With tau 0.5: v = 0.25, m = 0. Round 1, x = 1: m = 0.5, v = 0.125 + 0.5 = 0.625, w = 1 + 0.5 / (0.7905694 + 0.5).
    /// Round 2, x = 0: m = 0.25, v = 0.3125, w += 0.25 / (0.5590170 + 0.5).
    #[test]
    fn two_rounds_by_hand() {
        let make = || FedAdam { moments: Adaptive::new(1.0, 0.5, 0.5), beta2: 0.5 };
        assert_near(&walk(make, &[1.0, 0.0]), &[1.387_425_886_7, 1.623_493_864_2]);
    }
}
