//! What the tests share: drawn numbers, models with samples, and the reference files.

pub(crate) mod files;
pub(crate) mod samples;
pub(crate) mod splitmix;
pub(crate) mod tensors;
pub(crate) mod tiles;
