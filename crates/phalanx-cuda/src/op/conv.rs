//! Convolutions: patches of a batch as columns of one matrix, and a product by cuBLAS.
//!
//! With images in the columns, the whole batch is one product. The gradient of the weights, a small matrix with all columns
//! summed up, is cut into many along these, which are added up in their order. Work space is bounded: the images go through
//! in parts where they need more.

use super::{SPACE, adds, u32_of};
use crate::grid::Grid;
use crate::kernels::{Conv, Ptr};
use crate::{Cuda, CudaBuf, CudaError, CudaView, CudaViewMut};
use phalanx_tensor::Write;
use phalanx_tensor::op::{Activation, ConvOps, ConvSpec, ElementwiseOps as _, Mat, MatmulSpec};
use std::ops::Range;

impl ConvOps for Cuda {
    fn conv2d(
        &self,
        spec: &ConvSpec,
        x: CudaView<'_, f32>,
        w: CudaView<'_, f32>,
        bias: Option<CudaView<'_, f32>>,
        act: Activation,
        y: CudaViewMut<'_, f32>,
        argmax: Option<CudaViewMut<'_, u32>>,
    ) {
        assert!(x.len() == spec.input_len() && w.len() == spec.weight_len(), "conv2d operands");
        let outs: usize = act.out_hw(spec.out_hw()).iter().product();
        assert_eq!(y.len(), spec.n * spec.o * outs, "conv2d output");
        assert!(bias.is_none_or(|b| b.len() == spec.o), "conv2d bias");
        assert!(argmax.as_ref().is_none_or(|a| a.len() == y.len()), "conv2d places of maxima");
        if y.len() == 0 || (act == Activation::ReluPool2 && argmax.is_none()) {
            return;
        }
        let (bias, argmax) = (bias.map_or(0, |b| b.on(self)), argmax.map_or(0, |a| a.on(self)));
        for part in Part::all(self, spec) {
            let Some(columns) = self.scratch::<f32>(part.taps * part.width) else { return };
            let Some(sums) = self.scratch::<f32>(part.og * part.width) else { return };
            self.device.im2col(part.grid(), part.extents, part.input(x.on(self)), columns.at());
            let product = MatmulSpec {
                batch: 1,
                m: part.og,
                n: part.width,
                k: part.taps,
                a: Mat::dense(part.og, part.taps),
                b: Mat::dense(part.taps, part.width),
                c: Mat::dense(part.og, part.width),
            };
            self.product(&product, part.weight(w.on(self)), columns.at(), Write::Set, sums.at());
            let to = |at: Ptr| if at == 0 { 0 } else { at + 4 * (part.images.start * spec.o * outs) as u64 };
            let at_once = if act == Activation::ReluPool2 { 1 } else { 4 };
            let grid = Grid::planes((part.images.len() * outs).div_ceil(at_once), part.og);
            self.device.conv_finish(
                grid,
                part.extents,
                code(act),
                sums.at(),
                bias,
                to(y.on(self)),
                to(argmax),
            );
        }
    }

