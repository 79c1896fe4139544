//! The built program under `mpirun --with-ft ulfm`: ranks that go on when others die.

use std::fs;
use std::path::Path;

use phalanx_testkit::mpi;
use phalanx_train::Summary;
use phalanx_train::rundir::RunPaths;

/// A small `cnn` on the digits, in the same bits for any number of ranks.
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
reduction = "reproducible"
when_rank_lost = "shrink"
[optimizer]
lr = 0.05
momentum = 0.9
[checkpoint]
every_steps = 10
"#;

const PROGRAM: &str = env!("CARGO_BIN_EXE_phalanx");

/// Trains on `ranks` processes, some of which die as `faults` say: what was told, and the exit code.
fn train(dir: &Path, ranks: usize, run: &str, faults: &[&str]) -> (String, i32) {
    let faults = format!(
        "faults.inject=[{}]",
        faults.iter().map(|f| format!("\"{f}\"")).collect::<Vec<_>>().join(",")
    );
    let mut mpirun = mpi::mpirun_with_ulfm(ranks).expect("Open MPI 5, for which this was built");
    mpirun.arg(PROGRAM).args(["train", "run.toml", "--run-dir", run, "--set", &faults]).current_dir(dir);
    let ended = mpi::run(&mut mpirun);
    (ended.text, ended.code.unwrap_or(-1))
}

/// The model of ranks of which none dies.
fn uninterrupted(dir: &Path) -> Vec<u8> {
    fs::write(dir.join("run.toml"), DIGITS).expect("a file");
    let mut threads = std::process::Command::new(PROGRAM);
    threads.args(["train", "run.toml", "--run-dir", "whole"]).current_dir(dir);
    let ended = mpi::run(&mut threads);
    assert_eq!(ended.code, Some(0), "{}", ended.text);
    fs::read(RunPaths::new(dir.join("whole")).model()).expect("a model")
}

#[test]
fn those_that_are_left_reach_the_model_of_all() {
    let temporary = tempfile::tempdir().expect("a directory");
    let dir = temporary.path();
    let need = uninterrupted(dir);
    // after a checkpoint, before the first, the rank that writes the files, and one while it does
    for (case, (lost, fault)) in [
        (1, "kill rank 1 at step 13 in backward"),
        (2, "kill rank 2 at step 3"),
        (0, "kill rank 0 at step 13 in forward"),
        (0, "kill rank 0 at step 20 in checkpoint"),
        (0, "kill rank 0 at step 2"),
    ]
    .into_iter()
    .enumerate()
    {
        let run = format!("run-{case}");
        let (text, code) = train(dir, 3, &run, &[fault]);
        assert_eq!(code, 0, "{fault}: {text}");
        let paths = RunPaths::new(dir.join(&run));
        assert!(fs::read(paths.model()).expect("a model") == need, "{fault}: another model\n{text}");
        let told = format!("rank {lost} died: 2 of 3 ranks go on");
        assert!(text.contains(&told), "{fault}: {text}");
        assert!(fs::read_to_string(paths.events()).expect("events").contains(&told), "{fault}");
        assert_eq!(Summary::read(&paths.summary()).expect("a summary").ranks, 2, "{fault}");
        assert!(!paths.failure().exists(), "{fault}: the run has not failed");
    }
}

#[test]
fn ranks_die_one_after_the_other() {
    let temporary = tempfile::tempdir().expect("a directory");
    let dir = temporary.path();
    let need = uninterrupted(dir);
    // the faults of the run file are over when it goes on, so that the second one comes from outside
    let (text, code) = train(dir, 4, "run", &["kill rank 3 at step 12", "kill rank 1 at step 12"]);
    assert_eq!(code, 0, "{text}");
    let model = fs::read(RunPaths::new(dir.join("run")).model()).expect("a model");
    assert!(model == need, "another model\n{text}");
}

#[test]
fn too_few_end() {
    let temporary = tempfile::tempdir().expect("a directory");
    let dir = temporary.path();
    fs::write(dir.join("run.toml"), DIGITS).expect("a file");
    let faults = ["kill rank 0 at step 3", "kill rank 1 at step 3", "kill rank 2 at step 3"];
    let (text, code) = train(dir, 4, "run", &faults);
    assert_ne!(code, 0, "{text}");
    assert!(text.contains("ranks are left here: more than half may go on"), "{text}");
    assert!(!RunPaths::new(dir.join("run")).model().exists(), "{text}");
}
