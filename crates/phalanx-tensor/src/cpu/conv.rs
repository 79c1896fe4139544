//! Convolution without im2col, for stride 1: the flattened image *is* the matrix.
//!
//! With rows of width `w`, the output at row `i`, column `j` sits at `p = i w + j`, and tap `(ky, kx)` of channel `c`
//! reads the input at `p + (c h + ky) w + kx`: for each tap a contiguous, shifted run. So the product of weights and
//! patches is the packed matrix kernel with shifted loads for its right side, and nothing is copied. The last columns
//! of each row (`kw - 1` of `w`) are computed in vain and dropped when the tile is written.
//!
//! Backward, `dy` is laid out with the same row width `w` and zeros in the gaps. The gap behind a row is at once the
//! padding before the next, so that the gradient of the input is the same kernel again, and the gradient of the
//! weights is dot products of shifted runs. Other strides go through im2col.

pub(super) mod samples;

use super::Cpu;
use super::matmul::{Finish, dots_into, steps, store_tile, sum_tile, tile};
use super::scratch::Scratch;
use super::simd::{Kernel, Lanes, launch, simd};
use crate::Float;
use crate::backend::Write;
use crate::op::{Activation, ConvOps, ConvSpec, Mat, MatmulOps, MatmulSpec};

/// More than any kernel reads past the end of a row block.
const SLACK: usize = 128;
/// Images whose weight gradients are summed in registers before they are written.
const GROUP: usize = 2;
/// Taps of the gradient that blocks of input channels read from the first-level cache in turn.
const BACK_TAPS: usize = 144;

impl<T: Float> ConvOps for Cpu<T> {
    fn conv2d(
        &self,
        spec: &ConvSpec,
        x: &[T],
        w: &[T],
        bias: Option<&[T]>,
        act: Activation,
        y: &mut [T],
        mut argmax: Option<&mut [u32]>,
    ) {
        let g = Geometry::new(spec);
        let [ph, pw] = act.out_hw([g.oh, g.ow]);
        let out_image = spec.o * ph * pw;
        if out_image == 0 {
            return;
        }
        assert!(x.len() == spec.input_len() && w.len() == spec.weight_len(), "conv2d operands");
        assert_eq!(y.len(), spec.n * out_image, "conv2d output");
        let mut packed = Scratch::take(g.packed_forward());
        let mut taps = Scratch::take(g.taps);
        let mut padded = Scratch::take(g.padded_len());
        let mut rows = Scratch::take(g.rows_len(1, g.out_run()));
        let mut columns = Scratch::take(if g.shifted { 0 } else { g.taps * g.oh * g.ow });
        for group in 0..spec.groups {
            let w = &w[group * g.og * g.taps..(group + 1) * g.og * g.taps];
            if g.shifted {
                pack_forward(&g, w, packed.get());
                g.forward_taps(taps.get());
            }
            for n in 0..spec.n {
                let at = (n * spec.c + group * g.cg) * g.h * g.w;
                let first = group * g.og;
                let out_at = n * out_image + first * ph * pw;
                let epilogue = Epilogue {
                    g: &g,
                    act,
                    bias: bias.map(|b| &b[first..first + g.og]),
                    y: &mut y[out_at..out_at + g.og * ph * pw],
                    argmax: argmax.as_deref_mut().map(|a| &mut a[out_at..out_at + g.og * ph * pw]),
                };
                if g.shifted {
                    let image = g.image(x, at, g.out_run(), padded.get());
                    launch(Forward {
                        g: &g,
                        image,
                        packed: packed.get(),
                        taps: taps.get(),
                        rows: rows.get(),
                        sums: epilogue,
                    });
                } else {
                    g.im2col(&x[at..at + g.cg * g.h * g.w], columns.get());
                    self.forward_by_columns(&g, w, columns.get(), rows.get(), epilogue);
                }
            }
        }
    }

