//! The list of keys, for a terminal and as the page `docs/run-file.md`.

use crate::exit::Exit;

use super::described::Described;
use super::federated_run::FederatedRun;
use super::key::{Key, KeyDefault, Resume};
use super::run::Run;
use super::sections::{
    AggregationRule, BatchPolicy, Compression, FedAlgorithm, Model, PartitionKind, Rule, Shape, Source,
};

/// Every key with its values and default, a line each.
#[must_use]
pub fn table() -> String {
    let all = Run::keys().into_iter().chain(own_of_federated());
    let rows: Vec<[String; 4]> =
        all.map(|key| [key.path(), of_kind(&key), key.need.clone(), default(&key)]).collect();
    let width = |column: usize| rows.iter().map(|row| row[column].chars().count()).max().unwrap_or(0);
    let widths = [width(0), width(1), width(2)];
    rows.iter().fold(String::new(), |mut text, [path, kind, need, default]| {
        let line = format!("{path:0$}  {kind:1$}  {need:2$}  {default}", widths[0], widths[1], widths[2]);
        text += &format!("{}\n", line.trim_end());
        text
    })
}

/// The page on run files.
#[must_use]
pub fn markdown() -> String {
    let mut page = String::from(HEAD);
    let all = Run::keys();
    page.push_str("\n## Above all sections\n\n");
    write_keys(&mut page, all.iter().filter(|key| key.section.is_empty()));
    write_sections(&mut page, Run::SECTIONS, &all);
    page.push_str(FEDERATED);
    let own = own_of_federated();
    let is_own = |section: &&(&str, &str)| own.iter().any(|key| key.section == section.0);
    let sections: Vec<(&str, &str)> = FederatedRun::SECTIONS.iter().filter(is_own).copied().collect();
    write_sections(&mut page, &sections, &own);
    page.push_str(RESUME);
    let all: Vec<Key> = all.into_iter().chain(own).collect();
    let may: Vec<String> =
        all.iter().filter(|key| key.resume == Resume::May).map(|key| format!("`{}`", key.path())).collect();
    page += &format!("\n{}.\n", may.join(", "));
    page.push_str("\n## Exit codes\n\n| code | meaning |\n|---|---|\n");
    for exit in Exit::ALL {
        page += &format!("| {} | {} |\n", exit.code(), exit.meaning());
    }
    page
}

/// The keys of federated runs that training runs do not have.
fn own_of_federated() -> Vec<Key> {
    let of_training: Vec<String> = Run::keys().iter().map(Key::path).collect();
    FederatedRun::keys().into_iter().filter(|key| !of_training.contains(&key.path())).collect()
}

fn write_sections(page: &mut String, sections: &[(&str, &str)], all: &[Key]) {
    for (section, doc) in sections {
        *page += &format!("\n## `[{section}]`\n\n{}\n", sentence(doc));
        let here = || all.iter().filter(|key| key.section == *section);
        page.push('\n');
        write_keys(page, here().filter(|key| key.kind.is_none()));
        for (kind, doc) in kinds(section) {
            let tag = here().next().map_or("kind", |key| key.name);
            *page += &format!("\n### `{tag} = \"{kind}\"`\n\n{}\n", sentence(doc));
            if here().any(|key| key.kind == Some(*kind)) {
                page.push('\n');
                write_keys(page, here().filter(|key| key.kind == Some(*kind)));
            }
        }
    }
}

fn kinds(section: &str) -> &'static [(&'static str, &'static str)] {
    match section {
        "model" => Model::KINDS,
        "data" => Source::KINDS,
        "optimizer" => Rule::KINDS,
        "schedule" => Shape::KINDS,
        "batch" => BatchPolicy::KINDS,
        "aggregation" => AggregationRule::KINDS,
        "compression" => Compression::KINDS,
        "federated" => FedAlgorithm::KINDS,
        "partition" => PartitionKind::KINDS,
        _ => &[],
    }
}

fn write_keys<'a>(page: &mut String, keys: impl Iterator<Item = &'a Key>) {
    page.push_str("| key | values | unit | default | meaning |\n|---|---|---|---|---|\n");
    for key in keys {
        *page += &format!(
            "| `{}` | {} | {} | {} | {} |\n",
            key.name,
            key.need,
            key.unit,
            markdown_default(key),
            sentence(key.doc)
        );
    }
}

fn of_kind(key: &Key) -> String {
    key.kind.map(|kind| format!("({kind})")).unwrap_or_default()
}

fn default(key: &Key) -> String {
    match &key.default {
        KeyDefault::Required => "required".to_owned(),
        KeyDefault::Unset => String::new(),
        KeyDefault::Value(toml) => format!("= {toml}"),
    }
}

fn markdown_default(key: &Key) -> String {
    match &key.default {
        KeyDefault::Required => "must be given".to_owned(),
        KeyDefault::Unset => String::new(),
        KeyDefault::Value(toml) => format!("`{toml}`"),
    }
}

/// A doc comment as one line: its lines each begin with a space.
fn sentence(doc: &str) -> String {
    doc.split_whitespace().collect::<Vec<_>>().join(" ")
}

const HEAD: &str = r#"# The run file

<!-- Written by `UPDATE_DOCS=1 cargo test -p phalanx-launch`: edit the declarations in
     crates/phalanx-launch/src/runfile, not this page. -->

A run file is TOML and describes one training run. `phalanx train FILE` trains it, `phalanx config
check FILE` only checks it, `phalanx config show FILE` prints it with every key resolved, and
`phalanx config keys` lists the keys below.

```toml
name = "digits"
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

[schedule]
kind = "linear"
```

All problems of a file are reported at once, each with its line, the key, what was given, what is
needed, and the nearest known name where a name is not known; the program then ends with exit code 2.

`--set path.to.key=VALUE` puts a value over the file's, as often as it is given. The value is one of
TOML; a bare word is a string: `--set train.batch=128 --set optimizer.kind=adamw`. Setting one of
`train.epochs`, `train.samples` and `train.steps` replaces the others.

A size in bytes is an integer, or a string with a unit: `"64KiB"`, `"25MB"`, `"1.5GiB"`.

A relative path is looked for from the current directory. A `data.path` that is a plain name, such as
`"fashion-mnist"`, is looked for in `$PHALANX_DATA`, then in `data/`, then where the system's package
puts it; `phalanx data fetch NAME` brings it there.
"#;

const FEDERATED: &str = r#"
## Federated runs

A run file with a section `[federated]` is one of `phalanx federate`: `docs/federated.md` tells what it does. It has `name`, `seed` and
`attack` above all sections, the sections `[model]`, `[data]`, `[optimizer]`, `[aggregation]`, `[checkpoint]` and `[faults]` as above, of
`[output]` the key `tensorboard`, and the following. The optimizer is that of a client; a step of `[checkpoint]` and
`[faults]` is a round.

```toml
name = "fl-digits"
seed = 1

[model]
kind = "mlp"
hidden = [32]

[data]
kind = "digits"

[partition]
kind = "dirichlet"
alpha = 0.5
least = 5

[federated]
clients = 20
per_round = 5
rounds = 30

[local]
epochs = 2

[optimizer]
lr = 0.1
```
"#;

const RESUME: &str = r"
## A run that goes on

`phalanx train --resume RUN_DIR` goes on with the resolved run file that lies in the run's directory
as `run.toml`. Of its keys, `--set` may change these; every other one is refused by name:
";
