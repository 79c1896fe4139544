//! `FedAdagrad`: the sum of squared updates, at the server.

use super::Adaptive;
use super::adaptive::SecondMoment;

/// [`Adaptive`] with `v <- v + x^2`.
///
/// # Reference
/// Reddi et al., "Adaptive Federated Optimization", ICLR 2021, algorithm 2.
#[derive(Clone, Debug, PartialEq)]
pub struct FedAdagrad {
    /// Settings and moments.
    pub moments: Adaptive,
}

impl SecondMoment for FedAdagrad {
    const NAME: &'static str = "fedadagrad";

    fn moments(&self) -> &Adaptive {
        &self.moments
    }

    fn moments_mut(&mut self) -> &mut Adaptive {
        &mut self.moments
    }

    fn next(&self) -> impl Fn(f64, f64) -> f64 + use<> {
        |v, square| v + square
    }
}

#[cfg(test)]
mod tests {
    use super::super::tests::{assert_near, walk};
    use super::*;

    /// With tau 0.5: v = 0.25. Round 1, x = 1: m = 1, v = 1.25, w = 1 + 1 / (1.1180340 + 0.5).
    /// Round 2, x = -1: m = -1, v = 2.25, w -= 1 / (1.5 + 0.5).
    #[test]
    fn two_rounds_by_hand() {
        let make = || FedAdagrad { moments: Adaptive::new(1.0, 0.0, 0.5) };
        assert_near(&walk(make, &[1.0, -1.0]), &[1.618_033_988_7, 1.118_033_988_7]);
    }
}
