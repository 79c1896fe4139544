//! The final model in PyTorch: names and layouts are those of the models in `tests/reference/models.py`.
//!
//! The interpreter is `$PHALANX_PYTHON` or `target/python/bin/python`, which `cargo xtask setup` makes.
#![expect(clippy::print_stdout, reason = "a test that is left out says so")]
#![expect(
    clippy::disallowed_methods,
    reason = "where Python is, and whether it must be, is the environment's"
)]

use std::env;
use std::path::PathBuf;
use std::process::Command;

use crate::program::{Dir, workspace};

/// An interpreter with PyTorch.
fn python() -> Option<PathBuf> {
    let python =
        env::var_os("PHALANX_PYTHON").map_or_else(|| workspace("target/python/bin/python"), PathBuf::from);
    let probe = Command::new(&python).args(["-c", "import torch, safetensors.numpy"]).output();
    if probe.is_ok_and(|output| output.status.success()) {
        return Some(python);
    }
    let required = env::var("PHALANX_REQUIRE").unwrap_or_default();
    let is_required = required.split(',').any(|name| matches!(name.trim(), "all" | "python"));
    assert!(!is_required, "{} has no torch and safetensors", python.display());
    println!("skipped: {} has no torch and safetensors", python.display());
    None
}

/// Images and labels as MNIST's files hold them: 28 x 28, made up.
fn idx(count: u32) -> (Vec<u8>, Vec<u8>) {
    let head = |magic: u32, dims: &[u32]| -> Vec<u8> {
        [magic].iter().chain(dims).flat_map(|n| n.to_be_bytes()).collect()
    };
    let label = |i: u32| i % 10;
    let pixel = |i: u32, p: u32| (p * (label(i) + 3) + i * 7) % 251;
    let byte = |n: u32| u8::try_from(n).expect("below 256");
    let mut images = head(0x0803, &[count, 28, 28]);
    images.extend((0..count).flat_map(|i| (0..784).map(move |p| byte(pixel(i, p)))));
    let mut labels = head(0x0801, &[count]);
    labels.extend((0..count).map(|i| byte(label(i))));
    (images, labels)
}

fn check(python: &PathBuf, kind: &str, sizes: &str, dir: &Dir) -> String {
    let script = workspace("tests/reference/load_model.py");
    let output = Command::new(python)
        .arg(script)
        .args([kind, sizes])
        .args([dir.files("run").model(), dir.path("images")])
        .output()
        .expect("Python starts");
    assert!(output.status.success(), "{kind}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).expect("text").trim().to_owned()
}

#[test]
fn image_models_have_the_same_loss_there() {
    let Some(python) = python() else { return };
    for kind in ["mlp", "lenet5", "cnn"] {
        let dir = Dir::new(&format!(
            "name = \"{kind}\"\n[model]\nkind = \"{kind}\"\n[data]\nkind = \"idx\"\npath = \"images\"\n\
             mean = 0.0\nstd = 1.0\n[train]\nbatch = 20\nsteps = 4\n[optimizer]\nlr = 0.01\n"
        ));
        for (part, count) in [("train", 100), ("t10k", 30)] {
            let (images, labels) = idx(count);
            dir.write(&format!("images/{part}-images-idx3-ubyte"), images);
            dir.write(&format!("images/{part}-labels-idx1-ubyte"), labels);
        }
        dir.train("run", &[]).done();
        let there: f64 = check(&python, kind, "{}", &dir).parse().expect("a loss");
        let here = dir.summary("run").test_loss.expect("a test set");
        assert!((here - there).abs() < 1e-4 * there, "{kind}: {here} here, {there} there");
    }
}

#[test]
fn the_transformer_has_the_same_names_and_shapes_there() {
    let Some(python) = python() else { return };
    let sizes = "layers = 2\nwidth = 32\nheads = 4\ncontext = 16\n";
    let dir = Dir::new(&format!(
        "name = \"gpt\"\n[model]\nkind = \"gpt\"\n{sizes}[data]\nkind = \"text\"\npath = \"text\"\n\
         [train]\nbatch = 8\nsteps = 4\n[optimizer]\nkind = \"adamw\"\nlr = 0.001\n"
    ));
    let text: String = (0..2000).map(|i| format!("{} and {}; ", i, i * i)).collect();
    dir.write("text", text);
    dir.train("run", &[]).done();
    let sizes = r#"{"layers": 2, "width": 32, "heads": 4, "context": 16}"#;
    assert_eq!(check(&python, "gpt", sizes, &dir), "loaded");
}
