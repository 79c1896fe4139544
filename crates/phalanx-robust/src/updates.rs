//! The vectors of a round as they came in, from anyone: nothing about them is taken for granted.

use crate::vectors::Vectors;
use phalanx_grad::{Blocks, GradError, Reason, Rejected, Shard};

/// `n` vectors that should have length `d`, and what is known beside them.
///
/// Vectors of another length are not an error: whoever sent one is counted as hostile. Nothing is copied or changed.
/// The order of arrival has no influence: vectors are sorted by the names of their senders.
///
/// # Examples
/// ```
/// use phalanx_grad::GradError;
/// use phalanx_robust::Updates;
/// let updates = Updates::new(2, &[&[1.0, 2.0], &[3.0], &[1.5, 2.5]]).with_ids(&[70, 5, 12])?;
/// assert_eq!((updates.len(), updates.dim()), (3, 2));
/// # Ok::<(), GradError>(())
/// ```
#[derive(Clone, Debug)]
pub struct Updates<'a> {
    pub(crate) dim: usize,
    /// Sorted by name.
    pub(crate) clients: Vec<Client<'a>>,
    pub(crate) reference: Option<&'a [f32]>,
    pub(crate) trusted: Option<&'a [f32]>,
    /// The length of whole vectors and where their other numbers are, unless all are here.
    pub(crate) shard: Option<(usize, &'a dyn Shard)>,
}

/// A vector with its sender.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Client<'a> {
    pub(crate) id: u64,
    pub(crate) samples: u64,
    pub(crate) row: &'a [f32],
}

impl<'a> Updates<'a> {
    /// Vectors named by their index, each the mean of one sample.
    #[must_use]
    pub fn new(dim: usize, rows: &[&'a [f32]]) -> Self {
        let clients = (0..).zip(rows).map(|(id, row)| Client { id, samples: 1, row }).collect();
        Updates { dim, clients, reference: None, trusted: None, shard: None }
    }

    /// What one rank holds of `n` vectors of `dim` numbers.
    pub(crate) fn of_shard(n: usize, dim: usize, shard: &'a dyn Shard) -> Self {
        let rows: Vec<&[f32]> = (0..n).map(|i| shard.part(i)).collect();
        let here = Blocks::new(dim).coordinates(shard.blocks()).len();
        Updates { shard: Some((dim, shard)), ..Updates::new(here, &rows) }
    }

    /// The same vectors under the names of their senders, in the order in which the vectors were given.
    ///
    /// Of two under one name, the first given comes first. Call it after [`with_samples`](Self::with_samples).
    ///
    /// # Errors
    /// [`GradError::Length`] when there is not one name a vector.
    pub fn with_ids(mut self, ids: &[u64]) -> Result<Self, GradError> {
        check_length("the names of senders", ids.len(), self.len())?;
        for (client, id) in self.clients.iter_mut().zip(ids) {
            client.id = *id;
        }
        self.clients.sort_by_key(|client| client.id);
        Ok(self)
    }

    /// The same vectors as means of so many samples, in the order in which the vectors were given.
    ///
    /// Counts come from the senders: rules that bear hostile ones do not look at them.
    ///
    /// # Errors
    /// [`GradError::Length`] when there is not one count a vector.
    pub fn with_samples(mut self, samples: &[u64]) -> Result<Self, GradError> {
        check_length("the sample counts of senders", samples.len(), self.len())?;
        for (client, samples) in self.clients.iter_mut().zip(samples) {
            client.samples = *samples;
        }
        Ok(self)
    }

    /// The parameters that the vectors are updates of, for rules that look at the models behind the updates.
    ///
    /// # Errors
    /// [`GradError::Length`] when they are not `d`.
    pub fn with_reference(mut self, parameters: &'a [f32]) -> Result<Self, GradError> {
        check_length("the reference of updates", parameters.len(), self.dim)?;
        self.reference = Some(parameters);
        Ok(self)
    }

    /// An update that the server made itself from data it trusts.
    ///
    /// # Errors
    /// [`GradError::Length`] when it is not of length `d`.
    pub fn with_trusted(mut self, update: &'a [f32]) -> Result<Self, GradError> {
        check_length("the trusted update", update.len(), self.dim)?;
        self.trusted = Some(update);
        Ok(self)
    }

    /// How many vectors came in.
    #[must_use]
    pub fn len(&self) -> usize {
        self.clients.len()
    }

    /// Whether none came in.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.clients.is_empty()
    }

    /// The length that vectors should have.
    #[must_use]
    pub fn dim(&self) -> usize {
        self.dim
    }

    /// The vectors, all of one length.
    pub(crate) fn vectors(&self, threads: usize) -> Vectors<'a> {
        let rows = self.clients.iter().map(|client| client.row).collect();
        let (dim, shard) = self.shard.map_or((self.dim, None), |(dim, shard)| (dim, Some(shard)));
        Vectors { rows, dim, threads, shard }
    }

    /// Takes out the vectors of another length.
    pub(crate) fn reject_lengths(&mut self) -> Vec<Rejected> {
        let need = self.dim;
        self.reject(|client| {
            let got = client.row.len();
            (got != need).then_some((Reason::Length { got, need }, None))
        })
    }

    /// Takes out those with numbers that are not finite.
    pub(crate) fn reject_nonfinite(&mut self, threads: usize) -> Result<Vec<Rejected>, GradError> {
        let mut counts = self.vectors(threads).nonfinite()?.into_iter();
        Ok(self.reject(|_| {
            let count = counts.next().unwrap_or_default();
            (count > 0).then_some((Reason::NonFinite { count }, None))
        }))
    }

    /// Takes out those that are longer than `limit`.
    pub(crate) fn reject_longer(&mut self, limit: f64, threads: usize) -> Result<Vec<Rejected>, GradError> {
        let mut norms_sq = self.vectors(threads).norms_sq()?.into_iter();
        Ok(self.reject(|_| {
            let got = norms_sq.next().unwrap_or_default().sqrt();
            (got.is_finite() && got > limit).then_some((Reason::Norm { got, limit }, None))
        }))
    }

    /// Takes out those for which there is a reason.
    fn reject(
        &mut self,
        mut reason: impl FnMut(&Client<'_>) -> Option<(Reason, Option<f64>)>,
    ) -> Vec<Rejected> {
        let mut rejected = Vec::new();
        self.clients.retain(|client| match reason(client) {
            Some((reason, score)) => {
                rejected.push(Rejected { id: client.id, reason, score });
                false
            }
            None => true,
        });
        rejected
    }
}

pub(crate) fn check_length(what: &'static str, got: usize, need: usize) -> Result<(), GradError> {
    if got == need { Ok(()) } else { Err(GradError::Length { what, got, need }) }
}
