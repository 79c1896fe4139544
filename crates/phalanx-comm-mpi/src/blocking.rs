//! Blocking collectives.

use crate::announce::{Announcement, Heard, PAYLOAD_BYTES};
use crate::ffi::{Message, Request};
use crate::lane::{Lane, Local, tag};
use crate::slices::Among;
use bytemuck::NoUninit;
use phalanx_comm::backend::{self, Arithmetic, fold_ranks};
use phalanx_comm::{Call, CommError, Element, OpKind, Rank, ReduceOp};
use std::ops::Range;
use std::time::Duration;

/// Bytes that are exchanged with each rank at a time: memory for them is bounded, and no call counts beyond 32 bits.
const PIECE_BYTES: usize = 4 << 20;
/// Bytes of a buffer that are reduced at a time.
const CHUNK_BYTES: usize = 1 << 20;

impl Lane {
    /// One blocking collective: announces `call` with `payload`, waits for all, and runs `then` if all called the same.
    fn meet<R>(
        &self,
        call: Call,
        bytes: usize,
        payload: &[u8],
        then: impl FnOnce(&dyn Heard, &mut Data<'_>) -> Result<R, CommError>,
    ) -> Result<R, CommError> {
        self.family.check()?;
        let mut guard = self.lock();
        let local = &mut *guard;
        let seq = self.next_after_drain(local)?;
        self.wait_for_slot(&call, seq)?;
        let begun = self.family.now();
        let mut announced = self.announce(&Announcement::new(seq, &call, bytes, begun, payload))?;
        self.note(seq, call.op, bytes, begun);
        let late = |rank| self.is_late(rank, seq);
        let waited = self.wait_until(&call, seq, &mut || self.is_heard(&mut announced, seq), &late)?;
        if self.board.is_none() && self.size() > 1 {
            // who announced long ago may have given up since, and would not come to the calls below
            self.family.listen()?;
        }
        let Local { stage, room, .. } = local;
        let (mut stage, mut room) = (*stage, std::mem::take(room));
        let mut data = Data { call, seq, stage: &mut stage, room: &mut room };
        let result = self.with_heard(&announced, seq, &call, |heard| then(heard, &mut data));
        (local.stage, local.room) = (stage, room);
        let result = result?;
        self.recycle(announced);
        if let Some(board) = &self.board {
            board.done(seq);
        }
        self.end(seq, begun, waited);
        Ok(result)
    }

    /// Completes all that was started; the number of the collective that comes then.
    fn next_after_drain(&self, local: &mut Local) -> Result<u64, CommError> {
        loop {
            let mut inbox = self.inbox();
            if local.queue.is_empty() && inbox.ops.is_empty() {
                return Ok(inbox.next_seq());
            }
            drop(inbox);
            self.drain(local)?;
        }
    }

    pub(crate) fn among(&self) -> Among<'_> {
        Among { data: self.data, me: self.me, size: self.members.len(), nodes: &self.map.nodes }
    }

    pub(crate) fn barrier(&self) -> Result<(), CommError> {
        self.meet(Call::new(OpKind::Barrier), 0, &[], |_, _| Ok(()))
    }

    pub(crate) fn all_reduce<T: Element>(&self, buf: &mut [T], op: ReduceOp) -> Result<(), CommError> {
        let call = Call::new(OpKind::AllReduce).of(T::DTYPE, buf.len()).reducing(op);
        let bytes = size_of_val(buf);
        if self.size() == 1 {
            return self.meet(call, bytes, &[], |_, _| Ok(()));
        }
        if bytes <= PAYLOAD_BYTES {
            let mut payload = [0; PAYLOAD_BYTES];
            payload[..bytes].copy_from_slice(bytemuck::cast_slice(buf));
            return self.meet(call, bytes, &payload[..bytes], |heard, _| {
                self.reduce_inline(heard, buf, op);
                Ok(())
            });
        }
        if bytes <= self.inline_bytes() {
            let payload = bytemuck::cast_slice(buf).to_vec();
            return self.meet(call, bytes, &payload, |heard, _| {
                // their own messages, aligned as words are
                let part = |rank| heard.payload_bytes(rank).map_or(&[][..], |numbers| &numbers[..bytes]);
                fold_ranks(buf, self.size(), |rank| bytemuck::cast_slice(part(rank)), op);
                Ok(())
            });
        }
        self.meet(call, bytes, &[], |_, data| match &self.stages {
            Some(_) => self.reduce_staged(data, buf, op),
            None => self.reduce_between(data, buf, op),
        })
    }

