//! Any file as text for a language model: one token a byte.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use crate::batch::InputsMut;
use crate::dataset::{Dataset, SampleKind};
use crate::error::DataError;
use crate::files;
use crate::split::{Splits, rounded_share};

/// Which text, and how it is cut.
#[derive(Clone, Debug, PartialEq)]
pub struct TextOptions {
    /// The file; packed by gzip or not.
    pub path: PathBuf,
    /// Length of a sequence, in bytes. Default 128.
    pub context: usize,
    /// Share of the text, from its end, that is the test part: at least 0, less than 1. Default 0.05.
    pub test: f64,
}

impl TextOptions {
    /// The defaults for a file.
    pub fn new(path: impl Into<PathBuf>) -> Self {
        Self { path: path.into(), context: 128, test: 0.05 }
    }
}

/// Reads a text and cuts off its test part.
///
/// The two parts share no byte. The test part is a stretch of text and not chosen sequences, so
/// that no training sequence is from its middle.
///
/// # Errors
/// [`DataError::Read`], [`DataError::Empty`], [`DataError::Fraction`], [`DataError::TooLarge`], and
/// [`DataError::Context`] when a part is too short for one sequence.
pub(crate) fn open(options: &TextOptions) -> Result<Splits, DataError> {
    let bytes = files::open(&options.path)?.rest("text")?;
    parse(bytes, &options.path, options.context, options.test)
}

/// The same for a text in memory; `file` is for messages only.
pub(crate) fn parse(bytes: Vec<u8>, file: &Path, context: usize, test: f64) -> Result<Splits, DataError> {
    if !(0.0..1.0).contains(&test) {
        return Err(DataError::Fraction { field: "data.test", got: test });
    }
    if bytes.is_empty() {
        return Err(DataError::Empty { file: file.to_path_buf(), need: "text" });
    }
    let bytes: Arc<[u8]> = bytes.into();
    let cut = bytes.len() - rounded_share(bytes.len(), test);
    let train = Text::new(Arc::clone(&bytes), 0..cut, context)?;
    let test = Text::new(Arc::clone(&bytes), cut..bytes.len(), context)?;
    Ok(Splits::new(Arc::new(train), Arc::new(test)))
}

/// A stretch of text, cut into sequences of bytes that do not overlap.
///
/// Sample `i` of context `c` has bytes `i c .. (i + 1) c` as inputs and `i c + 1 .. (i + 1) c + 1`
/// as labels; bytes at the end that make no whole sequence are not used.
#[derive(Clone)]
pub struct Text {
    kind: SampleKind,
    bytes: Arc<[u8]>,
    start: usize,
    context: usize,
    len: usize,
}

impl Text {
    /// Number of different bytes.
    pub const VOCAB: usize = 256;

    /// The sequences of `bytes[range]`.
    ///
    /// # Errors
    /// [`DataError::Context`] when the range is too short for one sequence, and for a context of 0.
    ///
    /// # Panics
    /// When the range reaches past the end.
    #[track_caller]
    pub fn new(bytes: Arc<[u8]>, range: std::ops::Range<usize>, context: usize) -> Result<Self, DataError> {
        let stretch = &bytes[range.clone()];
        // the last sequence needs one byte more, for its last label
        let most = stretch.len().saturating_sub(1);
        if context == 0 || context > most {
            return Err(DataError::Context { got: context, most, bytes: stretch.len() });
        }
        let kind = SampleKind::Language { vocab: Self::VOCAB, context };
        Ok(Self { kind, start: range.start, context, len: most / context, bytes })
    }
}

impl std::fmt::Debug for Text {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Text").field("kind", &self.kind).field("len", &self.len).finish()
    }
}

impl Dataset for Text {
    fn len(&self) -> usize {
        self.len
    }

    fn kind(&self) -> &SampleKind {
        &self.kind
    }

    fn write(&self, indices: &[usize], inputs: InputsMut<'_>, labels: &mut [u32]) {
        let tokens = inputs.expect_tokens();
        assert_eq!(tokens.len(), indices.len() * self.context, "tokens of {} sequences", indices.len());
        assert_eq!(labels.len(), tokens.len(), "labels of {} sequences", indices.len());
        let outputs = tokens.chunks_exact_mut(self.context).zip(labels.chunks_exact_mut(self.context));
        for (index, (tokens, labels)) in indices.iter().zip(outputs) {
            assert!(*index < self.len, "sequence {index} of {}", self.len);
            let window = &self.bytes[self.start + index * self.context..][..=self.context];
            for ((token, label), bytes) in tokens.iter_mut().zip(labels).zip(window.windows(2)) {
                (*token, *label) = (u32::from(bytes[0]), u32::from(bytes[1]));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::parse;
    use crate::batch::BatchBuffers;
    use crate::error::DataError;

    /// 20 bytes, the last 5 for the test: 0..15 gives 3 sequences of 4 (the third needs byte 12 for its
    /// last label), 15..20 gives one; sequence 3 of the whole text would cross the cut.
    #[test]
    fn sequences_stay_on_their_side_of_the_cut() {
        let parts = parse((100..120).collect(), Path::new("text"), 4, 0.25).unwrap();
        assert_eq!((parts.train.len(), parts.test.len()), (3, 1));
        let mut buffers = BatchBuffers::default();
        parts.train.fill(&[2, 0], &mut buffers);
        assert_eq!(buffers.tokens(), [108, 109, 110, 111, 100, 101, 102, 103]);
        assert_eq!(buffers.labels(), [109, 110, 111, 112, 101, 102, 103, 104]);
        parts.test.fill(&[0], &mut buffers);
        assert_eq!(buffers.tokens(), [115, 116, 117, 118]);
        assert_eq!(buffers.labels(), [116, 117, 118, 119]);
    }

    #[test]
    fn a_text_too_short_names_the_longest_context() {
        let refused = |context, test| parse(vec![0; 20], Path::new("text"), context, test);
        assert!(matches!(refused(5, 0.25), Err(DataError::Context { got: 5, most: 4, bytes: 5 })));
        assert!(matches!(refused(0, 0.25), Err(DataError::Context { got: 0, .. })));
        assert!(matches!(refused(4, 0.0), Err(DataError::Context { most: 0, bytes: 0, .. })));
        assert!(matches!(refused(4, 1.0), Err(DataError::Fraction { field: "data.test", .. })));
        assert!(matches!(parse(vec![], Path::new("text"), 4, 0.25), Err(DataError::Empty { .. })));
    }
}
