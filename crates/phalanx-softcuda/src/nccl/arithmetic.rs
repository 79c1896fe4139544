//! Numbers of several ranks made one, in rank order.

use half::{bf16, f16};

/// An `ncclDataType_t` that is computed with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Type {
    I8,
    U8,
    I32,
    U32,
    I64,
    U64,
    F16,
    F32,
    F64,
    Bf16,
}

impl Type {
    /// In the order of their codes.
    const ALL: [Type; 10] = [
        Type::I8,
        Type::U8,
        Type::I32,
        Type::U32,
        Type::I64,
        Type::U64,
        Type::F16,
        Type::F32,
        Type::F64,
        Type::Bf16,
    ];

    pub(super) fn of(code: u32) -> Option<Self> {
        Self::ALL.get(usize::try_from(code).ok()?).copied()
    }

    pub(super) const fn code(self) -> u32 {
        self as u32
    }

    pub(super) const fn bytes(self) -> u64 {
        match self {
            Type::I8 | Type::U8 => 1,
            Type::F16 | Type::Bf16 => 2,
            Type::I32 | Type::U32 | Type::F32 => 4,
            Type::I64 | Type::U64 | Type::F64 => 8,
        }
    }

    pub(super) const fn name(self) -> &'static str {
        match self {
            Type::I8 => "int8",
            Type::U8 => "uint8",
            Type::I32 => "int32",
            Type::U32 => "uint32",
            Type::I64 => "int64",
            Type::U64 => "uint64",
            Type::F16 => "float16",
            Type::F32 => "float32",
            Type::F64 => "float64",
            Type::Bf16 => "bfloat16",
        }
    }
}

/// An `ncclRedOp_t`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum ReduceOp {
    Sum,
    Prod,
    Max,
    Min,
    Avg,
}

impl ReduceOp {
    /// In the order of their codes.
    const ALL: [ReduceOp; 5] = [ReduceOp::Sum, ReduceOp::Prod, ReduceOp::Max, ReduceOp::Min, ReduceOp::Avg];

    pub(super) fn of(code: u32) -> Option<Self> {
        Self::ALL.get(usize::try_from(code).ok()?).copied()
    }

    pub(super) const fn code(self) -> u32 {
        self as u32
    }

    pub(super) const fn name(self) -> &'static str {
        match self {
            ReduceOp::Sum => "sum",
            ReduceOp::Prod => "prod",
            ReduceOp::Max => "max",
            ReduceOp::Min => "min",
            ReduceOp::Avg => "avg",
        }
    }
}

/// A number as it is added up: what is kept in between, and how it is rounded at the end.
trait Number: Copy {
    type Wide: Copy;
    fn read(bytes: &[u8]) -> Self::Wide;
    fn combine(op: ReduceOp, a: Self::Wide, b: Self::Wide) -> Self::Wide;
    fn divide(sum: Self::Wide, ranks: usize) -> Self::Wide;
    fn write(wide: Self::Wide, out: &mut Vec<u8>);
}

macro_rules! integers {
    ($($ty:ty),*) => {$(
        impl Number for $ty {
            type Wide = $ty;
            fn read(bytes: &[u8]) -> $ty {
                bytes.try_into().map_or(0, <$ty>::from_le_bytes)
            }
            fn combine(op: ReduceOp, a: $ty, b: $ty) -> $ty {
                match op {
                    ReduceOp::Sum | ReduceOp::Avg => a.wrapping_add(b),
                    ReduceOp::Prod => a.wrapping_mul(b),
                    ReduceOp::Max => a.max(b),
                    ReduceOp::Min => a.min(b),
                }
            }
            fn divide(sum: $ty, ranks: usize) -> $ty {
                <$ty>::try_from(ranks).map_or(0, |ranks| sum / ranks)
            }
            fn write(wide: $ty, out: &mut Vec<u8>) {
                out.extend(wide.to_le_bytes());
            }
        }
    )*};
}

integers!(i8, u8, i32, u32, i64, u64);

macro_rules! floats {
    ($($ty:ty as $wide:ty: $read:expr, $write:expr;)*) => {$(
        impl Number for $ty {
            type Wide = $wide;
            fn read(bytes: &[u8]) -> $wide {
                bytes.try_into().map_or(<$wide>::NAN, |bytes| $read(<$ty>::from_le_bytes(bytes)))
            }
            fn combine(op: ReduceOp, a: $wide, b: $wide) -> $wide {
                match op {
                    ReduceOp::Sum | ReduceOp::Avg => a + b,
                    ReduceOp::Prod => a * b,
                    ReduceOp::Max if a.is_nan() || b.is_nan() => <$wide>::NAN,
                    ReduceOp::Min if a.is_nan() || b.is_nan() => <$wide>::NAN,
                    ReduceOp::Max => a.max(b),
                    ReduceOp::Min => a.min(b),
                }
            }
            #[expect(clippy::cast_precision_loss, reason = "there are few ranks")]
            fn divide(sum: $wide, ranks: usize) -> $wide {
                sum / ranks as $wide
            }
            fn write(wide: $wide, out: &mut Vec<u8>) {
                out.extend(<$ty>::to_le_bytes($write(wide)));
            }
        }
    )*};
}

