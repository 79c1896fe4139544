//! The built program under `mpirun --with-ft ulfm`: ranks that go on when others die.

use std::fs;

use phalanx_testkit::mpi;
use phalanx_train::Summary;

use super::{DIGITS, Dir};

/// Trains on `ranks` processes, some of which die as `faults` say: what was told, and the exit code.
fn train(dir: &Dir, ranks: usize, run: &str, faults: &[&str]) -> (String, i32) {
    let faults: Vec<String> = faults.iter().map(|fault| format!("\"{fault}\"")).collect();
    let faults = format!("faults.inject=[{}]", faults.join(","));
    let mpirun = mpi::mpirun_with_ulfm(ranks).expect("Open MPI 5, for which this was built");
    let args = ["train", "run.toml", "--run-dir", run, "--set", "train.when_rank_lost=shrink", "--set"];
    dir.run_by(Some(mpirun), &[&args[..], &["train.reduction=reproducible", "--set", &faults]].concat())
}

/// The model of ranks of which none dies.
fn uninterrupted(dir: &Dir) -> Vec<u8> {
    dir.model(0, "whole", &["--set", "train.reduction=reproducible"])
}

#[test]
fn those_that_are_left_reach_the_model_of_all() {
    let dir = Dir::new(DIGITS);
    let need = uninterrupted(&dir);
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
        let (text, code) = train(&dir, 3, &run, &[fault]);
        assert_eq!(code, 0, "{fault}: {text}");
        let paths = dir.files(&run);
        assert!(fs::read(paths.model()).expect("a model") == need, "{fault}: another model\n{text}");
        let told = format!("rank {lost} died: 2 of 3 ranks go on");
        assert!(text.contains(&told), "{fault}: {text}");
        assert!(fs::read_to_string(paths.events()).expect("events").contains(&told), "{fault}");
        assert_eq!(Summary::read(&paths.summary()).expect("a summary").ranks, 2, "{fault}");
        assert!(!paths.failure().exists(), "{fault}: the run has not failed");
    }
}

#[test]
fn two_that_die_in_one_step_are_left_behind() {
    let dir = Dir::new(DIGITS);
    let need = uninterrupted(&dir);
    let (text, code) = train(&dir, 4, "run", &["kill rank 3 at step 12", "kill rank 1 at step 12"]);
    assert_eq!(code, 0, "{text}");
    let model = fs::read(dir.files("run").model()).expect("a model");
    assert!(model == need, "another model\n{text}");
}

#[test]
fn too_few_end() {
    let dir = Dir::new(DIGITS);
    let faults = ["kill rank 0 at step 3", "kill rank 1 at step 3", "kill rank 2 at step 3"];
    let (text, code) = train(&dir, 4, "run", &faults);
    assert_ne!(code, 0, "{text}");
    assert!(text.contains("ranks are left here: more than half may go on"), "{text}");
    assert!(!dir.files("run").model().exists(), "{text}");
}
