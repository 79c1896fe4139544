//! A rank's end of a communicator.

use super::hub::Address;
use super::status::Status;
use super::wire::Message;
use std::collections::{BTreeMap, BTreeSet};
use std::ffi::c_void;
use std::io;
use std::net::{Ipv4Addr, Shutdown, TcpStream};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread;

/// What `ncclComm_t` points to.
pub(super) struct Comm {
    /// Which communicator this is the end of.
    key: u64,
    pub(super) rank: u32,
    pub(super) ranks: u32,
    pub(super) device: u32,
    /// Whether calls return before they are done.
    pub(super) blocking: bool,
    socket: Mutex<TcpStream>,
    state: Mutex<State>,
    changed: Condvar,
}

/// How far a communicator has come.
#[derive(Clone, Copy, Default, PartialEq, Eq)]
enum Stage {
    /// Its ranks have not all come.
    #[default]
    Joining,
    Ready,
    Finalizing,
    /// Destroyed or aborted.
    Ended,
}

#[derive(Default)]
struct State {
    stage: Stage,
    error: Option<(Status, String)>,
    results: BTreeMap<u64, Vec<u8>>,
    received: BTreeMap<u64, Vec<u8>>,
    /// Collectives called, and receives.
    seq: u64,
    ticket: u64,
    /// Work that streams have and have not done.
    outstanding: usize,
    /// A call that did not block has not been asked about yet.
    unsettled: bool,
}

/// The communicators that are neither destroyed nor aborted, by address.
static LIVE: Mutex<BTreeSet<usize>> = Mutex::new(BTreeSet::new());

