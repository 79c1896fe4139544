//! FLTrust: senders count as far as they agree with an update from clean data.

use crate::{Decision, Law, Laws, Round, Rule};
use phalanx_grad::{Axis, GradError, Ranks};
use serde::{Deserialize, Serialize};

/// The mean of the vectors, each cut or stretched to the length of the
/// [trusted update](crate::Updates::with_trusted) and weighted by its cosine with it, if that is above 0.
///
/// Any number may be hostile, as long as the trusted update comes from clean data; some hundred samples do.
///
/// # Errors
/// [`GradError::Missing`] without a trusted update; [`GradError::NoWeight`] when nobody agrees with it, or it is 0:
/// keep the model then.
///
/// # Reference
/// Cao et al., "FLTrust: Byzantine-robust Federated Learning via Trust Bootstrapping", NDSS 2021.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct FlTrust;

impl Rule for FlTrust {
    fn name(&self) -> &'static str {
        "fltrust"
    }

    fn min_n(&self, _f: usize) -> usize {
        1
    }

    fn laws(&self) -> Laws {
        Laws::none().and(Law::Permutation)
    }

    fn is_shardable(&self) -> bool {
        true
    }

    fn decide(&mut self, round: &Round<'_>) -> Result<Decision, GradError> {
        let rule = self.name();
        let trusted = round.trusted().ok_or(GradError::Missing { rule, what: "a trusted update" })?;
        let (products, own) = round.products_with(trusted)?;
        let lengths = round.norms_sq()?.iter().map(|norm_sq| (norm_sq * own).sqrt());
        let trust: Vec<f64> =
            products.iter().zip(lengths).map(|(p, l)| if *p > 0.0 { p / l } else { 0.0 }).collect();
        let total: f64 = trust.iter().sum();
        if total <= 0.0 {
            return Err(GradError::NoWeight { rule, axis: Ranks::NAME });
        }
        let stretch = round.norms_sq()?.iter().map(|norm_sq| (own / norm_sq).sqrt());
        let weight = |(trust, stretch): (&f64, f64)| if *trust > 0.0 { trust / total * stretch } else { 0.0 };
        Ok(Decision::sum(trust.iter().zip(stretch).map(weight).collect()).with_scores(trust))
    }
}
