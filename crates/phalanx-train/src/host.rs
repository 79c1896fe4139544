//! Backends that the loop trains on, and those among them whose memory the host reads.

use phalanx_tensor::Backend;

/// A backend of `f32`, on the CPU or on a device with memory of its own.
pub trait TrainBackend: Backend<Elem = f32> + Sync {}

impl<B: Backend<Elem = f32> + Sync> TrainBackend for B {}

/// A backend of `f32` whose views are slices: gradients are reduced where the backward pass wrote them.
pub trait HostBackend:
    for<'a> Backend<Elem = f32, View<'a> = &'a [f32], ViewMut<'a> = &'a mut [f32]> + Sync
{
}

impl<B> HostBackend for B where
    B: for<'a> Backend<Elem = f32, View<'a> = &'a [f32], ViewMut<'a> = &'a mut [f32]> + Sync
{
}