    fn conv2d_grad(
        &self,
        spec: &ConvSpec,
        act: Activation,
        x: &[T],
        w: &[T],
        y: &[T],
        argmax: Option<&[u32]>,
        dy: &[T],
        mut dw: Option<(Write, &mut [T])>,
        mut db: Option<(Write, &mut [T])>,
        mut dx: Option<(Write, &mut [T])>,
    ) {
        let g = Geometry::new(spec);
        let [ph, pw] = act.out_hw([g.oh, g.ow]);
        let cells = ph * pw;
        let image_in = g.h * g.w;
        assert!(x.len() == spec.input_len() && w.len() == spec.weight_len(), "conv2d_grad operands");
        assert_eq!(dy.len(), spec.n * spec.o * cells, "conv2d_grad dy");
        clear_if_set(&mut dw);
        clear_if_set(&mut db);
        let mut packed = Scratch::take(g.packed_backward());
        let mut taps = Scratch::take(g.taps);
        let mut back_taps = Scratch::take(g.back_taps());
        let mut padded = Scratch::take(GROUP * g.padded_len());
        let mut spread = Scratch::take(GROUP * g.spread_len());
        let mut rows = Scratch::take(g.rows_len(g.cg, g.hp * g.wp));
        let mut columns = Scratch::take(if g.shifted { 0 } else { g.taps * g.oh * g.ow });
        for group in 0..spec.groups {
            let weights = group * g.og * g.taps..(group + 1) * g.og * g.taps;
            let first = group * g.og;
            if g.shifted {
                g.forward_taps(taps.get());
                if dx.is_some() {
                    pack_backward(&g, &w[weights.clone()], packed.get());
                    g.backward_taps(back_taps.get());
                }
            }
            for n0 in (0..spec.n).step_by(GROUP) {
                let count = GROUP.min(spec.n - n0);
                for i in 0..count {
                    let at = ((n0 + i) * spec.o + first) * cells..((n0 + i) * spec.o + first + g.og) * cells;
                    let spread = &mut spread.get()[i * g.spread_len()..(i + 1) * g.spread_len()];
                    let cause = Cause { dy: &dy[at.clone()], y, argmax, at: at.start };
                    spread_gradient(&g, act, &cause, spread);
                    if let Some((_, db)) = &mut db {
                        sum_planes(&g, spread, &mut db[first..first + g.og]);
                    }
                }
                let at = |i: usize| ((n0 + i) * spec.c + group * g.cg) * image_in;
                if let Some((_, dw)) = &mut dw {
                    let dw = &mut dw[weights.clone()];
                    if g.shifted {
                        let mut images: [&[T]; GROUP] = [&[]; GROUP];
                        for ((i, image), padded) in images
                            .iter_mut()
                            .enumerate()
                            .take(count)
                            .zip(padded.get().chunks_mut(g.padded_len().max(1)))
                        {
                            *image = g.image(x, at(i), g.out_run(), padded);
                        }
                        let spread = spread.get();
                        launch(WeightGrad { g: &g, images: &images[..count], spread, taps: taps.get(), dw });
                    } else {
                        for i in 0..count {
                            g.im2col(&x[at(i)..at(i) + g.cg * image_in], columns.get());
                            self.weight_grad_by_columns(
                                &g,
                                &spread.get()[i * g.spread_len()..],
                                columns.get(),
                                dw,
                            );
                        }
                    }
                }
                if let Some((write, dx)) = &mut dx {
                    for i in 0..count {
                        let spread = &spread.get()[i * g.spread_len()..(i + 1) * g.spread_len()];
                        let dx = &mut dx[at(i)..at(i) + g.cg * image_in];
                        if g.shifted {
                            let (packed, taps, rows) = (packed.get(), back_taps.get(), rows.get());
                            launch(InputGrad { g: &g, spread, packed, taps, rows, write: *write, dx });
                        } else {
                            let w = &w[weights.clone()];
                            self.input_grad_by_columns(&g, w, spread, columns.get(), *write, dx);
                        }
                    }
                }
            }
        }
    }
}

/// Makes an output ready for sums.
fn clear_if_set<T: Float>(out: &mut Option<(Write, &mut [T])>) {
    if let Some((Write::Set, out)) = out {
        out.fill(T::ZERO);
    }
}

/// The numbers of one group's convolution.
#[derive(Clone, Copy)]
struct Geometry {
    /// Whether the stride is 1, so that taps are shifts.
    shifted: bool,
    cg: usize,
    og: usize,
    h: usize,
    w: usize,
    kh: usize,
    kw: usize,
    stride: [usize; 2],
    padding: [usize; 2],
    /// Height and width with padding.
    hp: usize,
    wp: usize,
    oh: usize,
    ow: usize,
    /// Taps of one output: `cg * kh * kw`.
    taps: usize,
    /// Row width and zeros before each plane of the spread gradient.
    spread_width: usize,
    margin: usize,
    /// From the first tap of a channel to its last, in elements.
    reach: usize,
}

impl Geometry {
    fn new(spec: &ConvSpec) -> Self {
        let [h, w] = spec.hw;
        let [kh, kw] = spec.kernel;
        let [oh, ow] = spec.out_hw();
        let (hp, wp) = (h + 2 * spec.padding[0], w + 2 * spec.padding[1]);
        let cg = spec.c / spec.groups;
        let shifted = spec.stride == [1, 1];
        Geometry {
            shifted,
            cg,
            og: spec.o / spec.groups,
            h,
            w,
            kh,
            kw,
            stride: spec.stride,
            padding: spec.padding,
            hp,
            wp,
            oh,
            ow,
            taps: cg * kh * kw,
            spread_width: if shifted { wp } else { ow },
            reach: (kh - 1) * wp + kw - 1,
            margin: if shifted { ((kh - 1) * wp + kw - 1).next_multiple_of(16) } else { 0 },
        }
    }

    /// From the first output cell of a plane to one past the last, in rows of the padded width.
    fn out_run(&self) -> usize {
        (self.oh - 1) * self.wp + self.ow
    }

