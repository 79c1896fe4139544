//! The handwritten digits that come with the crate: 1,797 images of 8 x 8, 16 shades of grey.
//!
//! Source, citation and licence stand in `assets/README.md`.

use std::path::Path;
use std::sync::Arc;

use phalanx_tensor::rng::{Purpose, Stream};

use crate::error::DataError;
use crate::files::{self, Input};
use crate::images::{Images, Normalise};
use crate::split::{Splits, TEST, share, split_at_random};

/// Mean of all features, after division by 16.
pub const MEAN: f32 = 0.3053;
/// Standard deviation of all features, after division by 16.
pub const STD: f32 = 0.3760;
/// Share of the images that are the test part: 359 of them.
pub const TEST_SHARE: f64 = 0.2;
/// The seed that chooses them, whatever the seed of the run.
pub const SPLIT_SEED: u64 = 1797;

const PACKED: &[u8] = include_bytes!("../assets/digits.csv.gz");
const FILE: &str = "digits.csv.gz (built in)";
const SIDE: usize = 8;
const CLASSES: usize = 10;
const LARGEST: u8 = 16;

pub(crate) fn open() -> Result<Splits, DataError> {
    let file = Path::new(FILE);
    let reader =
        files::unpacked(PACKED).map_err(|source| DataError::Read { file: file.to_path_buf(), source })?;
    let images = parse(&Input::new(reader, file).rest("rows")?, file)?;
    let test_len = share("test", crate::Dataset::len(&images), TEST_SHARE)?;
    let stream = Stream::new(SPLIT_SEED, Purpose::Split, TEST);
    let (train, test) = split_at_random(Arc::new(images), test_len, stream);
    Ok(Splits::new(Arc::new(train), Arc::new(test)))
}

/// Rows of 64 values from 0 to 16 and a digit, separated by commas.
fn parse(bytes: &[u8], file: &Path) -> Result<Images, DataError> {
    let mut pixels = Vec::new();
    let mut labels = Vec::new();
    for (line, row) in (1..).zip(bytes.split(|byte| *byte == b'\n').filter(|row| !row.is_empty())) {
        let start = pixels.len();
        for (column, cell) in (1..).zip(row.split(|byte| *byte == b',')) {
            let value = std::str::from_utf8(cell).ok().and_then(|cell| cell.parse().ok());
            let value = value.filter(|value| *value <= LARGEST).ok_or_else(|| DataError::Cell {
                file: file.to_path_buf(),
                line,
                column,
                got: String::from_utf8_lossy(cell).chars().take(40).collect(),
                need: "a whole number from 0 to 16",
            })?;
            pixels.push(value);
        }
        let got = pixels.len() - start;
        if got != SIDE * SIDE + 1 {
            return Err(DataError::Ragged { file: file.to_path_buf(), line, got, need: SIDE * SIDE + 1 });
        }
        labels.extend(pixels.pop());
    }
    let normalise = Normalise { scale: LARGEST.into(), mean: vec![MEAN], std: vec![STD] };
    Images::new(pixels, labels, vec![1, SIDE, SIDE], CLASSES, &normalise)
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::{MEAN, STD, open, parse};
    use crate::batch::BatchBuffers;
    use crate::dataset::Dataset;
    use crate::error::DataError;

    #[test]
    fn every_digit_is_there_and_the_features_are_standard() {
        let parts = open().unwrap();
        assert_eq!((parts.train.len(), parts.test.len()), (1438, 359));
        let mut all = (Vec::new(), Vec::new());
        let mut buffers = BatchBuffers::default();
        for part in [parts.train, parts.test] {
            part.fill(&(0..part.len()).collect::<Vec<_>>(), &mut buffers);
            all.0.extend_from_slice(buffers.features());
            all.1.extend_from_slice(buffers.labels());
        }
        // the counts in the description of the set
        let counts: Vec<_> =
            (0..10).map(|digit| all.1.iter().filter(|label| **label == digit).count()).collect();
        assert_eq!(counts, [178, 182, 177, 183, 181, 182, 181, 179, 174, 180]);
        let n = all.0.len() as f64;
        let mean = all.0.iter().map(|x| f64::from(*x)).sum::<f64>() / n;
        let variance = all.0.iter().map(|x| (f64::from(*x) - mean).powi(2)).sum::<f64>() / n;
        assert!(mean.abs() < 1e-3 && (variance - 1.0).abs() < 1e-3, "{mean} {variance}");
    }

    /// The published accuracies are on this test part.
    #[test]
    fn the_test_part_is_pinned() {
        let parts = open().unwrap();
        let mut buffers = BatchBuffers::default();
        parts.test.fill(&[0, 1, 2, 3, 4, 5, 6, 7, 8, 9], &mut buffers);
        assert_eq!(buffers.labels(), [5, 7, 9, 7, 6, 8, 9, 9, 0, 2]);
    }

    #[test]
    fn sixteenths_are_standardised() {
        let row = format!("16,8{}\n", ",0".repeat(62) + ",9");
        let images = parse(row.as_bytes(), Path::new("digits")).unwrap();
        let mut buffers = BatchBuffers::default();
        images.fill(&[0], &mut buffers);
        assert_eq!(buffers.features()[..3], [(1.0 - MEAN) / STD, (0.5 - MEAN) / STD, (0.0 - MEAN) / STD]);
        assert_eq!(buffers.labels(), [9]);
    }

    #[test]
    fn damaged_rows_are_named() {
        let file = Path::new("digits");
        assert!(matches!(parse(b"1,2,3\n", file), Err(DataError::Ragged { line: 1, got: 3, need: 65, .. })));
        assert!(matches!(parse(b"1,17\n", file), Err(DataError::Cell { line: 1, column: 2, .. })));
        assert!(matches!(parse(b"", file), Err(DataError::NoSamples { .. })));
    }
}
