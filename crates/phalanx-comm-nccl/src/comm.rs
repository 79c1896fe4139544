//! A communicator between devices, and what its ranks do together.

use crate::calls::{Collective, Place};
use crate::error::NcclError;
use crate::group::Group;
use crate::handle::Handle;
use crate::hello::meet;
use crate::library::{NcclLibrary, NcclVersion};
use crate::options::NcclOptions;
use crate::peers;
use crate::span::DeviceSpan;
use crate::watchdog::{Flying, Shared, Watchdog};
use cudarc::driver::{CudaContext, CudaStream};
use phalanx_comm::{Call, CommError, Communicator, OpKind, OpRecord, Rank, ReduceOp, WorldSize};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

/// The ranks of a host communicator that have a device each.
///
/// Collectives are enqueued on a stream and return; what the stream is given later comes after them. The host's communicator
/// must live as long, and be used by the same ranks in the same order.
///
/// # Collective
/// All methods that say so: every rank calls them in the same order with the same arguments, but for the numbers. What is
/// compared before NCCL sees it, and when, is said by [`NcclOptions`]: a difference is [`CommError::Mismatch`] on every rank.
/// A rank that fails ends its own communicator and the host's collectives; the others find that within a fifth of a second,
/// and one that is stuck in NCCL within [`NcclOptions::timeout`].
///
/// # Numerics
/// Sums are in an order that NCCL chooses, the same for all ranks of a call.
///
/// Dropped, it aborts what is under way, and does not wait for the other ranks; [`close`](Self::close) does both.
#[derive(Debug)]
pub struct NcclComm {
    host: Arc<dyn Communicator>,
    place: Place,
    version: NcclVersion,
    context: Arc<CudaContext>,
    options: NcclOptions,
    ledger: Mutex<Ledger>,
    shared: Arc<Shared>,
    /// Ends with this.
    _watchdog: Watchdog,
}

/// The calls so far, the same on every rank.
#[derive(Debug, Default)]
struct Ledger {
    seq: u64,
    digest: u64,
}

impl NcclComm {
    /// Makes a communicator of all ranks of `host`, this one with the device of `context`.
    ///
    /// # Collective
    /// Every rank; blocks. Ranks are told of one that has no library before any of them waits for it.
    ///
    /// # Errors
    /// [`NcclError::NoLibrary`], [`NcclError::NoFunction`] and [`NcclError::TooOld`] on a rank without a usable library,
    /// [`CommError::Aborted`] with that reason on the others; [`NcclError::Call`] when NCCL refuses, as for two ranks on
    /// one device; [`NcclError::Timeout`] when a rank does not come.
    pub fn new(
        host: &Arc<dyn Communicator>,
        context: &Arc<CudaContext>,
        options: &NcclOptions,
    ) -> Result<Self, NcclError> {
        let place = Place { rank: host.rank(), size: host.size() };
        let (library, met) = meet(&**host, NcclLibrary::get(), context.ordinal())?;
        let begun = Instant::now();
        let admitted = peers::admit(context, &met.devices)
            .map_err(NcclError::driver("letting the devices of this process reach each other's memory"));
        let made =
            admitted.and_then(|()| make(library, &met.id, place, context, host, begun + options.timeout));
        let made = made.map_err(|error| match error {
            NcclError::Timeout { what, .. } => NcclError::Timeout { what, waited: begun.elapsed() },
            other => other,
        });
        let handle = made.inspect_err(|error| host.abort(&error.on(place.rank)))?;
        let shared = Arc::new(Shared::new(handle, Arc::clone(host), context.ordinal(), options.timeout));
        Ok(NcclComm {
            host: Arc::clone(host),
            place,
            version: library.version(),
            context: Arc::clone(context),
            options: *options,
            ledger: Mutex::default(),
            _watchdog: Watchdog::over(&shared, context),
            shared,
        })
    }

    /// This rank.
    #[must_use]
    pub fn rank(&self) -> Rank {
        self.place.rank
    }

    /// How many ranks there are.
    #[must_use]
    pub fn size(&self) -> WorldSize {
        self.place.size
    }

    /// The version of the library.
    #[must_use]
    pub fn version(&self) -> NcclVersion {
        self.version
    }

    /// The device's context.
    #[must_use]
    pub fn context(&self) -> &Arc<CudaContext> {
        &self.context
    }

