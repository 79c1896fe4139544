//! Tables of numbers in text, one sample a line, one of the columns its class.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use ::csv::{ByteRecord, ReaderBuilder};
use phalanx_tensor::rng::{Purpose, Stream};

use crate::error::DataError;
use crate::files;
use crate::split::{Splits, TEST, choose, share};
use crate::subset::Subset;
use crate::table::Table;

/// Which table, and how it becomes samples.
#[derive(Clone, Debug, PartialEq)]
pub struct CsvOptions {
    /// The file; packed by gzip or not.
    pub path: PathBuf,
    /// Whether the first line names the columns. Default true.
    pub header: bool,
    /// The column that holds the class, a whole number from 0. Default: the last.
    pub label: Column,
    /// Number of classes. Default: one more than the largest label.
    pub classes: Option<usize>,
    /// Whether each feature is brought to mean 0 and standard deviation 1 over the training part.
    /// Default true.
    pub standardise: bool,
    /// Where the test part comes from. Default: a fifth of the rows.
    pub test: TestPart,
    /// Seed of the choice of the test part. Default 0.
    pub seed: u64,
}

impl CsvOptions {
    /// The defaults for a file.
    pub fn new(path: impl Into<PathBuf>) -> Self {
        Self {
            path: path.into(),
            header: true,
            label: Column::Last,
            classes: None,
            standardise: true,
            test: TestPart::Share(0.2),
            seed: 0,
        }
    }
}

/// A column of a table.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Column {
    /// The last one.
    Last,
    /// The one at a position, from 0.
    At(usize),
    /// The one of that name in the header.
    Named(String),
}

/// Where the test part comes from.
#[derive(Clone, Debug, PartialEq)]
pub enum TestPart {
    /// A share of the rows, chosen at random: at least 0, less than 1.
    Share(f64),
    /// Another file with the same columns.
    File(PathBuf),
}

/// The largest number of classes that labels may ask for where the options give none.
const MAX_CLASSES: u64 = 1 << 16;
const FEATURE: &str = "a finite number";
const LABEL: &str = "a class as a whole number from 0";

/// A table as read, before any scaling.
#[derive(Clone, Debug, PartialEq)]
pub struct Rows {
    /// `n x columns`, without the label.
    pub features: Vec<f32>,
    /// `n`.
    pub labels: Vec<u32>,
    /// Number of features of a row, at least 1.
    pub columns: usize,
}

/// Reads the rows of a table in memory; `file` is for messages only.
///
/// # Errors
/// [`DataError::Cell`] for what is not a finite number or not a class, [`DataError::Ragged`],
/// [`DataError::NoColumnNamed`], [`DataError::NoColumnAt`], [`DataError::Csv`], [`DataError::Empty`].
///
/// # Examples
/// ```
/// use std::path::Path;
/// use phalanx_data::{Column, csv};
///
/// let text = b"kind,height,width\n1,2.5,4\n0,3,-1e3\n";
/// let rows = csv::parse(text, Path::new("text"), true, &Column::Named("kind".into())).unwrap();
/// assert_eq!(rows.labels, [1, 0]);
/// assert_eq!(rows.features, [2.5, 4.0, 3.0, -1000.0]);
///
/// let error = csv::parse(b"1,nan\n", Path::new("t.csv"), false, &Column::At(0)).unwrap_err();
/// assert_eq!(error.to_string(), "t.csv: line 1, column 2: got \"nan\", need a finite number");
/// ```
pub fn parse(bytes: &[u8], file: &Path, header: bool, label: &Column) -> Result<Rows, DataError> {
    let mut reader =
        ReaderBuilder::new().has_headers(false).flexible(true).trim(::csv::Trim::All).from_reader(bytes);
    let mut record = ByteRecord::new();
    let mut rows = Rows { features: Vec::new(), labels: Vec::new(), columns: 0 };
    let mut label_at = None;
    let mut n_cells = 0;
    let mut names = None;
    loop {
        let line = reader.position().line();
        let more = reader.read_byte_record(&mut record);
        let more = more.map_err(|source| DataError::Csv { file: file.to_path_buf(), line, source })?;
        if !more {
            break;
        }
        if n_cells == 0 {
            n_cells = record.len();
            if header {
                names = Some(record.clone());
            }
            label_at = Some(position(label, names.as_ref(), n_cells, file)?);
            if header {
                continue;
            }
        }
        let line = || line_of(&record, bytes);
        if record.len() != n_cells {
            return Err(DataError::Ragged {
                file: file.to_path_buf(),
                line: line(),
                got: record.len(),
                need: n_cells,
            });
        }
        for (column, cell) in record.iter().enumerate() {
            let wrong = |need| DataError::Cell {
                file: file.to_path_buf(),
                line: line(),
                column: column + 1,
                got: lossy(cell),
                need,
            };
            if label_at == Some(column) {
                rows.labels.push(number(cell).ok_or_else(|| wrong(LABEL))?);
            } else {
                let value: f32 = number(cell).ok_or_else(|| wrong(FEATURE))?;
                rows.features.push(if value.is_finite() { value } else { return Err(wrong(FEATURE)) });
            }
        }
    }
    if rows.labels.is_empty() {
        return Err(DataError::Empty { file: file.to_path_buf(), need: "rows" });
    }
    rows.columns = n_cells - 1;
    Ok(rows)
}

