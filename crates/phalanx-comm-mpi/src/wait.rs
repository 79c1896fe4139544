//! Waiting for other ranks: spin briefly, then yield, then sleep, and listen for failures all the while.

use crate::lane::Lane;
use phalanx_comm::{Call, CommError, Missing, Rank};
use std::time::{Duration, Instant};

/// How long a rank polls before it gives its core away, and how often it does that before it sleeps.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Patience {
    polls: u32,
    yields: u32,
}

/// The longest sleep between two looks.
const LONGEST_SLEEP: Duration = Duration::from_micros(500);
/// How long ranks have to answer where they are, when a collective has waited too long.
const ANSWERS: Duration = Duration::from_millis(500);

impl Patience {
    /// Long where every rank of a node has a core of its own, short where a waiting rank keeps another from running.
    pub(crate) fn for_ranks(ranks_on_node: usize) -> Self {
        let cores = std::thread::available_parallelism().map_or(1, usize::from);
        match ranks_on_node <= cores {
            true => Self { polls: 4000, yields: 2000 },
            false => Self { polls: 20, yields: 50 },
        }
    }
}

impl Patience {
    /// Whether a look that follows so many others comes at once, 0, after a turn of other threads, 1, or after a sleep, 2.
    pub(crate) fn stage(self, looks: u32) -> u32 {
        u32::from(looks >= self.polls) + u32::from(looks >= self.polls.saturating_add(self.yields))
    }
}

impl Lane {
    /// Waits until `ready`, for the ranks that `late` names; returns the idle time beyond the first polls.
    #[inline]
    pub(crate) fn wait_until(
        &self,
        call: &Call,
        seq: u64,
        ready: &mut dyn FnMut() -> Result<bool, CommError>,
        late: &dyn Fn(usize) -> bool,
    ) -> Result<Duration, CommError> {
        for poll in 0..self.patience.polls {
            if ready()? {
                return Ok(Duration::ZERO);
            }
            if poll > 200 {
                std::hint::spin_loop();
            }
        }
        self.wait_long(call, seq, ready, late)
    }

    #[cold]
    fn wait_long(
        &self,
        call: &Call,
        seq: u64,
        ready: &mut dyn FnMut() -> Result<bool, CommError>,
        late: &dyn Fn(usize) -> bool,
    ) -> Result<Duration, CommError> {
        let begun = Instant::now();
        // a little apart, so that one rank tells the others before they all tell each other
        let limit = self.family.timeout() + Duration::from_millis(5 * self.me as u64);
        let (mut looks, mut sleep) = (0, Duration::from_micros(20));
        while !ready()? {
            self.family.listen()?;
            if let Some(rank) = self.deserter(late) {
                return Err(self.family.fail(CommError::Left { rank, call: *call, seq }));
            }
            if begun.elapsed() > limit {
                let waited = begun.elapsed();
                let missing = self.missing(seq, late)?;
                return Err(self.family.fail(CommError::Timeout { call: *call, seq, missing, waited }));
            }
            looks += 1;
            if looks < self.patience.yields {
                std::thread::yield_now();
            } else {
                std::thread::sleep(sleep);
                sleep = (sleep * 2).min(LONGEST_SLEEP);
            }
        }
        Ok(begun.elapsed())
    }

    /// A rank that has left and is waited for.
    fn deserter(&self, late: &dyn Fn(usize) -> bool) -> Option<Rank> {
        let board = self.board.as_ref()?;
        // in this order: what a rank did before it left is seen once the mark is
        let deserted = |rank: &usize| board.has_left(*rank) && late(*rank);
        (0..self.members.len()).find(deserted).map(|rank| self.members[rank])
    }

    /// Who has not come, and what it did last.
    fn missing(&self, seq: u64, late: &dyn Fn(usize) -> bool) -> Result<Vec<Missing>, CommError> {
        let missing = |rank: usize| Missing { rank: self.members[rank], last: self.last_of(rank) };
        if self.board.is_some() {
            return Ok((0..self.members.len()).filter(|rank| late(*rank)).map(missing).collect());
        }
        let others: Vec<_> = (0..self.members.len()).filter(|rank| *rank != self.me).collect();
        let world = |rank: &usize| self.members[*rank].index();
        self.family.ask(self.id, others.iter().map(world));
        let asked = Instant::now();
        let answered = |rank: &usize| self.family.answer(world(rank));
        while asked.elapsed() < ANSWERS && others.iter().any(|rank| answered(rank).is_none()) {
            self.family.listen()?;
            std::thread::sleep(Duration::from_millis(1));
        }
        let is_missing = |rank: &usize| answered(rank).is_none_or(|at| at < seq);
        Ok(others.into_iter().filter(is_missing).map(missing).collect())
    }
}
