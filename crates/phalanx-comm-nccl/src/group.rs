//! Several collectives that go to the device at once.

use crate::calls::{Collective, Place};
use crate::error::NcclError;
use crate::span::DeviceSpan;
use phalanx_comm::{Rank, ReduceOp};

/// Collectives that [`NcclComm::grouped`](crate::NcclComm::grouped) enqueues together; their methods are those of the
/// communicator.
#[derive(Debug)]
pub struct Group {
    place: Place,
    collectives: Vec<Collective>,
}

#[expect(clippy::missing_errors_doc, reason = "those of the methods of the communicator")]
impl Group {
    pub(crate) fn new(place: Place) -> Self {
        Group { place, collectives: Vec::new() }
    }

    /// As [`NcclComm::all_reduce_in_place`](crate::NcclComm::all_reduce_in_place).
    pub fn all_reduce_in_place(&mut self, buffer: DeviceSpan, op: ReduceOp) {
        self.collectives.push(Collective::all_reduce(buffer, op));
    }

    /// As [`NcclComm::reduce_scatter`](crate::NcclComm::reduce_scatter).
    pub fn reduce_scatter(
        &mut self,
        send: DeviceSpan,
        recv: DeviceSpan,
        op: ReduceOp,
    ) -> Result<(), NcclError> {
        self.collectives.push(Collective::reduce_scatter(self.place, send, recv, op)?);
        Ok(())
    }

    /// As [`NcclComm::all_gather`](crate::NcclComm::all_gather).
    pub fn all_gather(&mut self, send: DeviceSpan, recv: DeviceSpan) -> Result<(), NcclError> {
        self.collectives.push(Collective::all_gather(self.place, send, recv)?);
        Ok(())
    }

    /// As [`NcclComm::broadcast`](crate::NcclComm::broadcast).
    pub fn broadcast(&mut self, buffer: DeviceSpan, root: Rank) -> Result<(), NcclError> {
        self.collectives.push(Collective::broadcast(self.place, buffer, root)?);
        Ok(())
    }

    pub(crate) fn into_collectives(self) -> Vec<Collective> {
        self.collectives
    }
}
