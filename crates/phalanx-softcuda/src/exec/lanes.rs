//! The lanes of a warp as arrays.

/// Lanes of a warp.
pub(crate) const LANES: usize = 32;

/// A register of up to 32 bits.
pub(crate) type Words = [u32; LANES];

/// A register of 64 bits.
pub(crate) type Doubles = [u64; LANES];

/// The number of a register of up to 32 bits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct W(pub(crate) u32);

/// The number of a register of 64 bits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct D(pub(crate) u32);

/// The number of a predicate, whose lanes are bits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct P(pub(crate) u32);

/// A function of whole registers from an expression of one lane.
macro_rules! lanes {
    (|$($x:ident: $t:ty),+| -> $out:ty $value:block) => {
        |out: &mut [$out; 32], $($x: &[$t; 32]),+| {
            for (lane, out) in out.iter_mut().enumerate() {
                let ($($x,)+) = ($($x[lane],)+);
                *out = $value;
            }
        }
    };
}

/// A predicate of whole registers from a condition on one lane.
macro_rules! lanes_where {
    (|$a:ident, $b:ident: $t:ty| $value:expr) => {
        |$a: &[$t; 32], $b: &[$t; 32]| -> u32 {
            let mut flags = [0_u8; 32];
            for (lane, flag) in flags.iter_mut().enumerate() {
                let ($a, $b) = ($a[lane], $b[lane]);
                *flag = u8::from($value);
            }
            $crate::exec::lanes::mask(&flags)
        }
    };
}

pub(crate) use {lanes, lanes_where};

/// One bit a lane of flags that are 0 or 1.
pub(crate) fn mask(flags: &[u8; LANES]) -> u32 {
    let mut mask = 0;
    for (index, eight) in flags.as_chunks::<8>().0.iter().enumerate() {
        // moves bit 0 of byte i to bit 56 + i
        let bits = u64::from_le_bytes(*eight).wrapping_mul(0x0102_0408_1020_4080) >> 56;
        mask |= (bits as u32) << (8 * index);
    }
    mask
}

/// The numbers of the lanes of a mask.
pub(crate) fn each(mut mask: u32) -> impl Iterator<Item = usize> {
    std::iter::from_fn(move || {
        (mask != 0).then(|| {
            let lane = mask.trailing_zeros() as usize;
            mask &= mask - 1;
            lane
        })
    })
}

/// Writes the lanes of a mask.
#[inline]
pub(crate) fn put<T: Copy>(register: &mut [T; LANES], value: &[T; LANES], mask: u32) {
    if mask == u32::MAX {
        *register = *value;
    } else {
        for (lane, (to, from)) in register.iter_mut().zip(value).enumerate() {
            if mask >> lane & 1 == 1 {
                *to = *from;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{each, mask, put};

    #[test]
    fn flags_become_bits_in_order() {
        for lane in 0..32 {
            let mut flags = [0; 32];
            flags[lane] = 1;
            assert_eq!(mask(&flags), 1 << lane);
        }
        assert_eq!(mask(&[1; 32]), u32::MAX);
    }

    #[test]
    fn only_masked_lanes_are_written() {
        let mut register = [7_u32; 32];
        put(&mut register, &[1; 32], 0b101);
        assert_eq!(register[..4], [1, 7, 1, 7]);
        assert_eq!(each(0b1001_0001).collect::<Vec<_>>(), [0, 4, 7]);
    }
}
