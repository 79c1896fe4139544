//! Image files as they lie on disk: made-up ones of every kind, and Fashion-MNIST where it is installed.
#![expect(clippy::unwrap_used, reason = "functions that tests call are tests")]

use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};

use flate2::Compression;
use flate2::write::GzEncoder;
use phalanx_data::{BatchBuffers, DataError, IdxFiles, IdxOptions, SampleKind, Source, Splits};

fn idx(dims: &[u32], values: &[u8]) -> Vec<u8> {
    let mut bytes = vec![0, 0, 8, u8::try_from(dims.len()).unwrap()];
    dims.iter().for_each(|dim| bytes.extend(dim.to_be_bytes()));
    bytes.extend(values);
    bytes
}

fn packed(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::fast());
    encoder.write_all(bytes).unwrap();
    encoder.finish().unwrap()
}

/// Two training images of 1 x 2 and one test image.
struct Folder(tempfile::TempDir);

impl Folder {
    fn new() -> Self {
        let folder = Self(tempfile::tempdir().unwrap());
        folder.put("train-images-idx3-ubyte", &idx(&[2, 1, 2], &[0, 51, 102, 255]));
        folder.put("train-labels-idx1-ubyte", &idx(&[2], &[0, 2]));
        folder.put("t10k-images-idx3-ubyte", &idx(&[1, 1, 2], &[255, 0]));
        folder.put("t10k-labels-idx1-ubyte", &idx(&[1], &[1]));
        folder
    }

    fn put(&self, name: &str, bytes: &[u8]) -> PathBuf {
        let path = self.0.path().join(name);
        fs::write(&path, bytes).unwrap();
        path
    }

    fn open(&self) -> Result<Splits, DataError> {
        Source::Idx(IdxOptions::in_folder(self.0.path())?).open()
    }
}

#[test]
fn mean_and_std_are_measured_or_given() {
    let folder = Folder::new();
    let splits = folder.open().unwrap();
    let kind = SampleKind::Classification { features: vec![1, 1, 2], classes: 3 };
    assert_eq!((splits.train.kind(), splits.test.kind()), (&kind, &kind));
    // 0, 0.2, 0.4, 1: mean 0.4, variance (0.16 + 0.04 + 0 + 0.36) / 4 = 0.14
    let mut buffers = BatchBuffers::default();
    splits.train.fill(&[1, 0], &mut buffers);
    let expected = [0.0, 0.6, -0.4, -0.2].map(|x: f32| x / 0.14_f32.sqrt());
    assert!(buffers.features().iter().zip(expected).all(|(x, y)| (x - y).abs() < 1e-6), "{buffers:?}");
    assert_eq!(buffers.labels(), [2, 0]);

    let mut options = IdxOptions::in_folder(folder.0.path()).unwrap();
    (options.mean, options.std, options.classes) = (Some(0.5), Some(0.25), Some(10));
    let splits = Source::Idx(options).open().unwrap();
    assert_eq!(splits.test.kind().outputs(), 10);
    splits.test.fill(&[0], &mut buffers);
    assert_eq!(buffers.features(), [2.0, -2.0]);
}

#[test]
fn packed_and_dotted_names_are_found() {
    let folder = Folder::new();
    let plain = folder.0.path().join("train-images-idx3-ubyte");
    let bytes = fs::read(&plain).unwrap();
    fs::remove_file(&plain).unwrap();
    assert!(matches!(folder.open(), Err(DataError::Missing { need: "train-images-idx3-ubyte", .. })));
    for (name, bytes) in [
        ("train-images-idx3-ubyte.gz", packed(&bytes)),
        ("train-images.idx3-ubyte", bytes.clone()),
        ("train-images.idx3-ubyte.gz", packed(&bytes)),
    ] {
        let path = folder.put(name, &bytes);
        assert_eq!(IdxFiles::in_folder(folder.0.path()).unwrap().train_images, path);
        assert_eq!(folder.open().unwrap().train.len(), 2, "{name}");
        fs::remove_file(path).unwrap();
    }
}

#[test]
fn images_with_channels_keep_them() {
    let folder = Folder::new();
    folder.put("train-images-idx3-ubyte", &idx(&[2, 3, 1, 2], &[7; 12]));
    folder.put("t10k-images-idx3-ubyte", &idx(&[1, 3, 1, 2], &[7; 6]));
    let splits = folder.open().unwrap();
    assert_eq!(splits.train.kind(), &SampleKind::Classification { features: vec![3, 1, 2], classes: 3 });
}

