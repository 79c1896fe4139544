//! Batch-size policies
#![forbid(unsafe_code)]
