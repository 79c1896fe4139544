//! What can be wrong with data, with the facts one asks for next.

use std::io;
use std::path::PathBuf;

/// Why data could not be read or divided.
///
/// Offsets are in bytes of the unpacked file, from 0; lines are counted from 1.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum DataError {
    /// None of the names that a file may have exists.
    #[error("found no {need} in {}", .folder.display())]
    Missing {
        /// Where it was looked for.
        folder: PathBuf,
        /// The name looked for; other spellings that the reader takes were tried too.
        need: &'static str,
    },

    /// The operating system refused, or a compressed file is damaged.
    #[error("cannot read {}", .file.display())]
    Read {
        /// The file.
        file: PathBuf,
        /// The cause.
        source: io::Error,
    },

    /// A file ends early.
    #[error("{}: {field} at byte {offset} needs {need} bytes, the file has {got}", .file.display())]
    Truncated {
        /// The file.
        file: PathBuf,
        /// What was being read.
        field: &'static str,
        /// Where it starts.
        offset: u64,
        /// Bytes that are there.
        got: u64,
        /// Bytes that it takes.
        need: u64,
    },

    /// A file goes on after everything its header announces.
    #[error("{}: the data should end at byte {offset} but go on", .file.display())]
    Trailing {
        /// The file.
        file: PathBuf,
        /// Where it should end.
        offset: u64,
    },

    /// A file of another format, or another kind of file of this one.
    #[error("{}: magic number {got:#010x}, need {need:#010x} ({format})", .file.display())]
    Magic {
        /// The file.
        file: PathBuf,
        /// The first four bytes, big-endian.
        got: u32,
        /// What they should be.
        need: u32,
        /// What kind of file that is.
        format: &'static str,
    },

    /// More data than a reader takes into memory, or than a length field may claim.
    #[error("{}: {field} is {got}, at most {limit} is read", .file.display())]
    TooLarge {
        /// The file.
        file: PathBuf,
        /// What is too large.
        field: &'static str,
        /// The value found or announced.
        got: u64,
        /// The largest value taken.
        limit: u64,
    },

    /// A file, or a part of it, without a single sample.
    #[error("{} holds no {need}", .file.display())]
    Empty {
        /// The file.
        file: PathBuf,
        /// What there should be at least one of.
        need: &'static str,
    },

    /// A part of the data set without a sample.
    #[error("the {part} part has no samples")]
    NoSamples {
        /// Which part.
        part: &'static str,
    },

    /// Two files of one set that do not belong together.
    #[error("{} has {images} images but {} has {labels} labels", .images_file.display(), .labels_file.display())]
    Count {
        /// The file of images.
        images_file: PathBuf,
        /// Images in it.
        images: u64,
        /// The file of labels.
        labels_file: PathBuf,
        /// Labels in it.
        labels: u64,
    },

    /// Samples of another shape than those to train on.
    #[error("{}: samples of shape {got:?}, need {need:?} as in the training part", .file.display())]
    Shape {
        /// The file.
        file: PathBuf,
        /// Shape of its samples.
        got: Vec<usize>,
        /// Shape of the training samples.
        need: Vec<usize>,
    },

    /// A label that is not below the number of classes.
    #[error("{}: sample {sample} has label {got}, need one under {classes}", .file.display())]
    Label {
        /// The file.
        file: PathBuf,
        /// The sample, from 0.
        sample: u64,
        /// Its label.
        got: u64,
        /// Number of classes.
        classes: u64,
    },

    /// The same, in a set that was built in memory.
    #[error("sample {sample} has label {got}, need one under {classes}")]
    Class {
        /// The sample, from 0.
        sample: usize,
        /// Its label.
        got: usize,
        /// Number of classes.
        classes: usize,
    },

    /// A cell of a table that is not what its column needs.
    #[error("{}: line {line}, column {column}: got {got:?}, need {need}", .file.display())]
    Cell {
        /// The file.
        file: PathBuf,
        /// The line.
        line: u64,
        /// The column, from 1.
        column: usize,
        /// What the cell holds, at most its first 40 bytes.
        got: String,
        /// What is needed.
        need: &'static str,
    },

    /// A row of a table with more or fewer cells than the first.
    #[error("{}: line {line} has {got} columns, need {need} as in the first row", .file.display())]
    Ragged {
        /// The file.
        file: PathBuf,
        /// The line.
        line: u64,
        /// Cells in it.
        got: usize,
        /// Cells in the first row.
        need: usize,
    },

    /// Text that is no table.
    #[error("{}: line {line} is not valid CSV", .file.display())]
    Csv {
        /// The file.
        file: PathBuf,
        /// The line.
        line: u64,
        /// The cause.
        source: ::csv::Error,
    },

    /// No column of that name.
    #[error("{}: no column {name:?}, the header has {known:?}", .file.display())]
    NoColumnNamed {
        /// The file.
        file: PathBuf,
        /// The name asked for.
        name: String,
        /// The first names of the header, at most 20.
        known: Vec<String>,
    },

    /// No column at that position, or none left for features.
    #[error("{}: no column at position {position}, or none beside it: each row has {columns}", .file.display())]
    NoColumnAt {
        /// The file.
        file: PathBuf,
        /// The position asked for, from 0.
        position: usize,
        /// Number of columns.
        columns: usize,
    },

    /// A share that is not one.
    #[error("{field} is {got}, need at least 0 and less than 1")]
    Fraction {
        /// The option.
        field: &'static str,
        /// Its value.
        got: f64,
    },

    /// A trusted part with no sample, or with all that there are to train on.
    #[error("got {got} trusted samples, need 1 to {most}, so that some are left to train on")]
    Trusted {
        /// The samples.
        got: usize,
        /// The most there can be.
        most: usize,
    },

    /// A mean or a standard deviation that cannot normalise.
    #[error("{field} is {got}, need {need}")]
    Normalise {
        /// The option.
        field: &'static str,
        /// Its value.
        got: f32,
        /// What it must be.
        need: &'static str,
    },

    /// A count among the options, or of parts that a set is built from, that does not fit.
    #[error("{field} is {got}, need {need}")]
    Size {
        /// The option or the part.
        field: &'static str,
        /// Its value.
        got: usize,
        /// What it must be.
        need: usize,
    },

    /// A context longer than the text, or none.
    #[error("data.context is {got}, need 1 to {most} for a text of {bytes} bytes")]
    Context {
        /// The context asked for, in tokens.
        got: usize,
        /// The longest context for which each part has a sequence.
        most: usize,
        /// Length of the text.
        bytes: usize,
    },

    /// A partition that gives some client too few samples, however often it is drawn.
    #[error(
        "{samples} samples over {clients} clients by {partition}: the least share was {got} samples in {draws} draws, \
         need {need}"
    )]
    Partition {
        /// How they were to be divided.
        partition: &'static str,
        /// Samples there are.
        samples: usize,
        /// Clients there are.
        clients: usize,
        /// The greatest least share of all draws.
        got: usize,
        /// The least share that is needed.
        need: usize,
        /// How often it was drawn.
        draws: u64,
    },

    /// A setting of a partition out of its range.
    #[error("{field} is {got}, need {need}")]
    PartitionSetting {
        /// The setting.
        field: &'static str,
        /// Its value.
        got: f64,
        /// What it must be.
        need: &'static str,
    },

    /// A batch with more samples than there are.
    #[error("batch is {batch}, the training part has {samples} samples")]
    Batch {
        /// Samples in a batch.
        batch: usize,
        /// Samples there are.
        samples: usize,
    },
}
