//! Requests to stop: the first SIGINT, SIGTERM or SIGUSR1 asks for a checkpoint, the second ends at once.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use signal_hook::consts::{SIGINT, SIGTERM, SIGUSR1};
use signal_hook::flag;

/// Whether the run is asked to stop. Clones share the request.
///
/// # Collective
/// No. Ranks must agree on the step at which they stop: signals reach them at different ones.
#[derive(Debug, Clone, Default)]
pub struct StopRequest(Arc<AtomicBool>);

impl StopRequest {
    /// A request that SIGINT, SIGTERM and SIGUSR1 make. After the first, a second ends the process as the
    /// signal does by default. SIGUSR1 is the one that mpirun passes on to its ranks without ending them.
    ///
    /// # Errors
    /// When the system refuses the handler.
    pub fn on_signals() -> io::Result<Self> {
        let request = Self::default();
        for signal in [SIGINT, SIGTERM, SIGUSR1] {
            // in this order: the first signal must find the flag down
            flag::register_conditional_default(signal, Arc::clone(&request.0))?;
            flag::register(signal, Arc::clone(&request.0))?;
        }
        Ok(request)
    }

    /// Whether a stop was requested.
    #[must_use]
    pub fn is_made(&self) -> bool {
        self.0.load(Ordering::Relaxed)
    }

    /// Requests a stop.
    pub fn make(&self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::StopRequest;
    use signal_hook::consts::SIGTERM;

    #[test]
    fn the_first_signal_only_asks() {
        let request = StopRequest::on_signals().expect("handlers");
        assert!(!request.is_made());
        signal_hook::low_level::raise(SIGTERM).expect("a signal");
        assert!(request.clone().is_made());
    }
}
