//! What a stream does for collectives when their turn comes.

use super::comm::Comm;
use super::signature::Signature;
use super::wire::Message;
use crate::driver::UnderWay;
use crate::driver::stream::Progress;
use crate::exec::arena::{self, Kind};
use crate::fault::Fault;
use std::sync::Arc;

/// One collective, send or receive, before and after the hub has it.
pub(super) enum Part {
    /// A collective: from where this rank gives, and where it takes.
    Collective { seq: u64, call: Signature, from: u64, to: u64 },
    /// To a rank.
    Send { to: u32, dtype: u32, count: u64, address: u64, bytes: u64 },
    /// From a rank.
    Receive { from: u32, dtype: u32, count: u64, ticket: u64, address: u64 },
}

/// Everything that one group gives to one stream.
pub(super) struct Collectives {
    comm: Arc<Comm>,
    parts: Vec<Part>,
    posted: bool,
    /// Ends with this.
    _under_way: UnderWay,
}

impl Collectives {
    pub(super) fn new(comm: Arc<Comm>, parts: Vec<Part>) -> Self {
        comm.enqueued();
        Collectives { comm, parts, posted: false, _under_way: UnderWay::new() }
    }

    /// Gives this rank's numbers to the hub.
    fn post(&self) -> Result<(), Fault> {
        let (rank, ranks) = (self.comm.rank, self.comm.ranks);
        for part in &self.parts {
            let message = match part {
                Part::Collective { seq, call, from, .. } => {
                    let bytes = read(*from, call.given(rank, ranks))?;
                    Message::Post { seq: *seq, signature: *call, bytes }
                }
                Part::Send { to, dtype, count, address, bytes } => {
                    let bytes = read(*address, *bytes)?;
                    Message::Send { to: *to, dtype: *dtype, count: *count, bytes }
                }
                Part::Receive { from, dtype, count, ticket, .. } => {
                    Message::Expect { from: *from, dtype: *dtype, count: *count, ticket: *ticket }
                }
            };
            self.comm.tell(&message);
        }
        Ok(())
    }

    /// Writes what has come; what has not stays.
    fn collect(&mut self) -> Result<(), Fault> {
        let (comm, mut written) = (&self.comm, Ok(()));
        self.parts.retain(|part| {
            let come = match part {
                Part::Collective { seq, to, .. } => comm.result(*seq).map(|bytes| (*to, bytes)),
                Part::Send { .. } => return false,
                Part::Receive { ticket, address, .. } => {
                    comm.received(*ticket).map(|bytes| (*address, bytes))
                }
            };
            let Some((address, bytes)) = come else { return true };
            if written.is_ok() {
                written = write(address, &bytes);
            }
            false
        });
        written
    }
}

impl Collectives {
    /// What the stream does when it is their turn, as often as it is asked to.
    pub(super) fn run(&mut self) -> Progress {
        if self.comm.is_over() {
            return Progress::Done(Ok(()));
        }
        let posted = if std::mem::replace(&mut self.posted, true) { Ok(()) } else { self.post() };
        match posted.and_then(|()| self.collect()) {
            Err(fault) => Progress::Done(Err(fault)),
            Ok(()) if self.parts.is_empty() => Progress::Done(Ok(())),
            Ok(()) => Progress::Pending,
        }
    }
}

/// Bytes of a device, which must have been written.
fn read(address: u64, bytes: u64) -> Result<Vec<u8>, Fault> {
    let bytes = usize::try_from(bytes).unwrap_or(usize::MAX);
    if bytes == 0 {
        return Ok(Vec::new());
    }
    let from = arena::access(address, bytes, Kind::Read)?;
    // SAFETY: checked, and nothing writes it while its stream is here
    Ok(unsafe { std::slice::from_raw_parts(from, bytes) }.to_vec())
}

/// Writes bytes of a device.
fn write(address: u64, bytes: &[u8]) -> Result<(), Fault> {
    if bytes.is_empty() {
        return Ok(());
    }
    let to = arena::access(address, bytes.len(), Kind::Write)?;
    // SAFETY: checked, and nothing else touches it while its stream is here
    unsafe { to.copy_from_nonoverlapping(bytes.as_ptr(), bytes.len()) };
    Ok(())
}

impl Drop for Collectives {
    fn drop(&mut self) {
        self.comm.done();
    }
}
