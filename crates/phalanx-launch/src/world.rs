//! The ranks of a job: threads of this process, or processes of which this is one.

use std::path::{Path, PathBuf};

use phalanx_comm::Rank;
use phalanx_comm::control::Control;

use crate::commands::Context;
use crate::engine::watchdog::{Flight, Guarded};
use crate::environment::Lookup;
use crate::exit::Exit;
use crate::launcher::{self, Detected, Explicit, Placement};

#[cfg(feature = "mpi")]
use crate::{app, engine::watchdog, exit::WithExit, usage::UsageError};
#[cfg(feature = "mpi")]
use anyhow::Context as _;
#[cfg(feature = "mpi")]
use phalanx_comm::RankFailure;
#[cfg(feature = "mpi")]
use phalanx_comm_mpi::{MpiOptions, MpiWorld, library_version};
#[cfg(feature = "mpi")]
use std::sync::Arc;

#[cfg(feature = "mpi")]
use crate::ui::{Ui, Voice};

/// Where the ranks of a job are.
#[derive(Debug)]
pub(crate) enum World {
    /// In this process, as many as the run file says.
    Threads,
    /// This process is one of them.
    #[cfg(feature = "mpi")]
    Mpi {
        /// The program that started them.
        launcher: &'static str,
        /// MPI in this process.
        mpi: MpiWorld,
        /// Whether this process speaks to the user: rank 0, which may be another later.
        voice: Voice,
    },
}

impl World {
    /// Joins the other ranks that a launcher has started, if one has, on CPUs of its own.
    ///
    /// # Errors
    /// Without the feature `mpi`, under a launcher of several ranks; with it, when MPI does not start, or sees other
    /// ranks than the launcher.
    pub(crate) fn join(explicit: &Explicit, lookup: Lookup<'_>) -> anyhow::Result<Self> {
        let detected = launcher::detect(explicit, lookup);
        bind(&detected);
        Self::of(&detected)
    }

    #[cfg(not(feature = "mpi"))]
    fn of(detected: &Detected) -> anyhow::Result<Self> {
        launcher::refuse(detected)?;
        Ok(Self::Threads)
    }

    #[cfg(feature = "mpi")]
    fn of(detected: &Detected) -> anyhow::Result<Self> {
        let Some(place) = &detected.placement else {
            return Ok(Self::Threads);
        };
        let (launcher, ranks) = (place.source.launcher(), place.size);
        let mpi = MpiWorld::init(&MpiOptions::default()).context("starting MPI")?;
        let seen = mpi.size().get();
        if seen != ranks {
            let library = library_version().lines().next().unwrap_or_default().to_owned();
            mpi.end(Exit::BadInput.code());
            return Err(UsageError::OtherMpi { launcher, ranks, library, seen }.into());
        }
        let voice = Voice::new(mpi.rank() == Rank::ZERO);
        Ok(Self::Mpi { launcher, mpi, voice })
    }

    /// Whether this process writes files and speaks to the user.
    pub(crate) fn is_root(&self) -> bool {
        match self {
            Self::Threads => true,
            #[cfg(feature = "mpi")]
            Self::Mpi { mpi, .. } => mpi.rank() == Rank::ZERO,
        }
    }

    /// How many ranks there are, where the run file has no say in it.
    pub(crate) fn ranks(&self) -> Option<usize> {
        match self {
            Self::Threads => None,
            #[cfg(feature = "mpi")]
            Self::Mpi { mpi, .. } => Some(mpi.size().get()),
        }
    }

    /// The ranks of a node, where they are known and every node but the last has as many, one after the other.
    pub(crate) fn ranks_per_node(&self) -> Option<usize> {
        match self {
            Self::Threads => None,
            #[cfg(feature = "mpi")]
            Self::Mpi { mpi, .. } => mpi.ranks_per_node(),
        }
    }

    /// The lowest of the ranks that are in this process.
    pub(crate) fn first(&self) -> Rank {
        match self {
            Self::Threads => Rank::ZERO,
            #[cfg(feature = "mpi")]
            Self::Mpi { mpi, .. } => mpi.rank(),
        }
    }

