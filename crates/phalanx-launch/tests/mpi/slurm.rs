//! The same under Slurm: ranks that srun starts, in a batch script, by `phalanx launch`, killed and pre-empted.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use phalanx_testkit::mpi::{Ended, run};
use phalanx_testkit::slurm::Slurm;
use phalanx_train::{Failure, Summary};

use crate::{DIGITS, Dir};

const PHALANX: &str = env!("CARGO_BIN_EXE_phalanx");

/// The same bits for any number of ranks.
fn reproducible() -> Dir {
    Dir::new(&DIGITS.replace("steps = 25", "steps = 25\nreduction = \"reproducible\""))
}

fn batch_script() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../launch/slurm.sbatch")
}

impl Dir {
    fn under(&self, slurm: &Slurm, words: &[&str]) -> Command {
        let mut command = slurm.command(words[0]);
        command.args(&words[1..]).current_dir(self.0.path()).env("PHALANX", PHALANX);
        command
    }

    /// Runs words to their end.
    fn ends(&self, slurm: &Slurm, words: &[&str]) -> Ended {
        run(&mut self.under(slurm, words))
    }

    fn model_of(&self, run: &str) -> Vec<u8> {
        fs::read(self.files(run).model()).expect("a model")
    }

    fn has_checkpoint(&self, run: &str) -> bool {
        self.files(run).checkpoints().join("best.json").exists()
    }

    /// What the batch script wrote.
    fn log(&self, job: &str) -> String {
        fs::read_to_string(self.path(&format!("phalanx-{job}.log"))).unwrap_or_default()
    }
}

#[test]
fn a_model_of_srun_of_a_batch_script_and_of_launch_is_that_of_ranks_as_threads() {
    let Some(slurm) = Slurm::up(4) else { return };
    let dir = reproducible();
    let need = dir.model(0, "threads", &["--ranks", "2"]);
    let srun = ["srun", "--mpi=pmix", "-n", "2", PHALANX, "train", "run.toml", "--run-dir", "srun"];
    let launch = ["salloc", "-n", "3", PHALANX, "launch", "train", "run.toml", "--run-dir", "launch"];
    let script = batch_script();
    let sbatch = ["sbatch", "--ntasks-per-node=2", script.to_str().expect("text"), "run.toml"];
    for (words, run, ranks) in [(&srun[..], "srun", 2), (&launch, "launch", 3), (&sbatch, "runs/run-3", 2)] {
        let ended = dir.ends(&slurm, words);
        assert_eq!(ended.code, Some(0), "{words:?}: {}", ended.text);
        // a batch script is queued, and sbatch --wait looks for its end every ten seconds
        slurm.wait_for("the job does not end", |slurm| slurm.jobs().is_empty());
        assert!(dir.model_of(run) == need, "{run}: another model");
        assert_eq!(Summary::read(&dir.files(run).summary()).expect("a summary").ranks, ranks);
    }
    // a rank that sees no other does not train
    let alone = [
        "srun",
        "--mpi=none",
        "--kill-on-bad-exit=1",
        "-n",
        "2",
        PHALANX,
        "train",
        "run.toml",
        "--run-dir",
        "alone",
    ];
    let ended = dir.ends(&slurm, &alone);
    assert!(ended.code != Some(0) && !dir.path("alone").exists(), "{ended:?}");
}

#[test]
fn a_rank_of_srun_that_is_killed_is_named_and_launch_goes_on() {
    let Some(slurm) = Slurm::up(4) else { return };
    let dir = reproducible();
    let need = dir.model(0, "threads", &["--ranks", "2"]);
    let fault = "kill rank 1 at step 13 in backward";
    let launch = ["salloc", "-n", "2", PHALANX, "launch", "--max-restarts", "1", "--backoff-seconds", "0"];
    let ended = dir.ends(&slurm, &[&launch[..], &["fault", fault, "run.toml", "--run-dir", "run"]].concat());
    assert_eq!(ended.code, Some(0), "{}", ended.text);
    let report = ended.text.lines().find(|line| line.contains("the ranks ended with")).unwrap_or_default();
    assert!(report.contains("rank 1 on ") && report.contains(" died"), "{}", ended.text);
    assert!(dir.model_of("run") == need, "another model");

    let srun = ["srun", "--mpi=pmix", "--kill-on-bad-exit=1", "-n", "2", PHALANX, "fault", fault];
    let ended = dir.ends(&slurm, &[&srun[..], &["run.toml", "--run-dir", "lost"]].concat());
    assert_ne!(ended.code, Some(0), "{}", ended.text);
    let failure = Failure::read(&dir.files("lost").failure()).expect("a failure");
    assert_eq!((failure.rank, failure.exit_code), (Some(1), 3), "{failure:?}\n{}", ended.text);
}

#[test]
fn pre_emption_leaves_a_checkpoint_and_the_job_is_queued_again() {
    let Some(slurm) = Slurm::up(4) else { return };
    let dir = Dir::new(&DIGITS.replace("steps = 25", "steps = 1000000"));
    // by srun: exit code 4
    let srun = ["srun", "--mpi=pmix", "-n", "2", PHALANX, "train", "run.toml", "--run-dir", "srun"];
    let started = dir.under(&slurm, &srun).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn();
    let started = started.expect("srun starts");
    slurm.wait_for("no checkpoint", |_| dir.has_checkpoint("srun"));
    slurm.run(&["scancel", "--signal=TERM", "1"]);
    let ended = started.wait_with_output().expect("it ends");
    assert_eq!(ended.status.code(), Some(4), "{}", String::from_utf8_lossy(&ended.stderr));
    assert!(Summary::read(&dir.files("srun").summary()).expect("a summary").stopped);

    // by the script: the job is queued again, and goes on where it was
    let whole = "train.steps=200";
    let need = dir.model(0, "threads", &["--ranks", "2", "--set", whole]);
    let script = batch_script();
    let script = script.to_str().expect("text");
    let submitted = dir.ends(&slurm, &["sbatch", "--ntasks-per-node=2", script, "run.toml", "--set", whole]);
    assert_eq!(submitted.code, Some(0), "{}", submitted.text);
    slurm.wait_for("no checkpoint", |_| dir.has_checkpoint("runs/run-2"));
    slurm.run(&["scancel", "--signal=TERM", "2"]);
    slurm.wait_for("the job is not queued again", |slurm| slurm.jobs().trim() == "2 PENDING");
    let files = dir.files("runs/run-2");
    assert!(Summary::read(&files.summary()).expect("a summary").stopped, "{}", dir.log("2"));
    // its next turn is two minutes away, which Slurm keeps between two starts of one job: another job takes its place
    slurm.run(&["scancel", "2"]);
    let mut again = dir.under(&slurm, &["sbatch", "--ntasks-per-node=2", script, "run.toml"]);
    let submitted = run(again.args(["--set", whole]).env("RUN_DIR", "runs/run-2"));
    assert_eq!(submitted.code, Some(0), "{}", submitted.text);
    slurm.wait_for("the job does not end", |slurm| slurm.jobs().is_empty());
    let summary = Summary::read(&files.summary()).expect("a summary");
    assert_eq!((summary.steps, summary.resumes, summary.stopped), (200, 1, false), "{}", dir.log("3"));
    assert!(dir.model_of("runs/run-2") == need, "another model");
}
