//! `state.bin`: a checkpoint's metadata and the checksums of its other files, framed and checked.
//!
//! | bytes | contents, little-endian |
//! |---|---|
//! | 0..8 | `PHLXCKPT` |
//! | 8..12 | format version |
//! | 12..20 | length of the payload |
//! | 20..24 | CRC-32 of bytes 0..20 and the payload |
//! | 24.. | payload: the metadata, the SHA-256 of its run file, length and SHA-256 of each other file |
use std::path::Path;

use super::meta::{FORMAT_VERSION, Meta};
use crate::ArtefactError;
use crate::tensor_file::{hex, sha256};
use crate::wire::{self, Decode, Encode};

/// Length of the frame before the payload, in bytes.
const HEADER_LEN: usize = 24;

/// The longest `state.bin` that is read, in bytes.
pub const MAX_LEN: u64 = (HEADER_LEN + wire::MAX_LEN) as u64;

const MAGIC: &[u8; 8] = b"PHLXCKPT";

/// A file of a checkpoint as it was written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Encode, Decode)]
pub struct FileSum {
    /// Length, in bytes.
    pub bytes: u64,
    /// SHA-256 of the contents.
    pub sha256: [u8; 32],
}

impl FileSum {
    /// Of a file that consists of `parts`.
    pub(super) fn of(parts: &[&[u8]]) -> Self {
        let bytes = parts.iter().map(|part| part.len() as u64).sum();
        Self { bytes, sha256: sha256(parts) }
    }
}

/// What `state.bin` holds.
#[derive(Debug, Clone, PartialEq, Encode, Decode)]
pub struct State {
    /// All that is not a tensor.
    pub meta: Meta,
    /// SHA-256 of the run file in it.
    pub run_file_sha256: [u8; 32],
    /// `model.safetensors`.
    pub model: FileSum,
    /// `optimizer.safetensors`.
    pub optimizer: FileSum,
}

/// The contents of `state.bin`.
///
/// # Errors
/// [`ArtefactError::Encode`] when the state exceeds its cap.
pub(super) fn encode(file: &Path, state: &State) -> Result<Vec<u8>, ArtefactError> {
    let payload =
        wire::encode(state).map_err(|source| ArtefactError::Encode { file: file.to_path_buf(), source })?;
    let mut bytes = Vec::with_capacity(HEADER_LEN + payload.len());
    bytes.extend(MAGIC);
    bytes.extend(FORMAT_VERSION.to_le_bytes());
    bytes.extend((payload.len() as u64).to_le_bytes());
    bytes.extend(checksum(&bytes, &payload).to_le_bytes());
    bytes.extend(payload);
    Ok(bytes)
}

/// Reads the contents of `state.bin`; `file` is for the messages.
///
/// Bytes that are not what was written give an error, never a panic, and memory of at most a small
/// multiple of their number.
///
/// # Errors
/// [`ArtefactError::Magic`], [`Version`](ArtefactError::Version), [`Length`](ArtefactError::Length),
/// [`Checksum`](ArtefactError::Checksum), [`Wire`](ArtefactError::Wire).
pub fn decode(file: &Path, bytes: &[u8]) -> Result<State, ArtefactError> {
    let file = || file.to_path_buf();
    let got_len = bytes.len() as u64;
    let Some((header, payload)) = bytes.split_at_checked(HEADER_LEN) else {
        return Err(ArtefactError::Length { file: file(), need: HEADER_LEN as u64, got: got_len });
    };
    if !header.starts_with(MAGIC) {
        return Err(ArtefactError::Magic { file: file(), need: "the state of a checkpoint" });
    }
    let version = u32::from_le_bytes(field(header, 8));
    if version != FORMAT_VERSION {
        return Err(ArtefactError::Version { file: file(), need: FORMAT_VERSION, got: version });
    }
    let need = u64::from_le_bytes(field(header, 12)).saturating_add(HEADER_LEN as u64);
    if need != got_len {
        return Err(ArtefactError::Length { file: file(), need, got: got_len });
    }
    let (need, got) = (u32::from_le_bytes(field(header, 20)), checksum(&header[..20], payload));
    if need != got {
        let (need, got) = (format!("{need:08x}"), format!("{got:08x}"));
        return Err(ArtefactError::Checksum { file: file(), kind: "CRC-32", need, got });
    }
    let state: State =
        wire::decode(payload).map_err(|source| ArtefactError::Wire { file: file(), source })?;
    let got = sha256(&[state.meta.run_file.as_bytes()]);
    if state.run_file_sha256 != got {
        let (need, got) = (hex(&state.run_file_sha256), hex(&got));
        return Err(ArtefactError::Checksum { file: file(), kind: "run file's SHA-256", need, got });
    }
    Ok(state)
}

