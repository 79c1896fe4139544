//! The secret of a job: who does not know it is not heard.

use sha2::{Digest, Sha256};
use std::fmt;
use std::fs::File;
use std::io::{self, Read};

/// Bytes of a message's tag.
pub(super) const TAG_LEN: usize = 16;

/// What all ranks of one job know, and nobody else.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret([u8; Self::LEN]);

impl Secret {
    /// Bytes of a secret.
    pub const LEN: usize = 32;

    /// A new secret, from the system's random numbers.
    ///
    /// # Errors
    /// When `/dev/urandom` cannot be read.
    pub fn random() -> io::Result<Self> {
        let mut bytes = [0; Self::LEN];
        File::open("/dev/urandom")?.read_exact(&mut bytes)?;
        Ok(Self(bytes))
    }

    /// A secret that came from another rank.
    pub const fn from_bytes(bytes: [u8; Self::LEN]) -> Self {
        Self(bytes)
    }

    /// The secret as it travels to the other ranks.
    pub const fn as_bytes(&self) -> &[u8; Self::LEN] {
        &self.0
    }

    /// The first bytes of HMAC-SHA-256 over the parts, one after the other.
    ///
    /// # Reference
    /// RFC 2104.
    pub(super) fn tag(&self, parts: &[&[u8]]) -> [u8; TAG_LEN] {
        let (mut inner, mut outer) = ([0x36_u8; 64], [0x5c_u8; 64]);
        for (i, byte) in self.0.iter().enumerate() {
            inner[i] ^= byte;
            outer[i] ^= byte;
        }
        let mut hash = Sha256::new_with_prefix(inner);
        parts.iter().for_each(|part| hash.update(part));
        let digest = Sha256::new_with_prefix(outer).chain_update(hash.finalize()).finalize();
        let mut tag = [0; TAG_LEN];
        tag.copy_from_slice(&digest[..TAG_LEN]);
        tag
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret(..)")
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;

    /// ```python
    /// import hmac; hmac.new(bytes(range(32)), b"step 41", "sha256").hexdigest()[:32]
    /// ```
    #[test]
    fn the_tag_is_that_of_python() {
        let mut key = [0; 32];
        (0_u8..).zip(&mut key).for_each(|(i, byte)| *byte = i);
        let tag = Secret::from_bytes(key).tag(&[b"step", b" 41"]);
        let hex: String = tag.iter().map(|byte| format!("{byte:02x}")).collect();
        assert_eq!(hex, "76537714609dfabe3413a248f4b660f7");
    }

    #[test]
    fn secrets_differ_and_are_not_shown() {
        let (a, b) = (Secret::random().unwrap(), Secret::random().unwrap());
        assert_ne!(a, b);
        assert_eq!(format!("{a:?}"), "Secret(..)");
    }
}
