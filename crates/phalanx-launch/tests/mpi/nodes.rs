//! The same on several hosts, which are namespaces: `phalanx launch` from the first of them.

use std::fs;
use std::path::Path;
use std::process::Output;
use std::time::{Duration, Instant};

use phalanx_testkit::cluster::VirtualCluster;
use phalanx_train::Failure;
use phalanx_train::events::{self, Event};

use crate::{DIGITS, Dir};

/// Trains the run file of `dir` into `run`, on the nodes of `cluster`.
fn launch(cluster: &VirtualCluster, dir: &Dir, run: &str, more: &[&str]) -> Output {
    let (program, ssh, hosts) = (env!("CARGO_BIN_EXE_phalanx"), cluster.ssh(), cluster.hosts());
    let (file, run) = (dir.path("run.toml"), dir.path(run));
    let path = |path: &Path| path.to_str().expect("text").to_owned();
    let (hosts, file, run) = (path(&hosts), path(&file), path(&run));
    let words = [program, "launch", "--hosts", &hosts, "--ssh", &ssh, "train", &file, "--run-dir", &run];
    cluster.on(1, &[&words, more].concat()).output().expect("the program starts")
}

fn told(output: &Output) -> String {
    String::from_utf8_lossy(&[&output.stdout[..], &output.stderr].concat()).into_owned()
}

#[test]
fn a_model_of_three_hosts_is_that_of_ranks_as_threads() {
    let Some(cluster) =
        VirtualCluster::up(Path::new(env!("CARGO_BIN_EXE_phalanx")), "mpi-a", 3, &["--slots", "1"])
    else {
        return;
    };
    let dir = Dir::new(DIGITS);
    let need = dir.model(0, "threads", &["--ranks", "3"]);
    let output = launch(&cluster, &dir, "run", &[]);
    assert!(output.status.success(), "{}", told(&output));
    assert!(fs::read(dir.files("run").model()).expect("a model") == need, "the models differ");
    // whole lines, each with its rank
    let told = told(&output);
    assert!(told.lines().any(|line| line.starts_with("[0] step 25: validation loss")), "{told}");
    assert!(!told.contains("<stderr>"), "{told}");
}

#[test]
fn two_hosts_of_two_ranks_reduce_to_the_same_bits_either_way() {
    let Some(cluster) =
        VirtualCluster::up(Path::new(env!("CARGO_BIN_EXE_phalanx")), "mpi-c", 2, &["--slots", "2"])
    else {
        return;
    };
    let dir = Dir::new(DIGITS);
    let model = |run: &str, more: &[&str]| {
        let output = launch(&cluster, &dir, run, more);
        assert!(output.status.success(), "{}", told(&output));
        (fs::read(dir.files(run).model()).expect("a model"), told(&output))
    };
    // over a link that is slow beside memory
    for node in ["1", "2"] {
        assert!(cluster.cluster(&["rate", node, "200mbit"]).status.success());
    }
    let (measured, said) = model("auto", &["-v"]);
    let (flat, _) = model("flat", &["--set", "comm.algorithm=flat"]);
    assert!(measured == flat, "the models differ");
    assert!(said.contains("all-reduces of 4 ranks on 2 nodes: "), "{said}");
    let between = |run: &str| {
        let log = events::read(&dir.files(run).events()).expect("events");
        let started = log.events.into_iter().find_map(|event| match event {
            Event::RunStarted(started) => started.between_nodes,
            _ => None,
        });
        started.expect("several nodes")
    };
    let (measured, flat) = (between("auto"), between("flat"));
    assert_eq!(
        (measured.nodes, measured.ranks_on_a_node, &*measured.choice, &*flat.choice),
        (2, 2, "auto", "flat")
    );
    // long buffers pass the slow link once a node
    assert!(
        measured.hierarchical_from_bytes.is_some() && flat.hierarchical_from_bytes.is_none(),
        "{measured:?}"
    );
    let across = measured.across.expect("a link");
    // 200 Mbit/s are 25 MB/s, but for what the limiter lets pass at once
    assert!((1e6..250e6).contains(&across.bytes_per_second), "{across:?}");
}

#[test]
fn a_host_whose_cable_is_pulled_is_named_and_launch_ends() {
    let Some(cluster) =
        VirtualCluster::up(Path::new(env!("CARGO_BIN_EXE_phalanx")), "mpi-b", 3, &["--slots", "1"])
    else {
        return;
    };
    let dir = Dir::new(&DIGITS.replace("steps = 25", "steps = 1000000"));
    let (output, cut) = std::thread::scope(|scope| {
        let launched =
            scope.spawn(|| launch(&cluster, &dir, "run", &["--set", "train.lost_after_seconds=4"]));
        let began = Instant::now();
        while !dir.files("run").checkpoints().join("best.json").exists()
            && began.elapsed() < Duration::from_secs(60)
        {
            std::thread::sleep(Duration::from_millis(50));
        }
        assert!(cluster.cluster(&["cut", "3"]).status.success());
        let cut = Instant::now();
        (launched.join().expect("no panic"), cut.elapsed())
    });
    let told = told(&output);
    assert_eq!(output.status.code(), Some(3), "{told}");
    assert!(cut < Duration::from_secs(60), "{cut:?}:\n{told}");
    assert!(told.contains("rank 2 on node3 is out of reach"), "{told}");
    let failure = Failure::read(&dir.files("run").failure()).expect("a failure");
    assert_eq!(
        (failure.rank, failure.host.as_str(), failure.exit_code),
        (Some(2), "node3", 3),
        "{failure:?}"
    );
}
