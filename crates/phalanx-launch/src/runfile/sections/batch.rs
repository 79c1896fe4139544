//! `[batch]`: how the batch size follows the run, and the learning rate the batch size.

use crate::runfile::Range;
use crate::runfile::key::{keys, kinds, names};

keys! {
    /// The course of the batch size.
    pub struct Batch {
        /// What the learning rate makes of a batch that is not `train.batch`: "none", "linear" for SGD, "square-root" for
        /// Adam, "saturating" above the noise scale, or "adascale".
        lr_scaling: LrScaling = LrScaling::None, "", Range::Any, Fixed;
        ..
        /// What decides the batch size.
        policy: BatchPolicy
    }
}

kinds! {
    /// What decides the batch size after each step.
    pub enum BatchPolicy by policy = "constant" {
        /// It stays `train.batch`.
        "constant" => Constant {}
        /// AdAdaGrad: the norm test, with AdaGrad for the optimizer unless `optimizer.kind` names one.
        "adadagrad" => AdAdaGrad {
            /// Length that the noise of the gradient may have, as a share of the gradient's.
            eta: f64 = 0.1, "", Range::Between(0.0, 1.0), Fixed;
            /// Greatest batch; not given: the training set.
            max: Option<usize>, "samples", Range::AtLeast(1.0), Fixed;
            /// Steps between two tests.
            interval: u64 = 1, "steps", Range::AtLeast(1.0), Fixed;
            /// Most that one test multiplies the batch by.
            growth: f64 = 2.0, "", Range::Above(1.0), Fixed;
            /// Whose gradients are compared: "samples", or "ranks" (DDP-Norm).
            statistic: Statistic = Statistic::Samples, "", Range::Any, Fixed;
            /// What the noise is compared with: "raw", the batch's gradient, or "debiased", the true one.
            denominator: Denominator = Denominator::Raw, "", Range::Any, Fixed;
            /// Decay of the running means of noise and signal; 0: each test by itself.
            ema: f64 = 0.0, "", Range::Below(0.0, 1.0), Fixed;
        }
        /// AdAdaGrad-Norm: the norm test, with AdaGrad-Norm for the optimizer unless `optimizer.kind` names one.
        "adadagrad-norm" => AdAdaGradNorm {
            /// Length that the noise of the gradient may have, as a share of the gradient's.
            eta: f64 = 0.1, "", Range::Between(0.0, 1.0), Fixed;
            /// Greatest batch; not given: the training set.
            max: Option<usize>, "samples", Range::AtLeast(1.0), Fixed;
            /// Steps between two tests.
            interval: u64 = 1, "steps", Range::AtLeast(1.0), Fixed;
            /// Most that one test multiplies the batch by.
            growth: f64 = 2.0, "", Range::Above(1.0), Fixed;
            /// Whose gradients are compared: "samples", or "ranks" (DDP-Norm).
            statistic: Statistic = Statistic::Samples, "", Range::Any, Fixed;
            /// What the noise is compared with: "raw", the batch's gradient, or "debiased", the true one.
            denominator: Denominator = Denominator::Raw, "", Range::Any, Fixed;
            /// Decay of the running means of noise and signal; 0: each test by itself.
            ema: f64 = 0.0, "", Range::Below(0.0, 1.0), Fixed;
        }
        /// The norm test, with any optimizer.
        "norm-test" => NormTest {
            /// Length that the noise of the gradient may have, as a share of the gradient's.
            eta: f64 = 0.1, "", Range::Between(0.0, 1.0), Fixed;
            /// Greatest batch; not given: the training set.
            max: Option<usize>, "samples", Range::AtLeast(1.0), Fixed;
            /// Steps between two tests.
            interval: u64 = 1, "steps", Range::AtLeast(1.0), Fixed;
            /// Most that one test multiplies the batch by.
            growth: f64 = 2.0, "", Range::Above(1.0), Fixed;
            /// Whose gradients are compared: "samples", or "ranks" (DDP-Norm).
            statistic: Statistic = Statistic::Samples, "", Range::Any, Fixed;
            /// What the noise is compared with: "raw", the batch's gradient, or "debiased", the true one.
            denominator: Denominator = Denominator::Raw, "", Range::Any, Fixed;
            /// Decay of the running means of noise and signal; 0: each test by itself.
            ema: f64 = 0.0, "", Range::Below(0.0, 1.0), Fixed;
        }
        /// The inner-product test.
        "inner-product-test" => InnerProductTest {
            /// Deviation that the inner products with the gradient may have, as a share of its squared length.
            theta: f64 = 0.9, "", Range::Above(0.0), Fixed;
            /// Greatest batch; not given: the training set.
            max: Option<usize>, "samples", Range::AtLeast(1.0), Fixed;
            /// Steps between two tests.
            interval: u64 = 1, "steps", Range::AtLeast(1.0), Fixed;
            /// Most that one test multiplies the batch by.
            growth: f64 = 2.0, "", Range::Above(1.0), Fixed;
            /// Whose gradients are compared: "samples" or "ranks".
            statistic: Statistic = Statistic::Samples, "", Range::Any, Fixed;
            /// Decay of the running means of noise and signal; 0: each test by itself.
            ema: f64 = 0.0, "", Range::Below(0.0, 1.0), Fixed;
        }
        /// The augmented inner-product test.
        "augmented-test" => AugmentedTest {
            /// Deviation that the inner products with the gradient may have, as a share of its squared length.
            theta: f64 = 0.9, "", Range::Above(0.0), Fixed;
            /// Length that the noise across the gradient may have, as a share of the gradient's.
            nu: f64 = 5.84, "", Range::Above(0.0), Fixed;
            /// Greatest batch; not given: the training set.
            max: Option<usize>, "samples", Range::AtLeast(1.0), Fixed;
            /// Steps between two tests.
            interval: u64 = 1, "steps", Range::AtLeast(1.0), Fixed;
            /// Most that one test multiplies the batch by.
            growth: f64 = 2.0, "", Range::Above(1.0), Fixed;
            /// Whose gradients are compared: "samples" or "ranks".
            statistic: Statistic = Statistic::Samples, "", Range::Any, Fixed;
            /// Decay of the running means of noise and signal; 0: each test by itself.
            ema: f64 = 0.0, "", Range::Below(0.0, 1.0), Fixed;
        }
        /// The norm test of single coordinates; each test costs one more reduction of the length of the gradient.
        "coordinate-test" => CoordinateTest {
            /// Length that the noise of a coordinate may have, as a share of its mean.
            eta: f64 = 0.1, "", Range::Between(0.0, 1.0), Fixed;
            /// Which coordinates must pass: "max", all; "quantile", the share `quantile`; "per-tensor", each parameter as a whole.
            coordinates: Coordinates = Coordinates::Quantile, "", Range::Any, Fixed;
            /// Share of the coordinates that must pass.
            quantile: f64 = 0.9, "", Range::UpTo(0.0, 1.0), Fixed;
            /// Greatest batch; not given: the training set.
            max: Option<usize>, "samples", Range::AtLeast(1.0), Fixed;
            /// Steps between two tests.
            interval: u64 = 1, "steps", Range::AtLeast(1.0), Fixed;
            /// Most that one test multiplies the batch by.
            growth: f64 = 2.0, "", Range::Above(1.0), Fixed;
            /// Whose gradients are compared: "samples" or "ranks".
            statistic: Statistic = Statistic::Samples, "", Range::Any, Fixed;
            /// Decay of the running mean of what the test asks for; 0: each test by itself.
            ema: f64 = 0.0, "", Range::Below(0.0, 1.0), Fixed;
        }
        /// The batch follows the gradient noise scale, up and down.
        "noise-scale" => NoiseScale {
            /// Smallest batch.
            min: usize = 1, "samples", Range::AtLeast(1.0), Fixed;
            /// Greatest batch; not given: the training set.
            max: Option<usize>, "samples", Range::AtLeast(1.0), Fixed;
            /// Steps between two looks.
            interval: u64 = 1, "steps", Range::AtLeast(1.0), Fixed;
            /// Most that one look multiplies or divides the batch by.
            growth: f64 = 2.0, "", Range::Above(1.0), Fixed;
            /// The batch stays while the noise scale over it is between this and its inverse.
            hysteresis: f64 = 0.5, "", Range::Between(0.0, 1.0), Fixed;
            /// Whose gradients are compared: "samples" or "ranks".
            statistic: Statistic = Statistic::Ranks, "", Range::Any, Fixed;
            /// Decay of the running means of noise and signal.
            ema: f64 = 0.95, "", Range::Below(0.0, 1.0), Fixed;
        }
        /// Pollux: the batch of the most samples a second that count. Decides by the clock.
        "goodput" => Goodput {
            /// Greatest batch; not given: the training set.
            max: Option<usize>, "samples", Range::AtLeast(1.0), Fixed;
            /// Steps between two decisions.
            interval: u64 = 20, "steps", Range::AtLeast(1.0), Fixed;
            /// Most that one decision multiplies the batch by.
            growth: f64 = 2.0, "", Range::Above(1.0), Fixed;
            /// Whose gradients are compared: "samples" or "ranks".
            statistic: Statistic = Statistic::Ranks, "", Range::Any, Fixed;
            /// Decay of the running means of noise and signal.
            ema: f64 = 0.95, "", Range::Below(0.0, 1.0), Fixed;
        }
        /// CABS: learning rate times variance over loss, for plain SGD.
        "cabs" => Cabs {
            /// Smallest batch.
            min: usize = 1, "samples", Range::AtLeast(1.0), Fixed;
            /// Greatest batch; not given: the training set.
            max: Option<usize>, "samples", Range::AtLeast(1.0), Fixed;
            /// Steps between two looks.
            interval: u64 = 1, "steps", Range::AtLeast(1.0), Fixed;
            /// Factor on the batch.
            scale: f64 = 1.0, "", Range::Above(0.0), Fixed;
            /// Whose gradients are compared: "samples" or "ranks".
            statistic: Statistic = Statistic::Samples, "", Range::Any, Fixed;
            /// Decay of the running means of variance and loss.
            ema: f64 = 0.95, "", Range::Below(0.0, 1.0), Fixed;
        }
        /// SimiGrad: a tenth more or less, until halves of the batch agree as asked.
        "simigrad" => SimiGrad {
            /// Cosine of the gradients of two halves of the batch.
            cosine: f64 = 0.1, "", Range::Between(0.0, 1.0), Fixed;
            /// Smallest batch.
            min: usize = 1, "samples", Range::AtLeast(1.0), Fixed;
            /// Greatest batch; not given: the training set.
            max: Option<usize>, "samples", Range::AtLeast(1.0), Fixed;
            /// Steps between two looks.
            interval: u64 = 1, "steps", Range::AtLeast(1.0), Fixed;
            /// Whose gradients are compared: "samples" or "ranks".
            statistic: Statistic = Statistic::Ranks, "", Range::Any, Fixed;
        }
        /// DiveBatch: at the end of each epoch, in proportion to the diversity of its gradients.
        "divebatch" => DiveBatch {
            /// Factor on the diversity.
            delta: f64 = 0.02, "", Range::Above(0.0), Fixed;
            /// Greatest batch; not given: the training set.
            max: Option<usize>, "samples", Range::AtLeast(1.0), Fixed;
            /// Whose gradients are compared: "samples" or "ranks".
            statistic: Statistic = Statistic::Samples, "", Range::Any, Fixed;
        }
        /// A list of sizes, each for an equal share of the run.
        "stages" => Stages {
            /// The sizes after `train.batch`, which is the first.
            sizes: Vec<usize> = Vec::new(), "samples", Range::AtLeast(1.0), Fixed;
        }
        /// The same increment after every step.
        "ramp" => Ramp {
            /// Samples that a step adds.
            increment: usize = 1, "samples", Range::AtLeast(1.0), Fixed;
            /// Greatest batch; not given: the training set.
            max: Option<usize>, "samples", Range::AtLeast(1.0), Fixed;
        }
    }
}

