//! From the clients' updates to the server's next model.

use super::Run;
use super::round::{Sent, places};
use crate::algorithm::{Answer, Answers, Work};
use crate::config::{BatchGrowth, OnUnusable};
use crate::error::FederatedError;
use crate::store::share;
use phalanx_grad::{GradError, GradSet, Gram, Rejected};
use phalanx_robust::Report;
use phalanx_train::{HostBackend, RankShards, Sender};

/// What became of the updates of a round.
#[derive(Debug)]
pub(super) enum Outcome {
    /// They moved the model.
    Moved {
        /// Euclidean norm of the one update that the rule made.
        norm: f64,
        /// Who had what part in it.
        report: Report,
    },
    /// They gave no result, and the model is as it was.
    Unusable(GradError),
}

impl<B: HostBackend> Run<'_, B> {
    fn senders(&self, clients: &[u64]) -> Vec<Sender> {
        let sender = |id: &u64| Sender { id: *id, samples: self.population.samples(*id).len() as u64 };
        clients.iter().map(sender).collect()
    }

    /// How many of the clients each rank trains.
    fn rows(&self, clients: &[u64]) -> Vec<usize> {
        let ranks = self.comm.size().get();
        (0..ranks).map(|rank| share(clients, rank, ranks).len()).collect()
    }

    /// Makes one update of the clients' and moves the model along it.
    ///
    /// # Collective
    /// Every rank, with the same clients.
    pub(super) fn aggregate(&mut self, clients: &[u64], sent: &mut Sent) -> Result<Outcome, FederatedError> {
        let (dim, round) = (self.model.len(), self.place.round + 1);
        let own = places(clients, &*self.comm);
        for (row, work) in sent.rows.chunks_exact_mut(dim.max(1)).zip(&sent.work[own]) {
            self.in_units_of_the_server(work, row);
        }
        let trusted = self.trusted_update()?;
        let (backend, rows) = (self.job.backend.clone(), self.rows(clients));
        let mut parts = std::mem::take(&mut self.parts);
        let names = self.senders(clients);
        let set = RankShards::exchange_rows(
            &*self.comm,
            backend.clone(),
            dim,
            &sent.rows,
            &rows,
            names,
            &mut parts,
        )?
        .with_trusted(trusted.as_deref());
        let mut mean = vec![0.0; dim];
        match self.rule.aggregate_set(round, &set, Some(&self.model), &mut mean) {
            Ok(()) => {}
            Err(cause) if is_about_updates(&cause) => {
                self.parts = parts;
                return match self.job.config.on_unusable {
                    OnUnusable::Skip => Ok(Outcome::Unusable(cause)),
                    OnUnusable::Stop => Err(FederatedError::Unusable { round, cause }),
                };
            }
            Err(error) => return Err(error.into()),
        }
        let report = self.rule.report().clone();
        let has_part = |client: u64| !is_rejected(&report.rejected, client);
        let answers = self.answers(clients, sent, has_part);
        let trainable = self.trainable;
        let sum = |weights: &[f64]| {
            let mut weights = weights.iter();
            let of =
                |client: &u64| if has_part(*client) { weights.next().copied().unwrap_or(0.0) } else { 0.0 };
            let weights_n: Vec<f64> = clients.iter().map(of).collect();
            let mut sum = vec![0.0; dim];
            set.weighted_sum(&weights_n, &mut sum)?;
            sum.truncate(trainable);
            Ok(sum)
        };
        let before = self.algorithm.control().map(<[f32]>::to_vec);
        let (params, statistics) = self.model.split_at_mut(trainable);
        let answers_of = Answers::new(&answers, self.population.len()).with_sum(&sum);
        self.algorithm.step(&answers_of, &mean[..trainable], params)?;
        // running statistics are averaged, whatever the server's algorithm
        statistics.iter_mut().zip(&mean[trainable..]).for_each(|(statistic, mean)| *statistic += mean);
        drop(set);
        self.parts = parts;
        if let Some(before) = before {
            self.keep_controls(clients, sent, &before, has_part)?;
        }
        Ok(Outcome::Moved { norm: backend.moments(&mean).sum_sq.sqrt(), report })
    }

    fn answers(&self, clients: &[u64], sent: &Sent, has_part: impl Fn(u64) -> bool) -> Vec<Answer> {
        let samples = |client: u64| self.population.samples(client).len() as f64;
        let total: f64 =
            clients.iter().filter(|client| has_part(**client)).map(|client| samples(*client)).sum();
        let with_part = clients.iter().zip(&sent.work).filter(|(client, _)| has_part(**client));
        let answer = |(client, work): (&u64, &Work)| {
            let weight = samples(*client) / total.max(1.0);
            Answer { client: *client, weight, work: *work }
        };
        with_part.map(answer).collect()
    }

    /// Keeps the new control variates of clients that had a part in the round.
    fn keep_controls(
        &mut self,
        clients: &[u64],
        sent: &mut Sent,
        before: &[f32],
        has_part: impl Fn(u64) -> bool,
    ) -> Result<(), FederatedError> {
        let Some(store) = &mut self.controls else { return Ok(()) };
        let (dim, trainable) = (self.model.len(), self.trainable.max(1));
        let rows = sent.rows.chunks_exact(dim.max(1)).zip(&sent.work[places(clients, &*self.comm)]);
        for (control, (row, work)) in sent.controls.chunks_exact_mut(trainable).zip(rows) {
            crate::algorithm::next_control(control, before, &row[..self.trainable], work);
        }
        Ok(store.put(&*self.comm, clients, has_part, &sent.controls)?)
    }

    /// The local batch that the spread of the clients' last gradients asks for.
    ///
    /// # Collective
    /// Every rank, with the same clients.
    pub(super) fn grow(&mut self, clients: &[u64], sent: &Sent) -> Result<(), FederatedError> {
        let Some(BatchGrowth { eta, max }) = self.job.config.local.growth else { return Ok(()) };
        let (backend, rows) = (self.job.backend.clone(), self.rows(clients));
        let names = self.senders(clients);
        let mut gram = Gram::default();
        let (comm, dim) = (&*self.comm, self.trainable);
        RankShards::exchange_rows(comm, backend, dim, &sent.gradients, &rows, names, &mut self.parts)?
            .gram(&mut gram)?;
        let count = clients.len() as f64;
        let mean_sq = gram.sum_norm_sq(&vec![1.0 / count; clients.len()]);
        let squares: f64 = (0..clients.len()).map(|i| gram.norm_sq(i)).sum();
        let spread = squares - count * mean_sq;
        let needed = self.place.batch as f64 * spread / ((count - 1.0) * count * eta * eta * mean_sq);
        // one client has no spread, and a gradient that is not finite says nothing
        if clients.len() > 1 && needed.is_finite() {
            #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "cut to the limit")]
            let needed = needed.ceil().clamp(0.0, max as f64) as u64;
            self.place.batch = self.place.batch.max(needed);
        }
        Ok(())
    }
}

/// Whether a client's update has no part in the result.
pub(super) fn is_rejected(rejected: &[Rejected], client: u64) -> bool {
    rejected.iter().any(|rejected| rejected.id == client)
}

/// Whether an error is one of these updates, after which a next round may well have a result.
fn is_about_updates(error: &GradError) -> bool {
    matches!(
        error,
        GradError::TooFew { .. }
            | GradError::TooManyInvalid { .. }
            | GradError::NonFinite { .. }
            | GradError::NoSamples { .. }
            | GradError::NoWeight { .. }
            | GradError::TooManySubsets { .. }
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use phalanx_grad::Reason;

    #[test]
    fn errors_of_updates_are_told_from_those_of_ranks() {
        assert!(is_about_updates(&GradError::NoSamples { axis: "ranks" }));
        assert!(!is_about_updates(&GradError::Missing { rule: "fltrust", what: "the trusted update" }));
        let rejected = [Rejected { id: 7, reason: Reason::LeftOut { by: "krum" }, score: None }];
        assert!(is_rejected(&rejected, 7) && !is_rejected(&rejected, 0));
    }
}
