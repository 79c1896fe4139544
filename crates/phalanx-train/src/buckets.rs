//! The flat gradient: written by the backward pass, reduced bucket by bucket while it still runs.

use crate::chunks::{ChunkGradients, Measure};
use crate::events::GradientTraffic;
use crate::plan::Bucket;
use crate::trace::{Clock, Lane, Phase, Span};
use phalanx_comm::{CommError, Communicator, Pending, ReduceOp, Region};
use phalanx_compress::Compressor;
use phalanx_nn::{GradSink, ParamId, Params};
use phalanx_tensor::Write;
use std::sync::Arc;

use crate::host::HostBackend;

/// What becomes of a bucket when its last gradient is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Launch {
    /// It stays: more tiles come, or the sum is made elsewhere.
    Hold,
    /// It leaves for the other ranks as soon as the buckets before it have.
    Reduce,
}

/// Where a rank collects its gradient.
pub(crate) struct Buckets<B: HostBackend> {
    backend: B,
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

impl<B: HostBackend> Buckets<B> {
    pub(crate) fn new(
        backend: B,
        comm: Arc<dyn Communicator>,
        params: Params,
        plan: Vec<Bucket>,
        clock: Clock,
        mut compressor: Option<Box<dyn Compressor>>,
    ) -> Result<Self, CommError> {
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
            let at = self.plan[b].range.start;
            self.chunks.part(&self.backend, at, &self.parts[b]);
            self.chunks.keep(at, &self.parts[b]);
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
    /// [`Launch::Reduce`]), and the whole buffer comes back.
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
        Ok(flat)
    }

    /// Zeros where a bucket has had no contribution.
    fn clear_silent(&mut self, b: usize) {
        for i in 0..self.plan[b].params.len() {
            let id = self.plan[b].params[i];
            if !self.begun[id.index()] {
                self.slice(id).fill(0.0);
            }
        }
    }

    fn leave(&mut self, b: usize) {
        self.chunks.part(&self.backend, self.plan[b].range.start, &self.parts[b]);
        self.next = b + 1;
        if self.launch == Launch::Hold || self.error.is_some() {
            return;
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

impl<B: HostBackend> GradSink<B> for Buckets<B> {
    fn target(&mut self, param: ParamId) -> (Write, &mut [f32]) {
        let begun = std::mem::replace(&mut self.begun[param.index()], true);
        self.ever[param.index()] = true;
        (if begun { Write::Add } else { Write::Set }, self.slice(param))
    }

    fn tangent(&mut self, param: ParamId) -> (Write, &mut [f32]) {
        // Training carries no direction, so that this is never called; a place of its own would cost a second buffer.
        unreachable!("training carries no direction, asked for parameter {}", param.index())
    }

    fn ready(&mut self, param: ParamId) {
        if self.launch == Launch::Hold {
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
