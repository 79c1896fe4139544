//! Hosts that are namespaces: what a launcher finds there, and what the network does when told.

use std::path::Path;
use std::process::Output;
use std::time::{Duration, Instant};

use phalanx_testkit::ControlJob;
use phalanx_testkit::cluster::{VirtualCluster, leave_out};

use crate::program::{Dir, Ended, SMALL};

fn up(name: &str, nodes: usize, options: &[&str]) -> Option<VirtualCluster> {
    VirtualCluster::up(Path::new(env!("CARGO_BIN_EXE_phalanx")), name, nodes, options)
}

fn has(program: &str) -> bool {
    let found = std::process::Command::new("sh").args(["-c", "command -v \"$0\"", program]).output();
    found.is_ok_and(|output| output.status.success())
}

fn run(cluster: &VirtualCluster, node: usize, words: &[&str]) -> Output {
    cluster.on(node, words).output().expect("the program starts")
}

fn text(output: &Output) -> String {
    String::from_utf8_lossy(&output.stdout).trim().to_owned()
}

#[test]
fn nodes_are_hosts_of_their_own_that_can_be_cut_and_healed() {
    let Some(cluster) = up("e2e-a", 3, &[]) else { return };
    assert_eq!(text(&run(&cluster, 2, &["hostname"])), "node2");
    assert_eq!(run(&cluster, 1, &["sh", "-c", "exit 7"]).status.code(), Some(7), "its code comes back");
    let ssh = format!("{} node3 hostname", cluster.ssh());
    let words: Vec<&str> = ssh.split(' ').collect();
    assert_eq!(text(&run(&cluster, 1, &words)), "node3");
    // a port of node 2, asked from node 1
    let dial = ["bash", "-c", "timeout 1 bash -c 'exec 3<>/dev/tcp/node2/22'"];
    assert!(run(&cluster, 1, &dial).status.success());
    assert!(cluster.cluster(&["cut", "2"]).status.success());
    assert!(!run(&cluster, 1, &dial).status.success(), "the cable is pulled");
    assert!(cluster.cluster(&["heal", "2"]).status.success());
    let began = Instant::now();
    while !run(&cluster, 1, &dial).status.success() {
        assert!(began.elapsed() < Duration::from_secs(10), "the link does not come back");
    }
    // to lift a limit that is not there is no error
    for rate in ["off", "200mbit", "off"] {
        assert!(cluster.cluster(&["rate", "1", rate]).status.success(), "{rate}");
    }
    let status = text(&cluster.cluster(&["status"]));
    assert!(status.contains("node3    10.77.0.3"), "{status}");
    let refused = Ended::of(&cluster.cluster(&["delay", "1", "5ms"]));
    refused.failed(1, &["delay needs a cluster that was made with `up --switch user`"]);
    Ended::of(&cluster.cluster(&["cut", "4"])).failed(1, &["nodes 1 to 3, got 4"]);
    let name = "e2e-a";
    drop(cluster);
    assert!(!Path::new("/run/phalanx-cluster").join(name).exists(), "nothing is left");
}

#[test]
fn the_user_switch_delays_and_parts_two_nodes() {
    if !Path::new("/dev/net/tun").exists() {
        return leave_out("no /dev/net/tun");
    }
    let Some(cluster) = up("e2e-b", 3, &["--switch", "user"]) else { return };
    let dial = |from: usize, to: usize| {
        let began = Instant::now();
        let call = format!("timeout 2 bash -c 'exec 3<>/dev/tcp/node{to}/22'");
        (run(&cluster, from, &["bash", "-c", &call]).status.success(), began.elapsed())
    };
    assert!(dial(1, 2).0);
    assert!(cluster.cluster(&["delay", "1", "300ms"]).status.success());
    let (answered, took) = dial(1, 2);
    assert!(answered && took > Duration::from_millis(300), "{took:?}");
    assert!(cluster.cluster(&["delay", "1", "0"]).status.success());
    assert!(cluster.cluster(&["cut", "1", "2"]).status.success());
    assert!(!dial(1, 2).0 && dial(1, 3).0 && dial(2, 3).0, "only that pair");
    Ended::of(&cluster.cluster(&["delay", "1", "soon"])).failed(1, &["switch: delay 1 soon"]);
}

#[test]
fn ranks_are_started_on_every_node_and_their_lines_bear_their_numbers() {
    if !has("mpirun") {
        return leave_out("no mpirun on this machine");
    }
    let Some(cluster) = up("e2e-c", 2, &[]) else { return };
    let dir = Dir::new(SMALL);
    let (program, hosts, ssh) = (env!("CARGO_BIN_EXE_phalanx"), cluster.hosts(), cluster.ssh());
    let hosts = hosts.to_str().expect("text");
    let (file, logs) = (dir.path("run.toml"), dir.path("logs"));
    let (file, logs) = (file.to_str().expect("text"), logs.to_str().expect("text"));
    let launch = [program, "launch", "--hosts", hosts, "--ssh", &ssh, "--logs", logs];
    let command = |more: &[&str]| {
        let words = [&launch[..], more].concat();
        Ended::of(&cluster.on(1, &words).current_dir(dir.path("")).output().expect("the program starts"))
    };
    // the first rank that fails ends the job, with its code and its words
    let ended = command(&["train", "no-such-run.toml"]);
    ended.failed(2, &[]);
    let log =
        |rank: usize| std::fs::read_to_string(dir.path(&format!("logs/rank-{rank}.log"))).unwrap_or_default();
    let said = (0..4).find(|rank| log(*rank).contains("error:")).expect("a rank says why");
    assert!(ended.out.contains(&format!("[{said}] error:")), "{ended:?}");

    // node 2 is gone: said before anything starts
    assert!(cluster.cluster(&["cut", "2"]).status.success());
    let began = Instant::now();
    let ended = command(&["train", file]);
    ended.failed(2, &["node2", "out of reach", "node2 not fit for the job"]);
    assert!(began.elapsed() < Duration::from_secs(20), "{:?}", began.elapsed());
}

/// Not a test of its own: what each process runs that the next one starts in the nodes.
#[test]
fn rank_of_a_job() {
    ControlJob::rank();
}

#[test]
fn a_cable_that_is_pulled_is_blamed_on_its_node_unless_it_heals() {
    let Some(cluster) = up("e2e-d", 3, &[]) else { return };
    let bound = Duration::from_secs(3);
    let test = std::env::current_exe().expect("this test");
    let test = test.to_str().expect("text");
    let mut job = ControlJob::start("cut", 3, bound, |rank| {
        cluster.on(rank + 1, &[test, "--exact", "cluster::rank_of_a_job"])
    });
    assert!(cluster.cluster(&["cut", "2"]).status.success());
    std::thread::sleep(bound / 3);
    assert!(cluster.cluster(&["heal", "2"]).status.success());
    std::thread::sleep(2 * bound);
    let said: Vec<_> = (0..3).filter_map(|rank| job.said(rank)).collect();
    assert!(said.is_empty(), "healed in time: {said:?}");

    assert!(cluster.cluster(&["cut", "2"]).status.success());
    let (words, took) = job.words_of(&[0, 1, 2]);
    assert!(took < bound + Duration::from_secs(1), "{took:?}");
    for (rank, text) in words.iter().enumerate() {
        let what = if rank == 1 { "hears no other host for" } else { "is out of reach for" };
        assert!(text.starts_with(&format!("rank 1 on node2 {what}")), "rank {rank}: {text}");
    }
}
