//! Runs on GPUs, on the stand-ins for the driver, cuBLAS and NCCL: the CPU's losses, checkpoints that move, devices that lack.

use std::time::{Duration, Instant};

use phalanx_softcuda::{Setting, Softcuda};
use phalanx_train::events::{self, Event};

use crate::program::{Dir, Ended, SMALL};

const MLP: &str = r#"
name = "mlp"
seed = 3
[model]
kind = "mlp"
hidden = [32, 24]
[data]
kind = "digits"
[train]
ranks = 1
batch = 48
steps = 100
[optimizer]
lr = 0.05
momentum = 0.9
[checkpoint]
every_steps = 50
"#;

const GPT: &str = r#"
name = "gpt"
seed = 3
[model]
kind = "gpt"
layers = 2
width = 16
heads = 2
context = 16
dropout = 0.1
[data]
kind = "text"
path = "text/input.txt"
[train]
ranks = 2
batch = 8
steps = 20
[optimizer]
kind = "adamw"
lr = 1e-3
[checkpoint]
every_steps = 0
"#;

/// How far a step's loss on a device may be from the CPU's, as a share of it: sums of products are in another order, and
/// a step builds on what it finds.
const APART: f64 = 1e-3;

/// Trains on a machine with so many devices.
fn on_gpus(dir: &Dir, devices: u32, to: &str, more: &[&str]) -> Ended {
    on_machine(dir, &[Setting::Devices(devices)], to, more)
}

/// Trains on a machine that a test has chosen.
fn on_machine(dir: &Dir, settings: &[Setting], to: &str, more: &[&str]) -> Ended {
    let path = Softcuda::library_path().expect("the library is built with the tests");
    let args = [&["train", "run.toml", "--run-dir", to, "--device", "cuda"], more].concat();
    let mut command = dir.command(&args);
    command.env("LD_LIBRARY_PATH", path).envs(settings.iter().map(Setting::variable));
    Ended::of(&command.output().expect("the program starts"))
}

fn losses(dir: &Dir, run: &str) -> Vec<f64> {
    let log = events::read(&dir.files(run).events()).expect("events");
    let step = |event| match event {
        Event::Step(step) => Some(step.loss),
        _ => None,
    };
    log.events.into_iter().filter_map(step).collect()
}

#[track_caller]
fn assert_near(dir: &Dir, got: &str, want: &str, steps: usize) {
    let (got, want) = (losses(dir, got), losses(dir, want));
    assert_eq!((got.len(), want.len()), (steps, steps));
    for (step, (got, want)) in (1..).zip(got.iter().zip(&want)) {
        assert!((got - want).abs() <= APART * want, "step {step}: {got} for {want}");
    }
}

#[test]
fn an_mlp_trains_as_on_the_cpu() {
    let dir = Dir::new(MLP);
    for ranks in ["1", "2"] {
        let cpu = format!("cpu-{ranks}");
        dir.train(&cpu, &["--ranks", ranks]).done();
        on_gpus(&dir, 2, ranks, &["--ranks", ranks]).done();
        assert_near(&dir, ranks, &cpu, 100);
    }
}

#[test]
fn a_cnn_trains_as_on_the_cpu() {
    let dir =
        Dir::new(&SMALL.replace("steps = 60", "steps = 20").replace("every_steps = 10", "every_steps = 0"));
    for ranks in ["1", "2"] {
        let cpu = format!("cpu-{ranks}");
        dir.train(&cpu, &["--ranks", ranks]).done();
        on_gpus(&dir, 2, ranks, &["--ranks", ranks]).done();
        assert_near(&dir, ranks, &cpu, 20);
    }
}

#[test]
fn a_gpt_trains_as_on_the_cpu() {
    let dir = Dir::new(GPT);
    dir.write("text/input.txt", "To be, or not to be, that is the question. ".repeat(40));
    dir.train("cpu", &[]).done();
    on_gpus(&dir, 2, "gpu", &[]).done();
    assert_near(&dir, "gpu", "cpu", 20);
}

/// In the middle of a step, while the other rank is in its sums or comes to them.
#[test]
fn a_device_that_is_lost_ends_the_run_and_is_named() {
    let dir = Dir::new(&MLP.replace("steps = 100", "steps = 40"));
    for launch in [150, 301, 452] {
        let machine = [Setting::Devices(2), Setting::Lose { device: 1, launch }];
        let begun = Instant::now();
        let ended = on_machine(&dir, &machine, &launch.to_string(), &["--ranks", "2"]);
        ended.failed(1, &["rank 1", "cuda:1", "719"]);
        assert!(begun.elapsed() < Duration::from_secs(30), "{:?}", begun.elapsed());
    }
}

#[test]
fn a_checkpoint_moves_between_cpu_and_gpu() {
    let dir =
        Dir::new(&MLP.replace("steps = 100", "steps = 40").replace("every_steps = 50", "every_steps = 10"));
    dir.train("cpu", &[]).done();
    dir.train("moved", &["--set", "train.steps=20"]).done();
    on_gpus(&dir, 1, "moved", &["--resume", "--set", "train.steps=40"]).done();
    assert_near(&dir, "moved", "cpu", 40);
    on_gpus(&dir, 1, "back", &["--set", "train.steps=20"]).done();
    dir.train("back", &["--resume", "--set", "train.steps=40"]).done();
    assert_near(&dir, "back", "cpu", 40);
}

#[test]
fn more_ranks_than_devices_share_only_if_they_may() {
    let dir = Dir::new(&MLP.replace("steps = 100", "steps = 10"));
    let ranks = ["--ranks", "2"];
    on_gpus(&dir, 1, "refused", &ranks).failed(2, &["2 ranks on this host and 1 of --device cuda"]);
    assert!(!dir.path("refused").exists(), "nothing is left behind");
    dir.train("cpu", &ranks).done();
    on_gpus(&dir, 1, "shared", &[&ranks[..], &["--share-devices"]].concat()).done();
    assert_near(&dir, "shared", "cpu", 10);
}

#[test]
fn a_device_that_is_not_there_is_bad_input() {
    let dir = Dir::new(MLP);
    let path = Softcuda::library_path().expect("the library is built with the tests");
    let mut command = dir.command(&["train", "run.toml", "--device", "cuda:9"]);
    let ended = Ended::of(&command.env("LD_LIBRARY_PATH", path).output().expect("the program starts"));
    ended.failed(2, &["cuda:9 with 2 devices"]);
    assert!(!dir.path("runs").exists(), "nothing is left behind");
}

#[test]
fn a_checkpoint_is_scored_on_either() {
    let dir = Dir::new(&MLP.replace("steps = 100", "steps = 40"));
    dir.train("run", &[]).done();
    let on = |device: &str| {
        let path = Softcuda::library_path().expect("the library is built with the tests");
        let mut command = dir.command(&["eval", "run", "--device", device]);
        Ended::of(&command.env("LD_LIBRARY_PATH", path).output().expect("the program starts"))
    };
    let (cpu, gpu) = (on("cpu").done(), on("cuda:1").done());
    assert!(cpu.contains("accuracy"), "{cpu}");
    // four digits are said, and no sample is near a tie
    assert_eq!(cpu, gpu);
    on("cuda:9").failed(2, &["cuda:9 with 2 devices"]);
}
