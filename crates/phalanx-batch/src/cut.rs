//! Batches that the end of an epoch cut too short to compare anything.

use phalanx_grad::{BatchContext, ScalarBlock};

/// Whether a batch has no variance because the end of an epoch or of the run cut it to one chunk. No error: the batches
/// before and after it have one.
pub(crate) fn is_cut_to_one_chunk(statistics: &ScalarBlock, context: &BatchContext) -> bool {
    statistics.chunks < 2 && statistics.samples < context.batch
}
