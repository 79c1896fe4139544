//! The whole command line of phalanx around a model of one's own, which run files name. Run:
//! `cargo run -p phalanx --example 05-own-program`; with arguments it is a `phalanx` that knows the model:
//! `cargo run -p phalanx --example 05-own-program -- train RUN.toml`.

use std::ffi::OsString;
use std::process::ExitCode;

use phalanx::nn::layers::{LayerNorm, Linear};
use phalanx::nn::{Features, Graph, NnError, Task, Var};
use phalanx::prelude::*;
use phalanx_launch::runfile::Registered;

/// Fully connected layers around a normalised middle.
struct Normed {
    enter: Linear,
    norm: LayerNorm,
    leave: Linear,
}

impl<B: Backend> Net<B> for Normed {
    fn logits<'g>(&self, _: &'g Graph<B>, x: Features<'g, B>) -> Result<Var<'g, B>, NnError> {
        let x = self.enter.forward(x.dense()?.flatten()?)?;
        self.leave.forward(self.norm.forward(x)?.gelu()?)
    }
}

/// `kind = "normed"` in a run file, with a `width`.
fn registered() -> Registered {
    Registered::default().with_model("normed", |config, task, params| {
        let width = config.size("width", 64)?;
        let Task::Classify { features, classes } = task else {
            let detail = "classifies features, the data are tokens".to_owned();
            return Err(NnError::Config { model: "normed".to_owned(), detail });
        };
        Ok(Box::new(Normed {
            enter: params.scope("enter", |p| Linear::new(p, features.len(), width)),
            norm: params.scope("norm", |p| LayerNorm::new(p, width, 1e-5)),
            leave: params.scope("leave", |p| Linear::new(p, width, *classes)),
        }))
    })
}

const RUN: &str = r#"
name = "own-program"
[model]
kind = "normed"
width = 48
[data]
kind = "digits"
[train]
epochs = 8
ranks = 2
[optimizer]
lr = 0.05
momentum = 0.9
"#;

fn main() -> std::io::Result<ExitCode> {
    let mut args: Vec<OsString> = std::env::args_os().collect();
    let dir = std::env::temp_dir().join(format!("phalanx-own-program-{}", std::process::id()));
    let is_demonstration = args.len() == 1;
    if is_demonstration {
        std::fs::create_dir_all(&dir)?;
        let file = dir.join("run.toml");
        std::fs::write(&file, RUN)?;
        args.extend(["train".into(), file.into(), "--run-dir".into(), dir.join("run").into()]);
    }
    let exit = phalanx_launch::run(args, &registered());
    if is_demonstration {
        std::fs::remove_dir_all(&dir)?;
    }
    Ok(exit.into())
}
