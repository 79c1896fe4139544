//! `[aggregation]`: how the ranks' gradients become one.

use phalanx_grad::Senders;
use phalanx_robust::registry::{CenteredClippingConfig, Empty, RlrBase, RlrConfig, RuleConfig};
use phalanx_robust::{
    Bulyan, Caf, Dnc, FlTrust, Flame, GeometricMedian, Krum, Mda, MeaMed, Median, Monna, MultiKrum, Mva,
    NormClip, Rfa, SignMajority, Smea, TrimmedMean, WeightedMean,
};
use phalanx_train::Over;

use crate::aggregation::Before;
use crate::runfile::Range;
use crate::runfile::key::{keys, kinds, names};

keys! {
    /// The rule over the ranks' gradients, and what stands before it.
    pub struct Aggregation {
        /// Hostile ranks that the rule is set to bear, or nodes where it is over these; not given: as many as it can with
        /// `train.ranks`. In federated runs, clients of `federated.per_round`.
        hostile: Option<usize>, "ranks", Range::AtLeast(0.0), Fixed;
        /// What the rule is over: "ranks", or "nodes", of which each sends the mean over its ranks. Numbers of ranks in this
        /// section and in `[[attack]]` are then those of nodes. Federated runs are over clients.
        over: OverWhat = OverWhat::Ranks, "", Range::Any, Fixed;
        /// Ranks of a node, one after the other, for a rule over nodes; not given: as MPI finds them. The last node may
        /// have fewer.
        ranks_per_node: Option<usize>, "ranks", Range::AtLeast(1.0), May;
        /// Training samples that are set aside, drawn by the seed, and never trained on: their gradient, or in federated
        /// runs the update from training on them, is what "fltrust" and "monna" without a pivot trust.
        trusted_samples: Option<usize>, "samples", Range::AtLeast(1.0), Fixed;
        /// Momentum that each rank applies to its own gradients before the rule, `m = beta m + (1 - beta) g`; over nodes,
        /// each node to its mean; in federated runs, each client to its updates.
        momentum: f64 = 0.0, "", Range::Below(0.0, 1.0), Fixed;
        /// Pre-aggregators, the first to act first, such as ["arc", "nnm"], or with settings as
        /// `phalanx config rules` lists them: [{ kind = "bucketing", size = 3 }].
        before: Before = Before::default(), "", Range::Any, Fixed;
        ..
        /// The rule.
        rule: AggregationRule
    }
}

kinds! {
    /// The rule over the ranks' gradients.
    pub enum AggregationRule by rule = "mean" {
        /// The mean over samples. Bears no hostile rank.
        "mean" => Mean {}
        /// The median of each coordinate.
        "median" => Median {}
        /// The mean of each coordinate without the `hostile` least and greatest.
        "trimmed-mean" => TrimmedMean {}
        /// The mean of each coordinate's values nearest to its median.
        "mea-med" => MeaMed {}
        /// The gradient nearest to its neighbours.
        "krum" => Krum {
            /// Which neighbours count: "original", the `n - f - 2` nearest others, or "epfl", the `n - f` nearest
            /// with itself.
            neighbours: Neighbours = Neighbours::Original, "", Range::Any, Fixed;
        }
        /// The mean of the gradients nearest to their neighbours.
        "multi-krum" => MultiKrum {
            /// Which neighbours count, as for "krum".
            neighbours: Neighbours = Neighbours::Original, "", Range::Any, Fixed;
            /// How many are averaged; not given: all but `hostile`.
            keep: Option<usize>, "ranks", Range::AtLeast(1.0), Fixed;
        }
        /// Krum again and again, then the middle of each coordinate.
        "bulyan" => Bulyan {}
        /// The point of least summed distance to all gradients.
        "geometric-median" => GeometricMedian {
            /// Most steps of the iteration.
            steps: usize = 1000, "steps", Range::Within(1.0, 1e6), Fixed;
            /// It ends when no weight moves by more than this.
            tolerance: f64 = 1e-12, "", Range::AtLeast(0.0), Fixed;
        }
        /// A few steps towards the geometric median.
        "rfa" => Rfa {
            /// Steps of the iteration.
            steps: usize = 4, "steps", Range::Within(1.0, 1e6), Fixed;
            /// The least distance that is divided by.
            smoothing: f64 = 1e-5, "", Range::Above(0.0), Fixed;
        }
        /// The mean of the subset of least diameter.
        "mda" => Mda {}
        /// The mean of the subset of least variance.
        "mva" => Mva {}
        /// The mean of the subset whose covariance has the least largest eigenvalue.
        "smea" => Smea {}
        /// Weights lowered along the direction of greatest variance until enough is gone.
        "caf" => Caf {}
        /// The mean of the gradients nearest to one that is trusted.
        "monna" => Monna {
            /// The rank whose gradient is trusted; not given: the gradient of `trusted_samples`.
            pivot: Option<usize>, "", Range::AtLeast(0.0), Fixed;
        }
        /// The mean of the gradients, each as long as that of `trusted_samples` and weighted by its cosine with it, if that is
        /// above 0.
        "fltrust" => FlTrust {}
        /// The last result, moved by what differs from it, cut to a radius.
        "centered-clipping" => CenteredClipping {
            /// The radius.
            tau: f64 = 10.0, "", Range::Above(0.0), Fixed;
            /// Moves a step.
            steps: usize = 1, "steps", Range::Within(1.0, 1e6), Fixed;
        }
        /// The mean of gradients scaled down to one norm.
        "norm-clip" => NormClip {
            /// The norm; not given: the median of the norms.
            norm: Option<f64>, "", Range::Above(0.0), Fixed;
        }
        /// The mean without those that lie far out along the direction of greatest variance.
        "dnc" => Dnc {
            /// How many times `hostile` are left out each time.
            cut: f64 = 1.0, "", Range::Above(0.0), Fixed;
            /// Share of the coordinates that is looked at.
            share: f64 = 0.2, "", Range::UpTo(0.0, 1.0), Fixed;
            /// How often.
            times: usize = 5, "", Range::Within(1.0, 1000.0), Fixed;
        }
        /// Weights by how unlike the directions of the past are.
        "fools-gold" => FoolsGold {}
        /// The largest cluster of directions, clipped, with noise.
        "flame" => Flame {
            /// Standard deviation of the noise over the median norm.
            noise: f64 = 1e-3, "", Range::AtLeast(0.0), Fixed;
        }
        /// A rule whose coordinates change sign where too few ranks agree on it.
        "rlr" => Rlr {
            /// Signs that must agree, more than disagree.
            threshold: usize = 4, "ranks", Range::AtLeast(0.0), Fixed;
            /// The rule: "mean", "median" or "sign-majority".
            base: Base = Base::Mean, "", Range::Any, Fixed;
        }
        /// The sign that most ranks have, in each coordinate.
        "sign-majority" => SignMajority {}
    }
}

