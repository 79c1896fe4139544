//! The pre-aggregators by name.

use super::named;
use crate::{Arc, Bucketing, Clip, MultiMetrics, Nnm, PreAggregator};

named! {
    /// The settings of any pre-aggregator, under the key `kind`.
    pub enum PreConfig by "kind" {
        /// See [`Nnm`].
        "nnm" => Nnm(Nnm),
        /// See [`Bucketing`].
        "bucketing" => Bucketing(Bucketing),
        /// See [`Clip`].
        "clip" => Clip(Clip),
        /// See [`Arc`].
        "arc" => Arc(Arc),
        /// See [`MultiMetrics`].
        "multi-metrics" => MultiMetrics(MultiMetrics),
    }
}

impl PreConfig {
    /// The pre-aggregator with these settings.
    #[must_use]
    pub fn build(&self) -> Box<dyn PreAggregator> {
        match *self {
            Self::Nnm(pre) => Box::new(pre),
            Self::Bucketing(pre) => Box::new(pre),
            Self::Clip(pre) => Box::new(pre),
            Self::Arc(pre) => Box::new(pre),
            Self::MultiMetrics(pre) => Box::new(pre),
        }
    }
}
