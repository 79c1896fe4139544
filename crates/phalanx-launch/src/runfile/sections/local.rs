//! `[local]`: how a client trains in a round.

use phalanx_federated::Length;

use crate::runfile::Range;
use crate::runfile::key::keys;

/// Keys of which a client follows at most one: assigning one takes the other's place.
pub(in crate::runfile) const LENGTHS: [&str; 2] = ["epochs", "steps"];

keys! {
    /// A client's training.
    pub struct Local {
        /// Passes over the client's samples. One of `epochs` and `steps` may be given; neither: 1 epoch.
        epochs: Option<u64>, "epochs", Range::AtLeast(1.0), Fixed;
        /// Optimizer steps, each over a batch.
        steps: Option<u64>, "steps", Range::AtLeast(1.0), Fixed;
        /// Samples of a step; a client with fewer takes all it has.
        batch: usize = 32, "samples", Range::AtLeast(1.0), Fixed;
        /// Factor of the learning rate from round to round.
        lr_decay: f64 = 1.0, "", Range::UpTo(0.0, 1.0), Fixed;
        /// Let the batch grow by the spread of the clients' last gradients: the tolerance of the norm test. Not given: it
        /// stays.
        growth_eta: Option<f64>, "", Range::Above(0.0), Fixed;
        /// The largest batch it grows to.
        max_batch: usize = 1024, "samples", Range::AtLeast(1.0), Fixed;
    }
}

impl Local {
    /// How long a client trains.
    #[must_use]
    pub fn length(&self) -> Length {
        match (self.epochs, self.steps) {
            (None, Some(steps)) => Length::Steps(steps),
            (epochs, _) => Length::Epochs(epochs.unwrap_or(1)),
        }
    }
}
