//! `cargo xtask setup`: what the full tests need, why, and how it comes here.

use std::io::{IsTerminal as _, Write as _};
use std::path::Path;

use anyhow::{Context as _, Result};

use crate::conformance::{OPEN_MPI_5, open_mpi_5};
use crate::kernels;
use crate::shell::{cargo, command, root, run, succeeds};

/// Whether things may be installed without a question.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Consent {
    /// On a terminal the user is asked; elsewhere nothing is installed.
    Ask,
    /// What the tests need is installed; what is merely useful is not.
    Given,
}

/// How a thing is installed.
#[derive(Clone, Copy, Debug)]
enum Source {
    /// A package of Debian or Ubuntu.
    Apt,
    /// A program from its sources.
    Cargo,
    /// Packages in the virtual environment `target/python`.
    Python,
    /// Open MPI 5, in a virtual environment of its own.
    OpenMpi5,
    /// The compiler of the CUDA kernels, in a virtual environment of its own, with its checksum.
    Nvrtc,
}

struct Need {
    name: &'static str,
    why: &'static str,
    source: Source,
    is_required: bool,
}

/// In the order in which they are installed: the virtual environment sees Debian's packages.
const NEEDS: &[Need] = &[
    Need {
        name: "dataset-fashion-mnist",
        why: "the readers are tested on its 70,000 images",
        source: Source::Apt,
        is_required: true,
    },
    Need {
        name: "iproute2",
        why: "makes the network namespaces of virtual clusters",
        source: Source::Apt,
        is_required: true,
    },
    Need {
        name: "openssh-server",
        why: "lets mpirun into the nodes of virtual clusters",
        source: Source::Apt,
        is_required: true,
    },
    Need {
        name: "python3-venv",
        why: "makes target/python, the environment of the tests",
        source: Source::Apt,
        is_required: true,
    },
    Need {
        name: "python3-torch",
        why: "loads model.safetensors into the PyTorch models",
        source: Source::Apt,
        is_required: true,
    },
    Need {
        name: "safetensors, tensorboard",
        why: "read checkpoints and curves as their users do",
        source: Source::Python,
        is_required: true,
    },
    Need {
        name: "openmpi-bin",
        why: "starts ranks as processes, on one host or several",
        source: Source::Apt,
        is_required: true,
    },
    Need {
        name: "libopenmpi-dev",
        why: "what the feature `mpi` is built with",
        source: Source::Apt,
        is_required: true,
    },
    Need {
        name: "libclang-dev",
        why: "reads mpi.h for the feature `mpi`",
        source: Source::Apt,
        is_required: true,
    },
    Need {
        name: "slurm-wlm",
        why: "starts ranks by srun and sbatch, on a cluster that tests bring up",
        source: Source::Apt,
        is_required: true,
    },
    Need {
        name: kernels::PACKAGE,
        why: "compiles the CUDA kernels, to compare with what is checked in",
        source: Source::Nvrtc,
        is_required: true,
    },
    Need {
        name: "cargo-nextest",
        why: "runs tests side by side; without it `cargo test` runs them",
        source: Source::Cargo,
        is_required: false,
    },
    Need {
        name: "cargo-deny",
        why: "looks for advisories; without it licences and sources are checked, advisories are not",
        source: Source::Cargo,
        is_required: false,
    },
    Need {
        name: "libmpich-dev",
        why: "`cargo xtask conformance` builds the communicator for it, beside Open MPI",
        source: Source::Apt,
        is_required: false,
    },
    Need {
        name: "mpich",
        why: "starts the ranks of `cargo xtask conformance`",
        source: Source::Apt,
        is_required: false,
    },
    Need {
        name: OPEN_MPI_5,
        why: "`cargo xtask conformance` builds the communicator for it, in target/openmpi-5",
        source: Source::OpenMpi5,
        is_required: false,
    },
    Need {
        name: "chromium",
        why: "shows what `phalanx report` writes, to a person",
        source: Source::Apt,
        is_required: false,
    },
];

