//! A run file as typed: its tree of keys and values, each with the place it was written at.
//!
//! Nothing is judged here but the syntax, so that [`RawRun::resolve`](super::RawRun::resolve) can
//! list every problem of a file at once and point at each.

use std::collections::BTreeMap;
use std::fs;
use std::ops::Range;
use std::path::Path;

use toml::Value as Toml;
use toml::de::{DeTable, DeValue};

use super::error::{At, Fault, Problem, RunFileError};
use super::sections::{LENGTHS, optimizer_of};

/// A run file as typed, with what `--set` put over it.
#[derive(Debug, Clone)]
pub struct RawRun {
    file: String,
    text: String,
    root: Entries,
    assignments: Vec<Assignment>,
}

/// One `--set path.to.key=value`, as typed.
#[derive(Debug, Clone)]
pub(super) struct Assignment {
    pub(super) path: String,
    text: String,
}

pub(super) type Entries = BTreeMap<String, Entry>;

#[derive(Debug, Clone)]
pub(super) struct Entry {
    pub(super) key: Place,
    pub(super) value: Place,
    pub(super) node: Node,
}

#[derive(Debug, Clone)]
pub(super) enum Node {
    Table(Entries),
    Leaf(Toml),
}

#[derive(Debug, Clone)]
pub(super) enum Place {
    /// Bytes of the file.
    File(Range<usize>),
    /// Index of an assignment.
    Set(usize),
}

/// Keys of which a run has exactly one: assigning one takes the others' place.
pub(super) const STOPS: [&str; 3] = ["epochs", "samples", "steps"];

impl RawRun {
    /// Reads a run file.
    ///
    /// # Errors
    /// A [`RunFileError`] that lists every syntax error, or says why the file cannot be read.
    pub fn read(path: &Path) -> Result<Self, RunFileError> {
        let file = path.display().to_string();
        match fs::read_to_string(path) {
            Ok(text) => Self::parse(&file, &text),
            Err(source) => Err(RunFileError::one(&file, Problem::new("", Fault::Unreadable { source }))),
        }
    }

    /// Reads the text of a run file; `file` is the name that errors give it.
    ///
    /// # Errors
    /// A [`RunFileError`] that lists every syntax error.
    pub fn parse(file: &str, text: &str) -> Result<Self, RunFileError> {
        let (table, errors) = DeTable::parse_recoverable(text);
        let mut problems: Vec<Problem> = errors
            .into_iter()
            .map(|error| {
                let at = error.span().map_or(At::Nowhere, |span| At::in_text(text, &span));
                Problem::new("", Fault::Syntax { message: error.message().to_owned() }).at(at)
            })
            .collect();
        let root = entries(table.into_inner(), text, "", &mut problems);
        match problems.is_empty() {
            true => Ok(Self { file: file.to_owned(), text: text.to_owned(), root, assignments: Vec::new() }),
            false => Err(RunFileError::new(file, problems)),
        }
    }

    /// Puts `path.to.key=value` over what the file says. The value is one of TOML; a bare word is
    /// a string. One of `train.epochs`, `train.samples`, `train.steps` replaces the others, and one of `local.epochs` and
    /// `local.steps` the other.
    ///
    /// # Errors
    /// A [`RunFileError`] when `assignment` has no `=`, no path or no readable value.
    pub fn set(&mut self, assignment: &str) -> Result<(), RunFileError> {
        let shown = format!("--set {assignment}");
        let fail = |key: &str, fault| {
            Err(RunFileError::one(&self.file, Problem::new(key, fault).at(At::Argument(shown.clone()))))
        };
        let Some((path, value)) = assignment.split_once('=') else { return fail("", Fault::NotAnAssignment) };
        let path = path.trim();
        let keys: Vec<&str> = path.split('.').map(str::trim).collect();
        if keys.iter().any(|key| key.is_empty()) {
            return fail("", Fault::NotAnAssignment);
        }
        let Some(value) = typed(value.trim()) else { return fail(path, Fault::NotAValue) };
        let place = Place::Set(self.assignments.len());
        let one_of: &[&str] = match keys.as_slice() {
            ["train", stop] if STOPS.contains(stop) => &STOPS,
            ["local", length] if LENGTHS.contains(length) => &LENGTHS,
            _ => &[],
        };
        if let Some(Entry { node: Node::Table(section), .. }) = self.root.get_mut(keys[0]) {
            section.retain(|key, _| !one_of.contains(&key.as_str()));
        }
        if !put(&mut self.root, &keys, value, &place) {
            return fail(path, Fault::NotATable);
        }
        self.assignments.push(Assignment { path: path.to_owned(), text: shown });
        Ok(())
    }

    /// The same, with the optimizer that `batch.policy` brings along where none is named. It counts as written where the
    /// policy is.
    pub(super) fn with_implied_optimizer(&self) -> Self {
        let mut raw = self.clone();
        let Some(Entry { node: Node::Table(batch), .. }) = self.root.get("batch") else { return raw };
        let Some(Entry { node: Node::Leaf(Toml::String(policy)), value, .. }) = batch.get("policy") else {
            return raw;
        };
        let names_one = match self.root.get("optimizer") {
            Some(Entry { node: Node::Table(optimizer), .. }) => optimizer.contains_key("kind"),
            Some(_) => true,
            None => false,
        };
        if let (false, Some(kind)) = (names_one, optimizer_of(policy)) {
            put(&mut raw.root, &["optimizer", "kind"], Toml::String(kind.to_owned()), value);
        }
        raw
    }

