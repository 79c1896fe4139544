//! Runs in which some ranks lie.

use phalanx_train::events::{self, Aggregated, Event};

use crate::program::{Dir, Ended};

/// A small `mlp` on five ranks.
const FIVE: &str = r#"
name = "five"
seed = 2
[model]
kind = "mlp"
hidden = [32]
[data]
kind = "digits"
[train]
ranks = 5
batch = 50
steps = 120
drop_last = true
log_every_steps = 40
[optimizer]
lr = 0.1
momentum = 0.9
[checkpoint]
every_steps = 40
"#;

/// Rank 3 sends twenty times the opposite of what is right.
const FLIPPED: &str = "[[attack]]\nkind = \"sign-flip\"\nranks = [3]\nscale = 20.0\n";

fn under(aggregation: &str, attack: &str) -> Dir {
    Dir::new(&format!("{FIVE}\n[aggregation]\n{aggregation}\n{attack}"))
}

fn accuracy(dir: &Dir) -> f64 {
    dir.train("run", &[]).done();
    dir.summary("run").test_accuracy.expect("digits have classes")
}

fn rounds(dir: &Dir) -> Vec<Aggregated> {
    let log = events::read(&dir.files("run").events()).expect("events");
    let round = |event| match event {
        Event::Aggregated(round) => Some(round),
        _ => None,
    };
    log.events.into_iter().filter_map(round).collect()
}

#[test]
fn rules_bear_a_rank_under_which_the_mean_breaks() {
    for rule in
        ["rule = \"krum\"", "rule = \"median\"", "rule = \"trimmed-mean\"\nbefore = [\"arc\", \"nnm\"]"]
    {
        let got = accuracy(&under(rule, FLIPPED));
        assert!(got > 0.8, "{rule}: {got}");
    }
    let mean = under("rule = \"mean\"", FLIPPED);
    // the run may end in numbers that are none
    let ended = mean.train("run", &[]);
    if ended.code == Some(0) {
        let got = mean.summary("run").test_accuracy.expect("digits have classes");
        assert!(got < 0.4, "the mean of {got}");
    } else {
        ended.failed(1, &["not finite at step"]);
    }
}

#[test]
fn who_was_left_out_and_why_is_told() {
    let dir = under("rule = \"multi-krum\"", FLIPPED);
    let told = dir.train("run", &[]);
    assert!(told.err.contains("the run is under attack: sign-flip by rank 3"), "{}", told.err);
    assert!(told.err.contains("without rank 3"), "{}", told.err);
    let out = told.done();
    assert!(out.contains("\n  left out       rank 3 of 120 steps\n"), "{out}");
    let rounds = rounds(&dir);
    assert_eq!(rounds.len(), 120);
    for round in &rounds {
        let [one] = &round.left_out[..] else { panic!("{round:?}") };
        assert_eq!((one.rank, one.reason.as_str()), (3, "left_out"), "{round:?}");
        assert_eq!(one.detail, "was left out by multi-krum");
        assert!(one.score.is_some_and(|score| score > 0.0));
    }
    assert_eq!(dir.summary("run").steps_left_out, [0, 0, 0, 120, 0]);
}

#[test]
fn numbers_that_are_none_are_left_out() {
    let nan = "[[attack]]\nkind = \"nan\"\nranks = [0]\n";
    let dir = under("rule = \"median\"", nan);
    assert!(accuracy(&dir) > 0.8);
    assert!(rounds(&dir).iter().all(|round| round.left_out[0].reason == "not_finite"));
    under("rule = \"mean\"", nan).train("run", &[]).failed(1, &["not finite at step 1"]);
}

