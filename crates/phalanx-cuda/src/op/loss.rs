//! Cross entropy.

use super::adds;
use crate::grid::Grid;
use crate::{Cuda, CudaView, CudaViewMut};
use phalanx_tensor::Write;
use phalanx_tensor::op::LossOps;

impl LossOps for Cuda {
    fn cross_entropy(
        &self,
        d: usize,
        logits: CudaView<'_, f32>,
        labels: CudaView<'_, u32>,
        loss: CudaViewMut<'_, f32>,
        lse: CudaViewMut<'_, f32>,
        hits: CudaViewMut<'_, u32>,
    ) {
        let rows = labels.len();
        assert!(logits.len() == rows * d && loss.len() == rows && lse.len() == rows, "cross_entropy");
        assert_eq!(hits.len(), 1, "one number of hits");
        self.device.zero(hits.on(self), size_of::<u32>());
        let [x, labels] = [logits.on(self), labels.on(self)];
        let [loss, lse] = [loss.on(self), lse.on(self)];
        self.device.cross_entropy(
            Grid::rows(rows, d),
            rows as u64,
            d as u64,
            x,
            labels,
            loss,
            lse,
            hits.on(self),
        );
    }

    fn cross_entropy_grad(
        &self,
        d: usize,
        logits: CudaView<'_, f32>,
        labels: CudaView<'_, u32>,
        lse: CudaView<'_, f32>,
        dloss: CudaView<'_, f32>,
        write: Write,
        dx: CudaViewMut<'_, f32>,
    ) {
        let rows = labels.len();
        assert!(logits.len() == rows * d && dx.len() == logits.len(), "cross_entropy_grad");
        assert!(lse.len() == rows && dloss.len() == rows, "cross_entropy_grad");
        let (grid, rows, d) = (Grid::rows(rows, d), rows as u64, d as u64);
        let [x, lse, dloss] = [logits.on(self), lse.on(self), dloss.on(self)];
        let (labels, add) = (labels.on(self), adds(write));
        self.device.cross_entropy_grad(grid, rows, d, x, labels, lse, dloss, add, dx.on(self));
    }
}
