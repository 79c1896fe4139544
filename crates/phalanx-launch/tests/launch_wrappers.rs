//! The thin wrappers for launchers that come with phalanx.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use phalanx_launch::runfile::{RawRun, Registered};

fn wrapper(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../launch").join(name)
}

#[test]
fn the_wrappers_are_sound_and_say_how_they_are_used() {
    for name in ["mpirun.sh", "slurm.sbatch"] {
        let parsed = Command::new("bash").arg("-n").arg(wrapper(name)).output().expect("bash");
        assert!(parsed.status.success() && parsed.stderr.is_empty(), "{name}: {parsed:?}");
        let bare = Command::new("bash").arg(wrapper(name)).output().expect("bash");
        assert_eq!(bare.status.code(), Some(2), "{name}");
        assert!(String::from_utf8_lossy(&bare.stderr).contains("RUN.toml"), "{name}: {bare:?}");
    }
}

#[test]
fn mpirun_sh_passes_its_arguments_on() {
    let output = Command::new("bash")
        .arg(wrapper("mpirun.sh"))
        .args(["hosts", "4", "run.toml", "--run-dir", "a b"])
        .env("PHALANX", "echo")
        .env("RESTARTS", "2")
        .output()
        .expect("bash");
    let expected = "launch --hosts hosts -n 4 --max-restarts 2 train run.toml --run-dir a b\n";
    assert_eq!(String::from_utf8_lossy(&output.stdout), expected);
}

/// Each attack that the script sets is one of a run file.
#[test]
fn byzantine_sh_sets_attacks_that_there_are() {
    let dir = tempfile::tempdir().expect("a directory");
    let output = Command::new("sh")
        .arg(wrapper("byzantine.sh"))
        .arg(dir.path().join("out"))
        .args(["--set", "train.steps=3"])
        .env("PHALANX", "echo")
        .env("HOSTILE", "1 7 9")
        .output()
        .expect("sh");
    let text = String::from_utf8(output.stdout).expect("text");
    let lines: Vec<&str> = text.lines().collect();
    assert_eq!(lines.len(), 14, "{text}");
    let file = fs::read_to_string(wrapper("byzantine/krum.toml")).expect("a run file");
    for line in lines {
        let (_, set) = line.split_once("--set ").expect("the attack");
        let (attack, more) = set.split_once(" --set ").expect("what the caller adds");
        assert_eq!(more, "train.steps=3");
        let mut raw = RawRun::parse("krum.toml", &file).expect("TOML");
        raw.set(attack).expect("a value");
        let run = raw.resolve(&Registered::default()).unwrap_or_else(|error| panic!("{error}"));
        let hostile = run.attacks().expect("attacks");
        assert!(hostile.iter().all(|attack| attack.ranks == [1, 7, 9]), "{line}");
    }
}

/// What the operator's schema requires, as far as one can see without its parser.
#[test]
fn the_job_for_kubernetes_has_the_parts_of_its_kind() {
    let text = fs::read_to_string(wrapper("mpijob.yaml")).expect("the manifest");
    for part in
        ["apiVersion: kubeflow.org/v2beta1", "kind: MPIJob", "mpiReplicaSpecs:", "Launcher:", "Worker:"]
    {
        assert!(text.lines().any(|line| line.trim() == part), "{part:?} is missing");
    }
    for (number, line) in (1..).zip(text.lines()) {
        let indent = line.len() - line.trim_start().len();
        assert!(!line.contains('\t') && indent % 2 == 0, "line {number}: {line:?}");
    }
    let count = |part: &str| text.matches(part).count();
    assert_eq!((count("containers:"), count("volumes:"), count("volumeMounts:")), (2, 2, 2));
    let (_, rest) = text.split_once("/opt/phalanx/launch/").expect("a run file");
    let name = rest.split('"').next().expect("its name");
    assert!(wrapper(name).is_file(), "{name} is in the container");
}