pub(crate) fn open(options: &CsvOptions) -> Result<Splits, DataError> {
    let read = |file: &Path| parse(&files::open(file)?.rest("table")?, file, options.header, &options.label);
    let mut rows = read(&options.path)?;
    let total = rows.labels.len();
    let (train, test) = match &options.test {
        TestPart::Share(fraction) => {
            let test_len = share("data.test", total, *fraction)?;
            if test_len == 0 {
                return Err(DataError::NoSamples { part: "test" });
            }
            choose(total, test_len, Stream::new(options.seed, Purpose::Split, TEST))
        }
        TestPart::File(file) => {
            let test = read(file)?;
            if test.columns != rows.columns {
                let (got, need) = (vec![test.columns], vec![rows.columns]);
                return Err(DataError::Shape { file: file.clone(), got, need });
            }
            rows.features.extend_from_slice(&test.features);
            rows.labels.extend_from_slice(&test.labels);
            ((0..total).collect(), (total..rows.labels.len()).collect())
        }
    };
    let classes = classes(&rows, options, total)?;
    if options.standardise {
        standardise(&mut rows, &train);
    }
    let table = Arc::new(Table::new(rows.features, rows.labels, rows.columns, classes)?);
    let (train, test) = (Subset::new(table.clone(), train), Subset::new(table, test));
    Ok(Splits::new(Arc::new(train), Arc::new(test)))
}

/// The number of classes, given or found, with every label below it.
fn classes(rows: &Rows, options: &CsvOptions, first_file: usize) -> Result<usize, DataError> {
    // without a number given, the first file says how many; a test file may not add any
    let largest = rows.labels[..first_file].iter().max().map_or(0, |largest| u64::from(*largest));
    let limit = options.classes.map_or((largest + 1).min(MAX_CLASSES), |classes| classes as u64);
    match rows.labels.iter().position(|label| u64::from(*label) >= limit) {
        None => Ok(limit as usize),
        Some(at) => {
            let (file, sample) = match &options.test {
                TestPart::File(file) if at >= first_file => (file, at - first_file),
                _ => (&options.path, at),
            };
            Err(DataError::Label {
                file: file.clone(),
                sample: sample as u64,
                got: rows.labels[at].into(),
                classes: limit,
            })
        }
    }
}

/// Brings each column to mean 0 and standard deviation 1 over the rows `over`; a constant one to 0.
fn standardise(rows: &mut Rows, over: &[usize]) {
    let columns = rows.columns;
    let n = over.len() as f64;
    for column in 0..columns {
        let values = || over.iter().map(|row| f64::from(rows.features[row * columns + column]));
        let mean = values().sum::<f64>() / n;
        let variance = values().map(|value| (value - mean).powi(2)).sum::<f64>() / n;
        let std = if variance > 0.0 { variance.sqrt() } else { 1.0 };
        for value in rows.features[column..].iter_mut().step_by(columns) {
            *value = ((f64::from(*value) - mean) / std) as f32;
        }
    }
}

