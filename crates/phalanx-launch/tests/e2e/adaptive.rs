//! Runs whose batch follows the gradient.

use phalanx_train::events::{self, Event, StepDone};

use crate::program::{Dir, SMALL};

/// [`SMALL`] under a policy, for a number of samples.
fn under(policy: &str) -> String {
    format!("{}\n[batch]\n{policy}\n", SMALL.replace("steps = 60", "samples = 6000"))
}

fn steps(dir: &Dir, run: &str) -> Vec<StepDone> {
    let log = events::read(&dir.files(run).events()).expect("events");
    let step = |event| match event {
        Event::Step(step) => Some(step),
        _ => None,
    };
    log.events.into_iter().filter_map(step).collect()
}

#[test]
fn adadagrad_grows_the_batch_and_brings_its_optimizer() {
    let policy = "policy = \"adadagrad\"\nstatistic = \"ranks\"\neta = 0.2\nmax = 500\n";
    let dir = Dir::new(&under(policy).replace("momentum = 0.9\n", ""));
    dir.train("run", &[]).done();
    let run = std::fs::read_to_string(dir.files("run").run_file()).expect("a run file");
    assert!(run.contains("[optimizer]\nkind = \"adagrad\"\n"), "{run}");
    let steps = steps(&dir, "run");
    assert_eq!(steps[0].batch, 50);
    assert!(steps.iter().any(|step| step.batch > 50), "it grows");
    assert!(steps[0].target.is_some() && steps[0].statistics.is_some(), "{:?}", steps[0]);
    assert_eq!(dir.summary("run").samples, 6000);
    assert!(dir.summary("run").steps < 120, "fewer steps than a constant batch takes");
    dir.run(&["report", "run", "-o", "report.html"]).done();
    let page = std::fs::read_to_string(dir.path("report.html")).expect("a page");
    assert!(page.contains("Gradient noise scale"), "the page shows the statistics");
}

#[test]
fn the_gradients_of_samples_steer_the_batch() {
    let policies = [
        "policy = \"adadagrad\"\neta = 0.3",
        "policy = \"augmented-test\"\ntheta = 0.2",
        "policy = \"coordinate-test\"\ncoordinates = \"per-tensor\"",
    ];
    for policy in policies {
        let policy = format!("{policy}\nstatistic = \"samples\"\nmax = 500\n");
        let dir = Dir::new(&under(&policy).replace("momentum = 0.9\n", ""));
        // on one rank too, which has no other to compare with
        dir.train("run", &["--ranks", "1"]).done();
        dir.train("two", &[]).done();
        for run in ["run", "two"] {
            let steps = steps(&dir, run);
            let first = &steps[0];
            let chunks = first.statistics.as_ref().map(|statistics| statistics.chunks);
            assert_eq!((first.batch, chunks), (50, Some(50)), "{policy}");
            assert!(first.target.is_some_and(|target| target > 0.0), "{policy}: {first:?}");
            assert!(steps.iter().any(|step| step.batch > 50), "{policy}: it grows");
            assert_eq!(dir.summary(run).samples, 6000);
        }
    }
}

#[test]
fn an_optimizer_that_the_run_file_names_is_kept_and_said() {
    let policy = "policy = \"adadagrad\"\nstatistic = \"ranks\"\n";
    let dir = Dir::new(&under(policy).replace("lr = 0.05", "kind = \"sgd\"\nlr = 0.05"));
    let ended = dir.run(&["train", "run.toml", "--dry-run"]);
    let said =
        "optimizer.kind = \"sgd\" is kept; batch.policy = \"adadagrad\" by itself would set \"adagrad\"";
    assert!(ended.err.contains(said), "{ended:?}");
    assert!(ended.done().contains("kind = \"sgd\"\n"));
    let set = [
        "train",
        "run.toml",
        "--dry-run",
        "--set",
        "optimizer.kind=adagrad-norm",
        "--set",
        "batch.policy=adadagrad-norm",
    ];
    let dir = Dir::new(&under(policy).replace("momentum = 0.9\n", ""));
    let ended = dir.run(&set);
    assert!(!ended.err.contains("is kept"), "{ended:?}");
    ended.done();
}

#[test]
fn decisions_are_the_same_for_any_number_of_ranks() {
    let policy = "policy = \"noise-scale\"\nlr_scaling = \"square-root\"\ninterval = 3\nmax = 400\n";
    let dir = Dir::new(&under(policy));
    let reproducible = ["--set", "train.reduction=reproducible", "--set", "train.shards=4", "--ranks"];
    let of = |run: &str, ranks: &str| {
        let model = dir.model(run, &[&reproducible[..], &[ranks]].concat());
        let batches: Vec<u64> = steps(&dir, run).iter().map(|step| step.batch).collect();
        (model, batches)
    };
    let (one, two, four) = (of("one", "1"), of("two", "2"), of("four", "4"));
    assert!(one.1.iter().any(|batch| *batch != 50), "{:?}", one.1);
    assert_eq!((&one.1, &one.1), (&two.1, &four.1));
    assert!(one.0 == two.0 && one.0 == four.0, "the models differ");
}

