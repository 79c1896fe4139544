//! The exact words in which typical mistakes in a run file are reported.

use phalanx_launch::runfile::{RawRun, Registered, Run, RunFileError};

const DIGITS: &str = r#"name = "digits"
seed = 1

[model]
kind = "cnn"

[data]
kind = "digits"

[train]
ranks = 2
batch = 64
epochs = 20

[optimizer]
kind = "sgd"
lr = 0.05
momentum = 0.9
"#;

fn resolve(text: &str, set: &[&str]) -> Result<Run, RunFileError> {
    let mut raw = RawRun::parse("run.toml", text)?;
    set.iter().try_for_each(|assignment| raw.set(assignment))?;
    raw.resolve(&Registered::default())
}

/// `DIGITS` with one line replaced.
#[track_caller]
fn complaint(line: &str, instead: &str) -> String {
    assert!(DIGITS.contains(line), "{line:?} is not in the file");
    resolve(&DIGITS.replacen(line, instead, 1), &[]).expect_err("a problem").to_string()
}

#[track_caller]
fn complaint_about(set: &str) -> String {
    resolve(DIGITS, &[set]).expect_err("a problem").to_string()
}

#[test]
fn the_file_itself_is_fine() {
    resolve(DIGITS, &[]).expect("no problem");
}

#[test]
fn mistyped_section() {
    assert_eq!(
        complaint("[optimizer]", "[optimiser]"),
        "\
run.toml:15:2: optimiser: unknown key, did you mean `optimizer`?
   15 | [optimiser]
      |  ^^^^^^^^^
run.toml: optimizer.lr: not given, need a number, above 0"
    );
}

#[test]
fn mistyped_key() {
    assert_eq!(
        complaint("batch = 64", "btach = 64"),
        "\
run.toml:12:1: train.btach: unknown key, did you mean `train.batch`?
   12 | btach = 64
      | ^^^^^"
    );
}

#[test]
fn key_in_the_wrong_section() {
    assert_eq!(
        complaint("batch = 64", "lr = 0.1"),
        "\
run.toml:12:1: train.lr: unknown key, did you mean `optimizer.lr`?
   12 | lr = 0.1
      | ^^"
    );
}

#[test]
fn key_like_no_other_lists_what_is_known() {
    assert_eq!(
        complaint("momentum = 0.9", "zzzzzzzzzzzz = 0.9"),
        "\
run.toml:18:1: optimizer.zzzzzzzzzzzz: unknown key; known are kind, momentum, nesterov, lr, weight_decay, clip_norm
   18 | zzzzzzzzzzzz = 0.9
      | ^^^^^^^^^^^^"
    );
}

#[test]
fn key_of_another_kind() {
    assert_eq!(
        complaint("kind = \"sgd\"", "kind = \"adamw\""),
        "\
run.toml:18:1: optimizer.momentum: not a key of optimizer adamw; it takes kind, beta1, beta2, eps, lr, weight_decay, clip_norm
   18 | momentum = 0.9
      | ^^^^^^^^"
    );
}

#[test]
fn unknown_model_and_optimizer() {
    assert_eq!(
        complaint("kind = \"cnn\"", "kind = \"lenet\""),
        "\
run.toml:5:8: model.kind: unknown model \"lenet\", did you mean `lenet5`?
    5 | kind = \"lenet\"
      |        ^^^^^^^"
    );
    assert_eq!(
        complaint("kind = \"sgd\"", "kind = \"rmsprop\""),
        "\
run.toml:16:8: optimizer.kind: unknown optimizer \"rmsprop\"; known are sgd, adamw, adagrad, adagrad-norm
   16 | kind = \"rmsprop\"
      |        ^^^^^^^^^"
    );
}

#[test]
fn wrong_type() {
    assert_eq!(
        complaint("batch = 64", "batch = \"64\""),
        "\
run.toml:12:9: train.batch: got \"64\", need an integer, at least 1
   12 | batch = \"64\"
      |         ^^^^"
    );
    assert_eq!(
        complaint("lr = 0.05", "lr = [0.05]"),
        "\
run.toml:17:6: optimizer.lr: got [0.05], need a number, above 0
   17 | lr = [0.05]
      |      ^^^^^^"
    );
}

#[test]
fn value_where_a_section_belongs() {
    let error =
        resolve("name = 'a'\ntrain = 3\nmodel.kind = 'mlp'\ndata.kind = 'digits'\noptimizer.lr = 1\n", &[]);
    let text = error.expect_err("a problem").to_string();
    assert!(text.starts_with("run.toml:2:9: train: got 3, need a table: [train]\n"), "{text}");
}

#[test]
fn zero_batch_and_zero_ranks() {
    assert_eq!(
        complaint("batch = 64", "batch = 0"),
        "\
run.toml:12:9: train.batch: got 0, need an integer, at least 1
   12 | batch = 0
      |         ^"
    );
    assert_eq!(
        complaint_about("train.ranks=0"),
        "--set train.ranks=0: train.ranks: got 0, need an integer, from 1 to 65536"
    );
}

