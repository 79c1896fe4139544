//! The ranks of a job: threads of this process, or processes of which this is one.

use std::path::{Path, PathBuf};

use crate::commands::Context;
use crate::environment::Lookup;
use crate::exit::Exit;

#[cfg(feature = "mpi")]
use crate::{app, exit::WithExit, launcher::Started, usage::UsageError};
#[cfg(feature = "mpi")]
use anyhow::Context as _;
#[cfg(feature = "mpi")]
use phalanx_comm::{Rank, RankFailure};
#[cfg(feature = "mpi")]
use phalanx_comm_mpi::{MpiOptions, MpiWorld, library_version};

/// Where the ranks of a job are.
#[derive(Debug)]
pub(crate) enum World {
    /// In this process, as many as the run file says.
    Threads,
    /// This process is one of them; a launcher said how many there are.
    #[cfg(feature = "mpi")]
    Mpi(MpiWorld),
}

impl World {
    /// Joins the other ranks that a launcher has started, if one has.
    ///
    /// # Errors
    /// Without the feature `mpi`, under a launcher of several ranks; with it, when MPI does not start.
    #[cfg(not(feature = "mpi"))]
    pub(crate) fn join(lookup: Lookup<'_>) -> anyhow::Result<Self> {
        crate::launcher::refuse(lookup)?;
        Ok(Self::Threads)
    }

    /// Joins the other ranks that a launcher has started, if one has.
    ///
    /// # Errors
    /// Without the feature `mpi`, under a launcher of several ranks; with it, when MPI does not start.
    #[cfg(feature = "mpi")]
    pub(crate) fn join(lookup: Lookup<'_>) -> anyhow::Result<Self> {
        let Some(Started { launcher, ranks }) = crate::launcher::started(lookup) else {
            return Ok(Self::Threads);
        };
        let world = MpiWorld::init(&MpiOptions::default()).context("starting MPI")?;
        let seen = world.size().get();
        if seen != ranks {
            let library = library_version().lines().next().unwrap_or_default().to_owned();
            world.end(Exit::BadInput.code());
            return Err(UsageError::OtherMpi { launcher, ranks, library, seen }.into());
        }
        Ok(Self::Mpi(world))
    }

    /// Whether this process writes files and speaks to the user.
    pub(crate) fn is_root(&self) -> bool {
        match self {
            Self::Threads => true,
            #[cfg(feature = "mpi")]
            Self::Mpi(world) => world.rank() == Rank::ZERO,
        }
    }

    /// How many ranks there are, where the run file has no say in it.
    pub(crate) fn ranks(&self) -> Option<usize> {
        match self {
            Self::Threads => None,
            #[cfg(feature = "mpi")]
            Self::Mpi(world) => Some(world.size().get()),
        }
    }

    /// Runs what a rank does by itself before it trains; what fails on one rank ends all.
    ///
    /// # Errors
    /// That of `f`, or that another rank gave up.
    pub(crate) fn together<T>(&self, f: impl FnOnce() -> anyhow::Result<T>) -> anyhow::Result<T> {
        match self {
            Self::Threads => f(),
            #[cfg(feature = "mpi")]
            Self::Mpi(world) => {
                let with_exit = |error| WithExit::new(Exit::of(&error), error);
                world.run(|_| f().map_err(with_exit)).map_err(|error| match error.into_failure() {
                    RankFailure::Failed { error, .. } => error.into(),
                    RankFailure::Comm(error) => error.into(),
                    other => anyhow::anyhow!("{other:?}"),
                })
            }
        }
    }

    /// Returns when all ranks have come.
    ///
    /// # Errors
    /// When one of them has failed.
    pub(crate) fn meet(&self) -> anyhow::Result<()> {
        match self {
            Self::Threads => Ok(()),
            #[cfg(feature = "mpi")]
            Self::Mpi(world) => Ok(world.comm().barrier()?),
        }
    }

    /// The path that rank 0 has, on every rank.
    ///
    /// # Errors
    /// When the ranks cannot be reached.
    pub(crate) fn share_path(&self, own: Option<&Path>) -> anyhow::Result<PathBuf> {
        let own = own.unwrap_or(Path::new("")).to_owned();
        match self {
            Self::Threads => Ok(own),
            #[cfg(feature = "mpi")]
            Self::Mpi(world) => {
                use std::os::unix::ffi::{OsStrExt as _, OsStringExt as _};
                let mut bytes = own.as_os_str().as_bytes().to_vec();
                world.comm().broadcast_bytes(Rank::ZERO, &mut bytes)?;
                Ok(std::ffi::OsString::from_vec(bytes).into())
            }
        }
    }

    /// Whether `--ranks` is the launcher's number, if both are there.
    ///
    /// # Errors
    /// `UsageError::RanksUnderLauncher` if they differ.
    #[cfg_attr(
        not(feature = "mpi"),
        expect(clippy::unnecessary_wraps, reason = "fails under a launcher only")
    )]
    pub(crate) fn check_ranks(&self, given: Option<usize>) -> anyhow::Result<()> {
        match (self, given) {
            #[cfg(feature = "mpi")]
            (Self::Mpi(world), Some(given)) if given != world.size().get() => {
                let ranks = world.size().get();
                Err(UsageError::RanksUnderLauncher { given, launcher: "the launcher", ranks }.into())
            }
            _ => Ok(()),
        }
    }

    /// Runs a command on all ranks and ends them: rank 0 says what there is to say, and all have one exit code.
    ///
    /// # Errors
    /// That of `command`, where it has not been told yet.
    pub(crate) fn conduct(
        self,
        context: &mut Context<'_>,
        command: impl FnOnce(&Self, &mut Context<'_>) -> anyhow::Result<Exit>,
    ) -> anyhow::Result<Exit> {
        if self.is_root() {
            let ended = command(&self, context);
            return self.end(context, ended);
        }
        // another rank tells the user
        let (ui, mut out) = (std::sync::Arc::new(crate::ui::Silent) as _, std::io::sink());
        let mut silent = Context {
            registered: context.registered,
            ui: &ui,
            out: &mut out,
            is_quiet: true,
            is_colored: context.is_colored,
        };
        let ended = command(&self, &mut silent);
        self.end(context, ended)
    }

    #[cfg_attr(not(feature = "mpi"), expect(clippy::unused_self, reason = "there is no MPI to end"))]
    fn end(self, context: &mut Context<'_>, ended: anyhow::Result<Exit>) -> anyhow::Result<Exit> {
        #[cfg(feature = "mpi")]
        if let Self::Mpi(world) = self {
            let exit = match &ended {
                Ok(exit) => *exit,
                Err(error) => {
                    // said before the end, which may end the process
                    if world.rank() == Rank::ZERO {
                        app::tell(error, context.is_colored);
                    }
                    Exit::of(error)
                }
            };
            context.out.flush()?;
            let code = world.end(exit.code());
            return Ok(Exit::ALL.into_iter().find(|exit| exit.code() == code).unwrap_or(Exit::Failed));
        }
        let _ = context;
        ended
    }
}
