//! What a rule over ranks is, what it decides, and the rules, one file each.

use crate::{Laws, Round};
use phalanx_grad::{GradError, Ranks, StateTensor, WeightRule, Weighted};
use phalanx_tensor::rng::Stream;
use phalanx_tensor::rows::Statistic;
use std::fmt::Debug;
use std::sync::Arc;

mod bulyan;
mod caf;
mod centered_clipping;
mod dnc;
mod flame;
mod fltrust;
mod fools_gold;
mod geometric_median;
mod krum;
mod mda;
mod mea_med;
mod mean;
mod median;
mod monna;
mod multi_krum;
mod mva;
mod norm_clip;
mod rfa;
mod rlr;
mod sign_majority;
mod smea;
mod trimmed_mean;

pub use bulyan::Bulyan;
pub use caf::Caf;
pub use centered_clipping::CenteredClipping;
pub use dnc::Dnc;
pub use flame::Flame;
pub use fltrust::FlTrust;
pub use fools_gold::FoolsGold;
pub use geometric_median::{GeometricMedian, Smoothing, Start};
pub use krum::{Krum, Neighbours};
pub use mda::Mda;
pub use mea_med::MeaMed;
pub use mean::WeightedMean;
pub use median::Median;
pub use monna::Monna;
pub use multi_krum::MultiKrum;
pub use mva::Mva;
pub use norm_clip::NormClip;
pub use rfa::Rfa;
pub use rlr::Rlr;
pub use sign_majority::SignMajority;
pub use smea::Smea;
pub use trimmed_mean::TrimmedMean;

pub(crate) use geometric_median::median;
pub(crate) use krum::{Neighbourhoods, least};

/// A rule that bears hostile ranks.
///
/// It looks at numbers about the vectors of a [`Round`] and answers with a [`Decision`]: a weighted sum, or a
/// statistic of every coordinate. [`Robust`](crate::Robust) measures, drops what is invalid, applies the decision and
/// reports. Ties go to the first in the order of the round, which is that of the senders' names.
///
/// A rule from inner products alone may as well be a [`WeightRule`]: [`Weighted`] makes a `Rule` of it.
pub trait Rule: Debug + Send {
    /// The name, as in a run file.
    fn name(&self) -> &'static str;

    /// The least number of vectors with which `f` hostile ones among them can be borne.
    fn min_n(&self, f: usize) -> usize;

    /// The laws that hold for it.
    fn laws(&self) -> Laws;

    /// A `kappa` such that the result is never farther from the mean of any `n - f` vectors than
    /// `sqrt(kappa / (n - f) * sum |x_i - mean|^2)` over them; `None` where none is known or none exists.
    fn kappa(&self, n: usize, f: usize) -> Option<f64> {
        let _ = (n, f);
        None
    }

    /// Whether it can decide where each of several ranks holds a part of the coordinates: from sums over coordinates,
    /// and [parts](Round::part) of whole vectors of its own. Otherwise every rank is given whole vectors.
    fn is_shardable(&self) -> bool {
        false
    }

    /// Decides from what it measures of the round.
    ///
    /// Nothing that lasts may change here: the round may still fail.
    ///
    /// # Errors
    /// [`GradError::TooFew`] and whatever measuring brings.
    fn decide(&mut self, round: &Round<'_>) -> Result<Decision, GradError>;

    /// Takes note of the result of a round that succeeded, all of it on every rank.
    fn settle(&mut self, out_d: &[f32]) {
        let _ = out_d;
    }

    /// Everything that later rounds depend on.
    fn state(&self) -> Vec<StateTensor> {
        Vec::new()
    }

    /// What later rounds depend on beside [`state`](Self::state), of which each of several ranks has the coordinates that
    /// were [here](Round::coordinates) in the last round.
    fn state_in_parts(&self) -> Vec<StateTensor> {
        Vec::new()
    }

    /// Takes back what [`state`](Self::state) gave, and the parts of [`state_in_parts`](Self::state_in_parts) joined: all
    /// coordinates, on every rank.
    ///
    /// # Errors
    /// [`GradError::StateUnknown`], [`GradError::StateMissing`] and their like for the state of another rule.
    fn restore(&mut self, state: &[StateTensor]) -> Result<(), GradError> {
        phalanx_grad::StateReader::new(self.name(), state).finish()
    }
}

/// What to make of the vectors of a round.
#[derive(Clone, Debug)]
pub struct Decision {
    pub(crate) form: Form,
    pub(crate) finish: Finish,
    pub(crate) scores: Vec<f64>,
    pub(crate) features: Vec<(&'static str, Vec<f64>)>,
}

#[derive(Clone, Debug)]
pub(crate) enum Form {
    /// A sum with a weight for each vector, and for vectors of the rule's own.
    Sum { weights_n: Vec<f64>, anchors: Vec<(f64, Arc<[f32]>)> },
    /// A statistic of the coordinates of chosen vectors.
    Columns { chosen: Vec<usize>, statistic: Statistic },
}

/// What is done to the result at last.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Finish {
    Nothing,
    /// Each coordinate becomes its sign.
    Sign,
    /// Coordinates on whose sign fewer than so many agree change theirs.
    FlipBelow(usize),
    /// Adds normal numbers of this standard deviation.
    Noise(f64, Stream),
}

impl Decision {
    /// A sum with one weight a vector. Vectors of weight 0 count as left out.
    #[must_use]
    pub fn sum(weights_n: Vec<f64>) -> Self {
        Decision::new(Form::Sum { weights_n, anchors: Vec::new() })
    }

