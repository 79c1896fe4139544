//! Laws of the reader and writer of run files, on generated files.

use std::collections::BTreeMap;

use phalanx_launch::runfile::{
    AggregationRule, BatchPolicy, Key, KeyDefault, Range, RawRun, Registered, Run, RunFileError, keys,
};
use phalanx_nn::models::Mlp;
use proptest::prelude::*;
use toml::Value as Toml;

type Values = BTreeMap<String, Toml>;

/// Values for the keys of one kind of each section; about half of the optional ones are given.
fn values() -> impl Strategy<Value = Values> {
    let kinds = (0..5_usize, 0..3_usize, 0..4_usize, 0..3_usize, 0..3_usize);
    let kinds = (kinds, 0..BatchPolicy::KINDS.len(), 0..AggregationRule::KINDS.len());
    kinds.prop_flat_map(|((model, data, rule, shape, stop), policy, over_ranks)| {
        let model = ["mlp", "lenet5", "cnn", "gpt", "ours"][model];
        let data = if model == "gpt" { "text" } else { ["digits", "idx", "csv"][data] };
        let data = if matches!(model, "cnn" | "lenet5") && data == "csv" { "idx" } else { data };
        let rule = ["sgd", "adamw", "adagrad", "adagrad-norm"][rule];
        let shape = ["constant", "linear", "cosine"][shape];
        let stop = ["epochs", "samples", "steps"][stop];
        let (policy, _) = BatchPolicy::KINDS[policy];
        // policies that compare gradients need the mean
        let over_ranks = if matches!(policy, "constant" | "stages" | "ramp") { over_ranks } else { 0 };
        let (over_ranks, _) = AggregationRule::KINDS[over_ranks];
        let kinds = [
            ("model", model),
            ("data", data),
            ("optimizer", rule),
            ("schedule", shape),
            ("batch", policy),
            ("aggregation", over_ranks),
        ];
        let kind_of = move |section: &str| kinds.iter().find(|(of, _)| *of == section).map(|(_, kind)| *kind);
        let fields: Vec<BoxedStrategy<Option<(String, Toml)>>> = keys()
            .into_iter()
            .filter(|key| key.kind.is_none() || key.kind == kind_of(key.section))
            .filter(|key| !["epochs", "samples", "steps"].contains(&key.name) || key.name == stop)
            .map(|key| {
                let (path, is_required) = (key.path(), is_always_given(&key) || key.name == stop);
                let value = match (key.name, kind_of(key.section)) {
                    ("kind" | "policy" | "rule", Some(kind)) => Just(Toml::from(kind)).boxed(),
                    _ => value(&key),
                };
                (any::<bool>(), value)
                    .prop_map(move |(given, value)| (given || is_required).then(|| (path.clone(), value)))
                    .boxed()
            })
            .collect();
        let ours = (any::<String>(), any::<f64>(), any::<String>());
        (fields, ours).prop_map(move |(fields, (key, number, text))| {
            let mut values: Values = fields.into_iter().flatten().collect();
            if model == "ours" {
                let inner = toml::Table::from_iter([(key, Toml::from(text))]);
                values.insert("model.sizes".to_owned(), Toml::Array(vec![Toml::Table(inner)]));
                if number.is_finite() {
                    values.insert("model.depth".to_owned(), Toml::Float(number));
                }
            }
            make_fit(&mut values);
            values
        })
    })
}

/// The other keys of a section are chosen for its kind.
fn is_always_given(key: &Key) -> bool {
    key.default == KeyDefault::Required || matches!(key.name, "kind" | "policy" | "rule")
}

