//! Automatic differentiation in both modes, layers, losses and models
#![forbid(unsafe_code)]
