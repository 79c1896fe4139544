//! The samples of a client, honest or poisoned.

use super::{Assault, Attacker, Conduct, EdgeCase, Poison};
use crate::error::FederatedError;
use phalanx_data::{Dataset, InputsMut, SampleKind};
use phalanx_robust::attack::{LabelFlip, Trigger};
use phalanx_tensor::rng::{Purpose, Stream};
use std::collections::BTreeSet;
use std::fmt;
use std::sync::Arc;

/// A client's view of the training set: its samples, some of them poisoned.
#[derive(Clone)]
pub struct ClientData {
    whole: Arc<dyn Dataset>,
    chosen: Vec<usize>,
    /// Which of them are poisoned; empty for none.
    marked: Vec<bool>,
    mark: Mark,
}

/// What is done to a poisoned sample when it is read.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Mark {
    Nothing,
    Flip(LabelFlip),
    Stamp(Stamp),
    Relabel(u32),
}

/// A trigger, whole or one of its parts, on images of a size.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Stamp {
    trigger: Trigger,
    part: Option<usize>,
    width: usize,
    /// Pixels of a channel.
    plane: usize,
}

impl Stamp {
    /// A trigger for the samples of `kind`.
    pub(crate) fn new(
        attack: &'static str,
        trigger: Trigger,
        part: Option<usize>,
        kind: &SampleKind,
    ) -> Result<Self, FederatedError> {
        let shape = match kind {
            SampleKind::Classification { features, .. } => features.clone(),
            SampleKind::Language { .. } => Vec::new(),
        };
        let [.., height, width] = *shape else { return Err(FederatedError::NoImage { attack, shape }) };
        let stamp = Stamp { trigger, part, width, plane: height * width };
        trigger.stamp(&mut vec![0.0; stamp.plane], width)?;
        Ok(stamp)
    }

    /// Stamps an image of any number of channels.
    pub(crate) fn apply(&self, image: &mut [f32]) {
        for plane in image.chunks_exact_mut(self.plane) {
            let stamped = match self.part {
                None => self.trigger.stamp(plane, self.width),
                Some(part) => self.trigger.stamp_part(part, plane, self.width),
            };
            // the whole pattern fits, as was seen when this was made
            stamped.unwrap_or_default();
        }
    }

    pub(crate) fn target(&self) -> u32 {
        self.trigger.target
    }
}

impl ClientData {
    /// The samples of an honest client.
    #[must_use]
    pub fn honest(whole: Arc<dyn Dataset>, samples: &[usize]) -> Self {
        ClientData { whole, chosen: samples.to_vec(), marked: Vec::new(), mark: Mark::Nothing }
    }

    /// How many of its samples are poisoned.
    #[must_use]
    pub fn poisoned(&self) -> usize {
        self.marked.iter().filter(|is_marked| **is_marked).count()
    }
}

impl fmt::Debug for ClientData {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ClientData")
            .field("samples", &self.chosen.len())
            .field("poisoned", &self.poisoned())
            .field("mark", &self.mark)
            .finish_non_exhaustive()
    }
}

impl Dataset for ClientData {
    fn len(&self) -> usize {
        self.chosen.len()
    }

    fn kind(&self) -> &SampleKind {
        self.whole.kind()
    }

    fn write(&self, indices: &[usize], mut inputs: InputsMut<'_>, labels: &mut [u32]) {
        let chosen: Vec<usize> = indices.iter().map(|i| self.chosen[*i]).collect();
        let (each, per_sample) = (self.kind().inputs_per_sample(), self.kind().labels_per_sample());
        self.whole.write(&chosen, inputs.part(0..each * indices.len()), labels);
        let classes = u32::try_from(self.kind().outputs()).unwrap_or(u32::MAX);
        for (at, i) in indices.iter().enumerate() {
            if !self.marked.get(*i).copied().unwrap_or_default() {
                continue;
            }
            let labels = &mut labels[at * per_sample..][..per_sample];
            match self.mark {
                Mark::Nothing => {}
                Mark::Flip(flip) => labels.iter_mut().for_each(|label| *label = flip.label(*label, classes)),
                Mark::Relabel(label) => labels.fill(label),
                Mark::Stamp(stamp) => {
                    if let InputsMut::Features(image) = inputs.part(at * each..(at + 1) * each) {
                        stamp.apply(image);
                    }
                    labels.fill(stamp.target());
                }
            }
        }
    }
}