    /// Combines the buffers of all ranks, element by element, and leaves the result in each of them.
    ///
    /// # Collective
    /// Every rank; does not block for the device.
    ///
    /// # Errors
    /// Any [`NcclError`] of this rank, [`NcclError::Comm`] with that of another.
    pub fn all_reduce_in_place(
        &self,
        buffer: DeviceSpan,
        op: ReduceOp,
        stream: &CudaStream,
    ) -> Result<(), NcclError> {
        self.submit(&[Collective::all_reduce(buffer, op)], stream)
    }

    /// Combines the buffers of all ranks and gives each rank its own segment of the result: all are of one length.
    ///
    /// # Shapes
    /// `send`: as long as `recv` times the ranks.
    ///
    /// # Collective
    /// As [`all_reduce_in_place`](Self::all_reduce_in_place).
    ///
    /// # Errors
    /// As [`all_reduce_in_place`](Self::all_reduce_in_place); [`CommError::Length`] and [`CommError::Types`] for spans
    /// that do not fit together.
    pub fn reduce_scatter(
        &self,
        send: DeviceSpan,
        recv: DeviceSpan,
        op: ReduceOp,
        stream: &CudaStream,
    ) -> Result<(), NcclError> {
        let built = Collective::reduce_scatter(self.place, send, recv, op);
        self.submit(&[self.or_fail(built)?], stream)
    }

    /// Joins the buffers of all ranks, of one length, in rank order.
    ///
    /// # Shapes
    /// `recv`: as long as `send` times the ranks.
    ///
    /// # Collective
    /// As [`all_reduce_in_place`](Self::all_reduce_in_place).
    ///
    /// # Errors
    /// As [`reduce_scatter`](Self::reduce_scatter).
    pub fn all_gather(
        &self,
        send: DeviceSpan,
        recv: DeviceSpan,
        stream: &CudaStream,
    ) -> Result<(), NcclError> {
        let built = Collective::all_gather(self.place, send, recv);
        self.submit(&[self.or_fail(built)?], stream)
    }

    /// Gives every rank the numbers of `root`.
    ///
    /// # Collective
    /// As [`all_reduce_in_place`](Self::all_reduce_in_place).
    ///
    /// # Errors
    /// As [`all_reduce_in_place`](Self::all_reduce_in_place); [`CommError::Root`] when `root` is not among the ranks.
    pub fn broadcast(&self, buffer: DeviceSpan, root: Rank, stream: &CudaStream) -> Result<(), NcclError> {
        let built = Collective::broadcast(self.place, buffer, root);
        self.submit(&[self.or_fail(built)?], stream)
    }

    /// Sends a segment to every rank and receives one from each, in rank order.
    ///
    /// # Shapes
    /// Counts: one a rank; what a sends to b is what b expects from a. Spans: their sums.
    ///
    /// # Collective
    /// As [`all_reduce_in_place`](Self::all_reduce_in_place).
    ///
    /// # Errors
    /// As [`reduce_scatter`](Self::reduce_scatter); [`CommError::Counts`] when two ranks expect different lengths, where
    /// the call is one of those that are compared.
    pub fn all_to_all(
        &self,
        send: DeviceSpan,
        send_counts: &[usize],
        recv: DeviceSpan,
        recv_counts: &[usize],
        stream: &CudaStream,
    ) -> Result<(), NcclError> {
        let built = Collective::all_to_all(self.place, (send, send_counts), (recv, recv_counts));
        self.submit(&[self.or_fail(built)?], stream)
    }

    /// Collectives that go to the device at once: those that `collect` adds.
    ///
    /// # Collective
    /// As [`all_reduce_in_place`](Self::all_reduce_in_place), with the same collectives in the same order.
    ///
    /// # Errors
    /// As those collectives. If one of them is refused, none is enqueued.
    pub fn grouped(
        &self,
        stream: &CudaStream,
        collect: impl FnOnce(&mut Group) -> Result<(), NcclError>,
    ) -> Result<(), NcclError> {
        let mut group = Group::new(self.place);
        let collected = collect(&mut group).map(|()| group.into_collectives());
        self.submit(&self.or_fail(collected)?, stream)
    }

