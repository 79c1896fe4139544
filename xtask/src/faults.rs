//! `cargo xtask faults`: makes a run fail in every way and at every moment, and goes on from what is left.
//!
//! Each run has to end within its limit, and has to reach, when it goes on, bitwise the model of a run that nothing
//! happened to.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail, ensure};

use crate::shell::{cargo, root, run, target};

/// What ends a run of ranks that are threads.
const KINDS: [&str; 2] = ["kill", "full-disk"];

/// Steps and phases: the first step, the middle of one, and the writing of a checkpoint.
const MOMENTS: [(u64, &str); 4] = [(1, "data"), (1, "reduce"), (13, "backward"), (20, "checkpoint")];

/// How long a run may take to end after its fault.
const LIMIT: Duration = Duration::from_secs(60);

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
[optimizer]
lr = 0.05
momentum = 0.9
[checkpoint]
every_steps = 10
"#;

pub(crate) fn faults() -> Result<()> {
    run(cargo(&["build", "--quiet", "--package", "phalanx-launch"]))?;
    let place = target().join("faults");
    if place.exists() {
        fs::remove_dir_all(&place).with_context(|| format!("removing {}", place.display()))?;
    }
    fs::create_dir_all(&place)?;
    fs::write(place.join("run.toml"), RUN_FILE)?;
    let job = Job { program: target().join("debug/phalanx"), place };
    let whole = job.whole()?;
    println!("{:<44} {:>9}  {:<22} model", "fault", "ended in", "and");
    let mut wrong = Vec::new();
    for kind in KINDS {
        for (step, phase) in MOMENTS {
            let fault = format!("{kind} rank 0 at step {step} in {phase}");
            match job.survives(&fault, &whole) {
                Ok(told) => println!("{told}"),
                Err(error) => wrong.push(format!("{fault}: {error:#}")),
            }
        }
    }
    ensure!(wrong.is_empty(), "{} faults were not survived:\n  {}", wrong.len(), wrong.join("\n  "));
    Ok(())
}

struct Job {
    program: PathBuf,
    place: PathBuf,
}

impl Job {
    fn phalanx(&self, args: &[&str]) -> Result<Output> {
        let output = Command::new(&self.program).args(args).current_dir(&self.place).output();
        output.with_context(|| format!("starting {}", self.program.display()))
    }

    /// The model of a run that nothing happens to.
    fn whole(&self) -> Result<Vec<u8>> {
        let output = self.phalanx(&["train", "run.toml", "--run-dir", "whole"])?;
        ensure!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        model(&self.place.join("whole"))
    }

    /// Trains with a fault, goes on, and compares the model.
    fn survives(&self, fault: &str, whole: &[u8]) -> Result<String> {
        let dir = fault.replace(' ', "-");
        let began = Instant::now();
        let output = self.phalanx(&["fault", fault, "run.toml", "--run-dir", &dir])?;
        let took = began.elapsed();
        ensure!(took < LIMIT, "took {took:?} to end");
        let is_checkpoint = |entry: fs::DirEntry| entry.file_name().to_string_lossy().starts_with("step-");
        let entries = self.place.join(&dir).join("checkpoints").read_dir();
        let has_checkpoint = entries.is_ok_and(|mut all| all.any(|entry| entry.is_ok_and(is_checkpoint)));
        if !output.status.success() {
            let how = if has_checkpoint { "--resume" } else { "--overwrite" };
            let args = ["train", "run.toml", "--run-dir", &dir, "--set", "faults.inject=[]", how];
            let again = self.phalanx(&args)?;
            ensure!(again.status.success(), "did not go on: {}", String::from_utf8_lossy(&again.stderr));
        }
        if model(&self.place.join(&dir))? != whole {
            bail!("another model than without the fault");
        }
        let and = match (output.status.success(), has_checkpoint) {
            (true, _) => "was not met",
            (false, true) => "went on",
            (false, false) => "began again",
        };
        Ok(format!("{fault:<44} {:>7.2} s  {and:<22} equal", took.as_secs_f64()))
    }
}

fn model(dir: &Path) -> Result<Vec<u8>> {
    let file = dir.join("model.safetensors");
    fs::read(&file)
        .with_context(|| format!("reading {}", file.strip_prefix(root()).unwrap_or(&file).display()))
}