    /// Whether a rule is over nodes of which the file does not say how many ranks they have.
    pub(crate) fn lacks_ranks_per_node(&self) -> bool {
        let Some(Entry { node: Node::Table(section), .. }) = self.root.get("aggregation") else {
            return false;
        };
        let over = section.get("over").map(|entry| &entry.node);
        let is_over_nodes = matches!(over, Some(Node::Leaf(Toml::String(over))) if over == "nodes");
        is_over_nodes && !section.contains_key("ranks_per_node")
    }

    /// The name that errors give the file.
    #[must_use]
    pub fn file(&self) -> &str {
        &self.file
    }

    pub(super) fn root(&self) -> &Entries {
        &self.root
    }

    pub(super) fn assignments(&self) -> &[Assignment] {
        &self.assignments
    }

    pub(super) fn at(&self, place: &Place) -> At {
        match place {
            Place::File(span) => At::in_text(&self.text, span),
            Place::Set(idx) => {
                self.assignments.get(*idx).map_or(At::Nowhere, |set| At::Argument(set.text.clone()))
            }
        }
    }

    /// Where the value of `section.name` was written, if it was.
    pub(super) fn at_value(&self, path: &str) -> At {
        let mut entries = &self.root;
        let mut at = At::Nowhere;
        for key in path.split('.') {
            let Some(entry) = entries.get(key) else { return At::Nowhere };
            at = self.at(&entry.value);
            match &entry.node {
                Node::Table(inner) => entries = inner,
                Node::Leaf(_) => return at,
            }
        }
        at
    }
}

impl Assignment {
    pub(super) fn at(&self) -> At {
        At::Argument(self.text.clone())
    }
}

impl Node {
    pub(super) fn to_toml(&self) -> Toml {
        match self {
            Self::Leaf(toml) => toml.clone(),
            Self::Table(entries) => {
                Toml::Table(entries.iter().map(|(key, entry)| (key.clone(), entry.node.to_toml())).collect())
            }
        }
    }
}

fn entries(table: DeTable<'_>, text: &str, prefix: &str, problems: &mut Vec<Problem>) -> Entries {
    table
        .into_iter()
        .filter_map(|(key, value)| {
            let (key_span, value_span) = (key.span(), value.span());
            let key = key.into_inner().into_owned();
            let path = if prefix.is_empty() { key.clone() } else { format!("{prefix}.{key}") };
            let node = match value.into_inner() {
                DeValue::Table(inner) => Node::Table(entries(inner, text, &path, problems)),
                other => match leaf(other) {
                    Some(toml) => Node::Leaf(toml),
                    None => {
                        let at = At::in_text(text, &value_span);
                        problems.push(Problem::new(&path, Fault::NumberTooLarge).at(at));
                        return None;
                    }
                },
            };
            Some((key, Entry { key: Place::File(key_span), value: Place::File(value_span), node }))
        })
        .collect()
}

/// `None` for a number that does not fit 64 bits.
fn leaf(value: DeValue<'_>) -> Option<Toml> {
    Some(match value {
        DeValue::String(text) => Toml::String(text.into_owned()),
        DeValue::Integer(int) => Toml::Integer(i64::from_str_radix(int.as_str(), int.radix()).ok()?),
        DeValue::Float(float) => {
            let number: f64 = float.as_str().parse().ok()?;
            if number.is_infinite() && !float.as_str().contains("inf") {
                return None;
            }
            Toml::Float(number)
        }
        DeValue::Boolean(boolean) => Toml::Boolean(boolean),
        DeValue::Datetime(datetime) => Toml::Datetime(datetime),
        DeValue::Array(array) => {
            Toml::Array(array.into_iter().map(|item| leaf(item.into_inner())).collect::<Option<_>>()?)
        }
        DeValue::Table(table) => Toml::Table(
            table
                .into_iter()
                .map(|(key, item)| Some((key.into_inner().into_owned(), leaf(item.into_inner())?)))
                .collect::<Option<_>>()?,
        ),
    })
}

/// The value after `=`: TOML, or a bare word as a string.
fn typed(text: &str) -> Option<Toml> {
    match text.parse() {
        Ok(value) => Some(value),
        Err(_) if text.is_empty() || text.starts_with(['[', '{', '"', '\'']) => None,
        Err(_) => Some(Toml::String(text.to_owned())),
    }
}

/// Whether there was room: a value that is no table has no keys.
fn put(entries: &mut Entries, keys: &[&str], value: Toml, place: &Place) -> bool {
    let [key, rest @ ..] = keys else { return false };
    if rest.is_empty() {
        entries.insert((*key).to_owned(), assigned(value, place));
        return true;
    }
    let empty = || Entry { key: place.clone(), value: place.clone(), node: Node::Table(Entries::new()) };
    match &mut entries.entry((*key).to_owned()).or_insert_with(empty).node {
        Node::Table(inner) => put(inner, rest, value, place),
        Node::Leaf(_) => false,
    }
}

fn assigned(value: Toml, place: &Place) -> Entry {
    let node = match value {
        Toml::Table(table) => {
            Node::Table(table.into_iter().map(|(key, item)| (key, assigned(item, place))).collect())
        }
        other => Node::Leaf(other),
    };
    Entry { key: place.clone(), value: place.clone(), node }
}
