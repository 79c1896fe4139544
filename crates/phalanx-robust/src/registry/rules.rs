//! The rules by name.

use super::named;
use crate::{
    Bulyan, Caf, CenteredClipping, Dnc, FlTrust, Flame, FoolsGold, GeometricMedian, Krum, Mda, MeaMed,
    Median, Monna, MultiKrum, Mva, NormClip, Rfa, Rlr, Rule, SignMajority, Smea, TrimmedMean, WeightedMean,
};
use phalanx_grad::GradError;
use serde::{Deserialize, Serialize};

named! {
    /// The settings of any rule, under the key `rule`.
    pub enum RuleConfig by "rule" {
        /// See [`WeightedMean`].
        "mean" => Mean(WeightedMean),
        /// See [`Median`].
        "median" => Median(Median),
        /// See [`TrimmedMean`].
        "trimmed-mean" => TrimmedMean(TrimmedMean),
        /// See [`MeaMed`].
        "mea-med" => MeaMed(MeaMed),
        /// See [`Krum`].
        "krum" => Krum(Krum),
        /// See [`MultiKrum`].
        "multi-krum" => MultiKrum(MultiKrum),
        /// See [`Bulyan`].
        "bulyan" => Bulyan(Bulyan),
        /// See [`GeometricMedian`].
        "geometric-median" => GeometricMedian(GeometricMedian),
        /// See [`Rfa`].
        "rfa" => Rfa(Rfa),
        /// See [`Mda`].
        "mda" => Mda(Mda),
        /// See [`Mva`].
        "mva" => Mva(Mva),
        /// See [`Smea`].
        "smea" => Smea(Smea),
        /// See [`Caf`].
        "caf" => Caf(Caf),
        /// See [`Monna`].
        "monna" => Monna(Monna),
        /// See [`CenteredClipping`].
        "centered-clipping" => CenteredClipping(CenteredClippingConfig),
        /// See [`NormClip`].
        "norm-clip" => NormClip(NormClip),
        /// See [`Dnc`].
        "dnc" => Dnc(Dnc),
        /// See [`FlTrust`].
        "fltrust" => FlTrust(FlTrust),
        /// See [`FoolsGold`].
        "fools-gold" => FoolsGold(Empty),
        /// See [`Flame`].
        "flame" => Flame(Flame),
        /// See [`Rlr`].
        "rlr" => Rlr(RlrConfig),
        /// See [`SignMajority`].
        "sign-majority" => SignMajority(SignMajority),
    }
}

/// No settings.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Empty {}

/// The settings of [`CenteredClipping`].
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct CenteredClippingConfig {
    /// The radius.
    pub tau: f64,
    /// Steps a round.
    pub steps: usize,
}

impl Default for CenteredClippingConfig {
    fn default() -> Self {
        CenteredClippingConfig { tau: 10.0, steps: 1 }
    }
}

/// The settings of [`Rlr`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct RlrConfig {
    /// Signs that must agree, more than disagree.
    pub threshold: usize,
    /// What makes the vector whose signs change.
    pub base: RlrBase,
}

impl Default for RlrConfig {
    fn default() -> Self {
        RlrConfig { threshold: 4, base: RlrBase::Mean }
    }
}

/// The rules that [`Rlr`] rests on.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum RlrBase {
    /// [`WeightedMean`].
    #[default]
    Mean,
    /// [`Median`].
    Median,
    /// [`SignMajority`].
    SignMajority,
}

impl RuleConfig {
    /// The rule with these settings.
    ///
    /// # Errors
    /// [`GradError::Setting`] names the setting that is out of range.
    pub fn build(&self) -> Result<Box<dyn Rule>, GradError> {
        Ok(match *self {
            Self::Mean(rule) => Box::new(rule),
            Self::Median(rule) => Box::new(rule),
            Self::TrimmedMean(rule) => Box::new(rule),
            Self::MeaMed(rule) => Box::new(rule),
            Self::Krum(rule) => Box::new(rule),
            Self::MultiKrum(rule) => Box::new(rule),
            Self::Bulyan(rule) => Box::new(rule),
            Self::GeometricMedian(rule) => Box::new(rule),
            Self::Rfa(rule) => Box::new(rule),
            Self::Mda(rule) => Box::new(rule),
            Self::Mva(rule) => Box::new(rule),
            Self::Smea(rule) => Box::new(rule),
            Self::Caf(rule) => Box::new(rule),
            Self::Monna(rule) => Box::new(rule),
            Self::CenteredClipping(config) => Box::new(CenteredClipping::new(config.tau, config.steps)?),
            Self::NormClip(rule) => Box::new(rule),
            Self::Dnc(rule) => Box::new(rule),
            Self::FlTrust(rule) => Box::new(rule),
            Self::FoolsGold(Empty {}) => Box::new(FoolsGold::default()),
            Self::Flame(rule) => Box::new(rule),
            Self::Rlr(RlrConfig { threshold, base }) => match base {
                RlrBase::Mean => Box::new(Rlr::new(WeightedMean, threshold)),
                RlrBase::Median => Box::new(Rlr::new(Median, threshold)),
                RlrBase::SignMajority => Box::new(Rlr::new(SignMajority, threshold)),
            },
            Self::SignMajority(rule) => Box::new(rule),
        })
    }
}