names! {
    /// What a rule is over.
    pub enum OverWhat {
        /// The gradients of ranks.
        "ranks" => Ranks,
        /// The means of nodes.
        "nodes" => Nodes,
    }
}

impl Aggregation {
    /// What the rule is over; none where only the launcher could know which ranks make a node.
    #[must_use]
    pub fn over(&self) -> Option<Over> {
        match self.over {
            OverWhat::Ranks => Some(Over::Ranks),
            OverWhat::Nodes => self.ranks_per_node.map(|ranks_per_node| Over::Nodes { ranks_per_node }),
        }
    }

    /// Whether it asks for nothing but the mean.
    #[must_use]
    pub fn is_plain_mean(&self) -> bool {
        matches!(self.rule, AggregationRule::Mean {}) && self.before.is_empty() && self.momentum == 0.0
    }

    /// What those are called whose gradients are compared.
    #[must_use]
    pub fn senders(&self) -> Senders {
        match self.over {
            OverWhat::Ranks => Senders::Ranks,
            OverWhat::Nodes => Senders::Nodes,
        }
    }
}

names! {
    /// Whose distances make a score of Krum.
    pub enum Neighbours {
        /// The `n - f - 2` nearest others.
        "original" => Original,
        /// The `n - f` nearest with itself.
        "epfl" => Epfl,
    }
}

names! {
    /// The rule whose signs may change.
    pub enum Base {
        /// The mean over samples.
        "mean" => Mean,
        /// The median of each coordinate.
        "median" => Median,
        /// The sign that most have.
        "sign-majority" => SignMajority,
    }
}

impl Neighbours {
    fn of_rule(self) -> phalanx_robust::Neighbours {
        match self {
            Self::Original => phalanx_robust::Neighbours::Original,
            Self::Epfl => phalanx_robust::Neighbours::Epfl,
        }
    }
}

impl AggregationRule {
    /// Whether it compares gradients with one from data that are trusted.
    #[must_use]
    pub fn trusts(&self) -> bool {
        matches!(self, Self::FlTrust {} | Self::Monna { pivot: None })
    }

    /// The rule's settings; what is random in it depends on `seed`.
    #[must_use]
    pub fn config(&self, seed: u64) -> RuleConfig {
        match *self {
            Self::Mean {} => RuleConfig::Mean(WeightedMean),
            Self::Median {} => RuleConfig::Median(Median),
            Self::TrimmedMean {} => RuleConfig::TrimmedMean(TrimmedMean),
            Self::MeaMed {} => RuleConfig::MeaMed(MeaMed),
            Self::Krum { neighbours } => RuleConfig::Krum(Krum { neighbours: neighbours.of_rule() }),
            Self::MultiKrum { neighbours, keep } => {
                RuleConfig::MultiKrum(MultiKrum { neighbours: neighbours.of_rule(), keep })
            }
            Self::Bulyan {} => RuleConfig::Bulyan(Bulyan),
            Self::GeometricMedian { steps, tolerance } => RuleConfig::GeometricMedian(GeometricMedian {
                steps,
                tolerance,
                ..GeometricMedian::default()
            }),
            Self::Rfa { steps, smoothing } => RuleConfig::Rfa(Rfa { steps, smoothing }),
            Self::Mda {} => RuleConfig::Mda(Mda),
            Self::Mva {} => RuleConfig::Mva(Mva),
            Self::Smea {} => RuleConfig::Smea(Smea),
            Self::Caf {} => RuleConfig::Caf(Caf),
            Self::Monna { pivot } => RuleConfig::Monna(Monna { pivot: pivot.map(|pivot| pivot as u64) }),
            Self::FlTrust {} => RuleConfig::FlTrust(FlTrust),
            Self::CenteredClipping { tau, steps } => {
                RuleConfig::CenteredClipping(CenteredClippingConfig { tau, steps })
            }
            Self::NormClip { norm } => RuleConfig::NormClip(NormClip { norm }),
            Self::Dnc { cut, share, times } => RuleConfig::Dnc(Dnc { cut, share, times, seed }),
            Self::FoolsGold {} => RuleConfig::FoolsGold(Empty {}),
            Self::Flame { noise } => RuleConfig::Flame(Flame { noise, seed }),
            Self::Rlr { threshold, base } => {
                let base = match base {
                    Base::Mean => RlrBase::Mean,
                    Base::Median => RlrBase::Median,
                    Base::SignMajority => RlrBase::SignMajority,
                };
                RuleConfig::Rlr(RlrConfig { threshold, base })
            }
            Self::SignMajority {} => RuleConfig::SignMajority(SignMajority),
        }
    }
}