    /// Whether all is well, as far as this rank knows.
    ///
    /// Does not wait. What was enqueued may fail later: ask once its result was read from the device, and before it is used.
    ///
    /// # Collective
    /// No.
    ///
    /// # Errors
    /// What ended the communicator.
    pub fn check(&self) -> Result<(), NcclError> {
        self.shared.check()
    }

    /// The last collectives of this rank, oldest first.
    #[must_use]
    pub fn flight(&self) -> Vec<OpRecord> {
        self.shared.flight.records()
    }

    /// Ends all collectives of this rank, and those of all ranks on the host, because of `cause`.
    ///
    /// # Collective
    /// No.
    pub fn abort(&self, cause: &(dyn std::error::Error + 'static)) {
        self.shared.fail(NcclError::Comm(CommError::aborted(self.place.rank, cause)));
    }

    /// Waits for what was enqueued, and ends the communicator.
    ///
    /// # Collective
    /// Every rank, after the same collectives; blocks.
    ///
    /// # Errors
    /// As [`check`](Self::check); [`NcclError::Timeout`].
    pub fn close(self) -> Result<(), NcclError> {
        self.shared.close(Instant::now() + self.options.timeout)
    }

    /// An error of this rank ends the collectives of all, who would wait for it.
    pub(crate) fn or_fail<T>(&self, result: Result<T, NcclError>) -> Result<T, NcclError> {
        result.map_err(|error| self.shared.fail(error))
    }

    /// Compares the calls, if they are among those that are compared, and enqueues them.
    fn submit(&self, collectives: &[Collective], stream: &CudaStream) -> Result<(), NcclError> {
        if collectives.is_empty() {
            return Ok(());
        }
        if stream.context().cu_ctx() != self.context.cu_ctx() {
            let (stream, communicator) = (stream.context().ordinal(), self.context.ordinal());
            return self.or_fail(Err(NcclError::OtherDevice { stream, communicator }));
        }
        let mut ledger = self.ledger.lock().unwrap_or_else(PoisonError::into_inner);
        self.check()?;
        let first = ledger.seq + 1;
        for collective in collectives {
            ledger.enter(&collective.call);
            if self.options.compares(ledger.seq) {
                let compared = self.compare(&ledger, collective);
                compared.map_err(|error| self.shared.fail(error.into()))?;
            }
        }
        let commands: Vec<_> = collectives.iter().flat_map(|one| one.commands.iter().copied()).collect();
        for (seq, collective) in (first..).zip(collectives) {
            self.shared.begins(seq, collective.call.op, collective.bytes);
        }
        let flying = Flying::new(first, collectives.len(), collectives[0].call);
        let bound = self.context.bind_to_thread();
        self.or_fail(bound.map_err(NcclError::driver("making the device current")))?;
        self.shared.enqueue(&commands, flying, stream)
    }

    /// Compares a call with those of the other ranks.
    ///
    /// # Collective
    /// Every rank of the host.
    fn compare(&self, ledger: &Ledger, own: &Collective) -> Result<(), CommError> {
        let mut words = own.call.to_words().to_vec();
        words.push(ledger.digest);
        if let Some((sent, expected)) = &own.counts {
            words.extend(sent.iter().chain(expected).map(|n| *n as u64));
        }
        let bytes: Vec<u8> = words.iter().flat_map(|word| word.to_le_bytes()).collect();
        let mut all = Vec::with_capacity(self.place.size.get());
        for (rank, said) in self.host.all_gather_bytes(&bytes)?.iter().enumerate() {
            all.push(Said::read(Rank(rank), said)?);
        }
        let differs = all.iter().any(|said| said.call != own.call || said.digest != ledger.digest);
        if differs {
            let calls = all.iter().enumerate().map(|(rank, said)| (Rank(rank), said.call)).collect();
            return Err(CommError::Mismatch { seq: ledger.seq, calls });
        }
        check_counts(own.call.op, &all)
    }
}

impl Ledger {
    fn enter(&mut self, call: &Call) {
        self.seq += 1;
        let words = call.to_words().map(|word| usize::try_from(word).unwrap_or(usize::MAX));
        let before = usize::try_from(self.digest).unwrap_or(usize::MAX);
        self.digest = phalanx_comm::backend::digest(&[before, words[0], words[1], words[2]]);
    }
}

/// What a rank said about its call.
struct Said {
    call: Call,
    /// Of this call and all before it.
    digest: u64,
    /// What it sends to each, then what it expects of each.
    counts: Vec<usize>,
}

impl Said {
    fn read(from: Rank, said: &[u8]) -> Result<Self, CommError> {
        let malformed = || CommError::Message { from, what: "call", got: said.len(), need: 32 };
        let words: Vec<u64> = said
            .chunks_exact(8)
            .map(|word| word.iter().rev().fold(0, |n, b| n << 8 | u64::from(*b)))
            .collect();
        let [tag, len, layout, digest, counts @ ..] = &words[..] else { return Err(malformed()) };
        let call = Call::from_words([*tag, *len, *layout]).ok_or_else(malformed)?;
        let counts = counts.iter().map(|n| usize::try_from(*n).unwrap_or(usize::MAX)).collect();
        Ok(Said { call, digest: *digest, counts })
    }
}

/// What each rank sends to each other is what that one expects.
fn check_counts(op: OpKind, all: &[Said]) -> Result<(), CommError> {
    let ranks = all.len();
    for (from, sender) in all.iter().enumerate() {
        for (to, receiver) in all.iter().enumerate() {
            let (sent, expected) = (sender.counts.get(to), receiver.counts.get(ranks + from));
            if let (Some(sent), Some(expected)) = (sent, expected)
                && sent != expected
            {
                let (from, to) = (Rank(from), Rank(to));
                return Err(CommError::Counts { op, from, to, sent: *sent, expected: *expected });
            }
        }
    }
    Ok(())
}

/// A communicator of NCCL, ready for use.
fn make(
    library: &'static NcclLibrary,
    id: &[u8; 128],
    place: Place,
    context: &CudaContext,
    host: &Arc<dyn Communicator>,
    deadline: Instant,
) -> Result<Handle, NcclError> {
    context.bind_to_thread().map_err(NcclError::driver("making the device current"))?;
    let mut handle = Handle::begin(library, id, place.rank, place.size)?;
    let mut wait = Wait::new();
    loop {
        let error = match handle.is_settled() {
            Ok(true) => return Ok(handle),
            Ok(false) if Instant::now() < deadline => match host.failure() {
                None => {
                    wait.a_while();
                    continue;
                }
                Some(error) => error.into(),
            },
            Ok(false) => {
                let what = "making a communicator of NCCL".into();
                NcclError::Timeout { what, waited: Duration::ZERO }
            }
            Err(error) => error,
        };
        handle.abort();
        return Err(error);
    }
}

/// Waits that grow: what is settled at once is found at once, and what takes long takes no CPU.
pub(crate) struct Wait(Duration);

impl Wait {
    pub(crate) const fn new() -> Self {
        Wait(Duration::ZERO)
    }

