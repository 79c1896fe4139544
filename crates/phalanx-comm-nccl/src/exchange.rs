//! Gradients of ranks that have a device each, added up there while the backward pass goes on.

use crate::comm::NcclComm;
use crate::error::NcclError;
use crate::options::NcclOptions;
use crate::span::DeviceSpan;
use cudarc::driver::{CudaEvent, CudaStream};
use phalanx_comm::{CommError, Communicator, Dtype, ReduceOp};
use phalanx_cuda::Cuda;
use phalanx_grad::GradientExchange;
use phalanx_tensor::Memory;
use std::ops::Range;
use std::sync::Arc;

/// The sums of the training loop's buckets over ranks, by NCCL, on a stream of their own.
///
/// A bucket leaves once the compute stream has written it, and what the compute stream does after
/// [`finish`](GradientExchange::finish) comes after all sums; in between, both run at once. The host waits for neither.
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
        })
    }

    fn start(&mut self, gradient: &mut <Cuda as Memory>::Buf, part: Range<usize>) -> Result<(), NcclError> {
        let between = NcclError::driver("ordering two streams");
        if self.used == self.written.len() {
            self.written.push(self.compute.context().new_event(None).map_err(&between)?);
        }
        let written = &self.written[self.used];
        self.used += 1;
        written.record(&self.compute).map_err(&between)?;
        self.transfer.wait(written).map_err(&between)?;
        let span = span(&self.device, gradient, part);
        self.comm.all_reduce_in_place(span, ReduceOp::Sum, &self.transfer)
    }

    fn finish(&mut self) -> Result<(), NcclError> {
        let between = NcclError::driver("ordering two streams");
        self.used = 0;
        self.summed.record(&self.transfer).map_err(&between)?;
        self.compute.wait(&self.summed).map_err(&between)
    }

    /// The error as the loop takes it.
    fn told<T>(&self, result: Result<T, NcclError>) -> Result<T, CommError> {
        result.map_err(|error| error.on(self.comm.rank()))
    }
}

/// A part of a gradient.
fn span(device: &Cuda, gradient: &mut <Cuda as Memory>::Buf, part: Range<usize>) -> DeviceSpan {
    let len = part.len();
    let view = device.view_mut(gradient, part);
    // SAFETY: the buffer goes back to the device's pool, from which the compute stream alone takes memory, after it has
    // waited for the transfers: `finish` orders them, and without it the exchange ends them before the loop ends
    #[expect(unsafe_code, reason = "who starts an exchange leaves the part alone until it is finished")]
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
