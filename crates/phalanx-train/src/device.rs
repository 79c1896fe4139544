//! What a rank computes on, and how ranks that compute on devices add up their gradients.

use phalanx_grad::GradientExchange;
use phalanx_tensor::Backend;

/// The device of one rank.
#[derive(Debug)]
pub struct Device<B: Backend> {
    pub(crate) backend: B,
    pub(crate) exchange: Option<Box<dyn GradientExchange<B>>>,
}

impl<B: Backend> Device<B> {
    /// A device whose gradients travel through the memory of the host.
    #[must_use]
    pub fn new(backend: B) -> Self {
        Device { backend, exchange: None }
    }

    /// Sums over ranks are made by `exchange` where the rule over ranks is the mean, uncompressed and in the fast mode;
    /// all else goes through the host.
    ///
    /// Not asked where the backend computes in the host's memory.
    #[must_use]
    pub fn with_exchange(self, exchange: Box<dyn GradientExchange<B>>) -> Self {
        Device { exchange: Some(exchange), ..self }
    }
}
