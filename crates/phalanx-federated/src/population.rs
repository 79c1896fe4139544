//! All clients: their samples, and which of them are hostile.

use crate::attack::Attacker;
use crate::error::FederatedError;
use std::collections::BTreeSet;

/// The clients of a run.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Population {
    samples: Vec<Vec<usize>>,
    hostile: BTreeSet<u64>,
}

impl Population {
    /// Clients by the samples that they hold, of which `attackers` names the hostile ones.
    ///
    /// # Errors
    /// [`FederatedError::NoSuchClient`] for an attacker that is no client.
    pub fn new(samples: Vec<Vec<usize>>, attackers: &[Attacker]) -> Result<Self, FederatedError> {
        let hostile: BTreeSet<u64> =
            attackers.iter().flat_map(|attacker| attacker.clients.iter().copied()).collect();
        let clients = samples.len();
        match hostile.last() {
            Some(client) if *client >= clients as u64 => {
                Err(FederatedError::NoSuchClient { client: *client, clients })
            }
            _ => Ok(Population { samples, hostile }),
        }
    }

    /// How many clients there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.samples.len()
    }

    /// Whether there are none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.samples.is_empty()
    }

    /// The samples of a client.
    ///
    /// # Panics
    /// When there is no such client.
    #[must_use]
    pub fn samples(&self, client: u64) -> &[usize] {
        &self.samples[usize::try_from(client).unwrap_or(usize::MAX)]
    }

    /// How many samples each client holds.
    #[must_use]
    pub fn sizes(&self) -> Vec<u64> {
        self.samples.iter().map(|samples| samples.len() as u64).collect()
    }

    /// Whether an attack is a client's.
    #[must_use]
    pub fn is_hostile(&self, client: u64) -> bool {
        self.hostile.contains(&client)
    }
}
