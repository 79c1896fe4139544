//! The directory of a run's checkpoints: writes them whole, finds the newest good one, thins them out.
use std::collections::BTreeSet;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

pub use super::best::Best;
use super::state_file::{self, FileSum, State};
use super::{Checkpoint, Meta, Snapshot};
use crate::storage::Storage;
use crate::tensor_file::{self, Layout, hex, sha256};
use crate::{ArtefactError, NamedTensor};

const MODEL: &str = "model.safetensors";
const OPTIMIZER: &str = "optimizer.safetensors";
const STATE: &str = "state.bin";
const BEST: &str = "best.json";

/// Which checkpoints stay.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Keep {
    /// The newest so many; the one just written stays even at 0.
    pub last: usize,
    /// The one of least validation loss as well.
    pub best: bool,
}

impl Default for Keep {
    fn default() -> Self {
        Self { last: 3, best: true }
    }
}

/// A checkpoint that was written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Saved {
    /// Its directory.
    pub dir: PathBuf,
    /// Length of its files together, in bytes.
    pub bytes: u64,
    /// Steps whose checkpoints were removed for it.
    pub removed: Vec<u64>,
}

/// A checkpoint that cannot be used.
#[derive(Debug)]
pub struct Refused {
    /// Its step.
    pub step: u64,
    /// Its directory.
    pub dir: PathBuf,
    /// What is wrong with which of its files.
    pub cause: ArtefactError,
}

/// The newest good checkpoint, and the newer ones that are not.
#[derive(Debug)]
pub struct Loaded {
    /// The state.
    pub checkpoint: Checkpoint,
    /// Newer checkpoints that were refused, the newest first.
    pub refused: Vec<Refused>,
}

/// The checkpoints of one run.
///
/// One process at a time may write; `RunDir` sees to that.
///
/// # Examples
/// ```
/// use std::sync::Arc;
/// use phalanx_train::checkpoint::{Checkpoints, Keep, Meta, Snapshot};
/// use phalanx_train::{NamedTensor, storage::Disk};
///
/// let dir = tempfile::tempdir()?;
/// let checkpoints = Checkpoints::new(dir.path().join("checkpoints"), Keep::default(), Arc::new(Disk));
/// checkpoints.prepare()?;
/// let weight = [1.0_f32, 2.0];
/// for step in [100, 200] {
///     let meta = Meta { step, ..Meta::default() };
///     let model = [NamedTensor::new("weight", &[2], weight.as_slice())?];
///     checkpoints.save(&Snapshot { meta: &meta, model: &model, optimizer: &[] })?;
/// }
/// // a crash of the disk takes the newer one
/// std::fs::write(checkpoints.dir_of(200).join("model.safetensors"), b"")?;
/// let loaded = checkpoints.latest_good()?;
/// assert_eq!(loaded.checkpoint.meta.step, 100);
/// assert_eq!(loaded.refused[0].step, 200);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug, Clone)]
pub struct Checkpoints {
    dir: PathBuf,
    keep: Keep,
    storage: Arc<dyn Storage>,
}

impl Checkpoints {
    /// The checkpoints in `dir`, which need not exist yet. Touches no file.
    pub fn new(dir: PathBuf, keep: Keep, storage: Arc<dyn Storage>) -> Self {
        Self { dir, keep, storage }
    }

    /// Makes the directory and clears away what a crash left in it. To be called once, before
    /// [`save`](Self::save).
    ///
    /// # Errors
    /// [`ArtefactError::Io`].
    pub fn prepare(&self) -> Result<(), ArtefactError> {
        let io = ArtefactError::io;
        self.storage.make_dir(&self.dir).map_err(io("make", &self.dir))?;
        let parent = self.dir.parent().unwrap_or(Path::new("."));
        self.storage.sync_dir(parent).map_err(io("sync", parent))?;
        let names = self.storage.list(&self.dir).map_err(io("list", &self.dir))?;
        for name in names.iter().filter(|name| name.starts_with('.')) {
            self.clear_leftover(name, &names).map_err(io("clear", &self.dir.join(name)))?;
        }
        self.storage.sync_dir(&self.dir).map_err(io("sync", &self.dir))
    }

