//! All inner products of some rows, in one pass over them.

use crate::cpu::simd::{Kernel, Lanes, launch, simd};
use crate::{AlignedBuf, TensorError};

/// Columns that are widened at once; four rows of them stay in the first cache.
const BLOCK: usize = 512;

/// Partial sums of one product. Fixed, so that the bits do not depend on the width of the vectors.
const LANES: usize = 8;

/// Rows on each side of a tile of products.
const TILE: usize = 4;

/// Sums of products in the making: feed it the columns from left to right, then take the sums.
///
/// # Numerics
/// Column `k` goes to lane `k mod 8` in `f64`, where the product of two `f32` is exact; lanes are added in a tree of
/// halves. Nothing overflows: 3e38 squared is 1e77.
///
/// # Examples
/// ```
/// use phalanx_tensor::{TensorError, rows::Products};
/// let mut products = Products::new(2)?;
/// products.add(&[&[1.0, 2.0], &[3.0, -1.0]]);
/// let mut gram_nn = [0.0; 4];
/// products.take(&mut gram_nn);
/// assert_eq!(gram_nn, [5.0, 1.0, 1.0, 10.0]);
/// # Ok::<(), TensorError>(())
/// ```
#[derive(Debug)]
pub struct Products {
    n: usize,
    /// `n` rows, a multiple of the tile's, of `BLOCK` columns.
    block: AlignedBuf<f64>,
    /// For each tile of the lower triangle, 4 x 4 products of 8 lanes.
    lanes: AlignedBuf<f64>,
}

impl Products {
    /// All sums 0.
    ///
    /// # Errors
    /// [`TensorError::OutOfMemory`] when the allocator refuses some `n * n * 32` bytes.
    pub fn new(n: usize) -> Result<Self, TensorError> {
        let tiles = n.div_ceil(TILE);
        let block = AlignedBuf::zeroed(tiles * TILE * BLOCK)?;
        let lanes = AlignedBuf::zeroed(tiles * (tiles + 1) / 2 * TILE * TILE * LANES)?;
        Ok(Products { n, block, lanes })
    }

    /// Adds the products of some columns.
    ///
    /// # Panics
    /// With another number of rows, or rows of unequal length.
    #[track_caller]
    pub fn add(&mut self, rows: &[&[f32]]) {
        assert_eq!(rows.len(), self.n, "rows of {} products", self.n);
        let len = rows.first().map_or(0, |row| row.len());
        assert!(rows.iter().all(|row| row.len() == len), "rows of one length");
        for at in (0..len).step_by(BLOCK) {
            let end = len.min(at + BLOCK);
            for (row, wide) in rows.iter().zip(self.block.chunks_exact_mut(BLOCK)) {
                widen(&row[at..end], &mut wide[..end - at]);
                wide[end - at..].fill(0.0);
            }
            launch(Tiles {
                tiles: self.n.div_ceil(TILE),
                columns: (end - at).next_multiple_of(LANES),
                block: &self.block,
                lanes: &mut self.lanes,
            });
        }
    }

    /// Writes the sums, `n x n`, and begins anew.
    ///
    /// # Panics
    /// When `gram_nn` has another length.
    #[track_caller]
    pub fn take(&mut self, gram_nn: &mut [f64]) {
        let n = self.n;
        assert_eq!(gram_nn.len(), n * n, "products of {n} rows");
        let mut tiles = self.lanes.chunks_exact(TILE * TILE * LANES);
        for top in (0..n).step_by(TILE) {
            for left in (0..=top).step_by(TILE) {
                let tile = tiles.next().unwrap_or_default();
                for (at, lanes) in tile.chunks_exact(LANES).enumerate() {
                    let (i, j) = (top + at / TILE, left + at % TILE);
                    if i < n && j <= i {
                        let sum = tree(lanes);
                        gram_nn[i * n + j] = sum;
                        gram_nn[j * n + i] = sum;
                    }
                }
            }
        }
        self.lanes.fill(0.0);
    }
}

/// Eight lanes in a tree of halves.
fn tree(v: &[f64]) -> f64 {
    ((v[0] + v[4]) + (v[2] + v[6])) + ((v[1] + v[5]) + (v[3] + v[7]))
}

simd! {
    fn widen(from: &[f32], to: &mut [f64]) {
        for (x, y) in from.iter().zip(to) {
            *y = f64::from(*x);
        }
    }
}

/// The lower triangle of the products of one block.
struct Tiles<'a> {
    tiles: usize,
    columns: usize,
    block: &'a [f64],
    lanes: &'a mut [f64],
}

impl Kernel<f64> for Tiles<'_> {
    #[inline(always)]
    unsafe fn run<L: Lanes<Elem = f64>>(self) {
        let mut lanes = self.lanes.chunks_exact_mut(TILE * TILE * LANES);
        for top in 0..self.tiles {
            for left in 0..=top {
                let Some(tile) = lanes.next() else { return };
                let [a, b] = [top, left].map(|t| &self.block[t * TILE * BLOCK..][..TILE * BLOCK]);
                // A register holds N of the 8 lanes: narrow ones pass more than once.
                for first in (0..LANES).step_by(L::N) {
                    if L::MANY {
                        // SAFETY: the caller runs at the level of L; `rank` states what it needs.
                        unsafe { rank::<L, 4>(a, b, tile, 0, first, self.columns) }
                    } else {
                        // SAFETY: as above.
                        unsafe { rank::<L, 2>(a, b, tile, 0, first, self.columns) }
                        // SAFETY: as above.
                        unsafe { rank::<L, 2>(a, b, tile, 2, first, self.columns) }
                    }
                }
            }
        }
    }
}