#[test]
fn more_ranks_than_shards() {
    let text = DIGITS.replace("ranks = 2", "ranks = 9\nreduction = \"reproducible\"");
    assert_eq!(
        resolve(&text, &[]).expect_err("a problem").to_string(),
        "\
run.toml:11:9: train.ranks: got 9 ranks, need at most train.shards (8) for reduction = \"reproducible\"
   11 | ranks = 9
      |         ^"
    );
    resolve(&text, &["train.shards=9"]).expect("as many shards as ranks");
}

#[test]
fn more_ranks_than_samples() {
    assert_eq!(
        complaint("batch = 64", "batch = 1"),
        "\
run.toml:12:9: train.batch: got 1 samples, need at least one for each of 2 ranks
   12 | batch = 1
      |         ^"
    );
}

#[test]
fn none_and_two_of_epochs_samples_steps() {
    assert_eq!(
        complaint("epochs = 20", ""),
        "\
run.toml:10:1: train: need exactly one of epochs, samples, steps, got none
   10 | [train]
      | ^^^^^^^"
    );
    assert_eq!(
        complaint("epochs = 20", "epochs = 20\nsteps = 5"),
        "\
run.toml:14:9: train.steps: need exactly one of epochs, samples, steps, got epochs, steps
   14 | steps = 5
      |         ^"
    );
}

#[test]
fn numbers_that_are_none_or_negative() {
    assert_eq!(
        complaint("lr = 0.05", "lr = nan"),
        "\
run.toml:17:6: optimizer.lr: got nan, need a number, above 0
   17 | lr = nan
      |      ^^^"
    );
    assert_eq!(
        complaint("lr = 0.05", "lr = -0.05"),
        "\
run.toml:17:6: optimizer.lr: got -0.05, need a number, above 0
   17 | lr = -0.05
      |      ^^^^^"
    );
    assert_eq!(
        complaint_about("optimizer.momentum=1"),
        "--set optimizer.momentum=1: optimizer.momentum: got 1, need a number, at least 0 and below 1"
    );
    assert_eq!(
        complaint("seed = 1", "seed = 18446744073709551616"),
        "\
run.toml:2:8: seed: a number too large for 64 bits
    2 | seed = 18446744073709551616
      |        ^^^^^^^^^^^^^^^^^^^^"
    );
}

#[test]
fn sizes_of_buckets() {
    assert_eq!(
        complaint_about("train.bucket_bytes=64KB2"),
        "--set train.bucket_bytes=64KB2: train.bucket_bytes: got \"64KB2\", need a size in bytes such as \
         65536 or \"64KiB\", at least 4"
    );
}

#[test]
fn data_that_the_model_cannot_take() {
    assert_eq!(
        complaint("kind = \"cnn\"", "kind = \"gpt\"\nheads = 3"),
        "\
run.toml:6:9: model.heads: got 3 heads, need a divisor of model.width (128)
    6 | heads = 3
      |         ^
run.toml:9:8: data.kind: model gpt cannot train on data digits, it takes text
    9 | kind = \"digits\"
      |        ^^^^^^^^"
    );
}

#[test]
fn nesterov_without_momentum() {
    assert_eq!(
        complaint("momentum = 0.9", "nesterov = true"),
        "\
run.toml:18:12: optimizer.nesterov: needs optimizer.momentum above 0
   18 | nesterov = true
      |            ^^^^"
    );
}

#[test]
fn warm_up_past_the_end() {
    let error = resolve(DIGITS, &["train.samples=100", "schedule.warmup_samples=101"]);
    assert_eq!(
        error.expect_err("a problem").to_string(),
        "--set schedule.warmup_samples=101: schedule.warmup_samples: got 101 samples, need at most \
         train.samples (100)"
    );
}

#[test]
fn name_that_leaves_the_directory() {
    assert_eq!(
        complaint("name = \"digits\"", "name = \"../digits\""),
        "\
run.toml:1:8: name: got \"../digits\", need letters, digits, `-`, `_` and `.`, the first a letter or digit, at most 100
    1 | name = \"../digits\"
      |        ^^^^^^^^^^^"
    );
}

#[test]
fn attack_by_nobody() {
    let text = format!("{DIGITS}\n[[attack]]\nkind = \"alie\"\n");
    assert_eq!(
        resolve(&text, &[]).expect_err("a problem").to_string(),
        "\
run.toml:20:1: attack: alie needs the hostile ranks in a list, such as ranks = [0]
   20 | [[attack]]
      | ^^^^^^^^^^"
    );
}

#[test]
fn rule_that_the_ranks_are_too_few_for() {
    let text = format!("{DIGITS}\n[aggregation]\nrule = \"krum\"\nhostile = 1\n");
    assert_eq!(
        resolve(&text, &[]).expect_err("a problem").to_string(),
        "\
run.toml:22:11: aggregation.hostile: 1 hostile of 2 ranks: krum needs 5 gradients over ranks, got 2
   22 | hostile = 1
      |           ^"
    );
}

