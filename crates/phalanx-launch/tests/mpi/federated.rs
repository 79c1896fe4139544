//! `phalanx federate` under `mpirun`: rounds of clients on ranks that are processes, with the bits of ranks as threads.

use std::fs;

use phalanx_train::Failure;

use crate::Dir;

/// Twenty clients, six a round, with all that is remembered from round to round: control variates, running means, a victim
/// and a center. The model has several blocks of coordinates, so that each rank holds some.
const TWENTY: &str = r#"
name = "twenty"
seed = 5
[model]
kind = "mlp"
hidden = [96]
[data]
kind = "digits"
[partition]
kind = "dirichlet"
alpha = 0.5
least = 10
[local]
epochs = 1
batch = 16
[optimizer]
lr = 0.1
[federated]
clients = 20
per_round = 6
rounds = 4
algorithm = "scaffold"
server_lr = 0.5
over_select = 0.4
spread = 0.5
dropout = 0.1
[checkpoint]
every_steps = 2
[aggregation]
rule = "centered-clipping"
tau = 1.0
momentum = 0.5
before = ["multi-metrics", "nnm"]
[[attack]]
kind = "mimic"
clients = [3, 4]
warm_up = 3
[[attack]]
kind = "label-flip"
clients = [4, 9]
"#;

impl Dir {
    #[track_caller]
    fn federated(&self, ranks: usize, to: &str, more: &[&str]) -> Vec<u8> {
        let (text, code) = self.run(ranks, &[&["federate", "run.toml", "--run-dir", to], more].concat());
        assert_eq!(code, 0, "{text}");
        fs::read(self.files(to).model()).expect("a model")
    }
}

#[test]
fn a_federated_model_is_that_of_ranks_as_threads() {
    let dir = Dir::new(TWENTY);
    let need = dir.federated(0, "threads", &["--ranks", "2"]);
    for ranks in [1, 2, 3] {
        let run = format!("processes-{ranks}");
        assert!(dir.federated(ranks, &run, &[]) == need, "{ranks} processes have another model");
    }
}

#[test]
fn a_federated_run_that_was_begun_as_threads_goes_on_as_processes() {
    let dir = Dir::new(TWENTY);
    let need = dir.federated(0, "whole", &[]);
    dir.federated(0, "parts", &["--set", "federated.rounds=2"]);
    let resume = ["--resume", "--set", "federated.rounds=4"];
    assert!(dir.federated(2, "parts", &resume) == need, "the resumed run has another model");
}

#[test]
fn a_rank_that_is_killed_in_a_round_is_named_and_the_run_goes_on_without_it() {
    let dir = Dir::new(TWENTY);
    let need = dir.federated(0, "whole", &[]);
    let fault = "kill rank 1 at step 3 in backward";
    let (text, code) = dir.run(3, &["fault", fault, "run.toml", "--run-dir", "run"]);
    assert_ne!(code, 0, "{text}");
    let failure = Failure::read(&dir.files("run").failure()).expect("a failure");
    assert_eq!((failure.rank, failure.exit_code), (Some(1), 3), "{failure:?}\n{text}");
    let resume = ["--resume", "--set", "faults.inject=[]"];
    assert!(dir.federated(2, "run", &resume) == need, "the resumed run has another model");
}

#[test]
fn a_number_of_ranks_that_is_not_the_launchers_is_refused_once() {
    let dir = Dir::new(TWENTY);
    let (text, code) = dir.run(2, &["federate", "run.toml", "--run-dir", "run", "--ranks", "5"]);
    assert_eq!(code, 2, "{text}");
    assert_eq!(text.matches("--ranks 5, but").count(), 1, "{text}");
    assert!(!dir.path("run").exists());
}