/// A value that the key takes, by what it says that it needs.
fn value(key: &Key) -> BoxedStrategy<Toml> {
    let need = key.need.as_str();
    let names: Vec<String> = need.split('"').skip(1).step_by(2).map(str::to_owned).collect();
    let text = || {
        if key.path() == "name" { "[a-z0-9][a-zA-Z0-9._-]{0,20}".boxed() } else { any::<String>().boxed() }
    };
    if key.path() == "aggregation.before" {
        proptest::sample::subsequence(vec![Toml::from("arc"), Toml::from("nnm")], 0..=2)
            .prop_map(Toml::Array)
            .boxed()
    } else if need.starts_with("tables") {
        let zero = toml::Table::from_iter([
            ("kind".to_owned(), Toml::from("zero")),
            ("ranks".to_owned(), Toml::Array(vec![Toml::from(2)])),
        ]);
        Just(Toml::Array(vec![Toml::Table(zero)])).boxed()
    } else if need.starts_with("an integer") {
        integer(key.range).prop_map(Toml::Integer).boxed()
    } else if need.starts_with("a number") {
        number(key.range).prop_map(Toml::Float).boxed()
    } else if need.starts_with("a list") {
        proptest::collection::vec(integer(key.range).prop_map(Toml::Integer), 0..4)
            .prop_map(Toml::Array)
            .boxed()
    } else if need.starts_with("faults") {
        let faults = [
            "kill rank 1 at step 3 in backward",
            "delay rank 0 at step 2 for 0.5 s",
            "drop rank 2 at step 9",
        ];
        proptest::sample::subsequence(faults.map(Toml::from).to_vec(), 0..=3).prop_map(Toml::Array).boxed()
    } else if need.starts_with("a size") {
        prop_oneof![
            (4..1_i64 << 40).prop_map(Toml::Integer),
            (1..999_u32).prop_map(|n| Toml::from(format!("{n}KiB")))
        ]
        .boxed()
    } else if need.starts_with("true") {
        any::<bool>().prop_map(Toml::Boolean).boxed()
    } else if need.starts_with('"') {
        proptest::sample::select(names).prop_map(Toml::String).boxed()
    } else {
        text().prop_map(Toml::String).boxed()
    }
}

fn integer(range: Range) -> BoxedStrategy<i64> {
    (0..=i64::MAX).prop_map(move |int| if contains(range, int) { int } else { 1 + int % 900 }).boxed()
}

#[expect(clippy::cast_precision_loss, reason = "the ranges of integers end far below 2^53")]
fn contains(range: Range, int: i64) -> bool {
    range.contains(int as f64)
}

fn number(range: Range) -> BoxedStrategy<f64> {
    (any::<f64>(), 0.001..0.999_f64)
        .prop_map(move |(wide, inner)| {
            if range.contains(wide) {
                wide
            } else if range.contains(inner) {
                inner
            } else {
                1.0 + inner
            }
        })
        .boxed()
}

/// Values that must fit together are made to.
fn make_fit(values: &mut Values) {
    for (key, value) in [
        ("train.ranks", Toml::from(3)),
        ("train.batch", Toml::from(7)),
        ("train.shards", Toml::from(5)),
        ("model.heads", Toml::from(4)),
        ("model.width", Toml::from(64)),
        ("data.context", Toml::from(32)),
        ("model.context", Toml::from(48)),
        ("optimizer.momentum", Toml::from(0.5)),
        ("schedule.warmup_samples", Toml::from(1)),
        ("batch.min", Toml::from(6)),
        ("batch.max", Toml::from(4096)),
        ("aggregation.hostile", Toml::from(0)),
        ("aggregation.pivot", Toml::from(1)),
        ("aggregation.keep", Toml::from(2)),
        ("aggregation.steps", Toml::from(5)),
        ("aggregation.times", Toml::from(2)),
        ("aggregation.share", Toml::from(0.5)),
    ] {
        if let Some(slot) = values.get_mut(key) {
            *slot = value;
        }
    }
    if values.contains_key("train.steps") && values.get("batch.policy") != Some(&Toml::from("constant")) {
        // the end in samples is unknown
        values.insert("schedule.kind".to_owned(), Toml::from("constant"));
        values.remove("schedule.final_factor");
    }
    let compares = !matches!(
        values.get("batch.policy").and_then(Toml::as_str),
        None | Some("constant" | "stages" | "ramp")
    );
    if compares {
        values.remove("attack");
        values.remove("aggregation.before");
        values.remove("aggregation.momentum");
    }
    let is_mean = values.get("aggregation.rule") == Some(&Toml::from("mean"))
        && values.get("aggregation.before").is_none_or(|before| *before == Toml::Array(Vec::new()))
        && values.get("aggregation.momentum").is_none_or(|momentum| *momentum == Toml::from(0.0));
    if !is_mean || values.contains_key("attack") {
        values.insert("train.reduction".to_owned(), Toml::from("fast"));
        values.remove("batch.lr_scaling");
        values.remove("compression.kind");
    }
    if values.get("compression.kind") != Some(&Toml::from("none")) {
        values.insert("train.reduction".to_owned(), Toml::from("fast"));
    }
    // an integer may stand for one that others must go with
    if values.get("aggregation.over") == Some(&Toml::from("nodes")) {
        values.entry("aggregation.ranks_per_node".to_owned()).and_modify(|ranks| *ranks = Toml::from(1));
    } else {
        values.remove("aggregation.ranks_per_node");
    }
    let trusts = match values.get("aggregation.rule").and_then(Toml::as_str) {
        Some("fltrust") => true,
        Some("monna") => !values.contains_key("aggregation.pivot"),
        _ => false,
    };
    if trusts {
        values.insert("aggregation.trusted_samples".to_owned(), Toml::from(9));
    } else {
        values.remove("aggregation.trusted_samples");
    }
    // more than one chunk
    values.insert("train.ranks".to_owned(), Toml::from(3));
    values.insert("train.batch".to_owned(), Toml::from(7));
    if values.get("train.shards").is_none_or(|shards| *shards != Toml::from(5)) {
        values.insert("train.shards".to_owned(), Toml::from(5));
    }
    if values.get("optimizer.nesterov") == Some(&Toml::Boolean(true)) {
        values.insert("optimizer.momentum".to_owned(), Toml::from(0.25));
    }
}

