//! The one training loop: step, buckets and overlap, checkpoints, events
#![forbid(unsafe_code)]
