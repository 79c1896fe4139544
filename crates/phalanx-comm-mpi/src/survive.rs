//! What is left of a world after a rank has died, and whether that may go on.

use crate::alarm::Family;
use crate::comm::MpiComm;
use crate::error::MpiError;
use crate::ffi::{self, Handle, Ulfm};
use crate::options::MpiOptions;
use crate::world::{MpiWorld, begin};
use phalanx_comm::{CommError, Rank, WorldSize};
use std::sync::{Arc, mpsc};
use std::time::Duration;

/// What became of a world that went on without some of its ranks.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Survivors {
    /// How many ranks there were.
    pub before: WorldSize,
    /// Those that are gone, by what they were before, in order.
    pub lost: Vec<Rank>,
}

impl Survivors {
    /// Of those that are `left`.
    fn of(before: WorldSize, left: &[Rank]) -> Self {
        Self { before, lost: before.ranks().filter(|rank| !left.contains(rank)).collect() }
    }

    /// How many ranks are left.
    pub fn left(&self) -> usize {
        self.before.get() - self.lost.len()
    }

    /// Whether they may go on: more than half, or half with the lowest rank. Of two parts of a cluster that was split, one
    /// may.
    fn are_quorum(&self) -> bool {
        let (left, before) = (2 * self.left(), self.before.get());
        left > before || (left == before && !self.lost.contains(&Rank::ZERO))
    }
}

/// A world begun anew, before all have said that theirs is.
struct Begun {
    farewell: Handle,
    family: Arc<Family>,
    comm: MpiComm,
    left: Vec<Rank>,
}

impl Begun {
    /// Collective over `world`: what `own`, its rank before, begins there.
    fn on(world: Handle, own: Rank, options: &MpiOptions) -> Result<Self, MpiError> {
        let mut left = vec![0; world.size()?];
        world.all_gather(&[own.index() as u64], &mut left)?;
        let left = left.into_iter().filter_map(|rank| usize::try_from(rank).ok()).map(Rank).collect();
        let farewell = world.duplicate()?;
        let (family, comm) = begin(world, options)?;
        Ok(Self { farewell, family, comm, left })
    }
}

impl MpiWorld {
    /// Whether the ranks that are left after the death of one can [go on](Self::survive): over Open MPI 5 or later, started by
    /// `mpirun --with-ft ulfm`.
    pub fn can_survive() -> bool {
        Ulfm::of_library().is_some()
    }

    /// Whether the world has failed because MPI saw a rank die.
    pub fn has_lost_a_rank(&self) -> bool {
        let is_loss =
            |failure: &CommError| matches!(failure, CommError::Library { code, .. } if ffi::is_loss(*code));
        self.family.failure().as_ref().is_some_and(is_loss)
    }

    /// Goes on without the ranks that have died, with a new communicator. The ranks that are left keep their order, and
    /// are numbered anew.
    ///
    /// They may go on if they are more than half of those before, or half with the lowest. Those that may not have a
    /// world all the same, in which to [end](Self::end).
    ///
    /// # Collective
    /// Every rank that lives, after [`run`](Self::run) has ended; blocks.
    ///
    /// # Errors
    /// [`MpiError::CannotSurvive`] where MPI cannot, [`MpiError::Quorum`] where too few are left,
    /// [`MpiError::Unsettled`] when ranks go on dying meanwhile; whatever MPI returns.
    pub fn survive(&mut self, options: &MpiOptions) -> Result<Survivors, MpiError> {
        let library = || crate::library_version().lines().next().unwrap_or_default().to_owned();
        let ulfm = Ulfm::of_library().ok_or_else(|| MpiError::CannotSurvive { library: library() })?;
        let had_thread = self.end_progress_thread();
        let (own, before) = (self.rank(), self.size());
        let begun = self.settle(ulfm, own, before, options)?;
        (self.family, self.comm, self.farewell) = (begun.family, begun.comm, begun.farewell);
        if had_thread {
            self.begin_progress_thread();
        }
        let survivors = Survivors::of(before, &begun.left);
        match survivors.are_quorum() {
            true => Ok(survivors),
            false => Err(MpiError::Quorum { left: survivors.left(), before: before.get() }),
        }
    }

    /// Leaves ranks behind until those that are left agree that all of them have begun.
    fn settle(
        &mut self,
        ulfm: Ulfm,
        own: Rank,
        before: WorldSize,
        options: &MpiOptions,
    ) -> Result<Begun, MpiError> {
        for _ in before.ranks() {
            ulfm.revoke(self.world)?;
            self.world = ulfm.shrink(self.world)?;
            self.has_shrunk = true;
            let begun = Begun::on(self.world, own, options);
            if begun.is_err() {
                // the others must not wait for this rank
                ulfm.revoke(self.world)?;
            }
            match (ulfm.agree(self.world, begun.is_ok())?, begun) {
                (true, Ok(begun)) => return Ok(begun),
                (_, Err(MpiError::Call { code, .. })) if ffi::is_loss(i64::from(code)) => {}
                (_, Err(error)) => return Err(error),
                (false, Ok(_)) => {}
            }
        }
        Err(MpiError::Unsettled { before: before.get() })
    }
}

/// `MPI_Finalize` of a world that has lost ranks, all done: where a link was cut it never returns, and the process ends after
/// `grace`.
pub(crate) fn finalize_within(grace: Duration) -> Result<(), MpiError> {
    let (done, waiting) = mpsc::channel::<()>();
    let waiter = std::thread::Builder::new().name("phalanx-end".to_owned()).spawn(move || {
        if waiting.recv_timeout(grace) == Err(mpsc::RecvTimeoutError::Timeout) {
            ffi::leave(0);
        }
    });
    if waiter.is_err() {
        ffi::leave(0);
    }
    let ended = ffi::finalize();
    drop(done);
    ended
}

#[cfg(test)]
mod tests {
    use super::Survivors;
    use phalanx_comm::{Rank, WorldSize};

    fn may_go_on(before: usize, left: &[usize]) -> bool {
        let left: Vec<Rank> = left.iter().copied().map(Rank).collect();
        Survivors::of(WorldSize(before), &left).are_quorum()
    }

    #[test]
    fn more_than_half_go_on() {
        assert!(may_go_on(3, &[1, 2]) && may_go_on(3, &[0, 2]) && may_go_on(5, &[1, 3, 4]));
        assert!(!may_go_on(3, &[0]) && !may_go_on(4, &[0]) && !may_go_on(5, &[0, 4]));
        assert!(may_go_on(2, &[0]) && !may_go_on(2, &[1]));
    }

    #[test]
    fn of_two_parts_one_goes_on_at_most() {
        for before in 1..=6_usize {
            for part in 0..1_u32 << before {
                let (here, there): (Vec<_>, Vec<_>) = (0..before).partition(|rank| part >> rank & 1 == 1);
                let (here, there) = (may_go_on(before, &here), may_go_on(before, &there));
                assert!(here != there, "{part:b} of {before}: {here} and {there}");
            }
        }
    }

    #[test]
    fn the_lost_ranks_are_those_that_are_not_left() {
        let survivors = Survivors::of(WorldSize(4), &[Rank(0), Rank(3)]);
        assert_eq!((survivors.left(), survivors.lost), (2, vec![Rank(1), Rank(2)]));
    }
}
