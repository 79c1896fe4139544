//! The kinds of data that can be opened, behind one name.

use crate::cifar::{self, CifarOptions};
use crate::csv::{self, CsvOptions};
use crate::digits;
use crate::error::DataError;
use crate::idx::{self, IdxOptions};
use crate::split::Splits;
use crate::text::{self, TextOptions};

/// A kind of data, with what it takes to find it.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub enum Source {
    /// The [handwritten digits](crate::digits) that come with the crate.
    Digits,
    /// Images in [MNIST's format](crate::idx).
    Idx(IdxOptions),
    /// [CIFAR-10](crate::cifar) in its binary format.
    Cifar10(CifarOptions),
    /// A [table](crate::csv) of numbers.
    Csv(CsvOptions),
    /// A text, byte by byte.
    Text(TextOptions),
}

impl Source {
    /// Reads the data into memory and cuts off the test part.
    ///
    /// # Errors
    /// Whatever is wrong with the files; see the module of each kind. Everything is checked here:
    /// what has been opened can be read out without errors.
    pub fn open(&self) -> Result<Splits, DataError> {
        match self {
            Self::Digits => digits::open(),
            Self::Idx(options) => idx::open(options),
            Self::Cifar10(options) => cifar::open(options),
            Self::Csv(options) => csv::open(options),
            Self::Text(options) => text::open(options),
        }
    }
}
