//! The built program under `mpirun`: the same models as with ranks as threads, and one end for all ranks.

mod federated;
mod nodes;
mod slurm;
#[cfg(feature = "ulfm-tests")]
mod survivors;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use phalanx_testkit::mpi;
use phalanx_train::rundir::RunPaths;
use phalanx_train::{Failure, Summary};
use tempfile::TempDir;

/// A small `cnn` on the digits, 25 steps.
const DIGITS: &str = r#"
name = "digits"
seed = 3
[model]
kind = "cnn"
channels = [4, 8]
hidden = 16
[data]
kind = "digits"
[train]
batch = 50
steps = 25
[optimizer]
lr = 0.05
momentum = 0.9
[checkpoint]
every_steps = 10
"#;

/// A directory with the run file `run.toml`.
struct Dir(TempDir);

impl Dir {
    fn new(run_file: &str) -> Self {
        let dir = Self(tempfile::tempdir().expect("a directory"));
        fs::write(dir.path("run.toml"), run_file).expect("a file");
        dir
    }

    fn path(&self, file: &str) -> PathBuf {
        self.0.path().join(file)
    }

    fn files(&self, run: &str) -> RunPaths {
        RunPaths::new(self.path(run))
    }

    /// Trains into the directory `to`: on `ranks` processes, or as one process for 0.
    fn train(&self, ranks: usize, to: &str, more: &[&str]) -> (String, i32) {
        self.run(ranks, &[&["train", "run.toml", "--run-dir", to], more].concat())
    }

    /// Runs the program: on `ranks` processes, or as one process for 0.
    fn run(&self, ranks: usize, args: &[&str]) -> (String, i32) {
        let mpirun = (ranks > 0).then(|| mpi::mpirun(ranks).expect("an MPI, as this was built with one"));
        self.run_by(mpirun, args)
    }

    /// Runs the program: on the ranks that `mpirun` starts, or as one process without.
    fn run_by(&self, mpirun: Option<Command>, args: &[&str]) -> (String, i32) {
        let program = Path::new(env!("CARGO_BIN_EXE_phalanx"));
        let mut command = match mpirun {
            None => Command::new(program),
            Some(mut mpirun) => {
                mpirun.arg(program);
                mpirun
            }
        };
        command.args(args).current_dir(self.0.path());
        // Open MPI ends the others of a rank that was killed, and sooner than they can say so
        command.env("OMPI_MCA_odls_base_sigkill_timeout", "3");
        let ended = mpi::run(&mut command);
        (ended.text, ended.code.unwrap_or(-1))
    }

    #[track_caller]
    fn model(&self, ranks: usize, to: &str, more: &[&str]) -> Vec<u8> {
        let (text, code) = self.train(ranks, to, more);
        assert_eq!(code, 0, "{text}");
        fs::read(self.files(to).model()).expect("a model")
    }
}

#[test]
fn a_reproducible_model_is_that_of_ranks_as_threads() {
    let dir = Dir::new(&DIGITS.replace("steps = 25", "steps = 25\nreduction = \"reproducible\""));
    let need = dir.model(0, "threads", &["--ranks", "2"]);
    for ranks in [1, 2, 3] {
        let run = format!("processes-{ranks}");
        assert!(dir.model(ranks, &run, &[]) == need, "{ranks} processes have another model");
        let summary = Summary::read(&dir.files(&run).summary()).expect("a summary");
        assert_eq!(summary.ranks, ranks as u64);
    }
}

#[test]
fn a_fast_model_is_that_of_as_many_ranks_as_threads() {
    let dir = Dir::new(DIGITS);
    for ranks in [2, 3] {
        let need = dir.model(0, &format!("threads-{ranks}"), &["--ranks", &ranks.to_string()]);
        assert!(dir.model(ranks, &format!("processes-{ranks}"), &[]) == need, "{ranks} processes differ");
    }
}

