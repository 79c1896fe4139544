//! Sums and maxima along a row, in sixteen lanes whatever the machine: equal bits at every vector level.

use crate::Float;

const LANES: usize = 16;

/// The sum of `f` over the elements of `K` rows of equal length: lane by lane, then in a tree of halves.
#[inline(always)]
pub(super) fn sum_of<T: Float, const K: usize>(rows: [&[T]; K], f: impl Fn([T; K]) -> T) -> T {
    let mut lanes = [T::ZERO; LANES];
    let parts = rows.map(|row| row.as_chunks::<LANES>());
    for i in 0..rows[0].len() / LANES {
        let blocks = parts.map(|(blocks, _)| &blocks[i]);
        for (j, lane) in lanes.iter_mut().enumerate() {
            *lane += f(blocks.map(|block| block[j]));
        }
    }
    for (j, lane) in lanes.iter_mut().enumerate().take(rows[0].len() % LANES) {
        *lane += f(parts.map(|(_, rest)| rest[j]));
    }
    tree(lanes, |a, b| a + b)
}

/// Lanes joined in a tree of halves; of known sizes, so that each level is one instruction.
#[inline(always)]
fn tree<T: Float>(lanes: [T; LANES], join: impl Fn(T, T) -> T) -> T {
    let eight: [T; 8] = std::array::from_fn(|i| join(lanes[i], lanes[i + 8]));
    let four: [T; 4] = std::array::from_fn(|i| join(eight[i], eight[i + 4]));
    join(join(four[0], four[2]), join(four[1], four[3]))
}

/// The sum of a row.
#[inline(always)]
pub(super) fn sum<T: Float>(row: &[T]) -> T {
    sum_of([row], |[x]| x)
}

/// The greatest element of a row that is not empty; NaN if the first is.
#[inline(always)]
pub(super) fn max<T: Float>(row: &[T]) -> T {
    let mut lanes = [row[0]; LANES];
    let (blocks, rest) = row.as_chunks::<LANES>();
    for block in blocks {
        for (lane, x) in lanes.iter_mut().zip(block) {
            *lane = if *x > *lane { *x } else { *lane };
        }
    }
    for (lane, x) in lanes.iter_mut().zip(rest) {
        *lane = if *x > *lane { *x } else { *lane };
    }
    tree(lanes, T::max_keeping_nan)
}

/// The greatest of the first `len` elements, at least one; NaN if the first is.
#[inline(always)]
pub(super) fn max_of_first<T: Float>(len: usize, row: &[T]) -> T {
    let mut lanes = [row[0]; LANES];
    let (blocks, rest) = row.as_chunks::<LANES>();
    let (whole, left) = (len / LANES, len % LANES);
    for block in &blocks[..whole] {
        for (lane, x) in lanes.iter_mut().zip(block) {
            *lane = if *x > *lane { *x } else { *lane };
        }
    }
    match blocks.get(whole) {
        // lanes that are switched off cost less than a shorter loop
        Some(block) => {
            for (j, (lane, x)) in lanes.iter_mut().zip(block).enumerate() {
                *lane = if j < left && *x > *lane { *x } else { *lane };
            }
        }
        None => {
            for (lane, x) in lanes.iter_mut().zip(&rest[..left]) {
                *lane = if *x > *lane { *x } else { *lane };
            }
        }
    }
    tree(lanes, T::max_keeping_nan)
}

/// `x = e^(scale x - shift)` for the first `len` elements and 0 for the rest, and the sum.
#[inline(always)]
pub(super) fn exp_first<T: Float>(scale: T, shift: T, len: usize, row: &mut [T]) -> T {
    let mut lanes = [T::ZERO; LANES];
    let (blocks, rest) = row.as_chunks_mut::<LANES>();
    let (whole, left) = (len / LANES, len % LANES);
    let (seen, unseen) = blocks.split_at_mut(whole);
    for block in seen {
        for (lane, x) in lanes.iter_mut().zip(block) {
            *x = (scale * *x - shift).exp();
            *lane += *x;
        }
    }
    match unseen.split_first_mut() {
        Some((block, unseen)) => {
            for (j, (lane, x)) in lanes.iter_mut().zip(block).enumerate() {
                *x = if j < left { (scale * *x - shift).exp() } else { T::ZERO };
                *lane += *x;
            }
            unseen.as_flattened_mut().fill(T::ZERO);
            rest.fill(T::ZERO);
        }
        None => {
            for (lane, x) in lanes.iter_mut().zip(&mut rest[..left]) {
                *x = (scale * *x - shift).exp();
                *lane += *x;
            }
            rest[left..].fill(T::ZERO);
        }
    }
    tree(lanes, |a, b| a + b)
}

/// `x = e^(scale x - shift)`, and the sum.
#[inline(always)]
pub(super) fn exp_sum<T: Float>(scale: T, shift: T, row: &mut [T]) -> T {
    for x in row.iter_mut() {
        *x = (scale * *x - shift).exp();
    }
    sum(row)
}