#[test]
fn more_than_the_rule_bears_stop_the_run_or_are_skipped() {
    let nan = "[[attack]]\nkind = \"nan\"\nranks = [0, 1]\n";
    let dir = under("rule = \"median\"\nhostile = 1", nan);
    let told = "2 of 5 gradients over ranks are not finite or too long or short, median bears 1";
    dir.train("stopped", &[]).failed(1, &[told]);
    dir.train("run", &["--set", "train.on_nonfinite=skip"]).done();
    let summary = dir.summary("run");
    assert_eq!((summary.steps, summary.skipped_steps), (120, 120));
    assert!(rounds(&dir).is_empty(), "nobody is left out of a step that was not made");
}

#[test]
fn a_rank_that_flips_labels_reads_wrong_ones_and_others_do_not() {
    let flip = "[[attack]]\nkind = \"label-flip\"\nranks = [1]\n";
    let (honest, flipped) = (under("rule = \"mean\"", ""), under("rule = \"mean\"", flip));
    let one = |dir: &Dir| {
        dir.train("run", &["--set", "train.steps=1"]).done();
        dir.summary("run").train_loss.expect("a step")
    };
    assert!((one(&honest) - one(&flipped)).abs() > 1e-4, "a fifth of the labels is wrong");
    assert!(accuracy(&under("rule = \"median\"", flip)) > 0.8);
}

/// The center that the rule remembers, and the victim that the attack has chosen, are in the checkpoint.
#[test]
fn a_run_goes_on_to_the_same_bits() {
    let mimic = "[[attack]]\nkind = \"mimic\"\nranks = [4]\nwarm_up = 60\n";
    let dir = under("rule = \"centered-clipping\"\ntau = 1.0", mimic);
    let whole = dir.model("whole", &[]);
    dir.train("cut", &["--set", "train.steps=40"]).done();
    dir.run(&["train", "--resume", "cut", "--set", "train.steps=120"]).done();
    assert_eq!(dir.trained("cut"), whole);
}

/// Six ranks are three nodes of two.
fn nodes(aggregation: &str, attack: &str) -> Dir {
    let over = "over = \"nodes\"\nranks_per_node = 2";
    let dir = under(&format!("{aggregation}\n{over}"), attack);
    let text = std::fs::read_to_string(dir.path("run.toml")).expect("a file");
    dir.write("run.toml", text.replace("ranks = 5", "ranks = 6").replace("batch = 50", "batch = 48"));
    dir
}

#[test]
fn a_rule_over_nodes_bears_one_and_tells_which() {
    let dir = nodes(
        "rule = \"krum\"\nhostile = 0",
        "[[attack]]\nkind = \"sign-flip\"\nranks = [2]\nscale = 20.0\n",
    );
    let plan = dir.train("plan", &["--dry-run"]).done();
    assert!(plan.contains("\nover = \"nodes\"\nranks_per_node = 2\n"), "{plan}");
    assert!(plan.contains("\n# rule        krum over 3 nodes of 2 ranks, bears 0\n"), "{plan}");
    let told = dir.train("run", &[]);
    assert!(told.err.contains("the run is under attack: sign-flip by node 2"), "{}", told.err);
    assert!(told.err.contains("without node "), "{}", told.err);
    let out = told.done();
    assert!(out.contains("node 2 of 120 steps"), "{out}");
    assert!(dir.summary("run").test_accuracy.is_some_and(|accuracy| accuracy > 0.8));
    let summary = dir.summary("run");
    assert_eq!((summary.over.as_deref(), summary.steps_left_out[2]), (Some("nodes"), 120));
    assert!(rounds(&dir).iter().all(|round| round.over.as_deref() == Some("nodes")));
}

/// The ranks of a node keep its momentum in slices; on other ranks, nodes begin with the mean.
#[test]
fn a_run_over_nodes_goes_on_to_the_same_bits() {
    let dir = nodes("rule = \"median\"\nmomentum = 0.9", "");
    let whole = dir.model("whole", &[]);
    dir.train("cut", &["--set", "train.steps=40"]).done();
    dir.run(&["train", "--resume", "cut", "--set", "train.steps=120"]).done();
    assert_eq!(dir.trained("cut"), whole);
    dir.train("moved", &["--set", "train.steps=40"]).done();
    dir.run(&[
        "train",
        "--resume",
        "moved",
        "--ranks",
        "4",
        "--set",
        "aggregation.ranks_per_node=1",
        "--set",
        "train.steps=60",
    ])
    .done();
    assert_eq!(dir.summary("moved").steps, 60);
}