#[test]
fn what_cannot_be_is_refused_before_anything_is_written() {
    for (policy, more, says) in [
        (
            "policy = \"adadagrad\"\neta = 1.0",
            &[][..],
            "batch.eta: got 1.0, need a number, above 0 and below 1",
        ),
        (
            "policy = \"adadagrad\"\nmax = 40",
            &[],
            "batch.max: got 40 samples, need at least train.batch (50)",
        ),
        (
            "policy = \"noise-scale\"\nmin = 90\nmax = 80",
            &[],
            "batch.min: got 90 samples, need at most batch.max (80)",
        ),
        (
            "policy = \"adadagrad\"",
            &["--ranks", "1", "--set", "train.batch=1"],
            "train.batch is 1, need at least 2, whose gradients batch policy norm-test compares",
        ),
        ("policy = \"noise-scale\"", &["--ranks", "1"], "a variance needs 2 gradients and a batch has one"),
        (
            "policy = \"constant\"\nlr_scaling = \"adascale\"",
            &["--ranks", "1"],
            "batch.lr_scaling: a variance needs 2",
        ),
        (
            "policy = \"ramp\"",
            &["--set", "train.steps=9", "--set", "schedule.kind=linear"],
            "the batch changes, so that",
        ),
        ("policy = \"ramp\"", &["--set", "train.memory_limit=1KiB"], "train.memory_limit is 1024"),
    ] {
        let dir = Dir::new(&under(policy).replace("momentum = 0.9\n", ""));
        dir.train("run", more).failed(2, &[says]);
        assert!(!dir.path("run").exists(), "{policy}");
    }
}

#[test]
fn tiles_fit_the_memory_that_is_given() {
    let dir = Dir::new(&under("policy = \"ramp\"\nincrement = 50\nmax = 400\n"));
    let memory = |more: &[&str]| {
        let plan = dir.run(&[&["train", "run.toml", "--dry-run"], more].concat()).done();
        let line = plan.lines().find(|line| line.starts_with("# arena")).expect("a line").to_owned();
        line.split_whitespace().nth(2).and_then(|bytes| bytes.parse::<u64>().ok()).expect("bytes") / 2
    };
    let free = memory(&[]);
    let limit = format!("train.memory_limit={}", free / 2);
    assert!(memory(&["--set", &limit]) < free / 2);
    dir.train("run", &["--set", &limit]).done();
}

#[test]
fn a_refined_schedule_is_written_from_a_run_and_followed_by_the_next() {
    let dir = Dir::new(SMALL);
    dir.train("first", &[]).done();
    let told = dir.run(&["schedule", "refine", "first", "-o", "refined.toml"]).done();
    assert!(told.contains("refined from 60 steps of small by the l2 norm"), "{told}");
    let file = std::fs::read_to_string(dir.path("refined.toml")).expect("a schedule file");
    assert!(file.contains("version = 1") && file.contains(", 0.0],\n]"), "the last factor is 0: {file}");
    let follow = ["--set", "schedule.kind=refined", "--set", "schedule.path=refined.toml"];
    dir.train("second", &follow).done();
    let rates: Vec<f64> = steps(&dir, "second").iter().map(|step| step.lr).collect();
    assert!(rates.iter().any(|lr| (lr - 0.05).abs() < 1e-3), "the greatest factor is 1: {rates:?}");
    assert!(rates[59] < 0.01, "{rates:?}");
    // the same file names the same rates again
    dir.run(&["schedule", "refine", "first", "--norm", "l1", "--window", "2"]).failed(1, &["window is 2"]);
    dir.write("broken.toml", "version = 1\npoints = [[0.5, 1.0], [0.1, 1.0]]\n");
    let broken = ["--set", "schedule.kind=refined", "--set", "schedule.path=broken.toml"];
    dir.train("third", &broken).failed(2, &["position is 0.1, need rising numbers"]);
    let absent = ["--set", "schedule.kind=refined", "--set", "schedule.path=absent.toml"];
    dir.train("third", &absent).failed(2, &["cannot read absent.toml"]);
    assert!(!dir.path("third").exists());
}

#[test]
fn curvature_is_shown_with_a_learning_rate() {
    let dir = Dir::new(SMALL);
    dir.train("run", &[]).done();
    let told = dir.run(&["inspect", "run", "--curvature", "--samples", "64", "--steps", "8"]).done();
    let row =
        |name: &str| told.lines().find(|line| line.starts_with(name)).unwrap_or_else(|| panic!("{told}"));
    assert!(row("checkpoint").ends_with("60") && row("loss over").contains("64 training samples"), "{told}");
    let number = |text: &str| text.parse::<f64>().unwrap_or_else(|error| panic!("{text}: {error}"));
    let largest = number(row("largest").split_whitespace().nth(1).unwrap_or_default());
    let lr = row("gradient descent").split_whitespace().nth(3).unwrap_or_default();
    let lr = number(lr.trim_end_matches(','));
    assert!(largest > 0.0 && (lr * largest - 1.0).abs() < 1e-2, "{told}");
}

#[test]
fn an_experiment_goes_on_where_it_was_and_compares() {
    let dir = Dir::new("");
    let file = |name: &str, batch: &str| {
        SMALL.replace("\"small\"", &format!("{name:?}")).replace("batch = 50", batch)
    };
    dir.write("methods/small.toml", file("small", "batch = 20"));
    dir.write("methods/large.toml", file("large", "batch = 200"));
    let args =
        ["experiment", "methods", "--seeds", "1,2", "--runs", "runs", "-o", "page.md", "--accuracy", "0.05"];
    dir.run(&args).done();
    let page = std::fs::read_to_string(dir.path("page.md")).expect("a page");
    assert!(page.contains("| large | 2 |") && page.contains("| small | 2 |"), "{page}");
    assert!(dir.path("page-batch.svg").is_file() && dir.path("page-time.svg").is_file());
    // what is done is kept
    let model = dir.trained("runs/small-seed-1");
    std::fs::remove_dir_all(dir.path("runs/large-seed-2")).expect("a run");
    let ended = dir.run(&args);
    assert!(ended.err.contains("large-seed-2") && !ended.err.contains("small-seed-1"), "{ended:?}");
    ended.done();
    assert!(dir.trained("runs/small-seed-1") == model);
    assert_eq!(
        std::fs::read_to_string(dir.path("page.md")).expect("a page").lines().count(),
        page.lines().count()
    );
}
