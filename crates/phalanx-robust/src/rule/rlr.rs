//! Robust learning rate: where too few agree on the sign, the step goes the other way.

use super::Finish;
use crate::{Decision, Law, Laws, Round, Rule};
use phalanx_grad::{GradError, StateTensor};

/// Any rule, with the sign of a coordinate changed where `|sum of signs| < threshold`.
///
/// Against backdoors: the few coordinates that only the hostile push are unlearned.
///
/// # Reference
/// Özdayi et al., "Defending Against Backdoors in Federated Learning with Robust Learning Rate", AAAI 2021.
#[derive(Debug)]
pub struct Rlr<R> {
    base: R,
    threshold: usize,
}

impl<R: Rule> Rlr<R> {
    /// The rule `base`, with a threshold on the agreement of the senders' signs.
    pub fn new(base: R, threshold: usize) -> Self {
        Rlr { base, threshold }
    }
}

impl<R: Rule> Rule for Rlr<R> {
    fn name(&self) -> &'static str {
        "rlr"
    }

    fn min_n(&self, f: usize) -> usize {
        self.base.min_n(f)
    }

    fn laws(&self) -> Laws {
        let mut laws = Laws::none();
        for law in [Law::Permutation, Law::Scale, Law::Negation, Law::CoordinateScale] {
            laws = if self.base.laws().has(law) { laws.and(law) } else { laws };
        }
        laws
    }

    fn is_shardable(&self) -> bool {
        self.base.is_shardable()
    }

    fn decide(&mut self, round: &Round<'_>) -> Result<Decision, GradError> {
        Ok(self.base.decide(round)?.with_finish(Finish::FlipBelow(self.threshold)))
    }

    fn settle(&mut self, out_d: &[f32]) {
        self.base.settle(out_d);
    }

    fn state(&self) -> Vec<StateTensor> {
        self.base.state()
    }

    fn restore(&mut self, state: &[StateTensor]) -> Result<(), GradError> {
        self.base.restore(state)
    }
}
