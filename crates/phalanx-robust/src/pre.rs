//! Pre-aggregators: what is done to the vectors before a rule sees them, one file each.

use crate::report::Stage;
use crate::{Laws, Mixing, Round};
use phalanx_grad::GradError;
use std::cell::OnceCell;
use std::fmt::Debug;

mod arc;
mod bucketing;
mod clip;
mod momentum;
mod multi_metrics;
mod nnm;

pub use arc::Arc;
pub use bucketing::Bucketing;
pub use clip::Clip;
pub use momentum::WorkerMomentum;
pub use multi_metrics::{Keep, MultiMetrics, Reference, Whiten};
pub use nnm::Nnm;

/// Makes other vectors of the vectors of a round: weighted sums of them.
///
/// It decides the weights; the sums are formed where they are needed, a block of coordinates at a time, or not at
/// all: a rule from inner products behind it costs `n x n` numbers.
pub trait PreAggregator: Debug + Send {
    /// The name, as in a run file.
    fn name(&self) -> &'static str;

    /// The least number of vectors with which it can bear `f` hostile ones.
    fn min_n(&self, f: usize) -> usize;

    /// The laws that a rule keeps behind it, if it keeps them alone.
    fn laws(&self) -> Laws;

    /// The constant of a rule with the constant `kappa` behind it.
    fn kappa(&self, kappa: f64, n: usize, f: usize) -> Option<f64> {
        let _ = (kappa, n, f);
        None
    }

    /// As [`Rule::is_shardable`](crate::Rule::is_shardable).
    fn is_shardable(&self) -> bool {
        false
    }

    /// Decides from what it measures of the round.
    ///
    /// # Errors
    /// Whatever measuring brings.
    fn mix(&mut self, round: &Round<'_>) -> Result<Mixed, GradError>;
}

/// What a pre-aggregator makes: vectors, and under whose names.
#[derive(Clone, Debug)]
pub struct Mixed {
    mixing: Mixing,
    ids: Vec<u64>,
    samples: Vec<u64>,
    hostile: usize,
    scores: Vec<f64>,
    features: Vec<(&'static str, Vec<f64>)>,
}

impl Mixed {
    /// One vector for each that there was, as many hostile.
    #[must_use]
    pub fn each(round: &Round<'_>, mixing: Mixing) -> Self {
        let (ids, samples) = (round.ids().to_vec(), round.samples().to_vec());
        Mixed { mixing, ids, samples, hostile: round.hostile(), scores: Vec::new(), features: Vec::new() }
    }

    /// The means of groups, each under the first name in it; as many may be hostile as vectors were.
    ///
    /// # Panics
    /// When a group is empty or names a vector that is not there.
    #[track_caller]
    #[must_use]
    pub fn groups(round: &Round<'_>, groups: &[Vec<usize>]) -> Self {
        let mixing = Mixing::means(round.n(), groups);
        let ids = groups
            .iter()
            .map(|group| group.iter().map(|i| round.ids()[*i]).min().unwrap_or_default())
            .collect();
        let total =
            |group: &Vec<usize>| group.iter().map(|i| round.samples()[*i]).fold(0, u64::saturating_add);
        let samples = groups.iter().map(total).collect();
        Mixed { mixing, ids, samples, hostile: round.hostile(), scores: Vec::new(), features: Vec::new() }
    }

    /// Some of the vectors, of which `hostile` may be hostile.
    ///
    /// # Panics
    /// When one of them is not there.
    #[track_caller]
    #[must_use]
    pub fn kept(round: &Round<'_>, kept: &[usize], hostile: usize) -> Self {
        let groups: Vec<Vec<usize>> = kept.iter().map(|i| vec![*i]).collect();
        Mixed { hostile, ..Mixed::groups(round, &groups) }
    }

    /// The same, with a score for each vector that there was.
    #[must_use]
    pub fn with_scores(self, scores_n: Vec<f64>) -> Self {
        Mixed { scores: scores_n, ..self }
    }

    /// The same, with what the scores are made of.
    #[must_use]
    pub fn with_feature(mut self, name: &'static str, values_n: Vec<f64>) -> Self {
        self.features.push((name, values_n));
        self
    }

    pub(crate) fn stage(&self, by: &'static str, round: &Round<'_>) -> Option<Stage> {
        let (scores, features) = (self.scores.clone(), self.features.clone());
        (!scores.is_empty()).then(|| Stage { by, ids: round.ids().to_vec(), scores, features })
    }

    /// The round that the next one sees.
    pub(crate) fn applied_to(self, round: Round<'_>) -> Round<'_> {
        let mixing = match &round.mixing {
            Some(first) => self.mixing.after(first),
            None => self.mixing,
        };
        // A later name may come first in a group: the order of the round is that of names.
        let mut order: Vec<usize> = (0..self.ids.len()).collect();
        order.sort_by_key(|i| self.ids[*i]);
        let n = mixing.weights().len() / mixing.len().max(1);
        let rows = order.iter().flat_map(|i| mixing.weights()[i * n..][..n].iter().copied());
        let mixing = Mixing::new(order.len(), n, rows.collect());
        Round {
            ids: order.iter().map(|i| self.ids[*i]).collect(),
            samples: order.iter().map(|i| self.samples[*i]).collect(),
            hostile: self.hostile,
            mixing: Some(mixing),
            gram: OnceCell::new(),
            norms_sq: OnceCell::new(),
            ..round
        }
    }
}

/// A boxed pre-aggregator is one.
impl PreAggregator for Box<dyn PreAggregator> {
    fn name(&self) -> &'static str {
        (**self).name()
    }
    fn min_n(&self, f: usize) -> usize {
        (**self).min_n(f)
    }
    fn laws(&self) -> Laws {
        (**self).laws()
    }
    fn kappa(&self, kappa: f64, n: usize, f: usize) -> Option<f64> {
        (**self).kappa(kappa, n, f)
    }
    fn is_shardable(&self) -> bool {
        (**self).is_shardable()
    }
    fn mix(&mut self, round: &Round<'_>) -> Result<Mixed, GradError> {
        (**self).mix(round)
    }
}
