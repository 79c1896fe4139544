//! The batch that keeps its size.

use phalanx_comm::Agreed;
use phalanx_grad::{BatchContext, BatchDecision, BatchPolicy, GradError, Needs, PolicyState, ScalarBlock};

const NAME: &str = "constant";
const VERSION: u32 = 1;

/// Keeps the batch as it is, looks at no statistic and has no state.
///
/// # Examples
/// ```
/// use phalanx_batch::Constant;
/// use phalanx_grad::{BatchContext, BatchPolicy, Needs};
/// let context = BatchContext { step: 1, samples: 64, total: 6400, batch: 64, max_batch: 512, ranks: 1, lr: 0.1 };
/// assert_eq!(Constant.needs(&context), Needs::default());
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Constant;

impl BatchPolicy for Constant {
    fn name(&self) -> &'static str {
        NAME
    }

    fn needs(&self, _context: &BatchContext) -> Needs {
        Needs::default()
    }

    fn decide(
        &mut self,
        _statistics: &Agreed<ScalarBlock>,
        context: &BatchContext,
    ) -> Result<BatchDecision, GradError> {
        Ok(BatchDecision::of(context.batch))
    }

    fn state(&self) -> PolicyState {
        PolicyState { version: VERSION, bytes: Vec::new() }
    }

    fn restore(&mut self, state: &PolicyState) -> Result<(), GradError> {
        match (state.version, state.bytes.len()) {
            (VERSION, 0) => Ok(()),
            (version, len) => Err(GradError::PolicyState { owner: NAME, version, len, need: VERSION }),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_state_of_another_policy_is_refused() {
        assert_eq!(Constant.restore(&Constant.state()), Ok(()));
        let foreign = PolicyState { version: VERSION, bytes: vec![0; 8] };
        let refused = GradError::PolicyState { owner: "constant", version: 1, len: 8, need: 1 };
        assert_eq!(Constant.restore(&foreign), Err(refused));
        let later = PolicyState { version: VERSION + 1, bytes: Vec::new() };
        assert!(Constant.restore(&later).is_err());
    }
}
