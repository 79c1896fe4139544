//! Transforms from gradient to update, and learning-rate schedules
#![forbid(unsafe_code)]