    /// Writes a checkpoint of the snapshot's step; one that is there already is replaced.
    ///
    /// Marks it if its validation loss is the least so far, then removes those that need not stay. A
    /// removal that fails is logged, and costs only space.
    ///
    /// # Collective
    /// No. One rank calls it, with the whole state.
    ///
    /// # Errors
    /// [`ArtefactError::Io`]: the checkpoints written earlier are unharmed, and nothing of this one is
    /// left if that can be helped. Names of tensors that occur twice or are reserved; state above its cap.
    pub fn save(&self, snapshot: &Snapshot<'_>) -> Result<Saved, ArtefactError> {
        let step = snapshot.meta.step;
        let beside = self.dir.join(format!(".tmp-{}", name_of(step)));
        let bytes = match self.write_beside(&beside, snapshot) {
            Ok(bytes) => bytes,
            Err(error) => {
                // frees the space for whoever filled the disk; prepare() removes what this cannot
                self.storage.remove(&beside).ok();
                return Err(error);
            }
        };
        let dir = self.dir_of(step);
        self.put_in_place(&beside, &dir, step).map_err(ArtefactError::io("place", &dir))?;
        let best = self.mark_best(snapshot.meta)?;
        Ok(Saved { dir, bytes, removed: self.thin_out(step, best) })
    }

    /// The newest checkpoint whose every file is as it was written, and which newer ones are not.
    ///
    /// # Errors
    /// [`ArtefactError::NoCheckpoint`], [`ArtefactError::NoGoodCheckpoint`], or
    /// [`ArtefactError::Io`] when the directory cannot be listed.
    pub fn latest_good(&self) -> Result<Loaded, ArtefactError> {
        let mut refused = Vec::new();
        for step in self.steps()?.into_iter().rev() {
            match self.load(step) {
                Ok(checkpoint) => return Ok(Loaded { checkpoint, refused }),
                Err(cause) => refused.push(Refused { step, dir: self.dir_of(step), cause }),
            }
        }
        let (dir, count) = (self.dir.clone(), refused.len());
        Err(match refused.into_iter().next() {
            None => ArtefactError::NoCheckpoint { dir },
            Some(newest) => ArtefactError::NoGoodCheckpoint { dir, count, newest: Box::new(newest.cause) },
        })
    }

    /// Loads the checkpoint of `step`, each file checked.
    ///
    /// # Errors
    /// The file and what is wrong with it: [`ArtefactError::Length`] if truncated,
    /// [`Checksum`](ArtefactError::Checksum) if bits changed, and the errors of
    /// [`state_file::decode`](super::state_file::decode).
    pub fn load(&self, step: u64) -> Result<Checkpoint, ArtefactError> {
        let dir = self.dir_of(step);
        let State { meta, model, optimizer, .. } = self.read_state(step)?;
        let model = self.read_tensors(&dir.join(MODEL), model)?;
        let optimizer = self.read_tensors(&dir.join(OPTIMIZER), optimizer)?;
        Ok(Checkpoint { meta, model, optimizer })
    }