    /// The mean of chosen vectors.
    #[must_use]
    pub fn mean_of(n: usize, chosen: &[usize]) -> Self {
        let mut weights_n = vec![0.0; n];
        chosen.iter().for_each(|i| weights_n[*i] = 1.0 / chosen.len() as f64);
        Decision::sum(weights_n)
    }

    /// A statistic of each coordinate over chosen vectors.
    #[must_use]
    pub fn columns(chosen: Vec<usize>, statistic: Statistic) -> Self {
        Decision::new(Form::Columns { chosen, statistic })
    }

    fn new(form: Form) -> Self {
        Decision { form, finish: Finish::Nothing, scores: Vec::new(), features: Vec::new() }
    }

    /// The same, with a score for each vector in the report.
    #[must_use]
    pub fn with_scores(self, scores_n: Vec<f64>) -> Self {
        Decision { scores: scores_n, ..self }
    }

    /// The same, with a multiple of a vector of the rule's own added.
    #[must_use]
    pub fn with_anchor(mut self, weight: f64, anchor: Arc<[f32]>) -> Self {
        if let Form::Sum { anchors, .. } = &mut self.form {
            anchors.push((weight, anchor));
        }
        self
    }

    pub(crate) fn with_finish(self, finish: Finish) -> Self {
        Decision { finish, ..self }
    }
}

/// A rule from inner products. It is taken to bear fewer than half and to keep the laws that every such rule keeps.
impl<R: WeightRule<Ranks>> Rule for Weighted<R> {
    fn name(&self) -> &'static str {
        self.0.name()
    }

    fn min_n(&self, f: usize) -> usize {
        2 * f + 1
    }

    fn laws(&self) -> Laws {
        Laws::none().and(crate::Law::Rotation)
    }

    fn is_shardable(&self) -> bool {
        true
    }

    fn decide(&mut self, round: &Round<'_>) -> Result<Decision, GradError> {
        let mut weights_n = vec![0.0; round.n()];
        self.0.weights(round.step(), round.gram()?, &mut weights_n)?;
        Ok(Decision::sum(weights_n))
    }
}

/// An error when a setting is not above 0, or not finite.
pub(crate) fn positive(rule: &'static str, setting: &'static str, got: f64) -> Result<f64, GradError> {
    let need = "a number above 0";
    if got > 0.0 && got.is_finite() { Ok(got) } else { Err(GradError::Setting { rule, setting, got, need }) }
}

/// A boxed rule is a rule.
impl Rule for Box<dyn Rule> {
    fn name(&self) -> &'static str {
        (**self).name()
    }
    fn min_n(&self, f: usize) -> usize {
        (**self).min_n(f)
    }
    fn laws(&self) -> Laws {
        (**self).laws()
    }
    fn kappa(&self, n: usize, f: usize) -> Option<f64> {
        (**self).kappa(n, f)
    }
    fn is_shardable(&self) -> bool {
        (**self).is_shardable()
    }
    fn decide(&mut self, round: &Round<'_>) -> Result<Decision, GradError> {
        (**self).decide(round)
    }
    fn settle(&mut self, out_d: &[f32]) {
        (**self).settle(out_d);
    }
    fn state(&self) -> Vec<StateTensor> {
        (**self).state()
    }
    fn state_in_parts(&self) -> Vec<StateTensor> {
        (**self).state_in_parts()
    }
    fn restore(&mut self, state: &[StateTensor]) -> Result<(), GradError> {
        (**self).restore(state)
    }
}
