//! Runs that are stopped or killed, and go on to the model of a run that never was.

use std::fs;
use std::path::PathBuf;
use std::process::Stdio;
use std::thread::sleep;
use std::time::{Duration, Instant};

use signal_hook::consts::SIGTERM;

use crate::program::{Dir, Ended, SMALL};

/// Longer than any wait of a test on a busy machine.
const PATIENCE: Duration = Duration::from_secs(60);

/// Waits until the run has `count` checkpoints or more of steps after `after`.
pub(crate) fn checkpoint_after(dir: &Dir, run: &str, after: u64) -> u64 {
    let started = Instant::now();
    loop {
        assert!(started.elapsed() < PATIENCE, "no checkpoint after step {after}");
        if let Some(step) = last_checkpoint(dir, run).filter(|step| *step > after) {
            return step;
        }
        sleep(Duration::from_millis(2));
    }
}

fn last_checkpoint(dir: &Dir, run: &str) -> Option<u64> {
    let entries = fs::read_dir(dir.files(run).checkpoints()).ok()?;
    let names = entries.filter_map(|entry| entry.ok()?.file_name().into_string().ok());
    names.filter_map(|name| name.strip_prefix("step-")?.parse().ok()).max()
}

/// Kills a run again and again, each time a little after a new checkpoint, and lets it end at last.
fn killed_again_and_again(run_file: &str) {
    let dir = Dir::new(run_file);
    let need = dir.model("whole", &[]);
    let mut args = vec!["train", "run.toml", "--run-dir", "killed"];
    let mut last = 0;
    for delay in [0, 7, 23] {
        let mut child =
            dir.command(&args).stdout(Stdio::null()).stderr(Stdio::null()).spawn().expect("it starts");
        last = checkpoint_after(&dir, "killed", last);
        sleep(Duration::from_millis(delay));
        child.kill().expect("a signal");
        let status = child.wait().expect("an end");
        assert_eq!(status.code(), None, "killed in the middle, at step {last}");
        args = vec!["train", "--resume", "killed"];
    }
    dir.run(&args).done();
    assert_eq!(dir.summary("killed").resumes, 3);
    assert!(dir.trained("killed") == need, "the models differ");
    assert_eq!(dir.summary("killed").final_batch, dir.summary("whole").final_batch);
}

/// [`SMALL`], longer.
fn long(reduction: &str) -> String {
    SMALL.replace("steps = 60", &format!("steps = 400\nreduction = \"{reduction}\""))
}

#[test]
fn a_killed_fast_run_goes_on_to_the_same_bits() {
    killed_again_and_again(&long("fast"));
}

#[test]
fn a_killed_reproducible_run_goes_on_to_the_same_bits() {
    killed_again_and_again(&long("reproducible"));
}

/// The policy's running means and the batch are as they were.
#[test]
fn a_killed_run_with_a_growing_batch_goes_on_to_the_same_bits() {
    let policy = "[batch]\npolicy = \"norm-test\"\nstatistic = \"ranks\"\neta = 0.2\nema = 0.9\ngrowth = 1.1\nmax = 300\n";
    let samples = long("fast").replace("steps = 400", "samples = 60000");
    killed_again_and_again(&format!("{samples}{policy}"));
}

/// What ranks remember of what they have not sent is theirs again.
#[test]
fn killed_runs_with_error_feedback_go_on_to_the_same_bits() {
    for compression in ["kind = \"powersgd\"\nrank = 1\nstart_step = 5", "kind = \"topk\"\nstart_step = 5"] {
        killed_again_and_again(&format!("{}[compression]\n{compression}\n", long("fast")));
    }
}

/// So is the momentum of what they send to a robust rule.
#[test]
fn killed_runs_with_momentum_of_ranks_go_on_to_the_same_bits() {
    let rule = "[aggregation]\nrule = \"median\"\nmomentum = 0.9\n";
    killed_again_and_again(&format!("{}{rule}", long("fast")));
}

#[test]
fn what_ranks_owe_is_shared_by_another_number_of_them() {
    let dir = Dir::new(&format!("{SMALL}[compression]\nkind = \"topk\"\nstart_step = 0\n"));
    dir.train("run", &["--set", "train.steps=20"]).done();
    let owed = |dir: &Dir, rank: usize| {
        let bytes = fs::read(newest(dir).join("optimizer.safetensors")).expect("a checkpoint");
        let name = format!("compression.memory.{rank}\"");
        bytes.windows(name.len()).any(|window| window == name.as_bytes())
    };
    assert!(owed(&dir, 1) && !owed(&dir, 2));
    dir.run(&["train", "--resume", "run", "--ranks", "3", "--set", "train.steps=40"]).done();
    assert_eq!((dir.summary("run").steps, dir.summary("run").ranks), (40, 3));
    assert!(owed(&dir, 2));
}

#[test]
fn a_run_that_is_told_to_stop_leaves_a_checkpoint_and_goes_on() {
    let dir = Dir::new(&SMALL.replace("steps = 60", "steps = 400\nreduction = \"reproducible\""));
    let need = dir.model("whole", &[]);
    let child = dir
        .command(&["train", "run.toml", "--run-dir", "stopped"])
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("it starts");
    checkpoint_after(&dir, "stopped", 0);
    let pid = child.id().to_string();
    let signal = format!("-{SIGTERM}");
    assert!(std::process::Command::new("kill").args([&signal, &pid]).status().expect("kill").success());
    let ended = Ended::of(&child.wait_with_output().expect("an end"));
    assert_eq!(ended.code, Some(4), "{ended:?}");
    let summary = dir.summary("stopped");
    assert!(summary.stopped && summary.steps < 400, "{summary:?}");
    assert_eq!(last_checkpoint(&dir, "stopped"), Some(summary.steps));

    // another number of ranks makes no difference to a reproducible run
    dir.run(&["train", "--resume", "stopped", "--ranks", "3"]).done();
    assert_eq!(dir.summary("stopped").steps, 400);
    assert!(dir.trained("stopped") == need, "the models differ");
}

#[test]
fn a_damaged_checkpoint_is_refused_and_the_one_before_it_used() {
    let dir = Dir::new(SMALL);
    let need = dir.model("run", &[]);
    let model = newest(&dir).join("model.safetensors");
    let mut bytes = fs::read(&model).expect("a checkpoint");
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    fs::write(&model, bytes).expect("a file");
    let ended = dir.run(&["train", "--resume", "run"]);
    assert!(ended.err.contains("checkpoint of step 60 is refused"), "{ended:?}");
    ended.done();
    assert!(dir.trained("run") == need, "the models differ");
}

/// The directory of the newest checkpoint.
fn newest(dir: &Dir) -> PathBuf {
    let entries = fs::read_dir(dir.files("run").checkpoints()).expect("a directory");
    let dirs = entries.map(|entry| entry.expect("an entry").path()).filter(|path| path.is_dir());
    dirs.max().expect("a checkpoint")
}
