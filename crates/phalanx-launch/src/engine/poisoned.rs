//! Training data as a rank that flips labels reads them.

use std::sync::Arc;

use phalanx_data::{Dataset, InputsMut, SampleKind};
use phalanx_robust::attack::LabelFlip;

/// A data set with wrong labels.
#[derive(Clone)]
pub(super) struct Poisoned {
    data: Arc<dyn Dataset>,
    flip: LabelFlip,
}

impl Poisoned {
    pub(super) fn new(data: Arc<dyn Dataset>, flip: LabelFlip) -> Self {
        Poisoned { data, flip }
    }
}

impl Dataset for Poisoned {
    fn len(&self) -> usize {
        self.data.len()
    }

    fn kind(&self) -> &SampleKind {
        self.data.kind()
    }

    fn write(&self, indices: &[usize], inputs: InputsMut<'_>, labels: &mut [u32]) {
        self.data.write(indices, inputs, labels);
        let classes = u32::try_from(self.kind().outputs()).unwrap_or(u32::MAX);
        labels.iter_mut().for_each(|label| *label = self.flip.label(*label, classes));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use phalanx_data::{BatchBuffers, Source};

    #[test]
    fn only_labels_change() {
        let data = Source::Digits.open().expect("they come with the crate").train;
        let (mut honest, mut wrong) = (BatchBuffers::default(), BatchBuffers::default());
        data.fill(&[3, 5, 700], &mut honest);
        Poisoned::new(data, LabelFlip::Mirror).fill(&[3, 5, 700], &mut wrong);
        assert_eq!(honest.features(), wrong.features());
        assert!(honest.labels().iter().zip(wrong.labels()).all(|(label, wrong)| label + wrong == 9));
    }
}
