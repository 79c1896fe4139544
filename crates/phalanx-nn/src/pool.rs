//! The arena: buffers that a step takes and gives back, so that a warmed-up step allocates nothing.

use phalanx_tensor::{Memory, TensorError};

/// A buffer of the pool with the room it has.
#[derive(Debug)]
pub(crate) struct Pooled<T> {
    pub(crate) buf: T,
    room: usize,
}

/// Free buffers by room, smallest first, and how much was ever taken from the device.
#[derive(Debug)]
pub(crate) struct Pool<B: Memory> {
    free: Vec<Pooled<B::Buf>>,
    free_index: Vec<Pooled<B::Index>>,
    bytes: usize,
}

impl<B: Memory> Pool<B> {
    pub(crate) fn new() -> Self {
        Pool { free: Vec::new(), free_index: Vec::new(), bytes: 0 }
    }

    /// Bytes taken from the device, free ones included.
    pub(crate) fn bytes(&self) -> usize {
        self.bytes
    }

    /// A buffer with room for `len` elements, content unspecified.
    pub(crate) fn take(&mut self, backend: &B, len: usize) -> Result<Pooled<B::Buf>, TensorError> {
        if let Some(found) = fit(&mut self.free, len) {
            return Ok(found);
        }
        let buf = backend.alloc(len)?;
        self.bytes += len * size_of::<B::Elem>();
        Ok(Pooled { buf, room: len })
    }

    /// A buffer with room for `len` indices, content unspecified.
    pub(crate) fn take_index(&mut self, backend: &B, len: usize) -> Result<Pooled<B::Index>, TensorError> {
        if let Some(found) = fit(&mut self.free_index, len) {
            return Ok(found);
        }
        let buf = backend.alloc_index(len)?;
        self.bytes += len * 4;
        Ok(Pooled { buf, room: len })
    }

    /// Gives all free buffers back to the device.
    pub(crate) fn trim(&mut self) {
        let elems: usize = self.free.drain(..).map(|b| b.room).sum();
        let indices: usize = self.free_index.drain(..).map(|b| b.room).sum();
        self.bytes -= elems * size_of::<B::Elem>() + indices * 4;
    }

    pub(crate) fn give(&mut self, buf: Pooled<B::Buf>) {
        put(&mut self.free, buf);
    }

    pub(crate) fn give_index(&mut self, buf: Pooled<B::Index>) {
        put(&mut self.free_index, buf);
    }
}

/// The smallest free buffer with room, unless it is more than four times too large: a short last tile shall reuse the
/// buffers of the full ones, a bias shall not sit in the room of an activation.
fn fit<T>(free: &mut Vec<Pooled<T>>, len: usize) -> Option<Pooled<T>> {
    let at = free.partition_point(|b| b.room < len);
    (at < free.len() && free[at].room <= 4 * len.max(16)).then(|| free.remove(at))
}

fn put<T>(free: &mut Vec<Pooled<T>>, buf: Pooled<T>) {
    let at = free.partition_point(|b| b.room <= buf.room);
    free.insert(at, buf);
}
