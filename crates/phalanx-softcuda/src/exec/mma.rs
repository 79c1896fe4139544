//! Matrix instructions of a warp: `ldmatrix` and `mma.sync`.
//!
//! Who holds which element follows the figures of the PTX manual: with `g = lane / 4` and `t = lane % 4`, registers of A hold rows
//! `g` and `g + 8`, those of B column `g`, and those of C and D rows `g` and `g + 8` and columns `2 t` and `2 t + 1`.

use super::access::{Base, resolve};
use super::block::{Machine, Step};
use super::float::{bf16_to_f32, f16_to_f32, f32_to_f16};
use super::lanes::{LANES, W};
use super::warp::Warp;
use crate::ptx::Space;

/// Loads matrices of 8 x 8 elements of 16 bits.
#[derive(Debug)]
pub(crate) struct Ldmatrix {
    /// A register a matrix.
    pub(crate) d: Vec<W>,
    pub(crate) base: Base,
    pub(crate) offset: i64,
    pub(crate) space: Space,
    pub(crate) transposed: bool,
}

/// What is multiplied: 16 rows of A, 8 columns of B.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Shape {
    F16 { k: usize },
    Bf16 { k: usize },
    Tf32 { k: usize },
}

/// `D = A B + C`
#[derive(Debug)]
pub(crate) struct Mma {
    pub(crate) shape: Shape,
    /// Whether C and D are pairs of f16 and not f32.
    pub(crate) half: bool,
    pub(crate) d: Vec<W>,
    pub(crate) a: Vec<W>,
    pub(crate) b: Vec<W>,
    pub(crate) c: Vec<W>,
}

impl Warp {
    pub(super) fn ldmatrix(&mut self, machine: &mut Machine<'_>, load: &Ldmatrix) -> Step {
        let addresses = self.addresses(load.base, load.offset);
        for (matrix, &d) in load.d.iter().enumerate() {
            let mut rows = [[0_u16; 8]; 8];
            for (row, elements) in rows.iter_mut().enumerate() {
                let lane = matrix * 8 + row;
                let (space, address) = resolve(load.space, addresses[lane]);
                let mut bytes = [0; 16];
                self.read(machine, space, address, lane, false, &mut bytes)?;
                for (element, pair) in elements.iter_mut().zip(bytes.as_chunks::<2>().0) {
                    *element = u16::from_le_bytes(*pair);
                }
            }
            let out = std::array::from_fn(|lane| {
                let (g, t) = (lane / 4, lane % 4 * 2);
                let (low, high) =
                    if load.transposed { (rows[t][g], rows[t + 1][g]) } else { (rows[g][t], rows[g][t + 1]) };
                u32::from(low) | u32::from(high) << 16
            });
            self.put_w(d, &out, u32::MAX);
        }
        Ok(())
    }

    /// Products and their sum are taken in f64 and rounded once.
    pub(super) fn mma(&mut self, mma: &Mma) {
        let (a, b, k) = self.operands(mma);
        let mut sums = [[0.0_f64; 8]; 16];
        for (row, sums) in sums.iter_mut().enumerate() {
            for (column, sum) in sums.iter_mut().enumerate() {
                *sum = (0..k).map(|i| f64::from(a[row][i]) * f64::from(b[i][column])).sum();
            }
        }
        let at = |lane: usize, index: usize| (lane / 4 + index / 2 * 8, lane % 4 * 2 + index % 2);
        if mma.half {
            for (half, (&d, &c)) in mma.d.iter().zip(&mma.c).enumerate() {
                let c = *self.w(c);
                let out: [u32; LANES] = std::array::from_fn(|lane| {
                    let one = |index: usize| {
                        let (row, column) = at(lane, half * 2 + index);
                        let c = f16_to_f32((c[lane] >> (16 * index)) as u16);
                        u32::from(f32_to_f16((sums[row][column] + f64::from(c)) as f32))
                    };
                    one(0) | one(1) << 16
                });
                self.put_w(d, &out, u32::MAX);
            }
            return;
        }
        for (index, (&d, &c)) in mma.d.iter().zip(&mma.c).enumerate() {
            let c = *self.w(c);
            let out = std::array::from_fn(|lane| {
                let (row, column) = at(lane, index);
                ((sums[row][column] + f64::from(f32::from_bits(c[lane]))) as f32).to_bits()
            });
            self.put_w(d, &out, u32::MAX);
        }
    }

    /// A as rows, B as rows, and the length of the sums.
    fn operands(&self, mma: &Mma) -> ([[f32; 16]; 16], [[f32; 8]; 16], usize) {
        let (mut a, mut b) = ([[0.0; 16]; 16], [[0.0; 8]; 16]);
        let widen = |bits: u16| match mma.shape {
            Shape::Bf16 { .. } => bf16_to_f32(bits),
            _ => f16_to_f32(bits),
        };
        for lane in 0..LANES {
            let (g, t) = (lane / 4, lane % 4);
            match mma.shape {
                Shape::F16 { .. } | Shape::Bf16 { .. } => {
                    for (index, &register) in mma.a.iter().enumerate() {
                        let bits = self.w(register)[lane];
                        let (row, column) = (g + index % 2 * 8, t * 2 + index / 2 * 8);
                        a[row][column] = widen(bits as u16);
                        a[row][column + 1] = widen((bits >> 16) as u16);
                    }
                    for (index, &register) in mma.b.iter().enumerate() {
                        let bits = self.w(register)[lane];
                        let row = t * 2 + index * 8;
                        b[row][g] = widen(bits as u16);
                        b[row + 1][g] = widen((bits >> 16) as u16);
                    }
                }
                Shape::Tf32 { .. } => {
                    // the low 13 bits of a tf32 are not looked at
                    let tf32 = |bits: u32| f32::from_bits(bits & !0x1fff);
                    for (index, &register) in mma.a.iter().enumerate() {
                        a[g + index % 2 * 8][t + index / 2 * 4] = tf32(self.w(register)[lane]);
                    }
                    for (index, &register) in mma.b.iter().enumerate() {
                        b[t + index * 4][g] = tf32(self.w(register)[lane]);
                    }
                }
            }
        }
        let (Shape::F16 { k } | Shape::Bf16 { k } | Shape::Tf32 { k }) = mma.shape;
        (a, b, k)
    }
}
