//! The packages that users have read what a run leaves: Python's `safetensors` and `tensorboard`.
//!
//! The interpreter is `$PHALANX_PYTHON` or the workspace's `target/python/bin/python`, which
//! `cargo xtask setup` makes. Without one the test says that it is left out, and fails if
//! `PHALANX_REQUIRE` holds `all` or `python`.
#![expect(clippy::unwrap_used, reason = "a failed helper fails its test")]
#![expect(clippy::print_stdout, reason = "a test that is left out says so")]
#![expect(
    clippy::disallowed_methods,
    reason = "where Python is, and whether it must be, is the environment's"
)]

use std::env;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;

use phalanx_train::checkpoint::{Checkpoints, Keep, Meta, Snapshot};
use phalanx_train::events::{EvalDone, Event, Split, StepDone};
use phalanx_train::storage::Disk;
use phalanx_train::tensorboard::TensorBoard;
use phalanx_train::{NamedTensor, model_file};
use serde_json::{Value, json};

/// An interpreter that has the packages.
fn python() -> Option<PathBuf> {
    let built = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../target/python/bin/python");
    let python = env::var_os("PHALANX_PYTHON").map_or(built, PathBuf::from);
    let probe = Command::new(&python).args(["-c", "import numpy, safetensors, tensorboard"]).output();
    if probe.is_ok_and(|output| output.status.success()) {
        return Some(python);
    }
    let required = env::var("PHALANX_REQUIRE").unwrap_or_default();
    let required = required.split(',').any(|name| matches!(name.trim(), "all" | "python"));
    assert!(!required, "{} has no numpy, safetensors and tensorboard", python.display());
    println!("left out: {} has no numpy, safetensors and tensorboard", python.display());
    None
}

fn step(step: u64, loss: f64) -> Event {
    Event::Step(StepDone { step, loss, batch: 64, ..StepDone::default() })
}

fn write_tensorboard(dir: &Path) {
    let mut first = TensorBoard::create(dir).unwrap();
    for (at, loss) in [(1, 0.5), (2, 0.25), (3, 9.0)] {
        first.event(&step(at, loss)).unwrap();
    }
    drop(first);
    // killed after step 3, resumed from the checkpoint of step 2
    let mut second = TensorBoard::create(dir).unwrap();
    second.resume(2).unwrap();
    second.event(&step(3, 0.125)).unwrap();
    let eval = EvalDone { step: 3, split: Split::Test, loss: 0.75, accuracy: Some(0.5), samples: 0 };
    second.event(&Event::Eval(eval)).unwrap();
}

fn run(python: &Path, args: [&Path; 3]) -> Value {
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/python/read_artefacts.py");
    let output = Command::new(python).arg(script).args(args).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    serde_json::from_slice(&output.stdout).unwrap()
}

#[test]
fn python_reads_checkpoints_models_and_curves() {
    let Some(python) = python() else { return };
    let dir = tempfile::tempdir().unwrap();
    let weight = [1.0_f32, -2.0, 0.5, 0.0, f32::MIN_POSITIVE, 3.0];
    let model = [NamedTensor::new("fc.weight", &[2, 3], weight.as_slice()).unwrap()];
    let (momentum, sum, count) = ([0.25_f32; 6], [1.0_f64 / 3.0], [u64::MAX]);
    let optimizer = [
        NamedTensor::new("fc.weight.momentum", &[2, 3], momentum.as_slice()).unwrap(),
        NamedTensor::new("norm", &[], sum.as_slice()).unwrap(),
        NamedTensor::new("steps", &[1], count.as_slice()).unwrap(),
    ];
    let checkpoints = Checkpoints::new(dir.path().join("checkpoints"), Keep::default(), Arc::new(Disk));
    checkpoints.prepare().unwrap();
    let meta = Meta { step: 2, ..Meta::default() };
    let saved = checkpoints.save(&Snapshot { meta: &meta, model: &model, optimizer: &optimizer }).unwrap();
    let file = dir.path().join("model.safetensors");
    model_file::write(&file, &model).unwrap();
    write_tensorboard(&dir.path().join("tb"));

    let got = run(&python, [&saved.dir, &file, &dir.path().join("tb")]);
    let weights = json!({"fc.weight": {"dtype": "float32", "shape": [2, 3], "values": weight}});
    assert_eq!((&got["model"], &got["final"]), (&weights, &weights));
    let need = json!({
        "fc.weight.momentum": {"dtype": "float32", "shape": [2, 3], "values": momentum},
        "norm": {"dtype": "float64", "shape": [], "values": sum},
        "steps": {"dtype": "uint64", "shape": [1], "values": count},
    });
    assert_eq!(got["optimizer"], need);
    assert_eq!(got["metadata"], json!({"format": "pt"}));
    let scalars = &got["scalars"];
    assert_eq!(scalars["train/loss"], json!([[1, 0.5], [2, 0.25], [3, 0.125]]), "step 3 once");
    assert_eq!(scalars["test/accuracy"], json!([[3, 0.5]]));
    assert_eq!(scalars["train/batch"][0], json!([1, 64.0]));
}
