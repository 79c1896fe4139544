//! What hostile clients send in place of their own updates.

use super::Run;
use super::round::places;
use crate::attack::Conduct;
use crate::error::FederatedError;
use crate::job::FederatedJob;
use crate::store::share;
use phalanx_comm::CommunicatorExt;
use phalanx_grad::GradError;
use phalanx_robust::attack::{Attack, Scene};
use phalanx_train::HostBackend;

/// The forging part of each attacker; those that search do so against the rule of the run.
pub(super) fn forgers<B: HostBackend>(job: &FederatedJob<B>) -> Vec<Option<Box<dyn Attack>>> {
    let forger = |conduct: &Conduct| match conduct {
        Conduct::Forge(config) => Some(config.build(|| (job.server)().rule)),
        Conduct::Poison { .. } => None,
    };
    job.attackers.iter().map(|attacker| forger(&attacker.conduct)).collect()
}

impl<B: HostBackend> Run<'_, B> {
    /// Replaces the updates of clients that forge theirs. An attacker knows the updates of all honest clients, so that every rank
    /// is shown all of them, and forges the same.
    ///
    /// # Shapes
    /// `own`: the updates of this rank's share of `clients`.
    ///
    /// # Collective
    /// Every rank, with the same clients.
    pub(super) fn forge(&mut self, clients: &[u64], own: &mut [f32]) -> Result<(), FederatedError> {
        let assault = self.assault();
        if clients.iter().all(|client| assault.forges(*client).next().is_none()) {
            return Ok(());
        }
        let (dim, ranks) = (self.model.len(), self.comm.size().get());
        let counts: Vec<usize> = (0..ranks).map(|rank| dim * share(clients, rank, ranks).len()).collect();
        let mut all = vec![0.0; dim * clients.len()];
        self.comm.all_gather_into(own, &counts, &mut all)?;
        let rows: Vec<&[f32]> = all.chunks_exact(dim.max(1)).collect();
        let by_name = || clients.iter().zip(&rows);
        let honest: Vec<&[f32]> = by_name()
            .filter(|(client, _)| !self.population.is_hostile(**client))
            .map(|(_, row)| *row)
            .collect();
        let (attackers, seed, step) =
            (clients.len() - honest.len(), self.job.config.seed, self.place.round + 1);
        let hostile = by_name().filter(|(client, _)| self.population.is_hostile(**client));
        let mine = places(clients, &*self.comm);
        for (index, (client, row)) in hostile.enumerate() {
            let mut sent = row.to_vec();
            for i in assault.forges(*client) {
                let Some(forger) = &mut self.forgers[i] else { continue };
                let scene = Scene { step, honest: &honest, own: &sent, shard: None, attackers, index, seed };
                let mut forged = vec![0.0; dim];
                match forger.forge(&scene, &mut forged) {
                    Ok(()) => sent = forged,
                    // without anybody to learn from, it sends what it has
                    Err(GradError::TooFew { .. }) => {}
                    Err(error) => return Err(error.into()),
                }
            }
            let at = clients.iter().position(|other| other == client).unwrap_or_default();
            if mine.contains(&at) {
                own[(at - mine.start) * dim..][..dim].copy_from_slice(&sent);
            }
        }
        Ok(())
    }
}