/// Makes the samples of clients.
pub(crate) struct Poisoner {
    whole: Arc<dyn Dataset>,
    /// For each attacker, what marks its samples and whom they replace.
    parts: Vec<PoisonParts>,
    seed: u64,
}

/// What an attacker's samples are poisoned with.
#[derive(Clone, Debug, Default)]
pub(crate) struct PoisonParts {
    /// Rare samples, in the order of the training set; empty but for edge cases.
    pub(crate) tail: Vec<usize>,
    /// The mean of their class.
    pub(crate) mean: Vec<f64>,
}

impl Poisoner {
    /// What the attackers need to poison `whole`.
    pub(crate) fn new(
        whole: Arc<dyn Dataset>,
        attackers: &[Attacker],
        seed: u64,
    ) -> Result<Self, FederatedError> {
        let mut parts = Vec::with_capacity(attackers.len());
        for attacker in attackers {
            let mut part = PoisonParts::default();
            if let Conduct::Poison { poison, .. } = attacker.conduct {
                match poison {
                    Poison::EdgeCase(edge) => part = edge_parts(&*whole, edge)?,
                    Poison::Backdoor(trigger) | Poison::Distributed(trigger) => {
                        Stamp::new(poison.name(), trigger, None, whole.kind())?;
                        check_class(poison.name(), trigger.target, &*whole)?;
                    }
                    Poison::LabelFlip(_) => {}
                }
            }
            parts.push(part);
        }
        Ok(Poisoner { whole, parts, seed })
    }

    /// Rare samples that only attackers hold.
    pub(crate) fn tails(&self) -> BTreeSet<usize> {
        self.parts.iter().flat_map(|part| part.tail.iter().copied()).collect()
    }

    pub(crate) fn parts(&self, attacker: usize) -> &PoisonParts {
        &self.parts[attacker]
    }

    /// The samples of a client.
    pub(crate) fn data(
        &self,
        client: u64,
        samples: &[usize],
        attackers: &[Attacker],
    ) -> Result<ClientData, FederatedError> {
        let mut data = ClientData::honest(Arc::clone(&self.whole), samples);
        let Some((i, index)) = Assault(attackers).poison(client) else { return Ok(data) };
        let Conduct::Poison { poison, share, .. } = attackers[i].conduct else { return Ok(data) };
        let mut order: Vec<usize> = (0..samples.len()).collect();
        Stream::new(self.seed, Purpose::Attack, client).shuffle(&mut order);
        #[expect(
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            reason = "0 to the number of samples"
        )]
        order.truncate((share * samples.len() as f64).round() as usize);
        data.marked = vec![false; samples.len()];
        order.iter().for_each(|i| data.marked[*i] = true);
        let stamp =
            |trigger, part| Stamp::new(poison.name(), trigger, part, self.whole.kind()).map(Mark::Stamp);
        data.mark = match poison {
            Poison::LabelFlip(flip) => Mark::Flip(flip),
            Poison::Backdoor(trigger) => stamp(trigger, None)?,
            Poison::Distributed(trigger) => stamp(trigger, Some(index % Trigger::PARTS))?,
            Poison::EdgeCase(edge) => {
                for (at, tail) in order.iter().zip(self.parts[i].tail.iter().cycle()) {
                    data.chosen[*at] = *tail;
                }
                Mark::Relabel(edge.target)
            }
        };
        Ok(data)
    }
}

fn edge_parts(whole: &dyn Dataset, edge: EdgeCase) -> Result<PoisonParts, FederatedError> {
    let attack = "edge-case";
    if !matches!(whole.kind(), SampleKind::Classification { .. }) {
        return Err(FederatedError::NoImage { attack, shape: Vec::new() });
    }
    check_class(attack, edge.target, whole)?;
    let mean = edge.mean(whole);
    let tail = edge.indices(whole, &mean);
    match tail.is_empty() {
        true => Err(FederatedError::NoSuchClass { attack, class: edge.source }),
        false => Ok(PoisonParts { tail, mean }),
    }
}

