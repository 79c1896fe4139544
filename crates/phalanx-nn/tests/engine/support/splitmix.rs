//! The hash from which the reference programs draw: `tests/reference/splitmix.py` in the root, in Rust.

/// A hash of (seed, stream, i).
pub(crate) fn hash(seed: u64, stream: u64, i: u64) -> u64 {
    let key = seed.wrapping_mul(1_000_003).wrapping_add(stream << 32).wrapping_add(i);
    let mut z = key.wrapping_add(0x9E37_79B9_7F4A_7C15);
    z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    z ^ (z >> 31)
}

/// Uniform in -1..1.
#[expect(clippy::cast_precision_loss, reason = "53 bits are kept")]
pub(crate) fn symmetric(seed: u64, stream: u64, i: u64) -> f64 {
    2.0 * ((hash(seed, stream, i) >> 11) as f64 / (1_u64 << 53) as f64) - 1.0
}