fn checksum(header: &[u8], payload: &[u8]) -> u32 {
    let mut hasher = crc32fast::Hasher::new();
    hasher.update(header);
    hasher.update(payload);
    hasher.finalize()
}

fn field<const N: usize>(header: &[u8], at: usize) -> [u8; N] {
    std::array::from_fn(|i| header[at + i])
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn sample() -> State {
        let meta = Meta { step: 7, run_file: "seed = 1\n".to_owned(), ..Meta::default() };
        let run_file_sha256 = sha256(&[meta.run_file.as_bytes()]);
        State { meta, run_file_sha256, model: FileSum::of(&[b"abc"]), optimizer: FileSum::of(&[]) }
    }

    fn file() -> &'static Path {
        Path::new("state.bin")
    }

    #[test]
    fn each_truncation_and_each_bit_flip_is_refused() {
        let bytes = encode(file(), &sample()).unwrap();
        assert_eq!(decode(file(), &bytes).unwrap(), sample());
        for len in 0..bytes.len() {
            decode(file(), &bytes[..len]).unwrap_err();
        }
        for bit in 0..8 * bytes.len() {
            let mut flipped = bytes.clone();
            flipped[bit / 8] ^= 1 << (bit % 8);
            decode(file(), &flipped).unwrap_err();
        }
    }

    #[test]
    fn messages_say_what_is_wrong() {
        let bytes = encode(file(), &sample()).unwrap();
        let message = |bytes: &[u8]| decode(file(), bytes).unwrap_err().to_string();
        let n = bytes.len();
        assert_eq!(message(&bytes[..n - 1]), format!("state.bin is {} bytes long instead of {n}", n - 1));
        assert_eq!(message(&[b'x'; 30]), "state.bin does not begin as the state of a checkpoint");
        let mut newer = bytes;
        newer[8] = 9;
        assert_eq!(message(&newer), "state.bin has format version 9, this phalanx reads version 1");
    }

    #[test]
    fn floats_keep_their_bits() {
        let mut state = sample();
        let odd = f64::from_bits(0x7ff8_0000_dead_beef);
        state.meta.history.insert("loss".to_owned(), vec![odd, -0.0]);
        let back = decode(file(), &encode(file(), &state).unwrap()).unwrap();
        let bits: Vec<_> = back.meta.history["loss"].iter().map(|x| x.to_bits()).collect();
        assert_eq!(bits, [odd.to_bits(), (-0.0_f64).to_bits()]);
    }

    proptest! {
        #[test]
        fn any_payload_behind_a_true_checksum_is_read_without_panic(
            payload in prop::collection::vec(any::<u8>(), 0..400)
        ) {
            let mut bytes = MAGIC.to_vec();
            bytes.extend(FORMAT_VERSION.to_le_bytes());
            bytes.extend((payload.len() as u64).to_le_bytes());
            bytes.extend(checksum(&bytes, &payload).to_le_bytes());
            bytes.extend(payload);
            prop_assert!(decode(file(), &bytes).is_err());
        }

        #[test]
        fn any_bytes_are_refused(bytes in prop::collection::vec(any::<u8>(), 0..400)) {
            prop_assert!(decode(file(), &bytes).is_err());
        }
    }
}
