//! The thin wrappers for launchers that come with phalanx.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

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
