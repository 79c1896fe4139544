//! A run file of training as meant: every key resolved and checked.

use sha2::{Digest, Sha256};

use crate::aggregation::{Attack, Attacks, AttacksError};

use super::check;
use super::described::{Described, described};
use super::error::{Fault, Problem, RunFileError};
use super::key::{Key, Resume, keys, path};
use super::range::Range;
use super::raw::RawRun;
use super::registered::Registered;
use super::sections::{
    Aggregation, Batch, BatchPolicy, Checkpoint, Comm, Compression, Data, Faults, Model, Optimizer, Output,
    Schedule, Source, Stop, Train,
};

described! {
    /// A training run, as meant.
    ///
    /// The fields are the sections of the file. [`to_toml`](Self::to_toml) writes the file
    /// that resolves to an equal run.
    pub struct Run of Parts, Head, checked by check::check {
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

/// The attacks on ranks or nodes, as far as it is known how many of these there are.
pub(super) fn attacks(
    attacks: &Attacks,
    aggregation: &Aggregation,
    train: &Train,
) -> Result<Vec<Attack>, AttacksError> {
    let most = train.ranks;
    attacks.on(aggregation.over().map_or(most, |over| over.senders(most)), aggregation.senders())
}

/// Every key of the run file of a training run, in the order of the resolved file.
#[must_use]
pub fn keys() -> Vec<Key> {
    Run::keys()
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
        Described::to_toml(self)
    }

    /// SHA-256 of the resolved file, in hexadecimal. Ranks compare it before the first step.
    #[must_use]
    pub fn digest(&self) -> String {
        Sha256::digest(self.to_toml()).iter().map(|byte| format!("{byte:02x}")).collect()
    }

    /// Tokens of a sample of text: `data.context`, else `model.context`, else 128. `None` if the
    /// data are no text.
    #[must_use]
    pub fn context(&self) -> Option<usize> {
        context_of(&self.data, &self.model)
    }

    /// What is worth saying about the run before it begins.
    #[must_use]
    pub fn notes(&self) -> Vec<String> {
        let policy = self.batch.policy.kind();
        let (kept, brought) = (self.optimizer.rule.kind(), self.batch.policy.optimizer());
        let kept = brought.filter(|brought| *brought != kept).map(|brought| {
            format!("optimizer.kind = \"{kept}\" is kept; batch.policy = \"{policy}\" by itself would set \"{brought}\"")
        });
        let by = self.aggregation.senders().one();
        let attacks = self.attacks().unwrap_or_default().into_iter().map(|attack| {
            let ranks: Vec<String> = attack.ranks.iter().map(ToString::to_string).collect();
            let name = attack.kind.name();
            format!("the run is under attack: {name} by {by} {}", ranks.join(", "))
        });
        kept.into_iter().chain(attacks).collect()
    }

    /// The attacks on the run's ranks, or nodes where its rule is over these.
    ///
    /// # Errors
    /// [`AttacksError`] for the first thing that is wrong.
    pub fn attacks(&self) -> Result<Vec<Attack>, AttacksError> {
        attacks(&self.attack, &self.aggregation, &self.train)
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

/// Tokens of a sample of text; see [`Run::context`].
pub(crate) fn context_of(data: &Data, model: &Model) -> Option<usize> {
    let Source::Text { context, .. } = data.source else { return None };
    let of_model = match *model {
        Model::Gpt { context, .. } => context,
        _ => 128,
    };
    Some(context.unwrap_or(of_model))
}

impl RawRun {
    /// Resolves and checks every key of a training run. The kinds of `registered` are known besides the
    /// library's.
    ///
    /// # Errors
    /// A [`RunFileError`] that lists every problem of the file.
    pub fn resolve(&self, registered: &Registered) -> Result<Run, RunFileError> {
        Run::read(self, registered)
    }

    /// Resolves the file of a run that goes on, on which only keys that a resumed run may change
    /// have been [set](RawRun::set).
    ///
    /// # Errors
    /// A [`RunFileError`] that names every other key that was set, or as
    /// [`resolve`](RawRun::resolve).
    pub fn resolve_resumed<R: Described>(&self, registered: &Registered) -> Result<R, RunFileError> {
        let keys = R::keys();
        let may: Vec<String> = keys.iter().filter(|key| key.resume == Resume::May).map(Key::path).collect();
        let fixed: Vec<Problem> = self
            .assignments()
            .iter()
            .filter(|set| !may.contains(&set.path))
            .map(|set| Problem::new(&set.path, Fault::Fixed { may: may.clone() }).at(set.at()))
            .collect();
        match fixed.is_empty() {
            true => R::read(self, registered),
            false => Err(RunFileError::new(self.file(), fixed)),
        }
    }
}

/// Paths of the keys whose values differ between two runs, with the values as TOML (empty: not
/// given), in the order of the file.
#[must_use]
pub fn differences<R: Described>(a: &R, b: &R) -> Vec<(String, String, String)> {
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

fn flat(run: &impl Described) -> Vec<(String, String)> {
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
