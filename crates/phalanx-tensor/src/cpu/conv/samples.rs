//! What each image contributes to the gradients of a convolution, measured image by image.
//!
//! Behind a pooling, three of four gradients are zero. Where the kernel is wide enough for its rows to fill half a
//! register, sums go over the fourth that is not, cell by cell; else they are those of the weight's gradient.

use super::{Cause, Forward, Geometry, SLACK, Sums, WeightGrad, pack_forward, spread_gradient, sum_planes};
use crate::Float;
use crate::cpu::scratch::Scratch;
use crate::cpu::simd::{Kernel, Lanes, launch};
use crate::cpu::{Cpu, moments};
use crate::op::{Activation, ConvSamples};

/// Adds the squared lengths of each image's gradients of weight and bias.
pub(in crate::cpu) fn norms<T: Float>(
    conv: &ConvSamples<'_, Cpu<T>>,
    weight: &mut [f64],
    mut bias: Option<&mut [f64]>,
) {
    let ConvSamples { spec, act, .. } = conv;
    assert_eq!(weight.len(), spec.n, "conv2d_norms");
    let Some(images) = Images::new(conv) else { return };
    let g = &images.g;
    let sparse = *act == Activation::ReluPool2 && g.shifted && fills_half_a_register::<T>(g.kw);
    let mut planes = images.planes();
    let (mut padded, mut taps) = (Scratch::take(g.padded_len()), Scratch::take(g.taps));
    let mut columns = Scratch::take(if g.shifted { 0 } else { g.taps * g.oh * g.ow });
    let (mut dw, mut db) = (Scratch::take(g.og * g.taps + SLACK), Scratch::take(g.og));
    let cells = images.cells;
    let (mut places, mut values) =
        (Scratch::<u32>::take(if sparse { g.og * cells } else { 0 }), Scratch::take(g.og * cells));
    g.forward_taps(taps.get());
    for (n, group) in (0..spec.n).flat_map(|n| (0..spec.groups).map(move |group| (n, group))) {
        let cause = images.cause(n, group);
        let dw = dw.get();
        let at = images.input(n, group);
        if sparse {
            let image = g.image(conv.x, at.start, g.out_run(), padded.get());
            let (places, values) = (places.get(), values.get());
            peaks(g, cells, &cause, places, values);
            launch(SparseWeightGrad { g, cells, image, places, values, taps: taps.get(), dw });
            if let Some(bias) = bias.as_deref_mut() {
                let sums = values.chunks_exact(cells).map(|v| v.iter().map(|v| v.to_f64()).sum::<f64>());
                bias[n] += sums.map(|sum| sum * sum).sum::<f64>();
            }
        } else {
            let planes = planes.get();
            spread_gradient(g, *act, &cause, planes);
            dw.fill(T::ZERO);
            if g.shifted {
                let image = g.image(conv.x, at.start, g.out_run(), padded.get());
                launch(WeightGrad { g, images: &[image], spread: planes, taps: taps.get(), dw });
            } else {
                g.im2col(&conv.x[at], columns.get());
                Cpu::<T>::new().weight_grad_by_columns(g, planes, columns.get(), dw);
            }
            if let Some(bias) = bias.as_deref_mut() {
                let db = db.get();
                db.fill(T::ZERO);
                sum_planes(g, planes, db);
                bias[n] += moments::dot(db, db);
            }
        }
        let dw = &dw[..g.og * g.taps];
        weight[n] += moments::dot(dw, dw);
    }
}

/// Adds the inner products of each image's gradients of weight and bias with `w` and `b`: that with `w` is the product
/// of the output's gradient with what the convolution makes of the image by `w`.
pub(in crate::cpu) fn products<T: Float>(
    conv: &ConvSamples<'_, Cpu<T>>,
    w: &[T],
    weight: &mut [f64],
    mut bias: Option<(&[T], &mut [f64])>,
) {
    let ConvSamples { spec, act, .. } = conv;
    assert!(weight.len() == spec.n && w.len() == spec.weight_len(), "conv2d_products");
    let Some(images) = Images::new(conv) else { return };
    let g = &images.g;
    let mut planes = images.planes();
    let (mut padded, mut taps) = (Scratch::take(g.padded_len()), Scratch::take(g.taps));
    let (mut packed, mut db) = (Scratch::take(g.packed_forward()), Scratch::take(g.og));
    let mut rows = Scratch::take(g.rows_len(1, g.out_run()));
    let mut columns = Scratch::take(if g.shifted { 0 } else { g.taps * g.oh * g.ow });
    g.forward_taps(taps.get());
    for group in 0..spec.groups {
        let w = &w[group * g.og * g.taps..(group + 1) * g.og * g.taps];
        if g.shifted {
            pack_forward(g, w, packed.get());
        }
        for n in 0..spec.n {
            let planes = planes.get();
            spread_gradient(g, *act, &images.cause(n, group), planes);
            let at = images.input(n, group);
            let sums = Products { g, planes, total: &mut weight[n] };
            if g.shifted {
                let image = g.image(conv.x, at.start, g.out_run(), padded.get());
                let (packed, taps, rows) = (packed.get(), taps.get(), rows.get());
                launch(Forward { g, image, packed, taps, rows, sums });
            } else {
                g.im2col(&conv.x[at], columns.get());
                Cpu::<T>::new().forward_by_columns(g, w, columns.get(), rows.get(), sums);
            }
            if let Some((b, bias)) = &mut bias {
                let db = db.get();
                db.fill(T::ZERO);
                sum_planes(g, planes, db);
                bias[n] += moments::dot(db, &b[group * g.og..(group + 1) * g.og]);
            }
        }
    }
}