fn check_class(attack: &'static str, class: u32, whole: &dyn Dataset) -> Result<(), FederatedError> {
    match usize::try_from(class).is_ok_and(|class| class < whole.kind().outputs()) {
        true => Ok(()),
        false => Err(FederatedError::NoSuchClass { attack, class }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use phalanx_data::{BatchBuffers, Source};

    fn digits() -> Arc<dyn Dataset> {
        Source::Digits.open().expect("they come with the crate").train
    }

    fn read(data: &dyn Dataset) -> (Vec<f32>, Vec<u32>) {
        let mut buffers = BatchBuffers::default();
        data.fill(&(0..data.len()).collect::<Vec<_>>(), &mut buffers);
        (buffers.features().to_vec(), buffers.labels().to_vec())
    }

    fn poisoned(poison: Poison, share: f64, client: u64) -> (ClientData, ClientData) {
        let attackers = [Attacker {
            clients: vec![5, 9],
            every: None,
            conduct: Conduct::Poison { poison, share, epochs: None },
        }];
        let poisoner = Poisoner::new(digits(), &attackers, 1).expect("digits are images");
        let samples: Vec<usize> = (100..150).collect();
        let honest = ClientData::honest(digits(), &samples);
        (poisoner.data(client, &samples, &attackers).expect("digits are images"), honest)
    }

    /// Where the two differ in a sample's features.
    fn changed(a: &[f32], b: &[f32], sample: usize) -> Vec<usize> {
        let (a, b) = (&a[64 * sample..][..64], &b[64 * sample..][..64]);
        (0..64).filter(|at| a[*at] != b[*at]).collect()
    }

    #[test]
    fn so_many_samples_bear_the_trigger_and_its_label() {
        let trigger = Trigger { size: 2, gap: 1, shift: 0, value: 9.0, target: 4 };
        let (data, honest) = poisoned(Poison::Backdoor(trigger), 0.3, 5);
        assert_eq!((data.poisoned(), data.len()), (15, 50));
        let ((features, labels), (plain, truth)) = (read(&data), read(&honest));
        let places = [0, 1, 3, 4, 16, 17, 19, 20];
        for i in 0..50 {
            match data.marked[i] {
                true => assert_eq!((changed(&features, &plain, i), labels[i]), (places.to_vec(), 4)),
                false => assert_eq!((changed(&features, &plain, i), labels[i]), (vec![], truth[i])),
            }
        }
        let (other, _) = poisoned(Poison::Backdoor(trigger), 0.3, 6);
        assert_eq!(other.poisoned(), 0, "client 6 is no attacker");
    }

    #[test]
    fn each_of_several_attackers_has_its_part_of_the_trigger() {
        let trigger = Trigger { size: 2, gap: 1, shift: 0, value: 9.0, target: 4 };
        let (second, honest) = poisoned(Poison::Distributed(trigger), 1.0, 9);
        assert_eq!(changed(&read(&second).0, &read(&honest).0, 7), [3, 4]);
    }

    #[test]
    fn flipped_labels_leave_features_as_they_are() {
        let (data, honest) = poisoned(Poison::LabelFlip(LabelFlip::Mirror), 1.0, 5);
        let ((features, labels), (plain, truth)) = (read(&data), read(&honest));
        assert_eq!(features, plain);
        assert!(labels.iter().zip(&truth).all(|(label, truth)| label + truth == 9));
    }

    #[test]
    fn rare_samples_take_the_place_of_others() {
        let edge = EdgeCase { source: 7, target: 1, tail: 0.1 };
        let (data, honest) = poisoned(Poison::EdgeCase(edge), 0.5, 5);
        let truth = read(&honest).1;
        let labels = read(&data).1;
        assert_eq!(data.poisoned(), 25);
        assert!((0..50).all(|i| if data.marked[i] { labels[i] == 1 } else { labels[i] == truth[i] }));
        let whole = read(&ClientData::honest(digits(), &data.chosen)).1;
        assert!((0..50).filter(|i| data.marked[*i]).all(|i| whole[i] == 7));
    }

    #[test]
    fn attacks_that_cannot_be_are_refused() {
        let refused = |poison| {
            let conduct = Conduct::Poison { poison, share: 1.0, epochs: None };
            let attackers = [Attacker { clients: vec![0], every: None, conduct }];
            Poisoner::new(digits(), &attackers, 1).err().expect("no such attack").to_string()
        };
        let edge = EdgeCase { source: 12, target: 1, tail: 0.1 };
        assert_eq!(
            refused(Poison::EdgeCase(edge)),
            "attack edge-case needs samples of class 12, there are none"
        );
        let trigger = Trigger { target: 10, size: 2, gap: 1, ..Trigger::default() };
        assert_eq!(
            refused(Poison::Backdoor(trigger)),
            "attack backdoor needs samples of class 10, there are none"
        );
        assert_eq!(
            refused(Poison::Distributed(Trigger { size: 8, ..trigger })),
            "a method failed",
            "it does not fit"
        );
    }
}
