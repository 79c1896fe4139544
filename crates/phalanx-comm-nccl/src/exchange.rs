//! Gradients of ranks that have a device each, added up there while the backward pass goes on.

use crate::comm::NcclComm;
use crate::error::NcclError;
use crate::options::NcclOptions;
use crate::span::DeviceSpan;
use cudarc::driver::{CudaContext, CudaEvent, CudaStream, DriverError, result};
use phalanx_comm::{CommError, Communicator, Dtype, OpRecord, ReduceOp};
use phalanx_cuda::{Cuda, CudaHold};
use phalanx_grad::GradientExchange;
use phalanx_tensor::Memory;
use std::ops::Range;
use std::sync::Arc;

/// The sums of the training loop's buckets over ranks, by NCCL, on a stream of their own.
///
/// Buckets leave once the compute stream has written them, neighbours together until they have
/// [`NcclOptions::send_bytes`], and what the compute stream does after
/// [`finish`](GradientExchange::finish) comes after all sums; in between, both run at once. The host waits for neither.
/// Memory whose sum has begun is kept until then, whoever drops the buffer.
#[derive(Debug)]
pub struct NcclExchange {
    comm: NcclComm,
    device: Cuda,
    compute: Arc<CudaStream>,
    transfer: Arc<CudaStream>,
    /// One a call of NCCL, recorded when what it sends is written.
    written: Vec<CudaEvent>,
    /// How many of them the step at hand has used.
    used: usize,
    summed: CudaEvent,
    send_bytes: usize,
    /// What is written and waits for its neighbours.
    waiting: Option<Waiting>,
    /// The memory of the sums that have begun: given back when the compute stream comes after them.
    held: Vec<CudaHold>,
}

impl NcclExchange {
    /// For gradients on `device`, with the other ranks of `host`.
    ///
    /// # Collective
    /// Every rank, as [`NcclComm::new`].
    ///
    /// # Errors
    /// As [`NcclComm::new`]; [`NcclError::Driver`] when the device gives no stream or event.
    pub fn new(
        host: &Arc<dyn Communicator>,
        device: &Cuda,
        options: &NcclOptions,
    ) -> Result<Self, NcclError> {
        let compute = Arc::clone(device.stream());
        let comm = NcclComm::new(host, compute.context(), options)?;
        let transfer = urgent(compute.context()).map_err(NcclError::driver("making a stream"))?;
        let summed = compute.context().new_event(None).map_err(NcclError::driver("making an event"))?;
        Ok(NcclExchange {
            comm,
            device: device.clone(),
            compute,
            transfer,
            written: Vec::new(),
            used: 0,
            summed,
            send_bytes: options.send_bytes,
            waiting: None,
            held: Vec::new(),
        })
    }

    /// The last collectives of this rank, oldest first.
    #[must_use]
    pub fn flight(&self) -> Vec<OpRecord> {
        self.comm.flight()
    }

    fn start(&mut self, gradient: &mut <Cuda as Memory>::Buf, part: Range<usize>) -> Result<(), NcclError> {
        let whole = span(&self.device, gradient);
        let joined = self.waiting.as_ref().and_then(|waiting| waiting.joined(whole, &part));
        if joined.is_none() {
            self.send()?;
        }
        let noted = self.note_written();
        self.comm.or_fail(noted.map_err(NcclError::driver(BETWEEN)))?;
        self.held.push(gradient.hold());
        let part = joined.unwrap_or(part);
        let is_enough = part.len() * Dtype::F32.bytes() >= self.send_bytes;
        self.waiting = Some(Waiting { whole, part });
        if is_enough { self.send() } else { Ok(()) }
    }

    /// Gives NCCL what waits for its neighbours.
    fn send(&mut self) -> Result<(), NcclError> {
        let Some(Waiting { whole, part }) = self.waiting.take() else { return Ok(()) };
        let ordered = self.transfer.wait(&self.written[self.used]);
        self.used += 1;
        self.comm.or_fail(ordered.map_err(NcclError::driver(BETWEEN)))?;
        self.comm.all_reduce_in_place(whole.part(part), ReduceOp::Sum, &self.transfer)
    }

    fn finish(&mut self) -> Result<(), NcclError> {
        self.send()?;
        self.used = 0;
        let ordered = self.compute_after_transfer();
        self.comm.or_fail(ordered.map_err(NcclError::driver(BETWEEN)))?;
        self.held.clear();
        Ok(())
    }

    /// What is sent next is written when the compute stream has come here.
    fn note_written(&mut self) -> Result<(), DriverError> {
        if self.used == self.written.len() {
            self.written.push(self.compute.context().new_event(None)?);
        }
        self.written[self.used].record(&self.compute)
    }

    fn compute_after_transfer(&self) -> Result<(), DriverError> {
        self.summed.record(&self.transfer)?;
        self.compute.wait(&self.summed)
    }

    /// The error as the loop takes it.
    fn told<T>(&self, result: Result<T, NcclError>) -> Result<T, CommError> {
        result.map_err(|error| error.on(self.comm.rank()))
    }
}

/// A part of a gradient that is written and not sent.
#[derive(Debug)]
struct Waiting {
    whole: DeviceSpan,
    part: Range<usize>,
}

impl Waiting {
    /// The part and its neighbour, where both are of one gradient.
    fn joined(&self, whole: DeviceSpan, next: &Range<usize>) -> Option<Range<usize>> {
        let is_neighbour = self.part.end == next.start || next.end == self.part.start;
        (self.whole == whole && is_neighbour)
            .then(|| self.part.start.min(next.start)..self.part.end.max(next.end))
    }
}

/// A stream whose few blocks go before the many of the compute stream.
fn urgent(context: &Arc<CudaContext>) -> Result<Arc<CudaStream>, DriverError> {
    context.bind_to_thread()?;
    let (_least, greatest) = result::stream::get_priority_range()?;
    context.new_stream_with_priority(greatest)
}

/// What a call of the driver failed at.
const BETWEEN: &str = "ordering two streams";

/// A gradient.
///
/// # Panics
/// When it is on another device.
#[track_caller]
fn span(device: &Cuda, gradient: &mut <Cuda as Memory>::Buf) -> DeviceSpan {
    let len = gradient.len();
    let address = device.address(&device.view_mut(gradient, 0..len));
    // SAFETY: the memory is the device's, of the context of both streams. The exchange holds it until the compute stream, to
    // which it then belongs again, comes after the transfers, also where it is dropped before they are finished
    #[expect(unsafe_code, reason = "the memory is held")]
    unsafe {
        DeviceSpan::from_raw(address, len, Dtype::F32)
    }
}

impl GradientExchange<Cuda> for NcclExchange {
    fn start(&mut self, gradient: &mut <Cuda as Memory>::Buf, part: Range<usize>) -> Result<(), CommError> {
        let started = NcclExchange::start(self, gradient, part);
        self.told(started)
    }

    fn finish(&mut self) -> Result<(), CommError> {
        let finished = NcclExchange::finish(self);
        self.told(finished)
    }

    fn check(&self) -> Result<(), CommError> {
        self.told(self.comm.check())
    }
}

impl Drop for NcclExchange {
    /// What is under way ends with the communicator, and before the compute stream uses its memory again.
    fn drop(&mut self) {
        // a driver that refuses runs nothing any more
        self.compute_after_transfer().unwrap_or_default();
    }
}