#[test]
fn samples_that_are_trusted_bear_a_majority() {
    let lies = "[[attack]]\nkind = \"sign-flip\"\nranks = [1, 2, 3, 4]\nscale = 4.0\n";
    let dir = under("rule = \"fltrust\"\ntrusted_samples = 100", lies);
    let plan = dir.train("plan", &["--dry-run"]).done();
    assert!(plan.contains("\n# trusted     100 samples\n") && plan.contains("1194 training"), "{plan}");
    assert!(accuracy(&dir) > 0.8);
    let monna = under("rule = \"monna\"\nhostile = 2\ntrusted_samples = 100", FLIPPED);
    assert!(accuracy(&monna) > 0.8);
}

/// The attack's momentum is that of all ranks: without it, the run would end elsewhere.
#[test]
fn momentum_is_applied_under_an_attack_too() {
    let with = |momentum: &str| {
        let dir = under(&format!("rule = \"median\"\nmomentum = {momentum}"), FLIPPED);
        dir.model("run", &["--set", "train.steps=5"])
    };
    assert_ne!(with("0.9"), with("0.0"));
}

fn refused(aggregation: &str, attack: &str, parts: &[&str]) {
    let ended: Ended = under(aggregation, attack).train("run", &[]);
    ended.failed(2, parts);
}

#[test]
fn what_cannot_be_is_said_before_a_rank_starts() {
    refused("rule = \"kurm\"", "", &["aggregation.rule: unknown rule \"kurm\", did you mean `krum`?"]);
    refused(
        "rule = \"krum\"\nhostile = 2",
        "",
        &["aggregation.hostile: 2 hostile of 5 ranks: krum needs 7 gradients over ranks, got 5"],
    );
    refused("rule = \"bulyan\"\nhostile = 1", "", &["bulyan needs 7 gradients over ranks, got 5"]);
    refused(
        "rule = \"median\"\nbefore = [\"nmn\"]",
        "",
        &["aggregation.before: unknown pre-aggregator \"nmn\", did you mean `nnm`?"],
    );
    refused(
        "rule = \"median\"",
        "[[attack]]\nkind = \"alie\"\nranks = [5]\n",
        &["alie names rank 5, train.ranks is 5"],
    );
    let over = |keys: &str, parts: &[&str]| refused(&format!("rule = \"median\"\n{keys}"), "", parts);
    over("over = \"nodes\"", &["the rule is over nodes", "need aggregation.ranks_per_node"]);
    over("ranks_per_node = 2", &["aggregation.ranks_per_node: got 2 ranks, which nothing asks for"]);
    over(
        "over = \"nodes\"\nranks_per_node = 2\nhostile = 2",
        &["aggregation.hostile: 2 hostile of 3 nodes: median needs 5 gradients over nodes, got 3"],
    );
    over(
        "trusted_samples = 10",
        &["aggregation.trusted_samples: aggregation.rule = \"median\" trusts no samples"],
    );
    refused("rule = \"fltrust\"", "", &["aggregation.rule: fltrust compares with what samples"]);
    refused("rule = \"monna\"", "", &["aggregation.rule: monna compares with what samples"]);
    refused(
        "rule = \"fltrust\"\ntrusted_samples = 1294",
        "",
        &["aggregation.trusted_samples", "got 1294 trusted samples, need 1 to 1293"],
    );
    let set = |assignment: &str| under("rule = \"median\"", "").train("run", &["--set", assignment]);
    set("train.reduction=reproducible").failed(2, &["need train.reduction = \"fast\""]);
    set("batch.policy=noise-scale").failed(2, &["batch.policy: compares gradients with their mean"]);
}
