//! The loops of `arithmetic`, compiled once more for wider registers, and chosen at run time.
//!
//! The arithmetic is element by element, so both forms give the same bits. Measured on two cores of a Sapphire Rapids
//! machine, the wider form takes a fifth off an all-reduce of 4 KiB and nothing off one of 4 MiB.

use crate::arithmetic::{Arithmetic, add_assign as add_assign_plain};
use crate::call::ReduceOp;

/// Defines a function that calls `$plain` as compiled for AVX2 where the processor has it.
macro_rules! dispatch {
    ($(#[$doc:meta])* $name:ident $(<$T:ident>)? ($($arg:ident: $ty:ty),*) = $plain:expr) => {
        $(#[$doc])*
        #[inline]
        pub(super) fn $name $(<$T: Arithmetic>)? ($($arg: $ty),*) {
            #[cfg(target_arch = "x86_64")]
            {
                #[target_feature(enable = "avx2")]
                fn wide $(<$T: Arithmetic>)? ($($arg: $ty),*) {
                    $plain($($arg),*);
                }
                if std::is_x86_feature_detected!("avx2") {
                    // SAFETY: the processor has AVX2
                    return unsafe { wide($($arg),*) };
                }
            }
            $plain($($arg),*);
        }
    };
}

dispatch! {
    /// [`Arithmetic::pair`].
    pair<T>(a: &mut [T], b: &mut [T], op: ReduceOp) = T::pair
}
dispatch! {
    /// [`Arithmetic::quad`].
    quad<T>(parts: [&mut [T]; 4], op: ReduceOp) = T::quad
}
dispatch! {
    /// `dst += src`, the step of the reproducible tree.
    add_assign(dst: &mut [f32], src: &[f32]) = add_assign_plain
}
