//! Started collectives: a queue a rank, worked off in order by whatever call comes along.

use super::lane::{Lane, Local, reduce_payloads};
use super::post::{Goal, Message};
use super::region::Region;
use super::slot::{DEPTH, INLINE_BYTES, Part};
use super::work::{self, Scratch};
use crate::call::{Call, OpKind, ReduceOp};
use crate::error::CommError;
use crate::packing::{Packing, packed};
use crate::rank::WorldSize;
use crate::tree::{NodeId, ShardTree};
use std::collections::VecDeque;
use std::time::Instant;

/// The memory that a started collective owns until it is complete.
#[derive(Debug)]
pub(crate) enum Held {
    Region(Region<f32>, Packing),
    Nodes { tree: ShardTree, nodes: Vec<(NodeId, Region<f32>)> },
}

#[derive(Debug)]
struct Op {
    seq: u64,
    call: Call,
    held: Held,
    stage: Stage,
    /// Whether nobody waits for the result.
    forgotten: bool,
}

#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
enum Stage {
    Queued,
    Posted,
    Worked,
}

/// Started and not yet collected.
#[derive(Debug, Default)]
pub(super) struct Queue {
    ops: VecDeque<Op>,
    done: Vec<(u64, Held)>,
    scratch: Scratch,
}

impl Queue {
    pub(super) fn is_empty(&self) -> bool {
        self.ops.is_empty()
    }

    fn take(&mut self, seq: u64) -> Option<Held> {
        let at = self.done.iter().position(|(done, _)| *done == seq)?;
        Some(self.done.swap_remove(at).1)
    }
}

/// Without a look at the numbers, which other ranks may be working on.
fn bytes(region: &Region<f32>) -> usize {
    region.len() * size_of::<f32>()
}

impl Op {
    fn bytes(&self) -> usize {
        match &self.held {
            Held::Region(region, _) => bytes(region),
            Held::Nodes { nodes, .. } => nodes.iter().map(|(_, region)| bytes(region)).sum(),
        }
    }

    /// Whether its numbers travel in the slot.
    fn is_inline(&self) -> bool {
        matches!(&self.held, Held::Region(region, _) if bytes(region) <= INLINE_BYTES)
    }

    /// The collective whose work by all ranks makes this one complete; none beyond this rank's own if it is inline.
    fn goal(&self) -> Goal {
        if self.is_inline() { Goal::Posted(self.seq) } else { Goal::Worked(self.seq) }
    }
}

impl Lane {
    /// Starts the sum of `region` over ranks, and returns its number. Never blocks, never touches the numbers.
    pub(crate) fn start_all_reduce(
        &self,
        region: Region<f32>,
        packing: Packing,
        op: ReduceOp,
    ) -> Result<u64, CommError> {
        let len = region.len() * packing.per_word();
        let call = Call::new(OpKind::AllReduce).of(packing.dtype(), len).reducing(op);
        self.start(call, Held::Region(region, packing))
    }

    /// Starts the sum of `nodes` in the order of `tree`, and returns its number.
    pub(crate) fn start_tree_reduce(
        &self,
        tree: ShardTree,
        nodes: Vec<(NodeId, Region<f32>)>,
    ) -> Result<u64, CommError> {
        let (rank, size) = (self.rank(), WorldSize(self.group.size()));
        let call = tree.reduction(rank, size, self.world_rank(), &nodes).map_err(|error| self.fail(error))?;
        self.start(call, Held::Nodes { tree, nodes })
    }

    fn start(&self, call: Call, held: Held) -> Result<u64, CommError> {
        self.group.family.check()?;
        let mut local = self.lock();
        local.last += 1;
        let op = Op { seq: local.last, call, held, stage: Stage::Queued, forgotten: false };
        let seq = op.seq;
        self.group.flight(self.me).begin(seq, call.op, op.bytes(), self.group.family.now());
        self.stats.called(op.bytes());
        local.queue.ops.push_back(op);
        self.post_queued(&mut local);
        Ok(seq)
    }

    /// Does what can be done without waiting, unless another thread of this rank is at it.
    pub(crate) fn progress(&self) -> Result<(), CommError> {
        self.group.family.check()?;
        match self.try_lock() {
            Some(mut local) => self.advance(&mut local),
            None => Ok(()),
        }
    }

    /// Whether collective `seq` is complete.
    pub(crate) fn test(&self, seq: u64) -> Result<bool, CommError> {
        let mut local = self.lock();
        let is_done = |local: &Local| local.queue.done.iter().any(|(done, _)| *done == seq);
        if !is_done(&local) {
            self.advance(&mut local)?;
        }
        Ok(is_done(&local))
    }

    /// The memory of collective `seq`, once it is complete.
    pub(crate) fn wait(&self, seq: u64) -> Result<Held, CommError> {
        let begun = Instant::now();
        let mut local = self.lock();
        let held = loop {
            if let Some(held) = local.queue.take(seq) {
                break held;
            }
            self.step(&mut local)?;
        };
        self.stats.exposed(u64::try_from(begun.elapsed().as_nanos()).unwrap_or(u64::MAX));
        Ok(held)
    }

    /// Gives the result of collective `seq` up; the collective itself goes on.
    pub(crate) fn forget(&self, seq: u64) {
        let mut local = self.lock();
        if local.queue.take(seq).is_none()
            && let Some(op) = local.queue.ops.iter_mut().find(|op| op.seq == seq)
        {
            op.forgotten = true;
        }
    }

    /// Completes all that was started.
    pub(super) fn drain(&self, local: &mut Local) -> Result<(), CommError> {
        while !local.queue.is_empty() {
            self.step(local)?;
        }
        Ok(())
    }