fn position(
    label: &Column,
    names: Option<&ByteRecord>,
    columns: usize,
    file: &Path,
) -> Result<usize, DataError> {
    let position = match label {
        Column::Last => columns - 1,
        Column::At(position) => *position,
        Column::Named(name) => {
            let found = names.and_then(|names| names.iter().position(|known| known == name.as_bytes()));
            found.ok_or_else(|| DataError::NoColumnNamed {
                file: file.to_path_buf(),
                name: name.clone(),
                known: names.into_iter().flatten().take(20).map(lossy).collect(),
            })?
        }
    };
    if position >= columns || columns < 2 {
        return Err(DataError::NoColumnAt { file: file.to_path_buf(), position, columns });
    }
    Ok(position)
}

/// The line on which a record starts; the reader counts from the empty lines before it.
fn line_of(record: &ByteRecord, bytes: &[u8]) -> u64 {
    let Some(position) = record.position() else { return 0 };
    let from_here = bytes.get(position.byte() as usize..).unwrap_or_default();
    let empty = from_here.iter().take_while(|byte| matches!(byte, b'\r' | b'\n'));
    position.line() + empty.filter(|byte| **byte == b'\n').count() as u64
}

fn number<T: std::str::FromStr>(cell: &[u8]) -> Option<T> {
    std::str::from_utf8(cell).ok()?.parse().ok()
}

