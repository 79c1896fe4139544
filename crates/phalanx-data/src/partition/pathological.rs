//! A few labels a client: pieces of the samples sorted by label.

use super::{PIECES, by_label, check, deal, shuffled, stream};
use crate::error::DataError;

pub(super) fn split(
    labels: &[u32],
    clients: usize,
    labels_each: usize,
    seed: u64,
) -> Result<Vec<Vec<usize>>, DataError> {
    check("partition.labels_each", labels_each as f64, labels_each > 0, "1 or more")?;
    let mut pieces =
        deal(&by_label(labels, shuffled(labels.len(), seed)), clients.saturating_mul(labels_each));
    stream(seed, PIECES).shuffle(&mut pieces);
    Ok(pieces.chunks(labels_each).map(<[Vec<usize>]>::concat).collect())
}
