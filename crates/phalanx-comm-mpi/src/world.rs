//! The world of all ranks that one `mpirun` or `srun` started: its beginning, what a rank does in it, and its end.

use crate::alarm::{Family, Place};
use crate::comm::MpiComm;
use crate::error::MpiError;
use crate::ffi::{self, Handle};
use crate::lane::Lane;
use crate::options::{MpiOptions, Nodes, Progress};
use crate::progress::{self, ProgressThread};
use crate::survive;
use crate::tune;
use phalanx_comm::cost::{Choice, Tuning};
use phalanx_comm::{CommError, Communicator, Rank, WorldError, WorldSize};
use std::error::Error;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

/// MPI in this process, from its start to its end.
///
/// To be ended by [`end`](Self::end). Dropped without, as by a panic outside of [`run`](Self::run), it ends the job of all
/// ranks with exit code 1: to wait for the others in `MPI_Finalize` would hang.
#[derive(Debug)]
pub struct MpiWorld {
    pub(crate) comm: MpiComm,
    pub(crate) family: Arc<Family>,
    pub(crate) world: Handle,
    pub(crate) farewell: Handle,
    /// Ends before MPI does.
    progress: Mutex<Option<ProgressThread>>,
    /// Whether it goes on without ranks that have died.
    pub(crate) has_shrunk: bool,
    is_ended: bool,
}

/// The name and version of the MPI that this program was linked with.
pub fn library_version() -> String {
    ffi::library_version().trim().to_owned()
}

impl MpiWorld {
    /// Starts MPI in this process, once.
    ///
    /// # Collective
    /// Every rank that the launcher started; blocks. A program that no launcher started is a world of one rank.
    ///
    /// # Errors
    /// [`MpiError::ThreadLevel`] with a library that no second thread may call, [`MpiError::Started`] the second time, and
    /// whatever MPI returns.
    pub fn init(options: &MpiOptions) -> Result<Self, MpiError> {
        ffi::init()?;
        let world = Handle::world()?;
        let farewell = world.duplicate()?;
        let (family, comm) = begin(world, options)?;
        let progress = Mutex::default();
        Ok(Self { comm, family, world, farewell, progress, has_shrunk: false, is_ended: false })
    }

    /// Begins again after a failure that all ranks have outlived, with a new communicator.
    ///
    /// # Collective
    /// Every rank, after [`run`](Self::run) has ended; blocks.
    ///
    /// # Errors
    /// Whatever MPI returns.
    pub fn renew(&mut self, options: &MpiOptions) -> Result<(), MpiError> {
        self.comm.lane.leave();
        let had_thread = self.end_progress_thread();
        (self.family, self.comm) = begin(self.world, options)?;
        if had_thread {
            self.begin_progress_thread();
        }
        Ok(())
    }

    /// No other thread of this rank is inside MPI from here on; whether one was there.
    pub(crate) fn end_progress_thread(&self) -> bool {
        let progress = self.progress_thread().take();
        progress.is_some()
    }

    pub(crate) fn begin_progress_thread(&self) {
        *self.progress_thread() = ProgressThread::of(&self.comm.lane);
    }

    /// This rank.
    pub fn rank(&self) -> Rank {
        self.comm.rank()
    }

    /// How many ranks there are.
    pub fn size(&self) -> WorldSize {
        self.comm.size()
    }

    /// How many nodes they are on.
    pub fn nodes(&self) -> usize {
        self.family.places.iter().enumerate().filter(|(rank, place)| place.node == *rank).count()
    }

    /// How many ranks a node has, where all but the last have as many, one after the other.
    pub fn ranks_per_node(&self) -> Option<usize> {
        let each = self.size().get().div_ceil(self.nodes().max(1));
        let mut places = self.family.places.iter().enumerate();
        places.all(|(rank, place)| place.node == rank - rank % each).then_some(each)
    }

    /// The communicator of all ranks.
    pub fn comm(&self) -> Arc<dyn Communicator> {
        Arc::new(self.comm.clone())
    }

    /// From now on, a rank waits so long for the others in one collective before it gives the world up: for what is known
    /// only after the start. The same on every rank.
    pub fn set_timeout(&self, timeout: Duration) {
        self.family.set_timeout(timeout);
    }