/// Where the images of a convolution and their gradients lie.
struct Images<'c, 'a, T: Float> {
    conv: &'c ConvSamples<'a, Cpu<T>>,
    g: Geometry,
    /// Of one output plane.
    cells: usize,
}

impl<'c, 'a, T: Float> Images<'c, 'a, T> {
    /// None where there is nothing to measure.
    fn new(conv: &'c ConvSamples<'a, Cpu<T>>) -> Option<Self> {
        let g = Geometry::new(&conv.spec);
        let cells = conv.act.out_hw([g.oh, g.ow]).iter().product();
        assert!(
            conv.x.len() == conv.spec.input_len() && conv.dy.len() == conv.spec.n * conv.spec.o * cells,
            "a convolution's samples"
        );
        (cells > 0).then_some(Images { conv, g, cells })
    }

    fn planes(&self) -> Scratch<T> {
        Scratch::take(self.g.spread_len())
    }

    fn cause(&self, n: usize, group: usize) -> Cause<'_, T> {
        let ConvSamples { spec, y, argmax, dy, .. } = self.conv;
        let first = (n * spec.o + group * self.g.og) * self.cells;
        Cause { dy: &dy[first..first + self.g.og * self.cells], y, argmax: *argmax, at: first }
    }

    fn input(&self, n: usize, group: usize) -> std::ops::Range<usize> {
        let image = self.g.h * self.g.w;
        let first = (n * self.conv.spec.c + group * self.g.cg) * image;
        first..first + self.g.cg * image
    }
}

/// Multiplies finished sums with the spread gradient; in its gaps are zeros.
struct Products<'a, T> {
    g: &'a Geometry,
    planes: &'a [T],
    total: &'a mut f64,
}

impl<T: Float> Sums<T> for Products<'_, T> {
    #[inline(always)]
    fn channel(&mut self, o: usize, sums: &[T], _: usize) {
        let plane = &self.planes[self.g.margin + o * self.g.plane()..][..sums.len()];
        *self.total += moments::dot(sums, plane);
    }
}

/// Elements of the registers that [`SparseWeightGrad`] uses where there are vectors; more than half of them used.
fn fills_half_a_register<T>(kw: usize) -> bool {
    let lanes = 32 / size_of::<T>();
    kw <= lanes && 2 * kw > lanes
}

/// The one gradient of each pooling window and its place in the image, through the ReLU.
fn peaks<T: Float>(g: &Geometry, cells: usize, cause: &Cause<'_, T>, places: &mut [u32], values: &mut [T]) {
    let Some(argmax) = cause.argmax else { return };
    let [_, pw] = Activation::ReluPool2.out_hw([g.oh, g.ow]);
    let at = cause.at..cause.at + g.og * cells;
    for ((value, dy), y) in values.iter_mut().zip(cause.dy).zip(&cause.y[at.clone()]) {
        *value = if *y > T::ZERO { *dy } else { T::ZERO };
    }
    // From rows as wide as the output to rows of the padded width: a window spans two.
    #[expect(clippy::cast_possible_truncation, reason = "images have less than 2^32 cells")]
    let (ow, wp) = (g.ow as u32, g.wp as u32);
    let windows = cells / pw;
    for (row, (places, argmax)) in places.chunks_exact_mut(pw).zip(argmax[at].chunks_exact(pw)).enumerate() {
        #[expect(clippy::cast_possible_truncation, reason = "images have less than 2^32 cells")]
        let top = 2 * (row % windows) as u32;
        for (place, at) in places.iter_mut().zip(argmax) {
            let below = u32::from(*at >= (top + 1) * ow);
            *place = *at + (top + below) * (wp - ow);
        }
    }
}

/// The gradient of the weight from `cells` gradients a channel: a row of the kernel is one register, its sums over cells
/// stay there.
struct SparseWeightGrad<'a, T> {
    g: &'a Geometry,
    cells: usize,
    image: &'a [T],
    places: &'a [u32],
    values: &'a [T],
    taps: &'a [usize],
    /// With SLACK.
    dw: &'a mut [T],
}

impl<T: Float> Kernel<T> for SparseWeightGrad<'_, T> {
    #[inline(always)]
    unsafe fn run<L: Lanes<Elem = T>>(self) {
        // SAFETY: passed on from `launch`; where there are 32 registers there are those of half the width.
        unsafe {
            if L::MANY {
                self.channels::<T::Half, 6>();
            } else {
                self.channels::<L, 6>();
            }
        }
    }
}

impl<T: Float> SparseWeightGrad<'_, T> {
    #[inline(always)]
    unsafe fn channels<L: Lanes<Elem = T>, const R: usize>(self) {
        let SparseWeightGrad { g, cells, image, places, values, taps, dw } = self;
        let rows = g.cg * g.kh;
        for o in 0..g.og {
            let (places, values) = (&places[o * cells..][..cells], &values[o * cells..][..cells]);
            for first in (0..rows).step_by(R) {
                // Rows past the end repeat the last; their sums are not stored.
                let offsets: [usize; R] = std::array::from_fn(|r| taps[(first + r).min(rows - 1) * g.kw]);
                // SAFETY: the level is that of `launch`.
                let mut acc = [unsafe { L::zero() }; R];
                for (place, value) in places.iter().zip(values) {
                    // SAFETY: the image has SLACK behind the last tap of the last cell.
                    unsafe {
                        let (value, from) = (L::splat(*value), image.as_ptr().add(*place as usize));
                        for r in 0..R {
                            acc[r] = acc[r].fma(value, L::load(from.add(offsets[r])));
                        }
                    }
                }
                for (r, acc) in acc.iter().enumerate().take(rows - first) {
                    // SAFETY: the kernel's rows follow each other in `dw`.
                    unsafe { acc.store_first(dw[o * g.taps + (first + r) * g.kw..].as_mut_ptr(), g.kw) };
                }
            }
        }
    }
}