#[test]
fn every_problem_is_listed_in_the_order_of_the_file() {
    let text = DIGITS
        .replace("\"cnn\"", "\"mlq\"")
        .replace("ranks = 2", "ranks = -1")
        .replace("epochs = 20", "epochs = 20\nsteps = 1")
        .replace("momentum", "momentun");
    let error = resolve(&text, &["checkpoint.keep=0"]).expect_err("problems");
    let keys: Vec<&str> = error.problems().iter().map(|problem| problem.key.as_str()).collect();
    assert_eq!(keys, ["model.kind", "train.ranks", "train.steps", "optimizer.momentun", "checkpoint.keep"]);
}

#[test]
fn syntax_errors_point_at_their_place() {
    let error = resolve("name = \"a\"\n[train\nranks = = 2\n", &[]).expect_err("problems").to_string();
    assert!(error.starts_with("run.toml:2:7: "), "{error}");
    assert!(error.contains("run.toml:3:9: "), "{error}");
}

#[test]
fn arguments_that_are_no_assignments() {
    for (set, message) in [
        ("train.ranks", "--set train.ranks: need path.to.key=value"),
        ("=3", "--set =3: need path.to.key=value"),
        ("train..ranks=3", "--set train..ranks=3: need path.to.key=value"),
        ("train.ranks=", "--set train.ranks=: train.ranks: need a TOML value or a bare word after `=`"),
        (
            "model.hidden=[1",
            "--set model.hidden=[1: model.hidden: need a TOML value or a bare word after `=`",
        ),
        ("name.x=1", "--set name.x=1: name.x: the path leads through a value that is no table"),
    ] {
        assert_eq!(complaint_about(set), message);
    }
}

#[test]
fn a_file_that_is_not_there() {
    let error = RawRun::read("no/such.toml".as_ref()).expect_err("no such file").to_string();
    assert!(error.starts_with("no/such.toml: cannot be read: "), "{error}");
}

#[test]
fn a_resumed_run_keeps_what_it_computes() {
    let mut raw = RawRun::parse("run.toml", DIGITS).expect("TOML");
    for set in ["train.ranks=4", "train.steps=9", "train.log_every_steps=1"] {
        raw.set(set).expect("an assignment");
    }
    let run = raw.resolve_resumed::<Run>(&Registered::default()).expect("these may change");
    assert_eq!((run.train.ranks, run.train.log_every_steps), (4, 1));

    raw.set("optimizer.lr=0.1").expect("an assignment");
    assert_eq!(
        raw.resolve_resumed::<Run>(&Registered::default()).expect_err("the rate is fixed").to_string(),
        "--set optimizer.lr=0.1: optimizer.lr: a resumed run keeps it; only train.epochs, train.samples, \
         train.steps, train.ranks, train.precision, train.lost_after_seconds, train.when_rank_lost, \
         train.log_every_steps, aggregation.ranks_per_node, comm.progress, output.tensorboard, output.trace, faults.inject may change"
    );
}

#[test]
fn keys_with_control_characters_do_not_reach_the_terminal() {
    let error = resolve("\"\\u001b[31m\" = 1\n", &["train.\u{1b}=2"]).expect_err("problems").to_string();
    assert!(error.contains("[31m: unknown key"), "{error:?}");
    assert!(!error.contains('\u{1b}'), "{error:?}");
}

#[test]
fn compression_where_bits_must_not_follow_the_ranks() {
    let set = ["train.reduction=reproducible", "compression.kind=fp16"];
    assert_eq!(
        resolve(DIGITS, &set).expect_err("a problem").to_string(),
        "--set compression.kind=fp16: compression.kind: got \"fp16\", need \"none\" for train.reduction = \"reproducible\": \
         what each rank loses depends on how many there are"
    );
}

#[test]
fn a_share_of_nothing() {
    let mut raw = RawRun::parse("run.toml", DIGITS).expect("TOML");
    for set in ["compression.kind=topk", "compression.fraction=0.0", "compression.rank=2"] {
        raw.set(set).expect("an assignment");
    }
    assert_eq!(
        raw.resolve(&Registered::default()).expect_err("a problem").to_string(),
        "--set compression.fraction=0.0: compression.fraction: got 0.0, need a number, above 0 and at most 1\n\
         --set compression.rank=2: compression.rank: not a key of compression topk; it takes kind, fraction, start_step"
    );
}

#[test]
fn mistyped_compression() {
    assert_eq!(
        complaint_about("compression.kind=pf16"),
        "--set compression.kind=pf16: compression.kind: unknown compression \"pf16\", did you mean `fp16`?"
    );
}

#[test]
fn mistyped_algorithm() {
    let said = complaint_about("comm.algorithm=heirarchical");
    assert!(said.starts_with("--set comm.algorithm=heirarchical: comm.algorithm: "), "{said}");
    assert!(said.ends_with("did you mean `hierarchical`?"), "{said}");
}