    /// From now on, started reductions go between nodes as `choice` says: measured, where it leaves that open. Until then,
    /// those that can be are hierarchical.
    ///
    /// Takes some tens of all-reduces of up to 512 KiB where there are several nodes, and two messages where there is one.
    ///
    /// # Collective
    /// Every rank; blocks. The choice of rank 0 counts.
    ///
    /// # Numerics
    /// [`Choice::Auto`] chooses between ways that give the same bits. [`Method::Library`](phalanx_comm::cost::Method::Library)
    /// sums in the library's own order.
    ///
    /// # Errors
    /// The failure of the world.
    pub fn tune(&self, choice: Choice) -> Result<Tuning, CommError> {
        tune::tune(&self.comm, choice)
    }

    fn progress_thread(&self) -> MutexGuard<'_, Option<ProgressThread>> {
        self.progress.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// From now on, started collectives of the communicator of all ranks advance so while a rank computes; until then, by calls. Returns
    /// what came of it: [`Progress::Auto`] becomes one of the others, the same on all ranks, and a rank that gets no thread from
    /// the system has calls.
    ///
    /// With a thread, [`progress`](Communicator::progress) does nothing, and [`start_all_reduce`](Communicator::start_all_reduce)
    /// and its like hand their memory over without a call of MPI. Whoever waits for a result does the work meanwhile.
    ///
    /// # Collective
    /// Every rank, with equal `wanted`, while nothing is under way; blocks.
    ///
    /// # Numerics
    /// The same bits either way.
    ///
    /// # Errors
    /// The failure of the world.
    pub fn advance_by(&self, wanted: Progress) -> Result<Progress, CommError> {
        let chosen = progress::choose(&self.comm.lane, &self.comm, wanted)?;
        let mut thread = self.progress_thread();
        // an earlier one ends first
        drop(thread.take());
        if chosen == Progress::Thread && self.size().get() > 1 {
            *thread = ProgressThread::of(&self.comm.lane);
        }
        Ok(if thread.is_some() { Progress::Thread } else { Progress::Calls })
    }

    /// As [`tune`](Self::tune), without a measurement: what was measured before counts on.
    ///
    /// # Collective
    /// Every rank; blocks. The choice of rank 0 counts.
    ///
    /// # Errors
    /// The failure of the world.
    pub fn choose(&self, choice: Choice) -> Result<Tuning, CommError> {
        tune::choose(&self.comm, choice)
    }

    /// The sum over ranks by MPI's own `MPI_Allreduce`, in place, `chunk` elements a call: what the communicator is measured
    /// against. Lengths are not compared.
    ///
    /// # Collective
    /// Every rank, same length and chunk.
    ///
    /// # Numerics
    /// In the order that the library chooses.
    ///
    /// # Errors
    /// What MPI returns.
    ///
    /// # Panics
    /// When `chunk` is 0.
    pub fn native_all_reduce(&self, buf: &mut [f32], chunk: usize) -> Result<(), MpiError> {
        buf.chunks_mut(chunk.min(ffi::MOST)).try_for_each(|chunk| self.farewell.sum_in_place(chunk))
    }

