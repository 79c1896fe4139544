//! The command line of a program with a model of its own.

use std::ffi::OsString;
use std::path::Path;

use phalanx_launch::exit::Exit;
use phalanx_launch::runfile::Registered;
use phalanx_nn::layers::Linear;
use phalanx_nn::{Features, Graph, Net, NnError, Var};
use phalanx_tensor::Backend;
use phalanx_train::Summary;
use phalanx_train::rundir::RunPaths;

/// Two layers.
struct Bent {
    enter: Linear,
    leave: Linear,
}

impl<B: Backend> Net<B> for Bent {
    fn logits<'g>(&self, _: &'g Graph<B>, x: Features<'g, B>) -> Result<Var<'g, B>, NnError> {
        self.leave.forward(self.enter.forward(x.dense()?.flatten()?)?.gelu()?)
    }
}

fn registered() -> Registered {
    Registered::default().with_model("bent", |config, task, params| {
        let width = config.size("width", 24)?;
        let enter = params.scope("enter", |p| Linear::new(p, 64, width));
        let leave = params.scope("leave", |p| Linear::new(p, width, task.outputs()));
        Ok(Box::new(Bent { enter, leave }))
    })
}

fn phalanx(dir: &Path, words: &[&str]) -> Exit {
    let word = |word: &&str| OsString::from(word.replace("DIR", &dir.to_string_lossy()));
    phalanx_launch::run(["phalanx"].iter().chain(words).map(word), &registered())
}

#[test]
fn a_registered_model_trains_and_is_found_again() {
    let dir = tempfile::tempdir().expect("a directory");
    let file = "name = \"own\"\n[model]\nkind = \"bent\"\nwidth = 32\n[data]\nkind = \"digits\"\n\
                [train]\nepochs = 6\nranks = 2\n[optimizer]\nlr = 0.1\nmomentum = 0.9\n";
    std::fs::write(dir.path().join("run.toml"), file).expect("a file");
    let train = ["train", "DIR/run.toml", "--run-dir", "DIR/run", "-q"];
    assert_eq!(phalanx(dir.path(), &train), Exit::Done);
    let summary = Summary::read(&RunPaths::new(dir.path().join("run")).summary()).expect("a summary");
    assert_eq!(summary.parameters, 64 * 32 + 32 + 32 * 10 + 10);
    assert!(summary.test_accuracy.is_some_and(|accuracy| accuracy > 0.9), "{summary:?}");
    // the run file of the run names the model, and the program knows it
    assert_eq!(phalanx(dir.path(), &["eval", "DIR/run"]), Exit::Done);
    assert_eq!(
        phalanx(dir.path(), &["train", "DIR/run.toml", "--dry-run", "--set", "model.width=0"]),
        Exit::BadInput
    );
    assert_eq!(
        phalanx(dir.path(), &["train", "DIR/run.toml", "--dry-run", "--set", "model.wide=9"]),
        Exit::BadInput
    );
}