    fn conv2d_grad(
        &self,
        spec: &ConvSpec,
        act: Activation,
        x: CudaView<'_, f32>,
        w: CudaView<'_, f32>,
        y: CudaView<'_, f32>,
        argmax: Option<CudaView<'_, u32>>,
        dy: CudaView<'_, f32>,
        dw: Option<(Write, CudaViewMut<'_, f32>)>,
        db: Option<(Write, CudaViewMut<'_, f32>)>,
        dx: Option<(Write, CudaViewMut<'_, f32>)>,
    ) {
        assert!(x.len() == spec.input_len() && w.len() == spec.weight_len(), "conv2d_grad operands");
        let is_as_long = |to: &Option<(Write, CudaViewMut<'_, f32>)>, len| {
            to.as_ref().is_none_or(|(_, to)| to.len() == len)
        };
        assert!(is_as_long(&dw, spec.weight_len()) && is_as_long(&db, spec.o), "conv2d_grad of parameters");
        assert!(is_as_long(&dx, spec.input_len()), "conv2d_grad of the input");
        if spec.n == 0 {
            for (write, out) in [dw, db].into_iter().flatten() {
                if write == Write::Set {
                    self.fill(0.0, out);
                }
            }
            return;
        }
        let cause = Cause::new(spec, act, y, argmax, dy);
        for part in Part::all(self, spec) {
            let Some((dsums, totals)) = self.spread(&part, &cause, db.is_some()) else { return };
            // the first images set what all others add to
            let of_part = |write: Write| if part.images.start == 0 { write } else { Write::Add };
            if let (Some((write, db)), Some(totals)) = (&db, totals) {
                let rows = [part.og, totals.len() / part.og.max(1)];
                self.add_up_rows(rows, totals.at(), of_part(*write), part.bias(db.on(self)));
            }
            if dw.is_none() && dx.is_none() {
                continue;
            }
            let Some(columns) = self.scratch::<f32>(part.taps * part.width) else { return };
            if let Some((write, dw)) = &dw {
                self.device.im2col(part.grid(), part.extents, part.input(x.on(self)), columns.at());
                let to = part.weight(dw.on(self));
                self.weight_grad(&part, dsums.at(), columns.at(), of_part(*write), to);
            }
            if let Some((write, dx)) = &dx {
                let product = MatmulSpec {
                    batch: 1,
                    m: part.taps,
                    n: part.width,
                    k: part.og,
                    a: Mat::dense(part.og, part.taps).t(),
                    b: Mat::dense(part.og, part.width),
                    c: Mat::dense(part.taps, part.width),
                };
                self.product(&product, part.weight(w.on(self)), dsums.at(), Write::Set, columns.at());
                let [h, w] = spec.hw;
                let grid = Grid::planes(part.images.len() * h * w, spec.c / spec.groups);
                let to = part.input(dx.on(self));
                self.device.col2im(grid, part.extents, columns.at(), adds(*write), to);
            }
        }
    }
}

/// The order of the activations in `conv.cu`.
fn code(act: Activation) -> u32 {
    match act {
        Activation::None => 0,
        Activation::Relu => 1,
        Activation::ReluPool2 => 2,
    }
}

/// Some images and one group of a convolution.
pub(super) struct Part {
    spec: ConvSpec,
    pub(super) extents: Conv,
    pub(super) group: usize,
    pub(super) images: Range<usize>,
    pub(super) og: usize,
    pub(super) taps: usize,
    /// Output cells of an image before pooling, and of all images of this part.
    pub(super) cells: usize,
    pub(super) width: usize,
}

impl Part {
    /// Cuts the images so that their work space is bounded and 32 bits count all that is theirs; none, and a failure kept,
    /// where one image has more.
    pub(super) fn all(cuda: &Cuda, spec: &ConvSpec) -> Vec<Part> {
        let [oh, ow] = spec.out_hw();
        let (cg, og) = (spec.c / spec.groups, spec.o / spec.groups);
        let (cells, taps) = (oh * ow, cg * spec.kernel[0] * spec.kernel[1]);
        let an_image = (4 * cells * (taps + og)).max(1);
        let cells_of_all = (spec.c * spec.hw[0] * spec.hw[1]).max(spec.o * cells).max(cells * taps);
        let countable = u32::MAX as usize / cells_of_all.max(1);
        let at_once = (SPACE / an_image).min(countable).clamp(1, spec.n.max(1));
        let pair = |[a, b]: [usize; 2]| Some([u32_of(a)?, u32_of(b)?]);
        let of = |group: usize, images: Range<usize>| {
            let extents = Conv {
                c: u32_of(spec.c)?,
                o: u32_of(spec.o)?,
                c_group: u32_of(cg)?,
                o_group: u32_of(og)?,
                c_first: u32_of(group * cg)?,
                o_first: u32_of(group * og)?,
                hw: pair(spec.hw)?,
                out_hw: pair([oh, ow])?,
                kernel: pair(spec.kernel)?,
                stride: pair(spec.stride)?,
                padding: pair(spec.padding)?,
                images: u32_of(images.len())?,
            };
            let width = images.len() * cells;
            Some(Part { spec: *spec, extents, group, images, og, taps, cells, width })
        };
        let cuts = (0..spec.n).step_by(at_once).map(|n| n..spec.n.min(n + at_once));
        let parts: Option<Vec<Part>> = cuts
            .flat_map(|images| (0..spec.groups).map(move |g| (g, images.clone())))
            .map(|(g, i)| of(g, i))
            .collect();
        if parts.is_none() || countable == 0 {
            let (ordinal, most) = (cuda.ordinal(), u32::MAX as usize);
            let operator = "a convolution with an image";
            cuda.device.fail(CudaError::TooLarge { ordinal, operator, got: cells_of_all, most });
            return Vec::new();
        }
        parts.unwrap_or_default()
    }

    /// Threads that take its columns, for each channel.
    pub(super) fn grid(&self) -> Grid {
        Grid::planes(self.width, self.spec.c / self.spec.groups)
    }

    /// Its images of an input.
    pub(super) fn input(&self, x: Ptr) -> Ptr {
        x + 4 * (self.images.start * self.spec.c * self.spec.hw[0] * self.spec.hw[1]) as u64
    }

    /// Its group of a weight.
    pub(super) fn weight(&self, w: Ptr) -> Ptr {
        w + 4 * (self.group * self.og * self.taps) as u64
    }

    /// Its group of a bias.
    pub(super) fn bias(&self, b: Ptr) -> Ptr {
        b + 4 * (self.group * self.og) as u64
    }
}

/// Tiles of products that keep a device busy, the side of one, and columns that make a product worth while.
const ENOUGH_TILES: usize = 400;
const TILE: usize = 64;
const LEAST_COLUMNS: usize = 1 << 10;

/// Into how many products of neighbouring columns, a multiple of 4 of them each, a product `m x n` that sums over `k` columns is
/// cut: many where `m x n` is small and `k` is long. A function of the extents alone, and so are the last bits. Where nothing
/// divides the columns there is one: a short rest would cost as much as all others.
fn products(m: usize, n: usize, k: usize) -> usize {
    let tiles = (m.div_ceil(TILE) * n.div_ceil(TILE)).max(1);
    let most = (ENOUGH_TILES / tiles).min(k / LEAST_COLUMNS);
    (most / 2 + 1..=most).rev().find(|count| k.is_multiple_of(4 * count)).unwrap_or(1)
}

/// Where the gradient of the sums comes from.
pub(super) struct Cause<'a> {
    act: Activation,
    y: CudaView<'a, f32>,
    argmax: Option<CudaView<'a, u32>>,
    dy: CudaView<'a, f32>,
    /// Outputs of an image, all channels.
    outs: usize,
}

impl<'a> Cause<'a> {
    pub(super) fn new(
        spec: &ConvSpec,
        act: Activation,
        y: CudaView<'a, f32>,
        argmax: Option<CudaView<'a, u32>>,
        dy: CudaView<'a, f32>,
    ) -> Self {
        let outs = spec.o * act.out_hw(spec.out_hw()).iter().product::<usize>();
        assert_eq!(dy.len(), spec.n * outs, "the gradient of a convolution");
        assert!(act == Activation::None || y.len() == dy.len(), "the output of a convolution");
        let places = argmax.map_or(0, |places| places.len());
        assert!(act != Activation::ReluPool2 || places == dy.len(), "the places of a convolution's maxima");
        Cause { act, y, argmax, dy, outs }
    }
}

impl Cuda {
    /// The gradient of the sums of a part, `og x width`, and, if asked for, `og` rows that add up to that of the bias; none
    /// where there is too little memory.
    pub(super) fn spread(
        &self,
        part: &Part,
        cause: &Cause<'_>,
        with_totals: bool,
    ) -> Option<(CudaBuf<f32>, Option<CudaBuf<f32>>)> {
        let dsums = self.scratch::<f32>(part.og * part.width)?;
        let first = 4 * (part.images.start * cause.outs) as u64;
        let (y, dy) = (cause.y.on(self) + first, cause.dy.on(self) + first);
        let argmax = cause.argmax.map_or(0, |a| a.on(self) + first);
        let grid = Grid::planes(part.width.div_ceil(4), part.og);
        let totals = match with_totals {
            true => Some(self.scratch::<f32>(part.og * grid.blocks.0 as usize)?),
            false => None,
        };
        let to = totals.as_ref().map_or(0, CudaBuf::at);
        self.device.conv_spread(grid, part.extents, code(cause.act), dy, y, argmax, dsums.at(), to);
        Some((dsums, totals))
    }

    /// The gradient of a part's weight from that of its sums, `og x width`, and its columns, `taps x width`.
    fn weight_grad(&self, part: &Part, dsums: Ptr, columns: Ptr, write: Write, to: Ptr) {
        let (m, n, width) = (part.og, part.taps, part.width);
        let count = products(m, n, width);
        let columns_of_one = width / count;
        let beside = |rows| Mat { batch: columns_of_one, ..Mat::dense(rows, width) };
        let (batch, k) = (count, columns_of_one);
        let all = MatmulSpec { batch, m, n, k, a: beside(m), b: beside(n).t(), c: Mat::dense(m, n) };
        if count == 1 {
            return self.product(&all, dsums, columns, write, to);
        }
        let Some(sums) = self.scratch::<f32>(count * m * n) else { return };
        self.product(&all, dsums, columns, Write::Set, sums.at());
        let (grid, inner) = (Grid::columns(m * n, 1), (m * n) as u64);
        self.device.sum_columns(grid, sums.at(), 1, count as u64, inner, 1, adds(write), to);
    }

    /// The gradient of the weight of each image of a part, `images x og x taps`, from that of the sums.
    pub(super) fn image_weight_grads(&self, part: &Part, x: Ptr, dsums: Ptr) -> Option<CudaBuf<f32>> {
        let columns = self.scratch::<f32>(part.taps * part.width)?;
        let grads = self.scratch::<f32>(part.images.len() * part.og * part.taps)?;
        self.device.im2col(part.grid(), part.extents, part.input(x), columns.at());
        // the images lie side by side in both operands
        let beside = |rows| Mat { batch: part.cells, ..Mat::dense(rows, part.width) };
        let product = MatmulSpec {
            batch: part.images.len(),
            m: part.og,
            n: part.taps,
            k: part.cells,
            a: beside(part.og),
            b: beside(part.taps).t(),
            c: Mat::dense(part.og, part.taps),
        };
        self.product(&product, dsums, columns.at(), Write::Set, grads.at());
        Some(grads)
    }
}

#[cfg(test)]
mod tests {
    use super::products;

    #[test]
    fn long_sums_of_small_matrices_are_cut() {
        // of 330 images of 24 x 24, then of 1024 of 28 x 28
        assert_eq!(products(64, 288, 330 * 576), 80);
        assert_eq!(products(6, 25, 1024 * 784), 392);
        // short, large, and of a length that nothing divides
        assert_eq!([products(6, 25, 2044), products(6, 25, 2048)], [1, 2]);
        assert_eq!(products(1024, 1024, 1 << 20), 1);
        assert_eq!(products(6, 25, 4097), 1);
        assert_eq!(products(0, 0, 0), 1);
    }
}
