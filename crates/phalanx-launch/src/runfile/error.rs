//! What is wrong with a run file: every problem at once, each with its place, key and way out.

use std::fmt;
use std::io;
use std::ops::Range;

use crate::aggregation::{AttacksError, UnfitError};

/// A run file that cannot be used, with all its problems.
#[derive(Debug)]
pub struct RunFileError {
    file: String,
    problems: Vec<Problem>,
}

/// One problem of a run file.
#[derive(Debug)]
pub struct Problem {
    /// Path of the key, such as `optimizer.lr`; empty where the problem is of no one key.
    pub key: String,
    /// Where it was written.
    pub at: At,
    /// What is wrong.
    pub fault: Fault,
}

/// Where a key or value was written.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum At {
    /// In the file.
    Line {
        /// Line, from 1.
        line: usize,
        /// Column in characters, from 1.
        column: usize,
        /// Characters that it takes on its line, at least 1.
        width: usize,
        /// The line, without control characters.
        text: String,
    },
    /// In this argument of the command line.
    Argument(String),
    /// Nowhere: the key is not given.
    Nowhere,
}

/// What is wrong with a key, a value, or several together.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Fault {
    /// The file cannot be read.
    #[error("cannot be read: {source}")]
    Unreadable {
        /// The reason.
        source: io::Error,
    },
    /// Not TOML.
    #[error("{message}")]
    Syntax {
        /// What the TOML reader says.
        message: String,
    },
    /// A number past 64 bits.
    #[error("a number too large for 64 bits")]
    NumberTooLarge,
    /// `--set` without `path.to.key=value`.
    #[error("need path.to.key=value")]
    NotAnAssignment,
    /// `--set` with text that is neither a TOML value nor a bare word.
    #[error("need a TOML value or a bare word after `=`")]
    NotAValue,
    /// `--set` of a key below a value.
    #[error("the path leads through a value that is no table")]
    NotATable,
    /// A key or section that does not exist.
    #[error("unknown key{}", hint(nearest.as_deref(), known))]
    UnknownKey {
        /// Path of the nearest key that does exist.
        nearest: Option<String>,
        /// The keys that could stand there.
        known: Vec<&'static str>,
    },
    /// A key of another kind.
    #[error("not a key of {section} {kind}; it takes {}", list(takes))]
    OtherKind {
        /// The section.
        section: &'static str,
        /// The kind that the section has.
        kind: String,
        /// The keys that the kind takes.
        takes: Vec<&'static str>,
    },
    /// A value that is not one of the names.
    #[error("unknown {what} {got:?}{}", hint(nearest.as_deref(), known))]
    UnknownName {
        /// What the name is of.
        what: String,
        /// The name.
        got: String,
        /// The nearest known one.
        nearest: Option<String>,
        /// All known ones.
        known: Vec<String>,
    },
    /// A value of a wrong type or out of range.
    #[error("got {got}, need {need}")]
    Value {
        /// The value as TOML.
        got: String,
        /// What the key takes.
        need: String,
    },
    /// A value where a table belongs.
    #[error("got {got}, need a table: [{section}]")]
    Table {
        /// The value as TOML.
        got: String,
        /// The section.
        section: &'static str,
    },
    /// A key that must be given.
    #[error("not given, need {need}")]
    Missing {
        /// What the key takes.
        need: String,
    },
    /// None or several of keys of which a run has exactly one.
    #[error("need exactly one of {}, got {}", list(of), if got.is_empty() { "none".to_owned() } else { list(got) })]
    NotOne {
        /// The keys.
        of: Vec<&'static str>,
        /// Those given.
        got: Vec<&'static str>,
    },
    /// A key that a resumed run keeps.
    #[error("a resumed run keeps it; only {} may change", list(may))]
    Fixed {
        /// The keys that may change.
        may: Vec<String>,
    },
    /// A name that is no plain file name.
    #[error("got {got:?}, need letters, digits, `-`, `_` and `.`, the first a letter or digit, at most 100")]
    Name {
        /// The name.
        got: String,
    },
    /// More ranks than virtual shards.
    #[error("got {ranks} ranks, need at most train.shards ({shards}) for reduction = \"reproducible\"")]
    RanksOverShards {
        /// The ranks.
        ranks: usize,
        /// The shards.
        shards: usize,
    },
    /// A batch that leaves a rank without a sample.
    #[error("got {batch} samples, need at least one for each of {ranks} ranks")]
    BatchUnderRanks {
        /// The batch.
        batch: usize,
        /// The ranks.
        ranks: usize,
    },
    /// A greatest batch below the first.
    #[error("got {max} samples, need at least train.batch ({batch}), with which the run begins")]
    MaxUnderBatch {
        /// The greatest batch.
        max: usize,
        /// The first.
        batch: usize,
    },
    /// A greatest local batch below the first.
    #[error("got {max} samples, need at least local.batch ({batch}), with which the run begins")]
    MaxUnderLocalBatch {
        /// The greatest batch.
        max: usize,
        /// The first.
        batch: usize,
    },
    /// More clients a round than there are.
    #[error("got {per_round} clients, need at most federated.clients ({clients})")]
    CohortOverClients {
        /// Clients of a round.
        per_round: usize,
        /// All clients.
        clients: usize,
    },
    /// A smallest batch above the greatest.
    #[error("got {min} samples, need at most batch.max ({max})")]
    MinOverMax {
        /// The smallest batch.
        min: usize,
        /// The greatest.
        max: usize,
    },
    /// A rule over ranks that cannot be used.
    #[error(transparent)]
    Unfit(UnfitError),
    /// An attack that cannot be.
    #[error(transparent)]
    Attack(AttacksError),
    /// A rule without the samples that it trusts.
    #[error("{rule} compares with what samples that are trusted give: need aggregation.trusted_samples")]
    NothingTrusted {
        /// The rule.
        rule: String,
    },
    /// Samples that no rule trusts.
    #[error(
        "aggregation.rule = \"{rule}\" trusts no samples: need \"fltrust\", or \"monna\" without a pivot"
    )]
    TrustsNothing {
        /// The rule.
        rule: String,
    },
    /// Nodes of a rule over others.
    #[error("got {ranks} ranks, which nothing asks for: need aggregation.over = \"nodes\"")]
    NodesNotCompared {
        /// Ranks of a node.
        ranks: usize,
    },
    /// A rule over the nodes of a federated run.
    #[error("a federated run is over clients, which ranks play: need \"ranks\"")]
    ClientsNotNodes,
    /// A rule or an attack in a mode that has no gradients of ranks.
    #[error(
        "{over} is over the gradients of ranks, which virtual shards replace: need train.reduction = \"fast\""
    )]
    OverShards {
        /// The rule or the attack.
        over: String,
    },
    /// Compression of a sum that is not made.
    #[error("compresses the mean over ranks, which {over} does not leave: need compression.kind = \"none\"")]
    CompressedRule {
        /// The rule or the attack.
        over: String,
    },
    /// A batch policy that takes the gradient for the mean.
    #[error(
        "compares gradients with their mean, which {over} does not leave: need aggregation.rule = \"mean\" by itself and no attack"
    )]
    NeedsMean {
        /// The rule or the attack.
        over: String,
    },
    /// A variance over ranks where there is one.
    #[error(
        "a variance needs 2 gradients and a batch has one: need train.ranks of at least 2, or train.reduction = \
         \"reproducible\" with train.shards of at least 2{}",
        if *by_samples { ", or batch.statistic = \"samples\"" } else { "" }
    )]
    OneChunk {
        /// Whether samples could be compared instead.
        by_samples: bool,
    },
    /// Compressed gradients whose bits should not follow the number of ranks.
    #[error(
        "got \"{kind}\", need \"none\" for train.reduction = \"reproducible\": what each rank loses depends on how many \
         there are"
    )]
    LossyReproducible {
        /// The compression.
        kind: String,
    },
    /// A schedule over samples whose number nobody knows.
    #[error(
        "the batch changes, so that schedule.kind = \"{schedule}\" cannot know the end: need train.samples or train.epochs, or \
         schedule.kind = \"constant\""
    )]
    EndUnknown {
        /// The schedule.
        schedule: String,
    },
    /// Heads that do not divide the width.
    #[error("got {heads} heads, need a divisor of model.width ({width})")]
    HeadsDoNotDivide {
        /// The heads.
        heads: usize,
        /// The width.
        width: usize,
    },
    /// Windows longer than the model's positions.
    #[error("got {got} tokens, need at most model.context ({most})")]
    ContextOverModel {
        /// Tokens of a window.
        got: usize,
        /// Positions of the model.
        most: usize,
    },
    /// Data that the model cannot take.
    #[error("model {model} cannot train on data {data}, it takes {}", list(takes))]
    DataUnfit {
        /// The kind of model.
        model: &'static str,
        /// The kind of data.
        data: &'static str,
        /// The kinds that it takes.
        takes: Vec<&'static str>,
    },
    /// Nesterov's step without a velocity.
    #[error("needs optimizer.momentum above 0")]
    NesterovWithoutMomentum,
    /// A warm-up past the end of the run.
    #[error("got {warmup} samples, need at most train.samples ({samples})")]
    WarmupPastEnd {
        /// Samples of the warm-up.
        warmup: u64,
        /// Samples of the run.
        samples: u64,
    },
}

