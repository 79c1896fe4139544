//! The op traits, one file a family as in `phalanx_tensor::op`.

mod attention;
mod conv;
mod elementwise;
mod index;
mod layout;
mod loss;
mod matmul;
mod norm;
mod optim;
mod pool;
mod reduce;
mod samples;

use phalanx_tensor::Write;

/// Bytes of work space that images or samples at once may need; one may need more.
const SPACE: usize = 256 << 20;

/// What kernels take for a write.
fn adds(write: Write) -> u32 {
    u32::from(write == Write::Add)
}

/// A count that 32 bits hold.
pub(crate) fn u32_of(n: usize) -> Option<u32> {
    u32::try_from(n).ok()
}