    /// Whether what is to be known of `rank` is known in this process; of no rank in particular, where all are.
    pub(crate) fn holds(&self, rank: Option<Rank>) -> bool {
        match (self, rank) {
            (Self::Threads, _) => true,
            #[cfg(feature = "mpi")]
            (Self::Mpi { mpi, .. }, rank) => rank == Some(mpi.rank()),
        }
    }

    /// Has the ranks watch over each other where they are processes, until what it returns is dropped; `guarded` is
    /// told how to read the last collectives of this rank.
    ///
    /// # Errors
    /// When the ranks cannot tell each other their addresses.
    #[cfg_attr(
        not(feature = "mpi"),
        expect(clippy::unnecessary_wraps, unused_variables, reason = "ranks as threads have no channel")
    )]
    pub(crate) fn watch(&self, guarded: impl FnOnce(Flight) -> Guarded) -> anyhow::Result<Option<Control>> {
        match self {
            Self::Threads => Ok(None),
            #[cfg(feature = "mpi")]
            Self::Mpi { mpi, .. } if mpi.size().get() == 1 => Ok(None),
            #[cfg(feature = "mpi")]
            Self::Mpi { mpi, .. } => self.together(|| {
                let (comm, flown) = (mpi.comm(), mpi.comm());
                let flight: Flight = std::sync::Arc::new(move || flown.flight());
                Ok(Some(watchdog::watch(&*comm, guarded(flight))?))
            }),
        }
    }

    /// Refuses to begin a run that is to outlive ranks where it could not.
    ///
    /// # Errors
    /// `UsageError::CannotShrink`.
    #[cfg_attr(not(feature = "mpi"), expect(clippy::unnecessary_wraps, reason = "fails over an MPI only"))]
    pub(crate) fn check_survival(&self) -> anyhow::Result<()> {
        match self {
            #[cfg(feature = "mpi")]
            Self::Mpi { mpi, .. } if mpi.size().get() > 1 && !MpiWorld::can_survive() => {
                let library = library_version().lines().next().unwrap_or_default().to_owned();
                Err(UsageError::CannotShrink { library }.into())
            }
            _ => Ok(()),
        }
    }

    /// Whether the ranks have failed because the process of one is gone.
    pub(crate) fn has_lost_a_rank(&self) -> bool {
        match self {
            Self::Threads => false,
            #[cfg(feature = "mpi")]
            Self::Mpi { mpi, .. } => mpi.has_lost_a_rank(),
        }
    }

    /// Leaves the ranks behind that have died; says who they were, and how many are left.
    ///
    /// # Collective
    /// Every process that lives.
    ///
    /// # Errors
    /// When too few are left; ends with [`Exit::RankLost`].
    #[cfg_attr(
        not(feature = "mpi"),
        expect(clippy::unnecessary_wraps, reason = "ranks as threads lose none")
    )]
    pub(crate) fn survive(&mut self) -> anyhow::Result<String> {
        match self {
            Self::Threads => Ok(String::new()),
            #[cfg(feature = "mpi")]
            Self::Mpi { mpi, voice, .. } => {
                let survived = mpi.survive(&MpiOptions::default());
                voice.set(mpi.rank() == Rank::ZERO);
                let survivors = survived.map_err(|error| WithExit::new(Exit::RankLost, error.into()))?;
                let lost: Vec<String> = survivors.lost.iter().map(ToString::to_string).collect();
                Ok(format!(
                    "{} died: {} of {} ranks go on",
                    lost.join(", "),
                    survivors.left(),
                    survivors.before.get()
                ))
            }
        }
    }

    /// What rank 0 says, on every rank.
    ///
    /// # Errors
    /// When the ranks cannot be reached.
    pub(crate) fn agree(&self, own: bool) -> anyhow::Result<bool> {
        match self {
            Self::Threads => Ok(own),
            #[cfg(feature = "mpi")]
            Self::Mpi { mpi, .. } => {
                let mut byte = vec![u8::from(own)];
                mpi.comm().broadcast_bytes(Rank::ZERO, &mut byte)?;
                Ok(byte == [1])
            }
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
            Self::Mpi { mpi, .. } => {
                let with_exit = |error| WithExit::new(Exit::of(&error), error);
                mpi.run(|_| f().map_err(with_exit)).map_err(|error| match error.into_failure() {
                    RankFailure::Failed { error, .. } => error.into(),
                    RankFailure::Comm(error) => error.into(),
                    other => anyhow::anyhow!("{other:?}"),
                })
            }
        }
    }

    /// What the process of each of `ranks` ranks says.
    ///
    /// # Collective
    /// Every process.
    ///
    /// # Errors
    /// When the ranks cannot be reached.
    #[cfg(feature = "cuda")]
    pub(crate) fn tell(&self, own: Vec<u8>, ranks: usize) -> anyhow::Result<Vec<Vec<u8>>> {
        match self {
            Self::Threads => Ok(vec![own; ranks]),
            #[cfg(feature = "mpi")]
            Self::Mpi { mpi, .. } => Ok(mpi.comm().all_gather_bytes(&own)?),
        }
    }

    /// Those of `ranks` ranks that are in this process.
    #[cfg(feature = "cuda")]
    pub(crate) fn here(&self, ranks: usize) -> std::ops::Range<usize> {
        match self {
            Self::Threads => 0..ranks,
            #[cfg(feature = "mpi")]
            Self::Mpi { mpi, .. } => mpi.rank().index()..mpi.rank().index() + 1,
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
            Self::Mpi { mpi, .. } => Ok(mpi.comm().barrier()?),
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
            Self::Mpi { mpi, .. } => {
                use std::os::unix::ffi::{OsStrExt as _, OsStringExt as _};
                let mut bytes = own.as_os_str().as_bytes().to_vec();
                mpi.comm().broadcast_bytes(Rank::ZERO, &mut bytes)?;
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
            (Self::Mpi { launcher, mpi, .. }, Some(given)) if given != mpi.size().get() => {
                Err(UsageError::RanksUnderLauncher { given, launcher, ranks: mpi.size().get() }.into())
            }
            _ => Ok(()),
        }
    }

    /// Runs a command on all ranks and ends them: rank 0 says what there is to say, and all have one exit code.
    ///
    /// # Errors
    /// That of `command`, where it has not been told yet.
    pub(crate) fn conduct(
        mut self,
        context: &mut Context<'_>,
        command: impl FnOnce(&mut Self, &mut Context<'_>) -> anyhow::Result<Exit>,
    ) -> anyhow::Result<Exit> {
        match &self {
            Self::Threads => {
                let ended = command(&mut self, context);
                self.end(context, ended)
            }
            #[cfg(feature = "mpi")]
            Self::Mpi { voice, .. } => {
                let ui: Arc<dyn Ui> = Arc::new(voice.of_ui(context.ui));
                let mut out = voice.of_output(context.out);
                let mut own = Context {
                    registered: context.registered,
                    ui: &ui,
                    out: &mut out,
                    is_quiet: context.is_quiet,
                    is_colored: context.is_colored,
                };
                let ended = command(&mut self, &mut own);
                self.end(&mut own, ended)
            }
        }
    }

    #[cfg_attr(not(feature = "mpi"), expect(clippy::unused_self, reason = "there is no MPI to end"))]
    fn end(self, context: &mut Context<'_>, ended: anyhow::Result<Exit>) -> anyhow::Result<Exit> {
        #[cfg(feature = "mpi")]
        if let Self::Mpi { mpi, .. } = self {
            let exit = match &ended {
                Ok(exit) => *exit,
                Err(error) => {
                    // said before the end, which may end the process
                    if mpi.rank() == Rank::ZERO {
                        app::tell(error, context.is_colored);
                    }
                    Exit::of(error)
                }
            };
            context.out.flush()?;
            let code = mpi.end(exit.code());
            return Ok(Exit::ALL.into_iter().find(|exit| exit.code() == code).unwrap_or(Exit::Failed));
        }
        let _ = context;
        ended
    }
}

/// Gives this rank CPUs of its own, where its launcher told how many ranks share the host.
fn bind(detected: &Detected) {
    let Some(Placement { local_rank: Some(rank), local_size: Some(size), .. }) = detected.placement else {
        return;
    };
    match launcher::bind(rank, size) {
        Ok(binding) => tracing::info!("rank {rank} of this host runs on CPUs {:?}", binding.cpus()),
        // slower, but as right
        Err(error) => tracing::warn!("rank {rank} of this host is bound to no CPUs: {error}"),
    }
}