    /// From one plane of the spread gradient to the next: the margin behind one is that before the next, and every plane
    /// begins at a cache line. Without shifts planes lie side by side, as a matrix.
    fn plane(&self) -> usize {
        let plane = self.oh * self.spread_width + self.margin;
        if self.shifted { plane.next_multiple_of(16) } else { plane }
    }

    fn spread_len(&self) -> usize {
        (self.margin + self.og * self.plane() + SLACK).next_multiple_of(16)
    }

    fn padded_len(&self) -> usize {
        if self.shifted { self.cg * self.hp * self.wp + SLACK } else { 0 }
    }

    /// Rows of sums for `channels` at a time.
    fn rows_len(&self, channels: usize, run: usize) -> usize {
        if self.shifted { channels.next_multiple_of(8) * (run + SLACK) } else { self.og * self.oh * self.ow }
    }

    fn packed_forward(&self) -> usize {
        self.og.next_multiple_of(8) * self.taps + 8
    }

    fn back_taps(&self) -> usize {
        self.og * self.kh * self.kw
    }

    fn packed_backward(&self) -> usize {
        self.cg.next_multiple_of(8) * self.back_taps() + 8
    }

    fn forward_taps(&self, taps: &mut [usize]) {
        for (t, tap) in taps.iter_mut().enumerate() {
            let (c, ky, kx) = (t / (self.kh * self.kw), t / self.kw % self.kh, t % self.kw);
            *tap = (c * self.hp + ky) * self.wp + kx;
        }
    }

    fn backward_taps(&self, taps: &mut [usize]) {
        for (t, tap) in taps.iter_mut().enumerate() {
            let (o, ky, kx) = (t / (self.kh * self.kw), t / self.kw % self.kh, t % self.kw);
            *tap = self.margin + o * self.plane() - ky * self.wp - kx;
        }
    }

    /// The planes of one image with padding and readable slack: those of `x` where they serve, else a copy.
    fn image<'a, T: Float>(&self, x: &'a [T], at: usize, run: usize, padded: &'a mut [T]) -> &'a [T] {
        let (cells, padded_cells) = (self.h * self.w, self.hp * self.wp);
        let reach = (self.cg - 1) * padded_cells + self.reach + run + SLACK;
        if self.padding == [0, 0] && at + reach <= x.len() {
            return &x[at..at + reach];
        }
        if self.padding == [0, 0] {
            padded[..self.cg * cells].copy_from_slice(&x[at..at + self.cg * cells]);
        } else {
            padded.fill(T::ZERO);
            for c in 0..self.cg {
                for i in 0..self.h {
                    let from = at + (c * self.h + i) * self.w;
                    let to = (c * self.hp + i + self.padding[0]) * self.wp + self.padding[1];
                    padded[to..to + self.w].copy_from_slice(&x[from..from + self.w]);
                }
            }
        }
        padded
    }

    /// Patches of one image: `taps x (oh * ow)`.
    fn im2col<T: Float>(&self, image: &[T], columns: &mut [T]) {
        for (t, row) in columns.chunks_exact_mut(self.oh * self.ow).enumerate() {
            self.each_cell(t, |cell, from| row[cell] = from.map_or(T::ZERO, |from| image[from]));
        }
    }

    /// Adds patches back to the image.
    fn col2im<T: Float>(&self, columns: &[T], image: &mut [T]) {
        for (t, row) in columns.chunks_exact(self.oh * self.ow).enumerate() {
            self.each_cell(t, |cell, from| {
                if let Some(from) = from {
                    image[from] += row[cell];
                }
            });
        }
    }

    /// For tap `t`, each output cell and the input cell under it, none in the padding.
    fn each_cell(&self, t: usize, mut visit: impl FnMut(usize, Option<usize>)) {
        let (c, ky, kx) = (t / (self.kh * self.kw), t / self.kw % self.kh, t % self.kw);
        for i in 0..self.oh {
            for j in 0..self.ow {
                let row = (i * self.stride[0] + ky).checked_sub(self.padding[0]).filter(|r| *r < self.h);
                let col = (j * self.stride[1] + kx).checked_sub(self.padding[1]).filter(|c| *c < self.w);
                let from = row.zip(col).map(|(row, col)| (c * self.h + row) * self.w + col);
                visit(i * self.ow + j, from);
            }
        }
    }
}

/// Rows of a tile: eight, but six where there are no more output channels (LeNet's first layer).
fn tile_rows(many: bool, channels: usize) -> usize {
    match (many, channels) {
        (true, ..=6) => 6,
        (true, _) => 8,
        (false, _) => 4,
    }
}

fn rows_now(channels: usize) -> usize {
    tile_rows(super::CpuLevel::current() == super::CpuLevel::Avx512, channels)
}