#[test]
fn communication_threads_change_no_bit() {
    let dir = Dir::new(DIGITS);
    let (told, code) = dir.train(2, "calls", &["-v", "--set", "comm.progress=calls"]);
    assert!(code == 0 && told.contains("sums advance by calls between operators"), "{told}");
    let need = fs::read(dir.files("calls").model()).expect("a model");
    for (run, more) in [
        ("fast", &[][..]),
        ("compressed", &["--set", "compression.kind=powersgd", "--set", "compression.start_step=5"]),
        ("reproducible", &["--set", "train.reduction=reproducible"]),
    ] {
        let by_threads = [&["-v", "--set", "comm.progress=thread"][..], more].concat();
        let (told, code) = dir.train(2, run, &by_threads);
        assert!(code == 0 && told.contains("sums advance by communication threads"), "{told}");
        let model = fs::read(dir.files(run).model()).expect("a model");
        let threads = dir.model(0, &format!("{run}-threads"), &[&["--ranks", "2"][..], more].concat());
        assert!(model == threads, "{run}: the models differ");
        assert_eq!(model == need, run == "fast");
    }
}

/// One that chooses by distances, one that sorts coordinates, one under an attack, and one over nodes of two ranks.
#[test]
fn a_robust_rule_leaves_the_model_of_as_many_ranks_as_threads() {
    let rules = [
        "[aggregation]\nrule = \"multi-krum\"\n",
        "[aggregation]\nrule = \"median\"\nbefore = [\"nnm\"]\n",
        "[aggregation]\nrule = \"multi-krum\"\n[[attack]]\nkind = \"alie\"\nranks = [2]\n",
        "[aggregation]\nrule = \"median\"\nmomentum = 0.5\nover = \"nodes\"\nranks_per_node = 2\n",
    ];
    for (case, rule) in rules.into_iter().enumerate() {
        let dir = Dir::new(&format!("{DIGITS}\n{rule}"));
        let need = dir.model(0, "threads", &["--ranks", "4"]);
        assert!(dir.model(4, "processes", &["--ranks", "4"]) == need, "case {case} differs");
    }
}

#[test]
fn compressed_gradients_train_the_model_of_as_many_ranks_as_threads() {
    let dir = Dir::new(DIGITS);
    for kind in ["fp16", "bf16", "powersgd", "topk"] {
        let mut set = vec!["--set".to_owned(), format!("compression.kind={kind}")];
        if matches!(kind, "powersgd" | "topk") {
            set.extend(["--set".to_owned(), "compression.start_step=5".to_owned()]);
        }
        let set: Vec<&str> = set.iter().map(String::as_str).collect();
        let need = dir.model(0, &format!("threads-{kind}"), &[&set[..], &["--ranks", "3"]].concat());
        assert!(dir.model(3, &format!("processes-{kind}"), &set) == need, "{kind}: the models differ");
    }
}

#[test]
fn a_run_that_was_begun_as_threads_goes_on_as_processes() {
    let reproducible = DIGITS.replace("steps = 25", "steps = 25\nreduction = \"reproducible\"");
    let dir = Dir::new(&reproducible);
    let need = dir.model(0, "whole", &[]);
    dir.model(0, "parts", &["--set", "train.steps=10"]);
    let resume = ["--resume", "--set", "train.steps=25"];
    assert!(dir.model(2, "parts", &resume) == need, "the resumed run has another model");
}

#[test]
fn a_number_of_ranks_that_is_not_the_launchers_is_refused_once() {
    let dir = Dir::new(DIGITS);
    let (text, code) = dir.train(2, "run", &["--ranks", "5"]);
    assert_eq!(code, 2, "{text}");
    assert_eq!(text.matches("--ranks 5, but").count(), 1, "{text}");
    assert!(!dir.path("run").exists());
}

#[test]
fn a_loss_that_is_not_finite_ends_all_ranks_with_its_name() {
    let dir = Dir::new(DIGITS);
    let (text, code) = dir.train(2, "run", &["--set", "optimizer.lr=1e30"]);
    assert_eq!(code, 1, "{text}");
    assert!(text.contains("not finite at step 2") && text.contains("on rank"), "{text}");
    assert_eq!(text.matches("error:").count(), 1, "one rank tells:\n{text}");
    let failure = Failure::read(&dir.files("run").failure()).expect("a failure");
    assert_eq!((failure.exit_code, failure.rank.is_some()), (1, true), "{failure:?}");
}

