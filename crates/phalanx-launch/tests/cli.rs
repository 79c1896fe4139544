//! The built program, as a user starts it: what it prints, and with which code it ends.

use std::fs;
use std::io::Read as _;
use std::path::Path;
use std::process::{Command, Output, Stdio};

use tempfile::TempDir;

const DIGITS: &str = "name = \"digits\"\n[model]\nkind = \"cnn\"\n[data]\nkind = \"digits\"\n\
                      [train]\nranks = 2\nbatch = 64\nepochs = 20\n[optimizer]\nlr = 0.05\n";

/// The program in an empty directory, out of reach of the tests' own environment.
struct Dir(TempDir);

impl Dir {
    fn new() -> Self {
        Self(tempfile::tempdir().expect("a directory"))
    }

    fn with(self, file: &str, text: &str) -> Self {
        let path = self.path().join(file);
        fs::create_dir_all(path.parent().expect("inside")).expect("a directory");
        fs::write(path, text).expect("a file");
        self
    }

    fn path(&self) -> &Path {
        self.0.path()
    }

    fn command(&self, args: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_phalanx"));
        command.args(args).current_dir(self.path()).stdin(Stdio::null());
        for name in ["PHALANX_DATA", "RUST_LOG", "OMPI_COMM_WORLD_SIZE", "PMI_SIZE", "SLURM_NTASKS"] {
            command.env_remove(name);
        }
        command
    }

    fn run(&self, args: &[&str]) -> Ended {
        Ended::of(&self.command(args).output().expect("the program starts"))
    }
}

#[derive(Debug)]
struct Ended {
    code: Option<i32>,
    out: String,
    err: String,
}

impl Ended {
    fn of(output: &Output) -> Self {
        let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).expect("text");
        Self { code: output.status.code(), out: text(&output.stdout), err: text(&output.stderr) }
    }

    #[track_caller]
    fn done(self) -> String {
        assert_eq!(self.code, Some(0), "{}", self.err);
        self.out
    }

    /// Ended as bad input, saying `message` and printing nothing else.
    #[track_caller]
    fn refused(&self, message: &str) {
        assert_eq!(self.code, Some(2), "{self:?}");
        assert!(self.err.contains(message), "{self:?}");
        assert_eq!(self.out, "");
    }
}

#[test]
fn help_names_the_commands_and_the_exit_codes() {
    let help = Dir::new().run(&["--help"]).done();
    for word in ["train", "eval", "data", "inspect", "config", "report", "completions"] {
        assert!(help.contains(&format!("\n  {word} ")), "{word} in {help}");
    }
    let codes = "Exit codes:\n  0  done\n  1  training failed\n  2  bad run file or arguments\n  \
                 3  a rank was lost\n  4  stopped on request, with a checkpoint to go on from\n";
    assert!(help.contains(codes), "{help}");
    assert!(!help.contains("bench-step"), "{help}");
}

#[test]
fn unknown_arguments_are_bad_input() {
    Dir::new().run(&["trian"]).refused("similar subcommand exists: 'train'");
    Dir::new().run(&["train"]).refused("RUN.toml");
    Dir::new().run(&["eval", "x", "--checkpoint", "newest"]).refused("need a step, \"best\" or \"last\"");
}

#[test]
fn devices_that_are_not_there_are_bad_input() {
    let dir = Dir::new().with("run.toml", DIGITS);
    dir.run(&["train", "run.toml", "--device", "gpu"]).refused("`gpu` is no device: cpu, cuda, or cuda:N");
    let none =
        if cfg!(feature = "cuda") { "the library libcuda" } else { "built without the feature `cuda`" };
    for device in ["cuda", "cuda:9"] {
        dir.run(&["train", "run.toml", "--device", device, "--run-dir", "run"]).refused(none);
        assert!(!dir.path().join("run").exists(), "nothing is left behind");
    }
}

#[test]
fn completions_are_written_for_each_shell() {
    for shell in ["bash", "zsh", "fish"] {
        let script = Dir::new().run(&["completions", shell]).done();
        assert!(script.contains("overwrite"), "{shell}");
    }
}

#[test]
fn the_keys_are_listed_with_values_and_defaults() {
    let keys = Dir::new().run(&["config", "keys"]).done();
    let words = |key: &str| {
        let line = keys.lines().find(|line| line.starts_with(&format!("{key} "))).expect(key);
        line.split_whitespace().collect::<Vec<_>>().join(" ")
    };
    assert_eq!(words("train.batch"), "train.batch an integer, at least 1 = 64");
    assert_eq!(words("optimizer.lr"), "optimizer.lr a number, above 0 required");
    assert_eq!(words("optimizer.b0"), "optimizer.b0 (adagrad-norm) a number, above 0 = 0.1");
}

#[test]
fn the_rules_are_listed_with_settings_least_numbers_and_laws() {
    let rules = Dir::new().run(&["config", "rules"]).done();
    let after = |name: &str| {
        let (_, rest) = rules.split_once(&format!("\n  {name} ")).expect(name);
        rest.lines().take(3).map(str::trim).collect::<Vec<_>>()
    };
    assert_eq!(after("krum")[..2], ["n >= 2 f + 3", "neighbours = \"original\""]);
    assert_eq!(after("bulyan")[0], "n >= 4 f + 3");
    assert!(after("median")[1].starts_with("laws: permutation translation scale negation coordinate-scale"));
    assert!(rules.contains("\n  ipm\n      epsilon = 0.1\n"), "{rules}");
}