/// `w` as blocks of output channels, within a block tap after tap.
fn pack_forward<T: Float>(g: &Geometry, w: &[T], packed: &mut [T]) {
    let mr = rows_now(g.og);
    for (block, out) in packed.chunks_exact_mut(mr * g.taps).enumerate().take(g.og.div_ceil(mr)) {
        for (t, step) in out.chunks_exact_mut(mr).enumerate() {
            for (r, v) in step.iter_mut().enumerate() {
                let o = block * mr + r;
                *v = if o < g.og { w[o * g.taps + t] } else { T::ZERO };
            }
        }
    }
}

/// `w` as blocks of input channels, within a block tap after tap of all output channels.
fn pack_backward<T: Float>(g: &Geometry, w: &[T], packed: &mut [T]) {
    let mr = rows_now(g.cg);
    let kernel = g.kh * g.kw;
    for (block, out) in packed.chunks_exact_mut(mr * g.back_taps()).enumerate().take(g.cg.div_ceil(mr)) {
        for (t, step) in out.chunks_exact_mut(mr).enumerate() {
            for (r, v) in step.iter_mut().enumerate() {
                let c = block * mr + r;
                *v = if c < g.cg { w[(t / kernel) * g.taps + c * kernel + t % kernel] } else { T::ZERO };
            }
        }
    }
}

/// What becomes of the finished sums over taps.
trait Sums<T> {
    /// Takes the sums of channel `o`, rows of width `width`.
    fn channel(&mut self, o: usize, sums: &[T], width: usize);
}

/// Bias, activation, pooling, and the dense output.
struct Epilogue<'a, T> {
    g: &'a Geometry,
    act: Activation,
    bias: Option<&'a [T]>,
    y: &'a mut [T],
    argmax: Option<&'a mut [u32]>,
}

impl<T: Float> Sums<T> for Epilogue<'_, T> {
    #[inline(always)]
    fn channel(&mut self, o: usize, sums: &[T], width: usize) {
        let g = self.g;
        let bias = self.bias.map_or(T::ZERO, |b| b[o]);
        match self.act {
            Activation::None | Activation::Relu => {
                let floor = self.act == Activation::Relu;
                let plane = &mut self.y[o * g.oh * g.ow..(o + 1) * g.oh * g.ow];
                for (row, sums) in plane.chunks_exact_mut(g.ow).zip(sums.chunks(width)) {
                    for (y, s) in row.iter_mut().zip(sums) {
                        let v = *s + bias;
                        *y = if floor && v < T::ZERO { T::ZERO } else { v };
                    }
                }
            }
            Activation::ReluPool2 => {
                let [ph, pw] = self.act.out_hw([g.oh, g.ow]);
                let at = o * ph * pw..(o + 1) * ph * pw;
                let Some(argmax) = self.argmax.as_deref_mut() else { return };
                let rows = self.y[at.clone()].chunks_exact_mut(pw).zip(argmax[at].chunks_exact_mut(pw));
                for (i, (y, argmax)) in rows.enumerate() {
                    let top = &sums[2 * i * width..2 * i * width + 2 * pw];
                    let below = &sums[(2 * i + 1) * width..(2 * i + 1) * width + 2 * pw];
                    pool_row(g.ow, i, bias, top, below, y, argmax);
                }
            }
        }
    }
}

/// Whether `b` comes after `a` in the maximum: greater, or NaN where `a` is a number.
#[inline(always)]
#[expect(clippy::eq_op, reason = "only a NaN differs from itself")]
#[expect(clippy::neg_cmp_op_on_partial_ord, reason = "a NaN on the right shall win")]
fn beats<T: Float>(b: T, a: T) -> bool {
    !(b <= a) && a == a
}

/// Pools two rows; the position is that of the first of equals in reading order.
#[inline(always)]
fn pool_row<T: Float>(ow: usize, i: usize, bias: T, top: &[T], below: &[T], y: &mut [T], argmax: &mut [u32]) {
    #[expect(clippy::cast_possible_truncation, reason = "images have less than 2^32 cells")]
    let (base, down) = ((2 * i * ow) as u32, ow as u32);
    let windows = top.chunks_exact(2).zip(below.chunks_exact(2)).zip(y.iter_mut().zip(argmax));
    for (j, ((top, below), (y, at))) in (0_u32..).zip(windows) {
        let (mut best, mut place) = (top[0], 0);
        if beats(top[1], best) {
            (best, place) = (top[1], 1);
        }
        if beats(below[0], best) {
            (best, place) = (below[0], down);
        }
        if beats(below[1], best) {
            (best, place) = (below[1], down + 1);
        }
        let v = best + bias;
        *y = if v < T::ZERO { T::ZERO } else { v };
        *at = base + 2 * j + place;
    }
}

struct Forward<'a, T, S> {
    g: &'a Geometry,
    image: &'a [T],
    packed: &'a [T],
    taps: &'a [usize],
    rows: &'a mut [T],
    sums: S,
}

