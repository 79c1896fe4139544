//! Matrix products: a packed kernel for any layout, and one of dot products where both operands run along `k`.
//!
//! Our own and not a library's for three reasons, measured in `benches/`: blocking must not follow the machine's
//! caches (equal bits on unequal machines), the vector width must be pinnable, and a rank's share of a batch gives
//! products of few rows, for which packing a transposed weight costs more than it saves.

use super::Cpu;
use super::scratch::Scratch;
use super::simd::{Kernel, Lanes, launch, simd};
use crate::Float;
use crate::backend::Write;
use crate::op::{ElementwiseOps, Mat, MatmulOps, MatmulSpec, UnaryKind};
use std::ops::Range;

/// Steps of `k` that a packed block spans: its slice of `b` stays in the first-level cache.
const KC: usize = 160;
/// Columns of `b` packed at once.
const NC: usize = 768;
/// Rows of `a` packed at once.
const MC: usize = 128;
/// Steps of `k` of a block of dot products: six rows of `b` stay in the first-level cache.
const DOT_STEP: usize = 1024;
/// Up to so many rows, a product with a transposed `b` is done by dot products, without packing.
const DOT_ROWS: usize = 160;

impl<T: Float> MatmulOps for Cpu<T> {
    fn matmul(&self, spec: &MatmulSpec, a: &[T], b: &[T], write: Write, c: &mut [T]) {
        for i in 0..spec.batch {
            let at = |mat: &Mat| mat.offset + i * mat.batch;
            let write = if i > 0 && spec.c.batch == 0 { Write::Add } else { write };
            let one = Product {
                m: spec.m,
                n: spec.n,
                k: spec.k,
                a: Operand::new(&a[at(&spec.a)..], spec.a.rows, spec.a.cols, spec.m, spec.k),
                b: Operand::new(&b[at(&spec.b)..], spec.b.rows, spec.b.cols, spec.k, spec.n),
                ldc: spec.c.rows,
                write,
            };
            assert_eq!(spec.c.cols, 1, "the rows of a product are contiguous");
            multiply(&one, &mut c[at(&spec.c)..]);
        }
    }

    fn linear(
        &self,
        m: usize,
        n: usize,
        k: usize,
        x: &[T],
        w: &[T],
        bias: Option<&[T]>,
        act: Option<UnaryKind>,
        pre: Option<&mut [T]>,
        y: &mut [T],
    ) {
        let product = Product {
            m,
            n,
            k,
            a: Operand::new(x, k, 1, m, k),
            b: Operand::new(w, 1, k, k, n),
            ldc: n,
            write: Write::Set,
        };
        multiply(&product, y);
        match (act, pre) {
            (Some(UnaryKind::Relu), _) => add_rows_relu(n, bias, y),
            (Some(kind), Some(pre)) => {
                add_rows(n, bias, y);
                pre.copy_from_slice(y);
                self.unary(kind, pre, y);
            }
            (Some(_), None) => unreachable!("an activation other than ReLU keeps its input"),
            (None, _) => add_rows(n, bias, y),
        }
    }
}

simd! {
    fn add_rows<T: Float>(n: usize, bias: Option<&[T]>, y: &mut [T]) {
        let Some(bias) = bias else { return };
        for row in y.chunks_exact_mut(n) {
            for (y, b) in row.iter_mut().zip(bias) {
                *y += *b;
            }
        }
    }
}

simd! {
    fn add_rows_relu<T: Float>(n: usize, bias: Option<&[T]>, y: &mut [T]) {
        let Some(bias) = bias else {
            for y in y.iter_mut() {
                *y = if *y < T::ZERO { T::ZERO } else { *y };
            }
            return;
        };
        for row in y.chunks_exact_mut(n) {
            for (y, b) in row.iter_mut().zip(bias) {
                let sum = *y + *b;
                *y = if sum < T::ZERO { T::ZERO } else { sum };
            }
        }
    }
}

/// One matrix to read: element `(i, j)` is at `i * rows + j * cols`.
#[derive(Clone, Copy)]
struct Operand<'a, T> {
    data: &'a [T],
    rows: usize,
    cols: usize,
}

impl<'a, T> Operand<'a, T> {
    /// Checks that the last element is inside the slice: all that the kernels below rely on.
    #[track_caller]
    fn new(data: &'a [T], rows: usize, cols: usize, m: usize, n: usize) -> Self {
        if m > 0 && n > 0 {
            let last = (m - 1) * rows + (n - 1) * cols;
            assert!(last < data.len(), "a matrix of {m} x {n} does not fit in {} elements", data.len());
        }
        Operand { data, rows, cols }
    }