    /// Reduces the numbers that travelled in the announcements.
    #[inline]
    pub(crate) fn reduce_inline<T: Element>(&self, heard: &dyn Heard, buf: &mut [T], op: ReduceOp) {
        let mut acc = [<T as Arithmetic>::Acc::default(); PAYLOAD_BYTES / 2];
        let acc = &mut acc[..buf.len()];
        heard.copy_payload(0, bytemuck::cast_slice_mut(buf));
        T::load(acc, buf);
        for rank in 1..self.size() {
            heard.copy_payload(rank, bytemuck::cast_slice_mut(buf));
            T::fold(acc, buf, op);
        }
        T::store(buf, acc);
    }

    /// Reduces a buffer that is not shared by way of memory that is, piece by piece.
    #[expect(unsafe_code, reason = "the fused reduction of phalanx-comm, on staging memory")]
    fn reduce_staged<T: Element>(
        &self,
        data: &mut Data<'_>,
        buf: &mut [T],
        op: ReduceOp,
    ) -> Result<(), CommError> {
        let (Some(stages), Some(board)) = (&self.stages, &self.board) else {
            return Ok(());
        };
        let starts: Vec<*mut T> = (0..self.size()).map(|rank| stages.start(rank)).collect();
        for piece in buf.chunks_mut(stages.bytes() / size_of::<T>()) {
            let mine = backend::share(self.me, self.size(), piece.len(), size_of::<T>());
            // SAFETY: the others touch this stage only between the two points below, and the last piece is over
            unsafe { stages.put(self.me, bytemuck::cast_slice(piece)) };
            self.come_to_stage(board, data)?;
            // SAFETY: all stages are filled, and no other rank has this share
            unsafe { backend::all_reduce(&starts[..], mine, op) };
            self.come_to_stage(board, data)?;
            // SAFETY: all have written their shares, and write again after the next point only
            unsafe { stages.get(self.me, bytemuck::cast_slice_mut(piece)) };
        }
        Ok(())
    }

    /// Reduces a buffer by messages, chunk by chunk, in rank order: each rank its slice of it.
    fn reduce_between<T: Element>(
        &self,
        data: &mut Data<'_>,
        buf: &mut [T],
        op: ReduceOp,
    ) -> Result<(), CommError> {
        let (size, unit) = (self.size(), size_of::<T>());
        for chunk in buf.chunks_mut(CHUNK_BYTES / unit) {
            let len = chunk.len();
            let part = |rank| backend::share(rank, size, len, unit);
            let bytes = |rank| part(rank).start * unit..part(rank).end * unit;
            let (mine, n) = (part(self.me), part(self.me).len());
            let slices: Vec<_> = (0..size).map(bytes).collect();
            let copies: Vec<_> = (0..size).map(|rank| rank * n * unit..(rank + 1) * n * unit).collect();
            let received = self.exchange(data, &[chunk], &slices, &copies)?;
            let copies: &[T] = bytemuck::cast_slice(received);
            fold_ranks(&mut chunk[mine.clone()], size, |rank| &copies[rank * n..(rank + 1) * n], op);
            let received = self.exchange(data, &[&chunk[mine]], &vec![0..n * unit; size], &slices)?;
            chunk.copy_from_slice(bytemuck::cast_slice(received));
        }
        Ok(())
    }

