//! Runs on GPUs, on the stand-ins for the driver, cuBLAS and NCCL or with `PHALANX_GPU` in the environment on those of the machine:
//! the CPU's losses, checkpoints that move, devices that lack.

use std::process::Command;
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

/// Whether the devices are those of the machine.
fn is_real() -> bool {
    std::env::var_os("PHALANX_GPU").is_some()
}

/// A command that finds the stand-ins.
fn command(dir: &Dir, args: &[&str]) -> Command {
    let mut command = dir.command(args);
    if !is_real() {
        command
            .env("LD_LIBRARY_PATH", Softcuda::library_path().expect("the library is built with the tests"));
    }
    command
}

/// Trains on a machine with so many devices; on one with fewer of its own, ranks share them.
fn on_gpus(dir: &Dir, devices: u32, to: &str, more: &[&str]) -> Ended {
    let more = if is_real() { [more, &["--share-devices"]].concat() } else { more.to_vec() };
    on_machine(dir, &[Setting::Devices(devices)], to, &more)
}

/// Trains on a machine that a test has chosen.
fn on_machine(dir: &Dir, settings: &[Setting], to: &str, more: &[&str]) -> Ended {
    let args = [&["train", "run.toml", "--run-dir", to, "--device", "cuda"], more].concat();
    let mut command = command(dir, &args);
    Ended::of(&command.envs(settings.iter().map(Setting::variable)).output().expect("the program starts"))
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

#[test]
fn products_are_rounded_where_the_run_file_says_so() {
    let dir = Dir::new(MLP);
    let rounding = ["--ranks", "1", "--set", "train.precision=tf32"];
    dir.train("cpu", &["--ranks", "1"]).done();
    on_gpus(&dir, 1, "tf32", &rounding).done();
    // rounding is a noise of one part in 2048 on what the loss, about 2 at first, comes from
    let apart = |(got, want): (f64, f64)| (got - want).abs();
    let furthest = losses(&dir, "tf32").into_iter().zip(losses(&dir, "cpu")).map(apart).fold(0.0, f64::max);
    assert!(furthest > 1e-5 && furthest < 0.05, "{furthest}");
    dir.train("refused", &rounding)
        .failed(2, &["train.precision = \"tf32\" rounds for the matrix units of a GPU"]);
    assert!(!dir.path("refused").exists(), "nothing is left behind");
}

/// In the middle of a step, while the other rank is in its sums or comes to them.
#[test]
fn a_device_that_is_lost_ends_the_run_and_is_named() {
    if is_real() {
        return;
    }
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
    if is_real() {
        return;
    }
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
    let mut command = command(&dir, &["train", "run.toml", "--device", "cuda:99"]);
    let ended = Ended::of(&command.output().expect("the program starts"));
    ended.failed(2, &["cuda:99 with ", " devices: they are numbered from 0"]);
    assert!(!dir.path("runs").exists(), "nothing is left behind");
}

#[test]
fn a_checkpoint_is_scored_on_either() {
    let dir = Dir::new(&MLP.replace("steps = 100", "steps = 40"));
    dir.train("run", &[]).done();
    let on = |device: &str| {
        let mut command = command(&dir, &["eval", "run", "--device", device]);
        Ended::of(&command.output().expect("the program starts"))
    };
    let (cpu, gpu) = (on("cpu").done(), on(if is_real() { "cuda:0" } else { "cuda:1" }).done());
    assert!(cpu.contains("accuracy"), "{cpu}");
    // four digits are said, and no sample is near a tie
    assert_eq!(cpu, gpu);
    on("cuda:99").failed(2, &["cuda:99 with "]);
}