    /// The transposed view: columns as rows.
    fn along_columns(self) -> Self {
        Operand { rows: self.cols, cols: self.rows, ..self }
    }
}

struct Product<'a, T> {
    m: usize,
    n: usize,
    k: usize,
    a: Operand<'a, T>,
    b: Operand<'a, T>,
    ldc: usize,
    write: Write,
}

fn multiply<T: Float>(p: &Product<'_, T>, c: &mut [T]) {
    if p.m == 0 || p.n == 0 {
        return;
    }
    assert!((p.m - 1) * p.ldc + p.n <= c.len() && p.n <= p.ldc.max(p.n), "the product does not fit");
    if p.k == 0 {
        if p.write == Write::Set {
            for row in c.chunks_mut(p.ldc.max(1)).take(p.m) {
                row[..p.n].fill(T::ZERO);
            }
        }
        return;
    }
    if p.a.cols == 1 && p.b.rows == 1 && p.m <= DOT_ROWS && p.k >= 64 {
        launch(Dots { p, c });
    } else {
        let mut scratch = Scratch::take(KC * (NC + MC));
        launch(Packed { p, c, scratch: scratch.get() });
    }
}

/// `c[i][j] = a_i . b_j` with both running along `k`: nothing is packed.
struct Dots<'a, 'b, T> {
    p: &'a Product<'b, T>,
    c: &'a mut [T],
}

impl<T: Float> Kernel<T> for Dots<'_, '_, T> {
    #[inline(always)]
    unsafe fn run<L: Lanes<Elem = T>>(self) {
        // SAFETY: passed on from `launch`; `Product` was checked by `Operand::new` and `multiply`.
        unsafe {
            if L::MANY {
                self.tiles::<L, 4, 6>();
            } else {
                self.tiles::<L, 3, 3>();
            }
        }
    }
}

impl<T: Float> Dots<'_, '_, T> {
    #[inline(always)]
    unsafe fn tiles<L: Lanes<Elem = T>, const M: usize, const N: usize>(self) {
        let Dots { p, c } = self;
        for k0 in (0..p.k).step_by(DOT_STEP) {
            let k = DOT_STEP.min(p.k - k0);
            let write = if k0 == 0 { p.write } else { Write::Add };
            // SAFETY: k0 is below k.
            let (a, b) = unsafe { (p.a.data.as_ptr().add(k0), p.b.data.as_ptr().add(k0)) };
            for (j, i) in (0..p.n).step_by(N).flat_map(|j| (0..p.m).step_by(M).map(move |i| (j, i))) {
                // Rows past the end repeat the last one; their sums are not stored.
                // SAFETY: every row index is below m or n.
                let (rows_a, rows_b) = unsafe {
                    (
                        std::array::from_fn(|r| a.add((i + r).min(p.m - 1) * p.a.rows)),
                        std::array::from_fn(|s| b.add((j + s).min(p.n - 1) * p.b.cols)),
                    )
                };
                // SAFETY: each row has k elements.
                let sums: [[L; N]; M] = unsafe { dots::<L, M, N>(k, rows_a, rows_b) };
                // SAFETY: the level is that of `launch`.
                let sums = unsafe { sum_tile(&sums) };
                for (r, row) in sums.iter().enumerate().take(p.m - i) {
                    let out = &mut c[(i + r) * p.ldc + j..(i + r) * p.ldc + p.n];
                    for (out, sum) in out.iter_mut().zip(row) {
                        *out = if write == Write::Add { *out + *sum } else { *sum };
                    }
                }
            }
        }
    }
}

/// Vectors of partial sums of `a_r . b_s` over `k` elements.
///
/// # Safety
/// Inside `launch`; every pointer reads `k` elements.
#[inline(always)]
pub(super) unsafe fn dots<L: Lanes, const M: usize, const N: usize>(
    k: usize,
    a: [*const L::Elem; M],
    b: [*const L::Elem; N],
) -> [[L; N]; M] {
    // SAFETY: the caller's contract; all offsets are below k.
    unsafe {
        let mut acc = [[L::zero(); N]; M];
        dots_into::<L, M, N>(k, a, b, &mut acc);
        acc
    }
}

