//! Matrix products: a packed kernel for any layout, and one of dot products where both operands run along `k`.
//!
//! Our own and not a library's for three reasons, measured in `benches/`: blocking must not follow the machine's
//! caches (equal bits on unequal machines), the vector width must be pinnable, and a rank's share of a batch gives
//! products of few rows, for which packing a transposed weight costs more than it saves.

use super::Cpu;
use super::scratch::Scratch;
use super::simd::{Kernel, Lanes, launch};
use crate::Float;
use crate::backend::Write;
use crate::op::{ElementwiseOps, Mat, MatmulOps, MatmulSpec, UnaryKind};
use std::ops::Range;

/// Steps of `k` that a packed block spans: its slice of `b` stays in the first-level cache.
const KC: usize = 160;
/// Columns of `b` packed at once.
const NC: usize = 768;
/// Rows of `a` in a block.
const MC: usize = 128;
/// Up to so many rows, or where `b` is no larger than this, a `b` whose rows are contiguous is read where it lies: packing
/// would not be paid back.
const DIRECT_ROWS: usize = 64;
const DIRECT_ELEMENTS: usize = 8192;
/// Up to so many steps of `k`, an `a` whose columns are contiguous is read where it lies.
const DIRECT_STEPS: usize = 64;
/// Steps of `k` of a block of dot products: six rows of `b` stay in the first-level cache.
const DOT_STEP: usize = 1024;
/// A product with a transposed `b` whose `k` is at least so many times its rows is done by dot products: what their last
/// sums cost falls with `k`, what packing costs falls with the rows.
const DOT_STEPS_A_ROW: usize = 8;

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
                bias: None,
                relu: false,
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
            bias,
            relu: act == Some(UnaryKind::Relu),
        };
        assert!(bias.is_none_or(|b| b.len() == n), "a bias an output");
        match (act, pre) {
            (None | Some(UnaryKind::Relu), _) => multiply(&product, y),
            (Some(kind), Some(pre)) => {
                multiply(&product, pre);
                self.unary(kind, pre, y);
            }
            (Some(_), None) => unreachable!("an activation other than ReLU keeps its input"),
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
    /// Added to each row once the sums are whole, then the ReLU.
    bias: Option<&'a [T]>,
    relu: bool,
}

impl<T: Float> Product<'_, T> {
    /// What is stored for a whole sum of column `j`.
    #[inline(always)]
    fn finish(&self, j: usize, sum: T) -> T {
        let sum = self.bias.map_or(sum, |b| sum + b[j]);
        if self.relu && sum < T::ZERO { T::ZERO } else { sum }
    }

    /// The same for the tile that begins at column `j`, or nothing while sums are not whole.
    fn finish_tile(&self, j: usize, whole: bool) -> Finish<T> {
        if !whole {
            return Finish::default();
        }
        Finish { bias: self.bias.map(|b| b[j..].as_ptr()), relu: self.relu }
    }
}

