//! The format of MNIST and its relatives: images and labels as arrays of bytes with a short header.
//!
//! A file is: two bytes 0, the type of the values (8: bytes), the number of dims, each dim as a
//! big-endian `u32`, and the values, last dim fastest. Files may be packed by gzip.
//!
//! # Reference
//! The description at the end of LeCun, Cortes and Burges, "The MNIST database of handwritten digits".

use std::io::Read;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use crate::error::DataError;
use crate::files::{self, Input};
use crate::images::{Images, Normalise, channels_and_plane};
use crate::split::Splits;

/// Which files, and how they become features.
#[derive(Clone, Debug, PartialEq)]
pub struct IdxOptions {
    /// The four files.
    pub files: IdxFiles,
    /// Mean of the features after division by 255, one value for all channels. Default: measured on
    /// the training images, by channel.
    pub mean: Option<f32>,
    /// Standard deviation likewise.
    pub std: Option<f32>,
    /// Number of classes. Default: one more than the largest label of the training part.
    pub classes: Option<usize>,
}

impl IdxOptions {
    /// The defaults for a folder, see [`IdxFiles::in_folder`].
    ///
    /// # Errors
    /// [`DataError::Missing`].
    pub fn in_folder(folder: &Path) -> Result<Self, DataError> {
        Ok(Self { files: IdxFiles::in_folder(folder)?, mean: None, std: None, classes: None })
    }
}

/// The files of a set.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct IdxFiles {
    /// Training images, `n x height x width`, or with channels before the height.
    pub train_images: PathBuf,
    /// Training labels, `n`.
    pub train_labels: PathBuf,
    /// Test images.
    pub test_images: PathBuf,
    /// Test labels.
    pub test_labels: PathBuf,
}

impl IdxFiles {
    /// The files in `folder` that have MNIST's names: `train-images-idx3-ubyte` and so on, test
    /// files with `t10k`; with or without `.gz`, and with a dot before `idx` as some unpackers write.
    ///
    /// # Errors
    /// [`DataError::Missing`] names the first that is not there.
    pub fn in_folder(folder: &Path) -> Result<Self, DataError> {
        let find = |name: &'static str| {
            let dotted = name.replace("-idx", ".idx");
            [name.to_owned(), format!("{name}.gz"), dotted.clone(), format!("{dotted}.gz")]
                .into_iter()
                .map(|name| folder.join(name))
                .find(|file| file.is_file())
                .ok_or_else(|| DataError::Missing { folder: folder.to_path_buf(), need: name })
        };
        Ok(Self {
            train_images: find("train-images-idx3-ubyte")?,
            train_labels: find("train-labels-idx1-ubyte")?,
            test_images: find("t10k-images-idx3-ubyte")?,
            test_labels: find("t10k-labels-idx1-ubyte")?,
        })
    }
}

/// Bytes with the shape that the header gives them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Array {
    /// Length of each dim, outermost first; none is 0.
    pub dims: Vec<usize>,
    /// The values, as many as the product of the dims.
    pub values: Vec<u8>,
}

/// Reads one file, packed or not, of which the bytes are at hand; `file` is for messages only.
///
/// # Errors
/// [`DataError::Magic`] when the number of dims is not one of `dims` or the values are not bytes;
/// [`DataError::Truncated`], [`DataError::Trailing`], [`DataError::TooLarge`], [`DataError::Empty`];
/// [`DataError::Read`] for damaged gzip.
///
/// # Examples
/// ```
/// use std::path::Path;
/// use phalanx_data::idx;
///
/// let labels = [0, 0, 8, 1, 0, 0, 0, 3, 7, 8, 9];
/// let array = idx::parse(&labels, Path::new("labels"), &[1]).unwrap();
/// assert_eq!((array.dims, array.values), (vec![3], vec![7, 8, 9]));
/// assert!(idx::parse(&labels[..9], Path::new("labels"), &[1]).is_err());
/// ```
pub fn parse(bytes: &[u8], file: &Path, dims: &[u8]) -> Result<Array, DataError> {
    let reader =
        files::unpacked(bytes).map_err(|source| DataError::Read { file: file.to_path_buf(), source })?;
    read(&mut Input::new(reader, file), dims)
}

