//! The part of a set that one rank holds, where the coordinates of the gradients are spread over ranks.

use crate::GradError;
use phalanx_comm::Agreed;
use std::fmt::Debug;
use std::ops::Range;

/// Some [blocks](crate::Blocks) of the coordinates of all gradients of a set; other ranks hold the others.
///
/// A rule that needs sums over coordinates and single coordinates alone works on its part, for the price of a few
/// numbers a pair of gradients that travel, and of the result.
///
/// # Collective
/// [`sum`](Self::sum) and [`gather`](Self::gather): every rank, in the same order.
pub trait Shard: Debug + Sync {
    /// The blocks that this rank holds; there may be none.
    fn blocks(&self) -> Range<usize>;

    /// The coordinates of these blocks, of gradient `i`.
    ///
    /// # Panics
    /// When there is no gradient `i`.
    fn part(&self, i: usize) -> &[f32];

    /// The sum over all blocks of all ranks, in the order of their tree.
    ///
    /// # Shapes
    /// `nodes`: `width` numbers for each node of the [tree](crate::Blocks::tree) that covers the blocks of this rank.
    /// Returns `width`.
    ///
    /// # Errors
    /// [`GradError::Comm`] when a rank failed.
    fn sum(&self, nodes: &[f64], width: usize) -> Result<Agreed<Vec<f64>>, GradError>;

    /// Joins the parts of a result that each rank made.
    ///
    /// # Shapes
    /// `part`: one number for each coordinate here. `out_d`: all coordinates.
    ///
    /// # Errors
    /// As [`sum`](Self::sum).
    fn gather(&self, part: &[f32], out_d: &mut [f32]) -> Result<(), GradError>;
}
