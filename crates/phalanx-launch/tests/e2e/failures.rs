//! Bad input and training that goes wrong: a message, an exit code, and nothing half done.

use std::process::Stdio;

use phalanx_train::Failure;

use crate::program::{Dir, SMALL};

#[test]
fn a_mistyped_key_is_refused_with_the_nearest_name() {
    let dir = Dir::new(&SMALL.replace("momentum", "momentun"));
    dir.train("run", &[]).failed(2, &["optimizer.momentun", "momentum"]);
    assert!(!dir.path("run").exists());
}

#[test]
fn data_that_are_no_numbers_are_refused_by_line_and_column() {
    let run_file = "name = \"table\"\n[model]\nkind = \"mlp\"\nhidden = [4]\n[data]\nkind = \"csv\"\npath = \"t.csv\"\n\
                    [train]\nbatch = 4\nsteps = 2\n[optimizer]\nlr = 0.1\n";
    let dir = Dir::new(run_file);
    let rows: String = (0..40).map(|i| format!("{},{},{}\n", i, i * i % 7, i % 2)).collect();
    dir.write("t.csv", format!("a,b,label\n{rows}"));
    dir.train("good", &[]).done();
    dir.write("t.csv", format!("a,b,label\n{}", rows.replace("\n5,", "\nNaN,")));
    dir.train("bad", &[]).failed(1, &["t.csv", "line 7, column 1", "\"NaN\"", "a finite number"]);
}

#[test]
fn a_loss_that_is_not_finite_stops_the_run_and_is_named() {
    for reduction in ["fast", "reproducible"] {
        let dir = Dir::new(SMALL);
        let set = format!("train.reduction={reduction}");
        let ended = dir.train("run", &["--set", "optimizer.lr=1e30", "--set", &set]);
        ended.failed(1, &["not finite at step 2", "on rank"]);
        let failure = Failure::read(&dir.files("run").failure()).expect("a failure");
        assert_eq!((failure.step, failure.exit_code), (2, 1), "{failure:?}");
        assert!(failure.causes.iter().any(|cause| cause.contains("not finite")), "{failure:?}");
        assert!(!dir.files("run").model().exists(), "no model of a run that failed");
    }
}

#[test]
fn a_step_that_is_not_finite_is_left_out_on_request() {
    let dir = Dir::new(&SMALL.replace("steps = 60", "steps = 6\non_nonfinite = \"skip\""));
    dir.train("run", &["--set", "optimizer.lr=1e30"]).done();
    let summary = dir.summary("run");
    assert_eq!((summary.steps, summary.skipped_steps), (6, 5));
}

#[test]
fn more_than_can_be_shared_is_refused() {
    let dir = Dir::new(SMALL);
    dir.train("batch", &["--set", "train.batch=5000"]).failed(2, &["train.batch", "5000"]);
    let reproducible = ["--set", "train.reduction=reproducible", "--ranks", "9"];
    dir.train("ranks", &reproducible).failed(2, &["train.ranks", "9"]);
    dir.train("memory", &["--set", "train.memory_limit=1000"]).failed(2, &["train.memory_limit", "1000"]);
    for run in ["batch", "ranks", "memory"] {
        assert!(!dir.files(run).summary().exists() && !dir.files(run).checkpoints().exists(), "{run}");
    }
}

#[test]
fn a_disk_that_is_full_ends_the_run_and_the_last_checkpoint_is_whole() {
    let dir = Dir::new(SMALL);
    let whole = dir.model("whole", &[]);
    let run = ["fault", "full-disk rank 0 at step 20 in checkpoint", "run.toml", "--run-dir", "run"];
    dir.run(&run).failed(1, &["no storage space"]);
    let failure = Failure::read(&dir.files("run").failure()).expect("a failure");
    assert_eq!(
        (failure.rank, failure.step, failure.phase.as_str()),
        (Some(0), 20, "checkpoint"),
        "{failure:?}"
    );
    let flight = dir.files("run").logs().join("flight-rank-0.txt");
    assert!(std::fs::read_to_string(flight).expect("a flight record").contains("all_reduce"));
    dir.run(&["train", "--resume", "run", "--set", "faults.inject=[]"]).done();
    assert!(dir.trained("run") == whole, "the same model as without the fault");
}

#[test]
fn a_process_that_is_killed_goes_on_from_its_checkpoint() {
    let dir = Dir::new(SMALL);
    let whole = dir.model("whole", &[]);
    for (fault, run) in
        [("kill rank 1 at step 25 in backward", "a"), ("kill rank 0 at step 30 in checkpoint", "b")]
    {
        let ended = dir.run(&["fault", fault, "run.toml", "--run-dir", run]);
        assert_eq!(ended.code, None, "by a signal: {ended:?}");
        dir.run(&["train", "--resume", run, "--set", "faults.inject=[]"]).done();
        assert!(dir.trained(run) == whole, "{fault}: the same model as without it");
    }
}

#[test]
fn a_fault_that_is_none_is_refused() {
    let dir = Dir::new(SMALL);
    dir.run(&["fault", "melt rank 0 at step 1", "run.toml"])
        .failed(2, &["melt rank 0", "KIND rank N at step N"]);
    dir.train("run", &["--set", "faults.inject=['stop rank 1']"])
        .failed(2, &["faults.inject", "stop rank 1"]);
}

#[test]
fn a_place_that_cannot_be_written_is_named() {
    let dir = Dir::new(SMALL);
    // below a file there can be no directory, whoever asks
    dir.write("occupied", "");
    let ended = dir.train("occupied/run", &[]);
    assert!(matches!(ended.code, Some(1 | 2)), "{ended:?}");
    assert!(ended.err.contains("occupied"), "{ended:?}");
}

#[test]
fn output_that_nobody_reads_is_no_failure() {
    let dir = Dir::new(SMALL);
    let status_to_closed_pipe = |args: &[&str]| {
        let (reader, writer) = std::io::pipe().expect("a pipe");
        drop(reader);
        dir.command(args).stdout(writer).stderr(Stdio::null()).status().expect("the program starts").code()
    };
    assert_eq!(status_to_closed_pipe(&["config", "keys"]), Some(0));
    assert_eq!(status_to_closed_pipe(&["config", "check", "no-such-file.toml"]), Some(2));
}
