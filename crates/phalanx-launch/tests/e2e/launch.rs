//! `phalanx launch` on this machine, by its mpirun: one process, whose ranks are threads where it has no MPI.

use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use phalanx_testkit::cluster::leave_out;

use crate::federated::TWENTY;
use crate::program::{Dir, Ended, SMALL};

fn has_mpirun() -> bool {
    let is_here =
        Command::new("mpirun").arg("--version").output().is_ok_and(|output| output.status.success());
    if !is_here {
        leave_out("no mpirun on this machine");
    }
    is_here
}

/// The same bits for any number of ranks.
fn reproducible() -> Dir {
    Dir::new(&SMALL.replace("batch = 50", "batch = 50\nreduction = \"reproducible\""))
}

#[test]
fn a_job_that_is_killed_is_started_again_and_reaches_the_same_model() {
    if !has_mpirun() {
        return;
    }
    let dir = reproducible();
    let whole = dir.model("whole", &[]);
    for (step, from) in [(25, "the checkpoint of step 20"), (5, "the start")] {
        let run = format!("run-{step}");
        let fault = format!("faults.inject=['kill rank 0 at step {step} in backward']");
        let launch =
            ["launch", "-n", "1", "--max-restarts", "2", "--backoff-seconds", "0.1", "--logs", "logs"];
        let train = ["train", "run.toml", "--run-dir", &run, "--set", &fault];
        let ended = dir.run(&[&launch[..], &train].concat());
        ended.failed(0, &["the ranks ended with 137", "restart 1 of 2 in 0.1 s"]);
        assert!(!ended.err.contains("restart 2"), "{ended:?}");
        assert!(ended.out.lines().any(|line| line.starts_with("[0] ")), "{ended:?}");
        assert!(dir.trained(&run) == whole, "the same model, from {from}");
    }
    let log = std::fs::read_to_string(dir.path("logs/rank-0.log")).expect("a log");
    assert!(log.contains("injected fault: kill rank 0 at step 25 in backward"), "{log}");
}

#[test]
fn a_federated_run_that_is_killed_is_started_again_and_reaches_the_same_model() {
    if !has_mpirun() {
        return;
    }
    let dir = Dir::new(&format!(
        "{TWENTY}[federated]\nclients = 20\nper_round = 4\nrounds = 6\n[checkpoint]\nevery_steps = 2\n"
    ));
    dir.run(&["federate", "run.toml", "--run-dir", "whole"]).done();
    let launch = ["launch", "-n", "1", "--max-restarts", "1", "--backoff-seconds", "0"];
    let fault = ["fault", "kill rank 0 at step 5 in backward", "run.toml", "--run-dir", "run"];
    dir.run(&[&launch[..], &fault].concat()).failed(0, &["the ranks ended with 137", "restart 1 of 1"]);
    assert!(dir.trained("run") == dir.trained("whole"), "the models differ");
}

#[test]
fn every_rank_tells_its_place() {
    if !has_mpirun() {
        return;
    }
    let told = Dir::new(SMALL).run(&["launch", "-n", "2", "env"]).done();
    for line in ["[0] rank        0 of 2", "[1] rank        1 of 2"] {
        assert!(told.lines().any(|of| of == line), "{line:?} in\n{told}");
    }
}

#[test]
fn restarts_end_when_there_were_enough() {
    if !has_mpirun() {
        return;
    }
    let dir = reproducible();
    let launch = ["launch", "-n", "1", "--max-restarts", "1", "--backoff-seconds", "0"];
    // a rate that no attempt survives
    let train =
        ["train", "run.toml", "--run-dir", "run", "--set", "train.steps=9", "--set", "optimizer.lr=1e30"];
    let ended = dir.run(&[&launch[..], &train].concat());
    ended.failed(1, &["restart 1 of 1", "not finite at step"]);
    assert_eq!(ended.err.matches("the ranks ended with 1").count(), 2, "{ended:?}");
    // what is wrong from the start is not tried again
    let wrong = ["train", "run.toml", "--run-dir", "other", "--set", "train.batch=99999"];
    let ended = dir.run(&[&launch[..], &wrong].concat());
    ended.failed(2, &[]);
    assert!(!ended.err.contains("restart"), "{ended:?}");
}

