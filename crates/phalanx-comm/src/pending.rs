//! A started collective, to be waited for.

use crate::error::CommError;
use crate::shared::Region;
use std::fmt;
use std::sync::Arc;

/// The number of a started collective on its communicator.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct Ticket(pub u64);

/// What a backend implements to hand out [`Pending`]s: it keeps the started collectives, and their memory, itself.
///
/// Because a `Pending` holds a reference to its driver and a number, starting a collective allocates nothing.
pub trait Driver<T>: Send + Sync + fmt::Debug {
    /// Advances without waiting; whether `ticket` is complete.
    ///
    /// # Errors
    /// The failure of the world.
    fn test(&self, ticket: Ticket) -> Result<bool, CommError>;

    /// Waits for `ticket` and gives its result up. Called at most once a ticket.
    ///
    /// # Errors
    /// The failure of the world.
    fn wait(&self, ticket: Ticket) -> Result<T, CommError>;

    /// Nobody will ask for `ticket` again. The collective goes on, as the other ranks need it.
    fn forget(&self, ticket: Ticket);
}

/// A collective that was started and returns a `T` when it is complete: by default the region that was moved into it.
///
/// It advances when this rank calls [`progress`](crate::Communicator::progress), [`test`](Self::test),
/// [`wait`](Self::wait) or any later collective. A `Pending` that is dropped gives the result up, not the collective:
/// the memory stays with the communicator until no rank needs it.
#[must_use = "the result is lost if this is dropped"]
pub struct Pending<T = Region<f32>> {
    state: State<T>,
}

enum State<T> {
    Ready(T),
    Started(Arc<dyn Driver<T>>, Ticket),
    Taken,
}

impl<T> Pending<T> {
    /// One that is complete already.
    pub const fn ready(value: T) -> Self {
        Self { state: State::Ready(value) }
    }

    /// One that `driver` completes.
    pub fn started(driver: Arc<dyn Driver<T>>, ticket: Ticket) -> Self {
        Self { state: State::Started(driver, ticket) }
    }

    /// Whether [`wait`](Self::wait) would return at once. Does this rank's share of the work if it is due.
    ///
    /// # Collective
    /// Not by itself: ranks may test as often as they like.
    ///
    /// # Errors
    /// The failure of the world.
    pub fn test(&self) -> Result<bool, CommError> {
        match &self.state {
            State::Started(driver, ticket) => driver.test(*ticket),
            State::Ready(_) | State::Taken => Ok(true),
        }
    }

    /// Waits for the other ranks, and returns the memory with the result in it.
    ///
    /// # Collective
    /// Every rank must come to a call that advances its own share; ranks may wait in any order.
    ///
    /// # Errors
    /// The failure of the world, within its timeout. The memory is then freed when no rank uses it any more.
    pub fn wait(mut self) -> Result<T, CommError> {
        match std::mem::replace(&mut self.state, State::Taken) {
            State::Ready(value) => Ok(value),
            State::Started(driver, ticket) => driver.wait(ticket),
            State::Taken => unreachable!("only `wait` takes the state, and it takes `self`"),
        }
    }
}

impl<T> Drop for Pending<T> {
    fn drop(&mut self) {
        if let State::Started(driver, ticket) = &self.state {
            driver.forget(*ticket);
        }
    }
}

impl<T> fmt::Debug for Pending<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.state {
            State::Started(_, ticket) => f.debug_tuple("Started").field(ticket).finish(),
            State::Ready(_) | State::Taken => f.write_str("Ready"),
        }
    }
}