    /// Runs `f` on this rank, as `run_ranks` does on threads: an error or a panic on one rank ends the
    /// collectives of all.
    ///
    /// May be called again: one part of a program after the other.
    ///
    /// # Collective
    /// Every rank.
    ///
    /// # Errors
    /// The first failure of the world; on the rank where `f` failed, its own error.
    pub fn run<R, E: Error + 'static>(
        &self,
        f: impl FnOnce(Arc<dyn Communicator>) -> Result<R, E>,
    ) -> Result<R, WorldError<E>> {
        let (rank, comm) = (self.rank(), &self.comm);
        // what a panic leaves half done belongs to this rank, which is over
        let own = match catch_unwind(AssertUnwindSafe(|| f(self.comm()))) {
            Ok(Ok(value)) => match comm.lane.drain(&mut comm.lane.lock()) {
                Ok(()) => return Ok(value),
                Err(_) => None,
            },
            Ok(Err(error)) => {
                comm.abort(&error);
                Some(error)
            }
            Err(payload) => {
                let (during, message) = (comm.flight().pop(), CommError::panic_message(&*payload));
                self.family.fail(CommError::Panicked { rank, message, during });
                None
            }
        };
        let failure = self.family.failure().unwrap_or_else(|| CommError::aborted(rank, &Vanished));
        Err(WorldError::on_rank(rank, failure, own, comm.flight()))
    }

    /// Ends MPI: waits for the other ranks, for [`grace`](MpiOptions::grace) at most, and returns the exit code of all of
    /// them: that of the rank that failed first, or the greatest `code`.
    ///
    /// After a failure, and when others do not come, ends the job with that code instead, 1 at least, and does not return:
    /// `MPI_Finalize` might hang. Neither does it where ranks have [died](Self::survive) and the code is not 0, or
    /// `MPI_Finalize` takes longer than the grace. Whatever this rank has to say is to be said before.
    ///
    /// # Collective
    /// Every rank, last.
    pub fn end(mut self, code: u8) -> u8 {
        self.is_ended = true;
        self.end_progress_thread();
        self.comm.lane.leave();
        let (agreed, all_came) = match self.exchange_codes(code) {
            Some(agreed) => (agreed, true),
            None => (code, false),
        };
        if all_came && self.family.failure().is_none() {
            // all ranks are here and nothing is under way: an error is the library's, after all work is done
            let ended = match (self.has_shrunk, agreed) {
                (false, _) => ffi::finalize(),
                (true, 0) => survive::finalize_within(self.family.grace),
                (true, code) => ffi::leave(code),
            };
            return if ended.is_ok() { agreed } else { agreed.max(1) };
        }
        self.world.abort(agreed.max(1));
        agreed.max(1)
    }

    /// The exit code of all ranks; `None` if they have not all come to their end within the grace.
    fn exchange_codes(&self, code: u8) -> Option<u8> {
        let is_culprit = self.family.failure().is_some_and(|failure| failure.culprit() == Some(self.rank()));
        let own = Box::new([u64::from(code), u64::from(is_culprit)]);
        let all = vec![0; 2 * self.size().get()].into_boxed_slice();
        let mut farewell = self.farewell.start_all_gather(own, all).ok()?;
        let begun = Instant::now();
        while !farewell.test().ok()? {
            if begun.elapsed() > self.family.grace {
                return None;
            }
            // a failure that is told now is told to somebody who ends anyway
            self.family.listen().unwrap_or_default();
            std::thread::sleep(Duration::from_micros(200));
        }
        let codes = farewell.kept()?.1.chunks_exact(2).map(|words| (words[1], words[0]));
        codes.max().and_then(|(_, code)| u8::try_from(code).ok())
    }
}

impl Drop for MpiWorld {
    fn drop(&mut self) {
        if !self.is_ended {
            self.world.abort(1);
        }
    }
}

/// Why a world failed that has no failure: never seen, but an error is better than a panic there.
#[derive(Debug, thiserror::Error)]
#[error("the rank ended without a reason")]
struct Vanished;

/// Collective: what the communicators of a world share, and the first of them.
pub(crate) fn begin(world: Handle, options: &MpiOptions) -> Result<(Arc<Family>, MpiComm), MpiError> {
    let (rank, size) = (world.rank()?, world.size()?);
    let alarm = world.duplicate()?;
    let places = places(world, rank, size, options.nodes)?;
    // the clocks of all ranks begin here
    world.barrier()?;
    let family = Arc::new(Family::new(alarm, Rank(rank), size, options, places));
    let members = WorldSize(size).ranks().collect();
    let lane = Lane::new(Arc::clone(&family), 0, world, members)?;
    Ok((family, MpiComm { lane: Arc::new(lane) }))
}

/// Process and node of every rank.
fn places(world: Handle, rank: usize, size: usize, nodes: Nodes) -> Result<Vec<Place>, MpiError> {
    let host = world.split_shared()?;
    let on_host = host.rank()?;
    let first_of_node = match nodes {
        Nodes::Hosts => 0,
        Nodes::AtMost(ranks) => on_host / ranks.max(1) * ranks.max(1),
    };
    // the world ranks of this host, to name a node by its first
    let mut ranks = vec![0; host.size()?];
    host.all_gather(&[rank as u64], &mut ranks)?;
    let own = [u64::from(std::process::id()), ranks[first_of_node]];
    let mut all = vec![0; 2 * size];
    world.all_gather(&own, &mut all)?;
    let place = |words: &[u64]| Place {
        pid: u32::try_from(words[0]).unwrap_or(0),
        node: usize::try_from(words[1]).unwrap_or(0),
    };
    Ok(all.chunks_exact(2).map(place).collect())
}
