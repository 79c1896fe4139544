//! Some samples of another set, without a copy of them.

use std::sync::Arc;

use crate::batch::InputsMut;
use crate::dataset::{Dataset, SampleKind};

/// A view of chosen samples of a set, in a chosen order.
#[derive(Clone)]
pub struct Subset {
    whole: Arc<dyn Dataset>,
    chosen: Vec<usize>,
}

impl Subset {
    /// The samples of `whole` at `chosen`.
    ///
    /// # Panics
    /// When an index is not below `whole.len()`.
    #[track_caller]
    pub fn new(whole: Arc<dyn Dataset>, chosen: Vec<usize>) -> Self {
        let len = whole.len();
        if let Some(beyond) = chosen.iter().find(|index| **index >= len) {
            panic!("sample {beyond} of a set of {len} was chosen");
        }
        Self { whole, chosen }
    }

    /// Indices of the samples in the whole set.
    pub fn chosen(&self) -> &[usize] {
        &self.chosen
    }
}

impl std::fmt::Debug for Subset {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Subset")
            .field("kind", self.whole.kind())
            .field("whole_len", &self.whole.len())
            .field("len", &self.chosen.len())
            .finish()
    }
}

/// Indices translated at a time, on the stack, so that a view costs no allocation.
const CHUNK: usize = 64;

impl Dataset for Subset {
    fn len(&self) -> usize {
        self.chosen.len()
    }

    fn kind(&self) -> &SampleKind {
        self.whole.kind()
    }

    fn write(&self, indices: &[usize], mut inputs: InputsMut<'_>, labels: &mut [u32]) {
        let kind = self.whole.kind();
        let (inputs_each, labels_each) = (kind.inputs_per_sample(), kind.labels_per_sample());
        assert_eq!(labels.len(), indices.len() * labels_each, "labels of {} samples", indices.len());
        let mut translated = [0; CHUNK];
        for (chunk, start) in indices.chunks(CHUNK).zip((0..).step_by(CHUNK)) {
            for (to, index) in translated.iter_mut().zip(chunk) {
                *to = self.chosen[*index];
            }
            let end = start + chunk.len();
            self.whole.write(
                &translated[..chunk.len()],
                inputs.part(start * inputs_each..end * inputs_each),
                &mut labels[start * labels_each..end * labels_each],
            );
        }
    }
}
