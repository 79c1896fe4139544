//! The flat gradient: written by the backward pass, reduced bucket by bucket while it still runs.

use crate::chunks::{ChunkGradients, Measure};
use crate::device::Device;
use crate::error::TrainError;
use crate::events::GradientTraffic;
use crate::gradient::DeviceGradient;
use crate::host::TrainBackend;
use crate::plan::Bucket;
use crate::trace::{Clock, Lane, Phase, Span};
use phalanx_comm::{CommError, Communicator, Pending, ReduceOp, Region};
use phalanx_compress::Compressor;
use phalanx_nn::{GradSink, ParamId, Params};
use phalanx_tensor::op::Moments;
use phalanx_tensor::{Cpu, Write};
use std::ops::Range;
use std::sync::Arc;

/// What becomes of a bucket when its last gradient is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Launch {
    /// It stays: more tiles come, or the sum is made elsewhere.
    Hold,
    /// It leaves for the other ranks as soon as the buckets before it have.
    Reduce,
    /// It leaves when the backward pass is over on all ranks.
    Together,
}

/// Where a rank collects its gradient.
pub(crate) struct Buckets<B: TrainBackend> {
    backend: B,
    /// What the backward pass writes, where that is not the flat buffer.
    device: Option<DeviceGradient<B>>,
    comm: Arc<dyn Communicator>,
    params: Params,
    plan: Vec<Bucket>,
    /// The bucket of each parameter.
    bucket_of: Vec<usize>,
    /// The parts of the flat buffer that are here; those under way are empty.
    parts: Vec<Region<f32>>,
    pending: Vec<(usize, u64, Pending)>,
    compressor: Option<Box<dyn Compressor>>,
    /// The buckets that the compressor has, and since when.
    compressing: Vec<(usize, u64)>,
    begun: Vec<bool>,
    ever: Vec<bool>,
    waiting: Vec<usize>,
    next: usize,
    launch: Launch,
    /// What is measured of each bucket before it leaves.
    chunks: ChunkGradients,
    error: Option<CommError>,
    clock: Clock,
    /// The step of the gradient, counted from 1.
    step: u64,
}

impl<B: TrainBackend> Buckets<B> {
    pub(crate) fn new(
        device: Device<B>,
        comm: Arc<dyn Communicator>,
        params: Params,
        plan: Vec<Bucket>,
        clock: Clock,
        mut compressor: Option<Box<dyn Compressor>>,
    ) -> Result<Self, TrainError> {
        let Device { backend, exchange } = device;
        // what is compressed is compressed on the host
        let exchange = exchange.filter(|_| compressor.is_none());
        let device = DeviceGradient::new(&backend, exchange, params.grad_len())?;
        let count = params.iter().count();
        let mut bucket_of = vec![0; count];
        for (b, bucket) in plan.iter().enumerate() {
            bucket.params.iter().for_each(|id| bucket_of[id.index()] = b);
        }
        if let Some(compressor) = &mut compressor {
            let layout: Vec<_> = plan.iter().map(|bucket| bucket.layout(&params)).collect();
            compressor.prepare(&comm, &layout)?;
        }
        Ok(Buckets {
            backend,
            device,
            comm,
            bucket_of,
            parts: Vec::with_capacity(plan.len()),
            pending: Vec::with_capacity(plan.len()),
            compressor,
            compressing: Vec::with_capacity(plan.len()),
            begun: vec![false; count],
            ever: vec![false; count],
            waiting: vec![0; plan.len()],
            next: 0,
            launch: Launch::Hold,
            chunks: ChunkGradients::default(),
            error: None,
            clock,
            step: 0,
            params,
            plan,
        })
    }

    /// Takes the flat buffer for the gradient of a step, of one chunk or more, the first of `samples` samples.
    pub(crate) fn begin(&mut self, step: u64, mut flat: Region<f32>, measure: Measure, samples: usize) {
        self.step = step;
        if let Some(device) = &mut self.device {
            device.begin();
        }
        self.chunks.begin(measure, flat.len());
        self.chunks.open(samples);
        self.parts.clear();
        for bucket in &self.plan {
            let rest = flat.split_off(bucket.range.len());
            self.parts.push(std::mem::replace(&mut flat, rest));
        }
        self.begun.fill(false);
        for (waiting, bucket) in self.waiting.iter_mut().zip(&self.plan) {
            *waiting = bucket.params.len();
        }
        (self.next, self.launch) = (0, Launch::Hold);
    }

    /// Whether sums over ranks are made on the device.
    pub(crate) fn exchanges(&self) -> bool {
        self.device.as_ref().is_some_and(DeviceGradient::exchanges)
    }

