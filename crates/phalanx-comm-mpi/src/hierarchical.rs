//! A reduction in two levels: each rank sums its slice of the buffers of its node, where they lie; exchanges these sums with
//! the ranks of the other nodes that have the same slice; and writes the total into all buffers of its node.
//!
//! A node sends each number once, however many ranks it has. Sums between nodes travel in single precision and are rounded
//! once, at the end.

use crate::error::MpiError;
use crate::ffi::{Exchange, Handle, Layout, Placed, Request};
use crate::nodes::NodeMap;
use crate::segment::Token;
use crate::slices::CHUNK;
use phalanx_comm::backend::{fold_sums, share, spread, sum_buffers};
use phalanx_comm::{Packing, ReduceOp};
use std::ops::Range;

/// What is reduced, and how.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Job {
    pub(crate) packing: Packing,
    pub(crate) op: ReduceOp,
    /// Words of a buffer.
    pub(crate) len: usize,
}

/// A reduction that was started: chunk after chunk of this rank's slice.
#[derive(Debug)]
pub(crate) struct Hierarchical {
    job: Job,
    /// Where the buffers of this node's ranks are, in their order.
    pub(crate) tokens: Vec<Token>,
    column: Option<Handle>,
    nodes: usize,
    node: usize,
    /// The words that this rank sees to, and those of them that are under way.
    slice: Range<usize>,
    chunk: Range<usize>,
    stage: Stage,
    /// Owns the memory while MPI uses it; `None` between two calls.
    flight: Option<Request<Kept>>,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Stage {
    /// The next chunk is due.
    Between,
    /// Sums of nodes are on their way to those that join them.
    Gathering,
    /// Totals are on their way to all nodes.
    Spreading,
}

/// What calls under way use; all of it on the heap.
#[derive(Debug, Default)]
struct Kept {
    /// Of this node: for the whole chunk.
    sums: Vec<f32>,
    sent: Layout,
    /// Of all nodes: for this rank's part of the chunk.
    copies: Vec<f32>,
    received: Layout,
    /// Totals, in words.
    words: Vec<f32>,
    parts: Layout,
}

impl Hierarchical {
    pub(crate) fn new(job: Job, tokens: Vec<Token>, map: &NodeMap, column: Option<Handle>) -> Self {
        let slice = match column {
            Some(_) => share(map.place, map.slices(), job.len, size_of::<f32>()),
            None => 0..0,
        };
        Self {
            job,
            tokens,
            column,
            nodes: map.nodes.len(),
            node: map.node,
            chunk: slice.start..slice.start,
            slice,
            stage: Stage::Between,
            flight: None,
        }
    }

    /// Whether [`step`](Self::step) has something to do; advances MPI.
    pub(crate) fn is_due(&mut self) -> Result<bool, MpiError> {
        self.flight.as_mut().map_or(Ok(true), Request::test)
    }

    /// Does what is [due](Self::is_due); whether this rank's slice is done.
    ///
    /// # Safety
    /// `buffers` are those of all ranks of this node, in their order, of `len` words each; nobody touches this rank's slice of
    /// them before it is done.
    #[expect(unsafe_code, reason = "the fused reductions of phalanx-comm, on mapped memory")]
    pub(crate) unsafe fn step(&mut self, buffers: &[*mut f32]) -> Result<bool, MpiError> {
        let kept = self.flight.take().and_then(Request::take).unwrap_or_default();
        let Some(column) = self.column else { return Ok(true) };
        match self.stage {
            Stage::Gathering => {
                self.join(kept, column)?;
                return Ok(false);
            }
            // SAFETY: this rank's slice of the buffers (contract)
            Stage::Spreading => unsafe { spread(buffers, self.chunk.clone(), &kept.words) },
            Stage::Between => {}
        }
        let start = self.chunk.end;
        if start == self.slice.end {
            return Ok(true);
        }
        self.chunk = start..(start + CHUNK).min(self.slice.end);
        let mut kept = kept;
        kept.sums.resize(self.chunk.len() * self.job.packing.per_word(), 0.0);
        let Job { packing, op, .. } = self.job;
        // SAFETY: as above
        unsafe { sum_buffers(buffers, self.chunk.clone(), packing, op, &mut kept.sums) };
        self.gather(kept, column)?;
        Ok(false)
    }

    /// The words of the chunk that the rank on `node` joins.
    fn part(&self, node: usize) -> Range<usize> {
        share(node, self.nodes, self.chunk.len(), size_of::<f32>())
    }

    /// Sends each node the sums that it joins.
    fn gather(&mut self, mut kept: Kept, column: Handle) -> Result<(), MpiError> {
        let numbers = |words: Range<usize>| words.len() * self.job.packing.per_word();
        let own = numbers(self.part(self.node));
        kept.sent = layout((0..self.nodes).map(|node| numbers(self.part(node))))?;
        kept.received = layout((0..self.nodes).map(|_| own))?;
        kept.copies.resize(kept.received.len(), 0.0);
        self.stage = Stage::Gathering;
        self.flight = Some(column.start_all_to_all(kept, |kept| {
            let unit = size_of::<f32>();
            Exchange {
                send: Placed::of(bytemuck::cast_slice(&kept.sums), &kept.sent, unit),
                recv: Placed::of_mut(bytemuck::cast_slice_mut(&mut kept.copies), &kept.received, unit),
                unit,
            }
        })?);
        Ok(())
    }

    /// Joins the sums of all nodes and sends the total to all of them.
    fn join(&mut self, mut kept: Kept, column: Handle) -> Result<(), MpiError> {
        let Job { packing, op, .. } = self.job;
        let own = self.part(self.node);
        let n = own.len() * packing.per_word();
        kept.words.resize(self.chunk.len(), 0.0);
        let copies = &kept.copies;
        fold_sums(&mut kept.words[own], self.nodes, |node| &copies[node * n..(node + 1) * n], packing, op);
        kept.parts = layout((0..self.nodes).map(|node| self.part(node).len()))?;
        self.stage = Stage::Spreading;
        self.flight = Some(column.start_all_gather_in_place(kept, size_of::<f32>(), |kept| {
            let words = bytemuck::cast_slice_mut(&mut kept.words);
            Placed::of_mut(words, &kept.parts, size_of::<f32>())
        })?);
        Ok(())
    }
}

/// Segments of a chunk, which are few enough for a call.
fn layout(counts: impl IntoIterator<Item = usize>) -> Result<Layout, MpiError> {
    Layout::of(counts).ok_or(MpiError::Memory {
        what: "a chunk for one call of MPI",
        bytes: CHUNK * size_of::<f32>(),
        source: std::io::ErrorKind::InvalidInput.into(),
    })
}
