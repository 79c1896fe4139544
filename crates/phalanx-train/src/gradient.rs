//! The flat gradient on a device with memory of its own, and its copy on the host.

use crate::error::TrainError;
use crate::host::TrainBackend;
use phalanx_comm::CommError;
use phalanx_grad::GradientExchange;
use std::ops::Range;

/// Which of the two memories holds the gradient of the step.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Newest {
    Device,
    Host,
    Both,
}

/// The gradient that the backward pass writes on a device.
///
/// What asks for the numbers on the host, such as a rule over ranks or a statistic of chunks, works on a copy: each
/// of the two memories is brought up to date when somebody asks for it.
pub(crate) struct DeviceGradient<B: TrainBackend> {
    backend: B,
    /// Ends before the memory that it works on.
    exchange: Option<Box<dyn GradientExchange<B>>>,
    started: bool,
    flat: B::Buf,
    newest: Newest,
}

impl<B: TrainBackend> DeviceGradient<B> {
    /// None where `backend` computes in the host's memory.
    pub(crate) fn new(
        backend: &B,
        exchange: Option<Box<dyn GradientExchange<B>>>,
        len: usize,
    ) -> Result<Option<Self>, TrainError> {
        if backend.host_view(&[]).is_some() {
            return Ok(None);
        }
        let (backend, flat) = (backend.clone(), backend.alloc(len)?);
        Ok(Some(DeviceGradient { backend, flat, newest: Newest::Device, exchange, started: false }))
    }

    /// The gradient of a new step is written.
    pub(crate) fn begin(&mut self) {
        self.newest = Newest::Device;
    }

    pub(crate) fn target(&mut self, part: Range<usize>) -> B::ViewMut<'_> {
        self.backend.view_mut(&mut self.flat, part)
    }

    pub(crate) fn clear(&mut self, part: Range<usize>) {
        self.backend.fill(0.0, self.backend.view_mut(&mut self.flat, part));
    }

    pub(crate) fn view(&self, part: Range<usize>) -> B::View<'_> {
        self.backend.view(&self.flat, part)
    }

    /// Copies a part to the host as it is now.
    pub(crate) fn download(&self, part: Range<usize>, to: &mut [f32]) {
        self.backend.download(self.backend.view(&self.flat, part), to);
    }

    /// What the host has made of a part.
    pub(crate) fn upload(&mut self, part: Range<usize>, from: &[f32]) {
        self.backend.upload(from, self.backend.view_mut(&mut self.flat, part));
    }

    /// Whether sums over ranks are made on the device.
    pub(crate) fn exchanges(&self) -> bool {
        self.exchange.is_some()
    }

    /// Starts the sum of a part over ranks.
    pub(crate) fn start(&mut self, part: Range<usize>) -> Result<(), CommError> {
        let Some(exchange) = &mut self.exchange else { return Ok(()) };
        self.started = true;
        exchange.start(&mut self.flat, part)
    }

    /// What the device does next comes after the sums.
    pub(crate) fn finish(&mut self) -> Result<(), CommError> {
        match &mut self.exchange {
            Some(exchange) if std::mem::take(&mut self.started) => exchange.finish(),
            _ => Ok(()),
        }
    }

    /// Brings the copy on the host up to date.
    pub(crate) fn sync_host(&mut self, host: &mut [f32]) {
        if self.newest == Newest::Device {
            self.download(0..host.len(), host);
            self.newest = Newest::Both;
        }
    }

    /// The host has written its copy.
    pub(crate) fn written_on_host(&mut self) {
        self.newest = Newest::Host;
    }

    /// Brings the device up to date.
    pub(crate) fn sync_device(&mut self, host: &[f32]) {
        if self.newest == Newest::Host {
            self.upload(0..host.len(), host);
            self.newest = Newest::Both;
        }
    }

    /// Whether what was read from the device may be used.
    pub(crate) fn check(&self) -> Result<(), TrainError> {
        if let Some(exchange) = &self.exchange {
            exchange.check()?;
        }
        Ok(self.backend.check()?)
    }
}
