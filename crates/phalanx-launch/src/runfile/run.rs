//! A run file as meant: every key resolved and checked.

use sha2::{Digest, Sha256};
use toml::Value as Toml;

use crate::aggregation::Attacks;

use super::check;
use super::error::{Fault, Problem, RunFileError};
use super::key::{Group, Key, Resume, keys, path};
use super::range::Range;
use super::raw::RawRun;
use super::reader::Reader;
use super::registered::Registered;
use super::sections::{
    Aggregation, Batch, BatchPolicy, Checkpoint, Comm, Compression, Data, Faults, Model, Optimizer, Output,
    Schedule, Source, Stop, Train,
};

/// Declares [`Run`]: its sections, in the order of the file.
macro_rules! run {
    ($( $(#[doc = $doc:literal])* $section:ident : $Section:ty, )*) => {
        /// A run, as meant: every key has its value, and the values fit together.
        ///
        /// The fields are the sections of the file. [`to_toml`](Self::to_toml) writes the file
        /// that resolves to an equal run.
        #[derive(Debug, Clone, PartialEq)]
        pub struct Run {
            /// Name of the run and of its directory.
            pub name: String,
            /// Seed of everything that is random.
            pub seed: u64,
            /// Attacks on the run.
            pub attack: Attacks,
            $( $(#[doc = $doc])* pub $section: $Section, )*
        }

        /// The sections, with what each is for.
        pub(super) const SECTIONS: &[(&str, &str)] = &[$( (stringify!($section), concat!($($doc),*)), )*];

        /// Every key of the run file, in the order of the resolved file.
        #[must_use]
        pub fn keys() -> Vec<Key> {
            let mut keys = Vec::new();
            Head::keys("", &mut keys);
            $( <$Section>::keys(stringify!($section), &mut keys); )*
            keys
        }

        impl RawRun {
            /// Resolves and checks every key. The kinds of `registered` are known besides the
            /// library's.
            ///
            /// # Errors
            /// A [`RunFileError`] that lists every problem of the file.
            pub fn resolve(&self, registered: &Registered) -> Result<Run, RunFileError> {
                let raw = &self.with_implied_optimizer();
                let all = keys();
                let sections: Vec<&'static str> = SECTIONS.iter().map(|(name, _)| *name).collect();
                let mut problems = Vec::new();
                let models = registered.own_models();
                let parts = Parts {
                    head: Reader::new(raw, "", models, &mut problems).read_all(&all, &sections),
                    $( $section: Reader::new(raw, stringify!($section), models, &mut problems).read_all(&all, &[]), )*
                };
                check::check(raw, &parts, &mut problems);
                match parts.whole() {
                    Some(run) if problems.is_empty() => Ok(run),
                    _ => Err(RunFileError::new(self.file(), problems)),
                }
            }
        }

        /// The sections that could be read.
        pub(super) struct Parts {
            pub(super) head: Option<Head>,
            $( pub(super) $section: Option<$Section>, )*
        }

        impl Parts {
            fn whole(self) -> Option<Run> {
                let Head { name, seed, attack } = self.head?;
                Some(Run { name, seed, attack, $( $section: self.$section?, )* })
            }
        }

        impl Run {
            /// The resolved run file: every key that applies, in one order, so that equal runs
            /// have equal text.
            ///
            /// # Examples
            /// ```
            /// use phalanx_launch::runfile::{RawRun, Registered};
            /// let text = "name = 'a'\n[model]\nkind = 'mlp'\n[data]\nkind = 'digits'\n\
            ///             [train]\nepochs = 1\n[optimizer]\nlr = 0.1\n";
            /// let run = RawRun::parse("a.toml", text)?.resolve(&Registered::default())?;
            /// let again = RawRun::parse("b.toml", &run.to_toml())?.resolve(&Registered::default())?;
            /// assert_eq!(run, again);
            /// # Ok::<(), phalanx_launch::runfile::RunFileError>(())
            /// ```
            #[must_use]
            pub fn to_toml(&self) -> String {
                let mut text = String::new();
                let mut entries = Vec::new();
                Head { name: self.name.clone(), seed: self.seed, attack: self.attack.clone() }.write(&mut entries);
                write_entries(&mut text, &mut entries);
                $(
                    text += &format!("\n[{}]\n", stringify!($section));
                    self.$section.write(&mut entries);
                    write_entries(&mut text, &mut entries);
                )*
                text
            }
        }
    };
}

run! {
    /// Which network is trained.
    model: Model,
    /// What it learns from.
    data: Data,
    /// How the work is split over ranks, and when it is done.
    train: Train,
    /// How a gradient becomes an update.
    optimizer: Optimizer,
    /// The learning rate over the run.
    schedule: Schedule,
    /// How the batch size follows the run.
    batch: Batch,
    /// How the ranks' gradients become one.
    aggregation: Aggregation,
    /// In how many bytes the ranks' gradients travel.
    compression: Compression,
    /// How ranks that are processes reduce.
    comm: Comm,
    /// What is kept to go on from.
    checkpoint: Checkpoint,
    /// What is written for other tools.
    output: Output,
    /// What is made to go wrong.
    faults: Faults,
}

keys! {
    /// The keys above all sections.
    pub(super) struct Head {
        /// Name of the run; its directory is `runs/NAME`.
        name: String, "", Range::Any, Fixed;
        /// Seed of everything that is random: weights, order of samples, dropout.
        seed: u64 = 0, "", Range::AtLeast(0.0), Fixed;
        /// Attacks on the run, for experiments: [[attack]] tables with `kind` and the hostile `ranks`, and settings as
        /// `phalanx config rules` lists them; "label-flip" takes `to`, "mirror" or "next".
        attack: Attacks = Attacks::default(), "", Range::Any, Fixed;
    }
}

impl Run {
    /// SHA-256 of the resolved file, in hexadecimal. Ranks compare it before the first step.
    #[must_use]
    pub fn digest(&self) -> String {
        Sha256::digest(self.to_toml()).iter().map(|byte| format!("{byte:02x}")).collect()
    }

    /// Tokens of a sample of text: `data.context`, else `model.context`, else 128. `None` if the
    /// data are no text.
    #[must_use]
    pub fn context(&self) -> Option<usize> {
        let Source::Text { context, .. } = self.data.source else { return None };
        let of_model = match self.model {
            Model::Gpt { context, .. } => context,
            _ => 128,
        };
        Some(context.unwrap_or(of_model))
    }

    /// What is worth saying about the run before it begins.
    #[must_use]
    pub fn notes(&self) -> Vec<String> {
        let policy = self.batch.policy.kind();
        let (kept, brought) = (self.optimizer.rule.kind(), self.batch.policy.optimizer());
        let kept = brought.filter(|brought| *brought != kept).map(|brought| {
            format!("optimizer.kind = \"{kept}\" is kept; batch.policy = \"{policy}\" by itself would set \"{brought}\"")
        });
        let attacks = self.attack.on(self.train.ranks).unwrap_or_default().into_iter().map(|attack| {
            let ranks: Vec<String> = attack.ranks.iter().map(ToString::to_string).collect();
            let name = attack.kind.name();
            format!("the run is under attack: {name} by rank {}", ranks.join(", "))
        });
        kept.into_iter().chain(attacks).collect()
    }

    /// Samples that a rank takes between two additions to its gradient, with `ranks` ranks and a
    /// global batch of `batch`: `train.micro_batch`, or its share of the batch, rounded up.
    #[must_use]
    pub fn micro_batch(&self, batch: usize, ranks: usize) -> usize {
        let share = batch.div_ceil(ranks.max(1)).max(1);
        match self.train.micro_batch {
            0 => share,
            samples => samples.min(share),
        }
    }

    /// Samples after which the run is done, where `epoch` is the samples of one pass. `None` if
    /// the end is counted in steps and the batch may change.
    #[must_use]
    pub fn total_samples(&self, epoch: u64) -> Option<u64> {
        match (self.train.stop, &self.batch.policy) {
            (Stop::Epochs(epochs), _) => Some(epochs.saturating_mul(epoch)),
            (Stop::Samples(samples), _) => Some(samples),
            (Stop::Steps(steps), BatchPolicy::Constant {}) => {
                Some(steps.saturating_mul(u64::try_from(self.train.batch).unwrap_or(u64::MAX)))
            }
            (Stop::Steps(_), _) => None,
        }
    }
}

impl RawRun {
    /// Resolves the file of a run that goes on, on which only keys that a resumed run may change
    /// have been [set](RawRun::set).
    ///
    /// # Errors
    /// A [`RunFileError`] that names every other key that was set, or as
    /// [`resolve`](RawRun::resolve).
    pub fn resolve_resumed(&self, registered: &Registered) -> Result<Run, RunFileError> {
        let may: Vec<String> = keys().iter().filter(|key| key.resume == Resume::May).map(Key::path).collect();
        let fixed: Vec<Problem> = self
            .assignments()
            .iter()
            .filter(|set| !may.contains(&set.path))
            .map(|set| Problem::new(&set.path, Fault::Fixed { may: may.clone() }).at(set.at()))
            .collect();
        match fixed.is_empty() {
            true => self.resolve(registered),
            false => Err(RunFileError::new(self.file(), fixed)),
        }
    }
}

/// Paths of the keys whose values differ between two runs, with the values as TOML (empty: not
/// given), in the order of the file.
#[must_use]
pub fn differences(a: &Run, b: &Run) -> Vec<(String, String, String)> {
    let (a, b) = (flat(a), flat(b));
    let mut all: Vec<&String> = a.iter().chain(&b).map(|(path, _)| path).collect();
    let mut seen = std::collections::BTreeSet::new();
    all.retain(|path| seen.insert(*path));
    let value = |run: &[(String, String)], path: &String| {
        run.iter().find(|(of, _)| of == path).map(|(_, value)| value.clone()).unwrap_or_default()
    };
    all.into_iter()
        .map(|path| (path.clone(), value(&a, path), value(&b, path)))
        .filter(|(_, a, b)| a != b)
        .collect()
}

fn flat(run: &Run) -> Vec<(String, String)> {
    let mut section = String::new();
    let mut flat = Vec::new();
    for line in run.to_toml().lines() {
        if let Some(name) = line.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')) {
            name.clone_into(&mut section);
        } else if let Some((name, value)) = line.split_once(" = ") {
            flat.push((path(&section, name), value.to_owned()));
        }
    }
    flat
}

fn write_entries(text: &mut String, entries: &mut Vec<(String, Toml)>) {
    for (key, value) in entries.drain(..) {
        *text += &format!("{} = {}\n", quoted(&key), one_line(&value));
    }
}

/// A free key of a registered model may need quotes.
fn quoted(key: &str) -> String {
    let is_bare = |c: char| c.is_ascii_alphanumeric() || c == '_' || c == '-';
    match !key.is_empty() && key.chars().all(is_bare) {
        true => key.to_owned(),
        false => one_line(&Toml::String(key.to_owned())),
    }
}

/// The value on one line: `"a\nb"` rather than a multi-line string, so that a line is a key.
fn one_line(value: &Toml) -> String {
    match value {
        Toml::String(text) => basic_string(text),
        Toml::Array(items) => format!("[{}]", items.iter().map(one_line).collect::<Vec<_>>().join(", ")),
        Toml::Table(table) if table.is_empty() => "{}".to_owned(),
        Toml::Table(table) => {
            let items = table.iter().map(|(key, item)| format!("{} = {}", quoted(key), one_line(item)));
            format!("{{ {} }}", items.collect::<Vec<_>>().join(", "))
        }
        other => other.to_string(),
    }
}

fn basic_string(text: &str) -> String {
    let mut quoted = String::from("\"");
    for c in text.chars() {
        match c {
            '"' | '\\' => quoted.extend(['\\', c]),
            c if c.is_control() => {
                quoted += &format!("\\u{:04X}", u32::from(c));
            }
            c => quoted.push(c),
        }
    }
    quoted.push('"');
    quoted
}
