//! The attacks on gradients by name.

use super::named;
use super::rules::Empty;
use crate::Robust;
use crate::attack::{
    Alie, Attack, Constant, FangKrum, FangTrimmedMean, Gaussian, Ipm, Mimic, MinMax, MinSum,
    ModelReplacement, Neurotoxin, OptAlie, OptIpm, Pgd, SignFlip,
};
use serde::{Deserialize, Serialize};

named! {
    /// The settings of any attack on gradients, under the key `kind`.
    pub enum AttackConfig by "kind" {
        /// See [`SignFlip`].
        "sign-flip" => SignFlip(SignFlip),
        /// See [`Ipm`].
        "ipm" => Ipm(Ipm),
        /// See [`Alie`].
        "alie" => Alie(Alie),
        /// See [`OptIpm`].
        "opt-ipm" => OptIpm(Empty),
        /// See [`OptAlie`].
        "opt-alie" => OptAlie(Empty),
        /// See [`MinMax`].
        "min-max" => MinMax(MinMax),
        /// See [`MinSum`].
        "min-sum" => MinSum(MinSum),
        /// See [`Mimic`].
        "mimic" => Mimic(MimicConfig),
        /// See [`Gaussian`].
        "gaussian" => Gaussian(Gaussian),
        /// See [`Constant::Zero`].
        "zero" => Zero(Empty),
        /// See [`Constant::Nan`].
        "nan" => Nan(Empty),
        /// See [`Constant::Inf`].
        "inf" => Inf(Empty),
        /// See [`Constant::Huge`].
        "huge" => Huge(Empty),
        /// See [`FangKrum`].
        "fang-krum" => FangKrum(FangKrum),
        /// See [`FangTrimmedMean`].
        "fang-trimmed-mean" => FangTrimmedMean(FangTrimmedMean),
        /// See [`ModelReplacement`].
        "model-replacement" => ModelReplacement(ModelReplacement),
        /// See [`Pgd`].
        "pgd" => Pgd(Pgd),
        /// See [`Neurotoxin`].
        "neurotoxin" => Neurotoxin(Neurotoxin),
    }
}

/// The settings of [`Mimic`].
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct MimicConfig {
    /// Steps in which it looks for its victim; 0 takes the first honest rank.
    pub warm_up: u64,
}

impl AttackConfig {
    /// The attack with these settings, made against `defense`: those that search ask it what harms.
    #[must_use]
    pub fn build(&self, defense: impl FnOnce() -> Robust) -> Box<dyn Attack> {
        match *self {
            Self::SignFlip(attack) => Box::new(attack),
            Self::Ipm(attack) => Box::new(attack),
            Self::Alie(attack) => Box::new(attack),
            Self::OptIpm(Empty {}) => Box::new(OptIpm::against(defense())),
            Self::OptAlie(Empty {}) => Box::new(OptAlie::against(defense())),
            Self::MinMax(attack) => Box::new(attack),
            Self::MinSum(attack) => Box::new(attack),
            Self::Mimic(MimicConfig { warm_up }) => Box::new(Mimic::new(warm_up)),
            Self::Gaussian(attack) => Box::new(attack),
            Self::Zero(Empty {}) => Box::new(Constant::Zero),
            Self::Nan(Empty {}) => Box::new(Constant::Nan),
            Self::Inf(Empty {}) => Box::new(Constant::Inf),
            Self::Huge(Empty {}) => Box::new(Constant::Huge),
            Self::FangKrum(attack) => Box::new(attack),
            Self::FangTrimmedMean(attack) => Box::new(attack),
            Self::ModelReplacement(attack) => Box::new(attack),
            Self::Pgd(attack) => Box::new(attack),
            Self::Neurotoxin(attack) => Box::new(attack),
        }
    }
}
