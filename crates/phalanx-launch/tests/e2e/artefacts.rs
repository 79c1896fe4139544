//! What a run leaves, and where.

use std::fs;

use phalanx_train::events::{self, Event, Split};
use serde_json::Value;

use crate::program::{Dir, SMALL, workspace};

#[test]
fn the_digits_are_learnt_and_the_run_leaves_its_files() {
    let dir = Dir::new(&fs::read_to_string(workspace("launch/digits.toml")).expect("a run file"));
    let shown = dir.run(&["train", "run.toml"]).done();
    assert!(shown.contains("runs/digits"), "{shown}");

    let summary = dir.summary("runs/digits");
    let accuracy = summary.test_accuracy.expect("classes");
    assert!(accuracy >= 0.97, "{accuracy}");
    assert_eq!((summary.ranks, summary.epochs, summary.final_batch), (2, 20, 64));
    assert!(summary.samples_per_second > 0.0 && summary.peak_rss_bytes > Some(0), "{summary:?}");
    assert!(summary.parameters_without_gradient.is_empty(), "{summary:?}");

    let files = dir.files("runs/digits");
    assert!(!files.failure().exists());
    let log = events::read(&files.events()).expect("events");
    assert!(log.bad_lines.is_empty(), "{:?}", log.bad_lines);
    let steps = log.events.iter().filter(|event| matches!(event, Event::Step(_))).count();
    assert_eq!(steps as u64, summary.steps);
    let is_test = |event: &&Event| matches!(event, Event::Eval(eval) if eval.split == Split::Test);
    assert_eq!(log.events.iter().filter(is_test).count(), 1, "the test set is looked at once");

    let trace: Value = serde_json::from_slice(&fs::read(files.trace()).expect("a trace")).expect("JSON");
    let text = trace.to_string();
    for lane in ["rank 0", "rank 1"] {
        assert!(text.contains(lane), "the trace has no lane {lane}");
    }
    assert!(files.tensorboard().read_dir().expect("a directory").next().is_some());
    assert!(files.checkpoints().read_dir().expect("a directory").count() >= 3);
    assert!(files.model().metadata().expect("a model").len() > 4 * summary.parameters);

    // the resolved run file is a run file, of the same run
    let again = dir.run(&["config", "show", "runs/digits/run.toml"]).done();
    assert_eq!(again, fs::read_to_string(files.run_file()).expect("a run file"));

    let scored = dir.run(&["eval", "runs/digits", "--checkpoint", "last"]).done();
    let percent = format!("{:.2} %", 100.0 * accuracy);
    assert!(scored.contains(&percent), "{percent} in {scored}");
}

#[test]
fn a_second_run_of_a_name_has_a_directory_of_its_own() {
    let dir = Dir::new(SMALL);
    let one_step = ["train", "run.toml", "--set", "train.steps=1"];
    dir.run(&one_step).done();
    let shown = dir.run(&one_step).done();
    assert!(shown.contains("runs/small-2"), "{shown}");
    assert_eq!(dir.trained("runs/small"), dir.trained("runs/small-2"), "the name is all that differs");
}

#[test]
fn a_dry_run_tells_the_plan_and_leaves_nothing() {
    let dir = Dir::new(SMALL);
    let shown = dir.run(&["train", "run.toml", "--dry-run"]).done();
    for part in ["channels = [4, 8]", "# parameters  1034", "# steps       60", "# bucket 0"] {
        assert!(shown.contains(part), "{part:?} in {shown}");
    }
    assert!(!dir.path("runs").exists());
}

#[test]
fn a_report_shows_runs_side_by_side() {
    let dir = Dir::new(SMALL);
    dir.train("one", &["--set", "train.steps=3"]).done();
    dir.train("two", &["--set", "train.steps=3", "--set", "optimizer.lr=0.01"]).done();
    dir.run(&["report", "one", "two", "-o", "page.html"]).done();
    let page = fs::read_to_string(dir.path("page.html")).expect("a page");
    for part in ["one", "two", "<script>"] {
        assert!(page.contains(part), "the page has no {part}");
    }
    assert!(!page.contains("src=") && !page.contains("<link"), "everything is in the page");
}