#[test]
fn a_job_that_is_told_to_stop_leaves_a_checkpoint_and_ends_with_code_4() {
    if !has_mpirun() {
        return;
    }
    let dir = reproducible();
    let train = ["train", "run.toml", "--run-dir", "run", "--set", "train.steps=1000000"];
    let mut command = dir.command(&[&["launch", "-n", "1"][..], &train].concat());
    let child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("the program starts");
    let began = Instant::now();
    while dir.files("run").checkpoints().read_dir().map_or(0, Iterator::count) == 0 {
        assert!(began.elapsed() < Duration::from_secs(60), "no checkpoint");
        std::thread::sleep(Duration::from_millis(20));
    }
    assert!(Command::new("kill").args(["-TERM", &child.id().to_string()]).status().expect("kill").success());
    let ended = Ended::of(&child.wait_with_output().expect("it ends"));
    ended.failed(4, &[]);
    assert!(dir.summary("run").stopped);
}

#[test]
fn a_dry_run_prints_the_command_and_bad_requests_are_refused() {
    let dir = Dir::new(SMALL);
    dir.write("hosts", "node1 slots=2\nnode2 slots=2\n");
    dir.write("twice", "node1\nnode1\n");
    let launch = |more: &[&str]| dir.run(&[&["launch"], more].concat());
    launch(&["train", "run.toml"]).failed(2, &["launch needs -n"]);
    launch(&["--hosts", "hosts", "-n", "9", "train", "run.toml"])
        .failed(2, &["9 ranks, but 4 slots on 2 hosts"]);
    launch(&["--hosts", "twice", "train", "run.toml"])
        .failed(2, &["twice, line 2: node1 is listed in line 1"]);
    launch(&["-n", "2", "--mpirun", "no-such-mpirun", "train", "run.toml"]).failed(2, &["no-such-mpirun"]);
    if has_mpirun() {
        launch(&["-n", "2", "eval", "run"]).failed(2, &["launch runs `train`, `federate`", "eval"]);
        launch(&["-n", "2", "train", "run.toml", "--rnaks", "2"]).failed(2, &["no rank can run", "--rnaks"]);
        let restarts = ["-n", "2", "--max-restarts", "1", "train", "run.toml"];
        launch(&restarts).failed(2, &["--max-restarts needs a command with --run-dir DIR"]);
        let line = launch(&["--hosts", "hosts", "--dry-run", "train", "run.toml", "--resume"]).done();
        assert!(
            line.starts_with("mpirun -n 4 --hostfile ") && line.ends_with(" train run.toml --resume\n"),
            "{line}"
        );
    }
}

#[test]
fn a_plan_is_made_of_a_measured_run() {
    let dir = Dir::new(SMALL);
    dir.train("run", &[]).done();
    let plan = ["plan", "run.toml", "--measured", "run", "--nodes", "1..128", "--net", "100g"];
    let table = dir.run(&plan).done();
    let rows: Vec<&str> = table.lines().filter(|line| line.contains(" % ")).collect();
    assert_eq!(rows.len(), 6, "50 samples are enough for 32 nodes: {table}");
    assert!(rows[0].contains("100.0 %"), "{table}");
    assert!(table.contains("64 more ranks than the 50 samples"), "{table}");
    dir.run(&["plan", "run.toml", "--measured", "nowhere"]).failed(2, &["nowhere"]);
    // half the bytes over a network that is slow, and a look at how right the model is
    let slow = |more: &[&str]| {
        let plan =
            ["plan", "run.toml", "--measured", "run", "--nodes", "2", "--net", "0.01g", "--check", "run"];
        dir.run(&[&plan[..], more].concat()).done()
    };
    let (whole, half) = (slow(&[]), slow(&["--set", "compression.kind=fp16"]));
    let exposed = |table: &str| -> f64 {
        let row = table.lines().find(|line| line.contains(" % ")).expect("a row");
        row.split_whitespace().nth(3).expect("a column").parse().expect("a number")
    };
    assert!(exposed(&half) < 0.6 * exposed(&whole), "{half}{whole}");
    // a rule hides nothing: the gradient goes round twice after the backward pass
    let rule = slow(&["--set", "aggregation.rule=median"]);
    assert!(
        exposed(&rule) > exposed(&whole) && rule.contains("a rule over ranks, on shards"),
        "{rule}{whole}"
    );
    let check = whole.lines().last().expect("a line");
    assert!(check.ends_with(" %  run") && check.trim_start().starts_with("1       2 "), "{whole}");
}