/// The sum of the lanes of each register, four at a time.
///
/// # Safety
/// Inside `launch`.
#[inline(always)]
pub(super) unsafe fn sum_tile<L: Lanes, const M: usize, const N: usize>(
    acc: &[[L; N]; M],
) -> [[L::Elem; N]; M] {
    let mut sums = [[L::Elem::default(); N]; M];
    for s in 0..N {
        let mut r = 0;
        while r + 4 <= M {
            // SAFETY: the caller's contract.
            let four = unsafe { L::sum4([acc[r][s], acc[r + 1][s], acc[r + 2][s], acc[r + 3][s]]) };
            for (sums, four) in sums[r..].iter_mut().zip(four) {
                sums[s] = four;
            }
            r += 4;
        }
        for (sums, acc) in sums.iter_mut().zip(acc).skip(r) {
            // SAFETY: the caller's contract.
            sums[s] = unsafe { acc[s].sum() };
        }
    }
    sums
}

/// [`dots`] added to sums begun before.
///
/// # Safety
/// As [`dots`].
#[inline(always)]
pub(super) unsafe fn dots_into<L: Lanes, const M: usize, const N: usize>(
    k: usize,
    a: [*const L::Elem; M],
    b: [*const L::Elem; N],
    acc: &mut [[L; N]; M],
) {
    let whole = k - k % L::N;
    // SAFETY: the caller's contract; all offsets are below k.
    unsafe {
        let mut t = 0;
        while t < whole {
            let left: [L; M] = std::array::from_fn(|r| L::load(a[r].add(t)));
            for s in 0..N {
                let right = L::load(b[s].add(t));
                for r in 0..M {
                    acc[r][s] = acc[r][s].fma(left[r], right);
                }
            }
            t += L::N;
        }
        if whole < k {
            let left: [L; M] = std::array::from_fn(|r| L::load_first(a[r].add(whole), k - whole));
            for s in 0..N {
                let right = L::load_first(b[s].add(whole), k - whole);
                for r in 0..M {
                    acc[r][s] = acc[r][s].fma(left[r], right);
                }
            }
        }
    }
}

/// Blocks of `a` and `b` packed so that the innermost loop reads both in order.
struct Packed<'a, 'b, T> {
    p: &'a Product<'b, T>,
    c: &'a mut [T],
    scratch: &'a mut [T],
}

impl<T: Float> Kernel<T> for Packed<'_, '_, T> {
    #[inline(always)]
    unsafe fn run<L: Lanes<Elem = T>>(self) {
        // SAFETY: passed on from `launch`; `Product` was checked by `Operand::new` and `multiply`.
        unsafe {
            if L::MANY {
                self.blocks::<L, 8, 3>();
            } else {
                self.blocks::<L, 4, 3>();
            }
        }
    }
}

impl<T: Float> Packed<'_, '_, T> {
    #[inline(always)]
    unsafe fn blocks<L: Lanes<Elem = T>, const MR: usize, const NR: usize>(self) {
        let Packed { p, c, scratch } = self;
        let width = NR * L::N;
        // Copies of known length are a few vector moves, those of unknown length a call.
        let copy_b = |from: &[T], to: &mut [T]| {
            let (from, to) = (&from[..width], &mut to[..width]);
            for v in 0..NR {
                // SAFETY: both have NR vectors.
                unsafe { L::load(from.as_ptr().add(v * L::N)).store(to.as_mut_ptr().add(v * L::N)) };
            }
        };
        let copy_a = |from: &[T], to: &mut [T]| {
            if let (Some(from), Some(to)) = (from.first_chunk::<MR>(), to.first_chunk_mut::<MR>()) {
                *to = *from;
            }
        };
        let (packed_b, packed_a) = scratch.split_at_mut(KC * NC);
        let nc = NC / width * width;
        let c = c.as_mut_ptr();
        for j0 in (0..p.n).step_by(nc) {
            let n = nc.min(p.n - j0);
            for k0 in (0..p.k).step_by(KC) {
                let k = KC.min(p.k - k0);
                let write = if k0 == 0 { p.write } else { Write::Add };
                pack(&p.b.along_columns(), width, k0..k0 + k, j0..j0 + n, packed_b, copy_b);
                for i0 in (0..p.m).step_by(MC) {
                    let m = MC.min(p.m - i0);
                    pack(&p.a, MR, k0..k0 + k, i0..i0 + m, packed_a, copy_a);
                    for j in (0..n).step_by(width) {
                        let cols = width.min(n - j);
                        for i in (0..m).step_by(MR) {
                            let rows = MR.min(m - i);
                            // SAFETY: the packed panels hold k steps of `MR` and `width` elements, zero past the
                            // edges; the tile of `c` lies inside the product. The last tile is as narrow as what is
                            // left.
                            unsafe {
                                let a = packed_a.as_ptr().add(i * k);
                                let b = |t: usize| packed_b.as_ptr().add(j * k + t * width);
                                let out = c.add((i0 + i) * p.ldc + j0 + j);
                                if cols > 2 * L::N {
                                    let acc: [[L; NR]; MR] = tile(k, a, b);
                                    store_tile(&acc, rows, cols, out, p.ldc, write);
                                } else if cols > L::N {
                                    let acc: [[L; 2]; MR] = tile(k, a, b);
                                    store_tile(&acc, rows, cols, out, p.ldc, write);
                                } else {
                                    let acc: [[L; 1]; MR] = tile(k, a, b);
                                    store_tile(&acc, rows, cols, out, p.ldc, write);
                                }
                            }
                        }
                    }
                }
            }
        }
    }
}

