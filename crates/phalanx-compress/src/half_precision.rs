//! Gradients rounded to 16 bits: half the bytes, still reduced while the backward pass runs.

use crate::compressor::{BucketLayout, Compressor, Traffic};
use half::{bf16, f16};
use phalanx_comm::backend::Arithmetic;
use phalanx_comm::{CommError, Communicator, Element, Packing, Pending, ReduceOp, Region};
use std::marker::PhantomData;
use std::sync::Arc;

/// Rounds each bucket to 16-bit floats, which are summed over ranks and widened again.
///
/// ```text
/// g = widen(round(sum over ranks of round(g_r)))
/// ```
///
/// # Numerics
/// Rounding is to nearest, ties to even. Each rank's part is rounded once, the parts are added in `f32` in rank order, and
/// their sum is rounded once. `g_r` is the rank's part of the mean over the whole batch, so it has been divided by the
/// number of ranks before it is rounded: the sum leaves the range only where the mean does. `fp16` reaches to 65504 and
/// down to 6e-8, below which a number becomes 0 (and loses digits below 6e-5); `bf16` has the range of `f32` with 8
/// significant bits. A number beyond the range becomes infinite, which stops or skips the step as any number that is not
/// finite does.
///
/// # Reference
/// `fp16_compress_hook` and `bf16_compress_hook` of `PyTorch`'s `torch.distributed.algorithms.ddp_comm_hooks`.
///
/// # Deviation
/// There the division by the number of ranks comes just before rounding; here it is in the loss. Sums are made in `f32`
/// whatever the backend.
#[derive(Debug)]
pub struct HalfPrecision<T> {
    slots: Vec<Slot>,
    sent_bytes: u64,
    rounds_to: PhantomData<T>,
}

/// A 16-bit float that gradients are rounded to: `half::f16` or `half::bf16`.
pub trait HalfFloat: Element + Arithmetic<Acc = f32> {
    /// How a run file calls it.
    const NAME: &'static str;
    /// How it lies in memory that is reduced.
    const PACKING: Packing;
}

impl HalfFloat for f16 {
    const NAME: &'static str = "fp16";
    const PACKING: Packing = Packing::F16;
}

impl HalfFloat for bf16 {
    const NAME: &'static str = "bf16";
    const PACKING: Packing = Packing::Bf16;
}

/// One bucket: the rounded numbers, and what is under way.
#[derive(Debug)]
struct Slot {
    comm: Arc<dyn Communicator>,
    words: Region<f32>,
    flight: Option<(Region<f32>, Pending)>,
}

impl<T> HalfPrecision<T> {
    /// One that has not been prepared.
    #[must_use]
    pub const fn new() -> Self {
        Self { slots: Vec::new(), sent_bytes: 0, rounds_to: PhantomData }
    }
}

impl<T> Default for HalfPrecision<T> {
    fn default() -> Self {
        Self::new()
    }
}

impl<T: HalfFloat> Compressor for HalfPrecision<T> {
    fn name(&self) -> &'static str {
        T::NAME
    }

    fn prepare(&mut self, comm: &Arc<dyn Communicator>, buckets: &[BucketLayout]) -> Result<(), CommError> {
        let slot = |bucket: &BucketLayout| {
            let words = comm.alloc(T::PACKING.words(bucket.len))?;
            Ok(Slot { comm: Arc::clone(comm), words, flight: None })
        };
        self.slots = buckets.iter().map(slot).collect::<Result<_, CommError>>()?;
        Ok(())
    }

    fn start(&mut self, _step: u64, bucket: usize, part: Region<f32>) -> Result<(), CommError> {
        if bucket == 0 {
            self.sent_bytes = 0;
        }
        let slot = &mut self.slots[bucket];
        let mut words = std::mem::take(&mut slot.words);
        T::store(&mut bytemuck::cast_slice_mut(&mut words)[..part.len()], &part);
        self.sent_bytes += size_of_val(&*words) as u64;
        let pending = slot.comm.start_all_reduce_packed(words, T::PACKING, ReduceOp::Sum)?;
        slot.flight = Some((part, pending));
        Ok(())
    }

    fn finish(&mut self, parts: &mut [Region<f32>]) -> Result<(), CommError> {
        for (slot, whole) in self.slots.iter_mut().zip(parts) {
            let Some((mut part, pending)) = slot.flight.take() else { continue };
            slot.words = pending.wait()?;
            let len = part.len();
            T::load(&mut part, &bytemuck::cast_slice(&slot.words)[..len]);
            *whole = part;
        }
        Ok(())
    }

    fn sent_bytes(&self) -> u64 {
        self.sent_bytes
    }

    fn traffic(&self, bucket: &BucketLayout) -> Traffic {
        Traffic::plain(T::PACKING.words(bucket.len))
    }
}