impl<T: Float, S: Sums<T>> Kernel<T> for Forward<'_, T, S> {
    #[inline(always)]
    unsafe fn run<L: Lanes<Elem = T>>(self) {
        // SAFETY: passed on from `launch`.
        unsafe {
            match tile_rows(L::MANY, self.g.og) {
                8 => self.blocks::<L, 8, 3>(),
                6 => self.blocks::<L, 6, 4>(),
                _ => self.blocks::<L, 4, 3>(),
            }
        }
    }
}

impl<T: Float, S: Sums<T>> Forward<'_, T, S> {
    #[inline(always)]
    unsafe fn blocks<L: Lanes<Elem = T>, const MR: usize, const NR: usize>(mut self) {
        let g = self.g;
        let run = g.out_run();
        for block in 0..g.og.div_ceil(MR) {
            let packed = &self.packed[block * MR * g.taps..(block + 1) * MR * g.taps];
            // SAFETY: `image` reaches SLACK past the last tap of the last cell, a tile is no wider.
            unsafe { run_tiles::<L, MR, NR>(self.image, packed, self.taps, run, g.taps, self.rows) };
            let stride = run + SLACK;
            for r in 0..MR.min(g.og - block * MR) {
                self.sums.channel(block * MR + r, &self.rows[r * stride..r * stride + run], g.wp);
            }
        }
    }
}

/// Sums over taps for `run` cells into rows of `run + SLACK`, a row for each channel of the packed blocks of `MR`. Blocks
/// share a tile's cells while `step` taps of them are in the first-level cache.
///
/// # Safety
/// Inside `launch`; `image` holds `taps + run + SLACK` for every tap.
#[inline(always)]
unsafe fn run_tiles<L: Lanes, const MR: usize, const NR: usize>(
    image: &[L::Elem],
    packed: &[L::Elem],
    taps: &[usize],
    run: usize,
    step: usize,
    rows: &mut [L::Elem],
) {
    let (image, ldc) = (image.as_ptr(), run + SLACK);
    let mut p = 0;
    while p < run {
        let left = (run - p).div_ceil(L::N);
        for (i, some) in taps.chunks(step).enumerate() {
            let write = if i == 0 { Write::Set } else { Write::Add };
            for (packed, rows) in packed.chunks_exact(MR * taps.len()).zip(rows.chunks_exact_mut(MR * ldc)) {
                let out = rows[p..].as_mut_ptr();
                // SAFETY: the caller's contract; a tile writes at most NR vectors, within SLACK.
                unsafe {
                    let a = steps::<_, MR>(packed.as_ptr().add(i * step * MR));
                    let b = |t: usize| image.add(*some.get_unchecked(t) + p);
                    let finish = Finish::default();
                    // The last tile is as narrow as what is left.
                    if left >= NR {
                        let acc: [[L; NR]; MR] = tile(some.len(), a, b);
                        store_tile(&acc, MR, NR * L::N, out, ldc, write, finish);
                    } else if left == 1 {
                        let acc: [[L; 1]; MR] = tile(some.len(), a, b);
                        store_tile(&acc, MR, L::N, out, ldc, write, finish);
                    } else if left == 2 {
                        let acc: [[L; 2]; MR] = tile(some.len(), a, b);
                        store_tile(&acc, MR, 2 * L::N, out, ldc, write, finish);
                    } else {
                        let acc: [[L; 3]; MR] = tile(some.len(), a, b);
                        store_tile(&acc, MR, 3 * L::N, out, ldc, write, finish);
                    }
                }
            }
        }
        p += NR.min(left) * L::N;
    }
}

/// Where the gradient of the convolution's sums comes from.
struct Cause<'a, T> {
    /// Of the images and channels at hand.
    dy: &'a [T],
    /// Of the whole batch, read from `at` on.
    y: &'a [T],
    argmax: Option<&'a [u32]>,
    at: usize,
}

/// Lays the gradient out in planes with zero margins and gaps, through the activation.
fn spread_gradient<T: Float>(g: &Geometry, act: Activation, cause: &Cause<'_, T>, spread: &mut [T]) {
    let [ph, pw] = act.out_hw([g.oh, g.ow]);
    let (cells, width) = (ph * pw, g.spread_width);
    spread.fill(T::ZERO);
    if cells == 0 {
        return;
    }
    for o in 0..g.og {
        let plane = &mut spread[g.margin + o * g.plane()..][..g.oh * width];
        let dy = &cause.dy[o * cells..(o + 1) * cells];
        let at = cause.at + o * cells..cause.at + (o + 1) * cells;
        match act {
            Activation::None => {
                for (to, from) in plane.chunks_exact_mut(width).zip(dy.chunks_exact(pw)) {
                    to[..pw].copy_from_slice(from);
                }
            }
            Activation::Relu => spread_relu(width, pw, dy, &cause.y[at], plane),
            Activation::ReluPool2 => {
                let Some(argmax) = cause.argmax else { return };
                let rows = dy
                    .chunks_exact(pw)
                    .zip(cause.y[at.clone()].chunks_exact(pw).zip(argmax[at].chunks_exact(pw)));
                for (i, (dy, (y, argmax))) in rows.enumerate() {
                    let (base, rows) = (2 * i * g.ow, &mut plane[2 * i * width..(2 * i + 2) * width]);
                    for (j, (dy, (y, at))) in dy.iter().zip(y.iter().zip(argmax)).enumerate() {
                        let place = *at as usize - base;
                        let place = if place >= g.ow { place - g.ow + width } else { place };
                        debug_assert!(place % width / 2 == j, "the maximum lies in its window");
                        rows[place] = if *y > T::ZERO { *dy } else { T::ZERO };
                    }
                }
            }
        }
    }
}

