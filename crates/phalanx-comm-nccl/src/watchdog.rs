//! What watches over a communicator: errors that come later, and collectives that are never complete.

use crate::calls::Command;
use crate::comm::Wait;
use crate::error::NcclError;
use crate::handle::Handle;
use cudarc::driver::{CudaContext, CudaEvent, CudaStream};
use phalanx_comm::{Call, Communicator, FlightRecorder, OpKind};
use std::collections::VecDeque;
use std::fmt;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

/// How often the watchdog looks.
const PERIOD: Duration = Duration::from_millis(50);

/// A communicator as the rank's thread and its watchdog share it.
pub(crate) struct Shared {
    host: Arc<dyn Communicator>,
    device: usize,
    pub(crate) flight: FlightRecorder,
    epoch: Instant,
    timeout: Duration,
    state: Mutex<State>,
    /// Rung when the communicator ends.
    ended: Condvar,
}

impl fmt::Debug for Shared {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Shared").field("rank", &self.host.rank()).finish_non_exhaustive()
    }
}

struct State {
    /// None once it has ended.
    handle: Option<Handle>,
    /// Why it has.
    failure: Option<NcclError>,
    /// What the device has not done yet, oldest first.
    flying: VecDeque<Flying>,
    /// Events for reuse.
    spare: Vec<CudaEvent>,
}

/// Collectives that were enqueued together.
pub(crate) struct Flying {
    first: u64,
    count: usize,
    call: Call,
    since: Instant,
    /// Recorded behind them.
    event: Option<CudaEvent>,
}

impl Flying {
    /// `count` collectives from number `first` on, of which the first is `call`.
    pub(crate) fn new(first: u64, count: usize, call: Call) -> Self {
        Flying { first, count, call, since: Instant::now(), event: None }
    }

    fn is_complete(&self) -> Result<bool, NcclError> {
        let Some(event) = &self.event else { return Ok(false) };
        let what = "asking for the event behind a collective";
        event.try_is_complete().map_err(|cause| NcclError::Driver { device: None, what, cause })
    }

    fn overdue(&self) -> NcclError {
        let what = format!("{} (collective {} of the devices)", self.call, self.first);
        NcclError::Timeout { what: what.into(), waited: self.since.elapsed() }
    }
}