    /// Steps with a checkpoint, good or not, ascending.
    ///
    /// # Errors
    /// [`ArtefactError::Io`] when the directory cannot be listed; none where it does not exist.
    pub fn steps(&self) -> Result<Vec<u64>, ArtefactError> {
        match self.storage.list(&self.dir) {
            Ok(names) => {
                let steps: BTreeSet<_> = names.iter().filter_map(|name| step_of(name)).collect();
                Ok(steps.into_iter().collect())
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(Vec::new()),
            Err(error) => Err(ArtefactError::io("list", &self.dir)(error)),
        }
    }

    /// The checkpoint of least validation loss, if any was taken.
    ///
    /// Follows the mark, and looks at each checkpoint where the mark is lost or its checkpoint damaged.
    ///
    /// # Errors
    /// [`ArtefactError::Io`] when the directory cannot be listed.
    pub fn best(&self) -> Result<Option<Best>, ArtefactError> {
        let marked = Best::read(&*self.storage, &self.dir.join(BEST));
        if let Some(best) = marked.filter(|best| self.read_state(best.step).is_ok()) {
            return Ok(Some(best));
        }
        let states = self.steps()?.into_iter().filter_map(|step| self.read_state(step).ok());
        let bests = states.filter_map(|state| Best::of(state.meta.step, state.meta.validation_loss));
        Ok(bests.reduce(|best, other| if other.beats(&best) { other } else { best }))
    }

    /// Moves a refused checkpoint to `refused-step-...`, where it counts no more but can be looked at.
    ///
    /// # Errors
    /// [`ArtefactError::Io`].
    pub fn set_aside(&self, step: u64) -> Result<(), ArtefactError> {
        let (dir, aside) = (self.dir_of(step), self.dir.join(format!("refused-{}", name_of(step))));
        let work = || {
            remove_if_there(&*self.storage, &aside)?;
            self.storage.rename(&dir, &aside)?;
            self.storage.sync_dir(&self.dir)
        };
        work().map_err(ArtefactError::io("set aside", &dir))
    }

    /// The directory of the checkpoint of `step`.
    pub fn dir_of(&self, step: u64) -> PathBuf {
        self.dir.join(name_of(step))
    }

    /// Writes the files of a checkpoint into the directory `beside`; returns their length.
    fn write_beside(&self, beside: &Path, snapshot: &Snapshot<'_>) -> Result<u64, ArtefactError> {
        let model = Layout::new(snapshot.model)?;
        let optimizer = Layout::new(snapshot.optimizer)?;
        let (model, optimizer) = (model.parts(), optimizer.parts());
        let state = State {
            meta: snapshot.meta.clone(),
            run_file_sha256: sha256(&[snapshot.meta.run_file.as_bytes()]),
            model: FileSum::of(&model),
            optimizer: FileSum::of(&optimizer),
        };
        let state_bytes = state_file::encode(&beside.join(STATE), &state)?;
        let io = ArtefactError::io;
        remove_if_there(&*self.storage, beside).map_err(io("remove", beside))?;
        self.storage.make_dir(beside).map_err(io("make", beside))?;
        for (name, parts) in [(MODEL, &model), (OPTIMIZER, &optimizer), (STATE, &vec![&state_bytes[..]])] {
            let file = beside.join(name);
            self.storage.write_synced(&file, parts).map_err(io("write", &file))?;
        }
        self.storage.sync_dir(beside).map_err(io("sync", beside))?;
        Ok(state.model.bytes + state.optimizer.bytes + state_bytes.len() as u64)
    }

    /// Gives a directory that is complete its final name.
    fn put_in_place(&self, beside: &Path, dir: &Path, step: u64) -> io::Result<()> {
        let old = self.dir.join(format!(".old-{}", name_of(step)));
        // a directory cannot be renamed over another: the old one steps aside, and prepare() knows it
        let replaces = self.storage.list(dir).is_ok();
        if replaces {
            remove_if_there(&*self.storage, &old)?;
            self.storage.rename(dir, &old)?;
        }
        self.storage.rename(beside, dir)?;
        self.storage.sync_dir(&self.dir)?;
        if replaces { self.storage.remove(&old) } else { Ok(()) }
    }

    /// Moves the mark if this checkpoint is the best; returns the best one's step.
    fn mark_best(&self, meta: &Meta) -> Result<Option<u64>, ArtefactError> {
        let best = self.best()?;
        let Some(this) = Best::of(meta.step, meta.validation_loss) else {
            return Ok(best.map(|best| best.step));
        };
        if best.is_some_and(|best| best.step != this.step && !this.beats(&best)) {
            return Ok(best.map(|best| best.step));
        }
        let mark = self.dir.join(BEST);
        this.write(&*self.storage, &mark).map_err(ArtefactError::io("write", &mark))?;
        Ok(Some(this.step))
    }

    /// Removes the checkpoints that need not stay; returns the steps of those that are gone.
    fn thin_out(&self, newest: u64, best: Option<u64>) -> Vec<u64> {
        let Ok(steps) = self.steps() else { return Vec::new() };
        let last = steps.iter().rev().take(self.keep.last).copied();
        let best = best.filter(|_| self.keep.best);
        let stay: BTreeSet<_> = last.chain(best).chain([newest]).collect();
        let leave = steps.into_iter().filter(|step| !stay.contains(step));
        leave.filter(|&step| self.remove_checkpoint(step)).collect()
    }

    /// Removes a checkpoint, under another name first so that a crash leaves no half of it.
    fn remove_checkpoint(&self, step: u64) -> bool {
        let gone = self.dir.join(format!(".tmp-gone-{}", name_of(step)));
        let work = || {
            self.storage.rename(&self.dir_of(step), &gone)?;
            self.storage.sync_dir(&self.dir)?;
            self.storage.remove(&gone)
        };
        let result: io::Result<()> = work();
        if let Err(error) = &result {
            tracing::warn!(step, %error, "cannot remove an old checkpoint");
        }
        result.is_ok()
    }

    /// Removes what a crash left, or puts it back if it was being replaced.
    fn clear_leftover(&self, name: &str, names: &[String]) -> io::Result<()> {
        let path = self.dir.join(name);
        match name.strip_prefix(".old-") {
            Some(place) if !names.iter().any(|name| name == place) => {
                self.storage.rename(&path, &self.dir.join(place))
            }
            Some(_) => self.storage.remove(&path),
            None if name.starts_with(".tmp-") => self.storage.remove(&path),
            None => Ok(()),
        }
    }

    fn read_state(&self, step: u64) -> Result<State, ArtefactError> {
        let dir = self.dir_of(step);
        let file = dir.join(STATE);
        let len = self.storage.len(&file).map_err(ArtefactError::io("read", &file))?;
        if len > state_file::MAX_LEN {
            return Err(ArtefactError::TooLong { file, limit: state_file::MAX_LEN, got: len });
        }
        let bytes =
            self.storage.read(&file, state_file::MAX_LEN).map_err(ArtefactError::io("read", &file))?;
        let state = state_file::decode(&file, &bytes)?;
        match state.meta.step {
            got if got == step => Ok(state),
            got => Err(ArtefactError::WrongStep { dir, got }),
        }
    }

    fn read_tensors(&self, file: &Path, sum: FileSum) -> Result<Vec<NamedTensor<'static>>, ArtefactError> {
        let got = self.storage.len(file).map_err(ArtefactError::io("read", file))?;
        if got != sum.bytes {
            return Err(ArtefactError::Length { file: file.to_path_buf(), need: sum.bytes, got });
        }
        let bytes = self.storage.read(file, sum.bytes).map_err(ArtefactError::io("read", file))?;
        let got = FileSum::of(&[&bytes]);
        if got != sum {
            return Err(ArtefactError::Checksum {
                file: file.to_path_buf(),
                kind: "SHA-256",
                need: hex(&sum.sha256),
                got: hex(&got.sha256),
            });
        }
        tensor_file::decode(file, &bytes)
    }
}

/// The name of the directory of a step's checkpoint.
fn name_of(step: u64) -> String {
    format!("step-{step:08}")
}

/// The step of such a name, and of no other.
fn step_of(name: &str) -> Option<u64> {
    let step = name.strip_prefix("step-")?.parse().ok()?;
    (name_of(step) == name).then_some(step)
}

fn remove_if_there(storage: &dyn Storage, path: &Path) -> io::Result<()> {
    match storage.remove(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        result => result,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_our_own_names_are_steps() {
        assert_eq!(name_of(100), "step-00000100");
        assert_eq!(step_of("step-00000100"), Some(100));
        assert_eq!(step_of("step-123456789"), Some(123_456_789));
        for name in ["step-100", "step-+0000100", ".tmp-step-00000100", "refused-step-00000100", "step-"] {
            assert_eq!(step_of(name), None, "{name}");
        }
    }
}