simd! {
    /// Rows of `pw` into rows of `width`, where the output was positive.
    fn spread_relu<T: Float>(width: usize, pw: usize, dy: &[T], y: &[T], plane: &mut [T]) {
        let rows = plane.chunks_exact_mut(width).zip(dy.chunks_exact(pw).zip(y.chunks_exact(pw)));
        for (to, (dy, y)) in rows {
            for (to, (dy, y)) in to.iter_mut().zip(dy.iter().zip(y)) {
                *to = if *y > T::ZERO { *dy } else { T::ZERO };
            }
        }
    }
}

/// Adds the sum of each plane of the spread gradient.
fn sum_planes<T: Float>(g: &Geometry, spread: &[T], db: &mut [T]) {
    for (o, db) in db.iter_mut().enumerate() {
        *db += sum_slice(&spread[g.margin + o * g.plane()..][..g.oh * g.spread_width]);
    }
}

simd! {
    /// The sum of a slice in sixteen lanes.
    fn sum_slice<T: Float>(x: &[T]) -> T {
        let mut lanes = [T::ZERO; 16];
        let chunks = x.chunks_exact(16);
        let rest = chunks.remainder();
        for chunk in chunks {
            for (lane, v) in lanes.iter_mut().zip(chunk) {
                *lane += *v;
            }
        }
        for (lane, v) in lanes.iter_mut().zip(rest) {
            *lane += *v;
        }
        let mut width = 8;
        while width > 0 {
            for i in 0..width {
                let upper = lanes[i + width];
                lanes[i] += upper;
            }
            width /= 2;
        }
        lanes[0]
    }
}

struct WeightGrad<'a, T> {
    g: &'a Geometry,
    images: &'a [&'a [T]],
    spread: &'a [T],
    taps: &'a [usize],
    dw: &'a mut [T],
}

impl<T: Float> Kernel<T> for WeightGrad<'_, T> {
    #[inline(always)]
    unsafe fn run<L: Lanes<Elem = T>>(self) {
        // SAFETY: passed on from `launch`.
        unsafe {
            if L::MANY {
                self.tiles::<L, 4, 6>();
            } else {
                self.tiles::<L, 3, 3>();
            }
        }
    }
}

impl<T: Float> WeightGrad<'_, T> {
    #[inline(always)]
    unsafe fn tiles<L: Lanes<Elem = T>, const M: usize, const N: usize>(self) {
        let WeightGrad { g, images, spread, taps, dw } = self;
        let run = g.out_run();
        for o in (0..g.og).step_by(M) {
            for t in (0..g.taps).step_by(N) {
                // SAFETY: channels and taps past the end repeat the last; a run of dy lies in its plane, a shifted run
                // of the image ends with the image's last cell.
                unsafe {
                    let mut acc = [[L::zero(); N]; M];
                    for (i, image) in images.iter().enumerate() {
                        let dy = spread.as_ptr().add(i * g.spread_len() + g.margin);
                        let dys = std::array::from_fn(|r| dy.add((o + r).min(g.og - 1) * g.plane()));
                        let xs = std::array::from_fn(|s| image.as_ptr().add(taps[(t + s).min(g.taps - 1)]));
                        dots_into::<L, M, N>(run, dys, xs, &mut acc);
                    }
                    let sums = sum_tile(&acc);
                    for (r, row) in sums.iter().enumerate().take(g.og - o) {
                        let out = &mut dw[(o + r) * g.taps + t..(o + r + 1) * g.taps];
                        for (out, sum) in out.iter_mut().zip(row) {
                            *out += *sum;
                        }
                    }
                }
            }
        }
    }
}

struct InputGrad<'a, T> {
    g: &'a Geometry,
    spread: &'a [T],
    packed: &'a [T],
    taps: &'a [usize],
    rows: &'a mut [T],
    write: Write,
    dx: &'a mut [T],
}

impl<T: Float> Kernel<T> for InputGrad<'_, T> {
    #[inline(always)]
    unsafe fn run<L: Lanes<Elem = T>>(self) {
        // SAFETY: passed on from `launch`.
        unsafe {
            match tile_rows(L::MANY, self.g.cg) {
                8 => self.blocks::<L, 8, 3>(),
                6 => self.blocks::<L, 6, 4>(),
                _ => self.blocks::<L, 4, 3>(),
            }
        }
    }
}