    /// From the next tile on, finished buckets do this.
    pub(crate) fn set_launch(&mut self, launch: Launch) {
        self.launch = launch;
    }

    /// What comes from now on belongs to the next chunk, of `samples` samples.
    pub(crate) fn next_chunk(&mut self, samples: usize) {
        if !self.chunks.is_measured() {
            return;
        }
        for b in 0..self.plan.len() {
            self.clear_silent(b);
            self.measure(b);
            self.chunks.keep(self.plan[b].range.start, &self.parts[b]);
        }
        self.chunks.open(samples);
    }

    /// The chunks of the gradient, as they were before the reduction.
    pub(crate) fn chunks(&self) -> &ChunkGradients {
        &self.chunks
    }

    /// Names of parameters that never had a gradient.
    pub(crate) fn without_gradient(&self) -> Vec<String> {
        let silent = self.params.iter().filter(|(id, spec, _)| spec.trainable && !self.ever[id.index()]);
        silent.map(|(_, spec, _)| spec.name.clone()).collect()
    }

    /// Ends the gradient: what had no contribution counts as zero, what has not left leaves (with
    /// [`Launch::Reduce`]), and the whole buffer comes back. On a device, [`Buckets::view`] has the numbers, and the
    /// buffer once [`Buckets::sync_host`] has brought them there.
    pub(crate) fn finish(&mut self, lane: Option<&mut Lane>) -> Result<Region<f32>, CommError> {
        for b in 0..self.plan.len() {
            self.clear_silent(b);
            if b >= self.next {
                self.leave(b);
            }
        }
        if let Some(error) = self.error.take() {
            return Err(error);
        }
        let travelled = !(self.pending.is_empty() && self.compressing.is_empty());
        let (mut lane, step, clock) = (lane, self.step, self.clock);
        let mut record = |b: usize, start_ns| {
            if let Some(lane) = lane.as_deref_mut() {
                let (end_ns, number) = (clock.now(), u32::try_from(b).unwrap_or(u32::MAX));
                lane.push(Span { phase: Phase::Bucket(number), step, start_ns, end_ns });
            }
        };
        for (b, start_ns, pending) in self.pending.drain(..) {
            self.parts[b] = pending.wait()?;
            record(b, start_ns);
        }
        if let (Some(compressor), false) = (&mut self.compressor, self.compressing.is_empty()) {
            compressor.finish(&mut self.parts)?;
            self.compressing.drain(..).for_each(|(b, start_ns)| record(b, start_ns));
        }
        let mut parts = self.parts.drain(..);
        let mut flat = parts.next().unwrap_or_else(|| Region::zeroed(0));
        for part in parts {
            // Neighbours of one allocation always join.
            if flat.try_unsplit(part).is_err() {
                unreachable!("buckets are neighbours");
            }
        }
        if let Some(device) = &mut self.device {
            device.finish()?;
            if travelled {
                device.written_on_host();
                device.sync_device(&flat);
            }
        }
        Ok(flat)
    }

    /// The gradient that [`Buckets::finish`] gave, as the backend takes it.
    pub(crate) fn view<'v>(&'v self, flat: &'v Region<f32>) -> B::View<'v> {
        let whole = 0..flat.len();
        match &self.device {
            Some(device) => device.view(whole),
            None => host_view(&self.backend, flat),
        }
    }

    /// Sums over a part of it.
    pub(crate) fn moments(&self, flat: &Region<f32>, part: Range<usize>) -> Moments {
        match &self.device {
            Some(device) => self.backend.moments(device.view(part)),
            None => self.backend.moments(host_view(&self.backend, &flat[part])),
        }
    }

    /// Brings it to the host, where it is not there already.
    pub(crate) fn sync_host(&mut self, flat: &mut Region<f32>) {
        if let Some(device) = &mut self.device {
            device.sync_host(flat);
        }
    }

    /// The buffer was written on the host: that is the gradient from now on.
    pub(crate) fn replaced_by(&mut self, flat: &Region<f32>) {
        if let Some(device) = &mut self.device {
            device.written_on_host();
            device.sync_device(flat);
        }
    }

    /// Whether what was read from the device since the last call may be used.
    pub(crate) fn check(&self) -> Result<(), TrainError> {
        self.device.as_ref().map_or(Ok(()), DeviceGradient::check)
    }