/// Adds the products of rows `row..row + R` of `a` with all four of `b` to the lanes `first..first + N` of a tile.
///
/// # Safety
/// The instructions of `L` exist, and `first + N <= LANES`.
#[inline(always)]
unsafe fn rank<L: Lanes<Elem = f64>, const R: usize>(
    a: &[f64],
    b: &[f64],
    tile: &mut [f64],
    row: usize,
    first: usize,
    columns: usize,
) {
    debug_assert!(row + R <= TILE && a.len() == TILE * BLOCK && b.len() == TILE * BLOCK);
    debug_assert!(columns <= BLOCK && columns.is_multiple_of(LANES) && tile.len() == TILE * TILE * LANES);
    // SAFETY: the caller runs at the level of L.
    let mut sums = [[unsafe { L::zero() }; TILE]; R];
    let at = |i: usize, j: usize| ((row + i) * TILE + j) * LANES + first;
    for (i, sums) in sums.iter_mut().enumerate() {
        for (j, sum) in sums.iter_mut().enumerate() {
            // SAFETY: at most 15 * 8 + first + N elements, which the tile has.
            *sum = unsafe { L::load(tile.as_ptr().add(at(i, j))) };
        }
    }
    for k in (first..columns).step_by(LANES) {
        // SAFETY: k + N <= columns <= BLOCK in each of the four rows.
        let right: [L; TILE] = std::array::from_fn(|j| unsafe { L::load(b.as_ptr().add(j * BLOCK + k)) });
        for (i, sums) in sums.iter_mut().enumerate() {
            // SAFETY: as above.
            let left = unsafe { L::load(a.as_ptr().add((row + i) * BLOCK + k)) };
            for (sum, right) in sums.iter_mut().zip(right) {
                // SAFETY: the caller runs at the level of L.
                *sum = unsafe { sum.fma(left, right) };
            }
        }
    }
    for (i, sums) in sums.iter().enumerate() {
        for (j, sum) in sums.iter().enumerate() {
            // SAFETY: as for the loads.
            unsafe { sum.store(tile.as_mut_ptr().add(at(i, j))) };
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rng::{Purpose, Stream};

    fn rows(n: usize, d: usize) -> Vec<Vec<f32>> {
        (0..n as u64)
            .map(|i| {
                let mut row = vec![0.0; d];
                Stream::new(3, Purpose::User(1), i).fill_normal(&mut row);
                row
            })
            .collect()
    }

    fn products(rows: &[Vec<f32>], cuts: &[usize]) -> Vec<f64> {
        let n = rows.len();
        let mut products = Products::new(n).unwrap();
        for cut in cuts.windows(2) {
            let part: Vec<&[f32]> = rows.iter().map(|row| &row[cut[0]..cut[1]]).collect();
            products.add(&part);
        }
        let mut gram = vec![0.0; n * n];
        products.take(&mut gram);
        gram
    }

    /// The stated order, without vectors, gives the same bits for every shape of the tiles and the last block.
    #[test]
    fn vectors_give_the_bits_of_scalars() {
        for (n, d) in [(1, 1), (3, 7), (4, 512), (5, 513), (9, 1100), (6, 0)] {
            let rows = rows(n, d);
            let got = products(&rows, &[0, d]);
            for i in 0..n {
                for j in 0..n {
                    let mut lanes = [0.0_f64; LANES];
                    for (k, (x, y)) in rows[i].iter().zip(&rows[j]).enumerate() {
                        lanes[k % LANES] += f64::from(*x) * f64::from(*y);
                    }
                    assert_eq!(got[i * n + j].to_bits(), tree(&lanes).to_bits(), "{n} {d} {i} {j}");
                }
            }
        }
    }

    #[test]
    fn columns_may_come_in_parts() {
        let rows = rows(5, 1500);
        assert_eq!(products(&rows, &[0, 1500]), products(&rows, &[0, 8, 1032, 1500]));
    }

    #[test]
    fn taking_begins_anew() {
        let mut products = Products::new(1).unwrap();
        let mut gram = [0.0];
        for x in [2.0, 3.0] {
            products.add(&[&[x]]);
            products.take(&mut gram);
            assert_eq!(gram, [f64::from(x * x)]);
        }
    }

    #[test]
    fn one_row_that_is_not_finite_spoils_no_other() {
        let mut products = Products::new(3).unwrap();
        products.add(&[&[1.0], &[f32::NAN], &[3e38]]);
        let mut gram = [0.0; 9];
        products.take(&mut gram);
        assert!(gram[4].is_nan() && gram[1].is_nan());
        assert_eq!(gram[2], f64::from(3e38_f32));
        assert!(gram[8].is_finite() && gram[8] > 8.9e76);
    }
}