#[test]
fn a_run_file_is_shown_resolved() {
    let dir = Dir::new().with("run.toml", DIGITS);
    let shown =
        dir.run(&["config", "show", "run.toml", "--set", "train.steps=7", "--set", "model.kind=mlp"]).done();
    assert!(shown.contains("steps = 7\n") && !shown.contains("epochs"), "{shown}");
    assert!(shown.contains("kind = \"mlp\"\nhidden = [512, 256]\n"), "{shown}");
    assert!(shown.contains("momentum = 0.0\n"), "{shown}");
}

#[test]
fn every_file_is_checked_and_every_problem_told() {
    let dir = Dir::new()
        .with("good.toml", DIGITS)
        .with("bad.toml", &DIGITS.replace("batch", "btach").replace("0.05", "-1"));
    let ended = dir.run(&["config", "check", "good.toml", "bad.toml", "none.toml"]);
    assert_eq!(ended.code, Some(2));
    assert_eq!(ended.out, "good.toml: ok\n");
    for part in ["bad.toml:8:1: train.btach", "bad.toml:11:6: optimizer.lr", "none.toml: cannot be read"] {
        assert!(ended.err.contains(part), "{part} in {}", ended.err);
    }
}

#[test]
fn a_bad_run_file_leaves_no_run_behind() {
    let dir = Dir::new().with("run.toml", &DIGITS.replace("ranks = 2", "ranks = 0"));
    dir.run(&["train", "run.toml"]).refused("train.ranks: got 0, need an integer, from 1 to 65536");
    assert!(!dir.path().join("runs").exists());
    let dir = Dir::new().with("run.toml", DIGITS);
    dir.run(&["train", "run.toml", "--ranks", "0"]).refused("--set train.ranks=0");
}

#[test]
fn data_that_are_not_there_say_how_to_fetch_them() {
    let text = DIGITS.replace("kind = \"digits\"", "kind = \"idx\"\npath = \"mnist\"");
    let dir = Dir::new().with("run.toml", &text);
    dir.run(&["train", "run.toml"]).refused("`phalanx data fetch mnist` brings mnist");
    assert!(!dir.path().join("runs").exists());
}

#[test]
fn ranks_of_a_launcher_do_not_train_alone() {
    let dir = Dir::new().with("run.toml", DIGITS);
    let output = dir
        .command(&["train", "run.toml"])
        .env("OMPI_COMM_WORLD_SIZE", "4")
        .env("OMPI_COMM_WORLD_RANK", "0")
        .output();
    Ended::of(&output.expect("the program starts")).refused("4 ranks would each train alone");
}

#[test]
fn a_directory_that_holds_a_run_is_kept() {
    let dir = Dir::new().with("run.toml", DIGITS).with("old/run.toml", DIGITS).with("old/summary.json", "{}");
    dir.run(&["train", "run.toml", "--run-dir", "old"]).refused("old already holds a run");
    assert!(dir.path().join("old/summary.json").exists());
    dir.run(&["train", "run.toml", "--overwrite"]).refused("--run-dir");
}

#[test]
fn resuming_needs_a_run_and_keeps_what_it_computes() {
    let dir = Dir::new().with("run.toml", DIGITS).with("old/run.toml", DIGITS);
    dir.run(&["train", "--resume"]).refused("--resume needs a run directory");
    dir.run(&["train", "--resume", "nowhere"]).refused("nowhere is no run directory");
    dir.run(&["train", "run.toml", "--resume"]).refused("no run named digits in runs");
    dir.run(&["train", "--resume", "run.toml"]).refused("no run named digits in runs");
    dir.run(&["train", "--resume", "old", "--set", "optimizer.lr=1"])
        .refused("optimizer.lr: a resumed run keeps it");
    dir.run(&["train", "--resume", "old", "--overwrite"]).refused("cannot be used with");
    dir.run(&["eval", "nowhere"]).refused("nowhere is no run directory");
}

#[test]
fn the_digits_are_there_without_a_file() {
    let dir = Dir::new().with("run.toml", DIGITS);
    let facts = dir.run(&["data", "info", "run.toml"]).done();
    assert!(facts.contains("training samples    1294\n"), "{facts}");
    assert!(facts.contains("test samples        359\n"), "{facts}");
}

#[test]
fn unknown_data_sets_are_bad_input() {
    let dir = Dir::new();
    let ended = dir.run(&["data", "fetch", "fashoin-mnist"]);
    assert_eq!(ended.code, Some(2), "{ended:?}");
    assert!(ended.err.contains("fashion-mnist, mnist, shakespeare"), "{ended:?}");
}

#[test]
fn a_reader_that_leaves_early_is_no_failure() {
    let dir = Dir::new();
    let mut child = dir
        .command(&["config", "keys"])
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("the program starts");
    drop(child.stdout.take());
    let mut err = String::new();
    child.stderr.take().expect("a pipe").read_to_string(&mut err).expect("text");
    assert_eq!((child.wait().expect("an end").code(), err.as_str()), (Some(0), ""));
}

#[test]
fn errors_are_coloured_on_request_only() {
    let dir = Dir::new();
    let plain = dir.run(&["eval", "nowhere"]).err;
    assert!(plain.starts_with("error: "), "{plain}");
    let colored = dir.run(&["--color", "always", "eval", "nowhere"]).err;
    assert!(colored.starts_with("\u{1b}[1;31merror:\u{1b}[0m "), "{colored:?}");
}
