//! phalanx trains models on many ranks and treats the statistics of gradients as first-class
#![forbid(unsafe_code)]