impl Shared {
    pub(crate) fn new(handle: Handle, host: Arc<dyn Communicator>, device: usize, timeout: Duration) -> Self {
        let state = State { handle: Some(handle), failure: None, flying: VecDeque::new(), spare: Vec::new() };
        Shared {
            host,
            device,
            flight: FlightRecorder::new(),
            epoch: Instant::now(),
            timeout,
            state: Mutex::new(state),
            ended: Condvar::new(),
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn now(&self) -> u64 {
        u64::try_from(self.epoch.elapsed().as_nanos()).unwrap_or(u64::MAX)
    }

    /// Notes that a collective begins.
    pub(crate) fn begins(&self, seq: u64, op: OpKind, bytes: usize) {
        self.flight.begin(seq, op, bytes, self.now());
    }

    pub(crate) fn check(&self) -> Result<(), NcclError> {
        self.lock().check()
    }

    /// Enqueues commands, and waits until NCCL has handed them to the stream.
    pub(crate) fn enqueue(
        &self,
        commands: &[Command],
        mut flying: Flying,
        stream: &CudaStream,
    ) -> Result<(), NcclError> {
        let mut wait = Wait::new();
        let mut state = self.lock();
        state.check()?;
        if let Some(handle) = &mut state.handle
            && let Err(error) = handle.enqueue(commands, stream)
        {
            return Err(self.fail_locked(state, error));
        }
        loop {
            state.check()?;
            let settled = state.handle.as_mut().map_or(Ok(true), Handle::is_settled);
            match settled {
                Ok(true) => break,
                Ok(false) if flying.since.elapsed() < self.timeout => {}
                Ok(false) => return Err(self.fail_locked(state, flying.overdue())),
                Err(error) => return Err(self.fail_locked(state, error)),
            }
            drop(state);
            wait.a_while();
            state = self.lock();
        }
        let event = match state.spare.pop() {
            Some(event) => event.record(stream).map(|()| event),
            None => stream.record_event(None),
        };
        match event {
            Ok(event) => {
                flying.event = Some(event);
                state.flying.push_back(flying);
                Ok(())
            }
            Err(cause) => {
                let error = NcclError::driver("recording an event behind a collective")(cause);
                Err(self.fail_locked(state, error))
            }
        }
    }

    /// Ends the communicator and the host's collectives because of `error`, unless they have ended; returns why they have.
    pub(crate) fn fail(&self, error: NcclError) -> NcclError {
        self.fail_locked(self.lock(), error)
    }

    fn fail_locked(&self, mut state: MutexGuard<'_, State>, error: NcclError) -> NcclError {
        if let Some(first) = &state.failure {
            return first.clone();
        }
        let error = error.of(self.device);
        state.failure = Some(error.clone());
        let handle = state.handle.take();
        state.flying.clear();
        drop(state);
        self.ended.notify_all();
        // the other ranks hear of it first: an abort may wait for the device, and frees what neighbours may be reading
        self.host.abort(&error.on(self.host.rank()));
        if let Some(handle) = handle {
            handle.abort();
        }
        error
    }

    /// Waits for what is under way and ends the communicator.
    pub(crate) fn close(&self, deadline: Instant) -> Result<(), NcclError> {
        let mut wait = Wait::new();
        loop {
            let mut state = self.lock();
            state.check()?;
            if let Err(error) = self.land(&mut state) {
                return Err(self.fail_locked(state, error));
            }
            if state.flying.is_empty() {
                break;
            }
            if Instant::now() >= deadline {
                let what = "what is under way when a communicator of NCCL ends".into();
                let error = NcclError::Timeout { what, waited: self.timeout };
                return Err(self.fail_locked(state, error));
            }
            drop(state);
            wait.a_while();
        }
        let mut state = self.lock();
        state.check()?;
        if let Some(handle) = &mut state.handle
            && let Err(error) = handle.finalize()
        {
            return Err(self.fail_locked(state, error));
        }
        loop {
            state.check()?;
            let settled = state.handle.as_mut().map_or(Ok(true), Handle::is_settled);
            match settled {
                Ok(true) => break,
                Ok(false) if Instant::now() < deadline => {}
                Ok(false) => {
                    let what = "ending a communicator of NCCL".into();
                    let error = NcclError::Timeout { what, waited: self.timeout };
                    return Err(self.fail_locked(state, error));
                }
                Err(error) => return Err(self.fail_locked(state, error)),
            }
            drop(state);
            wait.a_while();
            state = self.lock();
        }
        state.failure = Some(NcclError::Closed);
        let ended = state.handle.take().map_or(Ok(()), Handle::destroy);
        drop(state);
        self.ended.notify_all();
        ended
    }

    /// Takes note of what the device has done.
    fn land(&self, state: &mut State) -> Result<(), NcclError> {
        while let Some(oldest) = state.flying.front()
            && oldest.is_complete()?
        {
            let Some(done) = state.flying.pop_front() else { break };
            let now = self.now();
            (done.first..).take(done.count).for_each(|seq| self.flight.finish(seq, now));
            state.spare.extend(done.event);
        }
        Ok(())
    }

    /// What the watchdog does each time; whether it goes on.
    fn watch(&self) -> bool {
        let mut state = self.lock();
        let Some(handle) = &mut state.handle else { return false };
        if let Err(error) = handle.is_settled() {
            self.fail_locked(state, error);
            return false;
        }
        if let Err(error) = self.land(&mut state) {
            self.fail_locked(state, error);
            return false;
        }
        let overdue = state.flying.front().filter(|oldest| oldest.since.elapsed() > self.timeout);
        if let Some(error) = overdue.map(Flying::overdue) {
            self.fail_locked(state, error);
            return false;
        }
        drop(state);
        // another rank's failure, for which the device would wait
        if let Some(error) = self.host.failure() {
            self.fail(error.into());
            return false;
        }
        true
    }
}

impl State {
    fn check(&self) -> Result<(), NcclError> {
        self.failure.clone().map_or(Ok(()), Err)
    }
}

/// The thread that watches over a communicator, until it has ended.
#[derive(Debug)]
pub(crate) struct Watchdog {
    shared: Arc<Shared>,
    thread: Option<JoinHandle<()>>,
}

impl Watchdog {
    /// Watches over a communicator of a device, by its context.
    pub(crate) fn over(shared: &Arc<Shared>, context: &Arc<CudaContext>) -> Self {
        let (watched, context) = (Arc::clone(shared), Arc::clone(context));
        let rank = shared.host.rank().index();
        let watch = move || {
            if let Err(cause) = context.bind_to_thread() {
                watched.fail(NcclError::driver("making a device current")(cause));
            }
            while watched.watch() {
                let state = watched.lock();
                if state.handle.is_some() {
                    drop(watched.ended.wait_timeout(state, PERIOD));
                }
            }
        };
        // without a thread to watch, collectives are as good; only a hang would last
        let thread = thread::Builder::new().name(format!("nccl-watchdog-{rank}")).spawn(watch).ok();
        Watchdog { shared: Arc::clone(shared), thread }
    }
}

impl Drop for Watchdog {
    /// Ends by force what was not closed: the other ranks, for which a peaceful end would wait, may be gone. What the device has
    /// done stays done.
    fn drop(&mut self) {
        let mut state = self.shared.lock();
        if let Some(handle) = state.handle.take() {
            state.failure = Some(NcclError::Closed);
            handle.abort();
        }
        state.flying.clear();
        drop(state);
        self.shared.ended.notify_all();
        if let Some(thread) = self.thread.take() {
            // a panic of that thread has been told, and this one may be in one
            thread.join().unwrap_or_default();
        }
    }
}
