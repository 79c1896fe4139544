//! The samples that show how far a backdoor opens.

use super::client_data::Stamp;
use super::{Attacker, Conduct, Poison, Poisoner};
use crate::error::FederatedError;
use phalanx_data::{Dataset, InputsMut, SampleKind, labels};
use std::fmt;
use std::sync::Arc;

/// Test samples as the attacker would show them, with the label that it wants: the accuracy on them is that of the backdoor.
///
/// For a trigger, whole, these are the test samples of other classes than the target; for edge cases, the tail of the class in
/// the test set.
#[derive(Clone)]
pub struct Backdoor {
    test: Arc<dyn Dataset>,
    chosen: Vec<usize>,
    target: u32,
    stamp: Option<Stamp>,
}

impl Backdoor {
    /// The backdoor of the first attacker that opens one; label flips open none.
    pub(crate) fn of(
        test: &Arc<dyn Dataset>,
        attackers: &[Attacker],
        poisoner: &Poisoner,
    ) -> Result<Option<Self>, FederatedError> {
        for (i, attacker) in attackers.iter().enumerate() {
            let Conduct::Poison { poison, .. } = attacker.conduct else { continue };
            let test = Arc::clone(test);
            let backdoor = match poison {
                Poison::Backdoor(trigger) | Poison::Distributed(trigger) => {
                    let stamp = Stamp::new(poison.name(), trigger, None, test.kind())?;
                    let others = (0..).zip(labels(&*test)).filter(|(_, label)| *label != trigger.target);
                    let chosen = others.map(|(i, _)| i).collect();
                    Backdoor { test, chosen, target: trigger.target, stamp: Some(stamp) }
                }
                Poison::EdgeCase(edge) => {
                    let chosen = edge.indices(&*test, &poisoner.parts(i).mean);
                    Backdoor { test, chosen, target: edge.target, stamp: None }
                }
                Poison::LabelFlip(_) => continue,
            };
            // a test set without such a sample shows nothing
            return Ok((!backdoor.is_empty()).then_some(backdoor));
        }
        Ok(None)
    }
}

impl fmt::Debug for Backdoor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Backdoor")
            .field("samples", &self.chosen.len())
            .field("target", &self.target)
            .field("stamp", &self.stamp)
            .finish_non_exhaustive()
    }
}

impl Dataset for Backdoor {
    fn len(&self) -> usize {
        self.chosen.len()
    }

    fn kind(&self) -> &SampleKind {
        self.test.kind()
    }

    fn write(&self, indices: &[usize], mut inputs: InputsMut<'_>, labels: &mut [u32]) {
        let chosen: Vec<usize> = indices.iter().map(|i| self.chosen[*i]).collect();
        let each = self.kind().inputs_per_sample();
        self.test.write(&chosen, inputs.part(0..each * chosen.len()), labels);
        labels.fill(self.target);
        if let (Some(stamp), InputsMut::Features(images)) = (self.stamp, inputs) {
            images.chunks_exact_mut(each).for_each(|image| stamp.apply(image));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use phalanx_data::{BatchBuffers, Source};
    use phalanx_robust::attack::{LabelFlip, Trigger};

    #[test]
    fn every_sample_is_stamped_and_none_has_the_target_by_itself() {
        let digits = Source::Digits.open().expect("they come with the crate");
        let of = |poison| {
            let conduct = Conduct::Poison { poison, share: 0.5, epochs: None };
            let attackers = [Attacker { clients: vec![0], every: None, conduct }];
            let poisoner = Poisoner::new(Arc::clone(&digits.train), &attackers, 1).expect("images");
            Backdoor::of(&digits.test, &attackers, &poisoner).expect("images")
        };
        let trigger = Trigger { size: 2, gap: 1, shift: 0, value: 9.0, target: 4 };
        let backdoor = of(Poison::Distributed(trigger)).expect("a backdoor");
        let fours = labels(&*digits.test).iter().filter(|label| **label == 4).count();
        assert_eq!(backdoor.len(), digits.test.len() - fours);
        let mut buffers = BatchBuffers::default();
        backdoor.fill(&[0, 5], &mut buffers);
        assert_eq!(buffers.labels(), [4, 4]);
        for image in buffers.features().chunks(64) {
            assert!([0, 1, 3, 4, 16, 17, 19, 20].iter().all(|at| image[*at] == 9.0), "all four parts");
        }
        assert!(of(Poison::LabelFlip(LabelFlip::Next)).is_none());
    }
}
