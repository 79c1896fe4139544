//! How the numbers of a started reduction lie in its memory.

use crate::element::Dtype;

/// What the memory of a started reduction holds: one `f32` in each of its words, or two 16-bit floats.
///
/// The memory is that of [`alloc`](crate::Communicator::alloc) in both cases, so that backends reduce 16-bit floats where
/// they lie, too. An odd number of them leaves half a word over, which is reduced with the rest.
///
/// # Examples
/// ```
/// use half::f16;
/// use phalanx_comm::{CommError, Options, Packing, ReduceOp, WorldSize, run_ranks};
///
/// let sums = run_ranks(WorldSize(2), &Options::default(), |comm| {
///     let mut words = comm.alloc(Packing::F16.words(3))?;
///     bytemuck::cast_slice_mut::<f32, f16>(&mut words)[..3].fill(f16::from_f32(1.5));
///     let words = comm.start_all_reduce_packed(words, Packing::F16, ReduceOp::Sum)?.wait()?;
///     Ok::<_, CommError>(bytemuck::cast_slice::<f32, f16>(&words)[2].to_f32())
/// })
/// .expect("no rank fails");
/// assert_eq!(sums, [3.0, 3.0]);
/// ```
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Packing {
    /// One `f32` a word.
    F32,
    /// Two IEEE half-precision floats a word.
    F16,
    /// Two brain floats a word.
    Bf16,
}

impl Packing {
    /// The type of the numbers.
    pub const fn dtype(self) -> Dtype {
        match self {
            Self::F32 => Dtype::F32,
            Self::F16 => Dtype::F16,
            Self::Bf16 => Dtype::Bf16,
        }
    }

    /// Numbers in a word.
    pub const fn per_word(self) -> usize {
        size_of::<f32>() / self.dtype().bytes()
    }

    /// Words that `len` numbers take.
    pub const fn words(self, len: usize) -> usize {
        len.div_ceil(self.per_word())
    }
}

/// Runs `$body` with `$T` as the type of the numbers.
macro_rules! packed {
    ($packing:expr, $T:ident => $body:expr) => {
        match $packing {
            $crate::packing::Packing::F32 => {
                type $T = f32;
                $body
            }
            $crate::packing::Packing::F16 => {
                type $T = half::f16;
                $body
            }
            $crate::packing::Packing::Bf16 => {
                type $T = half::bf16;
                $body
            }
        }
    };
}

pub(crate) use packed;