impl<T: Float> InputGrad<'_, T> {
    #[inline(always)]
    unsafe fn blocks<L: Lanes<Elem = T>, const MR: usize, const NR: usize>(self) {
        let InputGrad { g, spread, packed, taps, rows, write, dx } = self;
        let (run, stride) = (g.hp * g.wp, g.hp * g.wp + SLACK);
        let packed = &packed[..g.cg.div_ceil(MR) * MR * taps.len()];
        // SAFETY: the planes of `spread` have a margin on both sides and SLACK after the last.
        unsafe { run_tiles::<L, MR, NR>(spread, packed, taps, run, BACK_TAPS, rows) };
        for (c, plane) in dx.chunks_exact_mut(g.h * g.w).enumerate() {
            let sums = rows[c * stride + g.padding[0] * g.wp..].chunks(g.wp);
            for (out, sums) in plane.chunks_exact_mut(g.w).zip(sums) {
                let sums = &sums[g.padding[1]..][..g.w];
                match write {
                    Write::Set => out.copy_from_slice(sums),
                    Write::Add => out.iter_mut().zip(sums).for_each(|(x, s)| *x += *s),
                }
            }
        }
    }
}

impl<T: Float> Cpu<T> {
    fn forward_by_columns(
        &self,
        g: &Geometry,
        w: &[T],
        columns: &[T],
        rows: &mut [T],
        mut finished: impl Sums<T>,
    ) {
        let cells = g.oh * g.ow;
        let spec = MatmulSpec {
            batch: 1,
            m: g.og,
            n: cells,
            k: g.taps,
            a: Mat::dense(g.og, g.taps),
            b: Mat::dense(g.taps, cells),
            c: Mat::dense(g.og, cells),
        };
        self.matmul(&spec, w, columns, Write::Set, rows);
        for o in 0..g.og {
            finished.channel(o, &rows[o * cells..(o + 1) * cells], g.ow);
        }
    }

    fn weight_grad_by_columns(&self, g: &Geometry, dy: &[T], columns: &[T], dw: &mut [T]) {
        let cells = g.oh * g.ow;
        let spec = MatmulSpec {
            batch: 1,
            m: g.og,
            n: g.taps,
            k: cells,
            a: Mat::dense(g.og, cells),
            b: Mat::dense(g.taps, cells).t(),
            c: Mat::dense(g.og, g.taps),
        };
        self.matmul(&spec, dy, columns, Write::Add, dw);
    }

