//! The control channel as the program holds it.

use super::agent::{Agent, Command};
use super::board::{Board, Status};
use super::card::{Card, Port};
use super::error::ControlError;
use super::frame::Refusal;
use super::secret::Secret;
use super::verdict::Verdict;
use crate::communicator::Communicator;
use crate::flight::OpRecord;
use crate::rank::{Rank, WorldSize};
use std::fmt;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError, mpsc};
use std::thread::JoinHandle;
use std::time::Duration;

/// How long a rank may give no sign, and how long no progress.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Limits {
    /// Without a sign of life, after which a job ends on all ranks. Default 15 s.
    pub silence: Duration,
    /// Without progress while others wait. Default 15 s.
    pub stall: Duration,
    /// The same while a checkpoint is written or read. Default 120 s.
    pub files: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            silence: Duration::from_secs(15),
            stall: Duration::from_secs(15),
            files: Duration::from_secs(120),
        }
    }
}

impl Limits {
    /// A job that ends within `bound` of the loss of a rank, and waits eight times as long for files.
    #[must_use]
    pub fn within(bound: Duration) -> Self {
        Self { silence: bound, stall: bound, files: bound * 8 }
    }

    /// The time between two signs of life.
    pub(super) fn pause(&self) -> Duration {
        (self.silence / 15).clamp(Duration::from_millis(20), Duration::from_secs(1))
    }
}

/// What a rank tells the others about itself.
#[derive(Clone)]
pub struct Watched {
    /// Where its step and phase stand.
    pub board: Arc<Board>,
    /// Its latest collective.
    pub latest: Arc<dyn Fn() -> Option<OpRecord> + Send + Sync>,
}

impl Watched {
    /// A rank whose collectives are not known.
    #[must_use]
    pub fn board(board: Arc<Board>) -> Self {
        Self { board, latest: Arc::new(|| None) }
    }

    pub(super) fn status(&self, rank: Rank) -> Status {
        Status { collective: (self.latest)().map(Into::into), ..self.board.of(rank) }
    }
}

impl fmt::Debug for Watched {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Watched").field("board", &self.board).finish_non_exhaustive()
    }
}

/// Faults of the channel itself, to be injected by tests.
#[derive(Debug, Default)]
pub struct LinkFaults {
    severed: AtomicBool,
    corrupt: AtomicBool,
}

impl LinkFaults {
    /// From now on nothing is sent and nothing is heard, as with a cable that is pulled.
    pub fn sever(&self) {
        self.severed.store(true, Ordering::Relaxed);
    }

    /// Ends what [`sever`](Self::sever) began.
    pub fn heal(&self) {
        self.severed.store(false, Ordering::Relaxed);
    }

    /// Changes a bit of each message of the next round.
    pub fn corrupt_next(&self) {
        self.corrupt.store(true, Ordering::Relaxed);
    }

    pub(super) fn is_severed(&self) -> bool {
        self.severed.load(Ordering::Relaxed)
    }

    pub(super) fn takes_corruption(&self) -> bool {
        self.corrupt.swap(false, Ordering::Relaxed)
    }
}

/// Messages that were refused: of strangers, changed, or echoes.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Refused {
    /// How many.
    pub count: u64,
    /// Why the latest one was.
    pub latest: Option<Refusal>,
}

/// What the channel's thread and its holder share.
#[derive(Debug, Default)]
pub(super) struct Shared {
    verdict: Mutex<Option<Arc<Verdict>>>,
    given: Condvar,
    is_linked: Mutex<bool>,
    linked: Condvar,
    refused: Mutex<Refused>,
    pub(super) faults: Arc<LinkFaults>,
}

impl Shared {
    pub(super) fn verdict(&self) -> MutexGuard<'_, Option<Arc<Verdict>>> {
        self.verdict.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn refuse(&self, refusal: Refusal) {
        let mut refused = self.refused.lock().unwrap_or_else(PoisonError::into_inner);
        *refused = Refused { count: refused.count + 1, latest: Some(refusal) };
    }

    /// Has every linked rank a connection, or had it.
    pub(super) fn link(&self) {
        *self.is_linked.lock().unwrap_or_else(PoisonError::into_inner) = true;
        self.linked.notify_all();
    }

    fn wait_for_links(&self, limit: Duration) {
        let guard = self.is_linked.lock().unwrap_or_else(PoisonError::into_inner);
        // a rank that cannot be reached is for the judge
        drop(self.linked.wait_timeout_while(guard, limit, |is_linked| !*is_linked));
    }

    pub(super) fn give(&self, verdict: Arc<Verdict>) {
        *self.verdict() = Some(verdict);
        self.given.notify_all();
    }
}