    /// Completes all that was started and is waited for by nobody here.
    pub(crate) fn finish(&self) -> Result<(), CommError> {
        self.drain(&mut self.lock())
    }

    /// Tells the others that this rank takes part in nothing any more, and gets its memory back.
    pub(crate) fn leave(&self) {
        let mut local = self.lock();
        // a failure here has reached the others already
        drop(self.advance(&mut local));
        for op in std::mem::take(&mut local.queue.ops) {
            // what travels inline is copied: nobody knows where it came from
            if op.stage != Stage::Queued && !op.is_inline() {
                self.group.take_back(self.me, op.seq, op.call);
            }
        }
        self.group.leave(self.me);
    }

    /// Advances, then waits until it can advance again.
    fn step(&self, local: &mut Local) -> Result<(), CommError> {
        let before = local.queue.ops.len();
        self.advance(local)?;
        let Some(front) = local.queue.ops.front().filter(|_| local.queue.ops.len() == before) else {
            return Ok(());
        };
        let goals = [
            // the first may become complete,
            Some(front.goal()).filter(|_| front.stage == Stage::Worked),
            // the first that waits for others may be worked on,
            local.queue.ops.iter().find(|op| op.stage == Stage::Posted).map(|op| Goal::Posted(op.seq)),
            // or a slot may become free
            local
                .queue
                .ops
                .iter()
                .find(|op| op.stage == Stage::Queued)
                .map(|op| Goal::Worked(op.seq - DEPTH)),
        ];
        let mut list = [Goal::Posted(0); 3];
        let n = goals.into_iter().flatten().zip(&mut list).map(|(goal, place)| *place = goal).count();
        let (call, seq) = (front.call, front.seq);
        let waited = self.group.wait_any(&list[..n], &call, seq)?;
        self.stats.waited(waited);
        Ok(())
    }

    /// Posts, works on and completes whatever is due, without waiting.
    fn advance(&self, local: &mut Local) -> Result<(), CommError> {
        if local.queue.is_empty() {
            return Ok(());
        }
        self.group.family.check()?;
        self.complete_worked(local);
        self.post_queued(local);
        self.work_posted(local)?;
        self.complete_worked(local);
        Ok(())
    }

    fn post_queued(&self, local: &mut Local) {
        for i in 0..local.queue.ops.len() {
            let Op { seq, stage, .. } = local.queue.ops[i];
            if stage != Stage::Queued {
                continue;
            }
            // the slot's last user may have been worked on by all, and yet have its parts to take back
            if seq - local.queue.ops[0].seq >= DEPTH || !local.slot_is_free(&self.group, seq) {
                break;
            }
            let op = &mut local.queue.ops[i];
            op.stage = Stage::Posted;
            let inline = op.is_inline();
            let message = match &mut op.held {
                Held::Region(region, _) if inline => Message::Inline(bytemuck::cast_slice(&*region)),
                Held::Region(region, _) => Message::Shared([Part::of_mut(region), Part::NONE, Part::NONE]),
                Held::Nodes { nodes, .. } => Message::Shared([Part::of(nodes), Part::NONE, Part::NONE]),
            };
            // SAFETY: the slot is free; the queue owns the memory until all ranks have worked on it, or takes it back
            unsafe { self.group.post(self.me, seq, op.call, &message) };
            self.group.ring(Goal::Posted(seq));
        }
    }

    fn work_posted(&self, local: &mut Local) -> Result<(), CommError> {
        let (me, group) = (self.me, &*self.group);
        let Queue { ops, scratch, .. } = &mut local.queue;
        for op in ops.iter_mut().filter(|op| op.stage == Stage::Posted) {
            if !group.reached(Goal::Posted(op.seq)) {
                break;
            }
            group.agree(op.seq, &op.call)?;
            let (seq, len, inline) = (op.seq, op.call.len, op.is_inline());
            let reduce = op.call.reduce.unwrap_or(ReduceOp::Sum);
            match &mut op.held {
                Held::Region(region, packing) if inline => {
                    packed!(*packing, T => reduce_payloads::<T>(
                        bytemuck::cast_slice_mut(region),
                        group.size(),
                        // SAFETY: all have posted this call, and this rank has not worked on it yet
                        |rank| unsafe { group.payload(rank, seq, len) },
                        reduce,
                    ));
                    group.worked_inline(me, seq);
                }
                Held::Region(_, packing) => group.inside(me, seq, |view| {
                    // SAFETY: part 0 of every rank is a region with `len` numbers of this type, as the call says
                    packed!(*packing, T => unsafe { work::all_reduce::<T>(view, me, len, reduce) });
                    Ok(())
                })?,
                Held::Nodes { tree, .. } => group.inside(me, seq, |view| {
                    // SAFETY: each rank checked that its nodes are those of this tree, `len` floats each
                    unsafe { work::tree_reduce(view, me, len, *tree, scratch) };
                    Ok(())
                })?,
            }
            op.stage = Stage::Worked;
            group.ring(Goal::Worked(seq));
        }
        Ok(())
    }

    fn complete_worked(&self, local: &mut Local) {
        while let Some(op) = local.queue.ops.front() {
            if op.stage != Stage::Worked || !self.group.reached(op.goal()) {
                break;
            }
            if !op.is_inline() {
                self.group.take_back(self.me, op.seq, op.call);
            }
            self.group.flight(self.me).finish(op.seq, self.group.family.now());
            if let Some(op) = local.queue.ops.pop_front()
                && !op.forgotten
            {
                local.queue.done.push((op.seq, op.held));
            }
        }
    }
}
