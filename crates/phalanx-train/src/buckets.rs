//! The flat gradient: written by the backward pass, reduced bucket by bucket while it still runs.

use crate::chunks::{ChunkGradients, Measure};
use crate::plan::Bucket;
use crate::trace::{Clock, Lane, Phase, Span};
use phalanx_comm::{CommError, Communicator, Pending, ReduceOp, Region};
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
    begun: Vec<bool>,
    ever: Vec<bool>,
    waiting: Vec<usize>,
    next: usize,
    launch: Launch,
    /// What is measured of each bucket before it leaves.
    chunks: ChunkGradients,
    error: Option<CommError>,
    clock: Clock,
}

impl<B: HostBackend> Buckets<B> {
    pub(crate) fn new(
        backend: B,
        comm: Arc<dyn Communicator>,
        params: Params,
        plan: Vec<Bucket>,
        clock: Clock,
    ) -> Self {
        let count = params.iter().count();
        let mut bucket_of = vec![0; count];
        for (b, bucket) in plan.iter().enumerate() {
            bucket.params.iter().for_each(|id| bucket_of[id.index()] = b);
        }
        Buckets {
            backend,
            comm,
            bucket_of,
            parts: Vec::with_capacity(plan.len()),
            pending: Vec::with_capacity(plan.len()),
            begun: vec![false; count],
            ever: vec![false; count],
            waiting: vec![0; plan.len()],
            next: 0,
            launch: Launch::Hold,
            chunks: ChunkGradients::default(),
            error: None,
            clock,
            params,
            plan,
        }
    }

    /// Takes the flat buffer for a new gradient of one chunk or more, the first of `samples` samples.
    pub(crate) fn begin(&mut self, mut flat: Region<f32>, measure: Measure, samples: usize) {
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
    pub(crate) fn finish(&mut self, step: u64, lane: Option<&mut Lane>) -> Result<Region<f32>, CommError> {
        for b in 0..self.plan.len() {
            self.clear_silent(b);
            if b >= self.next {
                self.leave(b);
            }
        }
        if let Some(error) = self.error.take() {
            return Err(error);
        }
        let mut lane = lane;
        for (b, start_ns, pending) in self.pending.drain(..) {
            self.parts[b] = pending.wait()?;
            if let Some(lane) = lane.as_deref_mut() {
                let (end_ns, number) = (self.clock.now(), u32::try_from(b).unwrap_or(u32::MAX));
                lane.push(Span { phase: Phase::Bucket(number), step, start_ns, end_ns });
            }
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
        match self.comm.start_all_reduce(part, ReduceOp::Sum) {
            Ok(pending) => self.pending.push((b, self.clock.now(), pending)),
            Err(error) => self.error = Some(error),
        }
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
        if !self.pending.is_empty()
            && self.error.is_none()
            && let Err(error) = self.comm.progress()
        {
            self.error = Some(error);
        }
    }
}