#[test]
fn what_is_wrong_with_a_file_is_named() {
    let good = idx(&[2, 1, 2], &[0, 51, 102, 255]);
    let with_images = |bytes: &[u8]| {
        let folder = Folder::new();
        folder.put("train-images-idx3-ubyte", bytes);
        folder.open().unwrap_err()
    };
    use DataError::{Empty, Magic, Read, TooLarge, Trailing, Truncated};
    assert!(matches!(with_images(&[]), Truncated { field: "magic number", got: 0, need: 4, .. }));
    assert!(matches!(with_images(&good[..6]), Truncated { field: "dims", offset: 4, got: 2, need: 4, .. }));
    assert!(matches!(
        with_images(&good[..18]),
        Truncated { field: "values", offset: 16, got: 2, need: 4, .. }
    ));
    assert!(matches!(with_images(&[&good[..], &[0]].concat()), Trailing { offset: 20, .. }));
    assert!(matches!(with_images(b"PK\x03\x04"), Magic { got: 0x504b_0304, need: 0x0803, .. }));
    // labels where images should be, and floats where bytes should be
    assert!(matches!(with_images(&idx(&[2], &[0, 0])), Magic { got: 0x0801, .. }));
    assert!(matches!(with_images(&[0, 0, 0x0d, 3, 0, 0]), Magic { got: 0x0d03, .. }));
    assert!(matches!(with_images(&idx(&[0, 28, 28], &[])), Empty { .. }));
    // a header that claims 16 EiB, or more than a u64 can say, is not believed
    assert!(matches!(with_images(&idx(&[u32::MAX; 2], &[])), TooLarge { field: "values", .. }));
    assert!(matches!(with_images(&idx(&[u32::MAX; 4], &[])), TooLarge { got: u64::MAX, .. }));
    // 4 GiB claimed and not there: no memory is taken for it
    assert!(matches!(
        with_images(&idx(&[u32::MAX, 1, 1], &[1])),
        Truncated { got: 1, need: 0xffff_ffff, .. }
    ));
    let gzip = packed(&good);
    assert!(matches!(with_images(&gzip[..gzip.len() - 3]), Read { .. }));
    let mut corrupt = gzip.clone();
    *corrupt.iter_mut().nth_back(6).unwrap() ^= 1;
    assert!(matches!(with_images(&corrupt), Read { .. }));
}

#[test]
fn files_that_do_not_belong_together_are_refused() {
    let folder = Folder::new();
    folder.put("train-labels-idx1-ubyte", &idx(&[3], &[0, 1, 2]));
    assert!(matches!(folder.open(), Err(DataError::Count { images: 2, labels: 3, .. })));

    let folder = Folder::new();
    folder.put("t10k-images-idx3-ubyte", &idx(&[1, 2, 2], &[0; 4]));
    let error = folder.open().unwrap_err();
    assert!(matches!(&error, DataError::Shape { got, need, .. } if got == &[1, 2, 2] && need == &[1, 1, 2]));

    let folder = Folder::new();
    let labels = folder.put("t10k-labels-idx1-ubyte", &idx(&[1], &[3]));
    let error = folder.open().unwrap_err();
    assert!(matches!(&error, DataError::Label { file, sample: 0, got: 3, classes: 3 } if *file == labels));
    assert!(error.to_string().ends_with("sample 0 has label 3, need one under 3"), "{error}");
}

#[test]
fn a_bad_std_is_refused() {
    let folder = Folder::new();
    let mut options = IdxOptions::in_folder(folder.0.path()).unwrap();
    options.std = Some(0.0);
    assert!(matches!(Source::Idx(options).open(), Err(DataError::Normalise { field: "data.std", .. })));
}

#[test]
fn a_folder_that_is_not_there_is_missing() {
    let error = IdxOptions::in_folder(Path::new("/nowhere")).unwrap_err();
    assert_eq!(error.to_string(), "found no train-images-idx3-ubyte in /nowhere");
}

#[expect(clippy::disallowed_methods, reason = "a test asks whether it may be skipped")]
fn required(what: &str) -> bool {
    let required = std::env::var("PHALANX_REQUIRE").unwrap_or_default();
    required.split(',').any(|item| item == what || item == "all")
}

/// The constants that people give for this set, and its published sizes.
#[test]
fn fashion_mnist_is_what_it_is_known_to_be() {
    let folder = Path::new("/usr/share/datasets/fashion-mnist");
    if !folder.is_dir() {
        assert!(!required("fashion-mnist"), "needs the Debian package dataset-fashion-mnist");
        println!("skipped: the Debian package dataset-fashion-mnist is not installed");
        return;
    }
    let mut options = IdxOptions::in_folder(folder).unwrap();
    (options.mean, options.std) = (Some(0.2860), Some(0.3530));
    let splits = Source::Idx(options).open().unwrap();
    assert_eq!((splits.train.len(), splits.test.len()), (60_000, 10_000));
    assert_eq!(splits.train.kind(), &SampleKind::Classification { features: vec![1, 28, 28], classes: 10 });
    let mut buffers = BatchBuffers::default();
    let (mut sum, mut squares, mut counts) = (0.0, 0.0, [0; 10]);
    for start in (0..60_000).step_by(1000) {
        splits.train.fill(&(start..start + 1000).collect::<Vec<_>>(), &mut buffers);
        sum += buffers.features().iter().map(|x| f64::from(*x)).sum::<f64>();
        squares += buffers.features().iter().map(|x| f64::from(*x).powi(2)).sum::<f64>();
        buffers.labels().iter().for_each(|label| counts[*label as usize] += 1);
    }
    let n = 60_000.0 * 784.0;
    let (mean, variance) = (sum / n, squares / n - (sum / n).powi(2));
    assert!(mean.abs() < 1e-3 && (variance - 1.0).abs() < 1e-3, "{mean} {variance}");
    assert_eq!(counts, [6000; 10]);
}
