//! The product itself.

use crate::exec::arena::{self, Kind};
use crate::exec::float::{bf16_to_f32, f16_to_f32, f32_to_bf16, f32_to_f16};
use crate::fault::Fault;
use std::ops::{Add, Mul};

/// What a matrix has in it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Element {
    F32,
    F64,
    F16,
    Bf16,
}

impl Element {
    /// By the number of its `cudaDataType`.
    pub(super) fn of(number: i32) -> Option<Self> {
        Some(match number {
            0 => Element::F32,
            1 => Element::F64,
            2 => Element::F16,
            14 => Element::Bf16,
            _ => return None,
        })
    }

    fn bytes(self) -> usize {
        match self {
            Element::F64 => 8,
            Element::F32 => 4,
            Element::F16 | Element::Bf16 => 2,
        }
    }
}

/// To what operands in f32 are rounded before they are multiplied.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Cut {
    Nothing,
    F16,
    Bf16,
    Tf32,
}

impl Cut {
    fn of(self, value: f32) -> f32 {
        match self {
            Cut::Nothing => value,
            Cut::F16 => f16_to_f32(f32_to_f16(value)),
            Cut::Bf16 => bf16_to_f32(f32_to_bf16(value)),
            // ten bits of the mantissa, ties away from zero
            Cut::Tf32 if value.is_finite() => {
                f32::from_bits((value.to_bits() + (1 << 12)) & !((1 << 13) - 1))
            }
            Cut::Tf32 => value,
        }
    }
}

/// A factor, in the precision of the product.
#[derive(Clone, Copy, Debug)]
pub(super) enum Scalar {
    Single(f32),
    Double(f64),
}

/// Matrices of one shape, by columns.
#[derive(Clone, Copy, Debug)]
pub(super) struct Matrix {
    pub(super) address: u64,
    pub(super) element: Element,
    /// Elements from one column to the next.
    pub(super) leading: usize,
    /// Elements from one matrix to the next.
    pub(super) stride: i64,
    pub(super) rows: usize,
    pub(super) columns: usize,
}

/// `C = alpha op(A) op(B) + beta C`, `count` times.
#[derive(Clone, Copy, Debug)]
pub(super) struct Product {
    pub(super) a: Matrix,
    pub(super) b: Matrix,
    pub(super) c: Matrix,
    pub(super) transposed: [bool; 2],
    pub(super) inner: usize,
    pub(super) alpha: Scalar,
    pub(super) beta: Scalar,
    pub(super) count: usize,
    pub(super) cut: Cut,
}

/// What is computed in.
trait Number: Copy + Default + PartialEq + Add<Output = Self> + Mul<Output = Self> {
    fn load(element: Element, bytes: &[u8]) -> Self;
    fn store(self, element: Element, bytes: &mut [u8]);
    fn cut(self, cut: Cut) -> Self;
}

impl Number for f32 {
    fn cut(self, cut: Cut) -> Self {
        cut.of(self)
    }

    fn load(element: Element, bytes: &[u8]) -> Self {
        let half = || u16::from_le_bytes([bytes[0], bytes[1]]);
        match element {
            Element::F16 => f16_to_f32(half()),
            Element::Bf16 => bf16_to_f32(half()),
            _ => f32::from_le_bytes(bytes.try_into().unwrap_or_default()),
        }
    }

    fn store(self, element: Element, bytes: &mut [u8]) {
        match element {
            Element::F16 => bytes.copy_from_slice(&f32_to_f16(self).to_le_bytes()),
            Element::Bf16 => bytes.copy_from_slice(&f32_to_bf16(self).to_le_bytes()),
            _ => bytes.copy_from_slice(&self.to_le_bytes()),
        }
    }
}

impl Number for f64 {
    fn cut(self, _: Cut) -> Self {
        self
    }

    fn load(_: Element, bytes: &[u8]) -> Self {
        f64::from_le_bytes(bytes.try_into().unwrap_or_default())
    }

    fn store(self, _: Element, bytes: &mut [u8]) {
        bytes.copy_from_slice(&self.to_le_bytes());
    }
}

impl Matrix {
    /// The bytes of a column of the `index`th matrix.
    fn column(&self, index: usize, column: usize, kind: Kind) -> Result<(*mut u8, usize), Fault> {
        let bytes = self.element.bytes();
        let elements = (column * self.leading) as u64;
        let skipped = self.stride.cast_unsigned().wrapping_mul(index as u64).wrapping_add(elements);
        let address = self.address.wrapping_add(skipped.wrapping_mul(bytes as u64));
        let length = self.rows * bytes;
        let start = arena::access(address, length, kind).map_err(|mut fault| {
            fault.what = format!("cublas: {} (column {column} of matrix {index})", fault.what);
            fault
        })?;
        Ok((start, length))
    }

    /// All elements, by columns, or by rows.
    fn load<T: Number>(&self, index: usize, by_rows: bool) -> Result<Vec<T>, Fault> {
        let mut all = vec![T::default(); self.rows * self.columns];
        for column in 0..self.columns {
            let (start, length) = self.column(index, column, Kind::Read)?;
            // SAFETY: as many bytes were checked
            let bytes = unsafe { std::slice::from_raw_parts(start, length) };
            for (row, element) in bytes.chunks_exact(self.element.bytes()).enumerate() {
                let at = if by_rows { row * self.columns + column } else { column * self.rows + row };
                all[at] = T::load(self.element, element);
            }
        }
        Ok(all)
    }
}

impl Product {
    pub(super) fn run(&self) -> Result<(), Fault> {
        match (self.alpha, self.beta) {
            (Scalar::Double(alpha), Scalar::Double(beta)) => {
                (0..self.count).try_for_each(|i| self.one(i, alpha, beta))
            }
            (Scalar::Single(alpha), Scalar::Single(beta)) => {
                (0..self.count).try_for_each(|i| self.one(i, alpha, beta))
            }
            _ => Ok(()),
        }
    }

    fn one<T: Number>(&self, index: usize, alpha: T, beta: T) -> Result<(), Fault> {
        let (m, k) = (self.c.rows, self.inner);
        // op(A) by columns of m, op(B) by columns of k
        let mut a: Vec<T> = self.a.load(index, self.transposed[0])?;
        let mut b: Vec<T> = self.b.load(index, self.transposed[1])?;
        if self.cut != Cut::Nothing {
            a.iter_mut().chain(&mut b).for_each(|number| *number = number.cut(self.cut));
        }
        let mut sums = vec![T::default(); m];
        for column in 0..self.c.columns {
            sums.fill(T::default());
            for i in 0..k {
                let factor = b[column * k + i];
                for (sum, &a) in sums.iter_mut().zip(&a[i * m..(i + 1) * m]) {
                    *sum = *sum + a * factor;
                }
            }
            // where beta is 0, what C holds is not looked at
            if beta != T::default() {
                self.c.column(index, column, Kind::Read)?;
            }
            let (start, length) = self.c.column(index, column, Kind::Write)?;
            // SAFETY: as many bytes were checked
            let bytes = unsafe { std::slice::from_raw_parts_mut(start, length) };
            for (element, &sum) in bytes.chunks_exact_mut(self.c.element.bytes()).zip(&sums) {
                let mut value = alpha * sum;
                if beta != T::default() {
                    value = value + beta * T::load(self.c.element, element);
                }
                value.store(self.c.element, element);
            }
        }
        Ok(())
    }
}
