//! The job that faults happen to, and a run of it on ranks that are threads.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail, ensure};

use crate::shell::{root, target};

/// What ends a run of ranks that are threads, in the first step, in the middle of one, and at a checkpoint.
pub(crate) const OF_THREADS: [&str; 8] = [
    "kill rank 0 at step 1 in data",
    "kill rank 0 at step 1 in reduce",
    "kill rank 0 at step 13 in backward",
    "kill rank 0 at step 20 in checkpoint",
    "full-disk rank 0 at step 1 in data",
    "full-disk rank 0 at step 1 in reduce",
    "full-disk rank 0 at step 13 in backward",
    "full-disk rank 0 at step 20 in checkpoint",
];

/// How long a run may take to end after its fault.
pub(crate) const LIMIT: Duration = Duration::from_secs(60);

const RUN_FILE: &str = r#"
name = "faults"
seed = 3
[model]
kind = "cnn"
channels = [4, 8]
hidden = 16
[data]
kind = "digits"
[train]
ranks = 2
batch = 50
steps = 40
reduction = "reproducible"
lost_after_seconds = 5.0
[optimizer]
lr = 0.05
momentum = 0.9
[checkpoint]
every_steps = 10
"#;

/// A directory with a run file, and the model that every run of it has to reach.
pub(crate) struct Job {
    pub(crate) program: PathBuf,
    pub(crate) place: PathBuf,
    whole: Vec<u8>,
}

impl Job {
    /// In a new directory, with the model of a run that nothing happens to.
    pub(crate) fn new() -> Result<Self> {
        let place = target().join("faults");
        if place.exists() {
            fs::remove_dir_all(&place).with_context(|| format!("removing {}", place.display()))?;
        }
        fs::create_dir_all(&place)?;
        fs::write(place.join("run.toml"), RUN_FILE)?;
        let mut job = Self { program: target().join("debug/phalanx"), place, whole: Vec::new() };
        let output = job.phalanx(&["train", "run.toml", "--run-dir", "whole"])?;
        ensure!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        job.whole = job.model("whole")?;
        Ok(job)
    }

    fn phalanx(&self, args: &[&str]) -> Result<Output> {
        let output = Command::new(&self.program).args(args).current_dir(&self.place).output();
        output.with_context(|| format!("starting {}", self.program.display()))
    }

    /// Trains with a fault on ranks that are threads, goes on, and compares the model.
    pub(crate) fn survives(&self, fault: &str) -> Result<()> {
        let dir = fault.replace(' ', "-");
        let began = Instant::now();
        let output = self.phalanx(&["fault", fault, "run.toml", "--run-dir", &dir])?;
        let took = began.elapsed();
        ensure!(took < LIMIT, "took {took:?} to end");
        let has_checkpoint = self.has_checkpoint(&dir);
        if !output.status.success() {
            let how = if has_checkpoint { "--resume" } else { "--overwrite" };
            let args = ["train", "run.toml", "--run-dir", &dir, "--set", "faults.inject=[]", how];
            let again = self.phalanx(&args)?;
            ensure!(again.status.success(), "did not go on: {}", String::from_utf8_lossy(&again.stderr));
        }
        let and = match (output.status.success(), has_checkpoint) {
            (true, _) => "was not met",
            (false, true) => "went on",
            (false, false) => "began again",
        };
        self.reached(&format!("threads: {fault}"), &dir, took, and)
    }

    pub(crate) fn has_checkpoint(&self, dir: &str) -> bool {
        let is_checkpoint = |entry: fs::DirEntry| entry.file_name().to_string_lossy().starts_with("step-");
        let entries = self.place.join(dir).join("checkpoints").read_dir();
        entries.is_ok_and(|mut all| all.any(|entry| entry.is_ok_and(is_checkpoint)))
    }

    /// Tells of a fault that was survived, if the run in `dir` has the model that it should.
    pub(crate) fn reached(&self, fault: &str, dir: &str, took: Duration, and: &str) -> Result<()> {
        if self.model(dir)? != self.whole {
            bail!("another model than without the fault");
        }
        println!("{fault:<62} {:>7.2} s  {and:<22} equal", took.as_secs_f64());
        Ok(())
    }

    fn model(&self, dir: &str) -> Result<Vec<u8>> {
        let file = self.place.join(dir).join("model.safetensors");
        fs::read(&file).with_context(|| format!("reading {}", short(&file).display()))
    }
}

fn short(file: &Path) -> &Path {
    file.strip_prefix(root()).unwrap_or(file)
}
