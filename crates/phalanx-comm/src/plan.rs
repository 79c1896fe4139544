//! One comparison at the start, so that ranks which were started for different things never begin.

use crate::communicator::Communicator;
use crate::error::CommError;
use crate::rank::Rank;
use std::sync::Arc;

/// Compares the plan of this rank with that of all others.
///
/// `hash` covers whatever has to be the same everywhere (buckets, shapes, types, versions, the run file);
/// `description` says it in a line, for the error.
///
/// # Collective
/// Every rank, before the first step; blocks. Every rank gets the same error.
///
/// # Errors
/// [`CommError::Plan`] when two hashes differ, with both sides.
///
/// # Examples
/// ```
/// use phalanx_comm::{CommError, Options, WorldSize, run_ranks, verify_plan};
///
/// let error = run_ranks(WorldSize(2), &Options::default(), |comm| {
///     let (hash, text) = if comm.rank().index() == 0 { (7, "cnn, batch 64") } else { (9, "cnn, batch 32") };
///     verify_plan(&*comm, hash, text)
/// })
/// .unwrap_err();
/// assert!(error.to_string().contains("`cnn, batch 64` (0000000000000007) against `cnn, batch 32`"));
/// ```
pub fn verify_plan(comm: &dyn Communicator, hash: u64, description: &str) -> Result<(), CommError> {
    let mut message = hash.to_le_bytes().to_vec();
    message.extend_from_slice(description.as_bytes());
    let plans = comm.all_gather_bytes(&message)?;
    let plans = plans.iter().enumerate().map(|(rank, bytes)| parse(Rank(rank), bytes));
    let plans = plans.collect::<Result<Vec<_>, _>>()?;
    let Some((first, rest)) = plans.split_first() else {
        return Ok(());
    };
    match rest.iter().find(|plan| plan.hash != first.hash) {
        None => Ok(()),
        Some(other) => {
            let error = CommError::Plan {
                first: first.rank,
                other: other.rank,
                ours: Arc::clone(&first.text),
                our_hash: first.hash,
                theirs: Arc::clone(&other.text),
                their_hash: other.hash,
            };
            comm.abort(&error);
            Err(error)
        }
    }
}

struct Plan {
    rank: Rank,
    hash: u64,
    text: Arc<str>,
}

fn parse(rank: Rank, message: &[u8]) -> Result<Plan, CommError> {
    let Some((hash, text)) = message.split_first_chunk() else {
        return Err(CommError::Message { from: rank, what: "plan", got: message.len(), need: 8 });
    };
    Ok(Plan { rank, hash: u64::from_le_bytes(*hash), text: String::from_utf8_lossy(text).into() })
}