fn live() -> MutexGuard<'static, BTreeSet<usize>> {
    LIVE.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Comm {
    /// Goes to the hub; the other ranks are waited for elsewhere.
    pub(super) fn join(
        address: Address,
        ranks: u32,
        rank: u32,
        device: u32,
        blocking: bool,
    ) -> io::Result<Arc<Self>> {
        let socket = TcpStream::connect((Ipv4Addr::LOCALHOST, address.port))?;
        socket.set_nodelay(true)?;
        let mut reader = socket.try_clone()?;
        let (key, state, changed) = (address.key, Mutex::default(), Condvar::new());
        let comm =
            Arc::new(Comm { key, rank, ranks, device, blocking, socket: Mutex::new(socket), state, changed });
        let process = std::process::id();
        comm.tell(&Message::Join { key: address.key, ranks, rank, process, device });
        let listener = Arc::clone(&comm);
        thread::Builder::new()
            .name(format!("softnccl-{rank}"))
            .spawn(move || while listener.take(Message::read(&mut reader)) {})?;
        Ok(comm)
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Writes to the hub. Where that is gone, the listener finds out.
    pub(super) fn tell(&self, message: &Message) {
        let mut socket = self.socket.lock().unwrap_or_else(PoisonError::into_inner);
        message.write(&mut *socket).unwrap_or_default();
    }

    /// Takes what the hub says; whether there may be more.
    fn take(&self, message: io::Result<Message>) -> bool {
        let mut state = self.lock();
        let goes_on = message.is_ok();
        match message {
            Ok(Message::Ready) if state.stage == Stage::Joining => state.stage = Stage::Ready,
            Ok(Message::Result { seq, bytes }) => drop(state.results.insert(seq, bytes)),
            Ok(Message::Received { ticket, bytes }) => drop(state.received.insert(ticket, bytes)),
            Ok(Message::Broken { status, text }) => {
                state.error.get_or_insert((Status(status), text));
            }
            Ok(_) => {}
            Err(_) if matches!(state.stage, Stage::Finalizing | Stage::Ended) => {}
            Err(_) => {
                let text = "the rank that made the unique id is gone".to_owned();
                state.error.get_or_insert((Status::REMOTE_ERROR, text));
            }
        }
        self.changed.notify_all();
        goes_on
    }

    /// Waits for the other ranks.
    pub(super) fn wait_ready(&self) -> Result<(), (Status, String)> {
        let mut state = self.lock();
        loop {
            if let Some(error) = &state.error {
                return Err(error.clone());
            }
            if state.stage != Stage::Joining {
                return Ok(());
            }
            state = self.changed.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
    }

    /// Whether it may be called now.
    pub(super) fn usable(&self) -> Result<(), (Status, String)> {
        let state = self.lock();
        let misused = |text: &str| Err((Status::INVALID_USAGE, text.to_owned()));
        match (&state.error, state.stage) {
            (Some(error), _) => Err(error.clone()),
            (None, Stage::Ready) => Ok(()),
            (None, Stage::Joining) => misused("the communicator is not ready: its ranks have not all come"),
            (None, Stage::Finalizing | Stage::Ended) => misused("the communicator is finalized"),
        }
    }

    /// What `ncclCommGetAsyncError` tells.
    pub(super) fn async_error(&self) -> (Status, String) {
        let mut state = self.lock();
        if let Some(error) = &state.error {
            return error.clone();
        }
        let unsettled = std::mem::take(&mut state.unsettled);
        let in_progress = match state.stage {
            Stage::Joining => true,
            Stage::Finalizing if state.outstanding > 0 => true,
            _ => unsettled,
        };
        (if in_progress { Status::IN_PROGRESS } else { Status::SUCCESS }, String::new())
    }

    /// What a call that was accepted returns: one that does not block is done once it was asked about.
    pub(super) fn accepted(&self) -> Status {
        if self.blocking {
            return Status::SUCCESS;
        }
        self.lock().unsettled = true;
        Status::IN_PROGRESS
    }

    /// The number of the next collective.
    pub(super) fn next_seq(&self) -> u64 {
        let mut state = self.lock();
        state.seq += 1;
        state.seq
    }

    /// A number for a receive.
    pub(super) fn next_ticket(&self) -> u64 {
        let mut state = self.lock();
        state.ticket += 1;
        state.ticket
    }

    /// Counts work that a stream has got or done.
    pub(super) fn enqueued(&self) {
        self.lock().outstanding += 1;
    }

    /// As [`Self::enqueued`].
    pub(super) fn done(&self) {
        let mut state = self.lock();
        state.outstanding = state.outstanding.saturating_sub(1);
    }

    /// Whether work is to be dropped: nobody will answer.
    pub(super) fn is_over(&self) -> bool {
        let state = self.lock();
        state.stage == Stage::Ended || state.error.is_some()
    }

    pub(super) fn result(&self, seq: u64) -> Option<Vec<u8>> {
        self.lock().results.remove(&seq)
    }

    pub(super) fn received(&self, ticket: u64) -> Option<Vec<u8>> {
        self.lock().received.remove(&ticket)
    }

    pub(super) fn finalize(&self) {
        self.lock().stage = Stage::Finalizing;
    }

    /// Says goodbye to the hub: in peace, or not.
    fn end(&self, message: &Message) {
        self.lock().stage = Stage::Ended;
        self.tell(message);
        let socket = self.socket.lock().unwrap_or_else(PoisonError::into_inner);
        socket.shutdown(Shutdown::Both).unwrap_or_default();
        self.changed.notify_all();
    }

    pub(super) fn abort(&self) {
        self.end(&Message::Abort);
    }

    pub(super) fn destroy(&self) {
        self.end(&Message::Leave);
    }

    /// The address by which C knows it; one count is C's from now on.
    pub(super) fn into_raw(self: Arc<Self>) -> *mut c_void {
        let raw = Arc::into_raw(self).cast_mut().cast::<c_void>();
        live().insert(raw.expose_provenance());
        raw
    }

    /// The communicator at an address; none where there is none, or none any more.
    pub(super) fn at(raw: *mut c_void) -> Option<Arc<Self>> {
        let live = live();
        live.contains(&raw.addr()).then(|| {
            let pointer = raw.cast_const().cast::<Self>();
            // SAFETY: an address that `into_raw` gave and `forget` has not taken back, so that its count still stands
            unsafe {
                Arc::increment_strong_count(pointer);
                Arc::from_raw(pointer)
            }
        })
    }

    /// The devices of the other ranks that are in this process.
    pub(super) fn neighbours(&self) -> Vec<u32> {
        let raws: Vec<usize> = live().iter().copied().collect();
        let comms = raws.into_iter().filter_map(|raw| Self::at(std::ptr::with_exposed_provenance_mut(raw)));
        comms.filter(|comm| comm.key == self.key && comm.rank != self.rank).map(|comm| comm.device).collect()
    }

    /// Takes the address back from C; whether it had one.
    pub(super) fn forget(raw: *mut c_void) -> Option<Arc<Self>> {
        let known = live().remove(&raw.addr());
        // SAFETY: the count that `into_raw` gave, taken back once, as the address is no longer among those that live
        known.then(|| unsafe { Arc::from_raw(raw.cast_const().cast::<Self>()) })
    }
}