fn lossy(cell: &[u8]) -> String {
    String::from_utf8_lossy(&cell[..cell.len().min(40)]).into_owned()
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::{Column, CsvOptions, TestPart, parse};
    use crate::Source;
    use crate::batch::BatchBuffers;
    use crate::error::DataError;

    fn refused(text: &str, header: bool, label: Column) -> DataError {
        parse(text.as_bytes(), Path::new("t.csv"), header, &label).unwrap_err()
    }

    #[test]
    fn the_label_may_be_anywhere() {
        let text = b" 1 , 2,\"3\"\n4,5,6\n";
        for (label, labels, features) in [
            (Column::Last, [3, 6], [1.0, 2.0, 4.0, 5.0]),
            (Column::At(0), [1, 4], [2.0, 3.0, 5.0, 6.0]),
            (Column::At(1), [2, 5], [1.0, 3.0, 4.0, 6.0]),
        ] {
            let rows = parse(text, Path::new("t.csv"), false, &label).unwrap();
            assert_eq!((rows.labels, rows.features, rows.columns), (labels.to_vec(), features.to_vec(), 2));
        }
    }

    #[test]
    fn what_is_wrong_is_named_with_its_line() {
        use DataError::{Cell, Empty, NoColumnAt, NoColumnNamed, Ragged};
        assert!(matches!(
            refused("a,b\n1,2\n1,2,3\n", true, Column::Last),
            Ragged { line: 3, got: 3, need: 2, .. }
        ));
        assert!(matches!(
            refused("1,2\n\n1\n", false, Column::Last),
            Ragged { line: 3, got: 1, need: 2, .. }
        ));
        for cell in ["x", "", "nan", "inf", "-inf", "1e39"] {
            let error = refused(&format!("a,b\n1,0\n{cell},0\n"), true, Column::Last);
            assert!(matches!(&error, Cell { line: 3, column: 1, got, .. } if got == cell), "{cell}: {error}");
        }
        for cell in ["-1", "1.5", "4294967296", "a"] {
            let error = refused(&format!("1,{cell}\n"), false, Column::Last);
            assert!(matches!(error, Cell { line: 1, column: 2, .. }), "{cell}: {error}");
        }
        assert!(matches!(refused("", false, Column::Last), Empty { .. }));
        assert!(matches!(refused("a,b\n", true, Column::Last), Empty { .. }));
        assert!(matches!(refused("1,2\n", false, Column::At(2)), NoColumnAt { position: 2, columns: 2, .. }));
        assert!(matches!(refused("1\n", false, Column::Last), NoColumnAt { position: 0, columns: 1, .. }));
        let error = refused("a,b\n1,2\n", true, Column::Named("c".into()));
        assert!(matches!(&error, NoColumnNamed { known, .. } if known == &["a", "b"]));
        assert!(matches!(refused("1,2\n", false, Column::Named("a".into())), NoColumnNamed { .. }));
    }

    /// Training rows 1 and 3 (mean 2, standard deviation 1) and a constant column; the test row is
    /// scaled by them and not by itself.
    #[test]
    fn the_training_part_sets_the_scale() {
        let folder = tempfile::tempdir().unwrap();
        let (train, test) = (folder.path().join("train.csv"), folder.path().join("test.csv"));
        std::fs::write(&train, "x,c,y\n1,7,0\n3,7,1\n").unwrap();
        std::fs::write(&test, "x,c,y\n6,8,1\n").unwrap();
        let options = CsvOptions { test: TestPart::File(test.clone()), ..CsvOptions::new(&train) };
        let parts = Source::Csv(options.clone()).open().unwrap();
        let mut buffers = BatchBuffers::default();
        parts.train.fill(&[0, 1], &mut buffers);
        assert_eq!(buffers.features(), [-1.0, 0.0, 1.0, 0.0]);
        parts.test.fill(&[0], &mut buffers);
        assert_eq!((buffers.features(), buffers.labels()), (&[4.0, 1.0][..], &[1][..]));

        let plain = CsvOptions { standardise: false, ..options.clone() };
        Source::Csv(plain).open().unwrap().test.fill(&[0], &mut buffers);
        assert_eq!(buffers.features(), [6.0, 8.0]);

        std::fs::write(&test, "x,c,y\n6,8,2\n").unwrap();
        let error = Source::Csv(options.clone()).open().unwrap_err();
        assert!(matches!(error, DataError::Label { file, sample: 0, got: 2, classes: 2 } if file == test));
        std::fs::write(&test, "x,y\n6,1\n").unwrap();
        assert!(matches!(Source::Csv(options).open(), Err(DataError::Shape { .. })));
    }

    #[test]
    fn a_share_of_the_rows_is_kept_for_the_test() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("t.csv");
        let rows: String = (0..50).map(|row| format!("{},{row}\n", row % 3)).collect();
        std::fs::write(&path, format!("kind,x\n{rows}")).unwrap();
        let options =
            CsvOptions { label: Column::Named("kind".into()), standardise: false, ..CsvOptions::new(&path) };
        let values = |options: &CsvOptions| {
            let parts = Source::Csv(options.clone()).open().unwrap();
            let mut buffers = BatchBuffers::default();
            [parts.train, parts.test].map(|part| {
                part.fill(&(0..part.len()).collect::<Vec<_>>(), &mut buffers);
                buffers.features().to_vec()
            })
        };
        let [train, test] = values(&options);
        assert_eq!((train.len(), test.len()), (40, 10));
        let mut all = [train, test.clone()].concat();
        all.sort_by(f32::total_cmp);
        assert!(all.iter().zip(0_u8..).all(|(value, row)| *value == f32::from(row)));
        assert_ne!(values(&CsvOptions { seed: 1, ..options.clone() })[1], test);
        let none = CsvOptions { test: TestPart::Share(0.0), ..options };
        assert!(matches!(Source::Csv(none).open(), Err(DataError::NoSamples { part: "test" })));
    }

    #[test]
    fn a_wild_label_does_not_become_a_wild_model() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("t.csv");
        std::fs::write(&path, "1,0\n1,4000000000\n1,1\n").unwrap();
        let options = CsvOptions { header: false, ..CsvOptions::new(&path) };
        let error = Source::Csv(options.clone()).open().unwrap_err();
        assert!(matches!(error, DataError::Label { sample: 1, got: 4_000_000_000, classes: 65_536, .. }));
        let options = CsvOptions { classes: Some(1), ..options };
        assert!(matches!(Source::Csv(options).open(), Err(DataError::Label { classes: 1, .. })));
    }
}
