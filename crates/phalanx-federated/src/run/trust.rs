//! The update that the server makes itself, from samples that no client has.

use super::Run;
use crate::algorithm::Work;
use crate::error::FederatedError;
use crate::local::Local;
use phalanx_comm::CommunicatorExt;
use phalanx_train::HostBackend;
use std::time::Instant;

impl<B: HostBackend> Run<'_, B> {
    /// What training on the trusted samples makes of the model, as a client would, on every rank; none without such samples.
    ///
    /// The last rank, which has no more clients than others, trains. The update is a function of the seed and the round.
    ///
    /// # Collective
    /// Every rank.
    pub(super) fn trusted_update(&mut self) -> Result<Option<Vec<f32>>, FederatedError> {
        let Some(data) = self.job.data.trusted.clone() else { return Ok(None) };
        let (last, dim) = (self.comm.size().get() - 1, self.model.len());
        let mut own = Vec::new();
        if self.comm.rank().index() == last {
            let (began, round) = (Instant::now(), self.place.round + 1);
            // the name after those of all clients
            let server = self.population.len() as u64;
            let (config, lr) = (self.local(server), self.lr(round));
            let local = Local {
                seed: self.job.config.seed,
                round,
                client: server,
                config,
                lr,
                proximal: self.algorithm.proximal(),
                control: None,
                ball: None,
            };
            let mut optimizer = (self.job.optimizer)();
            let trained = self.trainer.train(&self.model, &*data, &local, &mut *optimizer)?;
            own = trained.update;
            let work = Work { steps: trained.steps, lr, momentum: self.job.config.local.momentum };
            self.in_units_of_the_server(&work, &mut own);
            self.times.training += began.elapsed();
        }
        let mut counts = vec![0; last + 1];
        counts[last] = dim;
        let mut update = vec![0.0; dim];
        self.comm.all_gather_into(&own, &counts, &mut update)?;
        Ok(Some(update))
    }

    /// Multiplies an update by what the server's algorithm asks for.
    pub(super) fn in_units_of_the_server(&self, work: &Work, update: &mut [f32]) {
        let factor = self.algorithm.factor(work);
        if factor != 1.0 {
            #[expect(clippy::cast_possible_truncation, reason = "rounded once")]
            update.iter_mut().for_each(|x| *x = (factor * f64::from(*x)) as f32);
        }
    }
}