    /// Sends the bytes `to[rank]` of the slices, one after the other, to each rank, receives those of each where `from[rank]`
    /// says, and returns them.
    ///
    /// All of it lies in memory of this rank's own: one that waits in vain leaves it to MPI, and fails.
    fn exchange<'a, T: NoUninit>(
        &self,
        data: &'a mut Data<'_>,
        slices: &[&[T]],
        to: &[Range<usize>],
        from: &[Range<usize>],
    ) -> Result<&'a [u8], CommError> {
        let Room { mut sent, mut received } = std::mem::take(data.room);
        put(&mut sent, slices);
        let end = from.iter().map(|range| range.end).max().unwrap_or(0);
        received.resize(received.len().max(end.div_ceil(8)), 0);
        let own = &bytemuck::cast_slice::<_, u8>(&sent)[to[self.me].clone()];
        bytemuck::cast_slice_mut::<_, u8>(&mut received)[from[self.me].clone()].copy_from_slice(own);
        // received first, so that nothing arrives unexpected that is expected
        let others = |ranges: &[Range<usize>], is_sent: bool| {
            let others = ranges.iter().cloned().enumerate();
            others
                .filter(|(rank, range)| *rank != self.me && !range.is_empty())
                .map(move |(rank, range)| (rank, range, is_sent))
                .collect::<Vec<_>>()
        };
        let messages = [others(from, false), others(to, true)].concat();
        let room = Room { sent, received };
        let count = messages.len();
        let started = self.data.start_messages(room, tag(data.seq), count, move |room, i| {
            let (rank, range, is_sent) = messages[i].clone();
            match is_sent {
                true => Message::To(rank, &bytemuck::cast_slice(&room.sent)[range]),
                false => Message::From(rank, &mut bytemuck::cast_slice_mut(&mut room.received)[range]),
            }
        });
        let started = started.map_err(|error| self.broken(&error))?;
        *data.room = self.complete(data, started)?;
        Ok(&bytemuck::cast_slice(&data.room.received)[..end])
    }

    /// Waits for what was started, and returns its memory.
    fn complete<K>(&self, data: &Data<'_>, mut request: Request<K>) -> Result<K, CommError> {
        let late = |rank| rank != self.me && self.is_late_in_work(rank, data.seq);
        let mut ready = || request.test().map_err(|error| self.broken(&error));
        self.wait_until(&data.call, data.seq, &mut ready, &late)?;
        match request.take() {
            Some(kept) => Ok(kept),
            None => unreachable!("looked at until it was complete"),
        }
    }

    /// Waits until all ranks have come to the next point of a staged reduction.
    fn come_to_stage(&self, board: &crate::board::Board, data: &mut Data<'_>) -> Result<Duration, CommError> {
        *data.stage += 1;
        let stage = *data.stage;
        board.stage(stage);
        let late = |rank| !board.has_staged(rank, stage);
        self.wait_until(&data.call, data.seq, &mut || Ok(board.all_staged(stage)), &late)
    }

    pub(crate) fn reduce_scatter<T: Element>(
        &self,
        send: &[T],
        counts: &[usize],
        recv: &mut [T],
        op: ReduceOp,
    ) -> Result<(), CommError> {
        let kind = OpKind::ReduceScatter;
        self.check_len(kind, "counts", counts.len(), self.size())?;
        self.check_len(kind, "elements to send", send.len(), counts.iter().sum())?;
        self.check_len(kind, "elements to receive", recv.len(), counts[self.me])?;
        let call = Call::new(kind).of(T::DTYPE, send.len()).reducing(op).with_counts(counts);
        let most = counts.iter().copied().max().unwrap_or(0);
        let received = vec![counts[self.me]; self.size()];
        self.meet(call, size_of_val(send), &[], |_, data| {
            self.in_pieces(data, most, send, counts, &received, |from, copies| {
                let n = copies.len() / self.size();
                let recv = &mut recv[from..from + n];
                fold_ranks(recv, self.size(), |rank| &copies[rank * n..(rank + 1) * n], op);
            })
        })
    }

    pub(crate) fn all_gather<T: Element>(
        &self,
        send: &[T],
        counts: &[usize],
        recv: &mut [T],
    ) -> Result<(), CommError> {
        let kind = OpKind::AllGather;
        self.check_len(kind, "counts", counts.len(), self.size())?;
        self.check_len(kind, "elements to send", send.len(), counts[self.me])?;
        self.check_len(kind, "elements to receive", recv.len(), counts.iter().sum())?;
        let call = Call::new(kind).of(T::DTYPE, recv.len()).with_counts(counts);
        let bytes = counts.iter().max().map_or(0, |most| most * size_of::<T>());
        let sent: &[u8] = bytemuck::cast_slice(send);
        let inline = if bytes <= PAYLOAD_BYTES { sent } else { &[] };
        self.meet(call, size_of_val(send), inline, |heard, data| {
            let counts: Vec<_> = counts.iter().map(|n| n * size_of::<T>()).collect();
            self.gather_bytes(heard, data, sent, &counts, bytemuck::cast_slice_mut(recv))
        })
    }

    pub(crate) fn all_gather_bytes(&self, send: &[u8]) -> Result<Vec<Vec<u8>>, CommError> {
        let inline = if send.len() <= PAYLOAD_BYTES { send } else { &[] };
        self.meet(Call::new(OpKind::AllGatherBytes), send.len(), inline, |heard, data| {
            if self.size() == 1 {
                return Ok(vec![send.to_vec()]);
            }
            let counts: Vec<_> = (0..self.size()).map(|rank| heard.bytes(rank)).collect();
            let mut all = vec![0; counts.iter().sum()];
            self.gather_bytes(heard, data, send, &counts, &mut all)?;
            let mut rest = &all[..];
            let parts = counts.into_iter().map(|n| {
                let (part, tail) = rest.split_at(n);
                rest = tail;
                part.to_vec()
            });
            Ok(parts.collect())
        })
    }

    /// Joins `send` of all ranks, `counts` bytes each: from the announcements, if the longest fits into one.
    fn gather_bytes(
        &self,
        heard: &dyn Heard,
        data: &mut Data<'_>,
        send: &[u8],
        counts: &[usize],
        recv: &mut [u8],
    ) -> Result<(), CommError> {
        let most = counts.iter().copied().max().unwrap_or(0);
        if self.size() == 1 {
            recv.copy_from_slice(send);
            return Ok(());
        }
        let starts: Vec<usize> =
            counts.iter().scan(0, |end, n| Some(std::mem::replace(end, *end + n))).collect();
        if most <= PAYLOAD_BYTES {
            for (rank, (start, n)) in starts.iter().zip(counts).enumerate() {
                heard.copy_payload(rank, &mut recv[*start..start + n]);
            }
            return Ok(());
        }
        for from in (0..most).step_by(PIECE_BYTES) {
            let piece = |n: usize| n.min(from)..n.min(from + PIECE_BYTES);
            let arrive = one_after_the_other(counts.iter().map(|n| piece(*n).len()));
            let own = &send[piece(send.len())];
            let all = self.exchange(data, &[own], &vec![0..own.len(); self.size()], &arrive)?;
            for ((start, n), at) in starts.iter().zip(counts).zip(arrive) {
                recv[start + piece(*n).start..start + piece(*n).end].copy_from_slice(&all[at]);
            }
        }
        Ok(())
    }

    pub(crate) fn all_to_all<T: Element>(
        &self,
        send: &[T],
        send_counts: &[usize],
        recv: &mut [T],
        recv_counts: &[usize],
    ) -> Result<(), CommError> {
        let kind = OpKind::AllToAll;
        self.check_len(kind, "counts", send_counts.len(), self.size())?;
        self.check_len(kind, "counts", recv_counts.len(), self.size())?;
        self.check_len(kind, "elements to send", send.len(), send_counts.iter().sum())?;
        self.check_len(kind, "elements to receive", recv.len(), recv_counts.iter().sum())?;
        let starts: Vec<usize> =
            recv_counts.iter().scan(0, |end, n| Some(std::mem::replace(end, *end + n))).collect();
        self.meet(Call::new(kind).of(T::DTYPE, 0), size_of_val(send), &[], |_, data| {
            let most = self.check_pairs(data, send_counts, recv_counts)?;
            let piece = PIECE_BYTES / size_of::<T>();
            self.in_pieces(data, most, send, send_counts, recv_counts, |from, copies| {
                let mut rest = copies;
                for (start, n) in starts.iter().zip(recv_counts) {
                    let range = (*n).min(from)..(*n).min(from + piece);
                    let (part, tail) = rest.split_at(range.len());
                    recv[start + range.start..start + range.end].copy_from_slice(part);
                    rest = tail;
                }
            })
        })
    }

    /// Whether all ranks expect what they are sent; the longest segment of any pair.
    fn check_pairs(
        &self,
        data: &mut Data<'_>,
        send_counts: &[usize],
        recv_counts: &[usize],
    ) -> Result<usize, CommError> {
        let size = self.size();
        let own: Vec<u64> = send_counts.iter().chain(recv_counts).map(|n| *n as u64).collect();
        let (sent, arrive) = (0..size_of_val(&own[..]), one_after_the_other(vec![16 * size; size]));
        let all: &[u64] =
            bytemuck::cast_slice(self.exchange(data, &[&own[..]], &vec![sent; size], &arrive)?);
        let count = |rank: usize, at: usize| usize::try_from(all[rank * 2 * size + at]).unwrap_or(usize::MAX);
        for (from, to) in (0..size).flat_map(|from| (0..size).map(move |to| (from, to))) {
            let (sent, expected) = (count(from, to), count(to, size + from));
            if sent != expected {
                let (from, to) = (self.members[from], self.members[to]);
                let error = CommError::Counts { op: OpKind::AllToAll, from, to, sent, expected };
                return Err(self.family.fail_together(self.members[0], error));
            }
        }
        let lengths = (0..size).flat_map(|from| (0..size).map(move |to| (from, to)));
        Ok(lengths.map(|(from, to)| count(from, to)).max().unwrap_or(0))
    }

    /// Exchanges segments in rounds of bounded size. `arrived(from, copies)` gets, of every rank in order, the elements
    /// of its segment from `from` on.
    fn in_pieces<T: Element>(
        &self,
        data: &mut Data<'_>,
        most: usize,
        send: &[T],
        send_counts: &[usize],
        recv_counts: &[usize],
        mut arrived: impl FnMut(usize, &[T]),
    ) -> Result<(), CommError> {
        let (unit, step) = (size_of::<T>(), PIECE_BYTES / size_of::<T>());
        for from in (0..most).step_by(step) {
            let piece = |n: &usize| (*n).min(from)..(*n).min(from + step);
            let ranges = |counts: &[usize]| one_after_the_other(counts.iter().map(|n| piece(n).len() * unit));
            let starts = one_after_the_other(send_counts.iter().copied());
            let pieces: Vec<&[T]> =
                starts.into_iter().zip(send_counts).map(|(at, n)| &send[at][piece(n)]).collect();
            let copies = self.exchange(data, &pieces, &ranges(send_counts), &ranges(recv_counts))?;
            arrived(from, bytemuck::cast_slice(copies));
        }
        Ok(())
    }

    pub(crate) fn broadcast(&self, root: Rank, buf: &mut Vec<u8>) -> Result<(), CommError> {
        let is_root = root.index() == self.me;
        let bytes = if is_root { buf.len() } else { 0 };
        let inline = if is_root && bytes <= PAYLOAD_BYTES { buf.clone() } else { Vec::new() };
        self.meet(Call::new(OpKind::Broadcast).from_root(root), bytes, &inline, |heard, data| {
            if self.size() == 1 {
                return Ok(());
            }
            buf.resize(heard.bytes(root.index()), 0);
            if buf.len() <= PAYLOAD_BYTES {
                heard.copy_payload(root.index(), buf);
                return Ok(());
            }
            for piece in buf.chunks_mut(PIECE_BYTES) {
                let started = self.data.start_broadcast(piece.to_vec(), root.index());
                let started = started.map_err(|error| self.broken(&error))?;
                piece.copy_from_slice(&self.complete(data, started)?);
            }
            Ok(())
        })
    }

    pub(crate) fn check_len(
        &self,
        op: OpKind,
        what: &'static str,
        got: usize,
        need: usize,
    ) -> Result<(), CommError> {
        let checked = CommError::check_len(self.world_rank(), op, what, got, need);
        checked.map_err(|error| self.family.fail(error))
    }
}

/// Puts slices one after the other.
fn put<T: NoUninit>(room: &mut Vec<u64>, slices: &[&[T]]) {
    let bytes: usize = slices.iter().map(|slice| size_of_val(*slice)).sum();
    room.resize(room.len().max(bytes.div_ceil(8)), 0);
    let mut rest: &mut [u8] = bytemuck::cast_slice_mut(room);
    for slice in slices {
        let (place, tail) = rest.split_at_mut(size_of_val(*slice));
        place.copy_from_slice(bytemuck::cast_slice(slice));
        rest = tail;
    }
}

/// Ranges of these lengths.
fn one_after_the_other(lens: impl IntoIterator<Item = usize>) -> Vec<Range<usize>> {
    let mut end = 0;
    let next = |n: usize| {
        let start = end;
        end += n;
        start..end
    };
    lens.into_iter().map(next).collect()
}

/// Memory in which numbers travel, of any type; one collective leaves it to the next.
#[derive(Debug, Default)]
pub(crate) struct Room {
    sent: Vec<u64>,
    received: Vec<u64>,
}

/// What a blocking collective needs once all have announced it.
struct Data<'a> {
    call: Call,
    seq: u64,
    stage: &'a mut u64,
    room: &'a mut Room,
}