/// `acc[r][v] = sum over t of a[t * MR + r] * b(t)[v]`, the innermost loop of products and convolutions.
///
/// # Safety
/// Inside `launch`; `a` reads `k * MR` elements, `b(t)` reads `NR` vectors.
#[expect(clippy::needless_range_loop, reason = "constant bounds unroll into registers")]
#[inline(always)]
pub(super) unsafe fn tile<L: Lanes, const MR: usize, const NR: usize>(
    k: usize,
    a: *const L::Elem,
    b: impl Fn(usize) -> *const L::Elem,
) -> [[L; NR]; MR] {
    // SAFETY: the caller's contract.
    unsafe {
        let mut acc = [[L::zero(); NR]; MR];
        let mut a = a;
        for t in 0..k {
            let p = b(t);
            let right: [L; NR] = std::array::from_fn(|v| L::load(p.add(v * L::N)));
            for r in 0..MR {
                let left = L::splat(a.add(r).read());
                for v in 0..NR {
                    acc[r][v] = acc[r][v].fma(left, right[v]);
                }
            }
            a = a.add(MR);
        }
        acc
    }
}

/// Writes the first `rows x cols` of a tile.
///
/// # Safety
/// Inside `launch`; `out` may be written at `r * ldc + 0..cols` for every row.
#[inline(always)]
pub(super) unsafe fn store_tile<L: Lanes, const MR: usize, const NR: usize>(
    acc: &[[L; NR]; MR],
    rows: usize,
    cols: usize,
    out: *mut L::Elem,
    ldc: usize,
    write: Write,
) {
    for (r, row) in acc.iter().enumerate() {
        if r >= rows {
            break;
        }
        for (v, sum) in row.iter().enumerate() {
            let left = cols.saturating_sub(v * L::N).min(L::N);
            // SAFETY: the caller's contract; `left` cuts the vector at the last column.
            unsafe {
                let p = out.add(r * ldc + v * L::N);
                if left == L::N {
                    let sum = if write == Write::Add { L::load(p).add(*sum) } else { *sum };
                    sum.store(p);
                } else if left > 0 {
                    let sum = if write == Write::Add { L::load_first(p, left).add(*sum) } else { *sum };
                    sum.store_first(p, left);
                }
            }
        }
    }
}

