//! A policy of the batch together with what the learning rate makes of it.

use crate::{RateRule, words};
use phalanx_comm::Agreed;
use phalanx_grad::{
    BatchContext, BatchDecision, BatchPolicy, GradError, Needs, PolicyBounds, PolicyState, ScalarBlock,
    StepTime,
};

const VERSION: u32 = 1;

/// A policy whose learning rate follows a rule.
#[derive(Debug)]
pub struct Rated {
    policy: Box<dyn BatchPolicy>,
    rule: Box<dyn RateRule>,
}

impl Rated {
    /// `policy` decides on the batch, `rule` on the rate.
    #[must_use]
    pub fn new(policy: Box<dyn BatchPolicy>, rule: Box<dyn RateRule>) -> Self {
        Rated { policy, rule }
    }
}

impl BatchPolicy for Rated {
    fn name(&self) -> &'static str {
        self.policy.name()
    }

    fn bounds(&self) -> PolicyBounds {
        let bounds = self.policy.bounds();
        PolicyBounds { needs: bounds.needs.and(self.rule.needs()), ..bounds }
    }

    fn needs(&self, context: &BatchContext) -> Needs {
        self.policy.needs(context).and(self.rule.needs())
    }

    fn lr_factor(
        &mut self,
        statistics: &Agreed<ScalarBlock>,
        context: &BatchContext,
    ) -> Result<f64, GradError> {
        self.rule.factor(statistics, context)
    }

    fn timed(&mut self, time: &Agreed<StepTime>) {
        self.policy.timed(time);
    }

    fn decide(
        &mut self,
        statistics: &Agreed<ScalarBlock>,
        context: &BatchContext,
    ) -> Result<BatchDecision, GradError> {
        self.policy.decide(statistics, context)
    }

    /// Versions and length of the policy's state, then both states.
    fn state(&self) -> PolicyState {
        let (policy, rule) = (self.policy.state(), self.rule.state());
        let head = [u64::from(policy.version), u64::from(rule.version), policy.bytes.len() as u64];
        let mut both = words::write(VERSION, &head);
        both.bytes.extend(policy.bytes.into_iter().chain(rule.bytes));
        both
    }

    fn restore(&mut self, state: &PolicyState) -> Result<(), GradError> {
        let refused = || words::refused(self.policy.name(), VERSION, state);
        let (head, rest) = state.bytes.split_at_checked(24).ok_or_else(refused)?;
        let head = PolicyState { version: state.version, bytes: head.to_vec() };
        let [policy, rule, len] = words::read_exactly(self.policy.name(), VERSION, &head)?;
        let len = usize::try_from(len).map_err(|_| refused())?;
        let (first, second) = rest.split_at_checked(len).ok_or_else(refused)?;
        let of = |version: u64, bytes: &[u8]| PolicyState {
            version: u32::try_from(version).unwrap_or(u32::MAX),
            bytes: bytes.to_vec(),
        };
        let (policy, rule) = (of(policy, first), of(rule, second));
        self.policy.restore(&policy)?;
        self.rule.restore(&rule)
    }
}
