//! One number a parameter that an optimizer keeps from step to step.

use phalanx_grad::{GradError, StateReader, StateTensor};
use phalanx_tensor::Backend;

/// A buffer of the optimizer's state, on the device.
#[derive(Debug)]
pub(crate) struct Slot<B: Backend> {
    name: &'static str,
    held: Option<(B::Buf, usize)>,
}

impl<B: Backend> Slot<B> {
    /// A slot without memory.
    pub(crate) fn new(name: &'static str) -> Self {
        Slot { name, held: None }
    }

    /// Gives it `len` zeros.
    pub(crate) fn prepare(&mut self, backend: &B, len: usize) -> Result<(), GradError> {
        self.held = Some((backend.alloc(len)?, len));
        Ok(())
    }

    /// Its elements, to be updated.
    pub(crate) fn view_mut(
        &mut self,
        backend: &B,
        transform: &'static str,
    ) -> Result<B::ViewMut<'_>, GradError> {
        let (buf, len) = self.held.as_mut().ok_or(GradError::Unprepared { transform })?;
        Ok(backend.view_mut(buf, 0..*len))
    }

    /// A copy on the host; none of a slot that is empty or has no memory yet.
    pub(crate) fn save(&self, backend: &B) -> Option<StateTensor> {
        let (buf, len) = self.held.as_ref().filter(|(_, len)| *len > 0)?;
        let mut host = vec![B::Elem::default(); *len];
        backend.download(backend.view(buf, 0..*len), &mut host);
        Some(StateTensor::new(self.name, &host))
    }

    /// The saved elements of the slot, checked, to be given to [`load`](Self::load).
    pub(crate) fn find<'a>(
        &self,
        transform: &'static str,
        reader: &mut StateReader<'a>,
    ) -> Result<&'a [B::Elem], GradError> {
        match self.held.as_ref().ok_or(GradError::Unprepared { transform })?.1 {
            0 => Ok(&[]),
            len => reader.elems(self.name, len),
        }
    }

    /// Takes saved elements back.
    pub(crate) fn load(&mut self, backend: &B, saved: &[B::Elem]) {
        if let Some((buf, len)) = &mut self.held {
            backend.upload(saved, backend.view_mut(buf, 0..*len));
        }
    }
}