fn multiply<T: Float>(p: &Product<'_, T>, c: &mut [T]) {
    if p.m == 0 || p.n == 0 {
        return;
    }
    assert!((p.m - 1) * p.ldc + p.n <= c.len() && p.n <= p.ldc.max(p.n), "the product does not fit");
    if p.k == 0 {
        for row in c.chunks_mut(p.ldc.max(1)).take(p.m) {
            for (j, out) in row[..p.n].iter_mut().enumerate() {
                *out = p.finish(j, if p.write == Write::Set { T::ZERO } else { *out });
            }
        }
        return;
    }
    if p.a.cols == 1 && p.b.rows == 1 && p.k >= (DOT_STEPS_A_ROW * p.m).max(64) {
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
                    for (col, (out, sum)) in (j..).zip(out.iter_mut().zip(row)) {
                        let sum = if write == Write::Add { *out + *sum } else { *sum };
                        *out = if k0 + k == p.k { p.finish(col, sum) } else { sum };
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
        let (packed_b, packed_a) = scratch.split_at_mut(KC * NC);
        let nc = NC / width * width;
        let (a, b, c) = (p.a.data.as_ptr(), p.b.data.as_ptr(), c.as_mut_ptr());
        // The kernel broadcasts single elements of `a`, which therefore serves as it lies along `k`, and across it where
        // the lines that the tiles of a column share stay in the first-level cache.
        let direct_a = p.a.cols == 1 || (p.a.rows == 1 && p.k <= DIRECT_STEPS);
        let direct_b =
            p.b.cols == 1 && p.n.is_multiple_of(L::N) && (p.m <= DIRECT_ROWS || p.n * p.k <= DIRECT_ELEMENTS);
        for j0 in (0..p.n).step_by(nc) {
            let n = nc.min(p.n - j0);
            for k0 in (0..p.k).step_by(KC) {
                let k = KC.min(p.k - k0);
                let write = if k0 == 0 { p.write } else { Write::Add };
                if !direct_b {
                    // SAFETY: at the level of `L`.
                    unsafe { pack_b::<L, NR>(&p.b.along_columns(), k0..k0 + k, j0..j0 + n, packed_b) };
                }
                for i0 in (0..p.m).step_by(MC) {
                    let m = MC.min(p.m - i0);
                    if !direct_a {
                        pack_a::<T, MR>(&p.a, k0..k0 + k, i0..i0 + m, packed_a);
                    }
                    for (j, i) in (0..n).step_by(width).flat_map(|j| (0..m).step_by(MR).map(move |i| (j, i)))
                    {
                        // SAFETY: panels hold k steps of `MR` and `width` elements, zero past the edges; rows of
                        // `a` past the last repeat it; `b` that is read where it lies ends with a whole vector; the
                        // tile of `c` lies inside the product.
                        unsafe {
                            let left = if direct_a {
                                let row =
                                    |r: usize| a.add((i0 + i + r).min(p.m - 1) * p.a.rows + k0 * p.a.cols);
                                Left { rows: std::array::from_fn(row), step: p.a.cols }
                            } else {
                                let first = packed_a.as_ptr().add(i * k);
                                Left { rows: std::array::from_fn(|r| first.add(r)), step: MR }
                            };
                            let right = if direct_b {
                                Right { first: b.add(k0 * p.b.rows + j0 + j), step: p.b.rows }
                            } else {
                                Right { first: packed_b.as_ptr().add(j * k), step: width }
                            };
                            let place = Place {
                                rows: MR.min(m - i),
                                cols: width.min(n - j),
                                out: c.add((i0 + i) * p.ldc + j0 + j),
                                ldc: p.ldc,
                                write,
                                finish: p.finish_tile(j0 + j, k0 + k == p.k),
                            };
                            place.fill::<L, MR, NR>(k, left, right);
                        }
                    }
                }
            }
        }
    }
}

/// Rows of `a`: where each begins, and from one step of `k` to the next.
#[derive(Clone, Copy)]
struct Left<T, const MR: usize> {
    rows: [*const T; MR],
    step: usize,
}

/// A panel of `b`: from one step of `k` to the next.
#[derive(Clone, Copy)]
struct Right<T> {
    first: *const T,
    step: usize,
}

/// Where a tile goes.
struct Place<T> {
    rows: usize,
    cols: usize,
    out: *mut T,
    ldc: usize,
    write: Write,
    finish: Finish<T>,
}

impl<T: Float> Place<T> {
    /// Computes a tile, as narrow as what is left, and stores it.
    ///
    /// # Safety
    /// Inside `launch`; `left` and `right` read `k` steps, the tile lies inside the output.
    #[inline(always)]
    unsafe fn fill<L: Lanes<Elem = T>, const MR: usize, const NR: usize>(
        self,
        k: usize,
        left: Left<T, MR>,
        right: Right<T>,
    ) {
        let Place { rows, cols, out, ldc, write, finish } = self;
        // SAFETY: the caller's contract.
        unsafe {
            let a = |t: usize, r: usize| left.rows[r].add(t * left.step);
            let b = |t: usize| right.first.add(t * right.step);
            if cols > 2 * L::N {
                let acc: [[L; NR]; MR] = tile(k, a, b);
                store_tile(&acc, rows, cols, out, ldc, write, finish);
            } else if cols > L::N {
                let acc: [[L; 2]; MR] = tile(k, a, b);
                store_tile(&acc, rows, cols, out, ldc, write, finish);
            } else {
                let acc: [[L; 1]; MR] = tile(k, a, b);
                store_tile(&acc, rows, cols, out, ldc, write, finish);
            }
        }
    }
}

/// `acc[r][v] = sum over t of a(t, r) * b(t)[v]`, the innermost loop of products and convolutions.
///
/// # Safety
/// Inside `launch`; `a(t, r)` reads one element, `b(t)` reads `NR` vectors.
#[expect(clippy::needless_range_loop, reason = "constant bounds unroll into registers")]
#[inline(always)]
pub(super) unsafe fn tile<L: Lanes, const MR: usize, const NR: usize>(
    k: usize,
    a: impl Fn(usize, usize) -> *const L::Elem,
    b: impl Fn(usize) -> *const L::Elem,
) -> [[L; NR]; MR] {
    // SAFETY: the caller's contract.
    unsafe {
        let mut acc = [[L::zero(); NR]; MR];
        for t in 0..k {
            let p = b(t);
            let right: [L; NR] = std::array::from_fn(|v| L::load(p.add(v * L::N)));
            for r in 0..MR {
                let left = L::splat(a(t, r).read());
                for v in 0..NR {
                    acc[r][v] = acc[r][v].fma(left, right[v]);
                }
            }
        }
        acc
    }
}

/// Steps of `MR` elements, one step after the other.
///
/// # Safety
/// What it returns may be read only as far as `a` reaches.
#[inline(always)]
pub(super) unsafe fn steps<T, const MR: usize>(a: *const T) -> impl Fn(usize, usize) -> *const T {
    // SAFETY: the caller's contract.
    move |t, r| unsafe { a.add(t * MR + r) }
}

/// What is done to whole sums on their way out: a bias for each column of the tile, then the ReLU.
#[derive(Clone, Copy)]
pub(super) struct Finish<T> {
    bias: Option<*const T>,
    relu: bool,
}

impl<T> Default for Finish<T> {
    /// Nothing.
    fn default() -> Self {
        Finish { bias: None, relu: false }
    }
}

/// Writes the first `rows x cols` of a tile.
///
/// # Safety
/// Inside `launch`; `out` may be written at `r * ldc + 0..cols` for every row; the bias has `cols` elements.
#[inline(always)]
pub(super) unsafe fn store_tile<L: Lanes, const MR: usize, const NR: usize>(
    acc: &[[L; NR]; MR],
    rows: usize,
    cols: usize,
    out: *mut L::Elem,
    ldc: usize,
    write: Write,
    finish: Finish<L::Elem>,
) {
    for (r, row) in acc.iter().enumerate() {
        if r >= rows {
            break;
        }
        for (v, sum) in row.iter().enumerate() {
            let left = cols.saturating_sub(v * L::N).min(L::N);
            // SAFETY: the caller's contract; `left` cuts the vector at the last column.
            unsafe {
                let (p, mut sum) = (out.add(r * ldc + v * L::N), *sum);
                if left == L::N {
                    if write == Write::Add {
                        sum = L::load(p).add(sum);
                    }
                    if let Some(bias) = finish.bias {
                        sum = sum.add(L::load(bias.add(v * L::N)));
                    }
                    if finish.relu { sum.relu() } else { sum }.store(p);
                } else if left > 0 {
                    if write == Write::Add {
                        sum = L::load_first(p, left).add(sum);
                    }
                    if let Some(bias) = finish.bias {
                        sum = sum.add(L::load_first(bias.add(v * L::N), left));
                    }
                    if finish.relu { sum.relu() } else { sum }.store_first(p, left);
                }
            }
        }
    }
}

/// Copies a block of rows of `a` into panels of `MR` rows: panel after panel, within a panel step after step of `k`, zero
/// past the edge.
fn pack_a<T: Float, const MR: usize>(a: &Operand<'_, T>, ks: Range<usize>, is: Range<usize>, out: &mut [T]) {
    for (panel, i0) in out.chunks_mut(ks.len() * MR).zip(is.clone().step_by(MR)) {
        let rows = MR.min(is.end - i0);
        for (t, step) in ks.clone().zip(panel.chunks_exact_mut(MR)) {
            let from = &a.data[t * a.cols + i0 * a.rows..];
            match (a.rows, from.first_chunk::<MR>()) {
                // A copy of known length is a move or two.
                (1, Some(from)) if rows == MR => step.copy_from_slice(from),
                _ => {
                    for (i, y) in step[..rows].iter_mut().enumerate() {
                        *y = from[i * a.rows];
                    }
                    step[rows..].fill(T::ZERO);
                }
            }
        }
    }
}

/// The same for columns of `b`, `NR` vectors a panel; `b` has its columns as rows.
///
/// # Safety
/// Inside `launch`.
#[inline(always)]
unsafe fn pack_b<L: Lanes, const NR: usize>(
    b: &Operand<'_, L::Elem>,
    ks: Range<usize>,
    js: Range<usize>,
    out: &mut [L::Elem],
) {
    let (width, k) = (NR * L::N, ks.len());
    for (panel, j0) in out.chunks_mut(k * width).zip(js.clone().step_by(width)) {
        let n = width.min(js.end - j0);
        let from = &b.data[ks.start * b.cols + j0 * b.rows..];
        if b.rows == 1 {
            for (t, step) in panel.chunks_exact_mut(width).enumerate() {
                let from = &from[t * b.cols..][..n];
                for v in 0..NR {
                    let left = n.saturating_sub(v * L::N).min(L::N);
                    // SAFETY: `from` has `left` more elements, `step` NR vectors.
                    unsafe {
                        let p = from.as_ptr().wrapping_add(v * L::N);
                        let row = if left == L::N { L::load(p) } else { L::load_first(p, left) };
                        row.store(step.as_mut_ptr().add(v * L::N));
                    }
                }
            }
            continue;
        }
        // Whole squares of columns that run along `k` are transposed in registers, the rest goes one by one.
        let (square_n, square_k) = if b.cols == 1 { (n - n % L::N, k - k % L::N) } else { (0, 0) };
        for (j, t) in
            (0..square_n).step_by(L::N).flat_map(|j| (0..square_k).step_by(L::N).map(move |t| (j, t)))
        {
            let (from, to) = (&from[j * b.rows + t..], &mut panel[t * width + j..]);
            debug_assert!((L::N - 1) * b.rows + L::N <= from.len() && (L::N - 1) * width + L::N <= to.len());
            // SAFETY: the square lies inside both: `Operand::new` checked the last element of `b`.
            unsafe { L::transpose(from.as_ptr(), b.rows, to.as_mut_ptr(), width) };
        }
        for (t, step) in panel.chunks_exact_mut(width).enumerate() {
            let done = if t < square_k { square_n } else { 0 };
            for (j, y) in step[..n].iter_mut().enumerate().skip(done) {
                *y = from[t * b.cols + j * b.rows];
            }
            step[n..].fill(L::Elem::ZERO);
        }
    }
}

/// `to = from^T`: `from` has `rows` rows `stride` apart, `to` is dense with `cols` rows.
pub(super) fn transpose<T: Float>(rows: usize, cols: usize, from: &[T], stride: usize, to: &mut [T]) {
    launch(Transpose {
        from: Operand::new(from, stride, 1, rows, cols),
        rows,
        cols,
        to: &mut to[..rows * cols],
    });
}

struct Transpose<'a, 'b, T> {
    from: Operand<'b, T>,
    rows: usize,
    cols: usize,
    to: &'a mut [T],
}

impl<T: Float> Kernel<T> for Transpose<'_, '_, T> {
    #[inline(always)]
    unsafe fn run<L: Lanes<Elem = T>>(self) {
        let Transpose { from: Operand { data, rows: stride, .. }, rows, cols, to } = self;
        let (whole_rows, whole_cols) = (rows - rows % L::N, cols - cols % L::N);
        for (i, j) in
            (0..whole_rows).step_by(L::N).flat_map(|i| (0..whole_cols).step_by(L::N).map(move |j| (i, j)))
        {
            // SAFETY: the square lies inside both, as `Operand::new` and the length of `to` say.
            unsafe {
                L::transpose(
                    data.as_ptr().add(i * stride + j),
                    stride,
                    to.as_mut_ptr().add(j * rows + i),
                    rows,
                );
            }
        }
        for i in 0..rows {
            let done = if i < whole_rows { whole_cols } else { 0 };
            for j in done..cols {
                to[j * rows + i] = data[i * stride + j];
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
    fn a_transpose_reads_columns_as_rows() {
        for (rows, cols, stride) in
            [(0, 3, 3), (1, 1, 5), (16, 16, 16), (17, 40, 41), (33, 31, 64), (64, 32, 96)]
        {
            let from: Vec<f32> = (0..rows * stride).map(|i| f32::from(u16::try_from(i).unwrap())).collect();
            let mut to = vec![-1.0; rows * cols];
            transpose(rows, cols, &from, stride, &mut to);
            for (i, j) in (0..rows).flat_map(|i| (0..cols).map(move |j| (i, j))) {
                assert_eq!(to[j * rows + i], from[i * stride + j]);
            }
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