/// The control channel of one rank. Dropping it says goodbye.
///
/// # Collective
/// Every rank of the job has one, with the same limits.
///
/// # Examples
/// ```
/// use phalanx_comm::control::{Board, Control, Limits, Port, Secret, Watched};
/// use phalanx_comm::{Rank, WorldSize};
/// use std::sync::Arc;
/// use std::time::Duration;
///
/// let ports = ["node1", "node2"].map(|host| Port::local(host).expect("a port"));
/// let cards = ports.iter().map(|port| port.card().clone()).collect::<Vec<_>>();
/// let (secret, board) = (Secret::random()?, Arc::new(Board::new(WorldSize(2))));
/// let mut ranks = Vec::new();
/// for (rank, port) in ports.into_iter().enumerate() {
///     let watched = Watched::board(Arc::clone(&board));
///     let limits = Limits::within(Duration::from_secs(3));
///     ranks.push(Control::start(port, Rank(rank), cards.clone(), secret.clone(), watched, limits, |_| {})?);
/// }
/// ranks[1].fail("no space left on device");
/// let verdict = ranks[0].wait(Duration::from_secs(2)).expect("a verdict");
/// assert!(verdict.to_string().starts_with("rank 1 on node2 failed: no space left on device (step 0, start"));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug)]
pub struct Control {
    shared: Arc<Shared>,
    commands: mpsc::Sender<Command>,
    thread: Option<JoinHandle<()>>,
}

impl Control {
    /// Starts the channel of `rank`, one of those whose `cards` these are.
    ///
    /// `on_verdict` is called once, on the channel's thread, when the job has to end; the others have been told by then.
    ///
    /// # Errors
    /// [`ControlError::Cards`] when `rank` has no card, [`ControlError::Io`] when there are no threads.
    pub fn start(
        port: Port,
        rank: Rank,
        cards: Vec<Card>,
        secret: Secret,
        watched: Watched,
        limits: Limits,
        on_verdict: impl FnOnce(&Verdict) + Send + 'static,
    ) -> Result<Self, ControlError> {
        if rank.index() >= cards.len() {
            return Err(ControlError::Cards { cards: cards.len(), size: WorldSize(rank.index() + 1) });
        }
        let shared = Arc::new(Shared::default());
        let (commands, inbox) = mpsc::channel();
        let agent =
            Agent::new(port, rank, cards, secret, watched, limits, Arc::clone(&shared), Box::new(on_verdict));
        let thread = std::thread::Builder::new().name("control".to_owned());
        let agent = agent.map_err(ControlError::io("start its threads"))?;
        let thread =
            thread.spawn(move || agent.run(&inbox)).map_err(ControlError::io("start its threads"))?;
        Ok(Self { shared, commands, thread: Some(thread) })
    }

    /// Starts the channel on every rank of a communicator, which carries the addresses and the secret. When it returns, the
    /// ranks are connected: one that dies from then on is noticed at once.
    ///
    /// # Collective
    /// Every rank; blocks.
    ///
    /// # Errors
    /// As [`start`](Self::start); [`ControlError::Comm`] when the ranks cannot tell each other, [`ControlError::Card`]
    /// and [`ControlError::Secret`] when what they tell is unreadable.
    pub fn over(
        comm: &dyn Communicator,
        host: &str,
        watched: Watched,
        limits: Limits,
        on_verdict: impl FnOnce(&Verdict) + Send + 'static,
    ) -> Result<Self, ControlError> {
        let told = |error: ControlError| {
            comm.abort(&error);
            error
        };
        let port = Port::open(host).map_err(told)?;
        let own = Secret::random().map_err(ControlError::io("make a secret")).map_err(told)?;
        let mut secret = own.as_bytes().to_vec();
        comm.broadcast_bytes(Rank::ZERO, &mut secret)?;
        let secret = <[u8; Secret::LEN]>::try_from(secret.as_slice())
            .map_err(|_| ControlError::Secret { got: secret.len(), need: Secret::LEN })?;
        let cards = comm.all_gather_bytes(&port.card().encode())?;
        let read = |(rank, bytes): (usize, &Vec<u8>)| {
            Card::decode(bytes).ok_or(ControlError::Card { from: Rank(rank), got: bytes.len() })
        };
        let cards = cards.iter().enumerate().map(read).collect::<Result<_, _>>()?;
        let secret = Secret::from_bytes(secret);
        let control = Self::start(port, comm.rank(), cards, secret, watched, limits, on_verdict)?;
        control.shared.wait_for_links(limits.silence);
        comm.barrier()?;
        Ok(control)
    }

    /// Why the job has to end, if it has to.
    pub fn verdict(&self) -> Option<Arc<Verdict>> {
        self.shared.verdict().clone()
    }

    /// Waits for a verdict, for `limit` at most.
    pub fn wait(&self, limit: Duration) -> Option<Arc<Verdict>> {
        let guard = self.shared.verdict();
        let waited = self.shared.given.wait_timeout_while(guard, limit, |verdict| verdict.is_none());
        waited.unwrap_or_else(PoisonError::into_inner).0.clone()
    }

    /// Ends the job on all ranks, because of an error of this one.
    pub fn fail(&self, message: &str) {
        // a thread that has ended has given its verdict already
        self.commands.send(Command::Fail(message.into())).unwrap_or_default();
    }

    /// The messages that were refused so far.
    pub fn refused(&self) -> Refused {
        *self.shared.refused.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Faults of the channel of this rank.
    pub fn faults(&self) -> &Arc<LinkFaults> {
        &self.shared.faults
    }
}

impl Drop for Control {
    fn drop(&mut self) {
        self.commands.send(Command::Leave).unwrap_or_default();
        if let Some(thread) = self.thread.take() {
            // a panic there has been told by the thread itself
            thread.join().unwrap_or_default();
        }
    }
}