/// `numpy` below 2 is what Debian 12's PyTorch was built for.
const PYTHON_PACKAGES: &[&str] = &["numpy<2", "safetensors", "tensorboard"];

impl Need {
    fn is_here(&self) -> bool {
        match self.source {
            Source::Apt => succeeds(command(
                "sh",
                &["-c", "dpkg-query -W -f '${Status}' \"$0\" | grep -q 'ok installed'", self.name],
            )),
            Source::Cargo => succeeds(command(self.name, &["--version"])),
            Source::Python => {
                succeeds(command(python(), &["-c", "import numpy, safetensors.numpy, tensorboard"]))
            }
            Source::OpenMpi5 => open_mpi_5().join("bin/mpicc").exists(),
            Source::Nvrtc => kernels::has_compiler(),
        }
    }

    fn install(&self) -> Result<()> {
        match self.source {
            Source::Apt => apt(&["install", "--yes", "--no-install-recommends", self.name]),
            Source::Cargo => run(cargo(&["install", "--locked", self.name])),
            Source::Python => {
                // Debian's own interpreter, which sees Debian's PyTorch
                environment(&root().join("target/python"), &["--system-site-packages"], PYTHON_PACKAGES)
            }
            Source::OpenMpi5 => environment(&open_mpi_5(), &[], &[OPEN_MPI_5]),
            Source::Nvrtc => {
                let pinned = ["--no-deps", "--require-hashes", "--requirement", "xtask/nvrtc.txt"];
                environment(&kernels::environment(), &[], &pinned)
            }
        }
    }
}

/// A virtual environment with packages in it.
fn environment(place: &Path, options: &[&str], packages: &[&str]) -> Result<()> {
    let path = place.to_str().context("the path of the workspace is no text")?;
    run(command("/usr/bin/python3", &[&["-m", "venv"], options, &[path]].concat()))?;
    let install = ["-m", "pip", "install", "--quiet", "--disable-pip-version-check"];
    run(command(place.join("bin/python"), &[&install[..], packages].concat()))
}

fn python() -> std::path::PathBuf {
    root().join("target/python/bin/python")
}

fn apt(args: &[&str]) -> Result<()> {
    let is_root = succeeds(command("sh", &["-c", "test \"$(id -u)\" = 0"]));
    let mut apt = match is_root {
        true => command("apt-get", args),
        false => command("sudo", &[&["apt-get"], args].concat()),
    };
    apt.env("DEBIAN_FRONTEND", "noninteractive");
    run(apt)
}

/// Lists what is here and what is not, and installs what is missing.
pub(crate) fn setup(consent: Consent) -> Result<()> {
    let missing: Vec<&Need> = NEEDS.iter().filter(|need| !need.is_here()).collect();
    for need in NEEDS {
        let state = match (missing.iter().any(|m| m.name == need.name), need.is_required) {
            (false, _) => "here",
            (true, true) => "missing",
            (true, false) => "optional",
        };
        println!("{state:<9} {:<26} {}", need.name, need.why);
    }
    let wanted = missing.into_iter().filter(|need| need.is_required || consent == Consent::Ask);
    let wanted: Vec<&Need> = wanted.filter(|need| is_agreed(need, consent)).collect();
    if wanted.iter().any(|need| matches!(need.source, Source::Apt)) {
        apt(&["update"])?;
    }
    wanted
        .into_iter()
        .try_for_each(|need| need.install().with_context(|| format!("installing {}", need.name)))
}

fn is_agreed(need: &Need, consent: Consent) -> bool {
    if consent == Consent::Given {
        return true;
    }
    if !std::io::stdin().is_terminal() {
        return false;
    }
    print!("install {}? [y/N] ", need.name);
    let mut answer = String::new();
    let is_asked = std::io::stdout().flush().is_ok() && std::io::stdin().read_line(&mut answer).is_ok();
    is_asked && matches!(answer.trim(), "y" | "Y" | "yes")
}
