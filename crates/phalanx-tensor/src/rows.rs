//! Kernels over `n` rows of `d` numbers in host memory: inner products, weighted sums, and statistics of columns.
//!
//! What a rule over gradients costs is in these three: [`Products`] reads all rows once for `n x n` numbers,
//! [`weighted_sum`] and [`mix`] make rows of rows, and [`Columns`] sorts every column by a network of comparators.
//! One call works on one thread; cut the columns to use more.
//!
//! # Numerics
//! The same bits for every vector width: products of two `f32` are exact in `f64`, sums run in lanes whose number is
//! fixed.

mod columns;
mod network;
mod products;
mod sums;

pub use columns::{Columns, Statistic};
pub use network::Network;
pub use products::Products;
pub use sums::{absolute_distances, all_finite, is_finite_sum, mix, weighted_sum};