impl RunFileError {
    pub(super) fn new(file: &str, mut problems: Vec<Problem>) -> Self {
        problems.sort_by(|a, b| (a.at.order(), &a.key).cmp(&(b.at.order(), &b.key)));
        Self { file: file.to_owned(), problems }
    }

    pub(super) fn one(file: &str, problem: Problem) -> Self {
        Self::new(file, vec![problem])
    }

    /// Place, key and fault, on one line.
    fn head(&self, problem: &Problem) -> String {
        let Problem { key, at, fault } = problem;
        let place = match at {
            At::Line { line, column, .. } => format!("{}:{line}:{column}", self.file),
            At::Argument(argument) => argument.clone(),
            At::Nowhere => self.file.clone(),
        };
        let key = if key.is_empty() { String::new() } else { format!("{key}: ") };
        format!("{place}: {key}{fault}")
    }

    /// All problems, in the order of the file.
    #[must_use]
    pub fn problems(&self) -> &[Problem] {
        &self.problems
    }
}

impl Problem {
    pub(super) fn new(key: &str, fault: Fault) -> Self {
        Self { key: key.to_owned(), at: At::Nowhere, fault }
    }

    pub(super) fn at(mut self, at: At) -> Self {
        self.at = at;
        self
    }
}

impl At {
    pub(super) fn in_text(text: &str, span: &Range<usize>) -> Self {
        let start = floor_char_boundary(text, span.start);
        let line_start = text[..start].rfind('\n').map_or(0, |newline| newline + 1);
        let line = text[line_start..].lines().next().unwrap_or_default();
        let column = text[line_start..start].chars().count() + 1;
        let end = floor_char_boundary(text, span.end.min(line_start + line.len())).max(start);
        Self::Line {
            line: text[..line_start].matches('\n').count() + 1,
            column,
            width: text[start..end].chars().count().max(1),
            text: printable(line),
        }
    }

