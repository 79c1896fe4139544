//! The program that starts ranks on other hosts, and how it wants to be told.

use std::path::PathBuf;
use std::process::Command;

/// A program that starts ranks.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Starter {
    pub(crate) program: PathBuf,
    pub(crate) kind: Kind,
}

/// Whose program it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    /// Open MPI's mpirun, by its major version.
    OpenMpi { major: u32 },
    /// MPICH's mpiexec.
    Mpich,
    /// Slurm's srun, inside an allocation.
    Slurm,
}

/// Why there is no program to start ranks with.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum StarterError {
    /// It is not there.
    #[error("cannot run {}: phalanx launch needs mpirun, or srun inside an allocation of Slurm", program.display())]
    Missing {
        /// The program.
        program: PathBuf,
        /// Why.
        #[source]
        source: std::io::Error,
    },
    /// It is none that is known.
    #[error("{} is neither Open MPI's nor MPICH's: its version is {says:?}", program.display())]
    Unknown {
        /// The program.
        program: PathBuf,
        /// What it says.
        says: String,
    },
}

impl Starter {
    /// Whether it is Slurm's.
    pub(crate) fn is_slurm(&self) -> bool {
        self.kind == Kind::Slurm
    }

    /// srun, as it is found.
    pub(crate) fn slurm() -> Self {
        Self { program: "srun".into(), kind: Kind::Slurm }
    }

    /// An mpirun, which is asked for its version.
    ///
    /// # Errors
    /// [`StarterError`] when it is not there or not known.
    pub(crate) fn mpirun(program: PathBuf) -> Result<Self, StarterError> {
        let missing = |source| StarterError::Missing { program: program.clone(), source };
        let output = Command::new(&program).arg("--version").output().map_err(missing)?;
        let says = String::from_utf8_lossy(&output.stdout).into_owned();
        match kind_of(&says) {
            Some(kind) => Ok(Self { program, kind }),
            None => {
                let says = says.lines().next().unwrap_or_default().to_owned();
                Err(StarterError::Unknown { program, says })
            }
        }
    }
}

fn kind_of(version: &str) -> Option<Kind> {
    if let Some((_, number)) = version.split_once("(Open MPI) ").or_else(|| version.split_once("(OpenRTE) "))
    {
        let major = number.split('.').next()?.trim().parse().ok()?;
        return Some(Kind::OpenMpi { major });
    }
    version.contains("HYDRA").then_some(Kind::Mpich)
}

#[cfg(test)]
mod tests {
    use super::{Kind, Starter, StarterError, kind_of};

    #[test]
    fn programs_are_known_by_their_versions() {
        assert_eq!(kind_of("mpirun (Open MPI) 4.1.4\n\nReport bugs to"), Some(Kind::OpenMpi { major: 4 }));
        assert_eq!(kind_of("mpirun (Open MPI) 5.0.11\n"), Some(Kind::OpenMpi { major: 5 }));
        assert_eq!(kind_of("HYDRA build details:\n    Version: 4.0.2\n"), Some(Kind::Mpich));
        assert_eq!(kind_of("Intel(R) MPI"), None);
    }

    #[test]
    fn a_program_that_is_not_there_is_named() {
        let error = Starter::mpirun("no-such-mpirun".into()).expect_err("missing");
        assert!(matches!(error, StarterError::Missing { .. }));
        assert!(error.to_string().starts_with("cannot run no-such-mpirun"), "{error}");
        assert!(matches!(Starter::mpirun("true".into()), Err(StarterError::Unknown { .. })));
    }
}
