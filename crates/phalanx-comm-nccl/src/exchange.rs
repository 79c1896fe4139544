//! Gradients of ranks that have a device each, added up there while the backward pass goes on.

use crate::comm::NcclComm;
use crate::error::NcclError;
use crate::options::NcclOptions;
use crate::span::DeviceSpan;
use cudarc::driver::{CudaEvent, CudaStream, DriverError};
use phalanx_comm::{CommError, Communicator, Dtype, ReduceOp};
use phalanx_cuda::{Cuda, CudaHold};
use phalanx_grad::GradientExchange;
use phalanx_tensor::Memory;
use std::ops::Range;
use std::sync::Arc;

/// The sums of the training loop's buckets over ranks, by NCCL, on a stream of their own.
///
/// A bucket leaves once the compute stream has written it, and what the compute stream does after
/// [`finish`](GradientExchange::finish) comes after all sums; in between, both run at once. The host waits for neither.
/// Memory whose sum has begun is kept until then, whoever drops the buffer.
#[derive(Debug)]
pub struct NcclExchange {
    comm: NcclComm,
    device: Cuda,
    compute: Arc<CudaStream>,
    transfer: Arc<CudaStream>,
    /// One a bucket, recorded when it is written.
    written: Vec<CudaEvent>,
    /// How many of them the step at hand has used.
    used: usize,
    summed: CudaEvent,
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
        let transfer = compute.context().new_stream().map_err(NcclError::driver("making a stream"))?;
        let summed = compute.context().new_event(None).map_err(NcclError::driver("making an event"))?;
        Ok(NcclExchange {
            comm,
            device: device.clone(),
            compute,
            transfer,
            written: Vec::new(),
            used: 0,
            summed,
            held: Vec::new(),
        })
    }

    fn start(&mut self, gradient: &mut <Cuda as Memory>::Buf, part: Range<usize>) -> Result<(), NcclError> {
        let ordered = self.transfer_after_compute();
        self.comm.or_fail(ordered.map_err(NcclError::driver(BETWEEN)))?;
        self.held.push(gradient.hold());
        let span = span(&self.device, gradient, part);
        self.comm.all_reduce_in_place(span, ReduceOp::Sum, &self.transfer)
    }

    fn finish(&mut self) -> Result<(), NcclError> {
        self.used = 0;
        let ordered = self.compute_after_transfer();
        self.comm.or_fail(ordered.map_err(NcclError::driver(BETWEEN)))?;
        self.held.clear();
        Ok(())
    }

    fn transfer_after_compute(&mut self) -> Result<(), DriverError> {
        if self.used == self.written.len() {
            self.written.push(self.compute.context().new_event(None)?);
        }
        let written = &self.written[self.used];
        self.used += 1;
        written.record(&self.compute)?;
        self.transfer.wait(written)
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

/// What a call of the driver failed at.
const BETWEEN: &str = "ordering two streams";

/// A part of a gradient.
///
/// # Panics
/// When the gradient is on another device.
#[track_caller]
fn span(device: &Cuda, gradient: &mut <Cuda as Memory>::Buf, part: Range<usize>) -> DeviceSpan {
    let len = part.len();
    let view = device.view_mut(gradient, part);
    // SAFETY: the memory is the device's, of the context of both streams. The exchange holds it until the compute stream, to
    // which it then belongs again, comes after the transfers, also where it is dropped before they are finished
    #[expect(unsafe_code, reason = "the memory is held")]
    unsafe {
        DeviceSpan::from_raw(view.address(), len, Dtype::F32)
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
