//! The one module that names bincode: own types to bytes and back, capped in length.
//!
//! Bytes are little-endian with fixed-width integers, so that a reader in another language, or another
//! crate in bincode's place, has nothing to guess.
use bincode::config::{Configuration, Fixint, Limit, LittleEndian};
pub(crate) use bincode::{Decode, Encode};

/// The longest encoding that is written or read, in bytes.
pub const MAX_LEN: usize = 64 << 20;

/// Bytes that are not an encoding of the type asked for, or a value that cannot be encoded.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum WireError {
    /// The encoder refused the value.
    #[error("encoding failed")]
    Encode(#[source] bincode::error::EncodeError),
    /// The bytes are not such a value.
    #[error("decoding failed")]
    Decode(#[source] bincode::error::DecodeError),
    /// The encoding is longer than [`MAX_LEN`].
    #[error("{got} bytes exceed the limit of {limit}")]
    TooLong {
        /// The limit, in bytes.
        limit: usize,
        /// The length, in bytes.
        got: usize,
    },
    /// Bytes are left over after the value.
    #[error("the value ends after {used} of {got} bytes")]
    Trailing {
        /// Bytes that the value took.
        used: usize,
        /// Bytes there were.
        got: usize,
    },
}

/// Encodes `value`.
///
/// # Errors
/// [`WireError::TooLong`] above [`MAX_LEN`].
pub(crate) fn encode<T: Encode>(value: &T) -> Result<Vec<u8>, WireError> {
    let bytes = bincode::encode_to_vec(value, config::<MAX_LEN>()).map_err(WireError::Encode)?;
    match bytes.len() {
        got if got > MAX_LEN => Err(WireError::TooLong { limit: MAX_LEN, got }),
        _ => Ok(bytes),
    }
}

/// Decodes a value that takes all of `bytes`.
///
/// A length inside `bytes` that lies cannot make it allocate more than about 16 times their number.
///
/// # Errors
/// Each variant of [`WireError`] but `Encode`.
pub(crate) fn decode<T: Decode<()>>(bytes: &[u8]) -> Result<T, WireError> {
    match bytes.len() {
        0..=0x1_0000 => decode_within::<T, { 16 << 16 }>(bytes),
        0x1_0001..=0x10_0000 => decode_within::<T, { 16 << 20 }>(bytes),
        0x10_0001..=MAX_LEN => decode_within::<T, { 16 * MAX_LEN }>(bytes),
        got => Err(WireError::TooLong { limit: MAX_LEN, got }),
    }
}

fn decode_within<T: Decode<()>, const LIMIT: usize>(bytes: &[u8]) -> Result<T, WireError> {
    let (value, used) = bincode::decode_from_slice(bytes, config::<LIMIT>()).map_err(WireError::Decode)?;
    match bytes.len() {
        got if got == used => Ok(value),
        got => Err(WireError::Trailing { used, got }),
    }
}

const fn config<const LIMIT: usize>() -> Configuration<LittleEndian, Fixint, Limit<LIMIT>> {
    bincode::config::standard().with_little_endian().with_fixed_int_encoding().with_limit::<LIMIT>()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn layout_is_fixed_width_little_endian() {
        let bytes = encode(&(0x0102_u32, "ab".to_owned(), 1.0_f64)).unwrap();
        let mut need = vec![2, 1, 0, 0];
        need.extend([2, 0, 0, 0, 0, 0, 0, 0, b'a', b'b']);
        need.extend(1.0_f64.to_le_bytes());
        assert_eq!(bytes, need);
    }

    #[test]
    fn a_length_that_lies_is_refused_before_memory_is_taken() {
        let lie = (u64::MAX / 2).to_le_bytes();
        assert!(matches!(decode::<Vec<u64>>(&lie), Err(WireError::Decode(_))));
        let large = (1_u64 << 40).to_le_bytes();
        assert!(matches!(decode::<Vec<u8>>(&large), Err(WireError::Decode(_))));
    }

    #[test]
    fn bytes_left_over_are_refused() {
        let mut bytes = encode(&7_u32).unwrap();
        bytes.push(0);
        assert!(matches!(decode::<u32>(&bytes), Err(WireError::Trailing { used: 4, got: 5 })));
    }
}