    pub(crate) fn a_while(&mut self) {
        if self.0.is_zero() {
            std::thread::yield_now();
        } else {
            std::thread::sleep(self.0);
        }
        self.0 = (self.0 * 2).clamp(Duration::from_micros(5), Duration::from_millis(2));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use phalanx_comm::Dtype;

    #[test]
    fn the_digest_sees_the_order_of_calls() {
        let sum = Call::new(OpKind::AllReduce).of(Dtype::F32, 4).reducing(ReduceOp::Sum);
        let gather = Call::new(OpKind::AllGather).of(Dtype::F32, 4);
        let digest = |calls: [&Call; 2]| {
            let mut ledger = Ledger::default();
            calls.iter().for_each(|call| ledger.enter(call));
            ledger.digest
        };
        assert_ne!(digest([&sum, &gather]), digest([&gather, &sum]));
        assert_eq!(digest([&sum, &gather]), digest([&sum, &gather]));
    }

    #[test]
    fn counts_are_compared_pair_by_pair() {
        let said = |counts: [usize; 4]| Said {
            call: Call::new(OpKind::AllToAll),
            digest: 0,
            counts: counts.to_vec(),
        };
        // rank 0 sends 1 and 2, rank 1 sends 3 and 4
        assert_eq!(check_counts(OpKind::AllToAll, &[said([1, 2, 1, 3]), said([3, 4, 2, 4])]), Ok(()));
        let error = check_counts(OpKind::AllToAll, &[said([1, 2, 1, 3]), said([3, 4, 9, 4])]).unwrap_err();
        assert_eq!(error.to_string(), "all_to_all: rank 0 sends 2 elements to rank 1, which expects 9");
    }
}
