//! Where the samples of a batch are written: slices of the caller, or buffers that are kept.

use crate::dataset::SampleKind;

/// The inputs of a batch, as memory to write to.
#[derive(Debug)]
pub enum InputsMut<'a> {
    /// Features of a classification set.
    Features(&'a mut [f32]),
    /// Token ids of a language set.
    Tokens(&'a mut [u32]),
}

impl<'a> InputsMut<'a> {
    /// The features.
    ///
    /// # Panics
    /// When these are tokens.
    #[track_caller]
    pub fn expect_features(self) -> &'a mut [f32] {
        match self {
            Self::Features(features) => features,
            Self::Tokens(_) => panic!("a set with features was given memory for tokens"),
        }
    }

    /// The token ids.
    ///
    /// # Panics
    /// When these are features.
    #[track_caller]
    pub fn expect_tokens(self) -> &'a mut [u32] {
        match self {
            Self::Tokens(tokens) => tokens,
            Self::Features(_) => panic!("a set with tokens was given memory for features"),
        }
    }

    /// The part of the inputs in `range`, counted in values.
    ///
    /// # Panics
    /// When the range reaches past the end.
    #[track_caller]
    pub fn part(&mut self, range: std::ops::Range<usize>) -> InputsMut<'_> {
        match self {
            Self::Features(features) => InputsMut::Features(&mut features[range]),
            Self::Tokens(tokens) => InputsMut::Tokens(&mut tokens[range]),
        }
    }
}

/// Memory for a batch, reused from step to step.
///
/// Filled by [`Dataset::fill`](crate::Dataset::fill), which see for an example.
#[derive(Clone, Debug, Default)]
pub struct BatchBuffers {
    features: Vec<f32>,
    tokens: Vec<u32>,
    labels: Vec<u32>,
    samples: usize,
}

impl BatchBuffers {
    /// Buffers that hold `samples` samples of `kind` without allocating again.
    pub fn with_capacity(kind: &SampleKind, samples: usize) -> Self {
        let mut buffers = Self::default();
        buffers.prepare(kind, samples);
        buffers.samples = 0;
        buffers
    }

    /// Number of samples held.
    pub fn len(&self) -> usize {
        self.samples
    }

    /// Whether no sample is held.
    pub fn is_empty(&self) -> bool {
        self.samples == 0
    }

    /// Features, `len x inputs_per_sample`; empty for a language set.
    pub fn features(&self) -> &[f32] {
        &self.features
    }

    /// Token ids, `len x context`; empty for a classification set.
    pub fn tokens(&self) -> &[u32] {
        &self.tokens
    }

    /// Classes, `len`, or the tokens that follow, `len x context`.
    pub fn labels(&self) -> &[u32] {
        &self.labels
    }

    /// Takes the lengths of `samples` samples of `kind`; what the memory holds is left to the writer.
    pub(crate) fn prepare(&mut self, kind: &SampleKind, samples: usize) -> (InputsMut<'_>, &mut [u32]) {
        let inputs = samples * kind.inputs_per_sample();
        self.samples = samples;
        self.labels.resize(samples * kind.labels_per_sample(), 0);
        let inputs = match kind {
            SampleKind::Classification { .. } => {
                self.tokens.clear();
                self.features.resize(inputs, 0.0);
                InputsMut::Features(&mut self.features)
            }
            SampleKind::Language { .. } => {
                self.features.clear();
                self.tokens.resize(inputs, 0);
                InputsMut::Tokens(&mut self.tokens)
            }
        };
        (inputs, &mut self.labels)
    }
}
