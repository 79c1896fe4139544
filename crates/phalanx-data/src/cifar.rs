//! CIFAR-10 in its binary format: records of one label and 3 x 32 x 32 bytes.
//!
//! # Reference
//! Krizhevsky, "Learning multiple layers of features from tiny images", 2009, and the page of the
//! set (`cifar-10-batches-bin`).

use std::path::{Path, PathBuf};
use std::sync::Arc;

use crate::error::DataError;
use crate::files;
use crate::images::{Images, Normalise};
use crate::split::Splits;

/// Which files of CIFAR-10.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CifarOptions {
    /// Files of training records, one after the other.
    pub train: Vec<PathBuf>,
    /// The file of test records.
    pub test: PathBuf,
}

impl CifarOptions {
    /// `data_batch_1.bin` to `data_batch_5.bin` and `test_batch.bin` in `folder`.
    pub fn in_folder(folder: &Path) -> Self {
        let train = (1..=5).map(|batch| folder.join(format!("data_batch_{batch}.bin"))).collect();
        Self { train, test: folder.join("test_batch.bin") }
    }
}

/// Images and labels of a file.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Records {
    /// `n x 3 x 32 x 32`: red, green, blue, each row by row.
    pub pixels: Vec<u8>,
    /// `n`, each under 10.
    pub labels: Vec<u8>,
}

const CLASSES: usize = 10;
const CHANNELS: usize = 3;
const SIDE: usize = 32;
const PIXELS: usize = CHANNELS * SIDE * SIDE;

/// Takes the records of one file apart; `file` is for messages only.
///
/// # Errors
/// [`DataError::Empty`], [`DataError::Truncated`] in the last record, [`DataError::Label`].
pub fn parse(bytes: &[u8], file: &Path) -> Result<Records, DataError> {
    let mut records = Records::default();
    parse_into(bytes, file, &mut records)?;
    Ok(records)
}

pub(crate) fn open(options: &CifarOptions) -> Result<Splits, DataError> {
    let mut train = Records::default();
    for file in &options.train {
        parse_into(&files::open(file)?.rest("records")?, file, &mut train)?;
    }
    let test = parse(&files::open(&options.test)?.rest("records")?, &options.test)?;
    let normalise = Normalise::measured(&train.pixels, CHANNELS, SIDE * SIDE, 255.0);
    let images = |records: Records| {
        let shape = vec![CHANNELS, SIDE, SIDE];
        Images::new(records.pixels, records.labels, shape, CLASSES, &normalise)
    };
    Ok(Splits::new(Arc::new(images(train)?), Arc::new(images(test)?)))
}

fn parse_into(bytes: &[u8], file: &Path, records: &mut Records) -> Result<(), DataError> {
    const RECORD: usize = 1 + PIXELS;
    if bytes.is_empty() {
        return Err(DataError::Empty { file: file.to_path_buf(), need: "records" });
    }
    let left = bytes.len() % RECORD;
    if left != 0 {
        return Err(DataError::Truncated {
            file: file.to_path_buf(),
            field: "record",
            offset: (bytes.len() - left) as u64,
            got: left as u64,
            need: RECORD as u64,
        });
    }
    records.pixels.reserve_exact(bytes.len() / RECORD * PIXELS);
    for (sample, record) in (0..).zip(bytes.chunks_exact(RECORD)) {
        let label = record[0];
        if usize::from(label) >= CLASSES {
            return Err(DataError::Label {
                file: file.to_path_buf(),
                sample,
                got: label.into(),
                classes: CLASSES as u64,
            });
        }
        records.labels.push(label);
        records.pixels.extend_from_slice(&record[1..]);
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::{PIXELS, parse};
    use crate::batch::BatchBuffers;
    use crate::dataset::SampleKind;
    use crate::error::DataError;
    use crate::{CifarOptions, Source};

    /// A record whose three channels have the values `base`, `base + 1` and `base + 2`.
    fn record(label: u8, base: u8) -> Vec<u8> {
        let channels = (0..3).flat_map(|channel| vec![base + channel; PIXELS / 3]);
        std::iter::once(label).chain(channels).collect()
    }

    #[test]
    fn records_are_joined_over_files_and_normalised_by_channel() {
        let folder = tempfile::tempdir().unwrap();
        let options = CifarOptions::in_folder(folder.path());
        for (n, file) in (0..).zip(&options.train) {
            std::fs::write(file, record(n, 10 * n)).unwrap();
        }
        std::fs::write(&options.test, [record(9, 20), record(0, 20)].concat()).unwrap();
        let parts = Source::Cifar10(options).open().unwrap();
        assert_eq!((parts.train.len(), parts.test.len()), (5, 2));
        let kind = SampleKind::Classification { features: vec![3, 32, 32], classes: 10 };
        assert_eq!(parts.train.kind(), &kind);
        let mut buffers = BatchBuffers::default();
        // bases 0, 10, .. 40: mean 20, standard deviation sqrt(200), the same shift in each channel
        parts.train.fill(&[4], &mut buffers);
        assert_eq!(buffers.labels(), [4]);
        assert_eq!(buffers.features().len(), PIXELS);
        let expected = 20.0 / 200.0_f32.sqrt();
        assert!(buffers.features().iter().all(|feature| (feature - expected).abs() < 1e-5));
        parts.test.fill(&[0], &mut buffers);
        assert!(buffers.features().iter().all(|feature| feature.abs() < 1e-5));
    }

    #[test]
    fn bad_records_are_named() {
        let file = Path::new("data_batch_1.bin");
        assert!(matches!(parse(&[], file), Err(DataError::Empty { .. })));
        let short = [record(0, 0), vec![1, 2]].concat();
        assert!(matches!(
            parse(&short, file),
            Err(DataError::Truncated { offset: 3073, got: 2, need: 3073, .. })
        ));
        let wrong = [record(9, 0), record(10, 0)].concat();
        assert!(matches!(parse(&wrong, file), Err(DataError::Label { sample: 1, got: 10, classes: 10, .. })));
    }
}