floats! {
    f32 as f32: std::convert::identity, std::convert::identity;
    f64 as f64: std::convert::identity, std::convert::identity;
    f16 as f32: f16::to_f32, f16::from_f32;
    bf16 as f32: bf16::to_f32, bf16::from_f32;
}

/// Element by element, over the ranks in order. 16-bit floats are rounded once, at the end.
pub(super) fn reduce(dtype: Type, op: ReduceOp, ranks: &[Vec<u8>]) -> Vec<u8> {
    match dtype {
        Type::I8 => reduced::<i8>(op, ranks),
        Type::U8 => reduced::<u8>(op, ranks),
        Type::I32 => reduced::<i32>(op, ranks),
        Type::U32 => reduced::<u32>(op, ranks),
        Type::I64 => reduced::<i64>(op, ranks),
        Type::U64 => reduced::<u64>(op, ranks),
        Type::F16 => reduced::<f16>(op, ranks),
        Type::F32 => reduced::<f32>(op, ranks),
        Type::F64 => reduced::<f64>(op, ranks),
        Type::Bf16 => reduced::<bf16>(op, ranks),
    }
}

fn reduced<T: Number>(op: ReduceOp, ranks: &[Vec<u8>]) -> Vec<u8> {
    let Some((first, rest)) = ranks.split_first() else { return Vec::new() };
    let mut out = Vec::with_capacity(first.len());
    for (i, own) in first.chunks_exact(size_of::<T>()).enumerate() {
        let at = i * size_of::<T>();
        let of = |rank: &Vec<u8>| T::read(rank.get(at..at + size_of::<T>()).unwrap_or_default());
        let mut wide = rest.iter().map(of).fold(T::read(own), |sum, next| T::combine(op, sum, next));
        if op == ReduceOp::Avg {
            wide = T::divide(wide, ranks.len());
        }
        T::write(wide, &mut out);
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of<T: Copy, const N: usize>(numbers: &[T], bytes: fn(T) -> [u8; N]) -> Vec<u8> {
        numbers.iter().flat_map(|x| bytes(*x)).collect()
    }

    #[test]
    fn every_reduction_of_floats() {
        let ranks = [[1.5_f32, -2.0], [4.0, 0.5], [0.5, -1.0]].map(|row| of(&row, f32::to_le_bytes));
        let made = |op| reduce(Type::F32, op, &ranks);
        assert_eq!(made(ReduceOp::Sum), of(&[6.0, -2.5], f32::to_le_bytes));
        assert_eq!(made(ReduceOp::Prod), of(&[3.0, 1.0], f32::to_le_bytes));
        assert_eq!(made(ReduceOp::Max), of(&[4.0, 0.5], f32::to_le_bytes));
        assert_eq!(made(ReduceOp::Min), of(&[0.5, -2.0], f32::to_le_bytes));
        assert_eq!(made(ReduceOp::Avg), of(&[2.0, -2.5 / 3.0], f32::to_le_bytes));
    }

    #[test]
    fn halves_are_rounded_once() {
        // 1 + 2^-8 is no bf16, but 1 + 2^-8 + 2^-8 is
        let ranks = [1.0, 1.0 / 256.0, 1.0 / 256.0].map(|x| of(&[bf16::from_f32(x)], bf16::to_le_bytes));
        let sum = of(&[bf16::from_f32(1.0 + 1.0 / 128.0)], bf16::to_le_bytes);
        assert_eq!(reduce(Type::Bf16, ReduceOp::Sum, &ranks), sum);
    }

    #[test]
    fn integers_wrap_and_their_mean_is_whole() {
        let ranks = [[u64::MAX, 7], [3, 8]].map(|row| of(&row, u64::to_le_bytes));
        assert_eq!(reduce(Type::U64, ReduceOp::Sum, &ranks), of(&[2, 15], u64::to_le_bytes));
        assert_eq!(reduce(Type::U64, ReduceOp::Avg, &ranks), of(&[1, 7], u64::to_le_bytes));
    }

    #[test]
    fn codes_are_those_of_nccl() {
        assert_eq!([Type::I8, Type::F32, Type::Bf16].map(Type::code), [0, 7, 9]);
        assert_eq!([ReduceOp::Sum, ReduceOp::Max, ReduceOp::Avg].map(ReduceOp::code), [0, 2, 4]);
        assert_eq!((Type::of(10), ReduceOp::of(5)), (None, None));
    }
}