#[test]
fn ranks_that_cannot_outlive_each_other_are_not_started_to() {
    let dir = Dir::new(DIGITS);
    let (text, code) = dir.train(2, "run", &["--set", "train.when_rank_lost=shrink"]);
    assert_eq!(code, 2, "{text}");
    assert!(text.contains("takes Open MPI 5, and ranks that `mpirun --with-ft ulfm` has started"), "{text}");
    assert!(!dir.path("run").exists());
}

#[test]
fn what_each_rank_would_write_to_one_place_is_refused_in_a_sentence() {
    let dir = Dir::new(DIGITS);
    let (text, code) = dir.run(2, &["report", "run", "--output", "page.html"]);
    assert_eq!(code, 2, "{text}");
    assert!(text.contains("mpirun started 2 ranks, and each would write all that `report` writes"), "{text}");
    let (text, code) = dir.run(2, &["config", "check", "run.toml"]);
    assert_eq!(code, 0, "{text}");
}

#[test]
fn a_rank_that_cannot_go_on_ends_all_with_its_exit_code() {
    // rank 1 finds another run file than rank 0
    let dir = Dir::new(DIGITS);
    fs::create_dir(dir.path("broken")).expect("a directory");
    fs::write(dir.path("broken/run.toml"), "name = 3\n").expect("a file");
    let program = env!("CARGO_BIN_EXE_phalanx");
    let script = format!(
        "test \"${{OMPI_COMM_WORLD_RANK:-$PMI_RANK}}\" = 1 && cd broken; exec {program} train run.toml --run-dir \"$0\""
    );
    let mut mpirun = mpi::mpirun(2).expect("an MPI, as this was built with one");
    mpirun.args(["sh", "-c", &script]).arg(dir.path("run")).current_dir(dir.0.path());
    let ended = mpi::run(&mut mpirun);
    assert_eq!(ended.code, Some(2), "{}", ended.text);
    assert!(ended.text.contains("rank 1 gave up"), "{}", ended.text);
    assert!(!dir.path("run").exists(), "a run that never began leaves nothing");
}

#[test]
fn a_rank_that_is_killed_is_named_by_those_that_are_left() {
    let dir = Dir::new(DIGITS);
    let fault = "faults.inject=[\"kill rank 1 at step 3 in backward\"]";
    let (text, code) = dir.train(3, "run", &["--set", fault]);
    assert_ne!(code, 0, "{text}");
    let failure = Failure::read(&dir.files("run").failure()).expect("a failure");
    assert_eq!((failure.rank, failure.exit_code), (Some(1), 3), "{failure:?}\n{text}");
    assert!(failure.causes[0].contains(" died (step "), "{failure:?}");
}

#[test]
fn a_rank_that_is_stopped_ends_all_within_the_limit() {
    let dir = Dir::new(DIGITS);
    let fault = "faults.inject=[\"stop rank 2 at step 3\"]";
    let begun = Instant::now();
    let (text, code) = dir.train(3, "run", &["--set", fault, "--set", "train.lost_after_seconds=3"]);
    assert_eq!(code, 3, "{text}");
    assert!(begun.elapsed() < Duration::from_secs(30), "the limit was not heeded:\n{text}");
    let failure = Failure::read(&dir.files("run").failure()).expect("a failure");
    assert_eq!((failure.rank, failure.exit_code), (Some(2), 3), "{failure:?}\n{text}");
    assert!(
        dir.files("run").logs().join("flight-rank-1.txt").exists(),
        "the collectives of a rank that is left"
    );
}

#[test]
fn a_rank_that_fails_says_itself_why() {
    let dir = Dir::new(DIGITS);
    let fault = "faults.inject=[\"full-disk rank 0 at step 10 in checkpoint\"]";
    let (text, code) = dir.train(2, "run", &["--set", fault]);
    assert_eq!(code, 1, "{text}");
    let failure = Failure::read(&dir.files("run").failure()).expect("a failure");
    assert_eq!(
        (failure.rank, failure.step, failure.phase.as_str()),
        (Some(0), 10, "checkpoint"),
        "{failure:?}\n{text}"
    );
}