    /// Missing keys last, arguments after the file.
    fn order(&self) -> (u8, usize, usize) {
        match self {
            Self::Line { line, column, .. } => (0, *line, *column),
            Self::Argument(_) => (1, 0, 0),
            Self::Nowhere => (2, 0, 0),
        }
    }
}

impl std::error::Error for RunFileError {}

impl fmt::Display for RunFileError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (idx, problem) in self.problems.iter().enumerate() {
            if idx > 0 {
                f.write_str("\n")?;
            }
            f.write_str(&printable(&self.head(problem)))?;
            if let At::Line { line, column, width, text } = &problem.at {
                excerpt(f, *line, *column, *width, text)?;
            }
        }
        Ok(())
    }
}

/// What a file says must not reach a terminal as commands to it.
fn printable(text: &str) -> String {
    text.chars().map(|c| if c.is_control() && c != '\n' { ' ' } else { c }).collect()
}

/// The longest line that is shown whole; of longer ones the place says enough.
const MOST_COLUMNS: usize = 160;

fn excerpt(f: &mut fmt::Formatter<'_>, line: usize, column: usize, width: usize, text: &str) -> fmt::Result {
    let columns = text.chars().count();
    if columns == 0 || columns > MOST_COLUMNS {
        return Ok(());
    }
    write!(f, "\n{line:>5} | {text}\n      | {:indent$}{:^<width$}", "", "", indent = column - 1)
}

/// `str::floor_char_boundary` is not stable in this crate's `rust-version`.
fn floor_char_boundary(text: &str, at: usize) -> usize {
    (0..=at.min(text.len())).rev().find(|idx| text.is_char_boundary(*idx)).unwrap_or(0)
}

fn hint<T: AsRef<str>>(nearest: Option<&str>, known: &[T]) -> String {
    match nearest {
        Some(name) => format!(", did you mean `{name}`?"),
        None if known.is_empty() => String::new(),
        None => format!("; known are {}", list(known)),
    }
}

fn list<T: AsRef<str>>(names: &[T]) -> String {
    names.iter().map(AsRef::as_ref).collect::<Vec<_>>().join(", ")
}
