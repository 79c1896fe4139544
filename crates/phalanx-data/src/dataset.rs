//! What the training loop needs to know of data: how many samples, of what form, and their values.

use crate::batch::{BatchBuffers, InputsMut};

/// The form of the samples of a data set.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SampleKind {
    /// Real features and one class a sample.
    Classification {
        /// Shape of one sample, outermost dim first: `[channels, height, width]` for an image,
        /// `[n]` for a row of a table.
        features: Vec<usize>,
        /// Number of classes; labels are in `0..classes`.
        classes: usize,
    },
    /// Sequences of tokens, and at each position the token that follows.
    Language {
        /// Number of tokens; ids are in `0..vocab`.
        vocab: usize,
        /// Length of a sequence, in tokens.
        context: usize,
    },
}

impl SampleKind {
    /// Input values a sample has: features or tokens.
    pub fn inputs_per_sample(&self) -> usize {
        match self {
            Self::Classification { features, .. } => features.iter().product(),
            Self::Language { context, .. } => *context,
        }
    }

    /// Labels a sample has: 1, or one for each token.
    pub fn labels_per_sample(&self) -> usize {
        match self {
            Self::Classification { .. } => 1,
            Self::Language { context, .. } => *context,
        }
    }

    /// Number of values a label can have: classes or vocabulary.
    pub fn outputs(&self) -> usize {
        match self {
            Self::Classification { classes, .. } => *classes,
            Self::Language { vocab, .. } => *vocab,
        }
    }
}

/// Samples in memory, in a fixed order, that any rank may read at any time.
///
/// Implementors give [`len`](Self::len), [`kind`](Self::kind) and [`write`](Self::write); callers
/// mostly want [`fill`](Self::fill).
///
/// # Examples
/// A data set of one's own:
/// ```
/// use phalanx_data::{BatchBuffers, Dataset, InputsMut, SampleKind};
///
/// /// Is the number even? Sample `i` is the number `i`.
/// struct Parity(SampleKind);
///
/// impl Dataset for Parity {
///     fn len(&self) -> usize {
///         100
///     }
///     fn kind(&self) -> &SampleKind {
///         &self.0
///     }
///     fn write(&self, indices: &[usize], inputs: InputsMut<'_>, labels: &mut [u32]) {
///         let features = inputs.expect_features();
///         for ((index, feature), label) in indices.iter().zip(features).zip(labels) {
///             *feature = *index as f32;
///             *label = u32::from(index % 2 == 0);
///         }
///     }
/// }
///
/// let parity = Parity(SampleKind::Classification { features: vec![1], classes: 2 });
/// let mut buffers = BatchBuffers::default();
/// parity.fill(&[4, 7], &mut buffers);
/// assert_eq!((buffers.features(), buffers.labels()), (&[4.0, 7.0][..], &[1, 0][..]));
/// ```
pub trait Dataset: Send + Sync {
    /// Number of samples; at least one in every set that this crate opens.
    fn len(&self) -> usize;

    /// The form of every sample.
    fn kind(&self) -> &SampleKind;

    /// Writes the samples at `indices`, one after the other, ready for a model.
    ///
    /// # Shapes
    /// `inputs`: `indices.len() x inputs_per_sample`; `labels`: `indices.len() x labels_per_sample`,
    /// see [`SampleKind`].
    ///
    /// # Panics
    /// When an index is not below [`len`](Self::len), when a slice has another length, or when
    /// `inputs` is not of the [`kind`](Self::kind).
    fn write(&self, indices: &[usize], inputs: InputsMut<'_>, labels: &mut [u32]);

    /// Whether there are no samples.
    fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Makes `out` hold the samples at `indices`, and nothing else.
    ///
    /// Allocates only where `out` has never held as many samples.
    ///
    /// # Panics
    /// When an index is not below [`len`](Self::len).
    fn fill(&self, indices: &[usize], out: &mut BatchBuffers) {
        let (inputs, labels) = out.prepare(self.kind(), indices.len());
        self.write(indices, inputs, labels);
    }
}