names! {
    /// Whose gradients are compared.
    pub enum Statistic {
        /// Those of single samples.
        "samples" => Samples,
        /// The mean gradients of ranks, or of virtual shards.
        "ranks" => Ranks,
    }
}

names! {
    /// What the noise is compared with.
    pub enum Denominator {
        /// The squared length of the batch's gradient, noise included.
        "raw" => Raw,
        /// The unbiased squared length of the true gradient.
        "debiased" => Debiased,
    }
}

names! {
    /// Which coordinates must pass a test.
    pub enum Coordinates {
        /// All.
        "max" => Max,
        /// A share.
        "quantile" => Quantile,
        /// Each parameter tensor as a whole.
        "per-tensor" => PerTensor,
    }
}

names! {
    /// What the learning rate makes of the batch.
    pub enum LrScaling {
        /// Nothing.
        "none" => None,
        /// In proportion.
        "linear" => Linear,
        /// In proportion to the root.
        "square-root" => SquareRoot,
        /// In proportion below the noise scale, level above it.
        "saturating" => Saturating,
        /// AdaScale's gain.
        "adascale" => AdaScale,
    }
}

impl BatchPolicy {
    /// The optimizer that the policy brings along where the run file names none.
    #[must_use]
    pub fn optimizer(&self) -> Option<&'static str> {
        optimizer_of(self.kind())
    }

    /// The greatest batch, where it is given.
    #[must_use]
    pub fn max(&self) -> Option<usize> {
        match *self {
            Self::Constant {} | Self::Stages { .. } => None,
            Self::AdAdaGrad { max, .. }
            | Self::AdAdaGradNorm { max, .. }
            | Self::NormTest { max, .. }
            | Self::InnerProductTest { max, .. }
            | Self::AugmentedTest { max, .. }
            | Self::CoordinateTest { max, .. }
            | Self::NoiseScale { max, .. }
            | Self::Goodput { max, .. }
            | Self::Cabs { max, .. }
            | Self::SimiGrad { max, .. }
            | Self::DiveBatch { max, .. }
            | Self::Ramp { max, .. } => max,
        }
    }

    /// The smallest batch, where the policy has one.
    #[must_use]
    pub fn min(&self) -> Option<usize> {
        match *self {
            Self::NoiseScale { min, .. } | Self::Cabs { min, .. } | Self::SimiGrad { min, .. } => Some(min),
            _ => None,
        }
    }

    /// Whose gradients the policy compares, if it compares any.
    #[must_use]
    pub fn statistic(&self) -> Option<Statistic> {
        match *self {
            Self::Constant {} | Self::Stages { .. } | Self::Ramp { .. } => None,
            Self::AdAdaGrad { statistic, .. }
            | Self::AdAdaGradNorm { statistic, .. }
            | Self::NormTest { statistic, .. }
            | Self::InnerProductTest { statistic, .. }
            | Self::AugmentedTest { statistic, .. }
            | Self::CoordinateTest { statistic, .. }
            | Self::NoiseScale { statistic, .. }
            | Self::Goodput { statistic, .. }
            | Self::Cabs { statistic, .. }
            | Self::SimiGrad { statistic, .. }
            | Self::DiveBatch { statistic, .. } => Some(statistic),
        }
    }
}

impl Batch {
    /// Whose gradients a step compares, for the policy or for the learning rate.
    #[must_use]
    pub fn statistic(&self) -> Option<Statistic> {
        let measures = matches!(self.lr_scaling, LrScaling::Saturating | LrScaling::AdaScale);
        self.policy.statistic().or(measures.then_some(Statistic::Ranks))
    }
}

/// As [`BatchPolicy::optimizer`], by the name of the policy.
pub(in crate::runfile) fn optimizer_of(policy: &str) -> Option<&'static str> {
    match policy {
        "adadagrad" => Some("adagrad"),
        "adadagrad-norm" => Some("adagrad-norm"),
        _ => None,
    }
}
