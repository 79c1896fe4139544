//! The reduction of the MPI library itself, started and in place, a chunk at a time: what all others are measured against,
//! and what a run file may ask for.

use crate::error::MpiError;
use crate::ffi::{Handle, Request};
use phalanx_comm::TreeNodes;
use std::ops::Range;

/// Elements that are summed at a time: long buffers in one call are slower, and a call counts in 32 bits.
const CHUNK: usize = 1 << 20;

/// A sum of `f32` by `MPI_Iallreduce`.
#[derive(Debug)]
pub(crate) struct Library {
    data: Handle,
    /// The chunk that is under way.
    chunk: Range<usize>,
    flight: Option<Request<TreeNodes>>,
}

impl Library {
    /// Starts with one buffer of at least one word.
    pub(crate) fn start(data: Handle, buffer: TreeNodes) -> Result<Self, MpiError> {
        let mut library = Self { data, chunk: 0..0, flight: None };
        library.next_chunk(buffer)?;
        Ok(library)
    }

    fn next_chunk(&mut self, buffer: TreeNodes) -> Result<(), MpiError> {
        let (start, len) = (self.chunk.end, len(&buffer));
        self.chunk = start..(start + CHUNK).min(len);
        let chunk = self.chunk.clone();
        self.flight = Some(self.data.start_sum_in_place(buffer, |buffer| &mut buffer[0].1[chunk])?);
        Ok(())
    }

    /// Does what is due without waiting; the buffer once all is done.
    pub(crate) fn advance(&mut self) -> Result<Option<TreeNodes>, MpiError> {
        while let Some(flight) = &mut self.flight {
            if !flight.test()? {
                break;
            }
            let Some(buffer) = self.flight.take().and_then(Request::take) else { break };
            if self.chunk.end == len(&buffer) {
                return Ok(Some(buffer));
            }
            self.next_chunk(buffer)?;
        }
        Ok(None)
    }
}

fn len(buffer: &TreeNodes) -> usize {
    buffer.first().map_or(0, |(_, region)| region.len())
}