    /// Zeros where a bucket has had no contribution.
    fn clear_silent(&mut self, b: usize) {
        for i in 0..self.plan[b].params.len() {
            let id = self.plan[b].params[i];
            if !self.begun[id.index()] {
                let span = self.params.span(id);
                match &mut self.device {
                    Some(device) => device.clear(span.offset..span.offset + span.len),
                    None => self.slice(id).fill(0.0),
                }
            }
        }
    }

    /// Looks at a bucket before it leaves, where the step asks for it.
    fn measure(&mut self, b: usize) {
        if self.chunks.is_measured() {
            self.bring(b);
            self.chunks.part(&Cpu::<f32>::new(), self.plan[b].range.start, &self.parts[b]);
        }
    }

    /// The numbers of a bucket, in its part of the flat buffer.
    fn bring(&mut self, b: usize) {
        if let Some(device) = &self.device {
            device.download(self.plan[b].range.clone(), &mut self.parts[b]);
        }
    }

    fn leave(&mut self, b: usize) {
        self.measure(b);
        self.next = b + 1;
        if self.launch != Launch::Reduce || self.error.is_some() {
            return;
        }
        if let Some(device) = &mut self.device {
            if device.exchanges() {
                self.error = device.start(self.plan[b].range.clone()).err();
                return;
            }
            if self.comm.size().get() == 1 && self.compressor.is_none() {
                return;
            }
            self.bring(b);
        }
        let part = std::mem::replace(&mut self.parts[b], Region::zeroed(0));
        let started = match &mut self.compressor {
            None => self
                .comm
                .start_all_reduce(part, ReduceOp::Sum)
                .map(|pending| self.pending.push((b, self.clock.now(), pending))),
            Some(compressor) => {
                self.compressing.push((b, self.clock.now()));
                compressor.start(self.step, b, part)
            }
        };
        self.error = started.err();
    }

    pub(crate) fn compressor(&self) -> Option<&dyn Compressor> {
        self.compressor.as_deref()
    }

    pub(crate) fn compressor_mut(&mut self) -> Option<&mut (dyn Compressor + 'static)> {
        self.compressor.as_deref_mut()
    }

    /// What the last gradient sent, and what it would have sent as it is; none where it travels so.
    pub(crate) fn traffic(&self) -> Option<GradientTraffic> {
        let plain = self.plan.iter().map(|bucket| 4 * bucket.range.len() as u64).sum();
        let sent = self.compressor.as_ref()?.sent_bytes();
        Some(GradientTraffic { sent_bytes: sent, plain_bytes: plain })
    }

    fn slice(&mut self, id: ParamId) -> &mut [f32] {
        let b = self.bucket_of[id.index()];
        let span = self.params.span(id);
        let at = span.offset - self.plan[b].range.start;
        &mut self.parts[b][at..at + span.len]
    }
}

/// A backend without memory of its own takes the host's.
fn host_view<'v, B: TrainBackend>(backend: &B, host: &'v [f32]) -> B::View<'v> {
    let Some(view) = backend.host_view(host) else { unreachable!("{} has its own memory", backend.name()) };
    view
}

impl<B: TrainBackend> GradSink<B> for Buckets<B> {
    fn target(&mut self, param: ParamId) -> (Write, B::ViewMut<'_>) {
        let begun = std::mem::replace(&mut self.begun[param.index()], true);
        self.ever[param.index()] = true;
        let write = if begun { Write::Add } else { Write::Set };
        let span = self.params.span(param);
        let view = match &mut self.device {
            Some(device) => device.target(span.offset..span.offset + span.len),
            None => {
                let b = self.bucket_of[param.index()];
                let at = span.offset - self.plan[b].range.start;
                let Some(view) = self.backend.host_view_mut(&mut self.parts[b][at..at + span.len]) else {
                    unreachable!("{} has its own memory", self.backend.name())
                };
                view
            }
        };
        (write, view)
    }

    fn tangent(&mut self, param: ParamId) -> (Write, B::ViewMut<'_>) {
        // Training carries no direction, so that this is never called; a place of its own would cost a second buffer.
        unreachable!("training carries no direction, asked for parameter {}", param.index())
    }

    fn ready(&mut self, param: ParamId) {
        if self.launch != Launch::Reduce {
            return;
        }
        let b = self.bucket_of[param.index()];
        self.waiting[b] -= 1;
        while self.next < self.plan.len() && self.waiting[self.next] == 0 {
            self.leave(self.next);
        }
    }

    fn breathe(&mut self) {
        if !(self.pending.is_empty() && self.compressing.is_empty())
            && self.error.is_none()
            && let Err(error) = self.comm.progress()
        {
            self.error = Some(error);
        }
    }
}
