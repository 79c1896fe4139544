//! The program in a directory of its own.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

use phalanx_train::Summary;
use phalanx_train::rundir::RunPaths;
use tempfile::TempDir;

/// A small `cnn` on the digits: 60 steps, a checkpoint every 10.
pub(crate) const SMALL: &str = r#"
name = "small"
seed = 3
[model]
kind = "cnn"
channels = [4, 8]
hidden = 16
[data]
kind = "digits"
[train]
ranks = 2
batch = 50
steps = 60
[optimizer]
lr = 0.05
momentum = 0.9
[checkpoint]
every_steps = 10
"#;

/// An empty directory with the run file `run.toml`.
pub(crate) struct Dir(TempDir);

impl Dir {
    pub(crate) fn new(run_file: &str) -> Self {
        let dir = Self(tempfile::tempdir().expect("a directory"));
        dir.write("run.toml", run_file);
        dir
    }

    pub(crate) fn write(&self, file: &str, bytes: impl AsRef<[u8]>) {
        let path = self.path(file);
        fs::create_dir_all(path.parent().expect("inside")).expect("a directory");
        fs::write(path, bytes).expect("a file");
    }

    pub(crate) fn path(&self, file: &str) -> PathBuf {
        self.0.path().join(file)
    }

    /// The program, out of reach of the tests' own environment.
    pub(crate) fn command(&self, args: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_phalanx"));
        command.args(args).current_dir(self.0.path()).stdin(Stdio::null());
        for name in
            ["PHALANX_DATA", "RUST_LOG", "OMPI_COMM_WORLD_SIZE", "PMI_SIZE", "SLURM_NTASKS", "SLURM_JOB_ID"]
        {
            command.env_remove(name);
        }
        command
    }

    pub(crate) fn run(&self, args: &[&str]) -> Ended {
        Ended::of(&self.command(args).output().expect("the program starts"))
    }

    /// Trains `run.toml` into the directory `to`, with more arguments.
    pub(crate) fn train(&self, to: &str, more: &[&str]) -> Ended {
        self.run(&[&["train", "run.toml", "--run-dir", to], more].concat())
    }

    /// As [`train`](Self::train), and returns the bytes of the model.
    #[track_caller]
    pub(crate) fn model(&self, to: &str, more: &[&str]) -> Vec<u8> {
        self.train(to, more).done();
        self.trained(to)
    }

    #[track_caller]
    pub(crate) fn trained(&self, to: &str) -> Vec<u8> {
        fs::read(self.files(to).model()).expect("a model")
    }

    pub(crate) fn files(&self, run: &str) -> RunPaths {
        RunPaths::new(self.path(run))
    }

    #[track_caller]
    pub(crate) fn summary(&self, run: &str) -> Summary {
        Summary::read(&self.files(run).summary()).expect("a summary")
    }
}

/// How the program ended.
#[derive(Debug)]
pub(crate) struct Ended {
    pub(crate) code: Option<i32>,
    pub(crate) out: String,
    pub(crate) err: String,
}

impl Ended {
    pub(crate) fn of(output: &Output) -> Self {
        let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).expect("text");
        Self { code: output.status.code(), out: text(&output.stdout), err: text(&output.stderr) }
    }

    #[track_caller]
    pub(crate) fn done(self) -> String {
        assert_eq!(self.code, Some(0), "{}", self.err);
        self.out
    }

    /// Ended with `code`, and says each of `parts`.
    #[track_caller]
    pub(crate) fn failed(&self, code: i32, parts: &[&str]) {
        assert_eq!(self.code, Some(code), "{self:?}");
        for part in parts {
            assert!(self.err.contains(part), "{part:?} in {}", self.err);
        }
    }
}

/// A file of the workspace.
pub(crate) fn workspace(file: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..").join(file)
}
