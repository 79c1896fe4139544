//! A share at random, the rest by label.

use super::{by_label, check, deal, shuffled};
use crate::error::DataError;

pub(super) fn split(
    labels: &[u32],
    clients: usize,
    gamma: f64,
    seed: u64,
) -> Result<Vec<Vec<usize>>, DataError> {
    check("partition.gamma", gamma, (0.0..=1.0).contains(&gamma), "0 to 1")?;
    let mut order = shuffled(labels.len(), seed);
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "0 to the number of samples")]
    let rest = order.split_off((gamma * labels.len() as f64).round() as usize);
    let mut split = deal(&order, clients);
    for (samples, more) in split.iter_mut().zip(deal(&by_label(labels, rest), clients)) {
        samples.extend(more);
    }
    Ok(split)
}