/// Copies a block of rows into panels of `width` rows: panel after panel, within a panel step after step of `k`, zero past
/// the edge. `copy` moves `width` elements.
#[inline(always)]
fn pack<T: Float>(
    x: &Operand<'_, T>,
    width: usize,
    ks: Range<usize>,
    js: Range<usize>,
    out: &mut [T],
    copy: impl Fn(&[T], &mut [T]),
) {
    let (step_k, step_j, k) = (x.cols, x.rows, ks.len());
    for (panel, j0) in out.chunks_mut(k * width).zip(js.clone().step_by(width)) {
        let n = width.min(js.end - j0);
        let base = ks.start * step_k + j0 * step_j;
        if step_j == 1 && n == width {
            for (t, row) in panel.chunks_exact_mut(width).enumerate() {
                copy(&x.data[base + t * step_k..], row);
            }
        } else if step_k == 1 && n == width {
            // Runs along `k` are read in order and dealt out to the steps.
            for j in 0..width {
                let from = &x.data[base + j * step_j..][..k];
                for (row, v) in panel.chunks_exact_mut(width).zip(from) {
                    row[j] = *v;
                }
            }
        } else {
            for (t, row) in panel.chunks_exact_mut(width).enumerate() {
                let from = base + t * step_k;
                for (j, y) in row[..n].iter_mut().enumerate() {
                    *y = x.data[from + j * step_j];
                }
                row[n..].fill(T::ZERO);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::{Just, ProptestConfig, prop_oneof, proptest};

    /// The definition: three loops.
    fn naive(spec: &MatmulSpec, a: &[f64], b: &[f64], c: &mut [f64]) {
        for g in 0..spec.batch {
            for i in 0..spec.m {
                for j in 0..spec.n {
                    for t in 0..spec.k {
                        let x = a[spec.a.offset + g * spec.a.batch + i * spec.a.rows + t * spec.a.cols];
                        let y = b[spec.b.offset + g * spec.b.batch + t * spec.b.rows + j * spec.b.cols];
                        c[spec.c.offset + g * spec.c.batch + i * spec.c.rows + j] += x * y;
                    }
                }
            }
        }
    }

    /// Small integers, so that sums are exact in any order.
    fn ints(n: usize, salt: usize) -> Vec<f64> {
        (0..n).map(|i| f64::from(u8::try_from((i * 7 + salt * 13 + i / 3) % 9).unwrap()) - 4.0).collect()
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]
        #[test]
        fn products_are_exact_on_integers(
            m in prop_oneof![0_usize..40, Just(161), Just(300)], n in 0_usize..120,
            k in prop_oneof![0_usize..90, Just(257), Just(600)],
            batch in 1_usize..3, ta: bool, tb: bool, add: bool,
        ) {
            let a = if ta { Mat { batch: m * k, ..Mat::dense(k, m) }.t() } else { Mat::dense(m, k) };
            let b = if tb { Mat { batch: n * k, ..Mat::dense(n, k) }.t() } else { Mat::dense(k, n) };
            let spec = MatmulSpec { batch, m, n, k, a, b, c: Mat::dense(m, n) };
            let (x, y) = (ints(batch * m * k, 1), ints(batch * k * n, 2));
            let start = ints(batch * m * n, 3);
            let mut want = if add { start.clone() } else { vec![0.0; start.len()] };
            naive(&spec, &x, &y, &mut want);
            let write = if add { Write::Add } else { Write::Set };
            let mut got = start.clone();
            Cpu::<f64>::new().matmul(&spec, &x, &y, write, &mut got);
            assert_eq!(got, want);
            let narrow = |v: &[f64]| v.iter().map(|x| f32::from_f64(*x)).collect::<Vec<_>>();
            let mut got = narrow(&start);
            Cpu::<f32>::new().matmul(&spec, &narrow(&x), &narrow(&y), write, &mut got);
            assert_eq!(got, narrow(&want));
        }
    }

    #[test]
    fn a_batch_into_one_matrix_adds_up() {
        let spec = MatmulSpec {
            batch: 3,
            m: 1,
            n: 1,
            k: 2,
            a: Mat::dense(1, 2),
            b: Mat::dense(2, 1),
            c: Mat::dense(1, 1).shared(),
        };
        let mut c = [100.0];
        Cpu::<f64>::new().matmul(&spec, &[1.0, 2.0, 3.0, 4.0, 5.0, 6.0], &[1.0; 6], Write::Set, &mut c);
        assert_eq!(c, [21.0]);
    }

    #[test]
    fn a_linear_layer_fuses_bias_and_relu() {
        let cpu = Cpu::<f32>::new();
        let mut y = [0.0; 4];
        // rows (1, 2), (-1, 0); weights (1, 1), (2, -1); bias (0, -1)
        let (x, w, b) = ([1.0, 2.0, -1.0, 0.0], [1.0, 1.0, 2.0, -1.0], [0.0, -1.0]);
        cpu.linear(2, 2, 2, &x, &w, Some(&b), None, None, &mut y);
        assert_eq!(y, [3.0, -1.0, -1.0, -3.0]);
        cpu.linear(2, 2, 2, &x, &w, Some(&b), Some(UnaryKind::Relu), None, &mut y);
        assert_eq!(y, [3.0, 0.0, 0.0, 0.0]);
    }
}