fn file(values: &Values) -> String {
    let mut root = toml::Table::new();
    for (path, value) in values {
        match path.split_once('.') {
            None => root.insert(path.clone(), value.clone()),
            Some((section, key)) => {
                let table = root.entry(section).or_insert_with(|| Toml::Table(toml::Table::new()));
                table.as_table_mut().expect("sections are tables").insert(key.to_owned(), value.clone())
            }
        };
    }
    root.to_string()
}

fn resolve(text: &str) -> Result<Run, RunFileError> {
    let ours = Registered::default()
        .with_model("ours", |config, task, params| Ok(Box::new(Mlp::from_config(config, task, params)?)));
    RawRun::parse("run.toml", text)?.resolve(&ours)
}

/// A refusal says why, and sends no control characters to the terminal.
fn told<T>(result: Result<T, RunFileError>) -> Result<(), TestCaseError> {
    let Err(error) = result else { return Ok(()) };
    prop_assert!(!error.problems().is_empty());
    let text = error.to_string();
    prop_assert!(!text.chars().any(|c| c.is_control() && c != '\n'), "{:?}", text);
    Ok(())
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn the_resolved_file_resolves_to_the_same_run(values in values()) {
        let run = resolve(&file(&values)).map_err(|error| TestCaseError::fail(error.to_string()))?;
        let text = run.to_toml();
        let again = resolve(&text).map_err(|error| TestCaseError::fail(format!("{error}\n{text}")))?;
        prop_assert_eq!(&again, &run);
        prop_assert_eq!(again.to_toml(), text);
        prop_assert_eq!(again.digest(), run.digest());
    }

    #[test]
    fn the_resolved_file_holds_every_value_that_was_given(values in values()) {
        let run = resolve(&file(&values)).map_err(|error| TestCaseError::fail(error.to_string()))?;
        let written: toml::Table = run.to_toml().parse().map_err(|error| TestCaseError::fail(format!("{error}")))?;
        for (path, value) in &values {
            let found = match path.split_once('.') {
                None => written.get(path),
                Some((section, key)) => written.get(section).and_then(|table| table.get(key)),
            };
            // sizes are written in another unit
            let is_size = path.ends_with("_bytes") || path == "train.memory_limit";
            prop_assert!(found == Some(value) || (is_size && found.is_some()), "{}: {:?} {:?}", path, value, found);
        }
    }

    #[test]
    fn arbitrary_text_is_read_or_refused(text in any::<String>()) {
        told(resolve(&text))?;
    }

    #[test]
    fn damaged_files_are_read_or_refused(values in values(), at in any::<prop::sample::Index>(), insert in "\\PC{0,3}|[\\[\\]{}=\",.\n\u{1b}]{1,3}") {
        let mut text = file(&values);
        let at = (0..=at.index(text.len() + 1)).rev().find(|at| text.is_char_boundary(*at)).unwrap_or(0);
        text.insert_str(at, &insert);
        told(resolve(&text))?;
    }

    #[test]
    fn arbitrary_assignments_are_taken_or_refused(assignment in any::<String>()) {
        let mut raw = RawRun::parse("run.toml", "name = 'a'\n").map_err(|error| TestCaseError::fail(error.to_string()))?;
        told(raw.set(&assignment))?;
        told(raw.resolve(&Registered::default()))?;
    }
}
