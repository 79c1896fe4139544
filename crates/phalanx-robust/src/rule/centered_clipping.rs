//! Centered clipping: steps from the last result, each sender's pull bounded.

use super::positive;
use crate::{Decision, Law, Laws, Round, Rule};
use phalanx_grad::{GradError, Gram, StateReader, StateTensor};
use std::sync::Arc;

/// `v <- v + (1/n) sum (x_i - v) min(1, tau / |x_i - v|)`, `steps` times from the last round's result, 0 at first.
///
/// One step moves `v` by `tau` at most, whatever the hostile send. The last result is state: it belongs in a
/// checkpoint.
///
/// # Reference
/// Karimireddy et al., "Learning from History for Byzantine Robust Optimization", ICML 2021.
#[derive(Clone, Debug)]
pub struct CenteredClipping {
    radius: f64,
    steps: usize,
    keeps: bool,
    center: Option<Arc<[f32]>>,
}

impl CenteredClipping {
    /// Steps of radius `tau`, from the last result.
    ///
    /// # Errors
    /// [`GradError::Setting`] when the radius is not above 0, or there is no step.
    pub fn new(tau: f64, steps: usize) -> Result<Self, GradError> {
        positive("centered-clipping", "tau", tau)?;
        positive("centered-clipping", "steps", steps as f64)?;
        Ok(CenteredClipping { radius: tau, steps, keeps: true, center: None })
    }

    /// The same from 0 each round.
    #[must_use]
    pub fn from_zero(self) -> Self {
        CenteredClipping { keeps: false, center: None, ..self }
    }
}

impl Rule for CenteredClipping {
    fn name(&self) -> &'static str {
        "centered-clipping"
    }

    fn min_n(&self, f: usize) -> usize {
        2 * f + 1
    }

    fn laws(&self) -> Laws {
        Laws::none().and(Law::Permutation).and(Law::Negation).and(Law::Rotation)
    }

    fn is_shardable(&self) -> bool {
        true
    }

    fn decide(&mut self, round: &Round<'_>) -> Result<Decision, GradError> {
        let n = round.n();
        let center = self.center.as_ref().filter(|center| center.len() == round.dim());
        let center: Option<Arc<[f32]>> = center.map(|center| match round.part(center) {
            part if part.len() < center.len() => part.into(),
            _ => Arc::clone(center),
        });
        let norms_sq = round.norms_sq()?;
        let (products, own) = match &center {
            Some(center) => round.products_with(center)?,
            None => (vec![0.0; n], 0.0),
        };
        // v = c v_0 + sum w_i x_i throughout; from the second step on, its distances need all products
        let (mut c, mut w) = (1.0, vec![0.0; n]);
        for step in 0..self.steps {
            let distances: Vec<f64> = if step == 0 {
                (0..n).map(|i| (norms_sq[i] + own - 2.0 * products[i]).max(0.0).sqrt()).collect()
            } else {
                distances(round.gram()?, &w, c, &products, own)
            };
            let pulls: Vec<f64> = distances
                .iter()
                .map(|d| if *d > self.radius { self.radius / d } else { 1.0 } / n as f64)
                .collect();
            let stays = 1.0 - pulls.iter().sum::<f64>();
            c *= stays;
            w.iter_mut().zip(&pulls).for_each(|(w, pull)| *w = *w * stays + pull);
        }
        let decision = Decision::sum(w);
        Ok(match center {
            Some(center) => decision.with_anchor(c, center),
            None => decision,
        })
    }

    fn settle(&mut self, out_d: &[f32]) {
        if self.keeps {
            self.center = Some(out_d.into());
        }
    }

    fn state(&self) -> Vec<StateTensor> {
        self.center.iter().map(|center| StateTensor::new("center", center)).collect()
    }

    fn restore(&mut self, state: &[StateTensor]) -> Result<(), GradError> {
        let mut reader = StateReader::new("centered-clipping", state);
        let len = state.iter().find(|tensor| tensor.name == "center").map(|tensor| tensor.data.len());
        let center = match len {
            Some(len) => Some(reader.elems::<f32>("center", len)?.into()),
            None => None,
        };
        reader.finish()?;
        self.center = center;
        Ok(())
    }
}

/// The distances of the vectors to `c v_0 + sum w_i x_i`.
fn distances(gram: &Gram, w: &[f64], c: f64, products: &[f64], own: f64) -> Vec<f64> {
    let with_sum: Vec<f64> = (0..gram.n()).map(|i| gram.product_with_sum(i, w) + c * products[i]).collect();
    let anchor: f64 = w.iter().zip(products).map(|(w, p)| w * p).sum::<f64>() + c * own;
    let sum_sq: f64 = w.iter().zip(&with_sum).map(|(w, p)| w * p).sum::<f64>() + c * anchor;
    (0..gram.n()).map(|i| (gram.norm_sq(i) - 2.0 * with_sum[i] + sum_sq).max(0.0).sqrt()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Robust, Updates};

    #[test]
    fn the_last_result_is_kept_and_can_be_restored() {
        let rows: [&[f32]; 3] = [&[3.0], &[3.0], &[3.0]];
        let updates = Updates::new(1, &rows);
        let make = || Robust::new(0, CenteredClipping::new(1.0, 1).unwrap());
        let mut rule = make();
        let mut out = [0.0];
        for want in [1.0, 2.0, 3.0, 3.0] {
            rule.aggregate(1, &updates, &mut out).unwrap();
            assert_eq!(out, [want]);
        }
        let mut other = make();
        other.restore(&rule.state()).unwrap();
        let far: [&[f32]; 1] = [&[9.0]];
        other.aggregate(5, &Updates::new(1, &far), &mut out).unwrap();
        assert_eq!(out, [4.0]);
        assert_eq!(rule.state(), [StateTensor::new("center", &[3.0_f32])]);
        assert!(other.restore(&[StateTensor::new("history", &[1.0_f32])]).is_err());
    }

    #[test]
    fn a_round_that_fails_leaves_the_state() {
        let mut rule = Robust::new(0, CenteredClipping::new(1.0, 1).unwrap());
        let mut out = [0.0];
        assert!(rule.aggregate(1, &Updates::new(1, &[&[f32::NAN]]), &mut out).is_err());
        assert!(rule.state().is_empty());
    }
}
