//! Softmax, and causal attention.

use super::adds;
use crate::grid::{Grid, MOST_OUTER};
use crate::kernels::Attention;
use crate::{Cuda, CudaError, CudaView, CudaViewMut};
use phalanx_tensor::op::{AttentionOps, AttentionSpec};
use phalanx_tensor::{Float as _, Write};

/// The widest head: the greatest `D` in `attention.cu`.
const MOST_DIM: usize = 128;
/// Heads up to a width, and how many positions a warp and how many warps a block then has, in the forward pass and in the
/// backward passes: as `ATTENTION` in `attention.cu`.
const WIDTHS: [(u32, u32, u32, u32); 3] = [(32, 16, 4, 4), (64, 16, 4, 4), (128, 16, 2, 2)];

impl AttentionOps for Cuda {
    fn softmax(&self, d: usize, x: CudaView<'_, f32>, y: CudaViewMut<'_, f32>) {
        assert_eq!(x.len(), y.len(), "softmax");
        let rows = x.len() / d.max(1);
        self.device.softmax(Grid::rows(rows, d), rows as u64, d as u64, x.on(self), y.on(self));
    }

    fn softmax_grad(
        &self,
        d: usize,
        y: CudaView<'_, f32>,
        dy: CudaView<'_, f32>,
        write: Write,
        dx: CudaViewMut<'_, f32>,
    ) {
        assert!(y.len() == dy.len() && dx.len() == y.len(), "softmax_grad");
        let rows = y.len() / d.max(1);
        let [y, dy, dx] = [y.on(self), dy.on(self), dx.on(self)];
        self.device.softmax_grad(Grid::rows(rows, d), rows as u64, d as u64, y, dy, adds(write), dx);
    }

    fn log_softmax(&self, d: usize, x: CudaView<'_, f32>, y: CudaViewMut<'_, f32>) {
        assert_eq!(x.len(), y.len(), "log_softmax");
        let rows = x.len() / d.max(1);
        self.device.log_softmax(Grid::rows(rows, d), rows as u64, d as u64, x.on(self), y.on(self));
    }

    fn log_softmax_grad(
        &self,
        d: usize,
        y: CudaView<'_, f32>,
        dy: CudaView<'_, f32>,
        write: Write,
        dx: CudaViewMut<'_, f32>,
    ) {
        assert!(y.len() == dy.len() && dx.len() == y.len(), "log_softmax_grad");
        let rows = y.len() / d.max(1);
        let [y, dy, dx] = [y.on(self), dy.on(self), dx.on(self)];
        self.device.log_softmax_grad(Grid::rows(rows, d), rows as u64, d as u64, y, dy, adds(write), dx);
    }

    /// Heads are at most 128 wide, and neither heads nor sequences more than 65535: the device keeps
    /// [`CudaError::TooLarge`] otherwise.
    fn attention(
        &self,
        spec: &AttentionSpec,
        qkv: CudaView<'_, f32>,
        y: CudaViewMut<'_, f32>,
        lse: CudaViewMut<'_, f32>,
    ) {
        let cells = spec.batch * spec.time * spec.width();
        assert!(qkv.len() == 3 * cells && y.len() == cells, "attention");
        assert_eq!(lse.len(), spec.batch * spec.heads * spec.time, "attention");
        let Some(extents) = self.attention_extents(spec) else { return };
        let (width, grid, _) = attention_grids(extents);
        let [qkv, y, lse] = [qkv.on(self), y.on(self), lse.on(self)];
        match width {
            32 => self.device.attention_32(grid, extents, qkv, y, lse),
            64 => self.device.attention_64(grid, extents, qkv, y, lse),
            _ => self.device.attention_128(grid, extents, qkv, y, lse),
        }
    }

    fn attention_grad(
        &self,
        spec: &AttentionSpec,
        qkv: CudaView<'_, f32>,
        y: CudaView<'_, f32>,
        lse: CudaView<'_, f32>,
        dy: CudaView<'_, f32>,
        write: Write,
        dqkv: CudaViewMut<'_, f32>,
    ) {
        let (cells, rows) = (spec.batch * spec.time * spec.width(), spec.batch * spec.heads * spec.time);
        assert!(qkv.len() == 3 * cells && dqkv.len() == qkv.len(), "attention_grad");
        assert!(y.len() == cells && dy.len() == cells && lse.len() == rows, "attention_grad");
        let Some(extents) = self.attention_extents(spec) else { return };
        let Some(along) = self.scratch::<f32>(rows) else { return };
        let (width, _, grid) = attention_grids(extents);
        let [qkv, y, lse, dy, dqkv] = [qkv.on(self), y.on(self), lse.on(self), dy.on(self), dqkv.on(self)];
        let (device, along, add) = (&self.device, along.at(), adds(write));
        // the first writes `along` for the second
        match width {
            32 => {
                device.attention_dq_32(grid, extents, qkv, y, lse, dy, along, add, dqkv);
                device.attention_dkv_32(grid, extents, qkv, lse, dy, along, add, dqkv);
            }
            64 => {
                device.attention_dq_64(grid, extents, qkv, y, lse, dy, along, add, dqkv);
                device.attention_dkv_64(grid, extents, qkv, lse, dy, along, add, dqkv);
            }
            _ => {
                device.attention_dq_128(grid, extents, qkv, y, lse, dy, along, add, dqkv);
                device.attention_dkv_128(grid, extents, qkv, lse, dy, along, add, dqkv);
            }
        }
    }
}

/// The width of the kernels for heads, and the grids of the forward pass and of the backward passes.
fn attention_grids(extents: Attention) -> (u32, Grid, Grid) {
    let held = WIDTHS.iter().find(|(width, ..)| extents.dim <= *width);
    let &(width, own, forward, backward) = held.unwrap_or(&WIDTHS[2]);
    let [forward, backward] = [forward, backward].map(|warps| Grid {
        blocks: (extents.time.div_ceil(own * warps), extents.heads, extents.batch),
        threads: (32 * warps, 1, 1),
        shared: 0,
    });
    (width, forward, backward)
}

impl Cuda {
    fn attention_extents(&self, spec: &AttentionSpec) -> Option<Attention> {
        let limits = [
            ("attention with a head's width", spec.head_dim, MOST_DIM),
            ("attention with heads", spec.heads, MOST_OUTER.into()),
            ("attention with sequences", spec.batch, MOST_OUTER.into()),
        ];
        for (operator, got, most) in limits {
            if got > most {
                self.device.fail(CudaError::TooLarge { ordinal: self.ordinal(), operator, got, most });
                return None;
            }
        }
        let extents = [spec.batch, spec.time, spec.heads, spec.head_dim].map(|n| self.small("attention", n));
        let [Some(batch), Some(time), Some(heads), Some(dim)] = extents else { return None };
        let scale = f32::from_f64(1.0 / (spec.head_dim as f64).sqrt());
        Some(Attention { batch, time, heads, dim, scale })
    }
}