    fn input_grad_by_columns(
        &self,
        g: &Geometry,
        w: &[T],
        dy: &[T],
        columns: &mut [T],
        write: Write,
        dx: &mut [T],
    ) {
        let cells = g.oh * g.ow;
        let spec = MatmulSpec {
            batch: 1,
            m: g.taps,
            n: cells,
            k: g.og,
            a: Mat::dense(g.og, g.taps).t(),
            b: Mat::dense(g.og, cells),
            c: Mat::dense(g.taps, cells),
        };
        self.matmul(&spec, w, dy, Write::Set, columns);
        if write == Write::Set {
            dx.fill(T::ZERO);
        }
        g.col2im(columns, dx);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::op::{PoolOps, PoolSpec};
    use proptest::prelude::{ProptestConfig, proptest};

    fn ints(n: usize, salt: usize) -> Vec<f64> {
        (0..n).map(|i| f64::from(u8::try_from((i * 5 + salt * 11 + i / 7) % 9).unwrap()) - 4.0).collect()
    }

    /// Calls `f(output, input, weight)` for each product of the definition.
    fn each_product(s: &ConvSpec, mut f: impl FnMut(usize, usize, usize)) {
        let [oh, ow] = s.out_hw();
        let (cg, og) = (s.c / s.groups, s.o / s.groups);
        for n in 0..s.n {
            for o in 0..s.o {
                for (i, j) in (0..oh).flat_map(|i| (0..ow).map(move |j| (i, j))) {
                    for c in 0..cg {
                        for (ky, kx) in (0..s.kernel[0]).flat_map(|y| (0..s.kernel[1]).map(move |x| (y, x))) {
                            let (y, x) = (i * s.stride[0] + ky, j * s.stride[1] + kx);
                            if y < s.padding[0] || x < s.padding[1] {
                                continue;
                            }
                            let (y, x) = (y - s.padding[0], x - s.padding[1]);
                            if y < s.hw[0] && x < s.hw[1] {
                                let input = ((n * s.c + o / og * cg + c) * s.hw[0] + y) * s.hw[1] + x;
                                let weight = ((o * cg + c) * s.kernel[0] + ky) * s.kernel[1] + kx;
                                f(((n * s.o + o) * oh + i) * ow + j, input, weight);
                            }
                        }
                    }
                }
            }
        }
    }

    fn narrow(v: &[f64]) -> Vec<f32> {
        v.iter().map(|x| f32::from_f64(*x)).collect()
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(96))]
        #[test]
        fn convolution_and_gradients_are_exact_on_integers(
            n in 0_usize..7, groups in 1_usize..3, cg in 1_usize..4, og in 1_usize..11, h in 1_usize..12, w in 1_usize..23,
            kh in 1_usize..6, kw in 1_usize..6, stride in 1_usize..3, ph in 0_usize..3, pw in 0_usize..3, act in 0_usize..3,
        ) {
            let spec = ConvSpec {
                n, c: cg * groups, hw: [h, w], o: og * groups, kernel: [kh, kw], stride: [stride, stride],
                padding: [ph, pw], groups,
            };
            if spec.validate().is_err() {
                return Ok(());
            }
            let act = [Activation::None, Activation::Relu, Activation::ReluPool2][act];
            let [oh, ow] = spec.out_hw();
            let cpu = Cpu::<f64>::new();
            let (x, wt, b) = (ints(spec.input_len(), 1), ints(spec.weight_len(), 2), ints(spec.o, 3));
            let mut sums: Vec<f64> = (0..spec.output_len()).map(|i| b[i / (oh * ow) % spec.o]).collect();
            each_product(&spec, |out, input, weight| sums[out] += x[input] * wt[weight]);
            let relu: Vec<f64> = sums.iter().map(|v| v.max(0.0)).collect();
            let pool = PoolSpec { planes: spec.n * spec.o, hw: [oh, ow], kernel: [2, 2], stride: [2, 2], padding: [0, 0] };
            let [ph, pw] = act.out_hw([oh, ow]);
            let out_len = spec.n * spec.o * ph * pw;
            let mut want = match act { Activation::None => sums.clone(), _ => relu.clone() };
            let mut at = vec![0; out_len];
            if act == Activation::ReluPool2 {
                want = vec![0.0; out_len];
                if out_len > 0 {
                    cpu.max_pool2d(&pool, &relu, &mut want, &mut at);
                }
            }
            let fused = act == Activation::ReluPool2;
            let mut got = vec![7.0; out_len];
            let mut argmax = vec![0; out_len];
            cpu.conv2d(&spec, &x, &wt, Some(&b), act, &mut got, fused.then_some(&mut argmax[..]));
            assert_eq!(got, want);
            let mut got32 = vec![7.0_f32; out_len];
            let mut argmax32 = vec![0; out_len];
            let (x32, w32, b32) = (narrow(&x), narrow(&wt), narrow(&b));
            Cpu::<f32>::new().conv2d(&spec, &x32, &w32, Some(&b32), act, &mut got32, fused.then_some(&mut argmax32[..]));
            assert_eq!(got32, narrow(&want));
            for (i, y) in want.iter().enumerate().filter(|(_, y)| **y > 0.0 && fused) {
                assert_eq!(relu[i / (ph * pw) * oh * ow + argmax[i] as usize], *y);
            }

            let dy = ints(out_len, 4);
            let mut dsums = vec![0.0; sums.len()];
            match act {
                Activation::None => dsums.copy_from_slice(&dy),
                Activation::Relu => for i in 0..dy.len() { dsums[i] = if sums[i] > 0.0 { dy[i] } else { 0.0 }; },
                Activation::ReluPool2 => if out_len > 0 {
                    cpu.max_pool2d_grad(&pool, &argmax, &dy, &mut dsums);
                    for i in 0..sums.len() { if sums[i] <= 0.0 { dsums[i] = 0.0; } }
                },
            }
            let (mut dx, mut dw, mut db) = (ints(x.len(), 5), vec![0.0; wt.len()], ints(b.len(), 6));
            let (mut got_dx, mut got_dw, mut got_db) = (dx.clone(), vec![3.0; wt.len()], db.clone());
            each_product(&spec, |out, input, weight| {
                dx[input] += wt[weight] * dsums[out];
                dw[weight] += x[input] * dsums[out];
            });
            for (i, d) in dsums.iter().enumerate() {
                db[i / (oh * ow) % spec.o] += d;
            }
            let (start_dx, start_db) = (narrow(&got_dx), narrow(&got_db));
            let mask = fused.then_some(&argmax[..]);
            cpu.conv2d_grad(
                &spec, act, &x, &wt, &want, mask, &dy,
                Some((Write::Set, &mut got_dw)), Some((Write::Add, &mut got_db)), Some((Write::Add, &mut got_dx)),
            );
            assert_eq!(got_dw, dw);
            assert_eq!(got_db, db);
            assert_eq!(got_dx, dx);
            let (mut dx32, mut dw32, mut db32) = (start_dx, vec![3.0; wt.len()], start_db);
            Cpu::<f32>::new().conv2d_grad(
                &spec, act, &x32, &w32, &got32, mask, &narrow(&dy),
                Some((Write::Set, &mut dw32)), Some((Write::Add, &mut db32)), Some((Write::Add, &mut dx32)),
            );
            assert_eq!((dw32, db32, dx32), (narrow(&dw), narrow(&db), narrow(&dx)));
        }
    }
}
