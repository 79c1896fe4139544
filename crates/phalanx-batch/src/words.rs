//! States of policies as bytes: eight a number, little-endian, so that every bit comes back.

use phalanx_grad::{GradError, PolicyState};

/// The state of these numbers.
pub(crate) fn write(version: u32, words: &[u64]) -> PolicyState {
    PolicyState { version, bytes: words.iter().flat_map(|word| word.to_le_bytes()).collect() }
}

/// The numbers of a state of this version, whatever their count.
pub(crate) fn read(owner: &'static str, version: u32, state: &PolicyState) -> Result<Vec<u64>, GradError> {
    let (words, rest) = state.bytes.as_chunks::<8>();
    if state.version != version || !rest.is_empty() {
        return Err(refused(owner, version, state));
    }
    Ok(words.iter().map(|word| u64::from_le_bytes(*word)).collect())
}

/// The numbers of a state of this version, of which there are `N`.
pub(crate) fn read_exactly<const N: usize>(
    owner: &'static str,
    version: u32,
    state: &PolicyState,
) -> Result<[u64; N], GradError> {
    let words = read(owner, version, state)?;
    words.try_into().map_err(|_| refused(owner, version, state))
}

pub(crate) fn refused(owner: &'static str, need: u32, state: &PolicyState) -> GradError {
    GradError::PolicyState { owner, version: state.version, len: state.bytes.len(), need }
}