/// Most dims of images: `n x channels x height x width`.
const IMAGE_DIMS: [u8; 3] = [2, 3, 4];
const LABEL_DIMS: [u8; 1] = [1];

pub(crate) fn open(options: &IdxOptions) -> Result<Splits, DataError> {
    let files = &options.files;
    let train = labelled(&files.train_images, &files.train_labels)?;
    let test = labelled(&files.test_images, &files.test_labels)?;
    if test.shape != train.shape {
        return Err(DataError::Shape { file: files.test_images.clone(), got: test.shape, need: train.shape });
    }
    let largest = train.labels.iter().max().copied().unwrap_or(0);
    let classes = options.classes.unwrap_or(usize::from(largest) + 1);
    check_labels(&train.labels, &files.train_labels, classes)?;
    check_labels(&test.labels, &files.test_labels, classes)?;

    let (channels, plane) = channels_and_plane(&train.shape);
    let mut normalise = match (options.mean, options.std) {
        (Some(mean), Some(std)) => {
            Normalise { scale: 255.0, mean: vec![mean; channels], std: vec![std; channels] }
        }
        _ => Normalise::measured(&train.pixels, channels, plane, 255.0),
    };
    if let Some(mean) = options.mean {
        normalise.mean.fill(mean);
    }
    if let Some(std) = options.std {
        normalise.std.fill(std);
    }
    let shape = train.shape.clone();
    let train = Images::new(train.pixels, train.labels, train.shape, classes, &normalise)?;
    let test = Images::new(test.pixels, test.labels, shape, classes, &normalise)?;
    Ok(Splits::new(Arc::new(train), Arc::new(test)))
}

struct Labelled {
    shape: Vec<usize>,
    pixels: Vec<u8>,
    labels: Vec<u8>,
}

fn labelled(images_file: &Path, labels_file: &Path) -> Result<Labelled, DataError> {
    let images = read(&mut files::open(images_file)?, &IMAGE_DIMS)?;
    let labels = read(&mut files::open(labels_file)?, &LABEL_DIMS)?;
    if images.dims[0] != labels.dims[0] {
        return Err(DataError::Count {
            images_file: images_file.to_path_buf(),
            images: images.dims[0] as u64,
            labels_file: labels_file.to_path_buf(),
            labels: labels.dims[0] as u64,
        });
    }
    let shape = match images.dims[1..] {
        [height, width] => vec![1, height, width],
        ref other => other.to_vec(),
    };
    Ok(Labelled { shape, pixels: images.values, labels: labels.values })
}

fn read<R: Read>(source: &mut Input<R>, dims: &[u8]) -> Result<Array, DataError> {
    const BYTES: u8 = 8;
    let magic = source.array::<4>("magic number")?;
    let n_dims = magic[3];
    if magic[..3] != [0, 0, BYTES] || !dims.contains(&n_dims) {
        return Err(DataError::Magic {
            file: source.file().to_path_buf(),
            got: u32::from_be_bytes(magic),
            need: u32::from_be_bytes([0, 0, BYTES, if dims.contains(&3) { 3 } else { dims[0] }]),
            format: if dims.contains(&1) { "IDX labels" } else { "IDX images" },
        });
    }
    let mut lens = Vec::with_capacity(usize::from(n_dims));
    for _ in 0..n_dims {
        lens.push(u32::from_be_bytes(source.array("dims")?) as usize);
    }
    if lens.contains(&0) {
        return Err(DataError::Empty { file: source.file().to_path_buf(), need: "samples" });
    }
    let product = lens.iter().try_fold(1_u64, |product, len| product.checked_mul(*len as u64));
    let values = source.bytes("values", product.unwrap_or(u64::MAX))?;
    source.end()?;
    Ok(Array { dims: lens, values })
}

pub(crate) fn check_labels(labels: &[u8], file: &Path, classes: usize) -> Result<(), DataError> {
    match labels.iter().position(|label| usize::from(*label) >= classes) {
        None => Ok(()),
        Some(sample) => Err(DataError::Label {
            file: file.to_path_buf(),
            sample: sample as u64,
            got: labels[sample].into(),
            classes: classes as u64,
        }),
    }
}
