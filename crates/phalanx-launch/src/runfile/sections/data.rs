//! `[data]`: what is learnt from, and how it is split.

use crate::runfile::key::{keys, kinds};
use crate::runfile::{Range, Value};

keys! {
    /// The data set and its split.
    pub struct Data {
        /// Share of the training samples kept aside to choose the best checkpoint.
        validation: f64 = 0.1, "", Range::Below(0.0, 1.0), Fixed;
        ..
        /// Where the samples come from.
        source: Source
    }
}

kinds! {
    /// The form of the data.
    pub enum Source by kind {
        /// The 1,797 handwritten digits of 8x8 that come with the program; a fixed fifth is the test set.
        "digits" => Digits {}
        /// A folder in the format of MNIST: images and labels, for training and test, gzipped or not.
        "idx" => Idx {
            /// The folder, or the name of a fetched data set such as "fashion-mnist".
            path: String, "", Range::Any, Fixed;
            /// Subtracted from every pixel; not given: the mean of the training set.
            mean: Option<f64>, "pixel scaled to 0..1", Range::Any, Fixed;
            /// Every pixel is divided by it; not given: the standard deviation of the training set.
            std: Option<f64>, "pixel scaled to 0..1", Range::Above(0.0), Fixed;
        }
        /// A table of numbers with a column of class labels; every other column is brought to mean 0 and
        /// deviation 1.
        "csv" => Csv {
            /// The file.
            path: String, "", Range::Any, Fixed;
            /// A file of the same columns to test on; not given: what `split` leaves.
            test: Option<String>, "", Range::Any, Fixed;
            /// Share of the rows that are for training (and validation), if `test` is not given.
            split: f64 = 0.8, "", Range::Between(0.0, 1.0), Fixed;
            /// The column of the label, by its name or its number from 0; not given: the last.
            label: Option<Column>, "", Range::Any, Fixed;
            /// Whether the first row holds the names of the columns.
            header: bool = true, "", Range::Any, Fixed;
        }
        /// Text, read byte by byte.
        "text" => Text {
            /// The file, or the name of a fetched data set such as "shakespeare".
            path: String, "", Range::Any, Fixed;
            /// Share of the bytes, from the start, that are for training (and validation); the rest is
            /// the test set.
            split: f64 = 0.95, "", Range::UpTo(0.0, 1.0), Fixed;
            /// Length of a sample; not given: `model.context`, or 128 if the model has none.
            context: Option<usize>, "tokens", Range::Within(1.0, 1_048_576.0), Fixed;
        }
    }
}

/// A column of a table.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Column {
    /// By the name that the header gives it.
    Name(String),
    /// By its number, from 0.
    Index(usize),
}

impl Value for Column {
    fn expects() -> String {
        "the name of a column or its number from 0".to_owned()
    }

    fn read(toml: &toml::Value) -> Option<Self> {
        String::read(toml).map(Self::Name).or_else(|| usize::read(toml).map(Self::Index))
    }

    fn write(&self) -> Option<toml::Value> {
        match self {
            Self::Name(name) => name.write(),
            Self::Index(idx) => idx.write(),
        }
    }
}
